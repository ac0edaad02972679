"""Seconds to plan a job of 100,000 tasks, to place it, and to simulate it on many devices.

The arrays are metadata only; nothing is read.

python benchmarks/plan.py --tasks 100000 --drivers svd,matmul
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import options
import own
import processes
import rows
import zarr
from contest import run_fresh
from rows import Row
from tables import print_table

import leptonhpc as lh
from leptonhpc.placement import POLICIES, Device, Machine, place, simulate, work_of
from leptonhpc.planning import Rates, Stage, Task
from leptonhpc.planning.tasks import StepList

TINY = {"tasks": 500}
COLUMNS = 2048
INNER = 1024
_TRIAL_ROWS = {"svd": 4_000_000, "matmul": 40_000}


def main(argv: Sequence[str] | None = None) -> list[Row]:
    """Plan with each driver that the command line asks for."""
    arguments = options.parse(_parser(), argv, TINY)
    shared = rows.describe_run()
    found = []
    for driver in arguments.drivers:
        row = {**shared, "subject": "plan", **_planned(driver, arguments)}
        rows.append_rows(arguments.out, [row])
        found.append(row)
    for count in arguments.devices:
        row = {**shared, "subject": "plan", **_placed(count, arguments)}
        rows.append_rows(arguments.out, [row])
        found.append(row)
    print_table(
        "planning",
        ("driver", "tasks", "seconds", "peak GB", "status"),
        [
            (
                row["driver"], f"{row.get('tasks', 0):,}", f"{row.get('seconds', 0):.2f}",
                f"{row['peak_nbytes'] / 1e9:.2f}", row["status"],
            )
            for row in found
        ],
    )  # fmt: skip
    return found


def _planned(driver: str, arguments: argparse.Namespace) -> Row:
    with tempfile.TemporaryDirectory(dir=arguments.data) as folder:
        size = _size(driver, arguments.tasks, arguments.memory, Path(folder))
        case = {
            "driver": driver, "memory": arguments.memory, "keywords": _KEYWORDS[driver],
            "arrays": [str(path) for path in _arrays(driver, size, Path(folder) / "whole")],
        }  # fmt: skip
        contestant = own.CONTESTANTS["plan", "leptonhpc"]
        row = run_fresh("plan", "leptonhpc", contestant, case, arguments)
    return {**row, "driver": driver, "sizes": {"rows": size}, "memory_nbytes": arguments.memory}


def _placed(count: int, arguments: argparse.Namespace) -> Row:
    """Place a product on devices of which every other is four times faster; simulate it."""
    slow = Rates()
    fast = replace(slow, gemm_flops=4 * slow.gemm_flops)
    devices = tuple(
        Device(f"d{i}", cores=4, memory_nbytes=64 * 10**9, rates=fast if i % 2 else slow)
        for i in range(count)
    )
    machine = Machine(devices, store_read_bytes=1e12)
    tasks = tuple(
        Task(
            f"gemm-{i}", "gemm", StepList(), 0, at=((0, 4096), (0, 4096)), flops=1e12,
            read_nbytes=10**8, write_nbytes=10**7,
        )
        for i in range(arguments.tasks)
    )  # fmt: skip
    stage = Stage("multiply", tasks, 1, 1, 4, chained=False)
    began = time.perf_counter()
    work = work_of(stage, machine)
    placement = POLICIES["heft"](work)
    placing = time.perf_counter() - began
    began = time.perf_counter()
    simulate(work, placement)
    simulating = time.perf_counter() - began
    began, ran = time.perf_counter(), time.process_time()
    placed = place(stage, machine)
    processor = time.process_time() - ran
    return {
        "driver": f"place on {count:,} devices", "contestant": "leptonhpc", "tasks": len(tasks),
        "seconds": time.perf_counter() - began, "processor_seconds": processor,
        "policy_seconds": placing, "simulation_seconds": simulating,
        "policy": placed.placement.policy, "status": "ok",
        "peak_nbytes": processes.peak_nbytes(processes.own_family()),
    }  # fmt: skip


def _counts(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _size(driver: str, tasks: int, memory: int, folder: Path) -> int:
    """Find how many rows give so many tasks, from a job of a hundredth of them or so."""
    trial = _TRIAL_ROWS[driver]
    arrays = [str(path) for path in _arrays(driver, trial, folder / "trial")]
    stages = lh.plan(driver, *arrays, memory=memory, **_KEYWORDS[driver]).explanation.stages  # type: ignore[arg-type]
    factor = 1.02 * tasks / sum(stage["tasks"] for stage in stages)
    return int(trial * (factor if driver == "svd" else factor**0.5))


def _arrays(driver: str, size: int, folder: Path) -> list[Path]:
    if driver == "svd":
        return [_empty(folder / "x.zarr", (size, COLUMNS), "f4")]
    shapes = {"a": (size, INNER), "b": (INNER, size)}
    return [_empty(folder / f"{name}.zarr", shape, "f8") for name, shape in shapes.items()]


def _empty(path: Path, shape: tuple[int, int], dtype: str) -> Path:
    zarr.create_array(path, shape=shape, chunks=(1024, 1024), dtype=dtype)
    return path


_KEYWORDS: dict[str, dict[str, Any]] = {"svd": {"rank": 20}, "matmul": {}}


def _parser() -> argparse.ArgumentParser:
    made = options.parser("plan", __doc__ or "", peers=())
    made.add_argument("--tasks", type=int, default=100_000)
    made.add_argument("--drivers", type=options.names(tuple(_KEYWORDS)), default=list(_KEYWORDS))
    made.add_argument("--memory", type=options.nbytes, default="1GB", help="of each worker")
    made.add_argument("--devices", type=_counts, default=[64, 10_000], help="to place on")
    return made


if __name__ == "__main__":
    main()
