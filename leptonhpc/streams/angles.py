"""Angles between subspaces."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.errors import OptionError, ShapeError

_ORTHONORMAL = 1e-3
"""So far may products of rows be off: singular vectors of float32 are off by much less."""


def principal_angles(first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.float64]:
    """Give the principal angles between the spaces of the rows of two matrices.

    Parameters
    ----------
    first, second : arrays of shape (k, n) and (l, n), real or complex floating
        Orthonormal rows, as right singular vectors are.

    Returns
    -------
    array of shape (min(k, l),), float64
        Radians from 0 to pi/2, increasing.

    Raises
    ------
    ShapeError
        If the spaces are not in one space of n dimensions.
    OptionError
        If rows are not orthonormal.

    Notes
    -----
    Large angles by their cosines, the singular values of first second^H; small ones, of which a
    cosine keeps half of the digits only, by their sines, those of what the projection leaves [1]_.

    References
    ----------
    .. [1] A. Bjorck, G. H. Golub, Numerical methods for computing angles between linear subspaces,
       Math. Comp. 27, 1973; A. V. Knyazev, M. E. Argentati, SIAM J. Sci. Comput. 23, 2002.

    Examples
    --------
    >>> import numpy as np
    >>> c, s = np.cos(0.1), np.sin(0.1)
    >>> principal_angles(np.array([[1.0, 0, 0]]), np.array([[c, s, 0]])).round(12).tolist()
    [0.1]
    """
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        message = (
            f"angles are between rows of as many columns; found {first.shape} and {second.shape}"
        )
        raise ShapeError(message)
    for rows in (first, second):
        gram = rows @ rows.conj().T
        if not np.all(np.abs(gram - np.eye(len(rows))) <= _ORTHONORMAL):
            raise OptionError("angles are between orthonormal rows: give qr(rows.T)[0].T of these")
    if len(first) < len(second):
        first, second = second, first
    overlap = second @ first.conj().T
    cosines = np.linalg.svd(overlap, compute_uv=False)
    sines = np.linalg.svd(second - overlap @ first, compute_uv=False)[::-1]
    small = cosines**2 > 0.5
    angles = np.where(
        small, np.arcsin(np.clip(sines, 0, 1)), np.arccos(np.clip(cosines, 0, 1))
    )  # fmt: skip
    return np.sort(angles.astype(np.float64))
