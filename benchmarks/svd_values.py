"""All singular values of a tall float32 Zarr array, by leptonhpc and by Dask.

python benchmarks/svd_values.py --rows 262144 --columns 2048 --memory 1GB --peers dask
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import data
import options
from contest import Contest, run_contest
from limits import GEMM
from rows import Row
from tables import BASELINE, best, print_ratios, print_rows, ratio, value_of

PEERS = ("leptonhpc-distributed", "dask", "dask-distributed", "numpy")
TINY = {"rows": 4000, "columns": 64, "chunk_rows": 500, "memory": 400_000_000, "gemm_size": 256}


def main(argv: Sequence[str] | None = None) -> list[Row]:
    """Run the contest that the command line asks for."""
    arguments = options.parse(_parser(), argv, TINY)
    x = data.tall_matrix(
        arguments.data, rows=arguments.rows, columns=arguments.columns,
        chunk_rows=arguments.chunk_rows, compression=arguments.compression,
    )  # fmt: skip
    exact = data.exact_singular_values(x)
    contest = Contest(
        subject="svd_values",
        work="values",
        dtype="float32",
        sizes={name: getattr(arguments, name) for name in SIZES},
        options={"x": str(x), "memory": arguments.memory},
        input_nbytes=data.stored_nbytes(x),
        judge=lambda answer: data.worst_relative_error(answer["s"], exact),
    )
    rows = run_contest(contest, arguments)
    shape = f"{arguments.rows} x {arguments.columns}"
    title = f"all singular values of {shape} float32, {arguments.memory / 1e9:g} GB"
    print_rows(title, rows)
    ours, limit = (best(rows, name) for name in (BASELINE, GEMM[1]))
    share = ratio(value_of(ours, "gflops"), value_of(limit, "gflops"))
    print_ratios("leptonhpc", {"flop/s / those of gemm in float64": share})
    return rows


SIZES = ("rows", "columns", "chunk_rows", "compression")


def _parser() -> argparse.ArgumentParser:
    made = options.parser("svd_values", __doc__ or "", PEERS)
    made.add_argument("--rows", type=int, default=262_144)
    made.add_argument("--columns", type=int, default=2048)
    made.add_argument("--chunk-rows", type=int, default=4096, help="chunks have all columns")
    made.add_argument("--compression", choices=["raw", "zstd"], default="zstd")
    made.add_argument("--memory", type=options.nbytes, default="1GB", help="of each worker")
    return made


if __name__ == "__main__":
    main()
