"""Rows of a band in a non-negative factorisation: how they begin, and what is checked of them."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.errors import NegativeValueError, NumericRangeError
from leptonhpc.kernels.conditioning import raise_non_finite
from leptonhpc.kernels.fold import Blas, Region, Small
from leptonhpc.kernels.random import gaussian_rows

_TILE_NBYTES = 4 << 20


def started(
    before: NDArray[Any], gt: NDArray[Any], p: NDArray[Any], small: Small, begin: int
) -> NDArray[Any]:
    """Give the rows of W to begin with, as columns.

    Parameters
    ----------
    before : array of shape (b, r)
        Rows of the last W, or of left singular vectors.
    gt, p : arrays of shapes (k, b), (k, k)
        As for `descend`.
    small : mapping
        ``start`` is "previous", "given" (by the user: it is checked), "split" (parts of singular
        vectors, see ``turn``, ``factor`` and ``fill``), "random" (from ``seed``) or "zero".
    begin : int
        Number of the first row.

    Returns
    -------
    array of shape (k, b)
        W^T.
    """
    kind, dtype, k = small["start"], gt.dtype, len(p)
    if kind == "given":
        _require_usable(before, begin)
    if kind in ("given", "previous"):
        return np.array(before.T, dtype, order="C")
    if kind == "split":
        wt = np.maximum(before[:, :k].T * small["turn"][:, None], 0) * small["factor"][:, None]
        return np.ascontiguousarray(np.where(wt > 0, wt, small["fill"]), dtype)
    wt = np.zeros((k, gt.shape[1]), dtype)
    if kind == "random":
        draws = gaussian_rows(small["seed"], begin, begin + gt.shape[1], k, dtype)
        wt[...] = np.abs(draws.T)
        # each row as large as is best for it: no reading is spent on finding a scale
        size = np.sum(wt * (p @ wt), axis=0)
        wt *= np.sum(wt * gt, axis=0) / np.where(size > 0, size, 1)
    return wt


def tiles_of(block: NDArray[Any], dtype: np.dtype[Any]) -> list[tuple[int, int]]:
    """Give first and last rows of parts of a band that stay in cache.

    Parameters
    ----------
    block : array of shape (b, n)
        The band.
    dtype : dtype
        Of computing.

    Returns
    -------
    list of (int, int)
        The parts.
    """
    height = max(64, min(8192, _TILE_NBYTES // max(1, block.shape[1] * dtype.itemsize)))
    return [(low, min(low + height, len(block))) for low in range(0, len(block), height)]


def checked_square(tile: NDArray[Any], small: Small, at: Region, low: int, blas: Blas) -> float:
    """Give |tile|_F^2; what is negative or not finite is an error.

    Parameters
    ----------
    tile : array of shape (t, n)
        Rows of a band.
    small : mapping
        ``name``, ``transposed`` and ``edges`` of the user's matrix.
    at : region
        The band's place.
    low : int
        First row of the tile within the band.
    blas : Blas
        Primitives.

    Returns
    -------
    float
        The sum.

    Raises
    ------
    NonFiniteError, NegativeValueError
        With the index in the user's matrix.
    """
    place = ((at[0][0] + low, at[0][0] + low + len(tile)), at[1])
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        square = float(blas.sum_of_squares(tile))
    if not np.isfinite(square):
        raise_non_finite(tile, small, place)
    if tile.size and tile.min() < 0:
        row, column = (int(i) for i in np.argwhere(tile < 0)[0])
        index = (row + place[0][0], column + place[1][0])
        index = index[::-1] if small["transposed"] else index
        pairs = zip(small["edges"], index, strict=True)
        chunk = tuple(bisect_right(edges, i) - 1 for edges, i in pairs)
        message = (
            f"nmf needs numbers that are not negative; {small['name']} has {tile[row, column]} at "
            f"index {index}, in block {chunk}. Shift or clip such values first"
        )
        raise NegativeValueError(message)
    return square


def require_in_range(wx: NDArray[Any], ww: NDArray[Any], small: Small) -> None:
    """Refuse sums that are not finite.

    Parameters
    ----------
    wx, ww : arrays
        The sums.
    small : mapping
        ``name`` and ``dtype``.

    Raises
    ------
    NumericRangeError
        If a number is infinite or NaN.
    """
    if not (np.isfinite(wx).all() and np.isfinite(ww).all()):
        dtype = np.dtype(small["dtype"])
        message = f"products with {small['name']} overflow {dtype}. Scale the array first"
        raise NumericRangeError(message)


def _require_usable(before: NDArray[Any], begin: int) -> None:
    usable = before >= 0  # catches NaN too
    if not (usable & np.isfinite(before)).all():
        row, column = (int(i) for i in np.argwhere(~(usable & np.isfinite(before)))[0])
        message = (
            "the start of nmf needs finite numbers that are not negative; its long factor has "
            f"{before[row, column]} in row {row + begin}, component {column}"
        )
        raise NegativeValueError(message)
