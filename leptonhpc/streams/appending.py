"""What the writer of a stream calls."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from leptonhpc import store
from leptonhpc.blocks.numbers import without_mask
from leptonhpc.errors import DTypeError, OptionError, ShapeError
from leptonhpc.store.appending import append_values
from leptonhpc.store.leasing import writer_lease

ENDED = "leptonhpc_stream_ended"
"""Attribute of an array that gets no more rows."""


def append(
    location: str | os.PathLike[str],
    values: Any,
    *,
    axis: int = 0,
    chunk_rows: int | None = None,
) -> int:
    """Append to a Zarr array; it is made if nothing is there.

    Parameters
    ----------
    location : str or path
        The array, a folder or URL.
    values : array-like
        At least one-dimensional; of the array's shape but along `axis`. They are cast to its dtype
        where that keeps them: floating-point numbers are rounded to a shorter floating-point dtype,
        integers go wherever each of them fits.
    axis : int
        The dimension that grows.
    chunk_rows : int, optional
        When the array is made: its chunks along `axis`; default: as many as are appended. Chunks
        are whole along the other dimensions.

    Returns
    -------
    int
        The length along `axis` now.

    Raises
    ------
    ShapeError
        If the shapes do not fit.
    OptionError
        If the array has no such axis.
    DTypeError
        If the array's dtype cannot hold the values (fractions or NaN in an array of integers,
        70000 in int16), some are masked, or they are no numbers; nothing is written.
    StoreError
        If the store fails, or another writer appends: in a folder nothing is written then; in an
        object store, which cannot keep a second writer out, rows of both may be lost.

    Notes
    -----
    The values are written before the shape, which is one object replaced atomically: a reader sees
    all of them or none, also if the writer is killed. What a killed writer left is written over.
    One writer at a time: in a folder the file ``.leptonhpc-writer`` keeps others out while rows are
    written. That of a dead process is taken over: of the same machine at once, of another one when
    it did not change for 90 seconds. A last chunk that is partly full is read and written anew:
    append whole chunks where each should be written once.

    Examples
    --------
    >>> import tempfile
    >>> import leptonhpc as lh
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     first = lh.streams.append(f"{folder}/x.zarr", [[1.0, 2.0]], chunk_rows=10)
    ...     lh.streams.append(f"{folder}/x.zarr", [[3.0, 4.0], [5.0, 6.0]])
    3
    """
    block = without_mask(values)
    axis = normal_axis(axis, block.ndim)
    if block.dtype.kind not in "biufc":
        raise DTypeError(f"streams are of numbers or booleans; found dtype {block.dtype}")
    if not store.exists(location):
        rows = chunk_rows if chunk_rows is not None else max(1, block.shape[axis])
        if isinstance(rows, bool) or not isinstance(rows, int | np.integer) or rows < 1:
            raise OptionError(f"chunk_rows is a whole number from 1; found {rows!r}")
        store.create_array(
            location,
            shape=[0 if i == axis else n for i, n in enumerate(block.shape)],
            dtype=block.dtype,
            chunks=[int(rows) if i == axis else max(1, n) for i, n in enumerate(block.shape)],
        )
    return append_values(location, block, axis=axis)


def end_stream(location: str | os.PathLike[str]) -> None:
    """Say that nothing more comes: watchers end when they have taken what is there.

    Parameters
    ----------
    location : str or path
        The array.

    Raises
    ------
    StoreError
        If nothing is there, or another writer appends: what it writes is part of the stream. End it
        when that one has ended.
    """
    store.open_array(location)  # what is no array says so, and gets no lease
    with writer_lease(location):
        store.update_attributes(location, {ENDED: True})


def normal_axis(axis: int, ndim: int) -> int:
    """Count an axis from the front.

    Parameters
    ----------
    axis : int
        From -ndim to ndim - 1.
    ndim : int
        Dimensions.

    Returns
    -------
    int
        Not negative.

    Raises
    ------
    ShapeError
        If there are no dimensions.
    OptionError
        If there is no such axis.
    """
    if not ndim:
        raise ShapeError("a stream grows along a dimension; a single number has none")
    whole = isinstance(axis, int | np.integer) and not isinstance(axis, bool)
    if not whole or not -ndim <= axis < ndim:
        raise OptionError(f"axis is from {-ndim} to {ndim - 1}; found {axis!r}")
    return int(axis) % ndim
