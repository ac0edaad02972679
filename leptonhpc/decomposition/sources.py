"""Lazy arrays that estimators read: centred and scaled, and joined."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.blocks import BlockedArray, MemorySource, Region, Source
from leptonhpc.blocks.changed import ChangedSource


@dataclass(frozen=True)
class AffineSource(ChangedSource):
    """Rows of a matrix, shifted, scaled: (x - shift) * columns, each row times its own factor."""

    base: Source
    dtype: np.dtype[Any]
    shift: NDArray[Any] | None = None
    """(n,): subtracted first."""
    columns: NDArray[Any] | None = None
    """(n,): factors of the columns."""
    rows: NDArray[Any] | None = None
    """(m,): factors of the rows."""

    def change(self, values: NDArray[Any], region: Region, out: NDArray[Any]) -> None:
        """Subtract and multiply."""
        out[...] = values
        row, column = (slice(*pair) for pair in region)
        if self.shift is not None:
            out -= self.shift[column].astype(self.dtype, copy=False)
        if self.columns is not None:
            out *= self.columns[column].astype(self.dtype, copy=False)
        if self.rows is not None:
            out *= self.rows[row, np.newaxis].astype(self.dtype, copy=False)

    def identity(self) -> dict[str, Any]:
        """Describe the source."""
        parts = {name: _digest(getattr(self, name)) for name in ("shift", "columns", "rows")}
        return {"affine": parts, "dtype": str(self.dtype), "of": self.base.identity()}


@dataclass(frozen=True)
class JoinedSource:
    """Two matrices side by side."""

    left: Source
    right: Source

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self.left.shape[0], self.left.shape[1] + self.right.shape[1]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the values, by NumPy's promotion."""
        return np.result_type(self.left.dtype, self.right.dtype)

    @property
    def unit(self) -> tuple[int, ...]:
        """Shape of the piece that is read at once."""
        return self.left.unit

    @property
    def name(self) -> str:
        """The source in words."""
        return self.left.name

    @property
    def shareable(self) -> bool:
        """Whether other processes can read it."""
        return self.left.shareable and self.right.shareable

    def read(self, region: Region, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Read both parts of a region."""
        rows, (first, last) = region
        block = np.empty((rows[1] - rows[0], last - first), self.dtype) if out is None else out
        for part, place in self._parts(region):
            block[:, place] = part.read((rows, self._columns(part, region)))
        return block

    def units_in(self, region: Region) -> int:
        """Count the storage units that a region touches."""
        parts = (part for part, _ in self._parts(region))
        return sum(part.units_in((region[0], self._columns(part, region))) for part in parts)

    def identity(self) -> dict[str, Any]:
        """Describe the source."""
        return {"joined": [self.left.identity(), self.right.identity()]}

    def _columns(self, part: Source, region: Region) -> tuple[int, int]:
        edge = self.left.shape[1]
        first, last = region[1]
        if part is self.left:
            return first, min(last, edge)
        return max(first - edge, 0), last - edge

    def _parts(self, region: Region) -> list[tuple[Source, slice]]:
        edge, (first, last) = self.left.shape[1], region[1]
        middle = min(max(edge - first, 0), last - first)
        parts = ((self.left, slice(0, middle)), (self.right, slice(middle, last - first)))
        return [(part, place) for part, place in parts if place.stop > place.start]


def beside(left: BlockedArray, right: NDArray[Any]) -> BlockedArray:
    """Put columns in memory to the right of a matrix.

    Parameters
    ----------
    left : BlockedArray of shape (m, n)
        The matrix.
    right : array of shape (m, k)
        The columns.

    Returns
    -------
    BlockedArray of shape (m, n + k)
        Lazy.
    """
    return BlockedArray(JoinedSource(left.source, MemorySource(right)))


def _digest(values: NDArray[Any] | None) -> str | None:
    if values is None:
        return None
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()[:16]
