"""Blocks of a field for passes that are one product or one sum, by Dask."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from leptonhpc.blocks import BlockedArray, BlockGrid, Source
from leptonhpc.planning.amounts import parse_nbytes
from leptonhpc.runtime import connected_client

_BLOCK_NBYTES = 32 << 20
_COPIES = 4
"""Of a block in double precision: as it is read, and what is made of it."""


def blocks_of(matrix: Source, memory: Any = None) -> BlockedArray:
    """Cut a matrix into blocks of whole storage units of about 32 MiB, or less.

    Parameters
    ----------
    matrix : Source of shape (m, n)
        The field.
    memory : int, float, str or None
        Budget of a worker; a block in double precision is at most a part in 32 of it.

    Returns
    -------
    BlockedArray
        The same, cut into blocks.
    """
    budget = parse_nbytes(memory)
    most = _BLOCK_NBYTES if budget is None else min(_BLOCK_NBYTES, budget // 32)
    rows, columns = matrix.shape
    unit = [max(1, min(u, n)) for u, n in zip(matrix.unit, matrix.shape, strict=True)]
    row_nbytes = unit[0] * max(8, matrix.dtype.itemsize)  # sums are in double precision
    width = min(columns, unit[1] * max(1, int(most // (row_nbytes * unit[1]))))
    height = min(rows, unit[0] * max(1, int(most // (width * row_nbytes))))
    return BlockedArray(matrix, BlockGrid.regular((rows, columns), (height, width)))


@contextmanager
def few_at_once(array: BlockedArray, memory: Any) -> Iterator[None]:
    """Let Dask's threads work on as many blocks at once as half of a budget holds.

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
    lanes = max(1, min(os.cpu_count() or 1, budget // 2 // max(1, nbytes)))
    with config.set(num_workers=lanes):
        yield
