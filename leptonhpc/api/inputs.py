"""From what users have (paths, URLs, arrays of several libraries) to blocked arrays."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from leptonhpc import store
from leptonhpc.blocks import BlockedArray, BlockGrid, MemorySource, StoredSource
from leptonhpc.blocks.numbers import on_host, require_numbers, without_mask
from leptonhpc.blocks.persisted import PersistedArray
from leptonhpc.errors import NotAnArrayError


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
        require_numbers(source.dtype, "the array")
        return BlockedArray(MemorySource(without_mask(source)))
    module = type(source).__module__.partition(".")[0]
    if module in ("zarr", "obstore") or store.is_store(source):
        return _stored(store.open_object(source))
    if module == "dask":
        return BlockedArray.from_dask(source)
    if module == "xarray":
        return _from_xarray(source)
    if hasattr(source, "__array__") or isinstance(source, list | tuple):
        return _opened(np.asarray(on_host(source)))
    message = (
        "an array is a path, a URL, or an array of zarr, xarray, dask or numpy; found "
        f"{type(source).__name__}"
    )
    raise NotAnArrayError(message)


def _stored(array: store.StoredArray) -> BlockedArray:
    names = array.dimension_names
    dims = tuple(str(n) for n in names) if names and all(names) else None
    return BlockedArray(StoredSource(array), dims=dims)


def _from_xarray(array: Any) -> BlockedArray:
    if not hasattr(array, "dims") or hasattr(array, "data_vars"):
        message = f"one variable is needed; found {type(array).__name__}. Select it by name"
        raise NotAnArrayError(message)
    variable = getattr(array, "variable", array)
    inner = variable.chunks is not None
    base = _opened(variable.data) if inner else _opened(np.asarray(variable.values))
    return BlockedArray(base.source, base.grid, dims=tuple(map(str, array.dims)))
