"""Kernels that stream the bands of a tall matrix through a device.

What they sum is what those of `leptonhpc.kernels.bands` sum. Large sums stay on the device from
band to band; what comes back after each band is what the host writes or must know.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.kernels import bands, narrow
from leptonhpc.kernels.accelerated.conditioning import tiles
from leptonhpc.kernels.accelerated.moving import bring
from leptonhpc.kernels.accelerated.pieces import pieces
from leptonhpc.kernels.conditioning import raise_non_finite
from leptonhpc.kernels.fold import Accumulator, Blas, Region, Small
from leptonhpc.kernels.random import gaussian_rows

_TINY = 1e-200
"""Sums of squares below this have lost digits, or everything."""


def _wide(small: Small) -> np.dtype[Any]:
    return np.result_type(np.dtype(small["dtype"]), np.float64)


def _sum_of_rows(blas: Blas, tile: Any, small: Small) -> NDArray[Any]:
    total: NDArray[Any] = blas.get(blas.xp.sum(blas.cast(tile, _wide(small)), axis=0))
    return total


def _add_square(
    acc: Accumulator, blas: Blas, tile: Any, small: Small, block: Any, at: Region
) -> None:
    """Add |tile D|_F^2, D the columns' factors; a sum that is not finite is an error."""
    factor = small["factor"]
    if factor is not None:
        tile = blas.cast(tile, _wide(small)) * blas.put(np.ascontiguousarray(factor))
    square = blas.sum_of_squares(tile)
    if not np.isfinite(square):
        raise_non_finite(blas.get(block), small, at)
    if square < _TINY and bool(blas.xp.any(tile != 0)):
        acc["max_tiny"] = 1
    acc["square"] += square


@dataclass(frozen=True)
class Gram(bands.Gram):
    """Lower triangle of X^H X, which stays on the device, and the column sums."""

    def step(self, acc: Accumulator, blocks: Sequence[Any], small: Small, at: Region) -> None:
        """Add one band, in double precision."""
        (block,), blas = blocks, self.blas
        wide = {**small, "dtype": _wide(small)}
        for _, _, tile in tiles(blas, block, wide, at, acc):
            blas.syrk(bring(acc, blas, "gram"), tile)
            acc["sum"] += _sum_of_rows(blas, tile, small)
        trace = float(np.real(blas.get(blas.diagonal(acc["gram"]))).sum())
        if not np.isfinite(trace):
            raise_non_finite(blas.get(block), small, at)
        if trace < _TINY:
            for _, _, tile in tiles(blas, block, wide, at):
                if bool(blas.xp.any(tile != 0)):
                    acc["max_tiny"] = 1


@dataclass(frozen=True)
class NarrowGram(narrow.NarrowGram):
    """Lower triangle of X^H X with products in single precision, and the column sums."""

    def step(self, acc: Accumulator, blocks: Sequence[Any], small: Small, at: Region) -> None:
        """Add one band."""
        (block,), blas = blocks, self.blas
        dtype = narrow.single_of(small)
        single = {**small, "dtype": dtype}
        for _, _, tile in tiles(blas, block, single, at, acc):
            blas.syrk(bring(acc, blas, "narrow"), tile)
            if small["center"] or small["shift"] is not None:
                acc["sum"] += _sum_of_rows(blas, tile, small)
        acc["pending_rows"] += block.shape[0]
        trace = float(np.real(blas.get(blas.diagonal(acc["narrow"]))).sum())
        if not np.isfinite(trace):
            raise_non_finite(blas.get(block), small, at)
        if trace == 0 and bool(blas.xp.any(block != 0)):
            acc["max_tiny"] = 1
        if acc["pending_rows"] >= narrow.SEGMENT_ROWS:
            gram = bring(acc, blas, "gram")
            gram += blas.cast(acc["narrow"], gram.dtype)
            acc["narrow"] = blas.zeros(tuple(gram.shape), dtype)
            acc["pending_rows"] = 0


@dataclass(frozen=True)
class Normal(bands.Normal):
    """Z = X^H (X W), which stays on the device, and Y = X W to be written."""

    def step(
        self, acc: Accumulator, blocks: Sequence[Any], small: Small, at: Region
    ) -> NDArray[Any]:
        """Add one band; give its rows of Y."""
        (block,), blas, dtype = blocks, self.blas, np.dtype(small["dtype"])
        y = np.empty((block.shape[0], small["w"].shape[1]), dtype)
        narrow = dtype != _wide(small)
        # single precision within a band, double across bands
        z = bring(acc, blas, "z")
        product = blas.zeros(tuple(z.shape), dtype) if narrow else z
        w = blas.put(np.ascontiguousarray(small["w"]))
        for low, high, tile in tiles(blas, block, small, at, acc):
            if small["first"]:
                _add_square(acc, blas, tile, small, block, at)
                if small["shift"] is not None:
                    acc["sum"] += _sum_of_rows(blas, tile, small)
            part = blas.zeros((high - low, w.shape[1]), dtype)
            blas.gemm(part, tile, w)
            if small["offset"] is not None:
                part -= blas.put(small["offset"].astype(dtype))
            blas.gemm(product, tile, part, adjoint=True)
            y[low:high] = blas.get(part)
            if small["y_gram"]:
                blas.syrk(bring(acc, blas, "y_gram"), blas.cast(part, _wide(small)))
        if narrow:
            z += blas.cast(product, _wide(small))
        if not blas.all_finite(z):
            raise_non_finite(blas.get(block), small, at)
        return y


@dataclass(frozen=True)
class Sketch(bands.Sketch):
    """Y = X Omega to be written, Psi^H X and Theta^H X, which stay on the device."""

    def begin(self, small: Small, at: Region) -> Accumulator:
        """Give zeros."""
        acc = super().begin(small, at)
        acc["core"] = self.blas.zeros(acc["core"].shape, _wide(small))
        return acc

    def step(
        self, acc: Accumulator, blocks: Sequence[Any], small: Small, at: Region
    ) -> NDArray[Any]:
        """Add one band; give its rows of Y."""
        (block,), blas, dtype = blocks, self.blas, np.dtype(small["dtype"])
        y = np.empty((block.shape[0], small["w"].shape[1]), dtype)
        width, begin = small["psi"] + small["theta"], at[0][0]
        w = blas.put(np.ascontiguousarray(small["w"].astype(dtype)))
        for low, high, tile in tiles(blas, block, small, at, acc):
            _add_square(acc, blas, tile, small, block, at)
            acc["sum"] += _sum_of_rows(blas, tile, small)
            part = blas.zeros((high - low, w.shape[1]), dtype)
            blas.gemm(part, tile, w)
            y[low:high] = blas.get(part)
            draws = gaussian_rows(small["seed"], begin + low, begin + high, width, dtype)
            core = blas.zeros((width, tile.shape[1]), dtype)
            blas.gemm(core, blas.put(draws), tile, adjoint=True)
            total = bring(acc, blas, "core")
            total += blas.cast(core, _wide(small))
            acc["ones"] += draws.conj().sum(axis=0)
        if not (np.isfinite(y).all() and blas.all_finite(acc["core"])):
            raise_non_finite(blas.get(block), small, at)
        return y


@dataclass(frozen=True)
class Rotate(bands.Rotate):
    """U = [Y1 .. Yt N] W - o, and U^H U; U is written if ``write`` is set."""

    def begin(self, small: Small, at: Region) -> Accumulator:
        """Give zeros."""
        acc = super().begin(small, at)
        return {key: self.blas.zeros(value.shape, value.dtype) for key, value in acc.items()}

    def step(
        self, acc: Accumulator, blocks: Sequence[Any], small: Small, at: Region
    ) -> NDArray[Any] | None:
        """Add one band; give its rows of U."""
        blas, wide = self.blas, _wide(small)
        rows, dtype = blocks[0].shape[0], np.dtype(small["dtype"])
        out = np.empty((rows, small["w"].shape[1]), dtype)
        w = blas.put(np.ascontiguousarray(small["w"].astype(wide)))
        offset = np.broadcast_to(np.asarray(small["offset"], wide), (w.shape[1],))
        there = blas.put(np.ascontiguousarray(offset))
        widths = w.shape[0] + w.shape[1]
        for low, high in pieces((rows, widths), blas.capacity_nbytes):
            u = self._rotated(blocks, small, w, low, high, at[0][0])
            u -= there
            narrow = blas.cast(u, dtype)
            out[low:high] = blas.get(narrow)
            # what is written is measured as written, rounding to single precision included
            blas.syrk(bring(acc, blas, "gram"), blas.cast(narrow, wide) if small["write"] else u)
            if small["psi"]:
                first, width = at[0][0] + low, small["psi"] + small["theta"]
                draws = gaussian_rows(small["seed"], first, first + high - low, width, dtype)
                blas.gemm(bring(acc, blas, "core"), blas.put(draws.astype(wide)), u, adjoint=True)
        return out if small["write"] else None

    def _rotated(
        self, blocks: Sequence[Any], small: Small, w: Any, low: int, high: int, begin: int
    ) -> Any:
        """Give some rows of [Y1 .. Yt N] W, block by block."""
        blas, wide = self.blas, _wide(small)
        u, used = blas.zeros((high - low, w.shape[1]), wide), 0
        for block in blocks:
            width = block.shape[1]
            blas.gemm(u, blas.cast(block[low:high, :], wide), w[used : used + width, :])
            used += width
        if small["fresh"]:
            fresh = gaussian_rows(small["seed"], begin + low, begin + high, small["fresh"], wide)
            blas.gemm(u, blas.put(fresh), w[used:, :])
        return u
