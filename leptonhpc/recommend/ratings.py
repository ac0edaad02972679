"""Ratings of items by users: in Zarr, or in memory as a sparse matrix."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc import store
from leptonhpc.errors import DTypeError, NonFiniteError, NotAnArrayError, ShapeError, StoreError
from leptonhpc.recommend.blocks import Side, ratings_per_block
from leptonhpc.recommend.labels import places_of, read_labels
from leptonhpc.recommend.memory_sides import MemorySide
from leptonhpc.recommend.stored_sides import StoredSide
from leptonhpc.store.locations import Location, describe, is_local, local_path

FORMAT = "leptonhpc-ratings-1"


@dataclass(frozen=True)
class Least:
    """The smallest rating."""

    value: float
    user: int
    item: int


@dataclass(frozen=True, repr=False)
class Ratings:
    """Ratings by users and by items, both in blocks of nearly equal numbers of ratings.

    `store_ratings` makes them, `open_ratings` opens them.
    """

    by_user: Side
    by_item: Side
    user_labels: NDArray[Any] | None
    """(users,), ascending, int64 or text; None: users are called by numbers from 0."""
    item_labels: NDArray[Any] | None
    name: str
    location: Location | None
    """None: they are in memory."""
    mean: float
    least: Least | None
    """None: there are no ratings."""

    @property
    def shape(self) -> tuple[int, int]:
        """Number of users and of items."""
        return len(self.by_user.pointers) - 1, len(self.by_item.pointers) - 1

    @property
    def count(self) -> int:
        """Number of ratings."""
        return int(self.by_user.pointers[-1])

    def __repr__(self) -> str:
        """Show name, sizes and blocks."""
        users, items = self.shape
        blocks = len(self.by_user.edges) - 1, len(self.by_item.edges) - 1
        return (
            f"Ratings({self.name!r}, {users} users, {items} items, {self.count} ratings, "
            f"{blocks[0]} + {blocks[1]} blocks)"
        )

    def of_user(self, user: Any) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Read what one user rated.

        Parameters
        ----------
        user : label
            The user.

        Returns
        -------
        tuple of arrays
            Labels of items (numbers, where they have none), and ratings.

        Raises
        ------
        OptionError
            If there is no such user.
        """
        number = int(places_of(self.user_labels, user, count=self.shape[0], what="user"))
        items, values = self.seen(number)
        return (items if self.item_labels is None else self.item_labels[items]), values

    def seen(self, number: int) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Read what one user rated, by numbers.

        Parameters
        ----------
        number : int
            Of the user.

        Returns
        -------
        tuple of arrays
            Numbers of items, ascending, and ratings.
        """
        block = int(np.searchsorted(self.by_user.edges, number, "right")) - 1
        return self.by_user.read(block).row(number)

    def batches(self) -> Iterator[tuple[NDArray[Any], NDArray[Any], NDArray[np.float32]]]:
        """Read all ratings, block by block, as `store_ratings` takes them.

        Yields
        ------
        tuple of arrays
            Users, items (labels, or numbers where there are none) and ratings.
        """
        for number in range(len(self.by_user.edges) - 1):
            block = self.by_user.read(number)
            users = np.repeat(np.arange(block.rows) + block.first, np.diff(block.pointers))
            items = block.indices if block.columns is None else block.columns[block.indices]
            yield (
                users if self.user_labels is None else self.user_labels[users],
                items.astype(np.int64) if self.item_labels is None else self.item_labels[items],
                block.values,
            )

    def to_scipy(self) -> Any:
        """Read all ratings into memory.

        Returns
        -------
        scipy.sparse.csr_array of shape (users, items), float32
            The ratings.
        """
        from scipy.sparse import csr_array

        blocks = [self.by_user.read(n) for n in range(len(self.by_user.edges) - 1)]
        indices = [b.indices if b.columns is None else b.columns[b.indices] for b in blocks]
        values = [b.values for b in blocks]
        parts = (
            np.concatenate(values or [np.empty(0, np.float32)]),
            np.concatenate(indices or [np.empty(0, np.int64)]),
            self.by_user.pointers,
        )
        return csr_array(parts, shape=self.shape)

    def identity(self) -> dict[str, Any]:
        """Describe the ratings so that a change of them is noticed."""
        if isinstance(self.by_user, StoredSide):
            return {"ratings": self.by_user.identity()}
        assert isinstance(self.by_user, MemorySide)
        return {"ratings": self.by_user.digest, "shape": list(self.shape)}


def open_ratings(source: Any) -> Ratings:
    """Open ratings; of stored ones nothing is read but labels and counts.

    Parameters
    ----------
    source : str, path, Ratings, scipy.sparse matrix or array, or array of shape (users, items)
        What `store_ratings` made; or a matrix in memory, whose zeros, where it is dense, are no
        ratings, and whose entries, where a sparse one has several of one place, add up.

    Returns
    -------
    Ratings
        The ratings.

    Raises
    ------
    StoreError
        If nothing is there.
    NotAnArrayError
        If it is something else.
    NonFiniteError
        If a matrix holds NaN or infinity, as float32; the message has user and item.

    Examples
    --------
    >>> import numpy as np
    >>> open_ratings(np.array([[5, 0, 1], [0, 4, 0]]))
    Ratings('the matrix', 2 users, 3 items, 3 ratings, 1 + 1 blocks)
    """
    if isinstance(source, Ratings):
        return source
    if isinstance(source, str | os.PathLike):
        return _opened(source)
    return _of_matrix(source)


def _opened(location: str | os.PathLike[str]) -> Ratings:
    if not store.exists(location):
        partial = store.partial_location(location)
        hint = f"; {describe(partial)!r} is not finished" if store.exists(partial) else ""
        raise StoreError(f"no ratings are stored at {describe(location)!r}{hint}")
    attributes = store.read_attributes(location)
    if attributes.get("format") != FORMAT:
        message = (
            f"{describe(location)!r} holds no ratings of leptonhpc; store_ratings makes them, also "
            "of text files and sparse matrices"
        )
        raise NotAnArrayError(message)
    least, name = attributes["least"], describe(location)
    if is_local(location):
        location = local_path(location)  # workers have working folders of their own
    return Ratings(
        StoredSide(store.join(location, "by_user")),
        StoredSide(store.join(location, "by_item")),
        read_labels(store.join(location, "user_labels")),
        read_labels(store.join(location, "item_labels")),
        name,
        location,
        attributes["mean"],
        None if least is None else Least(**least),
    )


def _of_matrix(source: Any) -> Ratings:
    from scipy.sparse import csc_array, csr_array, issparse

    if np.ma.is_masked(source):
        message = (
            "ratings are a sparse matrix, or an array with zeros for what was not rated; found a "
            "masked array. Give scipy.sparse.csr_array(ratings.filled(0))"
        )
        raise DTypeError(message)
    matrix = source if issparse(source) else np.asarray(source)
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise ShapeError(f"ratings are a matrix of users by items; found {matrix.shape}")
    if matrix.dtype.kind not in "biuf":
        raise DTypeError(f"ratings are real numbers; found {matrix.dtype}")
    with np.errstate(over="ignore"):  # found below
        rows = csr_array(matrix, dtype=np.float32, copy=True)  # canonical form is made in place
        rows.sum_duplicates()
    least = _least_of(rows)
    columns = csr_array(csc_array(rows).T)
    most = ratings_per_block(rows.nnz)
    mean = float(rows.data.mean(dtype=np.float64)) if rows.nnz else 0.0
    sides = MemorySide(rows, most), MemorySide(columns, most)
    return Ratings(*sides, None, None, "the matrix", None, mean, least)


def _least_of(rows: Any) -> Least | None:
    """Find the smallest rating; refuse what is not finite."""
    if rows.nnz == 0:
        return None
    finite = np.isfinite(rows.data)
    at = int(np.argmin(rows.data if finite.all() else finite))
    user = int(np.searchsorted(rows.indptr, at, "right")) - 1
    item, value = int(rows.indices[at]), float(rows.data[at])
    if not finite.all():
        message = (
            f"ratings are finite, as float32; the matrix has {value} of user {user} and item "
            f"{item}. Leave it out: what is not stored is not rated"
        )
        raise NonFiniteError(message)
    return Least(value, user, item)
