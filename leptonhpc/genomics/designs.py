"""One trait with its covariates: who is analysed, and the orthonormal basis of what is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from leptonhpc.errors import LinAlgError, ShapeError

_CONSTANT = 1e-10
"""Relative size below which what is left of a column is rounding."""
_ROUNDING = 100 * np.finfo(float).eps
"""What a trait's own digits leave, relative to it."""


@dataclass(frozen=True)
class Design:
    """What is known of the analysed samples before a variant is looked at."""

    trait: str
    rows: NDArray[np.int64]
    """Samples that have the trait and all covariates."""
    y: NDArray[np.float64]
    """(n,)."""
    covariates: NDArray[np.float64]
    """(n, k): the intercept first."""

    @property
    def nbytes(self) -> int:
        """Bytes of what every block needs."""
        return int(self.rows.nbytes + 2 * self.y.nbytes + 3 * self.covariates.nbytes)


def make_designs(
    traits: NDArray[np.float64],
    names: Sequence[str],
    covariates: NDArray[np.float64] | None,
    covariate_names: Sequence[str] = (),
) -> list[Design]:
    """Make a design of each trait.

    Parameters
    ----------
    traits : array of shape (samples, t)
        NaN where missing.
    names : sequence of str
        Of the traits.
    covariates : array of shape (samples, k), optional
        NaN where missing; an intercept is added.
    covariate_names : sequence of str
        For messages.

    Returns
    -------
    list of Design
        One for each trait.

    Raises
    ------
    ShapeError
        If too few samples have a trait and all covariates.
    LinAlgError
        If a trait does not vary or follows from covariates, or a covariate from those before it.
    """
    samples = len(traits)
    extra = np.empty((samples, 0)) if covariates is None else covariates
    full = np.column_stack([np.ones(samples), extra])
    labels = ["the intercept", *covariate_names]
    known = np.all(np.isfinite(full), axis=1)
    return [
        _design(str(name), np.flatnonzero(known & np.isfinite(y)), y, full, labels)
        for name, y in zip(names, traits.T, strict=True)
    ]


def _design(
    trait: str,
    rows: NDArray[np.int64],
    y: NDArray[np.float64],
    full: NDArray[np.float64],
    labels: Sequence[str],
) -> Design:
    needed = full.shape[1] + 2  # a slope, and one degree of freedom for the error
    if len(rows) < needed:
        message = (
            f"trait {trait!r} needs {needed} samples or more, with {full.shape[1]} covariates "
            f"(intercept included); {len(rows)} of {len(full)} have it and all covariates"
        )
        raise ShapeError(message)
    design = Design(trait, rows, y[rows], full[rows])
    if np.ptp(design.y) == 0:
        raise LinAlgError(f"trait {trait!r} is {design.y[0]:g} in all {len(rows)} samples")
    basis, triangle = np.linalg.qr(design.covariates)
    norms = np.linalg.norm(design.covariates, axis=0)
    dependent = np.flatnonzero(np.abs(np.diag(triangle)) <= _CONSTANT * norms)
    if dependent.size:
        label = labels[dependent[0]]
        message = (
            f"covariate {label!r} follows from the intercept and the covariates before it, among "
            f"the {len(rows)} samples with trait {trait!r}; leave it out"
        )
        raise LinAlgError(message)
    left = np.linalg.norm(design.y - basis @ (basis.T @ design.y))
    spread = np.linalg.norm(design.y - design.y.mean())
    if left <= max(_CONSTANT * spread, _ROUNDING * np.linalg.norm(design.y)):
        message = (
            f"trait {trait!r} follows from its covariates, among the {len(rows)} samples that have "
            "them all: nothing is left to test. Leave out the covariate that is the trait"
        )
        raise LinAlgError(message)
    return design
