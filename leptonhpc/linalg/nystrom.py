"""Randomized Nystroem preconditioner of a Hermitian positive semidefinite matrix H.

From one sketch Y = H Q with random orthonormal Q, H is about U diag(e) U^H = Y (Q^H Y)^-1 Y^H, and

    P^-1 = (t + mu) U (diag(e) + mu)^-1 U^H + (I - U U^H)

is close to a multiple of (H + mu I)^-1 on the span of U, the leading eigenspace, and the identity
beside it; t is the level of what the sketch has left out [1]_, (1.3) and Algorithm 2.1. The
condition number of the preconditioned matrix is then about (t + mu) / (least eigenvalue + mu).

References
----------
.. [1] Z. Frangella, J. A. Tropp, M. Udell, Randomized Nystroem preconditioning, SIAM J. Matrix
   Anal. Appl. 44, 2023.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ROWS = 1024


@dataclass(frozen=True)
class Nystrom:
    """P^-1, by its eigenvectors and factors."""

    u: NDArray[Any]
    """(n, r): orthonormal."""
    factors: NDArray[Any]
    """(r,): (t + mu) / (e + mu), at most 1; P^-1 is the identity beside the span of u."""

    @property
    def rank(self) -> int:
        """Columns of u."""
        return len(self.factors)

    def root(self, x: NDArray[Any]) -> NDArray[Any]:
        """Give P^-1/2 x for a vector, or each column of a matrix."""
        return self._scaled(x, np.sqrt(self.factors))

    def unroot(self, x: NDArray[Any]) -> NDArray[Any]:
        """Give P^1/2 x."""
        return self._scaled(x, 1 / np.sqrt(self.factors))

    def _scaled(self, x: NDArray[Any], factors: NDArray[Any]) -> NDArray[Any]:
        if not self.rank:
            return x
        part = (factors - 1) * (x.conj().T @ self.u).conj()  # (U^H x)^T, and U is not copied
        result: NDArray[Any] = x + self.u @ part.T
        return result


def nothing(order: int, dtype: np.dtype[Any]) -> Nystrom:
    """Give the identity.

    Parameters
    ----------
    order : int
        Of H.
    dtype : dtype
        Of H.

    Returns
    -------
    Nystrom
        Of rank 0.
    """
    return Nystrom(np.zeros((order, 0), dtype), np.zeros(0))


def nystrom(q: NDArray[Any], y: NDArray[Any], mu: float, *, least: float = 0.0) -> Nystrom:
    """Form the preconditioner of H + mu I from a sketch of H.

    Parameters
    ----------
    q : array of shape (n, r)
        Orthonormal.
    y : array of shape (n, r)
        H Q, of a positive semidefinite H, with what rounding added.
    mu : float
        The shift, at least 0.
    least : float
        Eigenvalues below this share of the largest are left out, as are those that are rounding.

    Returns
    -------
    Nystrom
        Of rank r or less.

    Notes
    -----
    Formed for H + nu I with the smallest nu that makes Q^H Y positive definite in floating point,
    and less nu afterwards [1]_. 4 n r^2 flops.
    """
    n, eps = len(q), float(np.finfo(q.dtype).eps)
    size = float(np.linalg.norm(y))
    if not size:
        return nothing(n, q.dtype)
    nu = np.sqrt(n) * eps * size
    while True:
        shifted = y + nu * q
        core = q.conj().T @ shifted
        try:
            lower = np.linalg.cholesky((core + core.conj().T) / 2)
            break
        except np.linalg.LinAlgError:
            nu *= 10
    root = np.linalg.solve(lower, shifted.conj().T).conj().T
    u, s, _ = np.linalg.svd(root, full_matrices=False)
    values = np.maximum(s**2 - nu, 0)
    floor = max(least, n * eps) * values[0]
    count = int(np.count_nonzero(values > floor))
    if not count:
        return nothing(n, q.dtype)
    level = max(values[count], floor) if count < len(values) else values[-1]
    return Nystrom(np.ascontiguousarray(u[:, :count]), (level + mu) / (values[:count] + mu))


def gaussian(order: int, width: int, dtype: np.dtype[Any], seed: int) -> NDArray[Any]:
    """Draw Gaussian columns that depend on the seed and their length only.

    Parameters
    ----------
    order, width : int
        Shape.
    dtype : dtype
        Real or complex floating; complex entries have unit variance in total.
    seed : int
        Names them.

    Returns
    -------
    array of shape (order, width)
        From Philox counters keyed by (seed, block of 1024 rows), as all sketches.
    """
    out = np.empty((order, width), dtype)
    for low in range(0, order, _ROWS):
        key = np.array([seed, low // _ROWS], dtype=np.uint64)
        generator = np.random.Generator(np.random.Philox(key=key))
        complex_ = dtype.kind == "c"
        rows = generator.standard_normal((_ROWS, width * (1 + complex_)))
        drawn = rows.view(np.complex128) / np.sqrt(2) if complex_ else rows
        out[low : low + _ROWS] = drawn[: order - low]
    return out


def orthonormal(order: int, width: int, dtype: np.dtype[Any], seed: int) -> NDArray[Any]:
    """Draw a random orthonormal basis.

    Parameters
    ----------
    order, width : int
        Shape, tall.
    dtype : dtype
        Real or complex, double precision.
    seed : int
        Names it.

    Returns
    -------
    array of shape (order, width)
        Q of Gaussian columns.
    """
    q: NDArray[Any] = np.linalg.qr(gaussian(order, width, dtype, seed))[0]
    return q
