"""Ratings as they come: batches of users, items and values, of arrays, matrices, text files."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc import store
from leptonhpc.errors import DTypeError, ShapeError, StoreError
from leptonhpc.recommend.ratings import Ratings
from leptonhpc.store.locations import Location

Batch = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]

_BATCH = 1 << 18
"""Ratings that are taken at once."""


def batches_of(source: Any) -> Iterator[Batch]:
    """Cut what a user has into batches.

    Parameters
    ----------
    source : Ratings, scipy.sparse matrix, three arrays, or iterable of three arrays
        The ratings.

    Yields
    ------
    tuple of arrays of shape (n,)
        Users, items and values of no more than 262144 ratings.

    Raises
    ------
    ShapeError
        If a batch is not three arrays of one length.
    DTypeError
        If values are not real numbers.
    """
    first = 0
    for whole in _wholes(source):
        users, items, values = _checked(whole, first)
        for begin in range(0, len(values), _BATCH):
            part = slice(begin, begin + _BATCH)
            yield users[part], items[part], values[part]
        first += len(values)


def read_triples(
    path: str | os.PathLike[str],
    *,
    columns: Sequence[int | str] = (0, 1, 2),
    delimiter: str = ",",
    header: bool = True,
) -> Iterator[Batch]:
    """Read a text file of ratings, batch by batch.

    Parameters
    ----------
    path : str or path
        One rating a line; UTF-8, quoted as CSV is.
    columns : sequence of int or str
        Where user, item and value are: positions from 0, or names in the header.
    delimiter : str
        What parts the columns, such as "," or a tab.
    header : bool
        Whether the first line names the columns.

    Yields
    ------
    tuple of arrays of shape (n,)
        Users and items as text, and values, float64.

    Raises
    ------
    StoreError
        If the file cannot be read, or has no such column.
    DTypeError
        If a value is no number; the message has the line.
    ShapeError
        If a line has too few columns.
    """
    name = os.fspath(path)
    try:
        with open(path, newline="", encoding="utf-8") as file:
            lines = csv.reader(file, delimiter=delimiter)
            titles = next(lines, []) if header else []
            places = [_place(column, titles, name) for column in columns]
            number = 1 + header
            while rows := list(islice(lines, _BATCH)):
                yield _parsed(rows, places, name, number)
                number += len(rows)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise StoreError(f"{name!r} could not be read as text: {error}") from error


def array_triples(location: Location, *, columns: Sequence[int] = (0, 1, 2)) -> Iterator[Batch]:
    """Read a Zarr array of one rating a row, band by band.

    Parameters
    ----------
    location : str or path
        A matrix of numbers.
    columns : sequence of int
        Where user, item and value are, from 0.

    Yields
    ------
    tuple of arrays of shape (n,)
        Users and items, int64, and values, of the dtype of the array.

    Raises
    ------
    StoreError
        If nothing is there.
    ShapeError
        If it is no matrix, or has no such column.
    DTypeError
        If a user or item is no whole number; the message has the row.
    """
    array = store.open_array(location)
    if array.ndim != 2 or not all(0 <= column < array.shape[1] for column in columns):
        message = (
            f"ratings are rows of a matrix with columns {', '.join(map(str, columns))}; "
            f"{array.name!r} has shape {array.shape}"
        )
        raise ShapeError(message)
    band = max(1, _BATCH // array.unit[0]) * array.unit[0]
    for begin in range(0, array.shape[0], band):
        end = min(begin + band, array.shape[0])
        rows = array.read(((begin, end), (0, array.shape[1])))
        users, items, values = (rows[:, column] for column in columns)
        yield _whole_numbers(users, begin), _whole_numbers(items, begin), values


def _whole_numbers(labels: NDArray[Any], first: int) -> NDArray[np.int64]:
    if labels.dtype.kind not in "iufb":
        raise DTypeError(f"users and items are whole numbers; found {labels.dtype}")
    with np.errstate(invalid="ignore"):
        numbers = labels.astype(np.int64)
    wrong = np.flatnonzero(numbers != labels)  # catches NaN too
    if len(wrong):
        row = int(wrong[0])
        message = f"users and items are whole numbers; row {first + row} has {labels[row]}"
        raise DTypeError(message)
    return numbers


def _wholes(source: Any) -> Iterable[Any]:
    if isinstance(source, Ratings):
        return source.batches()
    if hasattr(source, "tocoo"):
        matrix = source.tocoo()
        return [(matrix.row, matrix.col, matrix.data)]
    if isinstance(source, tuple | list) and len(source) == 3:
        return [source]
    if isinstance(source, Iterable) and not isinstance(source, str | np.ndarray):
        return source
    message = (
        "ratings come as Ratings, a sparse matrix, (users, items, values), or an iterable of such "
        f"batches; found {type(source).__name__}. read_triples reads text files"
    )
    raise DTypeError(message)


def _checked(whole: Any, first: int) -> Batch:
    whole = tuple(whole)
    if any(np.ma.is_masked(part) for part in whole):
        message = f"ratings from {first} on are masked in part; leave out what was not rated"
        raise DTypeError(message)
    arrays = [_array(part) for part in whole]
    shapes = [array.shape for array in arrays]
    if len(arrays) != 3 or len(set(shapes)) != 1 or arrays[0].ndim != 1:
        message = (
            "a batch of ratings is three arrays of one length: users, items, values; found shapes "
            f"{shapes} from rating {first} on"
        )
        raise ShapeError(message)
    users, items, values = (_plain(array) for array in arrays)
    if values.dtype.kind not in "biuf":
        message = f"values are real numbers; found {values.dtype} from rating {first} on"
        raise DTypeError(message)
    return users, items, values


def _array(part: Any) -> NDArray[Any]:
    """Give an array; of a list of text and numbers one of objects, as NumPy would make all text."""
    array = np.asarray(part)
    if array.dtype.kind == "U" and isinstance(part, list | tuple):
        return array if all(isinstance(each, str) for each in part) else np.array(part, object)
    return array


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    """Give text as NumPy has it: data frames have it as objects."""
    if array.dtype.kind in "OT" and all(isinstance(value, str) for value in array.flat):
        return array.astype(np.str_)
    return array


def _place(column: int | str, titles: Sequence[str], name: str) -> int:
    if isinstance(column, int):
        return column
    if column in titles:
        return titles.index(column)
    found = ", ".join(titles) or "none, for header=False"
    raise StoreError(f"{name!r} has no column {column!r}; its columns are {found}")


def _parsed(rows: list[list[str]], places: Sequence[int], name: str, number: int) -> Batch:
    """Give the columns of some lines; `number` is that of the first, from 1."""
    try:
        users, items, texts = ([row[place] for row in rows] for place in places)
    except IndexError:
        at = next(i for i, row in enumerate(rows) if len(row) <= max(places))
        message = (
            f"line {number + at} of {name!r} has {len(rows[at])} columns, and column "
            f"{max(places)} is needed, from 0. Another delimiter= or columns= may be right"
        )
        raise ShapeError(message) from None
    try:
        values = np.array(texts, np.float64)
    except ValueError:
        at = next(i for i, text in enumerate(texts) if not _is_number(text))
        message = f"line {number + at} of {name!r} has {texts[at]!r}, which is no number"
        raise DTypeError(message) from None
    return np.array(users, np.str_), np.array(items, np.str_), values


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
