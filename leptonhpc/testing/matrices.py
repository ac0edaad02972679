"""Matrices whose singular values are prescribed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from leptonhpc.errors import OptionError, ShapeError

SPECTRA: dict[str, Callable[[int], NDArray[np.float64]]] = {
    "mild": lambda n: np.geomspace(1, 1e-1, n),
    "steep": lambda n: np.geomspace(1, 1e-9, n),
    "steeper": lambda n: np.geomspace(1, 1e-12, n),
    "singular": lambda n: np.geomspace(1, 1e-18, n),
    "moderate": lambda n: np.geomspace(1, 2e-4, n),
    "flat": lambda n: np.ones(n),
    "slow": lambda n: np.arange(1.0, n + 1) ** -0.5,
    "halving": lambda n: np.array([1.0, 0.5, 0.3, 0.2, *(0.1 * 0.8 ** np.arange(n))])[:n],
    "deficient": lambda n: np.where(np.arange(n) < -(-n // 3), 0.7 ** np.arange(float(n)), 0),
    "two": lambda n: np.where(np.arange(n) < 2, 0.5 ** np.arange(float(n)), 0),
    "zero": np.zeros,
}
"""Named singular values by their number, descending from one (or all zero)."""


def spectrum(name: str, count: int) -> NDArray[np.float64]:
    """Give the singular values of a named spectrum.

    Parameters
    ----------
    name : str
        A key of `SPECTRA`.
    count : int
        How many.

    Returns
    -------
    array of shape (count,)
        Descending, the first is one (all are zero for "zero").

    Raises
    ------
    OptionError
        If there is no such spectrum.

    Examples
    --------
    >>> spectrum("slow", 4).round(2)
    array([1.  , 0.71, 0.58, 0.5 ])
    """
    if name not in SPECTRA:
        message = f"there are spectra {', '.join(SPECTRA)}; found {name!r}"
        raise OptionError(message)
    return np.asarray(SPECTRA[name](count), float)


def matrix_with_spectrum(
    shape: Sequence[int], values: ArrayLike, *, dtype: DTypeLike = np.float64, seed: int = 0
) -> NDArray[Any]:
    """Make U diag(values) V^H with random orthonormal U and V.

    Parameters
    ----------
    shape : sequence of int
        Rows and columns.
    values : array of shape (min(shape),)
        Singular values.
    dtype : dtype
        Real or complex floating. The product is formed in double precision and rounded once, which
        moves no singular value by more than ``eps * |A|_F / 2``.
    seed : int
        Of U and V.

    Returns
    -------
    array of shape `shape`
        The matrix, row-major.

    Raises
    ------
    ShapeError
        If there is not one value for each of the shorter side.

    References
    ----------
    .. [1] F. Mezzadri, How to generate random matrices from the classical compact groups, Notices
       Amer. Math. Soc. 54 (2007), section 5: Q of a Gaussian matrix.

    Examples
    --------
    >>> a = matrix_with_spectrum((6, 3), [3, 2, 1])
    >>> np.linalg.svd(a, compute_uv=False).round(12)
    array([3., 2., 1.])
    """
    m, n = shape
    s = np.asarray(values, float)
    if s.shape != (min(m, n),):
        message = f"a matrix of shape {(m, n)} has {min(m, n)} singular values; found {s.shape}"
        raise ShapeError(message)
    kind = np.dtype(dtype)
    generator = np.random.default_rng(seed)

    def orthonormal(rows: int) -> NDArray[Any]:
        block: NDArray[Any] = generator.standard_normal((rows, len(s)))
        if kind.kind == "c":
            block = block + 1j * generator.standard_normal(block.shape)
        q: NDArray[Any] = np.linalg.qr(block)[0]
        return q

    u, v = orthonormal(m), orthonormal(n)
    return np.ascontiguousarray(((u * s) @ v.conj().T).astype(kind))
