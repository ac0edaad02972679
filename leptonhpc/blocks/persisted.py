"""Blocks that Dask holds in memory, and joining blocks into one array."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import numpy as np
from dask.base import DaskMethodsMixin
from dask.threaded import get as threaded_get
from numpy.typing import NDArray

from leptonhpc.blocks.grid import BlockGrid


def nested_keys(prefix: tuple[Any, ...], numblocks: tuple[int, ...]) -> Any:
    """Give the keys of all blocks, nested as the grid is."""
    if not numblocks:
        return prefix
    return [nested_keys((*prefix, i), numblocks[1:]) for i in range(numblocks[0])]


def join_blocks(results: Any, ndim: int) -> NDArray[Any]:
    """Give one array of nested blocks."""
    return np.asarray(results[0]) if ndim == 0 else _concatenated(results, 0, ndim)


def _concatenated(parts: Any, axis: int, depth: int) -> NDArray[Any]:
    if depth == 0:
        return np.asarray(parts)
    return np.concatenate([_concatenated(p, axis + 1, depth - 1) for p in parts], axis=axis)


def persisted(
    graph: Mapping[Hashable, Any],
    name: str,
    chunks: tuple[tuple[int, ...], ...],
    dtype: np.dtype[Any],
    rename: Mapping[str, str] | None = None,
) -> PersistedArray:
    """Hold the blocks that Dask computed."""
    blocks = {key[1:]: graph[key] for key in graph if isinstance(key, tuple) and key[0] == name}
    return PersistedArray(blocks, name, BlockGrid(chunks), dtype)


class PersistedArray(DaskMethodsMixin):
    """A blocked array whose blocks Dask holds in memory.

    Parameters
    ----------
    blocks : mapping
        Block index to value or future.
    name : str
        Prefix of the keys.
    grid : BlockGrid
        The blocks.
    dtype : dtype
        Of the values.
    """

    def __init__(
        self, blocks: Mapping[Any, Any], name: str, grid: BlockGrid, dtype: np.dtype[Any]
    ) -> None:
        self._blocks, self._name, self.grid, self.dtype = dict(blocks), name, grid, dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self.grid.shape

    def __dask_graph__(self) -> Mapping[Hashable, Any]:
        """Give the blocks by key."""
        return {(self._name, *index): value for index, value in self._blocks.items()}

    def __dask_keys__(self) -> list[Any]:
        """Give the keys, nested as the grid is."""
        keys = nested_keys((self._name,), self.grid.numblocks)
        return keys if isinstance(keys, list) else [keys]

    __dask_scheduler__ = staticmethod(threaded_get)

    @classmethod
    def __dask_optimize__(cls, graph: Any, keys: Any, **_: Any) -> Any:
        """Leave the graph as it is: it holds values."""
        return graph

    def __dask_postcompute__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Join the blocks into one NumPy array."""
        return join_blocks, (len(self.shape),)

    def __dask_postpersist__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Keep the blocks in memory."""
        return persisted, (self._name, self.grid.chunks, self.dtype)
