"""Eigenpairs of a Hermitian matrix: all of them where one worker holds it, else a few by Krylov."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Literal

import numpy as np

from leptonhpc.blocks import BlockedArray, Source
from leptonhpc.blocks.drawing import format_nbytes
from leptonhpc.errors import MemoryBudgetError, OptionError, ShapeError
from leptonhpc.linalg.certificates import spectrum_certificate
from leptonhpc.linalg.eigh_krylov import KrylovEigh, plan_krylov
from leptonhpc.linalg.hermitian import SIDES, hermitian_tile, lower_tiles, passes_of
from leptonhpc.linalg.jobs import Execute, Outcome
from leptonhpc.linalg.rechunk import in_squares
from leptonhpc.planning import (
    Alternative,
    Explanation,
    Resources,
    Stage,
    Target,
    Task,
    seconds,
)
from leptonhpc.planning.costs import LIBRARIES_NBYTES, eigh_seconds
from leptonhpc.planning.explain import explain
from leptonhpc.planning.layout import compute_dtype
from leptonhpc.planning.tasks import StepList

Which = Literal["largest", "smallest"]
EighMethod = Literal["auto", "gathered", "krylov"]

_UNIT = 1024
"""Rows and columns of a chunk of the eigenvectors."""
_LARGEST = 46_000
"""LAPACK counts n^2 numbers of workspace with 32-bit integers."""
_SWEPT = 256
"""Columns that the kernel measures at once."""


@dataclass(frozen=True)
class EighOptions:
    """What is asked for."""

    k: int | None = None
    """How many pairs; None: all."""
    which: Which = "largest"
    tol: float | None = None
    """Iterate until |A v - w v| <= tol |A|_2; only for the Krylov method."""
    method: EighMethod = "auto"
    most_passes: int = 60
    seed: int = 0

    def check(self, n: int, name: str) -> None:
        """Refuse what makes no sense for a matrix of order n."""
        tol: Any = self.tol
        for key in ("k", "most_passes", "seed"):
            value = getattr(self, key)
            if value is not None and (isinstance(value, bool) or not isinstance(value, Integral)):
                raise OptionError(f"{key} is a whole number; found {value!r}")
        if self.k is not None and not 1 <= self.k <= n:
            raise ShapeError(f"k is from 1 to {n} for {name} of order {n}; found {self.k}")
        if self.which not in ("largest", "smallest"):
            raise OptionError(f"which is 'largest' or 'smallest'; found {self.which!r}")
        if self.method not in ("auto", "gathered", "krylov"):
            raise OptionError(f"method is auto, gathered, krylov; found {self.method!r}")
        if self.method == "krylov" and self.k is None:
            raise OptionError("method='krylov' finds a few eigenpairs: give k=")
        if tol is not None and (
            isinstance(tol, bool) or not isinstance(tol, Real) or not 0 < float(tol) < 1
        ):
            raise OptionError(f"tol is a number between 0 and 1; found {tol!r}")
        if self.most_passes < 2 or not 0 <= self.seed < 2**63:
            raise OptionError("most_passes is at least 2, and seed is not negative")


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
        rounding = 8 * math.sqrt(n) * eps * top
        certificate = spectrum_certificate(
            "gathered", self.stage.passes, norm, residuals, rounding,
            deviation=float(acc["max_deviation"]), spread=float(acc["hypot_deviation"]),
            allowed=2 * rounding, complete=high - low == n,
        )  # fmt: skip
        return Outcome({"eigenvalues": w, "eigenvectors": "eigenvectors"}, certificate)


def plan_eigh(
    x: BlockedArray, resources: Resources, *, options: EighOptions
) -> EighJob | KrylovEigh:
    """Plan eigenpairs of a Hermitian matrix.

    Parameters
    ----------
    x : BlockedArray of shape (n, n)
        Hermitian.
    resources : Resources
        Memory, workers, cores and rates.
    options : EighOptions
        How many pairs, which, how accurate.

    Returns
    -------
    EighJob or KrylovEigh
        The plan.

    Raises
    ------
    ShapeError, OptionError, MemoryBudgetError
        If the question makes no sense, or does not fit.
    """
    if x.ndim != 2 or x.shape[0] != x.shape[1] or 0 in x.shape:
        message = f"eigh needs a square matrix; {x.name} has shape {x.shape}"
        raise ShapeError(message + ". For singular values use svd" * (x.ndim == 2))
    options.check(x.shape[0], x.name)
    if options.method == "krylov":
        return _krylov(x, resources, options, ())
    try:
        gathered = _gathered(x, resources, options)
    except MemoryBudgetError as error:
        if options.k is None or options.method == "gathered":
            raise
        return _krylov(x, resources, options, (Alternative("gathered", None, str(error)),))
    if options.k is None or options.method == "gathered":
        return gathered
    try:
        krylov = _krylov(x, resources, options, ())
    except MemoryBudgetError:
        return gathered
    if gathered.explanation.seconds <= krylov.explanation.seconds:
        return gathered
    slower = Alternative("gathered", gathered.explanation.seconds, "predicted to be slower")
    return _krylov(x, resources, options, (slower,))


def _krylov(
    x: BlockedArray, resources: Resources, options: EighOptions, others: tuple[Alternative, ...]
) -> KrylovEigh:
    assert options.k is not None
    return plan_krylov(
        x, resources, k=options.k, which=options.which, tol=options.tol,
        most_passes=options.most_passes, seed=options.seed, alternatives=others,
    )  # fmt: skip


def _gathered(x: BlockedArray, resources: Resources, options: EighOptions) -> EighJob:
    n, dtype = x.shape[0], compute_dtype(x.dtype)
    before: list[Stage] = []
    a = in_squares(x, "a", before, resources)
    for side in SIDES:
        tile = hermitian_tile(a.source, side)
        need = _need(n, tile, dtype)
        if need <= resources.memory_nbytes:
            break
    if need > resources.memory_nbytes or n > _LARGEST:
        _refuse(x, n, need, resources)
    k = n if options.k is None else options.k
    pairs = (n - k, n) if options.which == "largest" else (0, k)
    target = Target("eigenvectors", (n, k), dtype.str, (min(n, _UNIT), min(k, _UNIT)))
    stage = _stage(a.source, target, resources, dtype, tile, need)
    explanation = explain(
        "eigh", [f"{x.name} {x.shape} {x.dtype}"], [*before, stage], resources,
        method="gathered: tridiagonal form, divide and conquer",
        why="one worker holds the matrix, its eigenvectors and LAPACK's workspace",
        targets=[s.target for s in (*before, stage) if s.target is not None],
    )  # fmt: skip
    small = {
        "dtype": dtype, "seed": options.seed, "name": x.name, "driver": "eigh", "columns": n,
        "pairs": pairs,
    }  # fmt: skip
    parameters = {
        "driver": "eigh", "method": "gathered", "k": options.k, "which": options.which,
        "layout": [target.unit],
    }  # fmt: skip
    return EighJob(tuple(before), stage, {"a": x.source}, parameters, resources, explanation, small)


def _stage(
    source: Source, target: Target, resources: Resources, dtype: np.dtype[Any], tile: int, need: int
) -> Stage:
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
    )  # fmt: skip


def _need(n: int, tile: int, dtype: np.dtype[Any]) -> int:
    """Bytes: the matrix with blocks being read, or with its eigenvectors and LAPACK's workspace."""
    square = min(n, _UNIT) ** 2
    solving = 3 * n * n + 4 * n * _SWEPT + 64 * n
    return LIBRARIES_NBYTES + dtype.itemsize * max(
        n * n + 8 * tile * tile, solving, 2 * n * n + 8 * square
    )


def _refuse(x: BlockedArray, n: int, need: int, resources: Resources) -> None:
    if n > _LARGEST:
        message = (
            f"eigh of {x.name} gathers all of it in one worker, which LAPACK can up to order "
            f"{_LARGEST}; found {n}. Ask for some eigenpairs with k="
        )
    else:
        message = (
            f"eigh of {x.name} gathers three matrices of order {n} in one worker: that needs at "
            f"least memory='{-(-need // 10**6)} MB'; found "
            f"{format_nbytes(resources.memory_nbytes)}. Ask for some eigenpairs with k= to stay "
            "within less"
        )
    raise MemoryBudgetError(message)
