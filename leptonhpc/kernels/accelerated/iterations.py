"""What an iteration of a Krylov method needs of a matrix whose bands come to a device."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from leptonhpc.kernels import iterations
from leptonhpc.kernels.accelerated.moving import bring
from leptonhpc.kernels.accelerated.pieces import pieces
from leptonhpc.kernels.fold import Accumulator, Region, Small
from leptonhpc.kernels.host import HOST


@dataclass(frozen=True)
class ApplyBands(iterations.ApplyBands):
    """T = A V; in the first pass also |A|_F, and the check that A is finite."""

    def step(self, acc: Accumulator, blocks: Sequence[Any], small: Small, at: Region) -> None:
        """Multiply one band."""
        (block,), blas, v, begin = blocks, self.blas, small["v"], at[0][0]
        first, part = iterations.part_of(acc)
        there = blas.put(np.ascontiguousarray(v))
        for low, high in pieces(block.shape, blas.capacity_nbytes):
            tile = blas.cast(block[low:high, :], v.dtype)
            if small["first"]:
                norm = self._norm(tile, small, begin + low)
                acc["hypot_norm"] = math.hypot(acc["hypot_norm"], norm)
            t = blas.zeros((tile.shape[0], v.shape[1]), v.dtype)
            blas.gemm(t, tile, there)
            self._fold(acc, tile, t, small, begin + low)
            rows = slice(begin + low - first, begin + high - first)
            part[rows] = blas.get(t)[:, v.shape[1] - small["kept"] :]

    def _norm(self, tile: Any, small: Small, begin: int) -> float:
        square = self.blas.sum_of_squares(tile)
        if 1e-200 < square < math.inf:
            return math.sqrt(square)
        return iterations.ApplyBands(HOST)._norm(self.blas.get(tile), small, begin)


@dataclass(frozen=True)
class NormalBands(ApplyBands, iterations.NormalBands):
    """T = A V + [0 C], and A^H T, which stays on the device; C belongs to the last columns."""

    def begin(self, small: Small, at: Region) -> Accumulator:
        """Give zeros for the rows of the lane, and for A^H T."""
        acc = iterations.NormalBands.begin(self, small, at)
        acc["gathered"] = self.blas.put(acc["gathered"])
        return acc

    def _fold(self, acc: Accumulator, tile: Any, t: Any, small: Small, begin: int) -> None:
        blas, c = self.blas, small["c"]
        low = t.shape[1] - c.shape[1]
        if c.shape[1]:
            there = blas.put(np.ascontiguousarray(c[begin : begin + t.shape[0]]))
            t[:, low:] += blas.cast(there, t.dtype)
        gathered = bring(acc, blas, "gathered")
        blas.gemm(gathered, tile, t, adjoint=True)
        if not blas.all_finite(gathered):
            iterations.raise_overflow(small)
