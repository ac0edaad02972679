"""Variance components by restricted maximum likelihood, in the eigenbasis of the relationship."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

Floats = NDArray[np.float64]

_GRID = 200
_NEAREST_ONE = 1 - 1e-6
"""Largest heritability tried: at one, a singular relationship matrix has no inverse."""


@dataclass(frozen=True)
class NullModel:
    """The mixed model without a variant: V = genetic * K + residual * I."""

    heritability: float
    """genetic / (genetic + residual)."""
    genetic: float
    residual: float
    log_likelihood: float
    """Restricted, without the constant."""


@dataclass(frozen=True)
class Rotated:
    """Trait and covariates in the eigenbasis of K, where V is diagonal."""

    eigenvalues: Floats
    y: Floats
    covariates: Floats

    def diagonal(self, heritability: float) -> Floats:
        """Give V / (genetic + residual).

        Parameters
        ----------
        heritability : float
            Share of the variance that is genetic.

        Returns
        -------
        array of shape (n,)
            Its diagonal.
        """
        return heritability * self.eigenvalues + (1 - heritability)

    def likelihood(self, heritability: float) -> tuple[float, float]:
        """Give the restricted log-likelihood at the best scale, and that scale.

        Parameters
        ----------
        heritability : float
            Share of the variance that is genetic.

        Returns
        -------
        tuple of (float, float)
            Log-likelihood without its constant, and genetic + residual.
        """
        d = self.diagonal(heritability)
        weighted = self.covariates / d[:, None]
        gram = self.covariates.T @ weighted
        left = self.y - self.covariates @ np.linalg.solve(gram, weighted.T @ self.y)
        freedom = len(self.y) - self.covariates.shape[1]
        scale = float(left @ (left / d)) / freedom
        log_determinants = np.log(d).sum() + np.linalg.slogdet(gram)[1]
        return -0.5 * float(freedom * np.log(scale) + log_determinants), scale

    def slope(self, heritability: float) -> float:
        """Give the derivative of the log-likelihood by the heritability.

        Parameters
        ----------
        heritability : float
            Share of the variance that is genetic.

        Returns
        -------
        float
            Zero where the likelihood is largest.
        """
        d, change = self.diagonal(heritability), self.eigenvalues - 1
        weighted = self.covariates / d[:, None]
        gram = self.covariates.T @ weighted
        left = (self.y - self.covariates @ np.linalg.solve(gram, weighted.T @ self.y)) / d
        freedom = len(self.y) - self.covariates.shape[1]
        quadratic = float(left @ (change * left)) / float(left @ (d * left))
        traces = np.sum(change / d) - np.trace(
            np.linalg.solve(gram, weighted.T @ (change[:, None] * weighted))
        )
        return 0.5 * float(freedom * quadratic - traces)


def fit_null(rotated: Rotated) -> NullModel:
    """Find the heritability of the largest restricted likelihood.

    Parameters
    ----------
    rotated : Rotated
        Trait and covariates in the eigenbasis.

    Returns
    -------
    NullModel
        The variance components.

    Notes
    -----
    The likelihood may have several maxima: the best of a grid is taken, then the root of the
    derivative beside it [1]_.

    References
    ----------
    .. [1] H. M. Kang et al. (2008), Efficient control of population structure in model organism
       association mapping, Genetics 178, 1709-1723.
    """
    lowest = float(rotated.eigenvalues.min())
    # a matrix of pairwise means may have eigenvalues just below zero; V must not
    top = min(_NEAREST_ONE, _NEAREST_ONE / (1 - lowest)) if lowest < 0 else _NEAREST_ONE
    grid = np.linspace(0, top, _GRID + 1)
    best = int(np.argmax([rotated.likelihood(h)[0] for h in grid]))
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, _GRID)]
    h = float(grid[best])
    if rotated.slope(low) > 0 > rotated.slope(high):
        h = float(brentq(rotated.slope, low, high, xtol=1e-14))
    likelihood, scale = rotated.likelihood(h)
    return NullModel(h, scale * h, scale * (1 - h), likelihood)
