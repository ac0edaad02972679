"""Ratings written to Zarr, by users and by items, from what may be larger than memory."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from leptonhpc import store
from leptonhpc.errors import MemoryBudgetError, NonFiniteError, OptionError
from leptonhpc.planning.amounts import parse_nbytes
from leptonhpc.planning.costs import LIBRARIES_NBYTES
from leptonhpc.recommend.blocks import ratings_per_block, split_rows
from leptonhpc.recommend.budget import ESTIMATORS_NBYTES
from leptonhpc.recommend.labels import LabelTable, write_labels
from leptonhpc.recommend.ratings import FORMAT, Ratings, open_ratings
from leptonhpc.recommend.spilling import (
    SORTING_NBYTES,
    Duplicates,
    Spill,
    cut_buckets,
    sorted_ratings,
)
from leptonhpc.recommend.stored_sides import SideWriter
from leptonhpc.recommend.triples import batches_of
from leptonhpc.runtime import resources_of
from leptonhpc.runtime.temporary import TemporaryFolder

Nbytes = int | float | str | None
Side = Literal["user", "item"]

_BATCHES_NBYTES = 64 << 20
"""Of a batch with its labels, and of Python's own."""
_PIECE = 1 << 20
"""Ratings that are dealt to buckets at once."""


def store_ratings(
    source: Any,
    out: str | os.PathLike[str],
    *,
    shape: tuple[int, int] | None = None,
    duplicates: Duplicates = "refuse",
    block_ratings: int | None = None,
    memory: Nbytes = None,
    overwrite: bool = False,
) -> Ratings:
    """Write ratings as Zarr, in blocks by users and by items.

    Parameters
    ----------
    source : Ratings, scipy.sparse matrix, (users, items, values), or iterable of such batches
        The ratings, in any order; `read_triples` gives the batches of a text file. Users and items
        are integers or text, which are kept as labels; of a matrix they are numbers.
    out : str or path
        The group to be made.
    shape : (int, int), optional
        Numbers of users and items: they are then called by numbers from 0, and have no labels.
    duplicates : {"refuse", "last", "sum"}
        What becomes of several ratings of one item by one user.
    block_ratings : int, optional
        Ratings of a block; default: for 64 blocks, from 32768 to 1048576.
    memory : int, float or str, optional
        Budget with everything in it, such as "2 GB"; default: half of what is free.
    overwrite : bool
        Replace what is there.

    Returns
    -------
    Ratings
        The stored ratings.

    Raises
    ------
    OptionError
        If ratings are there twice, users or items are out of range; the message has the number of
        the rating, counted from 0.
    NonFiniteError
        If a value is NaN or infinite, as float32.
    DTypeError, ShapeError
        If what comes is no ratings.
    MemoryBudgetError
        If the labels, or the ratings of one user or item, do not fit; with what would do.
    OutputExistsError
        If the place is taken, or ``OUT.partial`` beside it is something else or of a living
        process.

    Notes
    -----
    What comes is spilled to a temporary folder (28 bytes a rating, twice where it does not fit in
    memory), dealt to buckets of rows and sorted there. In memory are the labels, and a bucket.
    Values are stored as float32.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> store_ratings(([7, 7, 9], ["b", "a", "b"], [5, 3, 1]), f"{folder.name}/r.zarr")
    Ratings('...r.zarr', 2 users, 2 items, 3 ratings, 1 + 1 blocks)
    >>> folder.cleanup()
    """
    _check_options(duplicates, block_ratings, shape)
    with store.being_made(out, overwrite=overwrite) as place:
        _store(source, place, shape, duplicates, block_ratings, memory)
    return open_ratings(out)


def _store(
    source: Any, place: Any, shape: tuple[int, int] | None, duplicates: Duplicates,
    block_ratings: int | None, memory: Nbytes,
) -> None:  # fmt: skip
    if shape is None and hasattr(source, "tocoo"):
        shape = source.shape
    nbytes = resources_of(parse_nbytes(memory)).memory_nbytes
    folder = TemporaryFolder()
    try:
        taken = _take(source, folder.path, shape)
        store.create_group(place, attributes={"format": FORMAT, "unfinished": True})
        most = _most_records(taken, block_ratings, nbytes)
        for labels, name in ((taken.users, "user_labels"), (taken.items, "item_labels")):
            if labels.labels is not None:
                write_labels(store.join(place, name), labels.labels)
        facts = _write_side(taken, place, "user", duplicates, block_ratings, most)
        _write_side(taken, place, "item", duplicates, block_ratings, most)
    finally:
        folder.remove()
    store.update_attributes(place, {**facts, "unfinished": False})


@dataclass(frozen=True)
class _Axis:
    """Users, or items."""

    labels: NDArray[Any] | None
    places: NDArray[np.int64]
    """(n,): the row of each number that was spilled."""
    counts: NDArray[np.int64]
    """(n,): ratings of each row."""

    @property
    def pointers(self) -> NDArray[np.int64]:
        """(n + 1,): ratings before each row."""
        return np.concatenate([[0], np.cumsum(self.counts)]).astype(np.int64)


@dataclass(frozen=True)
class _Taken:
    """What came."""

    spill: Spill
    users: _Axis
    items: _Axis

    def axis(self, side: str) -> _Axis:
        """Give one of both."""
        return self.users if side == "user" else self.items


def _check_options(duplicates: str, block_ratings: int | None, shape: Any) -> None:
    if duplicates not in ("refuse", "last", "sum"):
        raise OptionError(f"duplicates is 'refuse', 'last' or 'sum'; found {duplicates!r}")
    if block_ratings is not None and block_ratings < 1:
        raise OptionError(f"block_ratings is at least 1; found {block_ratings}")
    if shape is not None and (len(shape) != 2 or min(shape) < 1):
        raise OptionError(f"shape is two positive numbers, of users and items; found {shape}")


def _take(source: Any, folder: Path, shape: tuple[int, int] | None) -> _Taken:
    """Spill all ratings, numbered; count those of each user and item."""
    spill = Spill(folder)
    tables = LabelTable("user"), LabelTable("item")
    counts = [np.zeros(0 if shape is None else n, np.int64) for n in shape or (0, 0)]
    for users, items, values in batches_of(source):
        first = spill.count
        kept = _as_stored(values, first)
        numbers = []
        for axis, (table, given) in enumerate(zip(tables, (users, items), strict=True)):
            if shape is None:
                found = table.numbers(given, first)
            else:
                found = _in_range(given, shape[axis], ("user", "item")[axis], first)
            counted = np.bincount(found, minlength=len(counts[axis]))
            counted[: len(counts[axis])] += counts[axis]
            counts[axis] = counted
            numbers.append(found)
        spill.add(numbers[0], numbers[1], kept)
    if spill.count == 0:
        raise OptionError("there are no ratings; at least one is needed")
    axes = []
    for table, count in zip(tables, counts, strict=True):
        labels, places = (None, np.arange(len(count))) if shape else table.sorted()
        ordered = np.empty_like(count)
        ordered[places] = count
        axes.append(_Axis(labels, places, ordered))
    return _Taken(spill, *axes)


def _as_stored(values: NDArray[Any], first: int) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        kept = values.astype(np.float32)
    finite = np.isfinite(kept)
    if not finite.all():
        at = int(np.argmin(finite))
        message = (
            f"rating {first + at}, counted from 0, is {values[at]}; ratings are finite, as "
            "float32. Leave out what was not rated"
        )
        raise NonFiniteError(message)
    return kept


def _in_range(numbers: NDArray[Any], count: int, what: str, first: int) -> NDArray[np.int64]:
    if numbers.dtype.kind not in "iu":
        message = f"with shape=, {what}s are numbers from 0; found {numbers.dtype}"
        raise OptionError(message)
    wrong = (numbers < 0) | (numbers >= count)
    if wrong.any():
        at = int(np.argmax(wrong))
        message = (
            f"rating {first + at}, counted from 0, is of {what} {numbers[at]}; with shape= they "
            f"are from 0 to {count - 1}. Without shape=, any integers or text are labels"
        )
        raise OptionError(message)
    return numbers.astype(np.int64)


def _most_records(taken: _Taken, block_ratings: int | None, nbytes: int) -> int:
    """Say how many ratings can be sorted at once."""
    axes = (taken.users, taken.items)
    tables = sum(axis.counts.nbytes * 4 for axis in axes)
    labels = sum(axis.labels.nbytes * 4 for axis in axes if axis.labels is not None)
    fixed = LIBRARIES_NBYTES + ESTIMATORS_NBYTES + _BATCHES_NBYTES + tables + labels
    block = block_ratings or ratings_per_block(taken.spill.count)
    row = max(int(axis.counts.max()) for axis in axes)
    largest = max(row, min(block, taken.spill.count))
    needed = fixed + SORTING_NBYTES * largest
    if needed > nbytes:
        message = (
            f"storing these ratings needs memory='{-(-needed // 10**6)} MB' or more: the labels, "
            f"and {largest} ratings that are sorted at once; found {nbytes / 1e6:.0f} MB. One user "
            f"or item has {row} of them, the rest is up to block_ratings="
        )
        raise MemoryBudgetError(message)
    return (nbytes - fixed) // SORTING_NBYTES


def _write_side(
    taken: _Taken, partial: Any, side: Side, duplicates: Duplicates, block_ratings: int | None,
    most: int,
) -> dict[str, Any]:  # fmt: skip
    """Write the ratings by users or by items; give what is known of them then."""
    rows, columns = taken.axis(side), taken.axis("item" if side == "user" else "user")
    other = "item" if side == "user" else "user"
    pointers = rows.pointers
    edges = split_rows(pointers, block_ratings or ratings_per_block(taken.spill.count))
    widest = int(np.diff(pointers[edges]).max())
    writer = SideWriter(store.join(partial, f"by_{side}"), edges, widest)
    past = cut_buckets(pointers, edges, most)
    block, count, total, least = 0, 0, 0.0, None
    buckets = taken.spill.buckets(side, rows.places, edges[past], min(most, _PIECE))
    for end, records in zip(past, buckets, strict=True):
        found = sorted_ratings(
            records, rows.places[records[side]], columns.places[records[other]], duplicates
        )
        cuts = np.searchsorted(found[0], edges[block : end + 1])
        for number in range(block, end):
            part = slice(cuts[number - block], cuts[number - block + 1])
            writer.write(number, found[0][part], found[1][part], found[2][part])
        block, count = end, count + len(found[2])
        total += float(found[2].sum(dtype=np.float64))
        at = int(np.argmin(found[2])) if len(found[2]) else -1
        if at >= 0 and (least is None or found[2][at] < least["value"]):
            least = {
                "value": float(found[2][at]), "user": int(found[0][at]), "item": int(found[1][at]),
            }  # fmt: skip
    writer.close()
    return {"mean": total / count, "least": least}
