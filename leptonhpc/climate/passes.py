"""Blocks of a field for passes that are one product or one sum, by Dask."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.api.kept import KeptParts
from leptonhpc.blocks import BlockedArray, BlockGrid, Source
from leptonhpc.climate.room import XARRAY_NBYTES
from leptonhpc.errors import MemoryBudgetError
from leptonhpc.planning.amounts import parse_nbytes
from leptonhpc.planning.costs import LIBRARIES_NBYTES
from leptonhpc.runtime import connected_client

_BLOCK_NBYTES = 32 << 20
_COPIES = 4
"""Of a block in double precision: as it is read, and what is made of it."""
_TOGETHER = 32
"""Blocks that are computed before what they gave may be kept; on a cluster, for each of its threads
four, if that is more."""
EVERY_SECONDS = 60.0
"""What a pass or a row of draws has found is kept so often."""


def blocks_of(
    matrix: Source, memory: Any = None, *, most_nbytes: int | None = None
) -> BlockedArray:
    """Cut a matrix into blocks of whole storage units of about 32 MiB, or less.

    Parameters
    ----------
    matrix : Source of shape (m, n)
        The field.
    memory : int, float, str or None
        Budget of a worker; a block in double precision is at most a part in 32 of it.
    most_nbytes : int, optional
        A block is no larger than this, unless a storage unit is.

    Returns
    -------
    BlockedArray
        The same, cut into blocks.
    """
    budget = parse_nbytes(memory)
    most = _BLOCK_NBYTES if budget is None else min(_BLOCK_NBYTES, budget // 32)
    if most_nbytes is not None:
        most = min(most, most_nbytes)
    rows, columns = matrix.shape
    unit = _unit(matrix)
    row_nbytes = unit[0] * max(8, matrix.dtype.itemsize)  # sums are in double precision
    width = min(columns, unit[1] * max(1, int(most // (row_nbytes * unit[1]))))
    height = min(rows, unit[0] * max(1, int(most // (width * row_nbytes))))
    return BlockedArray(matrix, BlockGrid.regular((rows, columns), (height, width)))


def blocks_within(matrix: Source, memory: Any, *, held_nbytes: int, what: str) -> BlockedArray:
    """Cut a matrix into blocks that fit into a budget beside what is held.

    Parameters
    ----------
    matrix : Source of shape (m, n)
        The field.
    memory : int, float, str or None
        Budget of a worker.
    held_nbytes : int
        What a pass holds beside its blocks.
    what : str
        The pass, for the message.

    Returns
    -------
    BlockedArray
        As `blocks_of` gives it, in smaller blocks where they must be.

    Raises
    ------
    MemoryBudgetError
        If one storage unit does not fit; the message names the least that would do.
    """
    budget = parse_nbytes(memory)
    if budget is None:
        return blocks_of(matrix)
    taken = _libraries_nbytes() + held_nbytes
    rows, columns = _unit(matrix)
    nbytes = _COPIES * rows * columns * max(8, matrix.dtype.itemsize)
    if budget < taken + nbytes:
        message = (
            f"{what} of {matrix.name} needs at least memory='{-(-(taken + nbytes) // 10**6)} MB' "
            f"({-(-taken // 10**6)} MB for libraries and what is held, the rest for blocks of "
            f"{rows} x {columns}); found memory={memory!r}"
        )
        raise MemoryBudgetError(message)
    return blocks_of(matrix, memory, most_nbytes=(budget - taken) // _COPIES)


@contextmanager
def few_at_once(array: BlockedArray, memory: Any) -> Iterator[None]:
    """Let Dask's threads work on as many blocks at once as half of a budget, less libraries, holds.

    Parameters
    ----------
    array : BlockedArray
        Cut by `blocks_of`.
    memory : int, float, str or None
        Budget; None, or a connected cluster: as many as there are threads.

    Yields
    ------
    None
        Inside, what is computed keeps to it.
    """
    budget = parse_nbytes(memory)
    if budget is None or connected_client() is not None:
        yield
        return
    from dask import config

    height, width = array.chunks[0][0], array.chunks[1][0]
    nbytes = _COPIES * height * width * max(8, array.dtype.itemsize)
    free = max(0, min(budget // 2, budget - _libraries_nbytes()))
    lanes = max(1, min(os.cpu_count() or 1, free // max(1, nbytes)))
    with config.set(num_workers=lanes):
        yield


class Pauses:
    """Says when it is time to keep what was found."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def due(self) -> bool:
        """Say whether `EVERY_SECONDS` have gone since it last was.

        Returns
        -------
        bool
            Whether to keep it now.
        """
        now = time.monotonic()
        if now - self._last < EVERY_SECONDS:
            return False
        self._last = now
        return True


def passed(
    array: BlockedArray,
    part: Callable[[Any, slice], tuple[Any, ...]],
    join: Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]],
    kept: KeptParts,
    *,
    name: str,
    memory: Any,
) -> list[NDArray[Any]]:
    """Make one pass over a field, some bands of its rows after others.

    Parameters
    ----------
    array : BlockedArray of shape (m, n)
        Cut by `blocks_of`.
    part : callable
        Gives lazy arrays of some rows, a Dask array, and of which they are.
    join : callable
        Puts together what earlier rows gave and what later ones did.
    kept : KeptParts
        Where what was found is kept, about once a minute and at the end.
    name : str
        Of the pass, there.
    memory : int, float, str or None
        Budget of a worker.

    Returns
    -------
    list of array
        What all rows gave; from an earlier call, if that made the pass.
    """
    from dask.base import compute

    found: list[NDArray[Any]] = []
    done, rows, pauses = 0, array.shape[0], Pauses()
    known = kept.load(name)
    if known is not None:
        done = int(known.pop("rows"))
        found = [known[f"part{number}"] for number in range(len(known))]
    x, height = array.to_dask(), _rows_together(array)
    with few_at_once(array, memory):
        while done < rows:
            some = slice(done, min(done + height, rows))
            more = [np.asarray(one) for one in compute(*part(x[some], some))]
            found = list(map(join, found, more)) if found else more
            done = some.stop
            if done == rows or pauses.due():
                kept.save(name, {f"part{i}": one for i, one in enumerate(found)} | {"rows": done})
    return found


def _unit(matrix: Source) -> tuple[int, int]:
    """Give the rows and columns of what is read at once."""
    rows, columns = (max(1, min(u, n)) for u, n in zip(matrix.unit, matrix.shape, strict=True))
    return rows, columns


def _libraries_nbytes() -> int:
    """Give what a budget holds before any block; workers do without most of xarray."""
    return LIBRARIES_NBYTES + (XARRAY_NBYTES if connected_client() is None else 0)


def _rows_together(array: BlockedArray) -> int:
    """Give the rows of whole blocks that are computed with before what they gave is kept."""
    client = connected_client()
    lanes = 0 if client is None else sum(client.nthreads().values())
    bands = max(_TOGETHER, 4 * lanes) // len(array.chunks[1])
    return int(array.chunks[0][0] * max(1, bands))
