"""A function on every band of a Zarr array, and a sum: `lh.parallel` beside Dask.

python benchmarks/parallel.py --rows 1000000 --columns 1024 --repeats 3 --peers dask,dask-futures
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import data
import numpy as np
import options
import zarr
from contest import Contest, run_contest
from parallel_peers import power
from rows import Row
from tables import print_rows

PEERS = ("leptonhpc-distributed", "dask", "dask-futures")
TINY = {"rows": 4000, "columns": 64, "chunk_rows": 250, "memory": 400_000_000, "gemm_size": 256}


def main(argv: Sequence[str] | None = None) -> list[Row]:
    """Run the contest that the command line asks for."""
    arguments = options.parse(_parser(), argv, TINY)
    sizes = {name: getattr(arguments, name) for name in ("rows", "columns", "chunk_rows")}
    x = data.tall_matrix(arguments.data, **sizes)
    contest = Contest(
        subject="parallel",
        work="power",
        dtype="float32",
        sizes=sizes,
        options={"x": str(x), "chunk_rows": arguments.chunk_rows, "memory": arguments.memory},
        input_nbytes=arguments.rows * arguments.columns * 4,
        judge=lambda answer: worst_error(x, answer),
    )
    rows = run_contest(contest, arguments)
    parts = -(-arguments.rows // arguments.chunk_rows)
    print_rows(
        f"power spectrum of {arguments.rows} x {arguments.columns} float32 in {parts} parts; error "
        "is relative, the worst of all frequencies", rows,
    )  # fmt: skip
    return rows


def worst_error(x: Path, answer: Mapping[str, Any]) -> float:
    """Compare with sums in the order of the rows, band by band."""
    array, total = zarr.open_array(x, mode="r"), 0.0
    for low in range(0, array.shape[0], array.chunks[0]):
        total = total + power(array[low : low + array.chunks[0]])
    return float(np.max(np.abs(np.asarray(answer["s"]) - total) / total))


def _parser() -> argparse.ArgumentParser:
    made = options.parser("parallel", __doc__ or "", PEERS)
    made.add_argument("--rows", type=int, default=1_000_000)
    made.add_argument("--columns", type=int, default=1024)
    made.add_argument("--chunk-rows", type=int, default=8192, help="of chunks, and of parts")
    made.add_argument("--memory", type=options.nbytes, default="1GB", help="of each worker")
    return made


if __name__ == "__main__":
    main()
