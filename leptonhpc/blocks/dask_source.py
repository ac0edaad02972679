"""A dask array as a source: blocks of it are computed when they are read."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.blocks.grid import Region
from leptonhpc.blocks.numbers import on_host, require_numbers, without_mask


class DaskSource:
    """A ``dask.array`` read block by block.

    Parameters
    ----------
    array : dask.array.Array
        The array.

    Warns
    -----
    UserWarning
        If sizes of chunks are unknown: all is computed, chunk by chunk, to find them.
    """

    shareable = True
    name = "dask array"

    def __init__(self, array: Any) -> None:
        if any(np.isnan(n) for lengths in array.chunks for n in lengths):
            message = (
                "the dask array has chunks of unknown sizes: it is computed once to find them. "
                "compute_chunk_sizes() does so for all that follows"
            )
            warnings.warn(message, UserWarning, stacklevel=2)
            array = array.copy()  # the user's own stays as it is
            array.compute_chunk_sizes()
        self.array = array
        self.shape = tuple(int(n) for n in array.shape)
        self.dtype = np.dtype(array.dtype)
        require_numbers(self.dtype, "the dask array")
        self.unit = tuple(max(lengths) if lengths else 1 for lengths in array.chunks)

    def read(self, region: Region, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Compute the values of a region on this thread."""
        import dask

        part = self.array[tuple(slice(*pair) for pair in region)]
        with dask.config.set(scheduler="synchronous"):
            value = without_mask(on_host(part.compute(scheduler="synchronous")))
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
