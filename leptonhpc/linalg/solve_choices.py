"""Ways to factor the matrix of a system, each tried where the one before did not do."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from leptonhpc.blocks import BlockedArray, Source
from leptonhpc.blocks.mixed import Butterfly, MixedRowsSource
from leptonhpc.linalg.cholesky import factor_cholesky
from leptonhpc.linalg.lu import PACKED, factor_stage
from leptonhpc.linalg.rechunk import in_chunks_that_fit, rechunk_stage
from leptonhpc.linalg.scratch import made, stored_input, with_operands
from leptonhpc.linalg.substitution import substitution_stage
from leptonhpc.planning import Resources, Stage, Target

Assume = Literal["gen", "sym", "pos"]

MIXED, MIXED_SIDES = "mixed", "mixed sides"
"""Operands: the matrix, and the right-hand sides, with their rows mixed."""


@dataclass(frozen=True)
class Factored:
    """How to factor A in one precision, and to solve with the factors."""

    before: tuple[Stage, ...]
    factor: Stage
    small: Mapping[str, Any]
    first: Stage
    """Solves for B."""
    again: Stage
    """Solves for what is left of B."""
    mixed: Butterfly | None = None
    """What the rows of A and B were multiplied by."""

    @property
    def stages(self) -> tuple[Stage, ...]:
        """All of them, once."""
        return (*self.before, self.factor, self.first)

    def block_of(self, column: int) -> str:
        """Give rows and columns of the panel that holds a column, as they are written in Python."""
        edges = self.small["edges"]
        number = bisect_right(edges, column)
        return f"[0:{edges[-1]}, {edges[number - 1]}:{edges[number]}]"


def factored(
    a: BlockedArray, sides: Source, resources: Resources, dtype: np.dtype[Any], assume: Assume,
    seed: int, shape: tuple[int, int], target: Target | None, driver: str,
) -> Factored:  # fmt: skip
    """Plan factors of A and the solution for right-hand sides.

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
    assume : {"gen", "sym", "pos"}
        General or symmetric (LU), positive definite (Cholesky).
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
    Factored
        The stages.
    """
    if assume == "pos":
        before, panels, stage, small = factor_cholesky(
            a, resources, seed=seed, what=driver, dtype=dtype, scratch=True
        )
        factors: Any = (("forward", "l"), ("adjoint", "l"))
    else:
        before, panels, stage, small = factor_stage(
            a, resources, seed=seed, what=driver, dtype=dtype
        )
        factors = (("forward", PACKED), ("backward", PACKED))

    def substitution(name: str, sides: Source | None) -> Stage:
        return substitution_stage(
            factors, shape, resources, dtype, what=driver, breaks=panels.edges, sides=sides,
            target=target, name=name,
        )  # fmt: skip

    return Factored(
        tuple(before), stage, small, substitution("substitute", sides),
        substitution("refine", None),
    )  # fmt: skip


def factored_mixed(
    a: BlockedArray, sides: Source, resources: Resources, dtype: np.dtype[Any], seed: int,
    shape: tuple[int, int], target: Target | None, driver: str,
) -> tuple[Factored, dict[str, Source]]:  # fmt: skip
    """Plan factors of W A, W a random butterfly: elements then hardly grow, whatever A is.

    Parameters
    ----------
    a, sides, resources, dtype, seed, shape, target, driver : see `factored`
        The system; what is planned solves W A X = W B.

    Returns
    -------
    tuple of (Factored, dict)
        The stages, and what the job's sources must have besides.

    Notes
    -----
    LU with partial pivoting lets elements grow by up to 2^(n-1) for some matrices, which are not
    even ill-conditioned. W is orthogonal, so that the backward error is that of the system itself.
    """
    mixed_a = MixedRowsSource(a.source, dtype, seed)
    mixed_b = MixedRowsSource(sides, dtype, seed)

    def copied(side: int) -> tuple[Stage, Factored]:
        copy, array = mixed_copy(mixed_a, side, resources)
        return copy, factored(array, mixed_b, resources, dtype, "gen", seed, shape, target, driver)

    copy, plain = in_chunks_that_fit(copied)
    assert copy.target is not None
    inputs = {"a": made(copy.target)}
    there = stored_input(MIXED_SIDES, mixed_b)
    choice = replace(
        plain,
        before=(copy, *plain.before),
        factor=with_operands(plain.factor, inputs, plain.factor.target),
        first=with_operands(plain.first, {"b": there}, plain.first.target, inputs=(MIXED_SIDES,)),
        mixed=Butterfly(a.shape[0], seed),
    )
    return choice, {MIXED: mixed_a, MIXED_SIDES: mixed_b}


def mixed_copy(
    mixed: MixedRowsSource, side: int, resources: Resources
) -> tuple[Stage, BlockedArray]:
    """Plan the copy of a matrix whose rows are mixed, in squares.

    Parameters
    ----------
    mixed : MixedRowsSource of shape (n, n)
        The job's source `MIXED`.
    side : int
        Rows and columns of a chunk, about.
    resources : Resources
        Memory, workers, cores and rates.

    Returns
    -------
    tuple of (Stage, BlockedArray)
        The copy, and what to plan with from here on.
    """
    planned, copy = rechunk_stage(MIXED, mixed, (side, side), resources)
    return copy, BlockedArray(planned)
