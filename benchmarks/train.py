"""Seconds of an epoch in step, asynchronously, and by DDP under torchrun, with their losses.

python benchmarks/train.py --rows 200000 --columns 784 --hidden 128 --workers 2 --slow 0.25
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import options
import rows
import torch
from rows import Row
from tables import print_table

import leptonhpc as lh
from leptonhpc.store import create_array
from leptonhpc.testing.slowing import slowed

PEERS = ("torchrun",)
TINY = {"rows": 2000, "columns": 20, "hidden": 16, "epochs": 3, "batch": 100}
CLASSES = 10
SLOWED, TORCHRUN = "; one slowed", "torchrun, DDP"
WAYS: dict[str, dict[str, Any]] = {
    "leptonhpc, in step": {"strategy": "data"},
    "leptonhpc, in step, fp16": {"strategy": "data", "compression": "fp16"},
    "leptonhpc, asynchronous": {"strategy": "async"},
}


def main(argv: Sequence[str] | None = None) -> list[Row]:
    """Train in each way, and print seconds of an epoch beside the loss of the last."""
    arguments = options.parse(_parser(), argv, TINY)
    folder = _samples(arguments)
    found: list[Row] = []
    alone = _fit(folder, arguments, "leptonhpc, one process", {})
    found.append(alone)
    torch.set_num_threads(1)
    with lh.cluster.local(workers=arguments.workers, memory="2 GB") as client:
        _fit(folder, arguments, "", WAYS["leptonhpc, in step"])  # imports
        found += [_fit(folder, arguments, name, way) for name, way in WAYS.items()]
        if arguments.slow < 1:
            with _one_slowed(client, arguments.slow):
                for name, way in WAYS.items():
                    found.append(_fit(folder, arguments, f"{name}{SLOWED}", way))
    if "torchrun" in arguments.peers:
        found.append(_torchrun(folder, arguments))
    shared = {**rows.describe_run(), "subject": "train"}
    found = [{**shared, **row} for row in _compared(found, arguments)]
    rows.append_rows(arguments.out, found)
    lines = [
        (
            r["contestant"], f"{r['seconds']:.3f}", f"{r['loss']:.5f}", r["shares"],
            f"{r['of_ideal']:.2f}" if "of_ideal" in r else "",
            f"{r['of_torchrun']:.2f}" if "of_torchrun" in r else "",
        )
        for r in found
    ]  # fmt: skip
    titles = "what", "seconds of an epoch", "last loss", "shares", "of ideal", "of torchrun"
    print_table("training", titles, lines)
    return found


def _compared(found: list[Row], arguments: argparse.Namespace) -> list[Row]:
    """Add what seconds are of the ideal with a slowed worker, and of those of torchrun.

    Ideal are the seconds without a slowed one of the same way, times workers over what is left of
    them: n / (n - 1 + part).
    """
    seconds = {row["contestant"]: row["seconds"] for row in found}
    workers = arguments.workers
    left = workers / (workers - 1 + arguments.slow)
    compared = []
    for row in found:
        more: Row = {}
        plain = seconds.get(row["contestant"].removesuffix(SLOWED))
        if row["contestant"].endswith(SLOWED) and plain:
            more["of_ideal"] = row["seconds"] / (plain * left)
        elif peer := seconds.get(TORCHRUN):
            more["of_torchrun"] = row["seconds"] / peer
        compared.append({**row, **more})
    return compared


def _parser() -> argparse.ArgumentParser:
    made = options.parser("train", __doc__ or "", PEERS)
    made.add_argument("--rows", type=int, default=200_000)
    made.add_argument("--columns", type=int, default=784)
    made.add_argument("--hidden", type=int, default=128)
    made.add_argument("--epochs", type=int, default=5)
    made.add_argument("--batch", type=int, default=256)
    made.add_argument("--workers", type=int, default=2)
    made.add_argument("--slow", type=float, default=1.0, help="part of its speed that one keeps")
    return made


def _samples(arguments: argparse.Namespace) -> Path:
    """Write points, and which of ten linear functions is largest there."""
    folder: Path = arguments.data / f"train-{arguments.rows}-{arguments.columns}"
    if not (folder / "y").exists():
        rng = np.random.default_rng(0)
        x = rng.standard_normal((arguments.rows, arguments.columns), dtype=np.float32)
        y = (x @ rng.standard_normal((arguments.columns, CLASSES), dtype=np.float32)).argmax(axis=1)
        unit = min(1000, arguments.rows)
        for name, values in (("x", x), ("y", y)):
            chunks = (unit, *values.shape[1:])
            array = create_array(
                folder / name, shape=values.shape, dtype=values.dtype, chunks=chunks, overwrite=True
            )
            for i in range(-(-len(values) // unit)):
                array.write_units((i, 0)[: values.ndim], values[i * unit : (i + 1) * unit])
    return folder


class Make:
    """Makes the network on a worker."""

    def __init__(self, columns: int, hidden: int) -> None:
        self.columns, self.hidden = columns, hidden

    def __call__(self) -> torch.nn.Module:
        from torch import nn

        return nn.Sequential(
            nn.Linear(self.columns, self.hidden), nn.ReLU(), nn.Linear(self.hidden, CLASSES)
        )


def _fit(folder: Path, arguments: argparse.Namespace, name: str, way: dict[str, Any]) -> Row:
    result = lh.train.fit(
        Make(arguments.columns, arguments.hidden), (folder / "x", folder / "y"),
        epochs=arguments.epochs, batch_size=arguments.batch, progress=False, **way,
    )  # fmt: skip
    ends = [entry["seconds"] for entry in result.history]
    return {
        "contestant": name, "status": "ok", "loss": result.history[-1]["loss"],
        "seconds": (ends[-1] - ends[0]) / max(1, len(ends) - 1),
        "shares": " ".join(f"{share:.2f}" for share in result.report.shares),
        "sent_nbytes": result.report.sent_nbytes,
    }  # fmt: skip


@contextlib.contextmanager
def _one_slowed(client: Any, part: float) -> Iterator[None]:
    pids = sorted(client.run(os.getpid).values())
    with slowed(pids[0], to=part):
        yield


def _torchrun(folder: Path, arguments: argparse.Namespace) -> Row:
    peer = Path(__file__).with_name("train_peer.py")
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone",
        f"--nproc-per-node={arguments.workers}", str(peer), str(folder), str(arguments.hidden),
        str(arguments.epochs), str(arguments.batch),
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env=environment,
        timeout=arguments.limit_seconds,
    )  # fmt: skip
    row: Row = json.loads(done.stdout.splitlines()[-1])
    return {"contestant": TORCHRUN, "status": "ok", "shares": "equal", **row}


if __name__ == "__main__":
    main()
