"""What kernels check of the numbers that they read, and the errors that say where."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.errors import NonFiniteError, NotHermitianError, NumericRangeError
from leptonhpc.kernels.fold import Region, Small

_COLUMNS = 32
"""Columns that are compared at once: one of the two is read across its rows."""


def largest_of(block: NDArray[Any]) -> float:
    """Give the largest absolute value; NaN or infinite if there is such a number.

    Parameters
    ----------
    block : array
        Real or complex.

    Returns
    -------
    float
        0 if the block is empty.
    """
    if not block.size:
        return 0.0
    if block.dtype.kind == "c":
        return float(np.max(np.abs(block)))
    return float(np.maximum(block.max(), -block.min()))


def raise_at(block: NDArray[Any], at: Region, name: str) -> None:
    """Raise the typed error for the first number of a block, or vector, that is not finite."""
    place = tuple(int(i) for i in np.argwhere(~np.isfinite(block))[0])
    index = tuple(i + start for i, (start, _) in zip(place, at, strict=False))
    if block.ndim == 1:
        where = f"{index[0]}, in block [{at[0][0]}:{at[0][0] + len(block)}]"
    else:
        where = f"{index}, in block {block_in_words(at[0][0], at[1][0], block.shape)}"
    message = f"{name} has {block[place]} at index {where}. Remove such values first"
    raise NonFiniteError(message)


def block_in_words(row: int, column: int, shape: tuple[int, ...]) -> str:
    """Give the rows and columns of a block as they are written in Python."""
    return f"[{row}:{row + shape[0]}, {column}:{column + shape[1]}]"


def raise_out_of_range(block: NDArray[Any], dtype: np.dtype[Any], at: Region, small: Small) -> None:
    """Raise the typed error for numbers that are not finite in `dtype`.

    Parameters
    ----------
    block : array of shape (m, n)
        The numbers as they came.
    dtype : dtype
        Of computing.
    at : region
        Where the block is.
    small : mapping
        ``name`` of the matrix, ``driver``.

    Raises
    ------
    NonFiniteError
        If one of them is NaN or infinite.
    NumericRangeError
        If all are finite as they came.
    """
    if not np.isfinite(block).all():
        raise_at(block, at, small["name"])
    message = (
        f"{small['driver']} needs numbers whose absolute values are finite in {dtype.name}; "
        f"{small['name']} has larger ones in {at}. Scale it first"
    )
    raise NumericRangeError(message)


def require_hermitian(
    block: NDArray[Any], mirror: NDArray[Any], small: Small, at: Region, *, largest: float = 0.0
) -> None:
    """Compare a block with its mirror image, to what rounding allows.

    Parameters
    ----------
    block : array of shape (m, n)
        Part of the matrix.
    mirror : array of shape (m, n)
        The same part of its conjugate transpose.
    small : mapping
        ``columns``, ``name`` of the matrix, ``driver``.
    at : region
        Where the part is.
    largest : float
        Largest entry seen so far: what was rounded to it may differ by its rounding (a Gram matrix
        whose columns are nearly orthogonal has small entries that are nothing else).

    Raises
    ------
    NotHermitianError, NonFiniteError
        For the entry that differs most, or is not finite.
    """
    largest = max(largest, largest_of(block))
    tolerance = small["columns"] * float(np.finfo(block.dtype).eps) * largest
    for low in range(0, block.shape[1], _COLUMNS):
        part = slice(low, low + _COLUMNS)
        difference = block[:, part] - mirror[:, part].astype(block.dtype, copy=False)
        if not largest_of(difference) <= tolerance:
            if not np.isfinite(mirror).all():
                raise_at(mirror.T, at[::-1], small["name"])
            _raise_not_hermitian(block, mirror, small, at)


def _raise_not_hermitian(
    block: NDArray[Any], mirror: NDArray[Any], small: Small, at: Region
) -> None:
    difference = np.abs(block - mirror)
    row, column = np.unravel_index(np.argmax(difference), difference.shape)
    value, other = block[row, column], mirror[row, column]
    i, j = int(row) + at[0][0], int(column) + at[1][0]
    message = (
        f"{small['driver']} needs a symmetric (or Hermitian) matrix; {small['name']} has "
        f"{value} at ({i}, {j}) and {np.conj(other)} at ({j}, {i}). Symmetrise it first, "
        "(a + a.H) / 2"
    )
    raise NotHermitianError(message)


def parts_of(a: NDArray[Any]) -> NDArray[Any]:
    """Give a view of real and imaginary parts: dividing them by the smallest number is safe.

    Parameters
    ----------
    a : array
        Its rows contiguous.

    Returns
    -------
    array
        Twice as long in its last dimension, if `a` is complex.
    """
    return a.view(a.real.dtype) if a.dtype.kind == "c" else a
