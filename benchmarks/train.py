"""Seconds of an epoch in step, asynchronously, and by DDP under torchrun, with their losses.

python benchmarks/train.py --slow 0.25

A small network in small steps shows what a step takes beside the mathematics: that is compared with
DDP. A slowed worker is stopped and continued ten times a second, so steps must be longer than that
for it to be slow and not absent: a wider network in large batches, also without a slowed worker.
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
TINY = {
    "rows": 2000, "columns": 20, "hidden": 16, "epochs": 3, "batch": 100, "wide_hidden": 16,
    "wide_epochs": 3, "wide_batch": 500, "repeats": 1,
}  # fmt: skip
CLASSES = 10
WIDE, SLOWED = "; wide", "; wide, one slowed"
IN_STEP, ASYNC = "leptonhpc, in step", "leptonhpc, asynchronous"
TORCHRUN = {"torchrun, DDP": "samples", "torchrun, DDP, whole batches": "batches"}
"""How the peer takes its samples from memory: one by one, as tutorials do, or a batch at once."""
WAYS: dict[str, dict[str, Any]] = {
    IN_STEP: {"strategy": "data"},
    "leptonhpc, in step, fp16": {"strategy": "data", "compression": "fp16"},
    ASYNC: {"strategy": "async"},
}
RATIOS = {
    "of_torchrun": "of torchrun", "of_whole_batches": "of batches", "of_ideal": "of ideal",
    "of_in_step": "of in step",
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> list[Row]:
    """Train in each way, and print seconds of an epoch beside the loss of the last."""
    arguments = options.parse(_parser(), argv, TINY)
    folder = _samples(arguments)
    kept = _Kept(arguments)
    for _ in range(arguments.repeats if "torchrun" in arguments.peers else 0):
        for name, loading in TORCHRUN.items():
            kept.add(_torchrun(folder, arguments, name, loading))
    kept.add(_fit(folder, arguments, "leptonhpc, one process", {}))
    torch.set_num_threads(1)
    with lh.cluster.local(workers=arguments.workers, memory="2 GB") as client:
        _fit(folder, arguments, "", WAYS[IN_STEP])  # imports
        for _ in range(arguments.repeats):
            for name, way in WAYS.items():
                kept.add(_fit(folder, arguments, name, way))
        if arguments.slow < 1:
            wide = argparse.Namespace(**{
                **vars(arguments), "hidden": arguments.wide_hidden,
                "epochs": arguments.wide_epochs, "batch": arguments.wide_batch,
            })  # fmt: skip
            for name in (IN_STEP, ASYNC):
                kept.add(_fit(folder, wide, f"{name}{WIDE}", WAYS[name]))
            with _one_slowed(client, arguments.slow):
                for name in (IN_STEP, ASYNC):
                    kept.add(_fit(folder, wide, f"{name}{SLOWED}", WAYS[name]))
    kept.show()
    return kept.rows


class _Kept:
    """Rows so far: each is written and shown when it is there."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.rows: list[Row] = []
        self._arguments = arguments
        sizes = ("rows", "columns", "workers", "slow")
        self._shared = {
            **rows.describe_run(), "subject": "train",
            "sizes": {name: getattr(arguments, name) for name in sizes},
        }  # fmt: skip

    def add(self, row: Row) -> None:
        row = {**self._shared, **row, **self._ratios(row)}
        self.rows.append(row)
        rows.append_rows(self._arguments.out, [row])  # a run that is stopped keeps what it has
        print(f"train: {row['contestant']}: {row['seconds']:.3g} s an epoch", flush=True)

    def _ratios(self, row: Row) -> Row:
        """Compare with the best before it of torchrun, in step, and the ideal with a slowed one.

        Ideal are the seconds in step without a slowed worker times workers over what is left of
        them: n / (n - 1 + part).
        """
        name, seconds = row["contestant"], row["seconds"]
        against: dict[str, float | None] = {}
        if name.endswith(SLOWED):
            workers, plain = self._arguments.workers, self._best(f"{IN_STEP}{WIDE}")
            left = workers / (workers - 1 + self._arguments.slow)
            against["of_ideal"] = None if plain is None else plain * left
            against["of_in_step"] = self._best(f"{IN_STEP}{SLOWED}")
        elif name.endswith(WIDE):
            against["of_in_step"] = self._best(f"{IN_STEP}{WIDE}")
        else:
            against["of_torchrun"], against["of_whole_batches"] = map(self._best, TORCHRUN)
        return {key: seconds / other for key, other in against.items() if other is not None}

    def _best(self, name: str) -> float | None:
        return min((r["seconds"] for r in self.rows if r["contestant"] == name), default=None)

    def show(self) -> None:
        """Print the best of each."""
        best = {r["contestant"]: r for r in sorted(self.rows, key=lambda r: -r["seconds"])}
        names = dict.fromkeys(r["contestant"] for r in self.rows)
        lines = [
            (
                name, f"{best[name]['seconds']:.3f}", f"{best[name]['loss']:.5f}",
                best[name]["shares"],
                *(f"{best[name][key]:.2f}" if key in best[name] else "" for key in RATIOS),
            )
            for name in names
        ]  # fmt: skip
        titles = "what", "s an epoch", "last loss", "shares", *RATIOS.values()
        print_table("training", titles, lines)


def _parser() -> argparse.ArgumentParser:
    made = options.parser("train", (__doc__ or "").partition("\n")[0], PEERS)
    made.add_argument("--rows", type=int, default=60_000)
    made.add_argument("--columns", type=int, default=784)
    made.add_argument("--hidden", type=int, default=128)
    made.add_argument("--epochs", type=int, default=6)
    made.add_argument("--batch", type=int, default=256)
    made.add_argument("--workers", type=int, default=2)
    made.add_argument("--slow", type=float, default=1.0, help="part of its speed that one keeps")
    made.add_argument("--wide-hidden", type=int, default=768, help="with a slowed worker")
    made.add_argument("--wide-epochs", type=int, default=8, help="with a slowed worker")
    made.add_argument("--wide-batch", type=int, default=12_000, help="with a slowed worker")
    made.set_defaults(repeats=2)
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
    """Slow the worker that is rank 0; the parameter server is on the last one."""
    pids = client.run(os.getpid)
    with slowed(pids[min(pids)], to=part):
        yield


def _torchrun(folder: Path, arguments: argparse.Namespace, name: str, loading: str) -> Row:
    peer = Path(__file__).with_name("train_peer.py")
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone",
        f"--nproc-per-node={arguments.workers}", str(peer), str(folder), loading,
        str(arguments.hidden), str(arguments.epochs), str(arguments.batch),
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment,
        timeout=arguments.limit_seconds,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"torchrun ended with {done.returncode}: {done.stderr[-2000:]}")
    row: Row = json.loads(done.stdout.splitlines()[-1])
    return {"contestant": name, "status": "ok", "shares": "equal", **row}


if __name__ == "__main__":
    main()
