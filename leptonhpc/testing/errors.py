"""Measures of error: how far a result is from what it should be, in double precision."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def rounding(a: ArrayLike, dtype: Any, *, terms: int | None = None, factor: float = 8.0) -> float:
    """Give ``factor * terms * eps * |A|_2``, what an algorithm may lose to rounding.

    Parameters
    ----------
    a : array of shape (m, n)
        The matrix, of ordinary size (its squares neither over- nor underflow).
    dtype : dtype
        Of computing: its eps counts.
    terms : int, optional
        Length of the sums; default: the shorter side.
    factor : float
        Number of roundings in a row. The default counts product, orthogonalisation, rotation and
        storage of the result, each at most twice.

    Returns
    -------
    float
        The allowance, absolute.

    Notes
    -----
    A product of inner length k is right to k eps |A| |B|, element by element [1]_.

    References
    ----------
    .. [1] N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., (3.13).

    Examples
    --------
    >>> bool(rounding(np.eye(4), np.float64) == 8 * 4 * np.finfo(float).eps)
    True
    """
    values = np.asarray(a)
    count = min(values.shape) if terms is None else terms
    top = float(np.linalg.norm(values.astype(_wide(values)), 2))
    return factor * max(count, 1) * float(np.finfo(np.dtype(dtype)).eps) * top


def orthogonality(columns: ArrayLike) -> float:
    """Give the largest entry of |Q^H Q - I|.

    Parameters
    ----------
    columns : array of shape (m, k)
        Q.

    Returns
    -------
    float
        Zero for orthonormal columns.

    Examples
    --------
    >>> orthogonality(np.eye(3)[:, :2])
    0.0
    """
    q = np.asarray(columns)
    q = q.astype(_wide(q))
    return float(np.max(np.abs(q.conj().T @ q - np.eye(q.shape[1])), initial=0.0))


def factorization_error(a: ArrayLike, u: ArrayLike, s: ArrayLike, vh: ArrayLike) -> float:
    """Give |A - U diag(s) Vh|_F.

    Parameters
    ----------
    a : array of shape (m, n)
        The matrix.
    u : array of shape (m, k)
        Left factor.
    s : array of shape (k,)
        Values.
    vh : array of shape (k, n)
        Right factor.

    Returns
    -------
    float
        The Frobenius norm of the difference.

    Examples
    --------
    >>> factorization_error(np.diag([2.0, 1.0]), [[1], [0]], [2], [[1, 0]])
    1.0
    """
    wide = [np.asarray(x).astype(_wide(np.asarray(x))) for x in (a, u, s, vh)]
    return float(np.linalg.norm(wide[0] - (wide[1] * wide[2]) @ wide[3]))


def nearest_distance(found: ArrayLike, expected: ArrayLike) -> NDArray[np.float64]:
    """Give for each value found its distance to the nearest expected one.

    Parameters
    ----------
    found : array of shape (k,)
        Values.
    expected : array of shape (n,)
        The true ones.

    Returns
    -------
    array of shape (k,)
        Distances.

    Examples
    --------
    >>> nearest_distance([1.5, 4.0], [1.0, 2.0, 3.0])
    array([0.5, 1. ])
    """
    x, y = np.asarray(found, float), np.asarray(expected, float)
    distances: NDArray[np.float64] = np.min(np.abs(x[:, None] - y), axis=1)
    return distances


def largest_departure(found: ArrayLike, expected: ArrayLike) -> float:
    """Give the largest absolute difference; infinite if anything is not finite.

    Parameters
    ----------
    found : array
        Values.
    expected : array
        The true ones, of the same shape.

    Returns
    -------
    float
        The difference.

    Examples
    --------
    >>> largest_departure([1.0, np.nan], [1.0, 2.0])
    inf
    """
    x, y = np.asarray(found), np.asarray(expected)
    assert x.shape == y.shape, (x.shape, y.shape)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return float("inf")
    return float(np.max(np.abs(x.astype(_wide(x)) - y.astype(_wide(y))), initial=0.0))


def _wide(values: NDArray[Any]) -> np.dtype[Any]:
    return np.result_type(values.dtype, np.float64)
