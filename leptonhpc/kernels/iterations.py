"""What one iteration of a Krylov method needs of a matrix that streams by in bands.

Both kernels are given a few vectors V and form T = A V + C for the rows of a lane. `NormalBands`
also gathers A^H T while the band is in cache, so that a step of the Golub-Kahan bidiagonalisation
is one reading. All is computed in double precision whatever the dtype of A: next to reading and
decoding, that is cheap.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.errors import NonFiniteError, NumericRangeError
from leptonhpc.kernels.conditioning import tile_rows
from leptonhpc.kernels.fold import Accumulator, Blas, Region, Small
from leptonhpc.kernels.panels import frobenius

_PART = "rows-"
"""Keys of what a lane has of T; the rest of the key is its first row."""


@dataclass(frozen=True)
class ApplyBands:
    """T = A V; in the first pass also |A|_F, and the check that A is finite."""

    blas: Blas

    def begin(self, small: Small, at: Region) -> Accumulator:
        """Give zeros for the rows of the lane."""
        (r0, r1), v = at[0], small["v"]
        acc: Accumulator = {f"{_PART}{r0}": np.zeros((r1 - r0, small["kept"]), v.dtype)}
        if small["first"]:
            acc["hypot_norm"] = 0.0
        return acc

    def step(
        self, acc: Accumulator, blocks: Sequence[NDArray[Any]], small: Small, at: Region
    ) -> None:
        """Multiply one band."""
        (block,) = blocks
        first, part = part_of(acc)
        v, begin = small["v"], at[0][0]
        height = tile_rows(block.shape[1], v.dtype)
        for low in range(0, len(block), height):
            tile = np.ascontiguousarray(block[low : low + height], v.dtype)
            if small["first"]:
                norm = self._norm(tile, small, begin + low)
                acc["hypot_norm"] = math.hypot(acc["hypot_norm"], norm)
            with np.errstate(over="ignore", under="ignore", invalid="ignore"):
                t: NDArray[Any] = np.matmul(tile, v)
                self._fold(acc, tile, t, small, begin + low)
            rows = slice(begin + low - first, begin + low - first + len(tile))
            part[rows] = t[:, t.shape[1] - small["kept"] :]

    def finish(self, acc: Accumulator, small: Small, at: Region) -> None:
        """Write nothing."""

    def _norm(self, tile: NDArray[Any], small: Small, begin: int) -> float:
        """Give |tile|_F; a number that is not finite is an error."""
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            square = self.blas.sum_of_squares(tile)
        if 1e-200 < square < math.inf:
            return math.sqrt(square)
        finite = np.isfinite(tile)
        if not finite.all():
            row, column = (int(i) for i in np.argwhere(~finite)[0])
            index = (column, row + begin) if small["transposed"] else (row + begin, column)
            rows = f"{begin}:{begin + len(tile)}"
            message = (
                f"{small['name']} has {tile[row, column]} at index {index}, in block "
                f"[{':, ' + rows if small['transposed'] else rows + ', :'}]. Remove such values "
                "first"
            )
            raise NonFiniteError(message)
        return frobenius(tile, self.blas)

    def _fold(
        self, acc: Accumulator, tile: NDArray[Any], t: NDArray[Any], small: Small, begin: int
    ) -> None:
        """Go on with the rows of T."""


@dataclass(frozen=True)
class NormalBands(ApplyBands):
    """T = A V + [0 C] and A^H T in one reading; C belongs to the last columns."""

    def begin(self, small: Small, at: Region) -> Accumulator:
        """Give zeros for the rows of the lane, and for A^H T."""
        acc = super().begin(small, at)
        acc["gathered"] = np.zeros(small["v"].shape, small["v"].dtype)
        return acc

    def _fold(
        self, acc: Accumulator, tile: NDArray[Any], t: NDArray[Any], small: Small, begin: int
    ) -> None:
        c = small["c"]
        t[:, t.shape[1] - c.shape[1] :] += c[begin : begin + len(t)]
        self.blas.gemm(acc["gathered"], tile, t, adjoint=True)
        if not np.isfinite(acc["gathered"]).all():
            raise_overflow(small)


@dataclass(frozen=True)
class GatherRows:
    """All of a small array, in double precision."""

    blas: Blas

    def begin(self, small: Small, at: Region) -> Accumulator:
        """Give zeros."""
        (r0, r1), width = at[0], small["width"]
        return {f"{_PART}{r0}": np.zeros((r1 - r0, width), small["dtype"])}

    def step(
        self, acc: Accumulator, blocks: Sequence[NDArray[Any]], small: Small, at: Region
    ) -> None:
        """Take over a few rows."""
        first, part = part_of(acc)
        (block,), (low, high) = blocks, at[0]
        if not np.isfinite(block).all():
            row, *rest = (int(i) for i in np.argwhere(~np.isfinite(block))[0])
            index = (row + low, *rest) if rest else row + low
            value = block[(row, *rest)]
            message = (
                f"{small['name']} has {value} at index {index}, in block [{low}:{high}]. Remove "
                "such values first"
            )
            raise NonFiniteError(message)
        part[low - first : high - first] = block.reshape(high - low, -1)

    def finish(self, acc: Accumulator, small: Small, at: Region) -> None:
        """Write nothing."""


def part_of(acc: Accumulator) -> tuple[int, NDArray[Any]]:
    """Give the number of the first row that the lane makes, and its rows."""
    key = next(name for name in acc if name.startswith(_PART))
    return int(key.removeprefix(_PART)), acc[key]


def raise_overflow(small: Small) -> None:
    """Raise the typed error for sums that are not finite though the matrix is."""
    message = f"A^H (A v) of {small['name']} overflows float64. Scale the array first"
    raise NumericRangeError(message)
