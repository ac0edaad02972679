"""Strong and weak scaling on machines that are not here: simulated, with what is in the way.

Devices are given by a file, or are nodes of 32 cores; the arrays are metadata only.

python benchmarks/scale.py --devices 8,64,1000,10000
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import options
import rows
import zarr
from rows import Row
from tables import print_table

import leptonhpc as lh
from leptonhpc.placement import Device, Machine, read_machine
from leptonhpc.planning import Rates

TINY = {"devices": [2, 8], "order": 65_536, "rows": 200_000}

NODE = Device(
    "node", cores=32, memory_nbytes=128 * 10**9,
    rates=Rates(gemm_flops=40e9, syrk_flops=40e9, skinny_flops=20e9, read_bytes=1e9,
                write_bytes=0.4e9, measured=True),
)  # fmt: skip
"""What a core of the machine of these benchmarks does, 32 times."""
_STRONG = 100.0
STORE = {"store_read_bytes": 200e9, "store_write_bytes": 100e9}


def main(argv: Sequence[str] | None = None) -> list[Row]:
    """Simulate each kind of work on each number of devices."""
    arguments = options.parse(_parser(), argv, TINY)
    shared = {**rows.describe_run(), "subject": "scale"}
    base = read_machine(arguments.machine) if arguments.machine else None
    found: list[Row] = []
    for work in arguments.works:
        for scaling in ("strong", "weak"):
            first: float | None = None
            for count in arguments.devices:
                row = _simulated(work, scaling, count, arguments, base)
                ideal = count / arguments.devices[0] if scaling == "strong" else 1.0
                first = first or row["seconds"]
                row["efficiency"] = first / row["seconds"] / ideal
                found.append({**shared, **row})
                rows.append_rows(arguments.out, found[-1:])
    print_table(
        "simulated scaling",
        ("work", "scaling", "devices", "tasks", "seconds", "efficiency", "store", "scheduler",
         "planned in"),
        [
            (
                row["work"], row["scaling"], f"{row['devices']:,}", f"{row['tasks']:,}",
                f"{row['seconds']:.3g}", f"{row['efficiency']:.0%}", f"{row['store_busy']:.0%}",
                f"{row['scheduler_busy']:.0%}", f"{row['planning_seconds']:.1f} s",
            )
            for row in found
        ],
    )  # fmt: skip
    return found


def _simulated(
    work: str, scaling: str, count: int, arguments: argparse.Namespace, base: Machine | None
) -> Row:
    grown = count / arguments.devices[0] if scaling == "weak" else 1.0
    tall = grown if scaling == "weak" else _STRONG
    machine = _machine(count, base)
    with tempfile.TemporaryDirectory() as folder:
        size = tall if work == "svd" else grown
        arrays, options_of = _inputs(work, size, arguments, Path(folder))
        began = time.perf_counter()
        driver: Any = work
        plan = lh.plan(driver, *arrays, memory=arguments.memory, machine=machine, **options_of)
        placed = plan.placement
        assert placed is not None
        seconds = time.perf_counter() - began
    return {
        "work": work, "scaling": scaling, "devices": count, "status": "ok",
        "tasks": plan.explanation.tasks, "seconds": placed.seconds,
        "store_busy": placed.store_busy, "scheduler_busy": placed.scheduler_busy,
        "planning_seconds": seconds, "contestant": "leptonhpc",
    }  # fmt: skip


def _machine(count: int, base: Machine | None) -> Machine:
    pattern = base.devices if base is not None else (NODE,)
    devices = tuple(
        replace(pattern[i % len(pattern)], name=f"{pattern[i % len(pattern)].name}-{i}")
        for i in range(count)
    )
    return replace(base, devices=devices) if base is not None else Machine(devices, **STORE)


def _inputs(
    work: str, grown: float, arguments: argparse.Namespace, folder: Path
) -> tuple[list[str], dict[str, Any]]:
    """Give inputs whose work grows in proportion: n^3, or the rows of a tall matrix."""
    if work == "svd":
        shape = (int(arguments.rows * grown), 4096)
        return [_empty(folder / "x", shape, (8192, 4096), "f4")], {"rank": 20, "method": "gram"}
    n = int(arguments.order * math.cbrt(grown)) // 2048 * 2048
    a = _empty(folder / "a", (n, n), (2048, 2048), "f8")
    return [a] * (2 if work == "matmul" else 1), {}


def _empty(path: Path, shape: tuple[int, int], chunks: tuple[int, int], dtype: str) -> str:
    zarr.create_array(path, shape=shape, chunks=chunks, dtype=dtype)
    return str(path)


def _counts(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _parser() -> argparse.ArgumentParser:
    made = options.parser("scale", __doc__ or "", peers=())
    made.add_argument(
        "--works", type=options.names(("matmul", "svd", "cholesky")),
        default=["matmul", "svd", "cholesky"],
    )  # fmt: skip
    made.add_argument("--devices", type=_counts, default=[8, 64, 1000, 10_000])
    made.add_argument("--machine", type=Path, default=None, help="TOML file; devices are repeated")
    made.add_argument("--order", type=int, default=262_144, help="of square matrices")
    made.add_argument(
        "--rows",
        type=int,
        default=2_000_000,
        help="of the tall matrix; where it does not grow, a hundred times as many",
    )
    made.add_argument("--memory", type=options.nbytes, default="64GB", help="of each device")
    return made


if __name__ == "__main__":
    main()
