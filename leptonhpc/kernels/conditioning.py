"""Centring, scaling, weights and imputation of a band while it is in cache.

A band is always tall: its rows are a part of the long side. Features (columns of the user's
matrix) are its columns, or, where the user's matrix is wide and the band is a part of its
transpose, its rows. In the first case the means come from outside (`shift`); in the second each
row holds all the samples of a feature, so mean and deviation are those of the row.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.errors import NonFiniteError, NumericRangeError
from leptonhpc.kernels.fold import Accumulator, Region, Small

_QUIET = np.errstate(over="ignore", under="ignore", invalid="ignore")
"""What is not finite is found by the sums, and named then."""
_TILE_NBYTES = 8 << 20
"""Rows that are conditioned together: they stay in cache until they are used."""
_REMEDY = "Remove such values, or let svd put the column's mean there: missing='mean'"


def tiles(
    block: NDArray[Any], small: Small, at: Region, acc: Accumulator | None = None
) -> Iterator[tuple[int, int, NDArray[Any]]]:
    """Give a band's rows, conditioned and in the dtype of computing, a few at a time.

    Parameters
    ----------
    block : array of shape (b, n)
        The band as stored; not changed.
    small : mapping
        ``dtype`` of computing; ``features`` "columns" or "rows"; ``shift`` (n,) or None,
        ``missing`` "raise" or "mean"; ``unit_scale``; for rows: ``center``, ``scale``, ``weights``.
    at : region
        The band's place in the tall matrix.
    acc : dict, optional
        Where rows are features: takes ``mean`` and ``scale`` of the rows.

    Yields
    ------
    (int, int, array)
        First and last row within the band, and the rows.
    """
    dtype = np.dtype(small["dtype"])
    step = tile_rows(block.shape[1], dtype)
    if is_plain(small):
        if block.dtype == dtype and block.flags.c_contiguous:
            yield 0, block.shape[0], block
            return
        for low in range(0, block.shape[0], step):
            rows = block[low : low + step]
            yield low, low + len(rows), rows.astype(dtype, order="C")
        return
    for low in range(0, block.shape[0], step):
        rows = in_unit_scale(block[low : low + step], small)
        high = low + rows.shape[0]
        if small["features"] == "rows":
            begin = at[0][0]
            tile = _condition_rows(rows, small, begin + low, begin + high, acc)
        else:
            tile = _condition_columns(rows, small)
        yield low, high, tile.astype(dtype, order="C", copy=False)


def in_unit_scale(rows: NDArray[Any], small: Small) -> NDArray[Any]:
    """Bring numbers whose squares would over- or underflow into range, by a power of two."""
    if small["unit_scale"] == 1:
        return rows
    dtype = np.result_type(rows.dtype, np.float64)
    scaled: NDArray[Any] = np.multiply(rows, small["unit_scale"], dtype=dtype)
    return scaled


def tile_rows(columns: int, dtype: np.dtype[Any]) -> int:
    """Give how many rows of so many columns are handled at once."""
    return max(16, min(1024, _TILE_NBYTES // max(1, columns * dtype.itemsize)))


def is_plain(small: Small) -> bool:
    """Say whether bands are used as they are."""
    if small["unit_scale"] != 1:
        return False
    if small["features"] == "rows":
        return not (
            small["center"]
            or small["scale"] is not None
            or small["weights"] is not None
            or small["missing"] == "mean"
        )
    return small["shift"] is None and small["missing"] != "mean"


def raise_non_finite(block: NDArray[Any], small: Small, at: Region) -> None:
    """Raise the typed error for sums that are not finite; the band is searched only now."""
    finite = np.isfinite(block)
    if small["missing"] == "mean":
        finite |= np.isnan(block)
    if finite.all():
        message = (
            f"the squares of {small['name']} overflow {small['dtype']}: values near "
            f"{np.nanmax(np.abs(block)):.3g} in rows {at[0]}. Scale the array first"
        )
        raise NumericRangeError(message)
    row, column = np.argwhere(~finite)[0]
    index = (int(row) + at[0][0], int(column) + at[1][0])
    if small["transposed"]:
        index = index[::-1]
    chunk = tuple(
        bisect_right(edges, at) - 1 for edges, at in zip(small["edges"], index, strict=True)
    )
    message = (
        f"{small['name']} has {block[row, column]} at index {index}, in block {chunk}. "
        f"{small.get('remedy', _REMEDY)}"
    )
    raise NonFiniteError(message)


@_QUIET
def _condition_columns(rows: NDArray[Any], small: Small) -> NDArray[Any]:
    """Subtract the shift; what is missing becomes the mean, which is `fill` after the shift."""
    dtype = np.dtype(small["dtype"])
    shift = small["shift"]
    tile: NDArray[Any]
    if shift is None:
        tile = rows.astype(dtype)
    else:
        tile = np.subtract(rows, shift.astype(dtype), dtype=dtype, casting="unsafe")
    if small["missing"] == "mean":
        absent = np.isnan(rows)
        if absent.any():
            tile[absent] = np.broadcast_to(small["fill"].astype(dtype), tile.shape)[absent]
    return tile


@_QUIET
def _condition_rows(
    rows: NDArray[Any], small: Small, begin: int, end: int, acc: Accumulator | None
) -> NDArray[Any]:
    simple = small["scale"] is None and small["weights"] is None and small["missing"] == "raise"
    if simple:
        return _centred_rows(rows, small, begin, end, acc) if small["center"] else rows
    tile = rows.astype(np.result_type(rows.dtype, np.float64))
    absent = np.isnan(tile) if small["missing"] == "mean" else None
    present: Any = tile.shape[1] if absent is None else tile.shape[1] - absent.sum(axis=1)
    present = np.maximum(present, 1)
    filled = tile if absent is None else np.where(absent, 0, tile)
    mean = filled.sum(axis=1) / present
    deviation = filled - mean[:, None]
    if absent is not None:
        deviation[absent] = 0
    tile = deviation if small["center"] else deviation + mean[:, None]
    scale = np.ones(len(tile))
    if isinstance(small["scale"], str):
        largest = np.max(np.abs(deviation), axis=1)  # the squares of the rest are in range
        part = np.abs(deviation) / np.where(largest > 0, largest, 1)[:, None]
        scale = largest * np.sqrt(np.sum(part**2, axis=1) / present)
        # what is left of equal numbers is the rounding of their mean
        flat = scale <= 32 * np.finfo(float).eps * np.abs(mean)
        scale[flat] = 1
        tile[flat & bool(small["center"])] = 0
    elif small["scale"] is not None:
        scale = small["scale"][begin:end]
    factor = 1 / scale
    if small["weights"] is not None:
        factor = factor * small["weights"][begin:end]
    tile = np.asarray(tile * factor[:, None])
    if acc is not None and "mean" in acc:
        acc["mean"][begin:end] = mean if small["center"] else 0
        acc["scale"][begin:end] = scale
    return tile


@_QUIET
def _centred_rows(
    rows: NDArray[Any], small: Small, begin: int, end: int, acc: Accumulator | None
) -> NDArray[Any]:
    """Subtract each row's mean; what the mean loses by rounding is subtracted after it."""
    dtype = np.dtype(small["dtype"])
    mean = rows.mean(axis=1, dtype=np.result_type(dtype, np.float64))
    tile: NDArray[Any]
    tile = np.subtract(rows, mean[:, None].astype(dtype), dtype=dtype, order="C", casting="unsafe")
    tile -= tile.mean(axis=1, dtype=mean.dtype)[:, None].astype(dtype)
    if acc is not None and "mean" in acc:
        acc["mean"][begin:end] = mean
        acc["scale"][begin:end] = 1
    return tile
