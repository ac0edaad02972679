"""How samples are cut into batches that fit in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from leptonhpc.blocks import BlockedArray
from leptonhpc.decomposition.finite import require_finite
from leptonhpc.decomposition.samples import Samples, floating
from leptonhpc.errors import MemoryBudgetError, OptionError
from leptonhpc.planning.amounts import parse_nbytes
from leptonhpc.planning.costs import LIBRARIES_NBYTES
from leptonhpc.runtime import resources_of

COPIES = 3
"""Of a batch that is read: as stored, centred, and below the components so far."""


def batch_rows(x: Samples, wanted: int | None, memory: Any) -> int:
    """Choose the samples of a batch.

    Parameters
    ----------
    x : array of shape (m, n)
        The samples.
    wanted : int or None
        What the user asked for; None: 5 n, in whole rows of chunks, or fewer where memory is short.
    memory : int, float, str or None
        Budget; half of what it leaves for arrays is for batches, where they are read.

    Returns
    -------
    int
        Rows.

    Raises
    ------
    OptionError
        If `wanted` is no number of rows.
    MemoryBudgetError
        If batches are too large; the message names the largest, or the smallest budget.
    """
    whole = isinstance(wanted, int | np.integer) and not isinstance(wanted, bool)
    if wanted is not None and not (whole and wanted >= 1):
        raise OptionError(f"batch_size is a whole number from 1, or None; found {wanted!r}")
    if not isinstance(x, BlockedArray):
        return 5 * x.shape[1] if wanted is None else int(wanted)
    unit, row_nbytes = _unit(x), COPIES * x.shape[1] * 8
    most = resources_of(parse_nbytes(memory)).arrays_nbytes // 2 // row_nbytes
    rows = wanted if wanted is not None else unit * -(-5 * x.shape[1] // unit)
    if wanted is None and rows > most:
        rows = max(unit, most // unit * unit)
    if min(rows, x.shape[0]) > most:
        least = 2 * row_nbytes * min(rows, x.shape[0]) + LIBRARIES_NBYTES
        message = (
            f"batches of {rows} samples of {x.name} need at least memory='{-(-least // 10**6)} MB'"
        )
        raise MemoryBudgetError(message + (f", or batch_size={most}" if most > 0 else ""))
    return int(rows)


def cut(
    x: Samples, start: int, rows: int, least: int, estimator: BaseEstimator
) -> Iterator[NDArray[Any]]:
    """Read batches one after the other.

    Parameters
    ----------
    x : array of shape (m, n)
        The samples.
    start : int
        First row.
    rows : int
        Of a batch; where it is a number of whole chunks, all but the first begin with a chunk.
    least : int
        Fewest rows of a last batch; if there are fewer they join the one before.
    estimator : estimator
        Which asks.

    Yields
    ------
    array of shape (up to rows + least, n)
        Floating.

    Raises
    ------
    NonFiniteError
        If a stored sample holds NaN or infinity; the message names its index.
    """
    unit = _unit(x) if isinstance(x, BlockedArray) else 1
    while start < len(x):
        stop = start + rows - (start % unit if rows % unit == 0 else 0)
        if len(x) - stop < least:
            stop = len(x)
        batch = _read(x, start, min(stop, len(x)))
        if isinstance(x, BlockedArray):
            require_finite(batch, start, estimator, x.name)
        yield batch
        start = stop


def _unit(x: BlockedArray) -> int:
    return max(1, min(x.source.unit[0], x.shape[0]))


def _read(x: Samples, start: int, stop: int) -> NDArray[Any]:
    if isinstance(x, BlockedArray):
        rows = x.read(((start, stop), (0, x.shape[1])))
        return rows.astype(floating(x.dtype), copy=False)
    return x[start:stop]
