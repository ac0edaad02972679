"""Iterative refinement of a solution, and how far it is from one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.linalg.sizes import length


def refined(
    x: NDArray[Any],
    measure: Callable[[NDArray[Any]], tuple[float, NDArray[Any]]],
    correct: Callable[[NDArray[Any]], NDArray[Any]],
    *,
    enough: float,
    most: int,
    limit: float = math.inf,
) -> tuple[NDArray[Any], float, int]:
    """Add corrections to X while each halves the error at least.

    Parameters
    ----------
    x : array of shape (n, k)
        A solution.
    measure : callable
        Gives the error of a solution, and the residuals B - A X.
    correct : callable
        Solves for residuals.
    enough : float
        The error that ends it.
    most : int
        Corrections at most.
    limit : float
        A solution that is further off at first is left as it is.

    Returns
    -------
    tuple of (array, float, int)
        The best solution, its error, and how often X was corrected.
    """
    best, error, count = x, math.inf, 0
    while True:
        now, left = measure(x)
        stalled = count > 0 and not now <= 0.5 * error
        if now < error or count == 0:
            best, error = x, now
        if now <= enough or stalled or count == most or (count == 0 and now > limit):
            return best, error, count
        x = x + correct(left).astype(x.dtype)
        count += 1


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
        if size:  # products and quotients of norms may be out of range: their logarithms are not
            product = _log(norm) + _log(length(y)) - _log(size)
            sums = float(np.logaddexp(product, _log(length(b)) - _log(size)))
            largest = max(largest, math.exp(-min(sums, 700.0)))
    return largest


def _log(size: float) -> float:
    return math.log(size) if size else -math.inf
