"""Rows appended to an array so that no reader ever sees some of them half written.

The values are written first, into chunks that the array does not reach yet, and a last chunk that
is only partly full is written anew, whole. Only then the array's metadata, one object that is
replaced atomically, get the new shape. A lease keeps a second writer out; where a store cannot
make that safe (see `leasing`), it is noticed afterwards.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from leptonhpc.errors import DTypeError, ShapeError, StoreError
from leptonhpc.store.leasing import writer_lease
from leptonhpc.store.locations import Location, describe, store_errors
from leptonhpc.store.opening import opened
from leptonhpc.store.retrying import retried


def append_values(location: Location, values: NDArray[Any], *, axis: int) -> int:
    """Append values along one dimension of a stored array.

    Parameters
    ----------
    location : str, path or zarr store
        The array.
    values : array
        Of the array's shape but along `axis`; cast to its dtype, if that keeps the numbers.
    axis : int
        The dimension, not negative.

    Returns
    -------
    int
        The new length along `axis`.

    Raises
    ------
    ShapeError
        If the shapes do not fit.
    DTypeError
        If the dtype of the array cannot hold the values; nothing is written.
    StoreError
        If the store fails, or another process appends: then nothing is written; or somebody changed
        the array's shape while this wrote, as only a writer without `append` can, or one where a
        store knows no conditions: then rows may be lost.
    """
    opened(location, True, "")  # what is no array says so, and gets no lease
    with writer_lease(location):
        return _append_alone(location, values, axis)


def _append_alone(location: Location, values: NDArray[Any], axis: int) -> int:
    array = opened(location, True, "")
    old = array.shape
    if len(old) != values.ndim or _without(old, axis) != _without(values.shape, axis):
        message = (
            f"{describe(location)!r} has shape {old}: what is appended along axis {axis} has the "
            f"same but there; found {values.shape}"
        )
        raise ShapeError(message)
    block = _cast(describe(location), values, array.dtype, axis)
    length: int = old[axis] + values.shape[axis]
    shape = (*old[:axis], length, *old[axis + 1 :])
    place = tuple(slice(old[axis], None) if i == axis else slice(None) for i in range(len(old)))
    grown = _as_if_of(array, shape)
    with store_errors(location):
        retried(lambda: grown.__setitem__(place, block))
    now = opened(location, True, "")
    if now.shape != old:
        message = (
            f"{describe(location)!r} got shape {now.shape} while rows were written after those of "
            f"{old}: a stream has one writer at a time. The shape was left as it is, but rows from "
            f"{old[axis]} on may be of either writer: compare them with what was appended"
        )
        raise StoreError(message)
    with store_errors(location):
        retried(lambda: now.resize(shape))
    return length


def _cast(name: str, values: NDArray[Any], dtype: np.dtype[Any], axis: int) -> NDArray[Any]:
    """Cast to the dtype of the array, or name the first row that it would not keep."""
    if not values.size or values.dtype == dtype:
        return values.astype(dtype, copy=False)
    whole = values.dtype.kind in "biu" and dtype.kind in "iu"  # then the numbers decide
    row = 0
    if whole or np.can_cast(values.dtype, dtype, "same_kind"):
        with np.errstate(all="ignore"):  # what overflows is found below
            cast = values.astype(dtype)
            lost = np.argwhere(_lost(values, cast))
        if not len(lost):
            return cast
        row = int(lost[:, axis].min())
    first = np.array2string(np.take(values, [row], axis=axis).ravel(), threshold=8, edgeitems=2)
    message = (
        f"{name!r} holds {dtype}, which cannot keep the {values.dtype} numbers that are appended: "
        f"row {row} of them is {first}. Nothing was "
        "appended; round or scale them yourself, or make the stream of another dtype"
    )
    raise DTypeError(message)


def _lost(values: NDArray[Any], cast: NDArray[Any]) -> Any:
    """Say which integers do not come back, and which finite numbers became infinite."""
    if values.dtype.kind in "biu":
        back = cast.astype(values.dtype)
        return (back != values) | ((cast < 0) != (values < 0))  # -1 comes back from uint64
    if values.dtype.kind in "fc":
        return np.isfinite(values) & ~np.isfinite(cast)
    return np.zeros(values.shape, bool)


def _as_if_of(array: zarr.Array[Any], shape: tuple[int, ...]) -> zarr.Array[Any]:
    """Give the array as if it had another shape; what is stored does not tell of it."""
    inner = array.async_array
    metadata = inner.metadata.update_shape(shape)
    grown: Any = zarr.AsyncArray(
        metadata=metadata, store_path=inner.store_path, config=inner.config
    )
    return zarr.Array(grown)


def _without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return shape[:axis] + shape[axis + 1 :]
