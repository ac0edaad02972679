"""`watch`: what another process appends to a Zarr array, each slab once."""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc import store
from leptonhpc.errors import MemoryBudgetError, OptionError, StreamError
from leptonhpc.planning.amounts import parse_nbytes
from leptonhpc.planning.costs import LIBRARIES_NBYTES
from leptonhpc.runtime import resources_of
from leptonhpc.streams.appending import ENDED, normal_axis
from leptonhpc.streams.positions import Position, PositionKeeper

_COPIES = 3
"""Of a slab: as it is read, and two that are made of it."""


@dataclass(frozen=True)
class Slab:
    """Some rows that were appended."""

    values: NDArray[Any]
    """Of the stored dtype; whole along the other dimensions."""
    start: int
    stop: int


class Watcher(Iterator[Slab]):
    """Gives slabs as they are appended; see `watch`.

    Parameters
    ----------
    location : str or path
        The array.
    keeper : PositionKeeper or None
        Keeps the position.
    axis : int
        The dimension that grows.
    rows : int or None
        Of each slab.
    most : int
        Rows that fit in memory.
    poll_seconds, timeout_seconds : float
        How often to look, and for how long without anything new.
    """

    def __init__(
        self,
        location: str | os.PathLike[str],
        keeper: PositionKeeper | None,
        *,
        axis: int,
        rows: int | None,
        most: int,
        poll_seconds: float,
        timeout_seconds: float,
    ) -> None:
        self._location, self._keeper, self._axis = location, keeper, axis
        self._rows, self._most = rows, most
        self._poll_seconds, self._timeout_seconds = poll_seconds, timeout_seconds
        array = store.open_array(location)
        self._source = self._source_of(array)
        position = keeper.position if keeper is not None else Position()
        self.state: Any = position.state
        """What was committed last; None at first."""
        self.position = position.length
        """Rows that were given, or committed by an earlier process."""
        self._tail = position.tail
        if position.length:
            self._require_same(array, position)

    def __iter__(self) -> Watcher:
        return self

    def __next__(self) -> Slab:
        """Wait for the next slab; end when the stream does, or nothing new came for long."""
        deadline = time.monotonic() + self._timeout_seconds
        ended = False
        while True:
            array = self._look()
            length = array.shape[self._axis]
            stop = self._stop(length, array.unit[self._axis], rest=ended)
            if stop is not None:
                return self._read(array, stop)
            if ended or time.monotonic() > deadline:
                raise StopIteration
            # looked at once more: shape and attributes may be two objects
            ended = bool(array.attributes.get(ENDED))
            if not ended:
                time.sleep(self._poll_seconds)

    def __enter__(self) -> Watcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def commit(self, state: Any = None) -> None:
        """Keep the state with the position after the last slab, both at once.

        Parameters
        ----------
        state : object
            What can be pickled: a model, sums. A watcher that is begun anew has it as `state`.

        Raises
        ------
        OptionError
            If there is nowhere to keep it.
        StoreError
            If it cannot be written; then the last one is still there.
        StreamError
            If this watcher was closed, or another one took its state over; nothing is written.
        """
        if self._keeper is None:
            raise OptionError("commit needs a place: give watch state=")
        self._keeper.commit(Position(self.position, self._tail, self._source, state))
        self.state = state

    def close(self) -> None:
        """Let another watcher go on from the last commit; nothing happens if one does already."""
        if self._keeper is not None:
            self._keeper.close()

    def _look(self) -> store.StoredArray:
        array = store.open_array(self._location)
        if self._source_of(array) != self._source:
            message = (
                f"the stream {array.name!r} became another array: {_words(self._source)} before, "
                f"{_words(self._source_of(array))} now. Watch it with another state"
            )
            raise StreamError(message)
        if array.shape[self._axis] < self.position:
            message = (
                f"the stream {array.name!r} shrank to {array.shape[self._axis]} rows, of which "
                f"{self.position} were taken; a stream only grows. Watch it with another state"
            )
            raise StreamError(message)
        return array

    def _stop(self, length: int, unit: int, *, rest: bool) -> int | None:
        """Say where the next slab ends, if there is one."""
        new = length - self.position
        if self._rows is not None and (new >= self._rows or (rest and new)):
            return self.position + min(self._rows, new)
        if self._rows is not None or not new:
            return None
        if new <= self._most:
            return length
        stop = (self.position + self._most) // unit * unit  # with a chunk, if one fits
        return stop if stop > self.position else self.position + self._most

    def _read(self, array: store.StoredArray, stop: int) -> Slab:
        start = self.position
        region = _region(array.shape, self._axis, start, stop)
        values = array.read(region)
        if start:  # afterwards: what was made anew meanwhile would be gone on with
            self._require_tail(array, self._tail)
        self.position = stop
        self._tail = _digest(np.take(values, [-1], axis=self._axis))
        return Slab(values, start, stop)

    def _source_of(self, array: store.StoredArray) -> tuple[Any, ...]:
        axis = normal_axis(self._axis, len(array.shape))
        self._axis = axis
        return str(array.dtype), array.shape[:axis] + array.shape[axis + 1 :], axis

    def _require_same(self, array: store.StoredArray, position: Position) -> None:
        """Refuse a stream that is not the one that was taken up to here."""
        if position.source != self._source:
            message = (
                f"the state belongs to another stream than {array.name!r}: "
                f"{_words(position.source)}, not {_words(self._source)}. Choose another state"
            )
            raise StreamError(message)
        self._look()
        self._require_tail(array, position.tail)

    def _require_tail(self, array: store.StoredArray, tail: str) -> None:
        """Refuse a stream whose last row that was taken is another one now."""
        last = array.read(_region(array.shape, self._axis, self.position - 1, self.position))
        if _digest(last) != tail:
            message = (
                f"row {self.position - 1} of the stream {array.name!r} is not what it was when it "
                "was taken: the array was made anew or changed. Choose another state"
            )
            raise StreamError(message)


def watch(
    location: str | os.PathLike[str],
    *,
    state: str | os.PathLike[str] | None = None,
    axis: int = 0,
    rows: int | None = None,
    poll_seconds: float = 0.5,
    timeout_seconds: float | None = None,
    memory: int | float | str | None = None,
    takeover: bool = False,
) -> Watcher:
    """Give what another process appends to a Zarr array, slab by slab, each once.

    Parameters
    ----------
    location : str or path
        The array; a folder or URL.
    state : str or path, optional
        Folder or URL that keeps how far the stream was taken, and what `Watcher.commit` gets. With
        the same one a new process goes on where the last commit was.
    axis : int
        The dimension that grows.
    rows : int, optional
        Of each slab, for which it waits; the last one of an ended stream may have fewer. Default:
        what is there, as far as it fits in memory. With `rows` the slabs are the same whenever the
        watcher looks, or is begun anew.
    poll_seconds : float
        How often it looks.
    timeout_seconds : float, optional
        End when nothing new came for so long; default: wait for ever. It also ends where the
        writer called `end_stream`.
    memory : int, float, str or None
        Budget, such as "2 GB"; three times a slab fits.
    takeover : bool
        Take the state from whoever has it, at once; that one's next `commit` is a StreamError.
        Without it, what a dead watcher of this machine had is taken, and of another machine when
        that has given no sign of life for a minute and a half: this waits for one.

    Returns
    -------
    Watcher
        An iterator over slabs, with `state` as it was committed last, and `commit`.

    Raises
    ------
    StoreError
        If nothing is there.
    StreamError
        If the array shrank, or is another one than it was; or another watcher has the state, in
        another living process or in this one.
    MemoryBudgetError
        If slabs of so many rows do not fit.
    OptionError
        If a keyword has no possible value.

    Notes
    -----
    Position and state are one object that is replaced atomically: whenever the consumer is killed,
    what it committed has each row once. A writer must write its values before the shape, as
    `leptonhpc.streams.append` does; ``zarr.Array.append`` and ``to_zarr(append_dim=)`` of xarray
    change the shape first, and a watcher may see fill values. The state is a pickle: watch only
    with states of your own.

    Examples
    --------
    >>> import tempfile
    >>> import leptonhpc as lh
    >>> folder = tempfile.TemporaryDirectory()
    >>> stream = f"{folder.name}/x.zarr"
    >>> length = lh.streams.append(stream, [[1.0], [2.0], [3.0]])
    >>> lh.streams.end_stream(stream)
    >>> with lh.watch(stream, state=f"{folder.name}/sum", rows=2) as slabs:
    ...     total = slabs.state or 0.0
    ...     for slab in slabs:
    ...         total += float(slab.values.sum())
    ...         slabs.commit(total)
    >>> total
    6.0
    >>> folder.cleanup()
    """
    whole = isinstance(rows, int | np.integer) and not isinstance(rows, bool)
    if rows is not None and not (whole and rows >= 1):
        raise OptionError(f"rows is a whole number from 1; found {rows!r}")
    timeout = math.inf if timeout_seconds is None else timeout_seconds
    for name, value in (("poll_seconds", poll_seconds), ("timeout_seconds", timeout)):
        if not value >= 0:
            raise OptionError(f"{name} is a duration; found {value!r}")
    array = store.open_array(location)
    axis = normal_axis(axis, array.ndim)
    most = _most_rows(array, axis, rows, memory)
    keeper = PositionKeeper(state, takeover=takeover) if state is not None else None
    try:
        return Watcher(
            location, keeper, axis=axis, rows=rows, most=most,
            poll_seconds=poll_seconds, timeout_seconds=timeout,
        )  # fmt: skip
    except BaseException:
        if keeper is not None:
            keeper.close()
        raise


def _most_rows(
    array: store.StoredArray, axis: int, rows: int | None, memory: int | float | str | None
) -> int:
    resources = resources_of(parse_nbytes(memory))
    rest = array.shape[:axis] + array.shape[axis + 1 :]
    each = _COPIES * max(1, math.prod(rest) * array.dtype.itemsize)
    most = resources.arrays_nbytes // each
    if most < (rows or 1):
        least = (rows or 1) * each + LIBRARIES_NBYTES
        message = (
            f"slabs of {rows or 1} rows of {array.name!r} need at least "
            f"memory='{-(-least // 10**6)} MB'"
        )
        raise MemoryBudgetError(message)
    return most


def _region(
    shape: tuple[int, ...], axis: int, start: int, stop: int
) -> tuple[tuple[int, int], ...]:
    return tuple((start, stop) if i == axis else (0, n) for i, n in enumerate(shape))


def _digest(row: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(row).tobytes()).hexdigest()[:16]


def _words(source: tuple[Any, ...]) -> str:
    dtype, rest, axis = source
    return f"{dtype}, other dimensions {rest}, growing along axis {axis}"
