"""A solution by factors that were made: refined, measured against A, and judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.linalg.certificates import SolveCertificate
from leptonhpc.linalg.jobs import Outcome
from leptonhpc.linalg.refinement import backward_error, refined
from leptonhpc.linalg.scaling import Scales
from leptonhpc.linalg.solve_choices import Factored
from leptonhpc.planning import Stage, rounding
from leptonhpc.planning.precision import products_roundoff

PROBES = 4
"""Combinations of the solutions that are measured where those do not come back."""
_MOST_REFINEMENTS = 10

Step = Callable[[Stage, Mapping[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class Question:
    """What is asked of any factors."""

    residual: Stage
    """A X for a few X."""
    shape: tuple[int, ...]
    """Of the solution."""
    dtype: np.dtype[Any]
    held: bool
    """The solution comes back whole, and can be refined."""
    side: str
    """Name of the right-hand sides."""
    inverse: bool
    """They are the identity."""
    precision: str | None = None
    """What is computed with."""


@dataclass(frozen=True)
class Refused:
    """No solution: the matrix is singular to working precision."""

    condition: float
    sides: NDArray[Any]
    where: str
    """Its smallest pivot, in words."""


@dataclass
class Solution:
    """The numbers of one choice of factors."""

    question: Question
    choice: Factored
    acc: Mapping[str, Any]
    """Of the factorisation."""
    step: Step
    scales: Scales | None = None
    """The factors are those of D_r A D_c; so are all norms and errors then."""
    given: NDArray[Any] | None = None
    """Right-hand sides, where they are here already; scaled."""

    def solved(self, *, last: bool) -> Outcome | Refused | None:
        """Solve and refine; None if that does not converge and there is another choice."""
        n, omega = self.question.shape[0], self._omega()
        first = self.choice.first if self.given is None else self.choice.again
        found = self.step(first, self._small(self.given, omega))
        norm, dtype = float(self.acc["hypot_norm"]), self.question.dtype
        y, sides = (found[name].astype(dtype) for name in ("solution", "sides"))
        mixed = self.choice.mixed
        sides = sides if mixed is None else mixed.unmix(sides)
        condition = norm * float(found["max_probe"])
        eps = float(np.finfo(dtype).eps)
        precision, used = self.question.precision, self.choice.small["dtype"]
        narrow = max(float(np.finfo(used).eps), products_roundoff(used, precision))
        # |A^-1 g| / |g| is at most |A^-1|: what is refused is singular to working precision
        if not np.isfinite(y).all() or not condition / n**0.5 * narrow < 1:
            # singular in single precision only, perhaps
            return Refused(condition, sides, self._smallest_pivot()) if last else None
        # |b - A x| <= 3 n u |L||U||x| (Higham 2002, Theorem 9.4), 2 sqrt(2) of it if complex
        # (Lemma 3.5), u = eps / 2: 4.3 n eps, and twice that; refined, a few eps
        bound = 8 * rounding(max(n, 2), dtype, precision)
        y, error, refinements = refined(
            y, lambda y: self._measured(y, sides, norm), lambda left: self._corrected(left, omega),
            enough=4 * n**0.5 * eps if narrow > eps else bound,
            most=_MOST_REFINEMENTS if self.question.held else 0,
        )  # fmt: skip
        if error > bound and not last:
            return None
        certificate = SolveCertificate(
            converged=error <= bound, backward_error=error, bound=bound, norm=norm,
            condition=condition, error=2 * condition * (error + eps), refinements=refinements,
            precision="tf32" if products_roundoff(used, precision) else np.dtype(used).name,
            growth=growth_of(self.acc), scaled=self.scales is not None,
        )  # fmt: skip
        answer: Any = "x"
        if self.question.held:
            answer = self._unscaled(y).reshape(self.question.shape)
        return Outcome({"x": answer}, certificate)

    def _smallest_pivot(self) -> str:
        """Say which column depends most on those before it; mixed rows are still in columns."""
        column = int(np.argmin(np.abs(self.acc["diagonal"])))
        return f", its smallest pivot in column {column}, in block {self.choice.block_of(column)}"

    def _measured(
        self, y: NDArray[Any], sides: NDArray[Any], norm: float
    ) -> tuple[float, NDArray[Any]]:
        """Give the backward error of X as it is given, and what is left of the sides."""
        x = self._unscaled(y)
        told = {"y": x, "rows": self.question.shape[0]}
        product = self.step(self.question.residual, told)["product"]
        if self.scales is not None:
            product, x = self.scales.side(product), self.scales.scaled(x)
        left = sides - product
        return backward_error(left, x, sides, norm), left

    def _corrected(self, left: NDArray[Any], omega: NDArray[Any] | None) -> NDArray[Any]:
        mixed = self.choice.mixed
        rest = left if mixed is None else mixed.mix(left)
        more: NDArray[Any] = self.step(self.choice.again, self._small(rest, omega))["solution"]
        return more

    def _unscaled(self, y: NDArray[Any]) -> NDArray[Any]:
        return y if self.scales is None else self.scales.solution(y)

    def _omega(self) -> NDArray[Any] | None:
        """Give random combinations of solutions that do not come back."""
        if self.question.held:
            return None
        width = 1 if len(self.question.shape) == 1 else self.question.shape[1]
        omega = combinations(width, self.question.dtype)
        if self.scales is not None and self.question.inverse:
            omega = omega / self.scales.rows[:, None]  # so that columns of D_r I count alike
        return omega.astype(self.question.dtype)

    def _small(self, sides: NDArray[Any] | None, omega: NDArray[Any] | None) -> dict[str, Any]:
        told, shape = self.choice.small, self.question.shape
        dtype = np.dtype(told["dtype"])
        is_lu = "pivots" in self.acc
        return {
            "dtype": dtype, "wide": self.question.dtype, "seed": told["seed"] + 1,
            "side": self.question.side, "sides": None if sides is None else sides.astype(dtype),
            "perm": None, "omega": None if omega is None else omega.astype(dtype),
            "pivots": self.acc["pivots"] if is_lu else None, "unit": is_lu,
            "edges": told["edges"], "width": 1 if len(shape) == 1 else shape[1],
        }  # fmt: skip


def combinations(width: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Give the random combinations of solutions that are measured where those do not come back.

    Parameters
    ----------
    width : int
        Right-hand sides.
    dtype : dtype
        Of computing.

    Returns
    -------
    array of shape (width, PROBES), float64 or complex128
        Gaussian.
    """
    generator = np.random.default_rng(0)
    omega: NDArray[Any] = generator.standard_normal((width, PROBES))
    if dtype.kind == "c":
        omega = omega + 1j * generator.standard_normal((width, PROBES))
    return omega


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
