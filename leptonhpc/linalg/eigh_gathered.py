"""All eigenpairs of a Hermitian matrix, or some, where one worker holds it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from leptonhpc.blocks import BlockedArray, Source
from leptonhpc.blocks.drawing import format_nbytes
from leptonhpc.errors import MemoryBudgetError
from leptonhpc.linalg.certificates import spectrum_certificate
from leptonhpc.linalg.hermitian import SIDES, hermitian_tile, lower_tiles, passes_of
from leptonhpc.linalg.jobs import Execute, Outcome
from leptonhpc.linalg.rechunk import in_squares
from leptonhpc.linalg.sizes import grain
from leptonhpc.planning import Explanation, Resources, Stage, Target, Task, seconds
from leptonhpc.planning.costs import LIBRARIES_NBYTES, eigh_seconds
from leptonhpc.planning.explain import explain
from leptonhpc.planning.layout import compute_dtype
from leptonhpc.planning.tasks import StepList

_UNIT = 1024
"""Rows and columns of a chunk of the eigenvectors."""
LARGEST = 46_000
"""LAPACK counts n^2 numbers of workspace with 32-bit integers."""
_SWEPT = 256
"""Columns that the kernel measures at once."""


@dataclass(frozen=True)
class EighJob:
    """All eigenpairs, or some, of a matrix that one worker holds."""

    before: tuple[Stage, ...]
    stage: Stage
    sources: Mapping[str, Source]
    parameters: Mapping[str, Any]
    resources: Resources
    explanation: Explanation
    small: Mapping[str, Any]
    driver: str = "eigh"

    def run(self, execute: Execute) -> Outcome:
        """Run the stage; see `Job.run`."""
        for stage in self.before:
            execute(stage, {})
        acc = execute(self.stage, self.small)
        n, (low, high) = int(self.small["columns"]), self.small["pairs"]
        w, residuals = acc["eigenvalues"], acc["residuals"]
        norm, top = float(acc["hypot_norm"]), float(acc["max_size"])
        eps = float(np.finfo(self.small["dtype"]).eps)
        # sums of n terms round like random walks (Higham and Mary 2019, Theorem 3.1)
        rounding = 8 * math.sqrt(n) * eps * top + grain(self.small["dtype"], top)
        certificate = spectrum_certificate(
            "gathered", self.stage.passes, norm, residuals, rounding,
            deviation=float(acc["max_deviation"]), spread=float(acc["hypot_deviation"]),
            allowed=2 * rounding, complete=high - low == n,
        )  # fmt: skip
        return Outcome({"eigenvalues": w, "eigenvectors": "eigenvectors"}, certificate)


def plan_gathered(
    x: BlockedArray, resources: Resources, *, k: int | None, which: str, seed: int
) -> EighJob:
    """Plan the eigenpairs of a matrix that one worker holds.

    Parameters
    ----------
    x : BlockedArray of shape (n, n)
        Hermitian.
    resources : Resources
        Memory, workers, cores and rates.
    k : int, optional
        How many pairs; None: all.
    which : {"largest", "smallest"}
        By algebraic value.
    seed : int
        Of vectors that are drawn.

    Returns
    -------
    EighJob
        The plan.

    Raises
    ------
    MemoryBudgetError
        If it does not fit.
    """
    n, dtype = x.shape[0], compute_dtype(x.dtype)
    before: list[Stage] = []
    a = in_squares(x, "a", before, resources)
    for side in SIDES:
        tile = hermitian_tile(a.source, side)
        need = gathered_need(n, tile, dtype)
        if need <= resources.memory_nbytes:
            break
    if need > resources.memory_nbytes or n > LARGEST:
        _refuse(x, n, need, resources)
    count = n if k is None else k
    pairs = (n - count, n) if which == "largest" else (0, count)
    target = Target("eigenvectors", (n, count), dtype.str, (min(n, _UNIT), min(count, _UNIT)))
    stage = gathered_stage(a.source, target, resources, dtype, tile, need)
    explanation = explain(
        "eigh", [f"{x.name} {x.shape} {x.dtype}"], [*before, stage], resources,
        method="gathered: tridiagonal form, divide and conquer",
        why="one worker holds the matrix, its eigenvectors and LAPACK's workspace",
        targets=[s.target for s in (*before, stage) if s.target is not None],
    )  # fmt: skip
    small = {
        "dtype": dtype, "seed": seed, "name": x.name, "driver": "eigh", "columns": n,
        "pairs": pairs,
    }  # fmt: skip
    parameters = {
        "driver": "eigh", "method": "gathered", "k": k, "which": which,
        "layout": [target.unit],
    }  # fmt: skip
    return EighJob(tuple(before), stage, {"a": x.source}, parameters, resources, explanation, small)


def gathered_stage(
    source: Source, target: Target, resources: Resources, dtype: np.dtype[Any], tile: int, need: int
) -> Stage:
    """Plan eigenpairs in one place.

    Parameters
    ----------
    source : Source of shape (n, n)
        Operand "a".
    target : Target of shape (n, k)
        Eigenvectors.
    resources : Resources
        Cores and rates.
    dtype : dtype
        Of computing.
    tile : int
        Rows and columns that are read at once.
    need : int
        Bytes, from `gathered_need`.

    Returns
    -------
    Stage
        One task that loads, one that solves.
    """
    n, k = target.shape
    steps = StepList(tuple(step for row in lower_tiles(n, tile, mirror=True) for step in row))
    read = n * n * source.dtype.itemsize
    factor = 4.0 if dtype.kind == "c" else 1.0
    load = Task("load", "load_whole", steps, 0, None, ((0, n), (0, n)), part_of="solve",
                read_nbytes=read)  # fmt: skip
    solve = Task(
        "solve", "syevd", StepList(), 0, "load", ((0, n), (0, k)), continues=True,
        flops=factor * (9.0 * n**3 + 3.0 * n * n * k), write_nbytes=target.nbytes,
    )  # fmt: skip
    predicted = seconds(
        "gemm", dtype, flops=factor * 3.0 * n * n * k, read_nbytes=read,
        write_nbytes=target.nbytes, resources=resources, cores=resources.threads,
    )  # fmt: skip
    return Stage(
        "solve", (load, solve), 1, 1, resources.threads, target, chained=False,
        passes=passes_of(source, (load,)), peak_nbytes=need,
        seconds=predicted + factor * eigh_seconds(n, resources.rates), prefetch="always",
        dtype=dtype.str,
    )  # fmt: skip


def gathered_need(n: int, tile: int, dtype: np.dtype[Any]) -> int:
    """Bytes: the matrix with blocks being read, or with its eigenvectors and LAPACK's workspace."""
    square = min(n, _UNIT) ** 2
    solving = 3 * n * n + 4 * n * _SWEPT + 64 * n
    return LIBRARIES_NBYTES + dtype.itemsize * max(
        n * n + 8 * tile * tile, solving, 2 * n * n + 8 * square
    )


def _refuse(x: BlockedArray, n: int, need: int, resources: Resources) -> None:
    if n > LARGEST:
        message = (
            f"eigh of {x.name} gathers all of it in one worker, which LAPACK can up to order "
            f"{LARGEST}; found {n}. Ask for some eigenpairs with k="
        )
    else:
        message = (
            f"eigh of {x.name} gathers three matrices of order {n} in one worker: that needs at "
            f"least memory='{-(-need // 10**6)} MB'; found "
            f"{format_nbytes(resources.memory_nbytes)}. Ask for some eigenpairs with k= to stay "
            "within less"
        )
    raise MemoryBudgetError(message)
