"""Equilibration: the rows and columns of a matrix scaled so that their largest entries are one.

A system whose equations or unknowns are in very unlike units is ill-conditioned by its scaling
alone. D_r A D_c is what LAPACK's geequb gives [1]_: powers of two that bring the largest entry of
each row near one, then that of each column. It is made only for matrices that are singular to
working precision as they are, from a copy, of which factors and certificate are.

References
----------
.. [1] E. Anderson and others, LAPACK Users' Guide, 3rd ed., SIAM, 1999, section 2.4.1.1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.blocks import BlockedArray, Source
from leptonhpc.linalg.rechunk import SQUARE, in_chunks_that_fit, rechunk_stage
from leptonhpc.linalg.scratch import ScratchSource, made, with_operands
from leptonhpc.linalg.solve_choices import Factored, factored
from leptonhpc.linalg.substitution import product_stage
from leptonhpc.planning import Resources, Stage, Target
from leptonhpc.planning.tasks import ADJOINT

_SCALED, _SIDES, _SOLUTION = "scaled", "scaled sides", "scaled solution"
_UNLIKE = 0.1
"""Sizes of rows or columns that differ by less are left as they are, as LAPACK does."""


@dataclass(frozen=True)
class Scales:
    """D_r and D_c."""

    rows: NDArray[np.float64]
    columns: NDArray[np.float64]

    def side(self, b: NDArray[Any]) -> NDArray[Any]:
        """Give D_r B."""
        scaled: NDArray[Any] = b * self.rows[:, None].astype(b.real.dtype)
        return scaled

    def solution(self, y: NDArray[Any]) -> NDArray[Any]:
        """Give X = D_c Y."""
        x: NDArray[Any] = y * self.columns[:, None].astype(y.real.dtype)
        return x

    def scaled(self, x: NDArray[Any]) -> NDArray[Any]:
        """Give Y = D_c^-1 X."""
        y: NDArray[Any] = x * (1 / self.columns)[:, None].astype(x.real.dtype)
        return y


@dataclass(frozen=True)
class Scaling:
    """The way to a solution of D_r A D_c Y = D_r B, planned."""

    rows: Stage
    columns: Stage
    """Reads A^H."""
    matrix: Stage
    choice: Factored
    """Of the scaled matrix."""
    sides: Stage | None
    """Where the solution does not come back: B is scaled in a copy, ..."""
    solution: Stage | None
    """... and so is Y."""
    width: int
    """Right-hand sides."""
    dtype: np.dtype[Any]

    def scales(self, step: Callable[[Stage, Mapping[str, Any]], dict[str, Any]]) -> Scales | None:
        """Look at the matrix; None where scaling would change little."""
        n = self.choice.small["rows"]
        sizes = step(self.rows, {"rows": n, "factors": np.ones(n)})["extents"]
        rows = self._powers(sizes)
        found = step(self.columns, {"rows": n, "factors": rows})["extents"]
        unlike = any(np.min(s) < _UNLIKE * np.max(s) for s in (sizes, found))
        # the inverse of numbers that are too small for their precision overflows
        real = np.finfo(self.dtype)
        unlike |= bool(np.max(sizes) < real.tiny / real.eps)
        return Scales(rows, self._powers(found)) if unlike else None

    def run(self, step: Callable[[Stage, Mapping[str, Any]], dict[str, Any]], d: Scales) -> None:
        """Make the scaled copies of A, and of B."""
        step(self.matrix, self._told(d.rows, d.columns))
        if self.sides is not None:
            step(self.sides, self._told(d.rows, np.ones(self.width)))

    def write(self, step: Callable[[Stage, Mapping[str, Any]], dict[str, Any]], d: Scales) -> bool:
        """Write X = D_c Y where it does not come back; say whether its numbers are in range."""
        if self.solution is None:
            return True
        return not step(self.solution, self._told(d.columns, np.ones(self.width)))["max_overflow"]

    def _told(self, rows: NDArray[Any], columns: NDArray[Any]) -> dict[str, Any]:
        return {"dtype": self.dtype, "row_factors": rows, "column_factors": columns}

    def _powers(self, sizes: NDArray[Any]) -> NDArray[np.float64]:
        """Give powers of two near the inverse of sizes; one where there is nothing."""
        most = int(np.finfo(self.dtype).maxexp) - 4
        exponents = np.where(sizes > 0, -np.frexp(sizes)[1], 0)
        powers: NDArray[np.float64] = np.ldexp(1.0, np.clip(exponents, -most, most))
        return powers


def plan_scaling(
    a: BlockedArray, sides: Source, resources: Resources, dtype: np.dtype[Any], *, seed: int,
    shape: tuple[int, int], target: Target | None, driver: str,
) -> Scaling:  # fmt: skip
    """Plan what is done if A is singular to working precision as it is.

    Parameters
    ----------
    a : BlockedArray of shape (n, n)
        The matrix, operand "a".
    sides : Source of shape (n,) or (n, k)
        Right-hand sides, operand "b".
    resources : Resources
        Memory, workers, cores and rates.
    dtype : dtype
        Of computing.
    seed : int
        Of the vectors that check the factors.
    shape : tuple of int
        Of the solution: (n, k).
    target : Target, optional
        Where it is written; else it comes back whole.
    driver : str
        Who asks, for messages.

    Returns
    -------
    Scaling
        The stages.

    Raises
    ------
    MemoryBudgetError
        If copies, or not even a narrow panel of LU, do not fit.
    """
    rows, columns = (
        replace(stage, tasks=tuple(replace(t, kernel="extents") for t in stage.tasks))
        for stage in (
            product_stage(a.source, resources, dtype, 1, name="sizes of rows"),
            product_stage(
                a.H.source, resources, dtype, 1, name="sizes of columns", operand="a" + ADJOINT
            ),
        )
    )
    scaled_sides, solution, into = None, None, None
    if target is not None:
        scaled_sides = _copy("b", sides, _SIDES, resources, dtype)
        into = replace(target, name=_SOLUTION, scratch=True)
        solution = replace(
            _copy(_SOLUTION, made(into), target.name, resources, dtype), target=target
        )

    def copied(side: int) -> tuple[Stage, ScratchSource, Factored]:
        matrix = _copy("a", a.source, _SCALED, resources, dtype, side=side)
        assert matrix.target is not None
        scaled = made(matrix.target)
        array = BlockedArray(scaled)
        return (
            matrix,
            scaled,
            factored(array, sides, resources, dtype, "gen", seed, shape, into, driver),
        )

    matrix, scaled, plain = in_chunks_that_fit(copied)
    first = plain.first
    if scaled_sides is not None and scaled_sides.target is not None:
        first = with_operands(first, {"b": made(scaled_sides.target)}, into, inputs=())
    choice = replace(
        plain, first=first,
        factor=with_operands(plain.factor, {"a": scaled}, plain.factor.target, inputs=()),
    )  # fmt: skip
    return Scaling(rows, columns, matrix, choice, scaled_sides, solution, shape[1], dtype)


def _copy(
    operand: str, source: Source, into: str, resources: Resources, dtype: np.dtype[Any], *,
    side: int = SQUARE,
) -> Stage:  # fmt: skip
    """Plan a scaled copy of a matrix."""
    _, stage = rechunk_stage(operand, source, (side, side), resources)
    assert stage.target is not None
    target = replace(stage.target, name=into, dtype=dtype.str)
    tasks = tuple(replace(t, kernel="scaled") for t in stage.tasks)
    return replace(stage, name=into, tasks=tasks, target=target)
