"""Systems A X = B by Cholesky or LU factors, refined until the backward error is small."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from leptonhpc.blocks import BlockedArray, Source
from leptonhpc.blocks.drawing import format_nbytes
from leptonhpc.errors import (
    NotPositiveDefiniteError,
    NumericRangeError,
    OptionError,
    ShapeError,
    SingularMatrixError,
)
from leptonhpc.linalg.certificates import SolveCertificate, length
from leptonhpc.linalg.cholesky import require_square
from leptonhpc.linalg.jobs import Counter, Execute, Outcome
from leptonhpc.linalg.solve_choices import Assume, Factored, factored, factored_mixed
from leptonhpc.linalg.substitution import product_stage
from leptonhpc.planning import Explanation, Resources, Stage, Target
from leptonhpc.planning.explain import explain
from leptonhpc.planning.layout import compute_dtype

Precision = Literal["full", "mixed"]

_HELD_NBYTES = 1 << 26
"""Solutions up to this size come back whole, and can be refined."""
_MOST_REFINEMENTS = 10
_NARROW = {"d": "f", "D": "F"}
_PROBES = 4


@dataclass(frozen=True)
class SolveJob:
    """One system, planned."""

    choices: tuple[Factored, ...]
    """The first is tried first; the second if that does not converge."""
    residual: Stage
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    held: bool
    sources: Mapping[str, Source]
    parameters: Mapping[str, Any]
    resources: Resources
    explanation: Explanation
    names: tuple[str, str]
    driver: str = "solve"

    def run(self, execute: Execute) -> Outcome:
        """Factor, solve, refine; once more in full precision where that did not do."""
        counter = Counter()

        def step(stage: Stage, small: Mapping[str, Any]) -> dict[str, Any]:
            return execute(replace(stage, name=counter.next(stage.name)), small)

        for number, choice in enumerate(self.choices):
            for stage in choice.before if number == 0 or choice.mixed else ():
                step(stage, {})
            last = number + 1 == len(self.choices)
            try:
                acc = step(choice.factor, choice.small)
            except (NotPositiveDefiniteError, NumericRangeError):
                if last:
                    raise
                continue  # so it is in single precision, or with grown elements
            # in full precision only grown elements are a reason to factor something else
            narrow = np.dtype(choice.small["dtype"]) != self.dtype
            last = last or (not narrow and growth_of(acc) <= self.shape[0])
            if last:
                self._require_regular(acc)
            elif not np.all(acc["diagonal"]):
                continue
            outcome = _Solution(self, choice, acc, step).solved(last=last)
            if outcome is not None:
                return outcome
        raise AssertionError  # the last choice gives an outcome

    def _require_regular(self, acc: Mapping[str, Any]) -> None:
        zeros = np.flatnonzero(acc["diagonal"] == 0)
        if len(zeros):
            message = (
                f"{self.driver} needs a regular matrix; {self.names[0]} is singular: column "
                f"{int(zeros[0])} depends on those before it. For the smallest solution use lstsq"
            )
            raise SingularMatrixError(message)


@dataclass
class _Solution:
    """The numbers of one choice."""

    job: SolveJob
    choice: Factored
    acc: Mapping[str, Any]
    """Of the factorisation."""
    step: Any

    def solved(self, *, last: bool) -> Outcome | None:
        """Solve and refine; None if that does not converge and there is another choice."""
        job = self.job
        n, k = job.shape[0], 1 if len(job.shape) == 1 else job.shape[1]
        omega = None if job.held else _draw(k, job.dtype)
        found = self.step(self.choice.first, self._small(None, omega))
        norm = float(self.acc["hypot_norm"])
        x, sides = (found[name].astype(job.dtype) for name in ("solution", "sides"))
        mixed = self.choice.mixed
        sides = sides if mixed is None else mixed.unmix(sides)
        condition = norm * float(found["max_probe"])
        eps = float(np.finfo(job.dtype).eps)
        narrow = float(np.finfo(self.choice.small["dtype"]).eps)
        # |A^-1 g| / |g| is at most |A^-1|: what is refused is singular to working precision
        if not np.isfinite(x).all() or not condition / n**0.5 * narrow < 1:
            if not last:  # singular in single precision only, perhaps
                return None
            self._raise_singular(condition)
        # |b - A x| <= c n eps |L||U||x| (Higham 2002, Theorem 9.4); refined, a few eps
        bound = 8 * max(n, 2) * eps
        history: list[float] = []
        refinements, best = 0, x
        while True:
            left = sides - self.step(job.residual, {"y": x, "rows": n})["product"]
            history.append(backward_error(left, x, sides, norm))
            enough = history[-1] <= (4 * np.sqrt(n) * eps if narrow > eps else bound)
            stalled = len(history) > 1 and history[-1] > 0.5 * history[-2]
            if enough or stalled or not job.held or refinements == _MOST_REFINEMENTS:
                break
            rest = left if mixed is None else mixed.mix(left)
            more = self.step(self.choice.again, self._small(rest, omega))["solution"]
            best, x = x, x + more.astype(job.dtype)
            refinements += 1
        if stalled and history[-1] > history[-2]:
            x, history = best, history[:-1]
        if history[-1] > bound and not last:
            return None
        certificate = SolveCertificate(
            converged=history[-1] <= bound, backward_error=history[-1], bound=bound, norm=norm,
            condition=condition, error=2 * condition * (history[-1] + eps), refinements=refinements,
            precision=np.dtype(self.choice.small["dtype"]).name, growth=growth_of(self.acc),
        )  # fmt: skip
        answer: Any = x.reshape(job.shape) if job.held else "x"
        return Outcome({"x": answer}, certificate)

    def _small(self, sides: NDArray[Any] | None, omega: NDArray[Any] | None) -> dict[str, Any]:
        dtype = np.dtype(self.choice.small["dtype"])
        is_lu, shape = "pivots" in self.acc, self.job.shape
        return {
            "dtype": dtype, "wide": self.job.dtype, "seed": self.choice.small["seed"] + 1,
            "side": self.job.names[1],
            "sides": None if sides is None else sides.astype(dtype), "perm": None,
            "omega": None if omega is None else omega.astype(dtype),
            "pivots": self.acc["pivots"] if is_lu else None, "unit": is_lu,
            "edges": self.choice.small["edges"], "width": 1 if len(shape) == 1 else shape[1],
        }  # fmt: skip

    def _raise_singular(self, condition: float) -> None:
        message = (
            f"{self.job.driver} needs a matrix that is regular to working precision; the condition "
            f"number of {self.job.names[0]} is about {condition:.1e}. Scale its rows and columns, "
            "or use lstsq"
        )
        raise SingularMatrixError(message)


def growth_of(acc: Mapping[str, Any]) -> float:
    """Give the largest entry that elimination made, by the largest of the matrix.

    Parameters
    ----------
    acc : mapping
        Of a factorisation.

    Returns
    -------
    float
        1 where there are no pivots.
    """
    if "max_pivoted" not in acc or not acc["max_entry"]:
        return 1.0
    return float(acc["max_pivoted"]) / float(acc["max_entry"])


def backward_error(left: NDArray[Any], x: NDArray[Any], sides: NDArray[Any], norm: float) -> float:
    """Give the largest |b - A x| / (|A| |x| + |b|) of the columns [1]_.

    Parameters
    ----------
    left : array of shape (n, k)
        B - A X.
    x : array of shape (n, k)
        Solutions.
    sides : array of shape (n, k)
        Right-hand sides.
    norm : float
        Of A.

    Returns
    -------
    float
        The error; infinite where a residual is not finite.

    References
    ----------
    .. [1] J. L. Rigal, J. Gaches, On the compatibility of a given solution with the data of a
       linear system, J. ACM 14, 1967.
    """
    largest = 0.0
    for r, y, b in zip(left.T, x.T, sides.T, strict=True):
        size = length(r)
        if not math.isfinite(size):
            return math.inf
        if size:  # the product of norms may be out of range
            largest = max(largest, 1.0 / (norm / size * length(y) + length(b) / size))
    return largest


def _draw(k: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    generator = np.random.default_rng(0)
    real = generator.standard_normal((k, _PROBES))
    if dtype.kind == "c":
        return (real + 1j * generator.standard_normal((k, _PROBES))).astype(dtype)
    return real.astype(dtype)


def plan_solve(
    a: BlockedArray,
    b: BlockedArray,
    resources: Resources,
    *,
    assume: Assume = "gen",
    precision: Precision = "full",
    seed: int = 0,
    driver: str = "solve",
    held: bool = True,
) -> SolveJob:
    """Plan A X = B.

    Parameters
    ----------
    a : BlockedArray of shape (n, n)
        The matrix.
    b : BlockedArray of shape (n,) or (n, k)
        Right-hand sides.
    resources : Resources
        Memory, workers, cores and rates.
    assume : {"gen", "sym", "pos"}
        General or symmetric (LU), positive definite (Cholesky).
    precision : {"full", "mixed"}
        Factor in the dtype of computing, or in single precision and refine.
    seed : int
        Of the vectors that check the factors.
    driver : str
        Who asks, for messages.
    held : bool
        Let X come back whole (and be refined) if it is small.

    Returns
    -------
    SolveJob
        The plan.

    Raises
    ------
    ShapeError, OptionError, MemoryBudgetError
        If the question makes no sense, or does not fit.
    """
    n = _check(a, b, assume, precision, driver)
    dtype = compute_dtype(a.dtype, b.dtype)
    k = 1 if b.ndim == 1 else b.shape[1]
    held &= n * k * dtype.itemsize <= min(_HELD_NBYTES, resources.arrays_nbytes // 8)
    target = None if held else Target("x", (n, k), dtype.str, (min(n, 1024), min(k, 1024)))
    dtypes = [dtype]
    if precision == "mixed" and not held:
        message = (
            f"{driver} refines a solution that is in memory whole; that of {b.name}, "
            f"{format_nbytes(n * k * dtype.itemsize)}, is not: give more memory=, fewer columns at "
            "a time, or precision='full'"
        )
        raise OptionError(message)
    if precision == "mixed" and dtype.char in _NARROW:
        dtypes.insert(0, np.dtype(_NARROW[dtype.char]))
    choices = tuple(
        factored(a, b.source, resources, d, assume, seed, (n, k), target, driver) for d in dtypes
    )
    sources: dict[str, Source] = {"a": a.source, "b": b.source}
    if assume != "pos":
        mixed, more = factored_mixed(a, b.source, resources, dtype, seed, (n, k), target, driver)
        choices, sources = (*choices, mixed), {**sources, **more}
    residual = product_stage(a.source, resources, dtype, k if held else _PROBES, name="residual")
    stages = [*choices[0].stages, residual]
    targets = [s.target for s in stages if s.target is not None]
    explanation = explain(
        driver, [f"{x.name} {x.shape} {x.dtype}" for x in (a, b)], stages, resources,
        method="Cholesky factors" if assume == "pos" else "LU factors with partial pivoting",
        why=f"assume={assume!r}; factored in {dtypes[0].name}"
        + (", refined to " + dtype.name if len(dtypes) > 1 else ""),
        targets=targets,
    )  # fmt: skip
    parameters = {
        "driver": driver, "seed": seed, "assume": assume, "precision": precision,
        "layout": [choices[0].small["edges"], [s.name for s in stages]],
    }  # fmt: skip
    return SolveJob(
        choices, residual, b.shape, dtype, held, sources, parameters,
        resources, explanation, (a.name, b.name), driver=driver,
    )  # fmt: skip


def _check(
    a: BlockedArray, b: BlockedArray, assume: Assume, precision: Precision, driver: str
) -> int:
    n = require_square(a, driver)
    if assume not in ("gen", "sym", "pos"):
        raise OptionError(f"assume is 'gen', 'sym' or 'pos'; found {assume!r}")
    if precision not in ("full", "mixed"):
        raise OptionError(f"precision is 'full' or 'mixed'; found {precision!r}")
    if b.ndim not in (1, 2) or b.shape[0] != n or 0 in b.shape:
        message = (
            f"{driver} needs right-hand sides of length {n}, as {a.name} has shape {a.shape}; "
            f"{b.name} has shape {b.shape}"
        )
        raise ShapeError(message)
    return n
