"""What one sweep of a non-negative factorisation X ~ W H needs of each band of X.

H is small and stays as it is during a sweep. While a band is in memory its rows of W are improved,
and W^T X and W^T W are summed, from which H is improved between sweeps. The residual of the
optimality conditions of W is measured after its rows were improved: that of H follows from the
sums, so that both belong to the same W and H.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.kernels.fold import Accumulator, Blas, Region, Small
from leptonhpc.kernels.nmf_rows import checked_square, require_in_range, started, tiles_of

MOST_ROUNDS = 250
"""Of improving rows that are to be solved for."""


@dataclass(frozen=True)
class Hals:
    """W by hierarchical alternating least squares [1]_, W^T X and W^T W, in one reading of X.

    The rows of W are improved ``inner`` times over: X H^T costs more than that [2]_. 4 b n k +
    2 b k^2 inner flops a band.

    References
    ----------
    .. [1] A. Cichocki, A.-H. Phan, Fast local algorithms for large scale nonnegative matrix and
       tensor factorizations, IEICE Trans. Fundamentals E92-A, 2009, Algorithm 2.
    .. [2] N. Gillis, F. Glineur, Accelerated multiplicative updates and hierarchical ALS algorithms
       for nonnegative matrix factorization, Neural Comput. 24, 2012.
    """

    blas: Blas

    def begin(self, small: Small, at: Region) -> Accumulator:
        """Give zeros."""
        columns, k = small["ht"].shape
        acc: Accumulator = {"wx": np.zeros((k, columns)), "ww": np.zeros((k, k)), "kkt": 0.0}
        if small["first"]:
            acc["square"] = 0.0
        return acc

    def step(
        self, acc: Accumulator, blocks: Sequence[NDArray[Any]], small: Small, at: Region
    ) -> NDArray[Any]:
        """Improve and sum one band; give its rows of W."""
        x, before = blocks[0], blocks[-1]
        dtype, ht = np.dtype(small["dtype"]), small["ht"]
        p, w = small["p"].astype(dtype), np.empty((len(x), ht.shape[1]), dtype)
        product = np.zeros(acc["wx"].shape, dtype)
        for low, high in tiles_of(x, dtype):
            tile = np.ascontiguousarray(x[low:high], dtype)
            square = 0.0
            if small["first"]:
                square = checked_square(tile, small, at, low, self.blas)
                acc["square"] += square
            with np.errstate(over="ignore", under="ignore", invalid="ignore"):
                gt = np.ascontiguousarray(np.matmul(tile, ht).T)
                wt = started(before[low:high], gt, p, small, at[0][0] + low)
                acc["kkt"] += _improved(wt, gt, p, square, small)
                w[low:high] = wt.T
                product += np.matmul(wt, tile)
                wide = w[low:high].astype(np.float64, copy=False)
                acc["ww"] += wide.T @ wide
        acc["wx"] += product
        require_in_range(acc["wx"], acc["ww"], small)
        return w

    def finish(self, acc: Accumulator, small: Small, at: Region) -> None:
        """Write nothing more."""


@dataclass(frozen=True)
class SplitNorms:
    """Squares of the positive and of the negative part of each column, and the columns' sums."""

    blas: Blas

    def begin(self, small: Small, at: Region) -> Accumulator:
        """Give zeros."""
        return {name: np.zeros(small["width"]) for name in ("positive", "negative", "sum")}

    def step(
        self, acc: Accumulator, blocks: Sequence[NDArray[Any]], small: Small, at: Region
    ) -> None:
        """Add one band."""
        (u,) = blocks
        for low, high in tiles_of(u, np.dtype(float)):
            tile = u[low:high, : small["width"]].astype(np.float64)
            acc["sum"] += tile.sum(axis=0)
            acc["positive"] += np.sum(np.maximum(tile, 0) ** 2, axis=0)
            acc["negative"] += np.sum(np.minimum(tile, 0) ** 2, axis=0)

    def finish(self, acc: Accumulator, small: Small, at: Region) -> None:
        """Write nothing."""


@dataclass(frozen=True)
class ScaleColumns:
    """Columns of W times powers of two, which rounds nothing; and the smallest entry."""

    blas: Blas

    def begin(self, small: Small, at: Region) -> Accumulator:
        """Give the largest negated entry of nothing."""
        return {"max_below": -np.inf}

    def step(
        self, acc: Accumulator, blocks: Sequence[NDArray[Any]], small: Small, at: Region
    ) -> NDArray[Any]:
        """Give the rows of one band."""
        (w,) = blocks
        scaled: NDArray[Any] = w * small["factor"].astype(w.dtype)
        acc["max_below"] = max(acc["max_below"], float(-scaled.min()))
        return scaled

    def finish(self, acc: Accumulator, small: Small, at: Region) -> None:
        """Write nothing more."""


def descend(wt: NDArray[Any], gt: NDArray[Any], p: NDArray[Any], *, sweeps: int) -> None:
    """Lower |X - W H|_F in place by one row of W^T after the other, all non-negative.

    Parameters
    ----------
    wt : array of shape (k, b)
        W^T; overwritten.
    gt : array of shape (k, b)
        H X^T.
    p : array of shape (k, k)
        H H^T. Rows of H that are zero leave those of W^T as they are.
    sweeps : int
        How often all rows are gone through.
    """
    diagonal = np.diagonal(p)
    rows = [j for j in range(len(p)) if diagonal[j] > 0]
    for _ in range(sweeps):
        for j in rows:
            row = wt[j]
            row += (gt[j] - p[j] @ wt) / diagonal[j]
            np.maximum(row, 0, out=row)


def residual_of(wt: NDArray[Any], gt: NDArray[Any], p: NDArray[Any]) -> float:
    """Give how far W is from the conditions of a least-squares solution that is not negative.

    Parameters
    ----------
    wt, gt, p : arrays of shapes (k, b), (k, b), (k, k)
        As for `descend`.

    Returns
    -------
    float
        Sum of squares of min(W, gradient), where rows of H are scaled to norm one: both are in the
        units of X then, and no scaling of W and H changes it.
    """
    norms = np.sqrt(np.diagonal(p))[:, None]
    gradient = (p @ wt - gt) / np.where(norms > 0, norms, 1)
    return float(np.sum(np.minimum(wt * norms, gradient) ** 2, dtype=np.float64))


def _improved(
    wt: NDArray[Any], gt: NDArray[Any], p: NDArray[Any], square: float, small: Small
) -> float:
    """Improve rows in place; give their residual. With `settle` it is at most that of |X|^2."""
    rounds = MOST_ROUNDS if small["settle"] else 1
    for _ in range(rounds):
        descend(wt, gt, p, sweeps=small["inner"])
        residual = residual_of(wt, gt, p)
        if residual <= small["settle"] ** 2 * square:
            break
    return residual
