"""How a shape is cut into blocks: integers in, integers out."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

from leptonhpc.errors import ShapeError

Region = tuple[tuple[int, int], ...]
"""Start and stop along each dimension."""


@dataclass(frozen=True)
class BlockGrid:
    """A cut of each dimension into consecutive blocks.

    Raises
    ------
    ShapeError
        If a length is negative, or zero in a dimension that is not empty.

    Examples
    --------
    >>> grid = BlockGrid.regular((10, 4), (4, 4))
    >>> grid.chunks
    ((4, 4, 2), (4,))
    >>> grid.region((2, 0))
    ((8, 10), (0, 4))
    """

    chunks: tuple[tuple[int, ...], ...]
    """Block lengths along each dimension, as Dask writes them."""

    def __post_init__(self) -> None:
        for axis, lengths in enumerate(self.chunks):
            if not lengths or min(lengths) < 0 or (0 in lengths and any(lengths)):
                message = f"blocks need positive lengths; axis {axis} has {lengths}"
                raise ShapeError(message)

    @classmethod
    def regular(cls, shape: Sequence[int], block: Sequence[int]) -> BlockGrid:
        """Cut every dimension into equal blocks, the last one as short as need be.

        Parameters
        ----------
        shape : sequence of int
            Shape of the array.
        block : sequence of int
            Shape of one block; longer than the array means one block.

        Returns
        -------
        BlockGrid
            The grid.
        """
        if len(shape) != len(block) or any(size < 1 for size in block):
            message = f"a block of shape {tuple(block)} does not fit an array of {tuple(shape)}"
            raise ShapeError(message)
        return cls(tuple(_cut(size, step) for size, step in zip(shape, block, strict=True)))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return tuple(sum(lengths) for lengths in self.chunks)

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.chunks)

    @property
    def numblocks(self) -> tuple[int, ...]:
        """Blocks along each dimension."""
        return tuple(len(lengths) for lengths in self.chunks)

    @property
    def size(self) -> int:
        """Number of blocks."""
        return prod(self.numblocks)

    @cached_property
    def bounds(self) -> tuple[tuple[int, ...], ...]:
        """Edges of the blocks along each dimension, from 0 to its size."""
        return tuple(tuple(itertools.accumulate(lengths, initial=0)) for lengths in self.chunks)

    def region(self, index: Sequence[int]) -> Region:
        """Give start and stop of one block.

        Parameters
        ----------
        index : sequence of int
            The block, one number per dimension.

        Returns
        -------
        tuple of (start, stop)
            Its place in the array.
        """
        return tuple((edges[i], edges[i + 1]) for edges, i in zip(self.bounds, index, strict=True))

    def indices(self) -> Iterator[tuple[int, ...]]:
        """Iterate over all blocks, the last dimension fastest."""
        return itertools.product(*(range(n) for n in self.numblocks))

    def block_of(self, position: Sequence[int]) -> tuple[int, ...]:
        """Give the block that holds one element.

        Parameters
        ----------
        position : sequence of int
            Global index of the element.

        Returns
        -------
        tuple of int
            Index of its block.
        """
        return tuple(
            bisect_right(edges, at) - 1 for edges, at in zip(self.bounds, position, strict=True)
        )

    def transposed(self) -> BlockGrid:
        """Give the grid with its dimensions reversed."""
        return BlockGrid(self.chunks[::-1])


def _cut(size: int, step: int) -> tuple[int, ...]:
    if size == 0:
        return (0,)
    whole, rest = divmod(size, step)
    return (step,) * whole + ((rest,) if rest else ())
