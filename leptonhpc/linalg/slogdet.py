"""Determinants: the product of the diagonal of U, of rows that are mixed where pivots grow."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from leptonhpc.blocks import BlockedArray, Source
from leptonhpc.blocks.mixed import MixedRowsSource
from leptonhpc.errors import MemoryBudgetError, NumericRangeError
from leptonhpc.linalg.cholesky import require_square
from leptonhpc.linalg.jobs import Counter, Execute, Outcome
from leptonhpc.linalg.lu import factor_stage, lu_certificate
from leptonhpc.linalg.rechunk import in_chunks_that_fit
from leptonhpc.linalg.scratch import made, with_operands
from leptonhpc.linalg.solve_choices import MIXED, mixed_copy
from leptonhpc.planning import Explanation, Resources, Stage
from leptonhpc.planning.explain import explain
from leptonhpc.planning.layout import compute_dtype

Factors = tuple[tuple[Stage, ...], Stage, Mapping[str, Any]]
"""What is done before, the factorisation, and the arrays it is run with."""


@dataclass(frozen=True)
class SlogdetJob:
    """One determinant, planned."""

    factors: Factors
    mixed: Factors | None
    """Of W A, W a butterfly of determinant one, where those are far from A; None: there is no
    memory for it."""
    sources: Mapping[str, Source]
    parameters: Mapping[str, Any]
    resources: Resources
    explanation: Explanation
    driver: str = "slogdet"

    def run(self, execute: Execute) -> Outcome:
        """Factor; the determinant is the product of U's diagonal."""
        counter = Counter()

        def outcome(factors: Factors) -> Outcome:
            before, factor, small = factors
            for stage in before:
                execute(replace(stage, name=counter.next(stage.name)), {})
            acc = execute(replace(factor, name=counter.next(factor.name)), small)
            sign, logabsdet = slogdet_of(acc)
            fields = {"sign": np.asarray(sign), "logabsdet": np.asarray(logabsdet)}
            return Outcome(fields, lu_certificate(acc, small))

        found = outcome(self.factors)
        if found.certificate.converged or self.mixed is None:
            return found
        with contextlib.suppress(NumericRangeError):
            return outcome(self.mixed)
        return found


def slogdet_of(acc: Mapping[str, Any]) -> tuple[Any, float]:
    """Give sign and logarithm of a determinant from LU factors.

    Parameters
    ----------
    acc : mapping
        The summed accumulator of the factorisation.

    Returns
    -------
    tuple of (number, float)
        The sign, zero for a singular matrix; the logarithm, then minus infinity.
    """
    wide = np.result_type(acc["diagonal"].dtype, np.float64)
    diagonal = acc["diagonal"].astype(wide)
    sizes = np.abs(diagonal)
    if not sizes.all():
        return wide.type(0), -np.inf
    exchanges = int(np.count_nonzero(acc["pivots"] != np.arange(len(diagonal))))
    with np.errstate(invalid="ignore"):  # what overflowed is said by the growth
        sign = wide.type((-1) ** exchanges) * np.prod(diagonal / sizes)
    return sign, float(np.sum(np.log(sizes)))


def plan_slogdet(x: BlockedArray, resources: Resources, *, seed: int = 0) -> SlogdetJob:
    """Plan the sign and the logarithm of the determinant.

    Parameters
    ----------
    x : BlockedArray of shape (n, n)
        The matrix.
    resources : Resources
        Memory, workers, cores and rates.
    seed : int
        Of the vectors that check the factors.

    Returns
    -------
    SlogdetJob
        The plan.

    Raises
    ------
    ShapeError, MemoryBudgetError
        If x is not square, or not even a narrow panel fits.
    """
    require_square(x, "slogdet")
    dtype = compute_dtype(x.dtype)
    before, panels, stage, small = factor_stage(
        x, resources, seed=seed, what="slogdet", dtype=dtype
    )
    mixed_rows = MixedRowsSource(x.source, dtype, seed)
    mixed: Factors | None = None
    with contextlib.suppress(MemoryBudgetError):
        mixed = _plan_mixed(mixed_rows, resources, seed, dtype)
    explanation = explain(
        "slogdet", [f"{x.name} {x.shape} {x.dtype}"], [*before, stage], resources,
        method="LU factors with partial pivoting", why="the product of U's diagonal",
        targets=[s.target for s in (*before, stage) if s.target is not None],
    )  # fmt: skip
    parameters = {"driver": "slogdet", "seed": seed, "layout": [panels.edges, panels.unit]}
    return SlogdetJob(
        (tuple(before), stage, small), mixed, {"a": x.source, MIXED: mixed_rows}, parameters,
        resources, explanation,
    )  # fmt: skip


def _plan_mixed(
    source: MixedRowsSource, resources: Resources, seed: int, dtype: np.dtype[Any]
) -> Factors:
    def copied(side: int) -> tuple[Stage, tuple[list[Stage], Stage, dict[str, Any]]]:
        copy, array = mixed_copy(source, side, resources)
        before, _, stage, small = factor_stage(
            array, resources, seed=seed, what="slogdet", dtype=dtype
        )
        return copy, (before, stage, small)

    copy, (before, stage, small) = in_chunks_that_fit(copied)
    assert copy.target is not None
    moved = with_operands(stage, {"a": made(copy.target)}, stage.target)
    return (copy, *before), moved, small
