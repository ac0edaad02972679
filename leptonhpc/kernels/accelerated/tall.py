"""Kernels of tall QR and least squares whose bands come to a device.

What they sum is what those of `leptonhpc.kernels.tall` sum, in double precision. Bands are widened,
scaled and solved with there; sums stay from band to band.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.kernels import orthogonal, tall
from leptonhpc.kernels.accelerated.moving import bring
from leptonhpc.kernels.accelerated.pieces import pieces
from leptonhpc.kernels.checks import raise_at
from leptonhpc.kernels.fold import Accumulator, Blas, Region, Small
from leptonhpc.kernels.panels import PROBES
from leptonhpc.kernels.random import gaussian_rows


@dataclass(frozen=True)
class SolvedGram(tall.SolvedGram):
    """X^H X, where X = A R_1^-1 R_2^-1 ...; all sums stay on the device."""

    def step(
        self, acc: Accumulator, blocks: Sequence[Any], small: Small, at: Region
    ) -> NDArray[Any] | None:
        """Add one band; give its rows of X, if they are to be written."""
        blas, block, wide = self.blas, blocks[0], np.dtype(small["wide"])
        triangles = [_there(blas, triangle) for triangle in small["factors"]]
        probes = PROBES if small["first"] or small["write"] else 0
        out = np.empty(block.shape, small["dtype"]) if small["write"] else None
        for low, high in _pieces(blas, block.shape, small):
            first, last = at[0][0] + low, at[0][0] + high
            y = blas.put(gaussian_rows(small["seed"], first, last, probes, wide))
            with np.errstate(over="ignore", under="ignore", invalid="ignore"):
                tile = _widened(blas, block[low:high, :], wide)
                if small["first"]:
                    self._note_sizes(acc, tile, y, ((first, last), at[1]), small)
                if small["basis"] is not None:
                    tile = self._completed(tile, first, small)
                for triangle in triangles:
                    blas.trsm(triangle, tile, right=True, lower=False)
                if out is not None:
                    tile = self._written(tile, out[low:high], small)
                    blas.gemm(bring(acc, blas, "left"), tile, y, adjoint=True)
                blas.syrk(bring(acc, blas, "gram"), tile)
                trace = float(np.real(blas.get(blas.diagonal(acc["gram"]))).sum())
            if not np.isfinite(trace):
                acc["gram"] = blas.zeros(tuple(acc["gram"].shape), wide)  # it is of no use
                acc["max_overflow"] = 1.0
        return out

    def _note_sizes(self, acc: Accumulator, tile: Any, y: Any, at: Region, small: Small) -> None:
        """Sum A^H y, and the sizes of the columns: they tell zeros from squares that vanish."""
        blas = self.blas
        sizes = blas.get(blas.xp.sum(blas.xp.abs(tile), axis=0))
        if not np.isfinite(sizes).all() and not blas.all_finite(tile):
            raise_at(blas.get(tile), at, small["name"])
        acc["sizes"] += sizes
        blas.gemm(bring(acc, blas, "expected"), tile, y, adjoint=True)

    def _completed(self, tile: Any, first: int, small: Small) -> Any:
        """Give rows of [A D W, G]; row i of G depends on its number and the seed only."""
        blas, (scale, basis) = self.blas, small["basis"]
        wide, rank, rows = np.dtype(small["wide"]), basis.shape[1], tile.shape[0]
        whole = blas.zeros((rows, small["columns"]), wide)
        part = blas.zeros((rows, rank), wide)
        blas.gemm(part, _times(blas, tile, scale, wide), _there(blas, basis))
        fresh = small["columns"] - rank
        whole[:, :rank] = part
        if fresh:
            draws = gaussian_rows(small["seed"] + 1, first, first + rows, fresh, wide)
            whole[:, rank:] = blas.put(draws)
        return whole

    def _written(self, tile: Any, out: NDArray[Any], small: Small) -> Any:
        """Copy rows out in the dtype in which they are written; give what was written."""
        blas = self.blas
        if small["turn"] is not None:
            turned = blas.zeros(tuple(tile.shape), small["wide"])
            blas.gemm(turned, tile, _there(blas, small["turn"]))
            tile = turned
        narrow = blas.cast(tile, small["dtype"])
        out[...] = blas.get(narrow)
        return blas.cast(narrow, small["wide"])


@dataclass(frozen=True)
class Stack(tall.Stack):
    """The triangle of [A | B] = Q R, which stays on the device: bands are stacked below it."""

    def step(self, acc: Accumulator, blocks: Sequence[Any], small: Small, at: Region) -> None:
        """Stack the band below the triangle, piece by piece, and factor."""
        blas, wide = self.blas, np.dtype(small["wide"])
        n, rows = small["columns"] + small["sides"], blocks[0].shape[0]
        for low, high in _pieces(blas, (rows, n), small):
            stack = blas.zeros((n + high - low, n), wide)
            stack[:n, :] = bring(acc, blas, "stacked")
            left = 0
            for number, block in enumerate(blocks):
                width = block.shape[1]
                part = blas.cast(block[low:high, :], wide)
                if not blas.all_finite(part):
                    tall.raise_in_band(blas.get(part), at[0][0] + low, number, small)
                stack[n:, left : left + width] = part
                left += width
            blas.geqrf(stack)
            acc["stacked"] = blas.xp.triu(stack[:n, :])


@dataclass(frozen=True)
class Residual(tall.Residual):
    """R = B - A X of each band, A^H R and the squares of its columns."""

    def step(self, acc: Accumulator, blocks: Sequence[Any], small: Small, at: Region) -> None:
        """Add one band."""
        blas, wide = self.blas, small["x"].dtype
        x, (scale, side_scale) = _there(blas, small["x"]), small["scales"]
        for low, high in _pieces(blas, blocks[0].shape, small):
            a = _times(blas, _widened(blas, blocks[0][low:high, :], wide), scale, wide)
            r = _times(blas, _widened(blas, blocks[1][low:high, :], wide), side_scale, wide)
            blas.gemm(r, a, x, alpha=-1.0)
            blas.gemm(bring(acc, blas, "normal"), a, r, adjoint=True)
            acc["squares"] += _squares(blas, r)


@dataclass(frozen=True)
class Shortest(tall.Shortest):
    """X = A^H Z_1 + A^H Z_2 + ... from the bands of A^H, A X, and A^H R."""

    def step(
        self, acc: Accumulator, blocks: Sequence[Any], small: Small, at: Region
    ) -> NDArray[Any] | None:
        """Add one band; give its rows of X, if they are to be written."""
        blas, block, wide = self.blas, blocks[0], small["left"].dtype
        left, parts = _there(blas, small["left"]), [_there(blas, z) for z in small["parts"]]
        (scale, side_scale), width = small["scales"], small["left"].shape[1]
        x = np.zeros((block.shape[0], width), small["dtype"])
        for low, high in _pieces(blas, block.shape, small):
            a = _times(blas, _widened(blas, block[low:high, :], wide), scale, wide)
            normal, part = (blas.zeros((high - low, width), wide) for _ in range(2))
            blas.gemm(normal, a, left)
            acc["normal_squares"] += _squares(blas, normal)
            for z in parts:
                blas.gemm(part, a, z)
            x[low:high] = blas.get(part) * scale * (1 / side_scale)
            # measured as it is given, rounding included
            given = _there(blas, x[low:high].astype(wide) * side_scale * (1 / scale))
            blas.gemm(bring(acc, blas, "product"), a, given, adjoint=True)
            acc["squares"] += _squares(blas, given)
        if small["held"]:
            acc["solution"][slice(*at[0])] = x
        return x if small["write"] else None


@dataclass(frozen=True)
class Isometry(orthogonal.Isometry):
    """Q^H (Q W) for a few vectors W."""

    def step(self, acc: Accumulator, blocks: Sequence[Any], small: Small, at: Region) -> None:
        """Add one band of whole rows of Q."""
        blas, wide = self.blas, small["w"].dtype
        w = _there(blas, small["w"])
        for low, high in _pieces(blas, blocks[0].shape, small):
            tile = _widened(blas, blocks[0][low:high, :], wide)
            image = blas.zeros((high - low, small["w"].shape[1]), wide)
            blas.gemm(image, tile, w)
            blas.gemm(bring(acc, blas, "twice"), tile, image, adjoint=True)


def _pieces(blas: Blas, shape: tuple[int, ...], small: Small) -> Iterator[tuple[int, int]]:
    return pieces(shape, blas.capacity_nbytes, tile=small["tile"])


def _there(blas: Blas, array: NDArray[Any]) -> Any:
    return blas.put(np.ascontiguousarray(array))


def _widened(blas: Blas, part: Any, wide: Any) -> Any:
    """Give a copy that may be changed, its rows contiguous."""
    tile = blas.zeros(tuple(part.shape), wide)
    tile += blas.cast(part, wide)
    return tile


def _times(blas: Blas, tile: Any, scale: Any, wide: Any) -> Any:
    """Give columns by their factors, or all by one."""
    if np.ndim(scale) == 0:
        return tile * float(scale)
    return tile * _there(blas, np.asarray(scale, wide))


def _squares(blas: Blas, tile: Any) -> NDArray[Any]:
    """Give the sum of squares of each column."""
    sizes = blas.xp.abs(tile)
    squares: NDArray[Any] = blas.get(blas.xp.sum(sizes * sizes, axis=0))
    return squares
