"""Eigenpairs of a Hermitian matrix that one device holds, and its product with a few vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.kernels import spectra
from leptonhpc.kernels.accelerated.moving import bring
from leptonhpc.kernels.checks import raise_at, require_hermitian
from leptonhpc.kernels.fold import Accumulator, Region, Small
from leptonhpc.kernels.host import HOST
from leptonhpc.kernels.panels import frobenius

_ROWS = 2048
"""Eigenvectors that are measured at once."""


@dataclass(frozen=True)
class Syevd(spectra.Syevd):
    """Eigenpairs of the matrix that was loaded, each with its residual, all on the device."""

    def solved(self, a: NDArray[Any]) -> tuple[NDArray[Any], Any]:
        """Give eigenvalues, and V^H on the device."""
        return self.solver(self.blas.put(a))

    def measured(
        self, a: NDArray[Any], w: NDArray[Any], rows: Any
    ) -> tuple[NDArray[np.float64], float, float]:
        """Give |A v - w v| of each pair, the largest entry of |V^H V - I|, and its norm."""
        blas, there = self.blas, self.blas.put(a)
        residuals = np.zeros(len(w))
        largest, square = 0.0, 0.0
        for low in range(0, len(w), _ROWS):
            high = min(low + _ROWS, len(w))
            part = rows[low:high, :]
            left = part * blas.put(-w[low:high, None].astype(a.dtype))
            blas.gemm(left, part, there)  # V^H A - W V^H
            sizes = blas.xp.abs(left)
            residuals[low:high] = np.sqrt(blas.get(blas.xp.sum(sizes * sizes, axis=1)))
            gram = blas.zeros((high - low, high), a.dtype)
            blas.gemm(gram, part, rows[:high, :], right_adjoint=True)
            gram[:, low:] -= blas.put(np.eye(high - low, dtype=a.dtype))
            largest = max(largest, float(blas.xp.max(blas.xp.abs(gram))))
            # what is left of the diagonal block stands above it too
            square += 2 * blas.sum_of_squares(gram[:, :low]) if low else 0.0
            square += blas.sum_of_squares(gram[:, low:])
        return residuals, largest, math.sqrt(square)

    def brought(self, rows: Any) -> NDArray[Any]:
        """Give V^H on the host."""
        back: NDArray[Any] = self.blas.get(rows)
        return back


@dataclass(frozen=True)
class Hemm(spectra.Hemm):
    """A Y for a Hermitian A of which blocks on and below the diagonal come to the device."""

    def begin(self, small: Small, at: Region) -> Accumulator:
        """Give zeros."""
        y = small["y"]
        return {"product": self.blas.zeros(y.shape, y.dtype), "hypot_norm": 0.0}

    def step(self, acc: Accumulator, blocks: Sequence[Any], small: Small, at: Region) -> None:
        """Add what a block and its mirror image contribute; compare them if both were read."""
        blas, y = self.blas, small["y"]
        product = bring(acc, blas, "product")
        block = blas.cast(blocks[0], y.dtype)
        (r0, r1), (c0, c1) = at
        below = r0 != c0
        if small["check"]:
            self._check(acc, [blas.get(b) for b in blocks], small, at)
        blas.gemm(product[r0:r1, :], block, blas.put(np.ascontiguousarray(y[c0:c1])))
        if below:
            other = blas.put(np.ascontiguousarray(y[r0:r1]))
            blas.gemm(product[c0:c1, :], block, other, adjoint=True)

    def _check(
        self, acc: Accumulator, blocks: Sequence[NDArray[Any]], small: Small, at: Region
    ) -> None:
        """Compare a block with its mirror image on the host, and add its norm."""
        block = blocks[0].astype(small["y"].dtype, copy=False)
        if not np.isfinite(block).all():
            raise_at(block, at, small["name"])
        below = at[0][0] != at[1][0]
        other = blocks[1].astype(block.dtype, copy=False) if below else block.conj().T
        require_hermitian(block, other, small, at)
        norm = frobenius(block, HOST) * (math.sqrt(2.0) if below else 1.0)
        acc["hypot_norm"] = math.hypot(acc["hypot_norm"], norm)
