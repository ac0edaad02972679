"""A field with gaps as a matrix: what is missing is read as what a few modes say."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.climate.matrix import TILE_NBYTES, FieldMatrix, digest


@dataclass(frozen=True)
class Fit:
    """A mean and a few modes: mean + scores @ patterns."""

    mean: NDArray[np.float64]
    """(cells,)."""
    scores: NDArray[np.float64]
    """(times, modes)."""
    patterns: NDArray[np.float64]
    """(modes, cells)."""

    @property
    def held_nbytes(self) -> int:
        """What is held in memory while a field is read with it."""
        return self.mean.nbytes + self.scores.nbytes + self.patterns.nbytes

    def at(self, rows: Any, columns: Any) -> NDArray[np.float64]:
        """Give single values.

        Parameters
        ----------
        rows, columns : arrays of int of one length
            Where.

        Returns
        -------
        array
            One number for each.
        """
        product = np.einsum("ik,ki->i", self.scores[rows], self.patterns[:, columns])
        return np.asarray(self.mean[columns] + product)

    def distance(self, other: Fit) -> float:
        """Give the Frobenius distance to another fit, over the size of this one's modes.

        Parameters
        ----------
        other : Fit
            Of the same field.

        Returns
        -------
        float
            Relative.

        Notes
        -----
        With both written as A B, the distance is the root of tr(A^T A B B^T) of the difference:
        right to 1e-8, since it is a difference of squares.
        """
        one = np.ones((len(self.scores), 1))
        left = np.hstack([one, self.scores, other.scores])
        right = np.vstack([self.mean - other.mean, self.patterns, -other.patterns])
        square = np.sum((left.T @ left) * (right @ right.T))
        size = np.sum((self.scores.T @ self.scores) * (self.patterns @ self.patterns.T))
        return float(np.sqrt(max(square, 0.0) / size)) if size > 0 else float(square > 0)


@dataclass(frozen=True)
class Withheld:
    """Values that are taken for gaps, to see how well they are found again."""

    rows: NDArray[np.int64]
    """Ascending."""
    columns: NDArray[np.int64]
    values: NDArray[np.float64]


_NOTHING = Withheld(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))


@dataclass(frozen=True)
class GappyMatrix(FieldMatrix):
    """A `FieldMatrix` whose gaps are read as a fit."""

    fit: Fit | None = None
    """None: gaps stay NaN."""
    withheld: Withheld = field(default_factory=lambda: _NOTHING)

    def identity(self) -> dict[str, Any]:
        """Describe the source."""
        parts: list[NDArray[Any]] = [self.withheld.rows, self.withheld.columns]
        if self.fit is not None:
            parts += [self.fit.mean, self.fit.scores, self.fit.patterns]
        return {**super().identity(), "fit": [digest(part) for part in parts]}

    def _condition(self, block: NDArray[Any], row: int, column: int) -> None:
        columns = slice(column, column + block.shape[1])
        step = max(1, TILE_NBYTES // max(1, block[:1].nbytes))
        for low in range(0, len(block), step):
            tile = block[low : low + step]
            absent = np.isnan(tile)
            infinite = np.isinf(tile)
            if infinite.any():
                at = np.argwhere(infinite)[0]
                self._refuse(row + low + int(at[0]), column + int(at[1]), tile[tuple(at)])
            self._withhold(absent, row + low, column)
            if self.fit is not None:
                fit = self.fit
                scores = fit.scores[row + low : row + low + len(tile)]
                filled = fit.mean[columns] + scores @ fit.patterns[:, columns]
                np.copyto(tile, filled, where=absent, casting="same_kind")
                tile[:, self.land[columns]] = 0
            else:
                tile[absent] = np.nan

    def _withhold(self, absent: NDArray[np.bool_], row: int, column: int) -> None:
        first, last = np.searchsorted(self.withheld.rows, [row, row + len(absent)])
        columns = self.withheld.columns[first:last] - column
        inside = (columns >= 0) & (columns < absent.shape[1])
        absent[self.withheld.rows[first:last][inside] - row, columns[inside]] = True
