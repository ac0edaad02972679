"""Ratings that are in memory as a sparse matrix."""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.recommend.blocks import RatingsBlock, split_rows


class MemorySide:
    """Rows of a matrix in compressed rows.

    Parameters
    ----------
    matrix : scipy.sparse.csr_array
        Of float32, canonical: columns ascend in each row.
    most : int
        Ratings of a block.
    """

    def __init__(self, matrix: Any, most: int) -> None:
        self._indices, self._values = matrix.indices, matrix.data
        self._width = matrix.shape[1]
        self.pointers: NDArray[np.int64] = matrix.indptr.astype(np.int64)
        self.edges = split_rows(self.pointers, most)

    @property
    def columns(self) -> NDArray[np.int64]:
        """Give the distinct columns of each block, at most."""
        ratings = np.diff(self.pointers[self.edges])
        found: NDArray[np.int64] = np.minimum(ratings, self._width).astype(np.int64)
        return found

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the ratings, shortened."""
        found = hashlib.sha256()
        for array in (self.pointers, self._indices, self._values):
            found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()[:16]

    def read(self, block: int) -> RatingsBlock:
        """Give one block; its arrays are views."""
        first, end = self.edges[block : block + 2]
        pointers = self.pointers[first : end + 1]
        part = slice(pointers[0], pointers[-1])
        return RatingsBlock(
            int(first), pointers - pointers[0], self._indices[part], self._values[part], None
        )


def packed(block: RatingsBlock) -> RatingsBlock:
    """Give a block that names only the columns that it has, as it is sent to a worker.

    Parameters
    ----------
    block : RatingsBlock
        With or without `columns`.

    Returns
    -------
    RatingsBlock
        With them.
    """
    if block.columns is not None:
        return block
    columns, indices = np.unique(block.indices, return_inverse=True)
    return RatingsBlock(
        block.first, block.pointers, indices.astype(np.int32), block.values, columns
    )
