"""Centring, scaling, weights and imputation of a band after it came to the device as stored.

The same numbers as `leptonhpc.kernels.conditioning` gives, up to rounding: a band is copied in
its narrow dtype and widened where the memory is fast.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from leptonhpc.kernels.accelerated.pieces import pieces
from leptonhpc.kernels.fold import Accumulator, Blas, Region, Small


def tiles(
    blas: Blas, block: Any, small: Small, at: Region, acc: Accumulator | None = None
) -> Iterator[tuple[int, int, Any]]:
    """Give a band's rows, conditioned and in the dtype of computing, some at a time.

    Parameters
    ----------
    blas : Blas
        Of the device.
    block : array of the device, of shape (b, n)
        The band as stored; not changed.
    small, at, acc : mapping, region, dict
        As `leptonhpc.kernels.conditioning.tiles` takes them.

    Yields
    ------
    (int, int, array)
        First and last row within the band, and the rows.
    """
    for low, high in pieces(block.shape, blas.capacity_nbytes):
        part = in_unit_scale(blas, block[low:high, :], small)
        if small["features"] == "rows":
            tile = _rows(blas, part, small, at[0][0] + low, at[0][0] + high, acc)
        else:
            tile = _columns(blas, part, small)
        yield low, high, blas.cast(tile, small["dtype"])


def _wide(small: Small) -> np.dtype[Any]:
    return np.result_type(np.dtype(small["dtype"]), np.float64)


def in_unit_scale(blas: Blas, rows: Any, small: Small) -> Any:
    """Give rows in the scale in which their squares are in range.

    Parameters
    ----------
    blas : Blas
        Of the device.
    rows : array of the device
        As stored.
    small : mapping
        With ``unit_scale``, a power of two.

    Returns
    -------
    array of the device
        The rows, in double precision where they are scaled.
    """
    if small["unit_scale"] == 1:
        return rows
    return blas.cast(rows, _wide(small)) * float(small["unit_scale"])


def _absent(blas: Blas, rows: Any, small: Small) -> Any | None:
    """Say where NaN stands for what is missing; None where there can be no such."""
    if small["missing"] != "mean" or "int" in str(rows.dtype) or "bool" in str(rows.dtype):
        return None
    return blas.xp.isnan(rows)


def _columns(blas: Blas, rows: Any, small: Small) -> Any:
    """Subtract the shift; what is missing becomes the mean, which is `fill` after the shift."""
    dtype, absent = np.dtype(small["dtype"]), _absent(blas, rows, small)
    tile = blas.cast(rows, dtype)
    if small["shift"] is not None:
        tile = tile - blas.put(small["shift"].astype(dtype))
    if absent is None:
        return tile
    fill = np.broadcast_to(np.asarray(small["fill"]).astype(dtype), rows.shape[1:])
    return blas.xp.where(absent, blas.put(np.ascontiguousarray(fill))[None, :], tile)


def _rows(
    blas: Blas, rows: Any, small: Small, begin: int, end: int, acc: Accumulator | None
) -> Any:
    if small["scale"] is None and small["weights"] is None and small["missing"] == "raise":
        return _centred(blas, rows, small, begin, end, acc) if small["center"] else rows
    xp, absent = blas.xp, _absent(blas, rows, small)
    wide = blas.cast(rows, _wide(small))
    zeros = xp.zeros_like(wide)
    filled = wide if absent is None else xp.where(absent, zeros, wide)
    present = np.full(rows.shape[0], float(rows.shape[1]))
    if absent is not None:
        present -= blas.get(xp.sum(blas.cast(absent, np.float64), axis=1))
    present = np.maximum(present, 1)
    mean = blas.get(xp.sum(filled, axis=1)) / present
    deviation = filled - blas.put(mean)[:, None]
    if absent is not None:
        deviation = xp.where(absent, zeros, deviation)
    scale = np.ones(rows.shape[0])
    flat = np.zeros(rows.shape[0], bool)
    if isinstance(small["scale"], str):
        scale, flat = _deviations(blas, deviation, mean, present)
    elif small["scale"] is not None:
        scale = small["scale"][begin:end]
    factor = 1 / scale
    if small["weights"] is not None:
        factor = factor * small["weights"][begin:end]
    if acc is not None and "mean" in acc:
        acc["mean"][begin:end] = mean if small["center"] else 0
        acc["scale"][begin:end] = scale
    if small["center"]:
        factor = np.where(flat, 0, factor)
        return deviation * blas.put(np.ascontiguousarray(factor))[:, None]
    return (deviation + blas.put(mean)[:, None]) * blas.put(np.ascontiguousarray(factor))[:, None]


def _deviations(blas: Blas, deviation: Any, mean: Any, present: Any) -> tuple[Any, Any]:
    """Give the standard deviation of each row, and where it is nothing but rounding."""
    sizes = blas.xp.abs(deviation)
    largest = blas.get(blas.xp.max(sizes, axis=1))  # the squares of the rest are in range
    part = sizes * blas.put(1 / np.where(largest > 0, largest, 1))[:, None]
    scale = largest * np.sqrt(blas.get(blas.xp.sum(part * part, axis=1)) / present)
    flat = scale <= 32 * np.finfo(float).eps * np.abs(mean)
    return np.where(flat, 1, scale), flat


def _centred(
    blas: Blas, rows: Any, small: Small, begin: int, end: int, acc: Accumulator | None
) -> Any:
    """Subtract each row's mean; what the mean loses by rounding is subtracted after it."""
    dtype, columns = np.dtype(small["dtype"]), rows.shape[1]
    mean = blas.get(blas.xp.sum(blas.cast(rows, _wide(small)), axis=1)) / columns
    tile = blas.cast(rows, dtype) - blas.put(mean.astype(dtype))[:, None]
    rest = blas.get(blas.xp.sum(blas.cast(tile, _wide(small)), axis=1)) / columns
    tile = tile - blas.put(rest.astype(dtype))[:, None]
    if acc is not None and "mean" in acc:
        acc["mean"][begin:end] = mean
        acc["scale"][begin:end] = 1
    return tile
