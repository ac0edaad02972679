"""Ratings sorted outside of memory: spilled as they come, dealt to buckets, sorted there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from leptonhpc.errors import OptionError

Duplicates = Literal["refuse", "last", "sum"]
Records = NDArray[Any]

RECORD = np.dtype([("user", "i8"), ("item", "i8"), ("value", "f4"), ("number", "i8")])
"""One rating; `number` counts them as they came."""
SORTING_NBYTES = 5 * RECORD.itemsize
"""For each record of a bucket: itself, its keys, their order, and the sorted copy."""


class Spill:
    """A file of ratings in the order in which they came.

    Parameters
    ----------
    folder : path
        Where files are made; whoever gave it removes it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "all.bin"
        self._file.touch()
        self.count = 0

    def add(
        self, users: NDArray[np.int64], items: NDArray[np.int64], values: NDArray[np.float32]
    ) -> None:
        """Append ratings.

        Parameters
        ----------
        users, items : array of shape (n,), int64
            Numbers.
        values : array of shape (n,), float32
            The ratings.
        """
        records = np.empty(len(values), RECORD)
        records["user"], records["item"], records["value"] = users, items, values
        records["number"] = np.arange(self.count, self.count + len(values))
        self.count += len(values)
        with self._file.open("ab") as file:
            records.tofile(file)

    def pieces(self, most: int) -> Iterator[Records]:
        """Read them again.

        Parameters
        ----------
        most : int
            Records at once.

        Yields
        ------
        array of RECORD
            In the order in which they came.
        """
        return _pieces(self._file, most)

    def buckets(
        self, side: Literal["user", "item"], places: NDArray[np.int64], ends: NDArray[np.int64],
        most: int,
    ) -> Iterator[Records]:  # fmt: skip
        """Deal records to buckets by their rows, and give bucket after bucket.

        Parameters
        ----------
        side : {"user", "item"}
            What rows are.
        places : array of shape (rows,), int64
            The row of each number.
        ends : array of shape (buckets,), int64
            Past the last row of each bucket.
        most : int
            Records at once.

        Yields
        ------
        array of RECORD
            All of one bucket, in the order in which they came.
        """
        if len(ends) == 1:
            yield np.fromfile(self._file, RECORD)
            return
        files = [self._folder / f"{side}-{number}.bin" for number in range(len(ends))]
        for piece in self.pieces(most):
            bucket = np.searchsorted(ends, places[piece[side]], "right")
            order = np.argsort(bucket, kind="stable")
            cuts = np.searchsorted(bucket[order], np.arange(len(ends) + 1))
            for number in np.unique(bucket).tolist():
                with files[number].open("ab") as file:
                    piece[order[cuts[number] : cuts[number + 1]]].tofile(file)
        for path in files:
            yield np.fromfile(path, RECORD) if path.exists() else np.empty(0, RECORD)
            path.unlink(missing_ok=True)


def sorted_ratings(
    records: Records, rows: NDArray[np.int64], columns: NDArray[np.int64], duplicates: Duplicates
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Sort by row, then column; do with duplicates what was asked for.

    Parameters
    ----------
    records : array of shape (n,), RECORD
        In the order in which they came.
    rows, columns : array of shape (n,), int64
        Of each.
    duplicates : {"refuse", "last", "sum"}
        What becomes of ratings of the same row and column.

    Returns
    -------
    tuple of arrays
        Rows, columns and values, sorted and distinct.

    Raises
    ------
    OptionError
        If there are duplicates that are refused; the message has the first pair.
    """
    order = np.lexsort((columns, rows))  # stable: duplicates stay as they came
    rows, columns, records = rows[order], columns[order], records[order]
    same = (rows[1:] == rows[:-1]) & (columns[1:] == columns[:-1])
    values = np.ascontiguousarray(records["value"])
    if not same.any():
        return rows, columns, values
    if duplicates == "refuse":
        numbers = records["number"]
        at = np.flatnonzero(same)[np.argmin(numbers[1:][same])]
        message = (
            f"ratings {numbers[at]} and {numbers[at + 1]}, counted from 0, are of the same user "
            "and item. Pass duplicates='last' to keep the later one, or 'sum' to add counts"
        )
        raise OptionError(message)
    if duplicates == "last":
        keep = np.append(~same, True)
        return rows[keep], columns[keep], values[keep]
    first = np.flatnonzero(np.insert(~same, 0, True))
    sums = np.add.reduceat(values.astype(np.float64), first).astype(np.float32)
    return rows[first], columns[first], sums


def cut_buckets(
    pointers: NDArray[np.int64], edges: NDArray[np.int64], most: int
) -> NDArray[np.int64]:
    """Join blocks to buckets that can be sorted in memory.

    Parameters
    ----------
    pointers : array of shape (rows + 1,), int64
        Ratings before each row.
    edges : array of shape (blocks + 1,), int64
        First row of each block.
    most : int
        Ratings of a bucket; no block has more.

    Returns
    -------
    array of shape (buckets,), int64
        Past the last block of each bucket.
    """
    starts, ends, first = pointers[edges], [], 0
    while first < len(edges) - 1:
        past = int(np.searchsorted(starts, starts[first] + most, "right")) - 1
        first = max(past, first + 1)
        ends.append(first)
    return np.array(ends, np.int64)


def _pieces(path: Path, most: int) -> Iterator[Records]:
    with path.open("rb") as file:
        while len(piece := np.fromfile(file, RECORD, most)):
            yield piece
