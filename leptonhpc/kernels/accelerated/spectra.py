"""Eigenpairs of a matrix on one device, its product with a few vectors, factors composed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.kernels import spectra
from leptonhpc.kernels.accelerated.moving import bring, moved_in, moved_out
from leptonhpc.kernels.accelerated.pieces import pieces
from leptonhpc.kernels.checks import raise_at, require_hermitian
from leptonhpc.kernels.fold import Accumulator, Region, Small
from leptonhpc.kernels.host import HOST
from leptonhpc.kernels.panels import PROBES, frobenius


@dataclass(frozen=True)
class Syevd(spectra.Syevd):
    """Eigenpairs of the matrix that was loaded, each with its residual, all on the device."""

    def solved(self, a: NDArray[Any]) -> tuple[NDArray[Any], Any]:
        """Give eigenvalues, and V^H on the device."""
        return self.solver(moved_in(self.blas, a))

    def measured(
        self, a: NDArray[Any], w: NDArray[Any], rows: Any
    ) -> tuple[NDArray[np.float64], float, float]:
        """Give |A v - w v| of each pair, the largest entry of |V^H V - I|, and its norm."""
        blas, there = self.blas, moved_in(self.blas, a)
        residuals = np.zeros(len(w))
        largest, square = 0.0, 0.0
        for low, high in pieces((len(w), len(a)), blas.capacity_nbytes):
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
        return moved_out(self.blas, rows)


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


@dataclass(frozen=True)
class Compose(spectra.Compose):
    """Rows of L W, made and checked on the device."""

    def step(
        self, acc: Accumulator, blocks: Sequence[Any], small: Small, at: Region
    ) -> NDArray[Any]:
        """Give one band of B = L W; see `leptonhpc.kernels.spectra.Compose`."""
        (left, x), blas, inner, width = blocks, self.blas, small["inner"], small["w"].shape[1]
        dtype, wide = small["w"].dtype, small["omega"].dtype
        band = np.empty((left.shape[0], width), dtype)
        w, omega = (blas.put(np.ascontiguousarray(small[name])) for name in ("w", "omega"))
        for low, high in pieces((left.shape[0], max(width, x.shape[1])), blas.capacity_nbytes):
            b = blas.zeros((high - low, width), dtype)
            blas.gemm(b, blas.cast(left[low:high, :], dtype), w)
            band[low:high] = blas.get(b)
            b = blas.cast(b, wide)
            scaled = blas.cast(x[low:high, :], wide) * float(small["unit"])
            image = self._product(scaled, omega, wide)
            if inner is not None:
                defect = self._product(b, blas.put(np.ascontiguousarray(inner)), wide)
                defect -= image
                found = math.sqrt(blas.sum_of_squares(defect))
                acc["hypot_defect"] = math.hypot(acc["hypot_defect"], found)
                image = self._product(b, omega, wide)
            projected = blas.zeros((width, PROBES), wide)
            blas.gemm(projected, b, image, adjoint=True)
            acc["projected"] += blas.get(projected)
        return band

    def _product(self, a: Any, vectors: Any, dtype: Any) -> Any:
        product = self.blas.zeros((a.shape[0], vectors.shape[1]), dtype)
        self.blas.gemm(product, a, vectors)
        return product
