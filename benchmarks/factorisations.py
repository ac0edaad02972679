"""Cholesky, LU and QR of a float64 Zarr array, in memory and out of core, by leptonhpc and peers.

python benchmarks/factorisations.py --work cholesky --rows 16384 --memory 8GB --peers dask,scipy
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

PEERS = ("leptonhpc-zarr", "leptonhpc-distributed", "dask", "dask-distributed", "scipy")
TINY = {"rows": 384, "chunk": 128, "memory": 400_000_000, "gemm_size": 256}


def main(argv: Sequence[str] | None = None) -> list[Row]:
    """Run the contest that the command line asks for."""
    arguments = options.parse(_parser(), argv, TINY)
    m, n, work = arguments.rows, arguments.columns or arguments.rows, arguments.work
    if work == "cholesky":
        n = m
        x = data.positive_matrix(arguments.data, n=m, chunk=arguments.chunk)
    else:
        x = data.normal_matrix(arguments.data, rows=m, columns=n, chunk=arguments.chunk)
    contest = Contest(
        subject=f"factorisations-{work}",
        work=work,
        dtype="float64",
        sizes={"rows": m, "columns": n, "chunk": arguments.chunk},
        options={
            "x": str(x), "memory": arguments.memory, "chunk": arguments.chunk,
            "zarr_memory": arguments.zarr_memory,
        },
        input_nbytes=data.stored_nbytes(x),
        judge=lambda answer: float(answer["error"]),
        flops=_flops(work, m, n),
    )  # fmt: skip
    rows = run_contest(contest, arguments)
    print_rows(f"{work} of {m} x {n} float64, chunks {arguments.chunk}^2", rows)
    ours, limit = (best(rows, name) for name in (BASELINE, GEMM[1]))
    seconds = value_of(ours, "seconds")
    reached = None if seconds is None else 1e-9 * _flops(work, m, n) / seconds
    share = ratio(reached, value_of(limit, "gflops"))
    print_ratios("leptonhpc", {"flop/s / those of gemm in memory": share})
    return rows


def _flops(work: str, m: int, n: int) -> float:
    """Count what LAPACK would do; QR with its Q."""
    k = float(min(m, n))
    if work == "cholesky":
        return k**3 / 3
    if work == "lu":
        return k**2 * (max(m, n) - k / 3)
    return 4 * k**2 * (m - k / 3)


def _parser() -> argparse.ArgumentParser:
    made = options.parser("factorisations", __doc__ or "", PEERS)
    made.add_argument("--work", choices=["cholesky", "lu", "qr"], default="cholesky")
    made.add_argument("--rows", type=int, default=16384)
    made.add_argument("--columns", type=int, default=0, help="0: square")
    made.add_argument("--chunk", type=int, default=1024, help="chunks are square")
    made.add_argument("--memory", type=options.nbytes, default="8GB", help="of each worker")
    made.add_argument(
        "--zarr-memory", type=options.nbytes, default="1GB", help="of leptonhpc-zarr"
    )  # fmt: skip
    return made


if __name__ == "__main__":
    main()
