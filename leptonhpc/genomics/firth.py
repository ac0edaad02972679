"""Logistic regression with Firth's penalty: finite estimates where cases and controls separate."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

Floats = NDArray[np.float64]

_MOST_STEPS = 200
_MOST_HALVINGS = 30
_LONGEST = 5.0
"""Largest change of log odds in a step, as in G. Heinze's logistf."""
_STEP = 1e-9
"""Largest change of log odds when it ends: convergence is linear, so the rest is of that size."""
_SINGULAR = 1e13


def firth_fit(x: Floats, y: Floats, start: Floats) -> tuple[Floats, Floats] | None:
    """Maximise the likelihood times the root of the information's determinant.

    Parameters
    ----------
    x : array of shape (n, p)
        Covariates and what is tested, of about the same size.
    y : array of shape (n,)
        0 and 1.
    start : array of shape (p,)
        Where to begin.

    Returns
    -------
    tuple of (array of shape (p,), array of shape (p,)), or None
        Estimates and their standard errors, from the information at the estimate; None if the
        columns depend on one another, or it did not converge.

    Notes
    -----
    Jeffreys' prior takes the first-order bias out of the estimates [1]_, and makes them finite
    where the likelihood has no maximum [2]_. A step costs 4 n p^2 flops.

    References
    ----------
    .. [1] D. Firth (1993), Bias reduction of maximum likelihood estimates, Biometrika 80, 27-38.
    .. [2] G. Heinze, M. Schemper (2002), A solution to the problem of separation in logistic
       regression, Statist. Med. 21, 2409-2419.
    """
    at = start.copy()
    for _ in range(_MOST_STEPS):
        mu = expit(x @ at)
        w = mu * (1 - mu)
        hessian = x.T @ (w[:, None] * x)
        if np.linalg.cond(hessian) > _SINGULAR:
            return None
        inverse = np.linalg.inv(hessian)
        leverage = w * np.einsum("ij,jk,ik->i", x, inverse, x)
        step = inverse @ (x.T @ (y - mu + leverage * (0.5 - mu)))
        farthest = float(np.max(np.abs(x @ step)))
        if farthest < _STEP:
            return at, np.sqrt(np.diagonal(inverse))
        step *= min(1.0, _LONGEST / farthest)
        at = at + _length(x, y, at, step) * step
    return None


def _length(x: Floats, y: Floats, at: Floats, step: Floats) -> float:
    """Halve the step until the penalised likelihood does not fall by more than rounding."""
    before = _penalised(x, y, at)
    length = 1.0
    for _ in range(_MOST_HALVINGS):
        if _penalised(x, y, at + length * step) >= before - 1e-12 * abs(before):
            break
        length /= 2
    return length


def _penalised(x: Floats, y: Floats, at: Floats) -> float:
    odds = x @ at
    mu = expit(odds)
    hessian = x.T @ ((mu * (1 - mu))[:, None] * x)
    likelihood = float(y @ odds - np.sum(np.logaddexp(0, odds)))
    return likelihood + 0.5 * float(np.linalg.slogdet(hessian)[1])
