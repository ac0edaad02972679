"""Terms fitted to every cell by least squares, in one pass and in a budget of memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.blocks import BlockedArray
from leptonhpc.climate.passes import blocks_of
from leptonhpc.errors import MemoryBudgetError, OptionError
from leptonhpc.planning.amounts import parse_nbytes
from leptonhpc.runtime.memory import return_free_memory

_BAND_NBYTES = 8 << 20
"""Cells of the coefficients that are worked on together: what is made beside them stays small."""
_MOST_BLOCKS = 32
_DESIGNS = 4
"""The terms, their orthonormal basis, and the work space of the factorisation."""


def require_room(matrix: Any, terms: int, memory: Any) -> None:
    """Refuse terms whose coefficients do not fit into a budget.

    Parameters
    ----------
    matrix : FieldMatrix
        The field.
    terms : int
        How many are fitted to each cell.
    memory : int, float, str or None
        Budget.

    Raises
    ------
    MemoryBudgetError
        If they do not fit; the message names the least that would do.
    """
    budget = parse_nbytes(memory)
    if budget is None:
        return
    samples, cells = matrix.shape
    itemsize = np.result_type(matrix.dtype, np.float64).itemsize
    held = terms * (8 * _DESIGNS * samples + itemsize * cells)
    # a quarter is for the blocks that are read
    if held > 0.75 * budget:
        message = (
            f"{terms} terms fitted to {cells} cells of {matrix.name} at {samples} samples take "
            f"{held / 1e6:.0f} MB beside the blocks that are read; memory is {budget / 1e6:.0f} MB "
            f"and must be at least {held / 0.75e6:.0f} MB. Remove fewer terms "
            "(anomalies='month'), or give more memory"
        )
        raise MemoryBudgetError(message)


def fit_terms(matrix: Any, design: NDArray[np.float64], memory: Any) -> NDArray[Any]:
    """Fit terms to every cell by least squares, in one pass.

    Parameters
    ----------
    matrix : FieldMatrix
        The field.
    design : array of shape (m, terms)
        The terms.
    memory : int, float, str or None
        Budget: beside the coefficients and the terms, blocks of a quarter of it are held.

    Returns
    -------
    array of shape (terms, cells), float64 or complex128
        Coefficients.

    Raises
    ------
    OptionError
        If the samples do not determine them.
    """
    basis, factor = np.linalg.qr(design)
    if np.linalg.matrix_rank(factor) < design.shape[1]:
        message = "the samples do not determine the climatology and the trend; remove fewer terms"
        raise OptionError(message)
    fitted = projected(matrix, basis, memory)
    for some in _bands(fitted):
        fitted[:, some] = np.linalg.solve(factor, fitted[:, some])
    return fitted


def projected(matrix: Any, basis: NDArray[Any], memory: Any) -> NDArray[Any]:
    """Give B^T X in one pass.

    Parameters
    ----------
    matrix : Source of shape (m, n)
        X.
    basis : array of shape (m, k)
        B.
    memory : int, float, str or None
        Budget: beside the result, blocks of a quarter of it are held.

    Returns
    -------
    array of shape (k, n), float64 or complex128
        The product, in memory.
    """
    array = blocks_of(matrix, memory)
    dtype = np.result_type(matrix.dtype, basis.dtype, np.float64)
    found = np.zeros((basis.shape[1], matrix.shape[1]), dtype)
    _project(array, basis, found, _blocks_at_once(array, dtype, memory))
    return_free_memory()
    return found


def _blocks_at_once(array: BlockedArray, dtype: np.dtype[Any], memory: Any) -> int:
    budget = parse_nbytes(memory)
    if budget is None:
        return _MOST_BLOCKS
    # as they are read, and in double precision
    nbytes = 2 * dtype.itemsize * array.chunks[0][0] * array.chunks[1][0]
    return int(max(1, min(_MOST_BLOCKS, budget // 4 // nbytes)))


def _project(array: BlockedArray, basis: NDArray[Any], fitted: NDArray[Any], at_once: int) -> None:
    """Add Q^T X to `fitted`, a few blocks at a time."""
    from dask.base import compute
    from dask.delayed import delayed

    blocks = array.to_dask().to_delayed()
    indices = list(array.grid.indices())
    for first in range(0, len(indices), at_once):
        some = indices[first : first + at_once]
        regions = [array.grid.region(index) for index in some]
        factors = [basis[top:bottom] for (top, bottom), _ in regions]
        tasks = [
            delayed(_smaller, pure=False)(blocks[index], factor)
            for index, factor in zip(some, factors, strict=True)
        ]
        for (_, columns), factor, part in zip(regions, factors, compute(*tasks), strict=True):
            into = fitted[:, slice(*columns)]
            for band in _bands(into):
                into[:, band] += (
                    part[:, band] if len(part) < len(factor) else factor.T @ part[:, band]
                )


def _smaller(block: NDArray[Any], factor: NDArray[Any]) -> NDArray[Any]:
    """Give Q^T X of a block, or the block itself if that is smaller."""
    return factor.T @ block if factor.shape[1] < len(block) else block


def _bands(fitted: NDArray[Any]) -> list[slice]:
    terms, cells = fitted.shape
    step = max(1, _BAND_NBYTES // (fitted.itemsize * terms))
    return [slice(low, min(low + step, cells)) for low in range(0, cells, step)]
