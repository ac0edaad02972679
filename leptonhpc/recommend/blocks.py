"""Blocks of sparse ratings: some rows, cut by the number of ratings, not of rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.integer[Any]]

MOST_RATINGS = 1 << 20
"""Of a block: 8 MB, and as many factors as it has columns."""
_LEAST_RATINGS = 1 << 15
"""Of a block: fewer are solved in less than a task costs."""
_BLOCKS = 64
"""As many are wanted, so that lanes end together."""


@dataclass(frozen=True, slots=True)
class RatingsBlock:
    """Ratings of some rows (users, or items), in compressed rows."""

    first: int
    """Number of its first row."""
    pointers: NDArray[np.int64]
    """(rows + 1,): where the ratings of each row begin."""
    indices: Integers
    """(ratings,): where each rating's column is in `columns`; ascending in a row."""
    values: NDArray[np.float32]
    """(ratings,)."""
    columns: Integers | None
    """(distinct columns,): ascending; None: `indices` are numbers of columns themselves."""

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.pointers) - 1

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        arrays = (self.pointers, self.indices, self.values, self.columns)
        return sum(array.nbytes for array in arrays if array is not None)

    def row(self, number: int) -> tuple[Integers, NDArray[np.float32]]:
        """Give the columns and values of one row.

        Parameters
        ----------
        number : int
            Of the row, counted over all blocks.

        Returns
        -------
        tuple of arrays
            Numbers of columns, ascending, and ratings.
        """
        part = slice(*self.pointers[number - self.first : number - self.first + 2])
        indices = self.indices[part]
        return (indices if self.columns is None else self.columns[indices]), self.values[part]


class Side(Protocol):
    """The ratings by their rows: users, or items."""

    @property
    def pointers(self) -> NDArray[np.int64]:
        """(rows + 1,): numbers of ratings before each row."""

    @property
    def edges(self) -> NDArray[np.int64]:
        """(blocks + 1,): first row of each block, and the number of rows."""

    @property
    def columns(self) -> NDArray[np.int64]:
        """(blocks,): distinct columns of each block."""

    def read(self, block: int) -> RatingsBlock:
        """Read one block."""


def ratings_per_block(count: int) -> int:
    """Say how many ratings a block should have.

    Parameters
    ----------
    count : int
        Ratings in all.

    Returns
    -------
    int
        For 64 blocks, but neither very small nor very large ones.

    Examples
    --------
    >>> ratings_per_block(100_000), ratings_per_block(10**7), ratings_per_block(10**9)
    (32768, 156250, 1048576)
    """
    return min(MOST_RATINGS, max(_LEAST_RATINGS, -(-count // _BLOCKS)))


def split_rows(pointers: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Cut rows into blocks of nearly equal numbers of ratings; no row is cut.

    Parameters
    ----------
    pointers : array of shape (rows + 1,), int64
        Numbers of ratings before each row.
    most : int
        Ratings of a block, and rows; one row may have more.

    Returns
    -------
    array of shape (blocks + 1,), int64
        First row of each block, and the number of rows.

    Examples
    --------
    >>> import numpy as np
    >>> split_rows(np.array([0, 5, 6, 7, 9, 20, 20]), 5)
    array([0, 1, 4, 5, 6])
    """
    rows, edges = len(pointers) - 1, [0]
    while edges[-1] < rows:
        first = edges[-1]
        end = int(np.searchsorted(pointers, pointers[first] + most, "right")) - 1
        edges.append(min(max(end, first + 1), first + most, rows))
    return np.array(edges, np.int64)
