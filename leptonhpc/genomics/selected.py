"""A source of which only some rows and columns are wanted: each stored unit is read once."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.blocks import Region
from leptonhpc.blocks.sources import Source


@dataclass(frozen=True, eq=False)
class SelectedSource:
    """Rows and columns of a matrix by increasing indices."""

    base: Source
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the selection."""
        return len(self.rows), len(self.columns)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the stored values."""
        return self.base.dtype

    @property
    def unit(self) -> tuple[int, ...]:
        """Shape of the piece that is read at once."""
        return self.base.unit

    @property
    def name(self) -> str:
        """The source in words."""
        return f"{self.shape[0]} x {self.shape[1]} of {self.base.name}"

    @property
    def shareable(self) -> bool:
        """Whether other processes can read it."""
        return self.base.shareable

    def read(self, region: Region, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Read what is chosen, one run of storage units at a time."""
        rows, columns = (i[a:b] for i, (a, b) in zip(self._indices, region, strict=True))
        if out is None:
            out = np.empty((len(rows), len(columns)), self.dtype)
        for top, bottom in _runs(rows, self.base.unit[0]):
            for left, right in _runs(columns, self.base.unit[1]):
                r, c = rows[top:bottom], columns[left:right]
                part = self.base.read(((int(r[0]), int(r[-1]) + 1), (int(c[0]), int(c[-1]) + 1)))
                out[top:bottom, left:right] = part[np.ix_(r - r[0], c - c[0])]
        return out

    def units_in(self, region: Region) -> int:
        """Count the storage units that a region touches."""
        touched = 1
        for index, (start, stop), unit in zip(self._indices, region, self.base.unit, strict=True):
            touched *= len(np.unique(index[start:stop] // max(1, unit)))
        return touched if self.base.units_in(((0, 1), (0, 1))) else 0

    def identity(self) -> dict[str, Any]:
        """Describe the source and the indices by their digest."""
        sha = hashlib.sha256(self.rows.tobytes() + b"|" + self.columns.tobytes()).hexdigest()
        return {"selected": sha[:16], "of": self.base.identity()}

    @property
    def _indices(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return self.rows, self.columns


_STEP = 2048
"""Indices that are read together from a source whose units are smaller."""


def _runs(index: NDArray[np.int64], unit: int) -> list[tuple[int, int]]:
    """Cut increasing indices where another group of whole units begins."""
    if not len(index):
        return []
    step = max(1, unit) * max(1, _STEP // max(1, unit))
    edges = np.flatnonzero(np.diff(index // step)) + 1
    bounds = [0, *edges.tolist(), len(index)]
    return list(zip(bounds, bounds[1:], strict=False))
