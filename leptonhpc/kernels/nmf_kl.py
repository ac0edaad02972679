"""One sweep of a non-negative factorisation that lowers the Kullback-Leibler divergence.

D(X | WH) = sum x log(x / (WH)) - x + WH. With V = X / (WH), element by element, the gradient by
W is 1 sum(H) - V H^T; in the residual, rows of H are scaled to sum one, which makes it 1 - V H^T.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.kernels.fold import Accumulator, Blas, Region, Small
from leptonhpc.kernels.nmf import MOST_ROUNDS
from leptonhpc.kernels.nmf_rows import checked_square, require_in_range, started, tiles_of


@dataclass(frozen=True)
class MultiplicativeUpdate:
    """W by multiplicative updates [1]_, W^T V and the sums of W, in one reading of X.

    4 b n k flops for each of ``inner`` updates, and 6 b n k for the sums and the residual.

    References
    ----------
    .. [1] D. D. Lee, H. S. Seung, Algorithms for non-negative matrix factorization, NIPS 13, 2001,
       Theorem 2.
    """

    blas: Blas

    def begin(self, small: Small, at: Region) -> Accumulator:
        """Give zeros."""
        columns, k = small["ht"].shape
        acc: Accumulator = {
            "wx": np.zeros((k, columns)), "w_sum": np.zeros(k), "cross": 0.0, "kkt": 0.0,
        }  # fmt: skip
        if small["first"]:
            acc |= {"total": 0.0, "entropy": 0.0, "square": 0.0}
        return acc

    def step(
        self, acc: Accumulator, blocks: Sequence[NDArray[Any]], small: Small, at: Region
    ) -> NDArray[Any]:
        """Improve and sum one band; give its rows of W."""
        x, before = blocks[0], blocks[-1]
        dtype, ht, sums = np.dtype(small["dtype"]), small["ht"], small["sums"]
        w = np.empty((len(x), ht.shape[1]), dtype)
        unit = np.where(sums > 0, sums, 1).astype(dtype)
        for low, high in tiles_of(x, dtype):
            tile = np.ascontiguousarray(x[low:high], dtype)
            if small["first"]:
                acc["square"] += checked_square(tile, small, at, low, self.blas)
                acc["total"] += float(np.sum(tile, dtype=np.float64))
                acc["entropy"] += _times_log(tile, tile) - float(np.sum(tile, dtype=np.float64))
            with np.errstate(over="ignore", under="ignore", invalid="ignore"):
                rows = self._start(tile, before[low:high], small, at[0][0] + low)
                v, product, residual = _improved(rows, tile, ht, unit, small)
                w[low:high] = rows
                acc["kkt"] += residual
                acc["cross"] += _times_log(tile, product)
                acc["wx"] += np.matmul(rows.T, v)
                acc["w_sum"] += rows.sum(axis=0, dtype=np.float64)
        require_in_range(acc["wx"], acc["w_sum"], small)
        return w

    def finish(self, acc: Accumulator, small: Small, at: Region) -> None:
        """Write nothing more."""

    def _start(
        self, tile: NDArray[Any], before: NDArray[Any], small: Small, begin: int
    ) -> NDArray[Any]:
        gt = np.ascontiguousarray(np.matmul(tile, small["ht"]).T)
        wt = started(before, gt, small["p"].astype(gt.dtype), small, begin)
        if small["start"] == "zero":  # products keep zeros: all components are alike
            wt[...] = tile.sum(axis=1) / max(float(np.sum(small["sums"])), np.finfo(wt.dtype).tiny)
        return np.ascontiguousarray(wt.T)


def quotient(x: NDArray[Any], product: NDArray[Any]) -> NDArray[Any]:
    """Give X / (WH); WH is kept from zero, where only underflow can bring it.

    Parameters
    ----------
    x, product : arrays of shape (t, n)
        X and WH; the second is overwritten by at least the root of the smallest normal number.

    Returns
    -------
    array of shape (t, n)
        V.
    """
    np.maximum(product, _least(product), out=product)
    v: NDArray[Any] = x / product
    return v


def _least(product: NDArray[Any]) -> Any:
    return np.sqrt(np.finfo(product.dtype).tiny)


def _improved(
    w: NDArray[Any], x: NDArray[Any], ht: NDArray[Any], unit: NDArray[Any], small: Small
) -> tuple[NDArray[Any], NDArray[Any], float]:
    """Improve rows in place; give V, WH and how far the rows are from optimal.

    The residual is the sum of |min(W, s (1 - V H^T))|, rows of H scaled to sum one and s the mean
    entry that this row of W then has: zero where W is optimal, in the units of X, whatever the
    scaling.
    """
    rounds = MOST_ROUNDS if small["settle"] else 1
    product = np.matmul(w, ht.T)
    totals = x.sum(axis=1, keepdims=True)
    for _ in range(rounds):
        for _ in range(small["inner"]):
            w *= np.matmul(quotient(x, product), ht) / unit
            product = np.matmul(w, ht.T)
        infinite = bool(np.any((product == 0) & (x > 0)))
        v = quotient(x, product)
        gradient = (1 - np.matmul(v, ht) / unit) * (totals / len(unit))
        terms = np.abs(np.minimum(w * unit, gradient))
        residual = float(np.sum(terms, dtype=np.float64))
        if residual <= small["settle"] * float(np.sum(totals)):
            break
    return v, product, math.inf if infinite else residual  # so is the divergence


def _times_log(x: NDArray[Any], y: NDArray[Any]) -> float:
    """Sum x log y, summed up in double precision; y is above zero where x is."""
    terms = np.log(np.where(y > 0, y, 1))
    terms *= x
    return float(np.sum(terms, dtype=np.float64))
