"""Kernels that stream the bands of a tall matrix for QR and least squares.

All of them compute in double precision whatever the dtype of the data. Blocks are scaled by powers
of two where that is given, so that squares stay in range.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.kernels.checks import raise_at
from leptonhpc.kernels.fold import Accumulator, Blas, Region, Small
from leptonhpc.kernels.panels import PROBES
from leptonhpc.kernels.random import gaussian_rows


@dataclass(frozen=True)
class SolvedGram:
    """X^H X, where X = A R_1^-1 R_2^-1 ... by one triangular solve after the other.

    X is written if ``write`` is set, and its Gram matrix is that of what is written. Each solve is
    backward stable row by row, which a product with an inverse (or with the product of the
    triangles) is not. n^2 flops a row for each triangle, and n^2 for the Gram matrix.

    With ``basis`` = (D, W) it is [A D W, Gaussian columns] that stands for A: D the diagonal of
    powers of two; 2 n^2 flops a row more. What is written is multiplied by ``turn``, an n x n
    matrix, if there is one.
    """

    blas: Blas

    def begin(self, small: Small, at: Region) -> Accumulator:
        """Give zeros."""
        n, wide = small["columns"], np.dtype(small["wide"])
        acc: Accumulator = {"gram": np.zeros((n, n), wide), "max_overflow": 0.0}
        if small["first"]:
            acc["expected"] = np.zeros((n, PROBES), wide)
            acc["sizes"] = np.zeros(n)
        if small["write"]:
            acc["left"] = np.zeros((n, PROBES), wide)
        return acc

    def step(
        self, acc: Accumulator, blocks: Sequence[NDArray[Any]], small: Small, at: Region
    ) -> NDArray[Any] | None:
        """Add one band; give its rows of X, if they are to be written."""
        block, wide = blocks[0], np.dtype(small["wide"])
        probes = PROBES if small["first"] or small["write"] else 0
        out = np.empty(block.shape, small["dtype"]) if small["write"] else None
        for low, high in _spans(len(block), small["tile"]):
            tile = np.array(block[low:high], wide, order="C")
            first = at[0][0] + low
            y = gaussian_rows(small["seed"], first, first + len(tile), probes, wide)
            with np.errstate(over="ignore", under="ignore", invalid="ignore"):
                if small["first"]:
                    _note_sizes(acc, tile, y, ((first, first + len(tile)), at[1]), small)
                if small["basis"] is not None:
                    tile = _completed(self.blas, tile, first, small)
                for triangle in small["factors"]:
                    self.blas.trsm(triangle, tile, right=True, lower=False)
                if out is not None:
                    out[low:high] = tile if small["turn"] is None else tile @ small["turn"]
                    tile[...] = out[low:high]  # measured as written, rounding included
                    acc["left"] += tile.conj().T @ y
                self.blas.syrk(acc["gram"], tile)
                if not np.isfinite(acc["gram"].diagonal().real.sum()):
                    acc["gram"][...] = 0  # this Gram matrix is of no use
                    acc["max_overflow"] = 1.0
        return out

    def finish(self, acc: Accumulator, small: Small, at: Region) -> None:
        """Write nothing more."""


def _note_sizes(acc: Accumulator, tile: NDArray[Any], y: Any, at: Region, small: Small) -> None:
    """Sum A^H y, and the sizes of the columns: they tell zeros from squares that vanish."""
    sizes = np.abs(tile).sum(axis=0)
    if not np.isfinite(sizes).all() and not np.isfinite(tile).all():
        raise_at(tile, at, small["name"])
    acc["sizes"] += sizes
    acc["expected"] += tile.conj().T @ y


def _completed(blas: Blas, tile: NDArray[Any], first: int, small: Small) -> NDArray[Any]:
    """Give rows of [A D W, G]; row i of G depends on its number and the seed only."""
    scale, basis = small["basis"]
    rank = basis.shape[1]
    whole = np.zeros_like(tile)
    tile *= scale
    blas.gemm(whole[:, :rank], tile, basis)
    last = first + len(tile)
    # another seed than that of the vectors y, which check the result
    whole[:, rank:] = gaussian_rows(
        small["seed"] + 1, first, last, small["columns"] - rank, tile.dtype
    )
    return whole


@dataclass(frozen=True)
class Stack:
    """The triangle R of [A | B] = Q R: each band is stacked below it, and factored with it [1]_.

    Columns that a pass does not have stay zero. About 2 N^2 flops a row, N columns in all, and as
    many again for the triangle where bands are no taller than wide.

    References
    ----------
    .. [1] J. Demmel, L. Grigori, M. Hoemmen, J. Langou, Communication-optimal parallel and
       sequential QR and LU factorizations, SIAM J. Sci. Comput. 34, 2012 (sequential TSQR).
    """

    blas: Blas

    def begin(self, small: Small, at: Region) -> Accumulator:
        """Give a triangle of zeros."""
        n = small["columns"] + small["sides"]
        return {"stacked": np.zeros((n, n), small["wide"])}

    def step(
        self, acc: Accumulator, blocks: Sequence[NDArray[Any]], small: Small, at: Region
    ) -> None:
        """Stack the band below the triangle, tile by tile, and factor."""
        triangle: NDArray[Any] = acc["stacked"]
        n = len(triangle)
        for low, high in _spans(len(blocks[0]), small["tile"]):
            stack = np.empty((n + high - low, n), triangle.dtype)
            stack[:n] = triangle
            left = 0
            for number, block in enumerate(blocks):
                part = stack[n:, left : left + block.shape[1]]
                part[...] = block[low:high]
                if not np.isfinite(part).all():
                    raise_in_band(part, at[0][0] + low, number, small)
                left += block.shape[1]
            self.blas.geqrf(stack)
            triangle[...] = np.triu(stack[:n])

    def finish(self, acc: Accumulator, small: Small, at: Region) -> None:
        """Write nothing."""


@dataclass(frozen=True)
class Residual:
    """R = B - A X of each band, A^H R and the squares of its columns."""

    blas: Blas

    def begin(self, small: Small, at: Region) -> Accumulator:
        """Give zeros."""
        x: NDArray[Any] = small["x"]
        return {"normal": np.zeros_like(x), "squares": np.zeros(x.shape[1])}

    def step(
        self, acc: Accumulator, blocks: Sequence[NDArray[Any]], small: Small, at: Region
    ) -> None:
        """Add one band."""
        x: NDArray[Any] = small["x"]
        scale, side_scale = small["scales"]
        for low, high in _spans(len(blocks[0]), small["tile"]):
            a = np.array(blocks[0][low:high], x.dtype, order="C") * scale
            r = np.array(blocks[1][low:high], x.dtype, order="C") * side_scale
            self.blas.gemm(r, a, x, alpha=-1.0)
            self.blas.gemm(acc["normal"], a, r, adjoint=True)
            acc["squares"] += np.sum(np.abs(r) ** 2, axis=0)

    def finish(self, acc: Accumulator, small: Small, at: Region) -> None:
        """Write nothing."""


@dataclass(frozen=True)
class Shortest:
    """X = A^H Z_1 + A^H Z_2 + ... from the bands of A^H, A X, and A^H R of what an earlier X left.

    X is summed from its parts anew, so that a correction is not lost in the rounding of Z.
    """

    blas: Blas

    def begin(self, small: Small, at: Region) -> Accumulator:
        """Give zeros; for all of X too, where it is to come back."""
        left: NDArray[Any] = small["left"]
        acc: Accumulator = {
            "product": np.zeros_like(left),
            "squares": np.zeros(left.shape[1]),
            "normal_squares": np.zeros(left.shape[1]),
        }
        if small["held"]:
            acc["solution"] = np.zeros((small["rows"], left.shape[1]), small["dtype"])
        return acc

    def step(
        self, acc: Accumulator, blocks: Sequence[NDArray[Any]], small: Small, at: Region
    ) -> NDArray[Any] | None:
        """Add one band; give its rows of X, if they are to be written."""
        left: NDArray[Any] = small["left"]
        rows, width = len(blocks[0]), left.shape[1]
        scale, side_scale = small["scales"]
        x = np.zeros((rows, width), small["dtype"])
        for low, high in _spans(rows, small["tile"]):
            a = np.array(blocks[0][low:high], left.dtype, order="C") * scale
            normal, part = np.zeros((2, high - low, width), left.dtype)
            self.blas.gemm(normal, a, left)
            acc["normal_squares"] += np.sum(np.abs(normal) ** 2, axis=0)
            for z in small["parts"]:
                self.blas.gemm(part, a, z)
            x[low:high] = part * scale * (1 / side_scale)
            part[...] = x[low:high]  # measured as it is given, rounding included
            part *= side_scale
            part *= 1 / scale
            self.blas.gemm(acc["product"], a, part, adjoint=True)
            acc["squares"] += np.sum(np.abs(part) ** 2, axis=0)
        if small["held"]:
            acc["solution"][slice(*at[0])] = x
        return x if small["write"] else None

    def finish(self, acc: Accumulator, small: Small, at: Region) -> None:
        """Write nothing more."""


@dataclass(frozen=True)
class Gather:
    """All of a small array, in double precision."""

    blas: Blas

    def begin(self, small: Small, at: Region) -> Accumulator:
        """Give zeros."""
        return {"whole": np.zeros(small["shape"], small["wide"])}

    def step(
        self, acc: Accumulator, blocks: Sequence[NDArray[Any]], small: Small, at: Region
    ) -> None:
        """Put one block at its place."""
        if not np.isfinite(blocks[0]).all():
            raise_at(_as_given(blocks[0], small), at, small["name"])
        acc["whole"][tuple(slice(*span) for span in at)] = blocks[0]

    def finish(self, acc: Accumulator, small: Small, at: Region) -> None:
        """Write nothing."""


def raise_in_band(part: NDArray[Any], first: int, number: int, small: Small) -> None:
    """Raise the typed error for rows of a band, from `first`, by their index in the user's array.

    Parameters
    ----------
    part : array of shape (m, n)
        Rows of the band, some of their numbers not finite.
    first : int
        The number of the first of them.
    number : int
        0 for those of the matrix, 1 for those of the right-hand sides.
    small : mapping
        ``names`` of both; if they are there ``transposed``, whether bands are columns of the
        matrix, and ``vector``, whether there is one right-hand side without columns.
    """
    at, name = ((first, first + len(part)), (0, part.shape[1])), small["names"][number]
    if number:
        raise_at(_as_given(part, small), at, name)
    if small.get("transposed", False):
        raise_at(part.T, at[::-1], name)
    raise_at(part, at, name)


def _as_given(sides: NDArray[Any], small: Small) -> NDArray[Any]:
    return sides[:, 0] if small.get("vector", False) else sides


def _spans(rows: int, tile: int) -> Iterator[tuple[int, int]]:
    """Give the rows of each tile."""
    for low in range(0, rows, tile):
        yield low, min(low + tile, rows)
