"""Ratings in Zarr: each block is whole storage units of its own, written once and read at once.

The arrays have one row for each block, as wide as the largest one; what a block does not fill is
not stored. A block names its distinct columns once, and its ratings refer to them: what it needs of
the other side's factors is known without looking at the ratings.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc import store
from leptonhpc.recommend.blocks import RatingsBlock
from leptonhpc.store import StoredArray
from leptonhpc.store.locations import Location

_UNIT = 1 << 17
"""Numbers in a storage unit: half a megabyte."""


class StoredSide:
    """The ratings by users, or by items, in a Zarr group.

    Parameters
    ----------
    location : str or path
        The group.
    """

    def __init__(self, location: Location) -> None:
        self.location = location

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the place only."""
        return StoredSide, (self.location,)

    @cached_property
    def pointers(self) -> NDArray[np.int64]:
        """(rows + 1,): numbers of ratings before each row."""
        return read_whole(store.join(self.location, "pointers"))

    @cached_property
    def edges(self) -> NDArray[np.int64]:
        """(blocks + 1,): first row of each block, and the number of rows."""
        return read_whole(store.join(self.location, "edges"))

    @cached_property
    def columns(self) -> NDArray[np.int64]:
        """(blocks,): distinct columns of each block."""
        return read_whole(store.join(self.location, "column_counts"))

    @cached_property
    def _arrays(self) -> dict[str, StoredArray]:
        names = ("pointers", "indices", "values", "columns")
        return {name: store.open_array(store.join(self.location, name)) for name in names}

    def read(self, block: int) -> RatingsBlock:
        """Read one block; each of its storage units once.

        Parameters
        ----------
        block : int
            Its number.

        Returns
        -------
        RatingsBlock
            The ratings.

        Raises
        ------
        StoreError
            If the store fails, or a chunk cannot be decoded.
        """
        first, end = map(int, self.edges[block : block + 2])
        pointers = self._arrays["pointers"].read(((first, end + 1),))
        count = int(pointers[-1] - pointers[0])

        def part(name: str, length: int) -> NDArray[Any]:
            found: NDArray[Any] = self._arrays[name].read(((block, block + 1), (0, length)))[0]
            return found

        columns = part("columns", int(self.columns[block]))
        return RatingsBlock(
            first, pointers - pointers[0], part("indices", count), part("values", count), columns
        )

    def read_columns(self, block: int) -> NDArray[np.int64]:
        """Read which columns a block has, and nothing else of it.

        Parameters
        ----------
        block : int
            Its number.

        Returns
        -------
        array of shape (distinct columns,), int64
            Ascending.
        """
        region = ((block, block + 1), (0, int(self.columns[block])))
        columns: NDArray[np.int64] = self._arrays["columns"].read(region)[0]
        return columns

    def identity(self) -> dict[str, Any]:
        """Describe the arrays so that a change of them is noticed."""
        return {name: array.identity() for name, array in self._arrays.items()}


class SideWriter:
    """Makes such a group, block after block.

    Parameters
    ----------
    location : str or path
        The group, which is created.
    edges : array of shape (blocks + 1,), int64
        First row of each block, and the number of rows.
    widest : int
        Ratings of the largest block, or more.
    """

    def __init__(self, location: Location, edges: NDArray[np.int64], widest: int) -> None:
        self.location, self.edges = location, edges
        store.create_group(location)
        shape = (max(1, len(edges) - 1), max(1, widest))
        self._arrays = {
            name: store.create_array(
                store.join(location, name), shape=shape, dtype=dtype,
                chunks=(1, min(_UNIT, shape[1])),
            )
            for name, dtype in (("indices", "i4"), ("values", "f4"), ("columns", "i8"))
        }  # fmt: skip
        self._lengths = np.zeros(int(edges[-1]), np.int64)
        self._columns = np.zeros(shape[0], np.int64)

    def write(
        self, block: int, rows: NDArray[np.int64], columns: NDArray[np.int64],
        values: NDArray[np.float32],
    ) -> None:  # fmt: skip
        """Write one block.

        Parameters
        ----------
        block : int
            Its number.
        rows, columns : array of shape (ratings,), int64
            Of each rating, sorted by row, then column, all different.
        values : array of shape (ratings,), float32
            The ratings.
        """
        first, end = self.edges[block : block + 2]
        self._lengths[first:end] = np.bincount(rows - first, minlength=end - first)
        distinct, indices = np.unique(columns, return_inverse=True)
        self._columns[block] = len(distinct)
        for name, data in (("indices", indices), ("values", values), ("columns", distinct)):
            self._write_row(self._arrays[name], block, data)

    def close(self) -> None:
        """Write what is known when all blocks are there."""
        pointers = np.concatenate([[0], np.cumsum(self._lengths)])
        write_whole(store.join(self.location, "pointers"), pointers.astype(np.int64))
        write_whole(store.join(self.location, "edges"), self.edges)
        write_whole(store.join(self.location, "column_counts"), self._columns)

    @staticmethod
    def _write_row(array: StoredArray, block: int, data: NDArray[Any]) -> None:
        unit, width = array.unit[1], array.shape[1]
        for number, begin in enumerate(range(0, len(data), unit)):
            piece = np.zeros((1, min(unit, width - begin)), array.dtype)
            part = data[begin : begin + unit]
            piece[0, : len(part)] = part
            array.write_units((block, number), piece)


def write_whole(location: Location, values: NDArray[Any]) -> None:
    """Write an array that is in memory, in storage units of whole rows.

    Parameters
    ----------
    location : str or path
        Where; nothing may be there.
    values : array of shape (rows, ...)
        What.
    """
    width = int(np.prod(values.shape[1:], dtype=np.int64))
    rows = max(1, min(len(values), _UNIT // max(1, width)))
    array = store.create_array(
        location, shape=values.shape, dtype=values.dtype, chunks=(rows, *values.shape[1:])
    )
    for number, begin in enumerate(range(0, len(values), rows)):
        index = (number,) + (0,) * (values.ndim - 1)
        array.write_units(index, values[begin : begin + rows])


def read_whole(location: Location) -> NDArray[Any]:
    """Read an array into memory.

    Parameters
    ----------
    location : str or path
        Where it is.

    Returns
    -------
    array
        All of it.
    """
    array = store.open_array(location)
    return array.read(tuple((0, n) for n in array.shape))
