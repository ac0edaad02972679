"""Kernels that stream the bands of a tall matrix: moments, Gram matrix, A^H A Q, sketch.

In all of them X is the band after conditioning, W and Q are small; sums are kept in double
precision whatever the dtype of computing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.kernels.conditioning import in_unit_scale, raise_non_finite, tile_rows, tiles
from leptonhpc.kernels.fold import Accumulator, Blas, Region, Small
from leptonhpc.kernels.random import gaussian_rows

_TINY = 1e-200
"""Sums of squares below this have lost digits, or everything."""


def _wide(small: Small) -> np.dtype[Any]:
    return np.result_type(np.dtype(small["dtype"]), np.float64)


def _add_square(
    acc: Accumulator,
    blas: Blas,
    tile: NDArray[Any],
    small: Small,
    block: NDArray[Any],
    at: Region,
) -> None:
    """Add |tile D|_F^2, D the columns' factors; a sum that is not finite is an error."""
    factor = small["factor"]
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        if factor is None:
            square = blas.sum_of_squares(tile)
        else:
            square = float(np.sum(np.abs(tile.astype(_wide(small)) * factor) ** 2))
    if not np.isfinite(square):
        raise_non_finite(block, small, at)
    note_tiny(acc, square, tile)
    acc["square"] += square


def note_tiny(acc: Accumulator, square: float, tile: NDArray[Any]) -> None:
    """Remember that there were numbers whose squares vanish: all else may be zero."""
    if square < _TINY and tile.any():
        acc["max_tiny"] = 1


def feature_sums(small: Small, length: int) -> Accumulator:
    """Where rows are features, their means and deviations are noted in the first pass."""
    if small["features"] != "rows" or not small["first"]:
        return {}
    return {"mean": np.zeros(length, _wide(small)), "scale": np.zeros(length)}


@dataclass(frozen=True)
class Moments:
    """Count, sum and sum of squares of each column's present values, less `shift`."""

    blas: Blas

    def begin(self, small: Small, at: Region) -> Accumulator:
        """Give zeros."""
        n = small["columns"]
        return {"count": np.zeros(n), "sum": np.zeros(n, _wide(small)), "square": np.zeros(n)}

    def step(
        self, acc: Accumulator, blocks: Sequence[NDArray[Any]], small: Small, at: Region
    ) -> None:
        """Add one band."""
        (block,) = blocks
        if not small["first"]:  # provisional means, from the first rows only
            block = block[: max(0, small["most_rows"] - at[0][0])]
        shift = 0 if small["shift"] is None else small["shift"]
        step = tile_rows(block.shape[1], _wide(small))
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            for low in range(0, len(block), step):
                rows = in_unit_scale(block[low : low + step], small)
                tile = np.subtract(rows, shift, dtype=_wide(small))
                absent = np.isnan(tile)
                if absent.any():
                    tile[absent] = 0
                acc["count"] += len(tile) - absent.sum(axis=0)
                acc["sum"] += tile.sum(axis=0)
                square = np.sum(np.abs(tile) ** 2, axis=0)
                note_tiny(acc, float(square.sum()), tile)
                acc["square"] += square
        if small["first"] and not np.isfinite(acc["square"]).all():
            raise_non_finite(block, small, at)

    def finish(self, acc: Accumulator, small: Small, at: Region) -> None:
        """Write nothing."""


@dataclass(frozen=True)
class Gram:
    """Lower triangle of X^H X (n k^2 flops by syrk) and the column sums."""

    blas: Blas

    def begin(self, small: Small, at: Region) -> Accumulator:
        """Give zeros."""
        n = small["columns"]
        sums = feature_sums(small, small["rows"])
        gram = self.blas.zeros((n, n), _wide(small))
        return {"gram": gram, "sum": np.zeros(n, _wide(small)), **sums}

    def step(
        self, acc: Accumulator, blocks: Sequence[NDArray[Any]], small: Small, at: Region
    ) -> None:
        """Add one band, in double precision."""
        (block,) = blocks
        wide = {**small, "dtype": _wide(small)}
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            for _, _, tile in tiles(block, wide, at, acc):
                self.blas.syrk(acc["gram"], tile)
                acc["sum"] += tile.sum(axis=0)
        trace = float(np.real(np.diagonal(acc["gram"])).sum())
        if not np.isfinite(trace):
            raise_non_finite(block, small, at)
        if trace < _TINY:  # so it is with zeros too, as what is centred may be
            noted: Accumulator = {k: np.array(acc[k]) for k in ("mean", "scale") if k in acc}
            for _, _, tile in tiles(block, wide, at, noted):
                note_tiny(acc, trace, tile)

    def finish(self, acc: Accumulator, small: Small, at: Region) -> None:
        """Write nothing."""


@dataclass(frozen=True)
class Normal:
    """Z = X^H (X W) in one reading of X, and Y = X W to be written.

    4 b n l flops a band. In the first pass also |X|_F^2 and the column sums. If ``y_gram`` is
    set, Y^H Y too (it measures how orthonormal a written U is).
    """

    blas: Blas

    def begin(self, small: Small, at: Region) -> Accumulator:
        """Give zeros."""
        n, width = small["columns"], small["w"].shape[1]
        acc: Accumulator = {"z": self.blas.zeros((n, width), _wide(small))}
        if small["first"]:
            acc["square"] = 0.0
            acc["sum"] = np.zeros(n, _wide(small))
            acc.update(feature_sums(small, small["rows"]))
        if small["y_gram"]:
            acc["y_gram"] = self.blas.zeros((width, width), _wide(small))
        return acc

    def step(
        self, acc: Accumulator, blocks: Sequence[NDArray[Any]], small: Small, at: Region
    ) -> NDArray[Any]:
        """Add one band; give its rows of Y."""
        (block,) = blocks
        y = np.empty((block.shape[0], small["w"].shape[1]), np.dtype(small["dtype"]))
        narrow = np.dtype(small["dtype"]) != _wide(small)
        # single precision within a band, double across bands
        product = self.blas.zeros(acc["z"].shape, small["dtype"]) if narrow else acc["z"]
        for low, high, tile in tiles(block, small, at, acc):
            if small["first"]:
                _add_square(acc, self.blas, tile, small, block, at)
                if small["shift"] is not None:
                    acc["sum"] += tile.sum(axis=0, dtype=_wide(small))
            with np.errstate(over="ignore", invalid="ignore", under="ignore"):
                y[low:high] = self._fold_tile(product, tile, small)
        if narrow:
            acc["z"] += product
        if small["y_gram"]:
            self.blas.syrk(acc["y_gram"], y.astype(_wide(small), copy=False))
        if not np.isfinite(acc["z"]).all():
            raise_non_finite(block, small, at)
        return y

    def _fold_tile(self, product: Any, tile: NDArray[Any], small: Small) -> NDArray[Any]:
        """Add X^H (X W - 1 o) to the product of the band; give X W - 1 o."""
        part: NDArray[Any] = tile @ small["w"]
        if small["offset"] is not None:
            part -= small["offset"].astype(small["dtype"])
        self.blas.gemm(product, tile, part, adjoint=True)
        return part

    def finish(self, acc: Accumulator, small: Small, at: Region) -> None:
        """Write nothing more."""


@dataclass(frozen=True)
class Sketch:
    """Y = X Omega to be written, Psi^H X and Theta^H X: all that one pass can know.

    Rows of Psi and Theta are drawn by their global number, so that no grid changes them.
    """

    blas: Blas

    def begin(self, small: Small, at: Region) -> Accumulator:
        """Give zeros."""
        n, rows = small["columns"], small["psi"] + small["theta"]
        acc: Accumulator = {
            "core": np.zeros((rows, n), _wide(small)),
            "ones": np.zeros(rows, _wide(small)),
            "square": 0.0,
            "sum": np.zeros(n, _wide(small)),
        }
        acc.update(feature_sums(small, small["rows"]))
        return acc

    def step(
        self, acc: Accumulator, blocks: Sequence[NDArray[Any]], small: Small, at: Region
    ) -> NDArray[Any]:
        """Add one band; give its rows of Y."""
        (block,) = blocks
        y = np.empty((block.shape[0], small["w"].shape[1]), np.dtype(small["dtype"]))
        begin = at[0][0]
        width = small["psi"] + small["theta"]
        for low, high, tile in tiles(block, small, at, acc):
            _add_square(acc, self.blas, tile, small, block, at)
            acc["sum"] += tile.sum(axis=0, dtype=_wide(small))
            with np.errstate(over="ignore", under="ignore", invalid="ignore"):
                y[low:high] = np.matmul(tile, small["w"])
            draws = gaussian_rows(small["seed"], begin + low, begin + high, width, small["dtype"])
            with np.errstate(over="ignore", under="ignore", invalid="ignore"):
                acc["core"] += np.matmul(draws.conj().T.astype(tile.dtype), tile)
            acc["ones"] += draws.conj().sum(axis=0)
        if not (np.isfinite(y).all() and np.isfinite(acc["core"]).all()):
            raise_non_finite(block, small, at)
        return y

    def finish(self, acc: Accumulator, small: Small, at: Region) -> None:
        """Write nothing more."""


@dataclass(frozen=True)
class Rotate:
    """U = [Y1 .. Yt N] W - o, and U^H U; U is written if ``write`` is set.

    N are ``fresh`` random columns, for directions in which the data has nothing. If ``psi`` is
    set, also Psi^H U and Theta^H U for the one-pass sketch.
    """

    blas: Blas

    def begin(self, small: Small, at: Region) -> Accumulator:
        """Give zeros."""
        width = small["w"].shape[1]
        acc: Accumulator = {"gram": np.zeros((width, width), _wide(small))}
        if small["psi"]:
            acc["core"] = np.zeros((small["psi"] + small["theta"], width), _wide(small))
        return acc

    def step(
        self, acc: Accumulator, blocks: Sequence[NDArray[Any]], small: Small, at: Region
    ) -> NDArray[Any] | None:
        """Add one band; give its rows of U."""
        begin, wide = at[0][0], _wide(small)
        rows = blocks[0].shape[0]
        out = np.empty((rows, small["w"].shape[1]), np.dtype(small["dtype"]))
        for low in range(0, rows, 4096):
            high = min(low + 4096, rows)
            parts = [block[low:high].astype(wide) for block in blocks]
            if small["fresh"]:
                parts.append(
                    gaussian_rows(small["seed"], begin + low, begin + high, small["fresh"], wide)
                )
            u = np.matmul(np.hstack(parts), small["w"]) - small["offset"]
            out[low:high] = u
            # what is written is measured as written, rounding to single precision included
            measured = out[low:high].astype(wide) if small["write"] else u
            self.blas.syrk(acc["gram"], measured)
            if small["psi"]:
                width = small["psi"] + small["theta"]
                draws = gaussian_rows(
                    small["seed"], begin + low, begin + high, width, small["dtype"]
                )
                acc["core"] += draws.conj().T.astype(wide) @ u
        return out if small["write"] else None

    def finish(self, acc: Accumulator, small: Small, at: Region) -> None:
        """Write nothing more."""
