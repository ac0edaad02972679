"""How good recommendations are: of each user's first k, how many were wanted, and how early."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from leptonhpc.errors import OptionError, ShapeError
from leptonhpc.recommend.ratings import Ratings, open_ratings


def rmse(predicted: ArrayLike, actual: ArrayLike) -> float:
    """Give the root of the mean squared error.

    Parameters
    ----------
    predicted, actual : array-like of the same shape
        Ratings.

    Returns
    -------
    float
        The error, in units of a rating.

    Raises
    ------
    ShapeError
        If they are not of one shape, or empty.

    Examples
    --------
    >>> rmse([3, 5], [3, 3]) ** 2
    2.0000000000000004
    """
    a, b = np.asarray(predicted, np.float64), np.asarray(actual, np.float64)
    if a.shape != b.shape or not a.size:
        raise ShapeError(f"rmse is of two arrays of one shape; found {a.shape} and {b.shape}")
    return float(np.sqrt(np.mean((a - b) ** 2)))


def precision_at_k(recommended: ArrayLike, relevant: Sequence[Any], k: int = 10) -> float:
    """Give the share of the first k items that are relevant.

    Parameters
    ----------
    recommended : array-like of shape (users, >= k)
        Items, the best first.
    relevant : sequence of arrays
        Of each user, the items that were wanted, distinct. Users without any are left out.
    k : int
        How many are looked at.

    Returns
    -------
    float
        Mean over users of hits / k.

    Raises
    ------
    ShapeError
        If there are not as many users in both, or fewer than `k` items.
    OptionError
        If no user has a relevant item.

    Examples
    --------
    >>> precision_at_k([[1, 2, 3, 4]], [[2, 4, 9]], k=4)
    0.5
    """
    hits, _ = _hits(recommended, relevant, k)
    return float(np.mean(hits.sum(axis=1) / k))


def recall_at_k(recommended: ArrayLike, relevant: Sequence[Any], k: int = 10) -> float:
    """Give the share of relevant items that are among the first k.

    Parameters
    ----------
    recommended, relevant, k : see `precision_at_k`
        As there.

    Returns
    -------
    float
        Mean over users of hits / relevant items.

    Examples
    --------
    >>> recall_at_k([[1, 2, 3, 4]], [[2, 9]], k=4)
    0.5
    """
    hits, counts = _hits(recommended, relevant, k)
    return float(np.mean(hits.sum(axis=1) / counts))


def ndcg_at_k(recommended: ArrayLike, relevant: Sequence[Any], k: int = 10) -> float:
    """Give the normalised discounted cumulative gain of the first k items.

    Parameters
    ----------
    recommended, relevant, k : see `precision_at_k`
        As there.

    Returns
    -------
    float
        Mean over users of the sum over hits of 1 / log2(1 + place), over the largest that it can
        be.

    Notes
    -----
    Relevance is yes or no [1]_.

    References
    ----------
    .. [1] K. Jarvelin, J. Kekalainen, Cumulated gain-based evaluation of IR techniques, ACM Trans.
       Inf. Syst. 20(4), 2002.

    Examples
    --------
    >>> round(ndcg_at_k([[1, 2]], [[2]], k=2), 6)
    0.63093
    """
    hits, counts = _hits(recommended, relevant, k)
    gains = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.cumsum(gains)[np.minimum(counts, k) - 1]
    return float(np.mean(hits @ gains / ideal))


def map_at_k(recommended: ArrayLike, relevant: Sequence[Any], k: int = 10) -> float:
    """Give the mean average precision of the first k items.

    Parameters
    ----------
    recommended, relevant, k : see `precision_at_k`
        As there.

    Returns
    -------
    float
        Mean over users of the sum over hits of the precision up to them, over the smaller of k and
        the number of relevant items.

    Examples
    --------
    >>> map_at_k([[1, 2, 3, 4]], [[1, 3]], k=4)
    0.8333333333333333
    """
    hits, counts = _hits(recommended, relevant, k)
    precision = np.cumsum(hits, axis=1) / np.arange(1, k + 1)
    return float(np.mean((precision * hits).sum(axis=1) / np.minimum(counts, k)))


def evaluate(model: Any, test: Any, *, k: int = 10) -> dict[str, float]:
    """Recommend to every user of held-out ratings, and compare.

    Parameters
    ----------
    model : ALS or ImplicitALS
        Fitted to the other ratings; what it has seen is not recommended.
    test : Ratings, matrix of shape (users, items), or what `open_ratings` takes
        Held out: every rating of it is a relevant item. Of labelled ratings, users and items that
        the model does not know are refused.
    k : int
        How many items are recommended.

    Returns
    -------
    dict of str to float
        ``precision``, ``recall``, ``ndcg`` and ``map``, at k.

    Raises
    ------
    OptionError
        If the model does not know a user or item, or nothing was held out.
    """
    held = open_ratings(test)
    pointers = held.by_user.pointers
    numbers = np.flatnonzero(np.diff(pointers))
    labels = held.user_labels
    found = model.recommend(numbers if labels is None else labels[numbers], k).items
    relevant: list[NDArray[Any]] = []
    for items, ends in _by_user(held):
        relevant += np.split(items, ends)[:-1]
    relevant = [items for items in relevant if len(items)]
    measures = {
        "precision": precision_at_k, "recall": recall_at_k, "ndcg": ndcg_at_k, "map": map_at_k,
    }  # fmt: skip
    return {name: measure(found, relevant, k) for name, measure in measures.items()}


def _by_user(held: Ratings) -> Iterator[tuple[NDArray[Any], NDArray[np.int64]]]:
    """Give block after block: the items of its ratings, and where each user ends."""
    for number, (_, items, _) in enumerate(held.batches()):
        first, end = held.by_user.edges[number : number + 2]
        pointers = held.by_user.pointers[first : end + 1]
        yield items, pointers[1:] - pointers[0]


def _hits(
    recommended: ArrayLike, relevant: Sequence[Any], k: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Give which of the first k are relevant, of users that have any, and how many they have."""
    found = np.asarray(recommended)
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise OptionError(f"k is a whole number from 1; found {k!r}")
    if found.ndim != 2 or len(found) != len(relevant) or found.shape[1] < k:
        message = (
            f"recommended items are a matrix of {len(relevant)} users (as many as relevant has) by "
            f"{k} or more; found {found.shape}"
        )
        raise ShapeError(message)
    counts = np.array([len(items) for items in relevant], np.int64)
    if not counts.any():
        raise OptionError("no user has a relevant item; at least one is needed")
    some = np.flatnonzero(counts).tolist()
    hits = [np.isin(found[user, :k], np.asarray(relevant[user])) for user in some]
    return np.array(hits, np.float64), counts[some]
