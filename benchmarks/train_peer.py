"""What torchrun runs: DistributedDataParallel, all samples in memory."""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import torch
import torch.distributed as dist
import zarr
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import BatchSampler, DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler


def main(folder: str, loading: str, hidden: int, epochs: int, batch: int) -> None:
    """Train; rank 0 prints seconds of an epoch and the mean loss of the last.

    `loading` is "samples", one by one as the tutorial has it, or "batches", each at once.
    """
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    x, y = (torch.from_numpy(np.asarray(zarr.open_array(f"{folder}/{n}")[...])) for n in "xy")
    torch.manual_seed(0)
    model = DistributedDataParallel(
        torch.nn.Sequential(
            torch.nn.Linear(x.shape[1], hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, 10)
        )
    )
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    sampler = DistributedSampler(TensorDataset(x, y), seed=0)
    part = batch // dist.get_world_size()
    loader = (
        DataLoader(TensorDataset(x, y), part, sampler=sampler)
        if loading == "samples"
        else DataLoader(
            TensorDataset(x, y), None, sampler=BatchSampler(sampler, part, drop_last=False)
        )
    )
    ends, total = [], torch.zeros(2)
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        total = torch.zeros(2)
        for samples, labels in loader:
            optimiser.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(samples), labels)
            loss.backward()
            optimiser.step()
            total += torch.tensor([loss.item() * len(labels), len(labels)])
        ends.append(time.perf_counter())
    dist.all_reduce(total)
    if dist.get_rank() == 0:
        seconds = (ends[-1] - ends[0]) / max(1, len(ends) - 1)
        print(json.dumps({"seconds": seconds, "loss": float(total[0] / total[1])}))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
