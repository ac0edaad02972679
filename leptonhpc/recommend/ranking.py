"""The best of many candidates for each query: scores in pieces, those that are seen left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.recommend.ratings import Ratings

Excluded = Callable[[int, int], tuple[NDArray[Any], NDArray[Any]]]
"""Of queries from one number to another: which query (from 0) must not have which candidate."""

_SCORES = 1 << 22
"""Scores in memory at once: 16 MB of single precision."""


@dataclass(frozen=True)
class Ranked:
    """The best candidates of each query, the best first."""

    items: NDArray[Any]
    """(queries, n): labels, or numbers where there are none. Where fewer than n are left, the rest
    repeats one that was left out, with a score of minus infinity."""
    scores: NDArray[Any]
    """(queries, n): descending."""


def best(
    queries: NDArray[Any], candidates: NDArray[Any], offsets: NDArray[Any] | None, n: int,
    excluded: Excluded | None = None,
) -> tuple[NDArray[np.int64], NDArray[Any]]:  # fmt: skip
    """Find the n candidates of the largest inner product with each query.

    Parameters
    ----------
    queries : array of shape (m, d)
        One a row.
    candidates : array of shape (c, d)
        One a row.
    offsets : array of shape (c,), optional
        Added to the scores.
    n : int
        How many, at most c.
    excluded : callable, optional
        What must not be found.

    Returns
    -------
    tuple of (array of shape (m, n), int64, array of shape (m, n))
        Numbers of candidates and their scores, descending; of equal scores the lower number first.

    Notes
    -----
    2 m c d flops; 16 MB of scores are in memory at once.
    """
    numbers = np.empty((len(queries), n), np.int64)
    scores = np.empty((len(queries), n), queries.dtype)
    rows = max(1, _SCORES // len(candidates))
    for begin in range(0, len(queries), rows):
        part = queries[begin : begin + rows] @ candidates.T
        if offsets is not None:
            part += offsets
        end = begin + len(part)
        if excluded is not None:
            part[excluded(begin, end)] = -np.inf
        numbers[begin:end], scores[begin:end] = _largest(part, n)
    return numbers, scores


def seen_by(ratings: Ratings, users: NDArray[np.int64]) -> Excluded:
    """Give what some users rated, as `best` leaves it out.

    Parameters
    ----------
    ratings : Ratings
        What was rated.
    users : array of shape (m,), int64
        Numbers of the users, one for each query; blocks are read once if they ascend.

    Returns
    -------
    callable
        Of queries from one number to another.
    """
    edges = ratings.by_user.edges

    def excluded(begin: int, end: int) -> tuple[NDArray[Any], NDArray[Any]]:
        queries, items = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        held = None
        for query, user in enumerate(users[begin:end].tolist()):
            if held is None or not held.first <= user < held.first + held.rows:
                held = ratings.by_user.read(int(np.searchsorted(edges, user, "right")) - 1)
            found, _ = held.row(user)
            queries.append(np.full(len(found), query))
            items.append(found.astype(np.int64))
        return np.concatenate(queries), np.concatenate(items)

    return excluded


def unit_rows(factors: NDArray[Any]) -> NDArray[Any]:
    """Give rows of length one; those of zeros stay.

    Parameters
    ----------
    factors : array of shape (rows, d)
        The rows.

    Returns
    -------
    array of shape (rows, d)
        Each divided by its length.
    """
    lengths = np.linalg.norm(factors, axis=1, keepdims=True)
    unit: NDArray[Any] = factors / np.where(lengths > 0, lengths, 1)
    return unit


def _largest(scores: NDArray[Any], n: int) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Give the n largest of each row in order; ties by the lower number."""
    count = scores.shape[1]
    if n < count:
        bound = np.partition(scores, count - n, axis=1)[:, count - n]
        # what is over the bound is in; of those at it, the lowest numbers
        over, at = scores > bound[:, None], scores == bound[:, None]
        room = n - over.sum(axis=1)
        chosen = over | (at & (np.cumsum(at, axis=1) <= room[:, None]))
        numbers = np.nonzero(chosen)[1].reshape(-1, n)
    else:
        numbers = np.broadcast_to(np.arange(count), scores.shape)
    found = np.take_along_axis(scores, numbers, axis=1)
    order = np.argsort(-found, axis=1, kind="stable")
    return np.take_along_axis(numbers, order, axis=1), np.take_along_axis(found, order, axis=1)
