"""Eigenpairs of a Hermitian matrix: all of them where one worker holds it, else a few by Krylov."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Literal

from leptonhpc.blocks import BlockedArray
from leptonhpc.errors import MemoryBudgetError, OptionError, ShapeError
from leptonhpc.linalg.eigh_divide import DivideEigh, plan_divide
from leptonhpc.linalg.eigh_gathered import EighJob, plan_gathered
from leptonhpc.linalg.eigh_krylov import KrylovEigh, plan_krylov
from leptonhpc.planning import (
    Alternative,
    Resources,
)

Which = Literal["largest", "smallest"]
EighMethod = Literal["auto", "gathered", "divide", "krylov"]


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
        if self.method not in ("auto", "gathered", "divide", "krylov"):
            raise OptionError(f"method is auto, gathered, divide, krylov; found {self.method!r}")
        if self.method == "krylov" and self.k is None:
            raise OptionError("method='krylov' finds a few eigenpairs: give k=")
        if tol is not None and (
            isinstance(tol, bool) or not isinstance(tol, Real) or not 0 < float(tol) < 1
        ):
            raise OptionError(f"tol is a number between 0 and 1; found {tol!r}")
        if self.most_passes < 2 or not 0 <= self.seed < 2**63:
            raise OptionError("most_passes is at least 2, and seed is not negative")


def plan_eigh(
    x: BlockedArray, resources: Resources, *, options: EighOptions
) -> EighJob | DivideEigh | KrylovEigh:
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
    EighJob, DivideEigh or KrylovEigh
        The plan.

    Raises
    ------
    ShapeError, OptionError, MemoryBudgetError
        If the question makes no sense, or does not fit.
    """
    if x.ndim != 2 or x.shape[0] != x.shape[1] or 0 in x.shape:
        what = "square matrix" + " that is not empty" * (0 in x.shape)
        message = f"eigh needs a {what}; {x.name} has shape {x.shape}"
        raise ShapeError(message + ". For singular values use svd" * (x.ndim == 2))
    options.check(x.shape[0], x.name)
    if options.method == "krylov":
        return _krylov(x, resources, options, ())
    if options.method == "divide":
        return plan_divide(x, resources, k=options.k, which=options.which, seed=options.seed)
    try:
        gathered = plan_gathered(x, resources, k=options.k, which=options.which, seed=options.seed)
    except MemoryBudgetError as error:
        if options.method == "gathered":
            raise
        return _beyond_memory(x, resources, options, str(error))
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


def _beyond_memory(
    x: BlockedArray, resources: Resources, options: EighOptions, why: str
) -> DivideEigh | KrylovEigh:
    """Plan a few pairs by Krylov, where their vectors fit; else divide."""
    if options.k is not None:
        try:
            return _krylov(x, resources, options, (Alternative("gathered", None, why),))
        except MemoryBudgetError:
            if options.tol is not None:
                raise
    return plan_divide(x, resources, k=options.k, which=options.which, seed=options.seed)


def _krylov(
    x: BlockedArray, resources: Resources, options: EighOptions, others: tuple[Alternative, ...]
) -> KrylovEigh:
    assert options.k is not None
    return plan_krylov(
        x, resources, k=options.k, which=options.which, tol=options.tol,
        most_passes=options.most_passes, seed=options.seed, alternatives=others,
    )  # fmt: skip
