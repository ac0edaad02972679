"""Linear regression on one variant after another, a block of variants at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from leptonhpc.genomics.designs import Design
from leptonhpc.genomics.standardised import missing_in

Floats = NDArray[np.float64]

_COLLINEAR = 1e-10
"""Share of a variant's sum of squares below which what covariates leave of it is rounding."""
_CONSTANT = 1e-10
"""Range of dosages, relative to the largest, below which a variant does not vary."""
CELL_NBYTES = 34
"""Bytes for each call: int8, two masks, and four float64 matrices at most."""


@dataclass(frozen=True)
class Fits:
    """One trait's statistics at the variants of a block."""

    beta: Floats
    se: Floats
    statistic: Floats
    p_value: Floats
    """NaN where the variant says nothing, or the fit did not converge."""
    tested: NDArray[np.int64]
    """Samples in the fit."""
    frequency: Floats
    """Of the alternate allele among the samples of the trait that were called."""
    converged: NDArray[np.bool_]
    """False where an iteration was given up though there is an estimate."""
    penalised: NDArray[np.bool_]
    """True where the estimate is of Firth's likelihood."""

    def taken(self, index: NDArray[np.int64]) -> Fits:
        """Choose variants.

        Parameters
        ----------
        index : array of int
            Which, in their new order.

        Returns
        -------
        Fits
            Theirs.
        """
        return Fits(**{name: values[index] for name, values in vars(self).items()})


class LinearBlock:
    """Regress traits on the variants of a block, each with the covariates.

    Parameters
    ----------
    designs : list of Design
        The traits.
    impute : bool
        Missing calls are the variant's mean; otherwise their samples are left out.

    Notes
    -----
    Covariates C have the orthonormal basis Q, and the trait the residual r = y - Q Q^T y. For a
    variant g, ``beta = g^T r / (g^T g - |Q^T g|^2)``: two products for a whole block. Where calls
    are missing, what their samples add to Q^T Q, Q^T r and r^T r is taken off.
    """

    def __init__(self, designs: list[Design], *, impute: bool) -> None:
        self.impute = impute
        self.rows = [design.rows for design in designs]
        self.known = [_Known.of(design.covariates, design.y) for design in designs]

    def __call__(self, block: NDArray[Any], start: int) -> list[Fits]:
        """Give the statistics of each trait."""
        return [
            self._fit(block if len(rows) == len(block) else block[rows], known)
            for rows, known in zip(self.rows, self.known, strict=True)
        ]

    def _fit(self, calls: NDArray[Any], known: _Known) -> Fits:
        g, missing, mean = centred(calls)
        if self.impute or not missing.any():
            return fit_whole(g, known, len(calls) - known.q.shape[1] - 1, mean=mean)
        return _fit_without(g, missing, mean, known)


@dataclass(frozen=True)
class _Known:
    """Orthonormal basis of the covariates, and what they leave of the trait."""

    q: Floats
    residual: Floats

    @classmethod
    def of(cls, covariates: Floats, y: Floats) -> _Known:
        q = np.linalg.qr(covariates)[0]
        residual = y - q @ (q.T @ y)
        return cls(q, residual - q @ (q.T @ residual))  # once more, to rounding


def known_of(covariates: Floats, y: Floats) -> _Known:
    """Prepare a trait and its covariates.

    Parameters
    ----------
    covariates : array of shape (n, k)
        Of full rank.
    y : array of shape (n,)
        The trait.

    Returns
    -------
    _Known
        For `fit_whole`.
    """
    return _Known.of(covariates, y)


def centred(calls: NDArray[Any]) -> tuple[Floats, NDArray[np.bool_], Floats]:
    """Give calls less their variant's mean, zero where missing, where that is, and the mean.

    Parameters
    ----------
    calls : array of shape (n, b)
        A block.

    Returns
    -------
    tuple of (array of shape (n, b), array of bool, array of shape (b,))
        Numbers, exactly zero where a variant does not vary; mask; means, NaN where nothing was
        called.
    """
    missing = missing_in(calls)
    g = np.where(missing, 0, calls).astype(np.float64)
    called = len(g) - np.count_nonzero(missing, axis=0)
    mean = g.sum(axis=0) / np.maximum(called, 1)
    g -= mean
    g[missing] = 0
    if calls.dtype.kind == "f":  # whole numbers have exact sums
        g[:, _constant(calls, missing)] = 0
    return g, missing, np.where(called > 0, mean, np.nan)


def _constant(calls: NDArray[Any], missing: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Say which variants have the same dosage wherever it is called."""
    least = np.min(calls, axis=0, where=~missing, initial=np.inf)
    most = np.max(calls, axis=0, where=~missing, initial=-np.inf)
    found: NDArray[np.bool_] = most - least <= _CONSTANT * np.abs(most)
    return found


def fit_whole(g: Floats, known: _Known, freedom: int, *, mean: Floats) -> Fits:
    """Fit each variant with all samples.

    Parameters
    ----------
    g : array of shape (n, b)
        The variants.
    known : _Known
        Covariates and trait.
    freedom : int
        Degrees of freedom of the error.
    mean : array of shape (b,)
        Of the calls.

    Returns
    -------
    Fits
        Of the block.
    """
    squares = np.einsum("ij,ij->j", g, g)
    on_q = known.q.T @ g
    left = squares - np.einsum("ij,ij->j", on_q, on_q)
    residual = np.full(g.shape[1], known.residual @ known.residual)
    tested = np.full(g.shape[1], len(g))
    freedoms = np.full(len(tested), freedom)
    return _wald(known.residual @ g, left, squares, residual, freedoms, tested, mean)


def _fit_without(g: Floats, missing: NDArray[np.bool_], mean: Floats, known: _Known) -> Fits:
    """Fit each variant with the samples that it was called in."""
    q, r = known.q, known.residual
    k, gone = q.shape[1], missing.T.astype(np.float64)
    # what the samples that are left out add to Q^T Q, Q^T r and r^T r
    outer = (gone @ (q[:, :, None] * q[:, None, :]).reshape(len(q), -1)).reshape(-1, k, k)
    gram = np.eye(k) - outer
    q_r = -(gone @ (q * r[:, None]))
    r_r = r @ r - gone @ r**2
    tested = len(g) - np.count_nonzero(missing, axis=0)
    freedom = tested - k - 1
    usable = (freedom > 0) & (np.linalg.eigvalsh(gram)[:, 0] > _COLLINEAR)
    gram[~usable] = np.eye(k)
    sides = np.stack([(q.T @ g).T, q_r], axis=2)
    solved = np.linalg.solve(gram, sides)
    inner = np.einsum("bki,bkj->bij", sides, solved)
    squares = np.einsum("ij,ij->j", g, g)
    slope = r @ g - inner[:, 0, 1]
    left = np.where(usable, squares - inner[:, 0, 0], 0)
    return _wald(slope, left, squares, r_r - inner[:, 1, 1], np.maximum(freedom, 1), tested, mean)


def _wald(
    slope: Floats, left: Floats, squares: Floats, residual: Floats,
    freedom: NDArray[np.int64], tested: NDArray[np.int64], mean: Floats,
) -> Fits:  # fmt: skip
    """Make statistics of g^T M y, g^T M g and y^T M y, where M takes the covariates out."""
    usable = left > _COLLINEAR * np.maximum(squares, np.finfo(float).tiny)
    left = np.where(usable, left, np.nan)
    beta = slope / left
    error = np.maximum(residual - beta * slope, 0) / freedom
    se = np.sqrt(error / left)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = beta / se
    p = 2 * stdtr(freedom, -np.abs(t))
    plain = np.zeros(len(t), bool)
    return Fits(beta, se, t, p, tested, mean / 2, ~plain, plain)
