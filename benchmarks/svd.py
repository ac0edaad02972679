"""Rank-k SVD of a tall float32 Zarr array, out of core or in memory, by leptonhpc and its peers.

python benchmarks/svd.py --rows 1000000 --columns 2048 --memory 1GB --peers dask,sklearn
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import data
import options
from contest import Contest, run_contest
from limits import READ
from rows import Row
from tables import BASELINE, best, print_ratios, print_rows, ratio, value_of

PEERS = ("leptonhpc-distributed", "dask", "dask-distributed", "sklearn", "dask-ml")
TINY = {"rows": 4000, "columns": 64, "rank": 5, "chunk_rows": 500, "memory": 400_000_000,
        "gemm_size": 256}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> list[Row]:
    """Run the contest that the command line asks for."""
    arguments = options.parse(_parser(), argv, TINY)
    x = data.tall_matrix(
        arguments.data, rows=arguments.rows, columns=arguments.columns,
        chunk_rows=arguments.chunk_rows, spectrum=arguments.spectrum,
        compression=arguments.compression,
    )  # fmt: skip
    exact = data.exact_singular_values(x)[: arguments.rank]
    contest = Contest(
        subject="svd",
        work="svd",
        dtype="float32",
        sizes={name: getattr(arguments, name) for name in SIZES},
        options={"x": str(x), "rank": arguments.rank, "memory": arguments.memory},
        input_nbytes=data.stored_nbytes(x),
        judge=lambda answer: data.worst_relative_error(answer["s"], exact),
    )
    rows = run_contest(contest, arguments)
    shape = f"{arguments.rows} x {arguments.columns}"
    print_rows(f"rank-{arguments.rank} SVD of {shape} float32, {arguments.memory / 1e9:g} GB", rows)
    print_ratios("seconds of leptonhpc / (its passes x read time)", _against_reading(rows))
    return rows


SIZES = ("rows", "columns", "rank", "chunk_rows", "spectrum", "compression")


def _parser() -> argparse.ArgumentParser:
    made = options.parser("svd", __doc__ or "", PEERS)
    made.add_argument("--rows", type=int, default=1_000_000)
    made.add_argument("--columns", type=int, default=2048)
    made.add_argument("--rank", type=int, default=20)
    made.add_argument("--chunk-rows", type=int, default=4096, help="chunks have all columns")
    made.add_argument("--spectrum", choices=["geometric", "slow"], default="geometric")
    made.add_argument("--compression", choices=["raw", "zstd"], default="zstd")
    made.add_argument("--memory", type=options.nbytes, default="1GB", help="of each worker")
    return made


def _against_reading(rows: Sequence[Row]) -> dict[str, float | None]:
    ours = best(rows, BASELINE)
    found = {}
    for name in READ:
        seconds = value_of(best(rows, name), "seconds")
        least = None if ours is None or seconds is None else ours["passes"] * seconds
        found[name.partition(", ")[2]] = ratio(value_of(ours, "seconds"), least)
    return found


if __name__ == "__main__":
    main()
