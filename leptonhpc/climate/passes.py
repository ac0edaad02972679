"""Blocks of a field for passes that are one product or one sum, by Dask."""

from __future__ import annotations

from typing import Any

from leptonhpc.blocks import BlockedArray, BlockGrid, Source
from leptonhpc.planning.amounts import parse_nbytes

_BLOCK_NBYTES = 32 << 20


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
