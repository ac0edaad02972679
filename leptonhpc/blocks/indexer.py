"""The blocks of an array, by index."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from leptonhpc.errors import ShapeError

if TYPE_CHECKING:
    from leptonhpc.blocks.array import BlockedArray


class BlockIndexer:
    """Blocks of an array by index.

    Parameters
    ----------
    array : BlockedArray
        The array.
    """

    def __init__(self, array: BlockedArray) -> None:
        self._array = array

    def __getitem__(self, index: Any) -> BlockedArray:
        """Give one block as an array."""
        at = index if isinstance(index, tuple) else (index,)
        counts = self._array.numblocks
        if len(at) != len(counts) or not all(isinstance(i, int | np.integer) for i in at):
            message = f"a block has {len(counts)} whole numbers as index; found {index!r}"
            raise ShapeError(message)
        at = tuple(i + n if i < 0 else i for i, n in zip(at, counts, strict=True))
        if not all(0 <= i < n for i, n in zip(at, counts, strict=True)):
            message = f"there are {counts} blocks; found {index!r}"
            raise IndexError(message)
        region = self._array.grid.region(at)
        return self._array[tuple(slice(*pair) for pair in region)]
