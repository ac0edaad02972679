"""Sums over the numbers of a band that came to a device: moments and norms, in double precision.

They read as fast as the device's memory is, and what other passes keep there need not come back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.kernels import bands, norms
from leptonhpc.kernels.accelerated.conditioning import in_unit_scale
from leptonhpc.kernels.accelerated.pieces import cells, pieces
from leptonhpc.kernels.conditioning import raise_non_finite
from leptonhpc.kernels.fold import Accumulator, Region, Small

_TINY = 1e-200
"""Sums of squares below this have lost digits, or everything."""


@dataclass(frozen=True)
class Moments(bands.Moments):
    """Count, sum and sum of squares of each column's present values, less `shift`."""

    def step(self, acc: Accumulator, blocks: Sequence[Any], small: Small, at: Region) -> None:
        """Add one band."""
        (block,), blas, xp = blocks, self.blas, self.blas.xp
        wide = np.result_type(np.dtype(small["dtype"]), np.float64)
        rows = block.shape[0]
        if not small["first"]:  # provisional means, from the first rows only
            rows = min(rows, max(0, small["most_rows"] - at[0][0]))
        shift = None
        if small["shift"] is not None:
            shift = blas.put(np.ascontiguousarray(small["shift"].astype(wide)))
        for low, high in pieces((rows, block.shape[1]), blas.capacity_nbytes):
            with np.errstate(over="ignore", under="ignore", invalid="ignore"):
                tile = blas.cast(in_unit_scale(blas, block[low:high, :], small), wide)
                tile = tile if shift is None else tile - shift
                absent = xp.isnan(tile)
                missing = blas.get(xp.sum(blas.cast(absent, np.float64), axis=0))
                if missing.any():
                    tile = xp.where(absent, xp.zeros_like(tile), tile)
                sizes = xp.abs(tile)
                square = blas.get(xp.sum(sizes * sizes, axis=0))
                acc["count"] += high - low - missing
                acc["sum"] += blas.get(xp.sum(tile, axis=0))
                acc["square"] += square
            if square.sum() < _TINY and bool(xp.any(tile != 0)):
                acc["max_tiny"] = 1
        if small["first"] and not np.isfinite(acc["square"]).all():
            raise_non_finite(blas.get(block), small, at)


@dataclass(frozen=True)
class Norms(norms.Norms):
    """Scaled sum of squares, column and row sums of |A|."""

    def _added(self, block: Any, power: float, rows: NDArray[Any], columns: NDArray[Any]) -> float:
        """Add sizes to the sums of rows and columns; give the sum of squares."""
        blas, xp, total = self.blas, self.blas.xp, 0.0
        wide = np.complex128 if "complex" in str(block.dtype) else np.float64
        for i, j in cells(block.shape, blas.capacity_nbytes):
            piece = xp.abs(blas.cast(block[i, j], wide))
            rows[i] += blas.get(xp.sum(piece, axis=1))
            columns[j] += blas.get(xp.sum(piece, axis=0))
            scaled = piece / power
            total += float(xp.sum(scaled * scaled))
        return total
