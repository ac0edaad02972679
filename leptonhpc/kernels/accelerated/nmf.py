"""One sweep of a non-negative factorisation X ~ W H whose bands come to a device.

Products with X and the rows of W are the device's; how rows begin, and what is wrong with numbers,
is the host's. What is summed is what `leptonhpc.kernels.nmf` and `nmf_kl` sum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.kernels import nmf, nmf_kl
from leptonhpc.kernels.accelerated.pieces import pieces
from leptonhpc.kernels.fold import Accumulator, Blas, Region, Small
from leptonhpc.kernels.host import HOST
from leptonhpc.kernels.nmf_rows import checked_square, require_in_range, started


@dataclass(frozen=True)
class Hals(nmf.Hals):
    """W by hierarchical alternating least squares, W^T X and W^T W, in one reading of X."""

    def step(
        self, acc: Accumulator, blocks: Sequence[Any], small: Small, at: Region
    ) -> NDArray[Any]:
        """Improve and sum one band; give its rows of W."""
        (x, before), blas, dtype = (blocks[0], blocks[-1]), self.blas, np.dtype(small["dtype"])
        p, k = small["p"].astype(dtype), small["ht"].shape[1]
        ht, gram = blas.put(np.ascontiguousarray(small["ht"])), blas.put(p)
        w = np.empty((x.shape[0], k), dtype)
        product = blas.zeros(acc["wx"].shape, dtype)
        for low, high in pieces(x.shape, blas.capacity_nbytes):
            tile, square = blas.cast(x[low:high, :], dtype), 0.0
            if small["first"]:
                square = _checked(blas, tile, small, at, low)
                acc["square"] += square
            gt = blas.zeros((k, high - low), dtype)
            blas.gemm(gt, ht, tile, adjoint=True, right_adjoint=True)
            wt = blas.zeros((k, high - low), dtype)
            wt += _begun(blas, before[low:high, :], gt, small, at[0][0] + low)
            acc["kkt"] += _improved(blas, wt, gt, (p, gram), square, small)
            w[low:high] = blas.get(wt).T
            blas.gemm(product, wt, tile)
            rows = blas.put(w[low:high].astype(np.float64))
            summed = blas.zeros((k, k), np.float64)
            blas.gemm(summed, rows, rows, adjoint=True)
            acc["ww"] += blas.get(summed)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            acc["wx"] += blas.get(product)
        require_in_range(acc["wx"], acc["ww"], small)
        return w


@dataclass(frozen=True)
class MultiplicativeUpdate(nmf_kl.MultiplicativeUpdate):
    """W by multiplicative updates, W^T V and the sums of W, in one reading of X."""

    def step(
        self, acc: Accumulator, blocks: Sequence[Any], small: Small, at: Region
    ) -> NDArray[Any]:
        """Improve and sum one band; give its rows of W."""
        (x, before), blas, dtype = (blocks[0], blocks[-1]), self.blas, np.dtype(small["dtype"])
        k, sums = small["ht"].shape[1], small["sums"]
        ht = blas.put(np.ascontiguousarray(small["ht"]))
        w = np.empty((x.shape[0], k), dtype)
        divergence = _Divergence(blas, ht, np.where(sums > 0, sums, 1).astype(dtype), dtype)
        for low, high in pieces(x.shape, blas.capacity_nbytes):
            tile = blas.cast(x[low:high, :], dtype)
            if small["first"]:
                acc["square"] += _checked(blas, tile, small, at, low)
                total = divergence.total(tile)
                acc["total"] += total
                acc["entropy"] += divergence.times_log(tile, tile) - total
            gt = blas.zeros((k, high - low), dtype)
            blas.gemm(gt, ht, tile, adjoint=True, right_adjoint=True)
            rows = blas.zeros((high - low, k), dtype)
            if small["start"] == "zero":  # products keep zeros: all components are alike
                totals = blas.xp.sum(tile, axis=1)[:, None]
                rows += totals / max(float(np.sum(sums)), float(np.finfo(dtype).tiny))
            else:
                rows += _begun(blas, before[low:high, :], gt, small, at[0][0] + low).T
            rows, v, product, residual = divergence.improved(rows, tile, small)
            w[low:high] = blas.get(rows)
            acc["kkt"] += residual
            acc["cross"] += divergence.times_log(tile, product)
            part = blas.zeros(acc["wx"].shape, dtype)
            blas.gemm(part, rows, v, adjoint=True)
            with np.errstate(over="ignore", under="ignore", invalid="ignore"):
                acc["wx"] += blas.get(part)
                acc["w_sum"] += w[low:high].sum(axis=0, dtype=np.float64)
        require_in_range(acc["wx"], acc["w_sum"], small)
        return w


@dataclass(frozen=True)
class _Divergence:
    """Multiplicative updates of rows that are on a device."""

    blas: Blas
    ht: Any
    """(n, k), on the device."""
    unit: NDArray[Any]
    """Sums of the rows of H, one where they are zero."""
    dtype: np.dtype[Any]

    def improved(self, w: Any, x: Any, small: Small) -> tuple[Any, Any, Any, float]:
        """Give better rows, V, W H and the residual; see `leptonhpc.kernels.nmf_kl`."""
        blas, xp = self.blas, self.blas.xp
        unit, k = blas.put(self.unit)[None, :], len(self.unit)
        totals = xp.sum(x, axis=1)[:, None]
        product = self._product(w)
        for _ in range(nmf.MOST_ROUNDS if small["settle"] else 1):
            for _ in range(small["inner"]):
                v, _ = self._quotient(x, product)
                w = w * self._gathered(v) / unit
                product = self._product(w)
            infinite = bool(xp.any(xp.where(product == 0, x, xp.zeros_like(x)) > 0))
            v, product = self._quotient(x, product)
            gradient = (self._gathered(v) / unit - 1) * -1.0 * totals / float(k)
            sized = w * unit
            terms = xp.abs(xp.where(sized < gradient, sized, gradient))
            residual = self.total(terms)
            if residual <= small["settle"] * self.total(totals):
                break
        return w, v, product, math.inf if infinite else residual

    def total(self, a: Any) -> float:
        """Sum numbers in double precision."""
        return float(self.blas.xp.sum(self.blas.cast(a, np.float64)))

    def times_log(self, x: Any, y: Any) -> float:
        """Sum x log y in double precision; y is above zero where x is."""
        one = self.blas.zeros((1, 1), self.dtype) + 1
        return self.total(self.blas.xp.log(self.blas.xp.where(y > 0, y, one)) * x)

    def _product(self, w: Any) -> Any:
        product = self.blas.zeros((w.shape[0], self.ht.shape[0]), self.dtype)
        self.blas.gemm(product, w, self.ht, right_adjoint=True)
        return product

    def _gathered(self, v: Any) -> Any:
        gathered = self.blas.zeros((v.shape[0], self.ht.shape[1]), self.dtype)
        self.blas.gemm(gathered, v, self.ht)
        return gathered

    def _quotient(self, x: Any, product: Any) -> tuple[Any, Any]:
        """Give X / (WH), and WH kept from zero, where only underflow can bring it."""
        least = self.blas.zeros((1, 1), self.dtype) + math.sqrt(float(np.finfo(self.dtype).tiny))
        kept = self.blas.xp.where(product < least, least, product)
        return x / kept, kept


def _checked(blas: Blas, tile: Any, small: Small, at: Region, low: int) -> float:
    """Give |tile|_F^2; the host says what is wrong with a number."""
    square = float(blas.sum_of_squares(tile))
    if not math.isfinite(square) or bool(blas.xp.any(tile < 0)):
        return checked_square(blas.get(tile), small, at, low, HOST)
    return square


def _begun(blas: Blas, before: Any, gt: Any, small: Small, begin: int) -> Any:
    """Give W^T to begin with, on the device."""
    if small["start"] == "previous":
        return blas.cast(before, small["dtype"]).T
    known = small["start"] in ("given", "split")
    rows = blas.get(before) if known else np.empty((gt.shape[1], 0))
    p = small["p"].astype(np.dtype(small["dtype"]))
    return blas.put(started(rows, blas.get(gt), p, small, begin))


def _improved(
    blas: Blas, wt: Any, gt: Any, grams: tuple[NDArray[Any], Any], square: float, small: Small
) -> float:
    """Improve columns of W^T in place; give their residual, as `leptonhpc.kernels.nmf` does."""
    p, gram = grams
    norms = np.sqrt(np.diagonal(p))[:, None]
    sizes, divisors = blas.put(norms), blas.put(np.where(norms > 0, norms, 1).astype(p.dtype))
    for _ in range(nmf.MOST_ROUNDS if small["settle"] else 1):
        _descend(blas, wt, gt, grams, sweeps=small["inner"])
        gradient = gt * -1.0
        blas.gemm(gradient, gram, wt)
        gradient = gradient / divisors
        sized = wt * sizes
        residual = float(blas.sum_of_squares(blas.xp.where(sized < gradient, sized, gradient)))
        if residual <= small["settle"] ** 2 * square:
            break
    return residual


def _descend(blas: Blas, wt: Any, gt: Any, grams: tuple[NDArray[Any], Any], *, sweeps: int) -> None:
    """Lower |X - W H|_F by one row of W^T after the other; see `leptonhpc.kernels.nmf.descend`."""
    p, gram = grams
    zero = blas.zeros((1, 1), p.dtype)
    rows = [j for j in range(len(p)) if p[j, j] > 0]
    for _ in range(sweeps):
        for j in rows:
            part = gt[j : j + 1, :] + 0
            blas.gemm(part, gram[j : j + 1, :], wt, alpha=-1.0)
            row = wt[j : j + 1, :] + part / float(p[j, j])
            wt[j : j + 1, :] = blas.xp.where(row < 0, zero, row)  # what is not a number stays
