"""Which rows or items go to which part: integers in, integers out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from leptonhpc.errors import OptionError

Indices = range | NDArray[np.int64]
"""Contiguous, or increasing."""


def cut_ranges(count: int, weights: Sequence[float], *, unit: int = 1) -> list[Indices]:
    """Cut 0 to `count` into contiguous ranges in proportion to weights.

    Parameters
    ----------
    count : int
        Rows or items.
    weights : sequence of float
        One for each range, positive.
    unit : int
        Ranges begin at multiples of this, where there are enough of them.

    Returns
    -------
    list of range
        As many as weights; some are empty where there are fewer rows than ranges.

    Raises
    ------
    OptionError
        If a weight is not positive and finite.

    Examples
    --------
    >>> cut_ranges(10, [1, 1, 3])
    [range(0, 2), range(2, 4), range(4, 10)]
    """
    shares = np.asarray(weights, dtype=np.float64)
    if shares.ndim != 1 or not len(shares) or not np.all((shares > 0) & np.isfinite(shares)):
        raise OptionError(f"weights are positive numbers, one for each part; found {weights!r}")
    edges = np.cumsum(shares) / shares.sum() * count
    equal = bool(np.all(shares == shares[0]))
    enough = 1 if equal else _UNITS_FOR_WEIGHTS
    step = unit if -(-count // unit) >= enough * len(shares) else 1
    rounded = np.rint(edges / step).astype(np.int64) * step
    inner = np.minimum(rounded[:-1], count)
    stops = [*inner.tolist(), count]
    return [range(a, b) for a, b in zip([0, *stops[:-1]], stops, strict=True)]


_UNITS_FOR_WEIGHTS = 8
"""Unequal shares are kept to an eighth of themselves."""


def deal_round_robin(count: int, parts: int, *, unit: int = 1) -> list[Indices]:
    """Deal units of rows one by one: the first to the first part, the next to the next.

    Parameters
    ----------
    count : int
        Rows or items.
    parts : int
        Number of parts.
    unit : int
        Rows that stay together.

    Returns
    -------
    list of arrays
        Increasing indices.

    Examples
    --------
    >>> [part.tolist() for part in deal_round_robin(7, 2, unit=2)]
    [[0, 1, 4, 5], [2, 3, 6]]
    """
    owner = np.arange(count) // unit % parts
    return split_by_part(owner, parts)


def split_by_part(owner: NDArray[np.int64], parts: int) -> list[Indices]:
    """Give the indices of each part.

    Parameters
    ----------
    owner : array of shape (count,)
        The part of each row or item.
    parts : int
        Number of parts.

    Returns
    -------
    list of arrays
        Increasing indices.
    """
    order = np.argsort(owner, kind="stable")
    edges = np.searchsorted(owner[order], np.arange(1, parts))
    return list(np.split(order, edges))
