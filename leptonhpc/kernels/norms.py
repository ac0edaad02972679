"""Sums of squares and of sizes of a matrix that comes in tiles, strip by strip."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.errors import NumericRangeError
from leptonhpc.kernels.conditioning import raise_non_finite
from leptonhpc.kernels.fold import Accumulator, Blas, Region, Small

CELL_SIZE = 1 << 17
"""Numbers that are summed at once: what is made of them in double precision stays in cache."""
_CELL_COLUMNS = 512
_CELL_ROWS = 4096


@dataclass(frozen=True)
class Norms:
    """Scaled sum of squares, column and row sums of |A|.

    Tiles come strip by strip, those of a strip in the order of their columns: then the sums of its
    rows are there when its last tile was folded, and only the largest and smallest stay.
    """

    blas: Blas

    def begin(self, small: Small, at: Region) -> Accumulator:
        """Give zeros."""
        return {
            "square": 0.0, "columns": np.zeros(small["columns"]), "max_row": 0.0,
            "max_negated_row": -math.inf,
        }  # fmt: skip

    def step(
        self, acc: Accumulator, blocks: Sequence[NDArray[Any]], small: Small, at: Region
    ) -> None:
        """Add one tile."""
        (block,), (first, last) = blocks, at[1]
        if first == 0:
            acc["_rows"] = np.zeros(block.shape[0])
        columns = acc["columns"][first:last]
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            acc["square"] += self._added(block, small["power"], acc["_rows"], columns)
        if not np.isfinite(columns).all():
            raise_non_finite(self.blas.get(block), small, at)
        if last == small["columns"]:
            _end_strip(acc, small, at)

    def _added(
        self, block: NDArray[Any], power: float, rows: NDArray[Any], columns: NDArray[Any]
    ) -> float:
        """Add sizes to the sums of rows and columns; give the sum of squares."""
        wide, total = np.result_type(block.dtype, np.float64), 0.0
        for i, j in _cells(block.shape):
            cell = np.abs(block[i, j].astype(wide, copy=False))
            rows[i] += cell.sum(axis=1)
            columns[j] += cell.sum(axis=0)
            if power != 1:
                cell /= power
            cell *= cell
            total += float(cell.sum())
        return total

    def finish(self, acc: Accumulator, small: Small, at: Region) -> None:
        """Write nothing."""


def _cells(shape: tuple[int, ...]) -> Iterator[tuple[slice, slice]]:
    """Cut a tile into cells, whichever of its sides is contiguous."""
    rows, columns = shape
    wide = min(columns, _CELL_COLUMNS)
    high = max(1, min(_CELL_ROWS, CELL_SIZE // max(1, wide)))
    for row in range(0, rows, high):
        for column in range(0, columns, wide):
            yield slice(row, row + high), slice(column, column + wide)


def _end_strip(acc: Accumulator, small: Small, at: Region) -> None:
    """Take the largest and the smallest of the row sums of a strip."""
    sums = acc.pop("_rows")
    if not np.isfinite(sums).all():
        message = (
            f"sums of numbers of {small['name']} overflow float64, in rows {at[0]} of it or of its "
            "transpose. Scale the array first"
        )
        raise NumericRangeError(message)
    acc["max_row"] = max(acc["max_row"], float(np.max(sums)))
    acc["max_negated_row"] = max(acc["max_negated_row"], -float(np.min(sums)))
