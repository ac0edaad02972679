"""From what users have (paths, URLs, arrays of several libraries) to blocked arrays."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc import store
from leptonhpc.blocks import BlockedArray, BlockGrid, MemorySource, Region, StoredSource
from leptonhpc.blocks.persisted import PersistedArray
from leptonhpc.errors import DTypeError, NotAnArrayError, ShapeError


def open(source: Any, *, chunks: Any = None) -> BlockedArray:  # noqa: A001  (as xarray and zarr)
    """Open an array lazily.

    Parameters
    ----------
    source : str, path, URL, or array of zarr, obstore, xarray, dask, numpy or leptonhpc
        Where the values are. Nothing is read but metadata.
    chunks : tuple of int, optional
        Shape of the blocks that you see and that Dask gets; default: the storage units (shards
        where the array is sharded). Algorithms choose their own.

    Returns
    -------
    BlockedArray
        The array, of the stored dtype.

    Raises
    ------
    StoreError
        If nothing is there, or it cannot be reached.
    NotAnArrayError
        If what is there is not a Zarr array, or `source` is of another kind.
    DTypeError
        If it holds anything but numbers or booleans.

    Examples
    --------
    >>> import numpy as np
    >>> import leptonhpc as lh
    >>> lh.open(np.ones((4, 6))).shape
    (4, 6)
    """
    array = _opened(source)
    if chunks is None:
        return array
    shape = (chunks,) if isinstance(chunks, int) else tuple(chunks)
    return BlockedArray(array.source, BlockGrid.regular(array.shape, shape), dims=array.dims)


def info(source: Any) -> dict[str, Any]:
    """Describe an array: shape, dtype, bytes, storage units.

    Parameters
    ----------
    source : as for open
        The array.

    Returns
    -------
    dict
        As JSON can hold it.
    """
    array = open(source)
    result = {
        "name": array.name,
        "shape": list(array.shape),
        "dtype": str(array.dtype),
        "nbytes": array.nbytes,
        "unit": list(array.source.unit),
        "blocks": list(array.numblocks),
        "dims": None if array.dims is None else list(array.dims),
    }
    if isinstance(array.source, StoredSource):
        stored = array.source.array
        result["chunks"] = list(stored.chunks)
        result["sharded"] = stored.unit != stored.chunks
        result["attributes"] = stored.attributes
    return result


def _opened(source: Any) -> BlockedArray:
    if isinstance(source, BlockedArray):
        return source
    if isinstance(source, PersistedArray):
        values: Any = source
        return BlockedArray(MemorySource(values.compute()), source.grid)
    if isinstance(source, str | os.PathLike):
        return _stored(store.open_array(source))
    if isinstance(source, np.ndarray):
        _require_numbers(source.dtype, "the array")
        return BlockedArray(MemorySource(source))
    module = type(source).__module__.partition(".")[0]
    if module in ("zarr", "obstore") or store.is_store(source):
        return _stored(store.open_object(source))
    if module == "dask":
        return _from_dask(source)
    if module == "xarray":
        return _from_xarray(source)
    if hasattr(source, "__array__") or isinstance(source, list | tuple):
        return _opened(np.asarray(source))
    message = (
        "an array is a path, a URL, or an array of zarr, xarray, dask or numpy; found "
        f"{type(source).__name__}"
    )
    raise NotAnArrayError(message)


def _stored(array: store.StoredArray) -> BlockedArray:
    names = array.dimension_names
    dims = tuple(str(n) for n in names) if names and all(names) else None
    return BlockedArray(StoredSource(array), dims=dims)


class DaskSource:
    """A ``dask.array`` read block by block.

    Parameters
    ----------
    array : dask.array.Array
        The array.
    """

    shareable = True

    def __init__(self, array: Any) -> None:
        self.array = array
        if any(np.isnan(n) for lengths in array.chunks for n in lengths):
            message = "the dask array has unknown chunk sizes; call compute_chunk_sizes() first"
            raise ShapeError(message)
        self.shape = tuple(int(n) for n in array.shape)
        self.dtype = np.dtype(array.dtype)
        _require_numbers(self.dtype, "the dask array")
        self.unit = tuple(max(lengths) if lengths else 1 for lengths in array.chunks)
        self.name = f"dask array of shape {self.shape}"

    def read(self, region: Region, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Compute the values of a region on this thread."""
        import dask

        part = self.array[tuple(slice(*pair) for pair in region)]
        with dask.config.set(scheduler="synchronous"):
            value = np.asarray(part.compute(scheduler="synchronous"))
        if out is None:
            return np.array(value, order="C")
        out[...] = value
        return out

    def units_in(self, region: Region) -> int:
        """Count nothing: what a dask array reads is its own affair."""
        return 0

    def identity(self) -> dict[str, Any]:
        """Describe the array by Dask's token."""
        from dask.base import tokenize

        return {"dask": tokenize(self.array)}


def _from_dask(array: Any) -> BlockedArray:
    source = DaskSource(array)
    # chunks of length zero, which a selection leaves, hold nothing
    chunks = tuple(tuple(int(n) for n in c if n) or (0,) for c in array.chunks)
    return BlockedArray(source, BlockGrid(chunks))


def _from_xarray(array: Any) -> BlockedArray:
    if not hasattr(array, "dims") or hasattr(array, "data_vars"):
        message = f"one variable is needed; found {type(array).__name__}. Select it by name"
        raise NotAnArrayError(message)
    variable = getattr(array, "variable", array)
    inner = variable.chunks is not None
    base = _opened(variable.data) if inner else _opened(np.asarray(variable.values))
    return BlockedArray(base.source, base.grid, dims=tuple(map(str, array.dims)))


def _require_numbers(dtype: np.dtype[Any], what: str) -> None:
    if dtype.kind not in "biufc" or dtype.itemsize > 16 or dtype.char in "gG":
        message = f"{what} has dtype {dtype}; numbers of up to 64 bits or booleans are needed"
        raise DTypeError(message)
