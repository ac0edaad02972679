"""What rounding does to a merge: measured in double precision, not estimated.

With the computed U S V^H of a matrix B and U0 the nearest to U with orthonormal columns,
||B - U0 S V^H|| is at most ||B - U S V^H|| + ||U^H U - I|| ||S V^H|| [1]_; the Gram matrix of
U0 S V^H is that of S V^H, which is all that is kept. By Weyl's theorem singular values are off by
no more than that.

References
----------
.. [1] N. J. Higham, Functions of Matrices: Theory and Computation, SIAM 2008, Lemma 8.17.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

DOUBLE = float(np.finfo(np.float64).eps)
_COLUMNS = 2048
"""Of a panel that is held in double precision."""
_STEPS = 6
"""Roundings of an entry before it is factored: powers, roots, differences, products, a cast."""


def steps_of(rows: NDArray[Any], square: float) -> float:
    """Bound what rounding changes rows by as they are made, entry by entry.

    Parameters
    ----------
    rows : array of shape (b, n)
        As they were stored.
    square : float
        Their sum of squares.

    Returns
    -------
    float
        Frobenius norm, at most; what underflows is in it.
    """
    limits: Any = np.finfo(rows.dtype)
    tiny = float(limits.tiny) * math.sqrt(rows.size)
    return _STEPS * (float(limits.eps) * math.sqrt(square) + tiny)


def defect(rows: NDArray[Any]) -> float:
    """Measure how far rows are from orthonormal.

    Parameters
    ----------
    rows : array of shape (k, n)
        V^H.

    Returns
    -------
    float
        ||V^H V - I||_F, in double precision.
    """
    gram = np.zeros((len(rows), len(rows)), _wide(rows))
    for begin in range(0, rows.shape[1], _COLUMNS):
        panel = rows[:, begin : begin + _COLUMNS].astype(gram.dtype)
        gram += panel @ panel.conj().T
    own: float = 2 * rows.shape[1] * DOUBLE  # the product's rounding, of unit rows
    return float(np.linalg.norm(gram - np.eye(len(rows)))) + own


def residual(
    matrix: NDArray[Any], u: NDArray[Any], s: NDArray[np.floating], vh: NDArray[Any]
) -> float:
    """Measure how far the rows that are kept are from those that were factored.

    Parameters
    ----------
    matrix : array of shape (b, n)
        What was factored.
    u, s, vh : arrays of shapes (b, r), (r,), (r, n)
        Its factors, as computed.

    Returns
    -------
    float
        Spectral norm, at most, of B - U0 S V^H with U0 the nearest with orthonormal columns.
    """
    dtype = _wide(matrix)
    left = u.astype(dtype) * s.astype(np.float64)
    square = 0.0
    for begin in range(0, matrix.shape[1], _COLUMNS):
        part = slice(begin, begin + _COLUMNS)
        off = matrix[:, part].astype(dtype) - left @ vh[:, part].astype(dtype)
        square += float(np.linalg.norm(off)) ** 2
    size = float(s[0]) if len(s) else 0.0
    # the product's own rounding: each entry is a sum of r products
    own = 2 * (len(s) + 2) * DOUBLE * float(np.linalg.norm(s.astype(np.float64)))
    return math.sqrt(square) + defect(u.T) * size * (1 + defect(vh)) + own


def _wide(rows: NDArray[Any]) -> np.dtype[Any]:
    return np.dtype(np.result_type(rows.dtype, np.float64))
