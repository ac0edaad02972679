"""Kernels of spectral divide and conquer: matrices that are shifted, drawn, joined, and judged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.kernels.fold import Accumulator, Blas, Region, Small
from leptonhpc.kernels.panels import frobenius
from leptonhpc.kernels.products import Gemm, Syrk
from leptonhpc.kernels.random import gaussian_rows


@dataclass(frozen=True)
class Squared:
    """A block of alpha C + beta I, C = X^H X, and how far C is from the identity."""

    blas: Blas
    diagonal: bool
    """Blocks on the diagonal, by half the flops."""

    @property
    def _fold(self) -> Gemm | Syrk:
        return Syrk(self.blas) if self.diagonal else Gemm(self.blas)

    def begin(self, small: Small, at: Region) -> Accumulator:
        """Give a block of zeros."""
        return self._fold.begin(small, at)

    def step(
        self, acc: Accumulator, blocks: Sequence[NDArray[Any]], small: Small, at: Region
    ) -> None:
        """Add what a panel contributes."""
        self._fold.step(acc, blocks, small, at)

    def finish(self, acc: Accumulator, small: Small, at: Region) -> NDArray[Any]:
        """Give the block; leave |C - I|_F and the largest entry of C - I."""
        c = self._fold.finish(acc, small, at)
        diagonal = diagonal_of(c, at)
        diagonal -= 1
        largest, size = 0.0, 0.0
        for low in range(0, len(c), 256):
            rows = c[low : low + 256]
            largest = max(largest, float(np.max(np.abs(rows))))
            size = math.hypot(size, self._size(rows))
        # what lies beside the diagonal has a mirror image
        acc["hypot_defect"] = size if at[0] == at[1] else math.sqrt(2.0) * size
        acc["max_defect"] = largest
        alpha, beta = small["alpha"], small["beta"]
        if (alpha, beta) != (1, 1):  # C - I becomes alpha C + beta I
            c *= c.real.dtype.type(alpha)
            diagonal += alpha + beta
        else:
            diagonal += 1
        return c

    def _size(self, rows: NDArray[Any]) -> float:
        return frobenius(rows, self.blas)


@dataclass(frozen=True)
class Shifted:
    """A block of alpha A + beta I, and its trace."""

    blas: Blas

    def begin(self, small: Small, at: Region) -> Accumulator:
        """Give nothing."""
        return {"trace": 0.0}

    def step(
        self, acc: Accumulator, blocks: Sequence[NDArray[Any]], small: Small, at: Region
    ) -> None:
        """Hold the block."""
        dtype = np.dtype(small["dtype"])
        block = blocks[0].astype(dtype)
        diagonal = diagonal_of(block, at)
        block *= block.real.dtype.type(small["alpha"])
        diagonal += small["beta"]
        acc["trace"] += float(np.sum(diagonal.real, dtype=np.float64))
        acc["_block"] = block

    def finish(self, acc: Accumulator, small: Small, at: Region) -> NDArray[Any]:
        """Give the block."""
        block: NDArray[Any] = acc.pop("_block")
        return block


@dataclass(frozen=True)
class Perturbed:
    """A block of A / alpha + beta G, G Gaussian, each of its block columns a matrix of its own."""

    blas: Blas

    def begin(self, small: Small, at: Region) -> Accumulator:
        """Give nothing."""
        return {}

    def step(
        self, acc: Accumulator, blocks: Sequence[NDArray[Any]], small: Small, at: Region
    ) -> None:
        """Scale the block, and add the other."""
        (r0, r1), (c0, c1) = at
        block = blocks[0].astype(small["dtype"])
        real = block.real.dtype.type
        block /= real(small["alpha"])
        block += real(small["beta"]) * gaussian_rows(
            small["seed"] + c0, r0, r1, c1 - c0, block.dtype
        )
        acc["_block"] = block

    def finish(self, acc: Accumulator, small: Small, at: Region) -> NDArray[Any]:
        """Give the block."""
        block: NDArray[Any] = acc.pop("_block")
        return block


@dataclass(frozen=True)
class Draw:
    """A block of a Gaussian matrix that depends on the seed only."""

    blas: Blas

    def begin(self, small: Small, at: Region) -> Accumulator:
        """Give nothing."""
        return {}

    def step(
        self, acc: Accumulator, blocks: Sequence[NDArray[Any]], small: Small, at: Region
    ) -> None:
        """Fold nothing."""

    def finish(self, acc: Accumulator, small: Small, at: Region) -> NDArray[Any]:
        """Give the block; each block column is a matrix of its own."""
        (r0, r1), (c0, c1) = at
        return gaussian_rows(small["seed"] + c0, r0, r1, c1 - c0, small["dtype"])


@dataclass(frozen=True)
class Join:
    """A block of [X | Y]: each step brings some of its columns."""

    blas: Blas

    def begin(self, small: Small, at: Region) -> Accumulator:
        """Give an empty block."""
        (r0, r1), (c0, c1) = at
        return {"_block": np.empty((r1 - r0, c1 - c0), small["dtype"]), "_first": c0}

    def step(
        self, acc: Accumulator, blocks: Sequence[NDArray[Any]], small: Small, at: Region
    ) -> None:
        """Take over the columns of one of the two."""
        c0, c1 = (c - acc["_first"] for c in at[1])
        acc["_block"][:, c0:c1] = blocks[0]

    def finish(self, acc: Accumulator, small: Small, at: Region) -> NDArray[Any]:
        """Give the block."""
        del acc["_first"]
        block: NDArray[Any] = acc.pop("_block")
        return block


@dataclass(frozen=True)
class PairResiduals:
    """|A v - w v|^2 of each pair, from A V and V, block by block."""

    blas: Blas

    def begin(self, small: Small, at: Region) -> Accumulator:
        """Give zeros."""
        return {"squares": np.zeros(len(small["w"]))}

    def step(
        self, acc: Accumulator, blocks: Sequence[NDArray[Any]], small: Small, at: Region
    ) -> None:
        """Add one block's part, in units of the norm of A: squares of it stay in range."""
        product, vectors = blocks
        c0, c1 = at[1]
        left = np.abs(product - vectors * small["w"][c0:c1]).astype(np.float64) / small["unit"]
        acc["squares"][c0:c1] += np.sum(left**2, axis=0)

    def finish(self, acc: Accumulator, small: Small, at: Region) -> None:
        """Write nothing."""


def diagonal_of(block: NDArray[Any], at: Region) -> NDArray[Any]:
    """Give a writable view of what of the matrix's diagonal lies in a block.

    Parameters
    ----------
    block : array of shape (m, n)
        Part of a matrix.
    at : region
        Which part.

    Returns
    -------
    array of shape (k,)
        A view; empty if the diagonal does not pass through the block.
    """
    (r0, r1), (c0, c1) = at
    first, last = max(r0, c0), min(r1, c1)
    part = block[max(0, first - r0) : max(0, last - r0), max(0, first - c0) : max(0, last - c0)]
    view: NDArray[Any] = np.einsum("ii->i", part)
    return view
