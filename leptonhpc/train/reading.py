"""Samples of the batches of one rank, read a window ahead."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.blocks import MemorySource, Region, Source
from leptonhpc.train.sampling import Order, Rows, part_of


@dataclass(frozen=True, slots=True)
class Batch:
    """What one rank learns from in one step."""

    index: int
    """Of the batch in its epoch."""
    total: int
    """Samples of the whole batch, over all ranks."""
    rows: Rows
    """Which samples these are."""
    x: NDArray[Any]
    y: NDArray[Any]


class KeptRows:
    """An array whose storage units stay in memory once they were read, as many as have room.

    Parameters
    ----------
    source : Source
        The array.
    nbytes : int
        Room for what is kept.
    """

    def __init__(self, source: Source, nbytes: int) -> None:
        self.shape, self.dtype, self.unit = source.shape, source.dtype, source.unit
        self._source, self._room = source, nbytes
        self._units: dict[int, NDArray[Any]] = {}

    def read(self, region: Region) -> NDArray[Any]:
        """Give some rows of one unit, whole.

        Parameters
        ----------
        region : tuple of (int, int)
            From and to which row, and along the other axes from end to end.

        Returns
        -------
        array
            They; of a unit that is kept, a view: not to be changed.
        """
        (low, high), *rest = region
        number = low // self.unit[0]
        first = number * self.unit[0]
        unit = self._units.get(number)
        if unit is None:
            last = min(first + self.unit[0], self.shape[0])
            nbytes = (last - first) * math.prod(self.shape[1:]) * self.dtype.itemsize
            if nbytes > self._room:
                return self._source.read(region)
            unit = self._units[number] = self._source.read(((first, last), *rest))
            self._room -= nbytes
        return unit[low - first : high - first]


Readable = Source | KeptRows


def keeping(x: Source, y: Source, nbytes: int) -> tuple[Readable, Readable]:
    """Let what is read of samples and targets stay in memory, as far as there is room.

    Parameters
    ----------
    x, y : Source
        Samples and targets.
    nbytes : int
        Room for both.

    Returns
    -------
    tuple
        What to read them from; one that is in memory is given as it is.
    """
    found: list[Readable] = []
    for source in (y, x):
        is_held = isinstance(source, MemorySource)
        found.append(source if is_held else KeptRows(source, nbytes))
        size = 0 if is_held else math.prod(source.shape) * source.dtype.itemsize
        nbytes = max(0, nbytes - size)
    return found[1], found[0]


@dataclass(slots=True)
class Ahead:
    """The first window of an epoch: it is read while the last of the one before is used."""

    epochs: int
    """There are so many."""
    of: tuple[object, ...] = ()
    """Which window."""
    window: Future[list[Batch]] | None = None

    def take(self, of: tuple[object, ...]) -> Future[list[Batch]] | None:
        """Give it, if it is this one; keep it no longer."""
        found = self.window if self.of == of else None
        self.window = None
        return found


def read_batches(
    x: Readable, y: Readable, order: Order, epoch: int, *,
    shares: Sequence[float] = (1.0,), rank: int = 0, first: int = 0,
    wanted: tuple[bool, bool] = (True, True), ahead: Ahead | None = None,
) -> Iterator[Batch]:  # fmt: skip
    """Read the batches of an epoch; while one window is used, the next is read.

    Parameters
    ----------
    x, y : Source or KeptRows
        Samples and targets, along their first axis.
    order : Order
        Which samples make up each batch.
    epoch : int
        Counted from 0.
    shares : sequence of float
        Of each rank.
    rank : int
        Whose part is read.
    first : int
        Batches of the epoch that are done already.
    wanted : tuple of (bool, bool)
        Whether to read samples, and targets; what is not read is empty.
    ahead : Ahead, optional
        Has the first window, if the call before read it; keeps that of the next epoch.

    Yields
    ------
    Batch
        In order; a rank with a small share may have none of a batch's samples.

    Notes
    -----
    Two windows are in memory, of a rank's share each. The thread that reads ends with the iterator:
    close it.
    """
    if first >= order.batches:
        return
    start = first // order.window_batches

    def read(index: int, epoch: int = epoch) -> list[Batch]:
        return read_window(x, y, order, epoch, index, shares=shares, rank=rank, wanted=wanted)

    def of(epoch: int, index: int) -> tuple[object, ...]:
        return epoch, index, tuple(shares), rank, wanted

    with ThreadPoolExecutor(1, thread_name_prefix="leptonhpc-samples") as reader:
        found = None if ahead is None else ahead.take(of(epoch, start))
        following = found or reader.submit(read, start)
        found = None
        for index in range(start, order.windows):
            window = following.result()
            if index + 1 < order.windows:
                following = reader.submit(read, index + 1)
            elif ahead is not None and epoch + 1 < ahead.epochs:
                ahead.of, ahead.window = of(epoch + 1, 0), reader.submit(read, 0, epoch + 1)
            yield from (batch for batch in window if batch.index >= first)


def read_window(
    x: Readable, y: Readable, order: Order, epoch: int, index: int, *,
    shares: Sequence[float] = (1.0,), rank: int = 0, wanted: tuple[bool, bool] = (True, True),
) -> list[Batch]:  # fmt: skip
    """Read the batches of a window together: each storage unit that has any of their rows, once.

    Parameters
    ----------
    x, y : Source or KeptRows
        Samples and targets, along their first axis.
    order : Order
        Which samples make up each batch.
    epoch, index : int
        Which window; counted from 0.
    shares : sequence of float
        Of each rank.
    rank : int
        Whose part is read.
    wanted : tuple of (bool, bool)
        Whether to read samples, and targets; what is not read is empty.

    Returns
    -------
    list of Batch
        In order; their samples are views of one array.
    """
    batches = order.window(epoch, index)
    parts = [part_of(rows, shares, rank) for rows in batches]
    rows = np.concatenate(parts)
    samples, targets = (
        read_rows(source, rows if is_wanted else rows[:0])
        for source, is_wanted in zip((x, y), wanted, strict=True)
    )
    ends = np.cumsum([len(part) for part in parts])
    begins = ends - [len(part) for part in parts]
    before = index * order.window_batches
    return [
        Batch(before + i, len(batches[i]), parts[i], samples[low:high], targets[low:high])
        for i, (low, high) in enumerate(zip(begins, ends, strict=True))
    ]


def read_rows(source: Readable, rows: Rows) -> NDArray[Any]:
    """Read some rows; each storage unit that holds any is read once.

    Parameters
    ----------
    source : Source or KeptRows
        The array.
    rows : array of int64
        Which rows, in any order.

    Returns
    -------
    array of shape (len(rows), ...)
        They, in that order, in the machine's byte order.
    """
    if isinstance(source, MemorySource):
        return source.array[rows]
    out = np.empty((len(rows), *source.shape[1:]), source.dtype)
    if not len(rows):
        return out
    places = np.argsort(rows, kind="stable")
    units = rows[places] // source.unit[0]
    rest = tuple((0, length) for length in source.shape[1:])
    for same in np.split(places, np.flatnonzero(np.diff(units)) + 1):
        low, high = int(rows[same[0]]), int(rows[same[-1]]) + 1
        block = source.read(((low, high), *rest))
        out[same] = block[rows[same] - low]
    return out
