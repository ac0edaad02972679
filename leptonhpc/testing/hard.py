"""Square matrices that are hard to factor, each for a reason of its own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


def swapped(n: int) -> Matrix:
    """Make [[0, I], [I, 0]]: regular, and no pivot is in the first diagonal block."""
    half = -(-n // 2)
    return np.roll(np.eye(n), half, axis=1)


def small_corner(n: int, size: float = 1e-8, *, seed: int = 0) -> Matrix:
    """Make a random matrix whose leading half is scaled down: pivots inside it are too small."""
    a = np.random.default_rng(seed).standard_normal((n, n))
    a[: n // 2, : n // 2] *= size
    return a


def hilbert(n: int) -> Matrix:
    """Make 1 / (i + j + 1): positive definite, condition about exp(3.5 n)."""
    i = np.arange(n)
    return 1.0 / (i[:, None] + i + 1)


def kahan(n: int, angle: float = 1.2) -> Matrix:
    """Make Kahan's triangle: nearly singular, and no pivot shows it [1]_.

    References
    ----------
    .. [1] W. Kahan, Numerical linear algebra, Canad. Math. Bull. 9, 1966.
    """
    s, c = np.sin(angle), np.cos(angle)
    upper = np.triu(np.full((n, n), -c), 1) + np.eye(n)
    return np.asarray(s ** np.arange(n)[:, None] * upper)


def wilkinson(n: int) -> Matrix:
    """Make the matrix whose pivots grow by 2^(n - 1) with partial pivoting [1]_.

    References
    ----------
    .. [1] J. H. Wilkinson, The Algebraic Eigenvalue Problem, 1965, p. 212.
    """
    a = np.eye(n) - np.tril(np.ones((n, n)), -1)
    a[:, -1] = 1
    return a


def graded(n: int, *, seed: int = 0) -> Matrix:
    """Make a positive definite matrix whose entries fall by 1e12 from corner to corner."""
    scale = np.geomspace(1, 1e-6, n)
    b = np.random.default_rng(seed).standard_normal((n, 2 * n))
    gram = b @ b.T / (2 * n)
    return scale[:, None] * (gram + gram.T) / 2 * scale


def vandermonde(n: int) -> Matrix:
    """Make powers of equidistant points from -1 to 1: condition about 2.4^n."""
    return np.vander(np.linspace(-1, 1, n))


def random_walk(n: int) -> Matrix:
    """Make min(i, j) + 1, the covariance of a random walk: positive definite, condition n^2."""
    i = np.arange(n)
    return np.asarray(np.minimum(i[:, None], i) + 1.0)


HARD: dict[str, Callable[[int], Matrix]] = {
    "swapped": swapped,
    "corner 1e-8": lambda n: small_corner(n, 1e-8),
    "corner 1e-12": lambda n: small_corner(n, 1e-12),
    "hilbert": hilbert,
    "kahan": kahan,
    "wilkinson": wilkinson,
    "graded": graded,
    "vandermonde": vandermonde,
    "random walk": random_walk,
}
"""By name, from the order."""
