"""Kernels for matrix products and norms of a grid of blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.errors import NonFiniteError
from leptonhpc.kernels.conditioning import raise_non_finite, tile_rows
from leptonhpc.kernels.fold import Accumulator, Blas, Region, Small
from leptonhpc.kernels.random import gaussian_rows

PROBES = 2


def _converted(block: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Give the block in the dtype of computing, with contiguous rows or columns."""
    if block.dtype != dtype:
        return block.astype(dtype)
    contiguous = any(s == block.itemsize for s in block.strides)
    return block if contiguous or block.size < 2 else np.ascontiguousarray(block)


@dataclass(frozen=True)
class Gemm:
    """One block of C = A B, stationary while panels of A and B stream by.

    Each block is checked against random vectors x as it is made (Freivalds): C x and A (B x) are
    formed by different sums, so their difference is rounding, or it is a fault.
    """

    blas: Blas

    def begin(self, small: Small, at: Region) -> Accumulator:
        """Give a block of zeros and a random vector for its columns."""
        (r0, r1), (c0, c1) = at
        dtype = np.dtype(small["dtype"])
        return {
            "_c": np.zeros((r1 - r0, c1 - c0), dtype),
            "_x": gaussian_rows(small["seed"], c0, c1, PROBES, dtype),
            "_expected": np.zeros((r1 - r0, PROBES), dtype),
            "_image": None,
            "_norms": [0.0, 0.0],
        }

    def step(
        self, acc: Accumulator, blocks: Sequence[NDArray[Any]], small: Small, at: Region
    ) -> None:
        """Add A B for one block of A and one panel of B; `at` is its place within the block."""
        dtype = np.dtype(small["dtype"])
        a, panel = (_converted(block, dtype) for block in blocks)
        (low, high), depth = at
        if (
            acc["_image"] is None or acc["_image"][0] != depth
        ):  # the first block of A for this panel
            acc["_image"] = (depth, panel @ acc["_x"])
            acc["_norms"][1] += self._square(panel, small["names"][1], at)
        self.blas.gemm(acc["_c"][low:high], a, panel)
        acc["_expected"][low:high] += a @ acc["_image"][1]
        acc["_norms"][0] += self._square(a, small["names"][0], at)

    def _square(self, block: NDArray[Any], name: str, at: Region) -> float:
        plain = block if block.flags.c_contiguous else block.T
        square: float = self.blas.sum_of_squares(np.ascontiguousarray(plain))
        if not np.isfinite(square):
            finite = np.isfinite(block)
            if not finite.all():
                row, column = (int(i) for i in np.argwhere(~finite)[0])
                message = (
                    f"{name} has {block[row, column]} at ({row}, {column}) of the block read for "
                    f"rows {at[0]} of C"
                )
                raise NonFiniteError(message)
        return square

    def finish(self, acc: Accumulator, small: Small, at: Region) -> NDArray[Any]:
        """Give the block; leave how far it is from what the random vectors expect."""
        return _checked(acc, acc.pop("_c"), small)


@dataclass(frozen=True)
class Syrk:
    """One diagonal block of A^H A, by half the flops."""

    blas: Blas

    def begin(self, small: Small, at: Region) -> Accumulator:
        """Give a block of zeros and a random vector."""
        return Gemm(self.blas).begin(small, at)

    def step(
        self, acc: Accumulator, blocks: Sequence[NDArray[Any]], small: Small, at: Region
    ) -> None:
        """Add P^H P for one panel P of A."""
        panel = np.ascontiguousarray(_converted(blocks[0], np.dtype(small["dtype"])))
        self.blas.syrk(acc["_c"], panel)
        acc["_expected"] += panel.conj().T @ (panel @ acc["_x"])
        square = Gemm(self.blas)._square(panel, small["names"][0], at)
        acc["_norms"][0] += square
        acc["_norms"][1] += square

    def finish(self, acc: Accumulator, small: Small, at: Region) -> NDArray[Any]:
        """Give the whole block, its upper triangle mirrored."""
        return _checked(acc, mirrored(acc.pop("_c")), small)


def mirrored(lower: NDArray[Any]) -> NDArray[Any]:
    """Fill the upper triangle from the lower one, in place, block by block."""
    n = len(lower)
    for low in range(0, n, 512):
        high = min(low + 512, n)
        block = lower[low:high, low:high]
        upper = np.triu_indices(high - low, 1)
        block[upper] = block.conj().T[upper]
        lower[low:high, high:] = lower[high:, low:high].conj().T
    return lower


def _checked(acc: Accumulator, c: NDArray[Any], small: Small) -> NDArray[Any]:
    """Leave the relative difference of C x and A (B x), per |A|_F |B|_F |x|, and |C|_F^2."""
    difference = c @ acc["_x"] - acc["_expected"]
    scale = np.sqrt(acc["_norms"][0]) * np.sqrt(acc["_norms"][1])
    scale = scale * np.linalg.norm(acc["_x"])
    error = float(np.linalg.norm(difference) / scale) if scale > 0 else 0.0
    square = sum(
        float(np.linalg.norm(part)) ** 2 for part in np.array_split(c, max(len(c) // 256, 1))
    )
    for key in [k for k in acc if k.startswith("_")]:
        del acc[key]
    acc.update({"max_error": error if np.isfinite(error) else np.inf, "square": square})
    return c


@dataclass(frozen=True)
class Norms:
    """Scaled sum of squares, column and row sums of |A|."""

    blas: Blas

    def begin(self, small: Small, at: Region) -> Accumulator:
        """Give zeros."""
        return {"square": 0.0, "columns": np.zeros(small["columns"]), "max_row": 0.0}

    def step(
        self, acc: Accumulator, blocks: Sequence[NDArray[Any]], small: Small, at: Region
    ) -> None:
        """Add one band."""
        (block,) = blocks
        wide = np.result_type(block.dtype, np.float64)
        step = tile_rows(block.shape[1], np.dtype(wide))
        for low in range(0, len(block), step):
            tile = np.abs(block[low : low + step].astype(wide))
            scaled = tile / small["unit_scale"]
            acc["square"] += float(np.sum(scaled * scaled))
            acc["columns"] += tile.sum(axis=0)
            acc["max_row"] = max(acc["max_row"], float(np.max(tile.sum(axis=1), initial=0.0)))
        if not np.isfinite(acc["columns"]).all():
            raise_non_finite(block, small, at)

    def finish(self, acc: Accumulator, small: Small, at: Region) -> None:
        """Write nothing."""


@dataclass(frozen=True)
class Copy:
    """Values as they are, from one grid to another."""

    blas: Blas

    def begin(self, small: Small, at: Region) -> Accumulator:
        """Give nothing."""
        return {}

    def step(
        self, acc: Accumulator, blocks: Sequence[NDArray[Any]], small: Small, at: Region
    ) -> None:
        """Hold the block."""
        acc["_block"] = blocks[0]

    def finish(self, acc: Accumulator, small: Small, at: Region) -> NDArray[Any]:
        """Give the block itself."""
        block: NDArray[Any] = acc.pop("_block")
        return block
