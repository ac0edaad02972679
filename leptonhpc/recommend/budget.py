"""What a fit holds in memory: how many lanes that allows, and what is left to keep ratings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from leptonhpc.errors import MemoryBudgetError
from leptonhpc.planning import Resources
from leptonhpc.planning.costs import LIBRARIES_NBYTES
from leptonhpc.recommend.blocks import Side
from leptonhpc.recommend.ratings import Ratings
from leptonhpc.recommend.stored_sides import StoredSide
from leptonhpc.runtime.memory import free_nbytes

ESTIMATORS_NBYTES = 90_000_000
"""scikit-learn and what it brings, beside the libraries that the engine counts."""
_COMPILER_NBYTES = 110_000_000
"""numba with LLVM, and what was compiled before."""
_COMPILING_NBYTES = 80_000_000
"""While it is compiled: the first fit on a machine."""
_RATING_NBYTES = 4 + 4 + 4
"""Its index, its value, and the value in the dtype of factors."""
_ROW_NBYTES = 48
"""Of each user and item: where its ratings begin, how many, penalty and length of its factors."""
_READING = 2
"""A block is read from storage units into arrays: both are there for a moment."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a process may do."""

    lanes: int
    kept_nbytes: int
    """For ratings that stay from sweep to sweep."""


def allowance(
    ratings: Ratings, width: int, itemsize: int, resources: Resources, *, compiled: bool = True
) -> Allowance:
    """Share a budget out.

    Parameters
    ----------
    ratings : Ratings
        What is factored.
    width : int
        Columns of the factors.
    itemsize : int
        Bytes of one of their numbers.
    resources : Resources
        The budget of each worker, and its cores.
    compiled : bool
        Whether the solver is on the disk of this machine, or must be compiled first.

    Returns
    -------
    Allowance
        Lanes of each worker, as many as it has cores or as fit.

    Raises
    ------
    MemoryBudgetError
        If not even one lane fits; the message has the smallest budget that would do.
    """
    tables = _ROW_NBYTES * sum(ratings.shape)
    # in this process the factors of both sides; a worker gets those of its blocks with the call
    factors = 0 if resources.distributed else sum(ratings.shape) * width * itemsize
    fixed = LIBRARIES_NBYTES + ESTIMATORS_NBYTES + _COMPILER_NBYTES + tables + factors
    fixed += 0 if compiled else _COMPILING_NBYTES
    lane = max(
        lane_nbytes(side, width, itemsize, distributed=resources.distributed)
        for side in (ratings.by_user, ratings.by_item)
    )
    if resources.distributed:
        _require_factors(ratings, width, itemsize)
    left = resources.memory_nbytes - fixed
    if left < lane:
        message = (
            f"{width} factors of {ratings!r} need memory='{-(-(fixed + lane) // 10**6)} MB' or "
            f"more, found {resources.memory_nbytes / 1e6:.0f} MB: libraries and factors "
            f"{fixed / 1e6:.0f} MB, the largest block {lane / 1e6:.0f} MB. Fewer factors, or "
            "smaller blocks (store_ratings, block_ratings=), need less"
        )
        if not compiled:
            message += (
                f". The first fit on a machine compiles the solver: {_COMPILING_NBYTES / 1e6:.0f} "
                "MB of that, which a small fit without memory= spares later ones"
            )
        raise MemoryBudgetError(message)
    lanes = min(resources.threads, left // lane)
    return Allowance(lanes, left - lanes * lane)


def _require_factors(ratings: Ratings, width: int, itemsize: int) -> None:
    """Refuse factors that this process, which keeps them for its workers, has no room for."""
    needed, free = sum(ratings.shape) * (width * itemsize + _ROW_NBYTES), free_nbytes()
    if needed > free:
        message = (
            f"{width} factors of {ratings!r} take {needed / 1e6:.0f} MB of this process, which has "
            f"{free / 1e6:.0f} MB free. Fewer factors need less, or a machine with more memory"
        )
        raise MemoryBudgetError(message)


def lane_nbytes(side: Side, width: int, itemsize: int, *, distributed: bool) -> int:
    """Give what the largest block of one side takes while it is solved.

    Parameters
    ----------
    side : Side
        The ratings by the rows of the block.
    width, itemsize : int
        Of the factors.
    distributed : bool
        What comes and goes is there as bytes too, and a second call waits.

    Returns
    -------
    int
        Bytes.
    """
    ratings, rows = np.diff(side.pointers[side.edges]), np.diff(side.edges)
    times = _READING if isinstance(side, StoredSide) else 1
    factors = 2 * (rows + side.columns) * width * itemsize
    if distributed:
        factors = 3 * factors
    return int((times * _RATING_NBYTES * ratings + 16 * rows + 8 * side.columns + factors).max())
