"""Product of two square float64 matrices, Zarr to Zarr, by leptonhpc and its peers.

python benchmarks/matmul.py --size 16384 --chunk 1024 --memory 1GB --peers dask,cubed
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import data
import options
from contest import Contest, run_contest
from limits import GEMM
from rows import Row
from tables import BASELINE, best, print_ratios, print_rows, ratio, value_of

PEERS = ("leptonhpc-distributed", "dask", "dask-distributed", "cubed", "numpy")
TINY = {"size": 384, "chunk": 128, "memory": 400_000_000, "gemm_size": 256}


def main(argv: Sequence[str] | None = None) -> list[Row]:
    """Run the contest that the command line asks for."""
    arguments = options.parse(_parser(), argv, TINY)
    n, memory = arguments.size, arguments.memory
    a, b = (
        data.square_matrix(
            arguments.data, n=n, chunk=arguments.chunk, seed=seed, compression=arguments.compression
        )
        for seed in (1, 2)
    )
    check = data.ProductCheck(a, b)
    c = arguments.data / f"product-{n}-{arguments.chunk}.zarr"

    def judge(_: Mapping[str, Any]) -> float:
        error = check.error(c)
        _remove_output(c)
        return error

    contest = Contest(
        subject="matmul",
        work="matmul",
        dtype="float64",
        sizes={"size": n, "chunk": arguments.chunk, "compression": arguments.compression},
        options={"a": str(a), "b": str(b), "c": str(c), "x": str(a), "memory": memory},
        input_nbytes=data.stored_nbytes(a) + data.stored_nbytes(b),
        judge=judge,
        before=lambda: _remove_output(c),
        flops=2.0 * n**3,
    )
    rows = run_contest(contest, arguments)
    _remove_output(c)
    print_rows(f"{n}^2 float64, chunks {arguments.chunk}^2, {memory / 1e9:g} GB", rows)
    print_ratios("leptonhpc", _against_limits(rows, n, memory))
    return rows


def least_read_nbytes(n: int, memory_nbytes: int) -> float:
    """Give 2 n^3 / sqrt(M) numbers in bytes: what a product must read with room for M numbers [1]_.

    Where the inputs are smaller than that, reading each once is the least.

    References
    ----------
    .. [1] G. Kwasniewski et al., Red-blue pebbling revisited, SC 2019, Theorem 1.
    """
    return max(8 * 2.0 * n**3 / math.sqrt(memory_nbytes / 8), 8 * 2.0 * n**2)


def _against_limits(rows: Sequence[Row], n: int, memory: int) -> dict[str, float | None]:
    ours, gemm = best(rows, BASELINE), best(rows, GEMM[1])
    report = (value_of(ours, "detail") or {}).get("report", {})
    return {
        "flop/s / those of gemm in memory": ratio(
            value_of(ours, "gflops"), value_of(gemm, "gflops")
        ),
        "bytes read / 2 m n k / sqrt(memory)": ratio(
            report.get("read_nbytes"), least_read_nbytes(n, memory)
        ),
    }


def _remove_output(c: Path) -> None:
    for path in c.parent.glob(f"{c.stem}*"):  # an unfinished one has another ending
        data.remove(path)


def _parser() -> argparse.ArgumentParser:
    made = options.parser("matmul", __doc__ or "", PEERS)
    made.add_argument("--size", type=int, default=16384)
    made.add_argument("--chunk", type=int, default=1024, help="chunks are square")
    made.add_argument("--compression", choices=["raw", "zstd"], default="zstd")
    made.add_argument("--memory", type=options.nbytes, default="1GB", help="of each worker")
    return made


if __name__ == "__main__":
    main()
