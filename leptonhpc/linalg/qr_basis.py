"""A basis for Q where the columns of a tall A depend on one another to working precision.

With columns scaled to length one, TSQR [1]_ gives R of A D = Q R whatever the conditioning; with
R = U S V^H the columns of A D V_r S_r^-1 are orthonormal but for rounding, r the singular values
above it. Gaussian columns complete them to a matrix X that is well conditioned, as they are almost
orthogonal to any space of fewer dimensions than they have rows [2]_. CholeskyQR2 makes X = Q_x T.
What A D has beside its part in X is rounding, c sqrt(n) eps |A D| in each column, so that

    A D = Q_x B,    B = T [S_r V_r^H; 0],    B = Q_b R_b,    A = (Q_x Q_b) (R_b D^-1).

References
----------
.. [1] J. Demmel, L. Grigori, M. Hoemmen, J. Langou, Communication-optimal parallel and sequential
   QR and LU factorizations, SIAM J. Sci. Comput. 34, 2012.
.. [2] N. Halko, P. G. Martinsson, J. A. Tropp, Finding structure with randomness, SIAM Rev. 53,
   2011, section 10.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.errors import NumericRangeError
from leptonhpc.linalg.sizes import length

_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Basis:
    """V_r and S_r of A D."""

    scale: NDArray[np.float64]
    """(n,): D, powers of two."""
    s: NDArray[np.float64]
    """(r,): singular values."""
    v: NDArray[Any]
    """(n, r): their right vectors."""

    @property
    def rank(self) -> int:
        """Count the columns that come from A."""
        return len(self.s)

    @property
    def of_bands(self) -> tuple[NDArray[np.float64], NDArray[Any]]:
        """Give D and W = V S^-1, by which bands of A are multiplied."""
        return self.scale, self.v / self.s

    def factored(self, t: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Give Q_b, and the R of A with a diagonal that is not negative.

        Parameters
        ----------
        t : array of shape (n, n)
            The product of the triangles that made the basis orthonormal.

        Returns
        -------
        tuple of arrays of shape (n, n)
            Q_b and R.
        """
        b = (t[:, : self.rank] * self.s) @ self.v.conj().T
        q, r = np.linalg.qr(b)
        diagonal = r.diagonal()
        size = np.abs(diagonal)
        phase = np.where(size > 0, diagonal / np.where(size > 0, size, 1), 1)
        r = np.triu(phase.conj()[:, None] * r)
        np.fill_diagonal(r, size)
        return q * phase, r / self.scale


def scaled(triangle: NDArray[Any], name: str) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Give R D with columns about as long as one, and D.

    Parameters
    ----------
    triangle : array of shape (n, n)
        R of A, by TSQR.
    name : str
        Of A, for messages.

    Returns
    -------
    tuple of arrays of shapes (n, n) and (n,)
        R D, and the powers of two.

    Raises
    ------
    NumericRangeError
        If the length of a column overflows.
    """
    norms = np.array([length(column) for column in triangle.T])
    if not np.isfinite(norms).all():
        message = (
            f"the length of column {int(np.argmin(np.isfinite(norms)))} of {name} overflows "
            "float64. Scale the array first"
        )
        raise NumericRangeError(message)
    exponents = np.where(norms > 0, -np.frexp(norms)[1], 0)
    scale = np.ldexp(1.0, np.clip(exponents, -1000, 1000))
    return triangle * scale, scale


def revealed(
    s: NDArray[np.float64], vh: NDArray[Any], scale: NDArray[np.float64], *, cut: float
) -> Basis:
    """Keep what is above rounding.

    Parameters
    ----------
    s : array of shape (n,)
        Singular values of A D, descending.
    vh : array of shape (n, n)
        Its right singular vectors, as rows.
    scale : array of shape (n,)
        D.
    cut : float
        Singular values up to cut sqrt(n) eps s_1 are rounding.

    Returns
    -------
    Basis
        D, S_r and V_r.
    """
    # rounding of a QR factorisation is about sqrt(n) eps in every column, as a random walk
    rank = int(np.count_nonzero(s > cut * len(s) ** 0.5 * _EPS * s[0]))
    return Basis(scale, s[:rank], np.ascontiguousarray(vh[:rank].conj().T))
