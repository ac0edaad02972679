"""Ratings that grow: old and new joined, and the factors of before put where they belong."""

from __future__ import annotations

from itertools import chain
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from leptonhpc.errors import OptionError
from leptonhpc.recommend.fitting import Settings
from leptonhpc.recommend.labels import places_of
from leptonhpc.recommend.outputs import Path
from leptonhpc.recommend.ratings import Ratings, open_ratings
from leptonhpc.recommend.spilling import RECORD, sorted_ratings
from leptonhpc.recommend.storing import store_ratings
from leptonhpc.recommend.sweeps import State, draw
from leptonhpc.recommend.triples import batches_of


def begun(source: Any, *, out: Path | None, memory: Any) -> Ratings:
    """Give the first ratings of a model that learns as they come.

    Parameters
    ----------
    source : what `open_ratings` or `store_ratings` takes
        The ratings.
    out : str or path, optional
        Where they are stored; needed where they are batches.
    memory : int, float, str or None
        Budget.

    Returns
    -------
    Ratings
        Opened, or stored.
    """
    if out is not None:
        return store_ratings(source, out, memory=memory)
    if isinstance(source, tuple | list) or hasattr(source, "__next__"):
        raise OptionError("batches of ratings are stored before they are learnt; give ratings_out=")
    return open_ratings(source)


def grown(
    old: Ratings, new: Any, *, duplicates: Literal["last", "sum"], out: Path | None, memory: Any
) -> Ratings:
    """Join ratings.

    Parameters
    ----------
    old : Ratings
        Those that were there.
    new : Ratings, matrix, (users, items, values), or iterable of such batches
        Those that come.
    duplicates : {"last", "sum"}
        Whether a new one replaces an old one, or is added to it.
    out : str or path, optional
        Where all are stored; needed if the old ones are.
    memory : int, float, str or None
        Budget of storing.

    Returns
    -------
    Ratings
        All of them.

    Raises
    ------
    OptionError
        If `out` is needed, or ratings with labels come to ratings without.
    """
    if not isinstance(new, Ratings) and hasattr(new, "shape"):
        new = open_ratings(new)
    labelled = old.user_labels is not None
    if isinstance(new, Ratings) and (new.user_labels is not None) != labelled:
        message = (
            f"{old.name} has {'labels' if labelled else 'no labels'} of users and items, and "
            f"{new.name} has {'none' if labelled else 'some'}; they cannot be joined"
        )
        raise OptionError(message)
    if out is not None:
        both = chain(old.batches(), batches_of(new))
        shape = None if labelled else _shape(old, new)
        return store_ratings(both, out, shape=shape, duplicates=duplicates, memory=memory)
    if old.location is not None:
        message = (
            f"{old.name} is stored, and so are all ratings together; give ratings_out=, another "
            "place than that"
        )
        raise OptionError(message)
    return _joined(old, new, duplicates)


def matched(model: Any, ratings: Ratings, settings: Settings) -> State:
    """Put the factors of a model where its users and items are among grown ratings.

    Parameters
    ----------
    model : ALS or ImplicitALS
        Fitted.
    ratings : Ratings
        All that it knew, and more.
    settings : Settings
        Of the next fit.

    Returns
    -------
    State
        New users start from zero, new items as they are drawn.
    """
    (users, items), biases = ratings.shape, model._bias_columns()
    state = State(
        np.zeros((users, settings.width), settings.dtype),
        draw(items, settings.width, settings.dtype, seed=settings.seed), [],
    )  # fmt: skip
    if biases:
        state.items[:, 0] = 0
    for rows, factors, own, labels, old, what in (
        (state.users, model.user_factors_, model.user_biases_, ratings.user_labels,
         model.user_labels_, "user"),
        (state.items, model.item_factors_, model.item_biases_, ratings.item_labels,
         model.item_labels_, "item"),
    ):  # fmt: skip
        if factors.shape[1] + biases != settings.width:
            message = (
                f"the model has {factors.shape[1]} factors, and n_factors is now "
                f"{settings.width - biases}; use fit to begin anew"
            )
            raise OptionError(message)
        names = np.arange(len(factors)) if old is None else old
        places = places_of(labels, names, count=len(rows), what=what)
        rows[places, biases:] = factors
        if biases:
            rows[places, 0] = own
    return state


def _shape(old: Ratings, new: Any) -> tuple[int, int]:
    """Give the numbers of users and items, where these are called by numbers."""
    if isinstance(new, Ratings):
        found = new.shape
    elif isinstance(new, tuple | list) and len(new) == 3:
        found = _count(new[0]), _count(new[1])
    else:
        message = (
            "how many users and items there are is not known of batches without labels; give a "
            "sparse matrix, or (users, items, values)"
        )
        raise OptionError(message)
    return max(old.shape[0], found[0]), max(old.shape[1], found[1])


def _count(numbers: Any) -> int:
    """Give one more than the largest; what is no number is refused where it is read."""
    given = np.asarray(numbers)
    return int(given.max()) + 1 if given.size and given.dtype.kind in "iu" else 0


def _joined(old: Ratings, new: Any, duplicates: Literal["last", "sum"]) -> Ratings:
    from scipy.sparse import csr_array

    shape = _shape(old, new)
    parts = list(chain(old.batches(), batches_of(new)))
    users, items, values = (np.concatenate(column) for column in zip(*parts, strict=True))
    _require_numbers(users, items)
    records = np.empty(len(values), RECORD)
    records["value"], records["number"] = values, np.arange(len(values))
    rows, columns, kept = sorted_ratings(
        records, users.astype(np.int64), items.astype(np.int64), duplicates
    )
    return open_ratings(csr_array((kept, (rows, columns)), shape=shape))


def _require_numbers(*columns: NDArray[Any]) -> None:
    for column in columns:
        if column.dtype.kind not in "iu" or (len(column) and column.min() < 0):
            message = (
                "users and items of ratings in memory are called by numbers from 0; found "
                f"{column[:1]} and the like. Stored ratings have labels"
            )
            raise OptionError(message)
