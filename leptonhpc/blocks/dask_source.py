"""A dask array as a source: blocks of it are computed when they are read."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.blocks.grid import Region
from leptonhpc.blocks.numbers import on_host, require_numbers, without_mask
from leptonhpc.errors import DTypeError, ShapeError


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
        self._edges = [np.cumsum((0, *lengths)) for lengths in array.chunks]

    def read(self, region: Region, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Compute the values of a region on this thread, of whole blocks.

        Parameters
        ----------
        region : tuple of (start, stop)
            One pair per dimension.
        out : array, optional
            To read into.

        Returns
        -------
        array of the region's shape
            `out`, or a new array.

        Raises
        ------
        ShapeError, DTypeError
            If a block is not what the dask array says that it is.
        """
        import dask
        from dask.base import optimize
        from dask.core import flatten
        from dask.local import get_sync

        if out is None:
            out = np.empty([stop - start for start, stop in region], self.dtype)
        if not out.size:
            return out
        spans = [
            range(np.searchsorted(edges, start, "right") - 1, np.searchsorted(edges, stop))
            for edges, (start, stop) in zip(self._edges, region, strict=True)
        ]
        with dask.config.set(scheduler="synchronous"):
            (blocks,) = optimize(self._blocks_of(spans))
            # each for itself: joined, or cut, they would not be seen to be of another shape
            values = get_sync(blocks.__dask_graph__(), list(flatten(blocks.__dask_keys__())))
        for index, value in zip(itertools.product(*spans), values, strict=True):
            pairs = [(e[i], e[i + 1]) for i, e in zip(index, self._edges, strict=True)]
            inside, place = [], []
            for (low, high), (start, stop) in zip(pairs, region, strict=True):
                begin, end = max(low, start), min(high, stop)
                inside.append(slice(begin - low, end - low))
                place.append(slice(begin - start, end - start))
            out[tuple(place)] = self._checked(value, index, pairs)[tuple(inside)]
        return out

    def _blocks_of(self, spans: list[range]) -> Any:
        if hasattr(self.array, "blocks"):
            return self.array.blocks[tuple(slice(span.start, span.stop) for span in spans)]
        edges = zip(self._edges, spans, strict=True)  # an array of expressions has but its indices
        return self.array[tuple(slice(int(e[s.start]), int(e[s.stop])) for e, s in edges)]

    def _checked(self, value: Any, index: tuple[int, ...], pairs: list[Any]) -> NDArray[Any]:
        """Give a block if it is what the array says, which Dask does not ask."""
        try:
            block = without_mask(on_host(value))
        except (TypeError, ValueError) as error:
            message = f"block {index} of the dask array is no array of numbers: {error}"
            raise DTypeError(message) from error
        shape = tuple(int(high - low) for low, high in pairs)
        if block.shape != shape:
            message = (
                f"block {index} of the dask array has shape {block.shape}, and its chunks say "
                f"{shape}. Say what is true: map_blocks(..., chunks=...)"
            )
            raise ShapeError(message)
        if not np.can_cast(block.dtype, self.dtype, "safe"):
            message = (
                f"block {index} of the dask array has dtype {block.dtype}, and the array says "
                f"{self.dtype}, which cannot hold that. Say what is true: "
                "map_blocks(..., dtype=...)"
            )
            raise DTypeError(message)
        return block

    def units_in(self, region: Region) -> int:
        """Count nothing: what a dask array reads is its own affair."""
        return 0

    def identity(self) -> dict[str, Any]:
        """Describe the array by Dask's token."""
        from dask.base import tokenize

        return {"dask": tokenize(self.array)}
