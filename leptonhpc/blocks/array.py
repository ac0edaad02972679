"""`BlockedArray`: a lazy array that is read block by block, and a Dask collection."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from math import prod
from numbers import Number
from typing import TYPE_CHECKING, Any

import numpy as np
from dask.base import DaskMethodsMixin, tokenize
from dask.task_spec import Task
from dask.threaded import get as threaded_get
from numpy.typing import NDArray

from leptonhpc.blocks.dask_source import DaskSource
from leptonhpc.blocks.drawing import draw_html, draw_text
from leptonhpc.blocks.grid import BlockGrid, Region
from leptonhpc.blocks.indexer import BlockIndexer
from leptonhpc.blocks.namespace import array_namespace
from leptonhpc.blocks.persisted import join_blocks, nested_keys, persisted
from leptonhpc.blocks.sources import (
    ElementwiseSource,
    MemorySource,
    ProductSource,
    ReshapedSource,
    SlicedSource,
    Source,
    TransposedSource,
)
from leptonhpc.errors import ShapeError

if TYPE_CHECKING:
    import dask.array
    import xarray

_BLOCK_NBYTES = 64 << 20  # of a default block over a source without storage units


class BlockedArray(DaskMethodsMixin):
    """An array cut into blocks, read lazily from its source.

    Parameters
    ----------
    source : Source
        What gives the values of a region.
    grid : BlockGrid, optional
        The blocks; default: the source's storage units.
    dims : sequence of str, optional
        Names of the dimensions.

    Notes
    -----
    A Dask collection: ``dask.compute(x)``, ``x.compute()`` and ``x.persist()`` work, one task per
    block. Algorithms choose their own blocks; the grid is what the user sees and Dask gets.
    """

    def __init__(
        self, source: Source, grid: BlockGrid | None = None, *, dims: Sequence[str] | None = None
    ) -> None:
        self.source = source
        self.grid = grid if grid is not None else _default_grid(source)
        if self.grid.shape != tuple(source.shape):
            message = (
                f"a grid of shape {self.grid.shape} does not fit {source.name}: {source.shape}"
            )
            raise ShapeError(message)
        self.dims = tuple(dims) if dims is not None else None

    __array_ufunc__ = None
    """NumPy arrays leave their operators with a blocked array to it."""
    __array_namespace__ = array_namespace

    # -- what it is

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return tuple(self.source.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the values."""
        return self.source.dtype

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all values."""
        return self.size * self.dtype.itemsize

    @property
    def chunks(self) -> tuple[tuple[int, ...], ...]:
        """Block lengths along each dimension, as Dask writes them."""
        return self.grid.chunks

    @property
    def numblocks(self) -> tuple[int, ...]:
        """Blocks along each dimension."""
        return self.grid.numblocks

    @property
    def name(self) -> str:
        """Where the values come from."""
        return self.source.name

    def __len__(self) -> int:
        """Length of the first dimension."""
        return self.shape[0]

    def __repr__(self) -> str:
        """Show shape, dtype, blocks and a drawing of the grid."""
        return draw_text(self)

    def _repr_html_(self) -> str:
        return draw_html(self)

    # -- the values

    def read(self, region: Region) -> NDArray[Any]:
        """Read one region into memory.

        Parameters
        ----------
        region : tuple of (start, stop)
            One pair per dimension.

        Returns
        -------
        ndarray
            The values.
        """
        return self.source.read(region)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Read the whole array into memory."""
        whole = self.read(tuple((0, n) for n in self.shape))
        return whole if dtype is None else whole.astype(dtype, copy=False)

    # -- expressions

    @property
    def T(self) -> BlockedArray:  # noqa: N802  (the array API's name)
        """The matrix with rows and columns exchanged."""
        return self._transposed(conjugate=False)

    @property
    def H(self) -> BlockedArray:  # noqa: N802
        """The matrix transposed and conjugated."""
        return self._transposed(conjugate=self.dtype.kind == "c")

    def _transposed(self, *, conjugate: bool) -> BlockedArray:
        if self.ndim != 2:
            message = f"only matrices are transposed; {self.name} has shape {self.shape}"
            raise ShapeError(message)
        source = self.source
        if isinstance(source, TransposedSource) and source.conjugate == conjugate:
            return BlockedArray(source.base, self.grid.transposed())
        return BlockedArray(TransposedSource(source, conjugate), self.grid.transposed())

    def as_matrix(self) -> BlockedArray:
        """See an N-dimensional array as its first axis by all others together.

        Returns
        -------
        BlockedArray
            A matrix of shape (n0, n1 * n2 * ...).
        """
        return self if self.ndim == 2 else BlockedArray(ReshapedSource(self.source))

    def __getitem__(self, key: Any) -> BlockedArray:
        """Select a contiguous part by slices without steps."""
        keys = key if isinstance(key, tuple) else (key,)
        if len(keys) > self.ndim or not all(isinstance(k, slice) for k in keys):
            message = f"a blocked array is cut by up to {self.ndim} slices; found {key!r}"
            raise ShapeError(message)
        keys += (slice(None),) * (self.ndim - len(keys))
        region = []
        for part, size in zip(keys, self.shape, strict=True):
            start, stop, step = part.indices(size)
            if step != 1:
                message = f"a blocked array is cut by slices without steps; found {key!r}"
                raise ShapeError(message)
            region.append((start, max(start, stop)))
        chunks = tuple(
            _cut_lengths(edges, *pair) for edges, pair in zip(self.grid.bounds, region, strict=True)
        )
        return BlockedArray(
            SlicedSource(self.source, tuple(region)), BlockGrid(chunks), dims=self.dims
        )

    @property
    def blocks(self) -> BlockIndexer:
        """Select blocks by their index: ``x.blocks[2, 0]`` is a BlockedArray of one block."""
        return BlockIndexer(self)

    def __add__(self, other: Any) -> Any:
        """Add an array of the same shape, or a number."""
        return self._combined("+", self, other)

    def __radd__(self, other: Any) -> Any:
        """Add to a number."""
        return self._combined("+", other, self)

    def __sub__(self, other: Any) -> Any:
        """Subtract an array of the same shape, or a number."""
        return self._combined("-", self, other)

    def __rsub__(self, other: Any) -> Any:
        """Subtract from a number."""
        return self._combined("-", other, self)

    def __mul__(self, other: Any) -> Any:
        """Multiply element by element, or by a number."""
        return self._combined("*", self, other)

    def __rmul__(self, other: Any) -> Any:
        """Multiply a number."""
        return self._combined("*", other, self)

    def __matmul__(self, other: Any) -> BlockedArray:
        """Form the matrix product lazily; `leptonhpc.matmul` computes it once and keeps it."""
        other = _operand(other)
        if not isinstance(other, BlockedArray):
            return NotImplemented
        if self.ndim != 2 or other.ndim != 2 or self.shape[1] != other.shape[0]:
            message = f"cannot multiply {self.shape} by {other.shape}: inner lengths must agree"
            raise ShapeError(message)
        grid = BlockGrid((self.chunks[0], other.chunks[1]))
        return BlockedArray(ProductSource(self.source, other.source), grid)

    def __rmatmul__(self, other: Any) -> BlockedArray:
        """Form the product with a NumPy array on the left, lazily."""
        left = _operand(other)
        if not isinstance(left, BlockedArray):
            return NotImplemented
        product: BlockedArray = left @ self
        return product

    def _combined(self, operation: Any, left: Any, right: Any) -> Any:
        left, right = _operand(left), _operand(right)
        for side in (left, right):
            if not isinstance(side, BlockedArray | Number):
                return NotImplemented
            if isinstance(side, BlockedArray) and side.shape != self.shape:
                message = f"shapes must be equal for {operation}: {left.shape} and {right.shape}"
                raise ShapeError(message)
        terms = [x.source if isinstance(x, BlockedArray) else x for x in (left, right)]
        return BlockedArray(ElementwiseSource(operation, *terms), self.grid, dims=self.dims)

    # -- Dask

    def __dask_graph__(self) -> Mapping[Hashable, Any]:
        """Give one task per block."""
        name = self._dask_name
        return {
            (name, *index): Task((name, *index), _read_block, self.source, self.grid.region(index))
            for index in self.grid.indices()
        }

    @property
    def _dask_name(self) -> str:
        return f"blocked-{tokenize(self)}"

    def __dask_keys__(self) -> list[Any]:
        """Give the keys, nested as the grid is."""
        keys = nested_keys((self._dask_name,), self.numblocks)
        return keys if isinstance(keys, list) else [keys]

    def __dask_tokenize__(self) -> Any:
        """Give what makes two arrays the same."""
        return type(self).__name__, self.source.identity(), self.chunks

    __dask_scheduler__ = staticmethod(threaded_get)

    @classmethod
    def __dask_optimize__(cls, graph: Any, keys: Any, **_: Any) -> Any:
        """Leave the graph as it is: every task is one read."""
        return graph

    def __dask_postcompute__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Join the blocks into one NumPy array."""
        return join_blocks, (self.ndim,)

    def __dask_postpersist__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Keep the blocks in memory, as a Dask array."""
        return persisted, (self._dask_name, self.chunks, self.dtype)

    @classmethod
    def from_dask(cls, array: dask.array.Array) -> BlockedArray:
        """Give a ``dask.array`` as a blocked one; its blocks are computed when they are read.

        Parameters
        ----------
        array : dask.array.Array
            Numbers. Where sizes of chunks are unknown it is computed once to find them.

        Returns
        -------
        BlockedArray
            With the same chunks, but for empty ones.

        Raises
        ------
        DTypeError
            If it does not hold numbers.
        """
        source = DaskSource(array)
        # chunks of length zero, which a selection leaves, hold nothing
        chunks = tuple(tuple(int(n) for n in c if n) or (0,) for c in source.array.chunks)
        return cls(source, BlockGrid(chunks))

    def to_dask(self) -> dask.array.Array:
        """Give a ``dask.array`` with the same blocks.

        Returns
        -------
        dask.array.Array
            Lazy; each block is one read.
        """
        import dask.array as da

        array: dask.array.Array = da.map_blocks(
            _read_by_location,
            chunks=self.chunks,
            dtype=self.dtype,
            meta=np.empty((0,) * self.ndim, self.dtype),
            source=_Opaque(self.source),
        )
        return array

    def to_xarray(self, name: str | None = None) -> xarray.DataArray:
        """Give an ``xarray.DataArray`` over `to_dask`.

        Parameters
        ----------
        name : str, optional
            The variable's name.

        Returns
        -------
        xarray.DataArray
            Lazy, with this array's dimension names.
        """
        import xarray as xr

        return xr.DataArray(self.to_dask(), dims=self.dims, name=name)


class _Opaque:
    """Keeps Dask from looking into a source."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def __dask_tokenize__(self) -> Any:
        return self.source.identity()


def _operand(value: Any) -> Any:
    """Take a NumPy array as a blocked one, and its scalars as numbers."""
    if isinstance(value, np.ndarray) and value.ndim:
        return BlockedArray(MemorySource(value))
    return value.item() if isinstance(value, np.ndarray | np.generic) else value


def _default_grid(source: Source) -> BlockGrid:
    if not source.shape:
        return BlockGrid(())
    unit = list(source.unit)
    if isinstance(source, MemorySource):
        row = max(1, prod(source.shape[1:]) * source.dtype.itemsize)
        unit = [max(1, _BLOCK_NBYTES // row), *(max(1, n) for n in source.shape[1:])]
    unit = [max(1, min(u, n)) if n else 1 for u, n in zip(unit, source.shape, strict=True)]
    return BlockGrid.regular(source.shape, unit[: len(source.shape)])


def _cut_lengths(edges: tuple[int, ...], start: int, stop: int) -> tuple[int, ...]:
    inner = [start, *(e for e in edges if start < e < stop), stop]
    lengths = tuple(b - a for a, b in zip(inner, inner[1:], strict=False))
    return lengths or (0,)


def _read_block(source: Source, region: Region) -> NDArray[Any]:
    return source.read(region)


def _read_by_location(source: _Opaque, block_info: Any = None) -> NDArray[Any]:
    return source.source.read(tuple(map(tuple, block_info[None]["array-location"])))
