"""One triangle of packed LU factors that are in memory, made when it is read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from leptonhpc.blocks.grid import Region
from leptonhpc.blocks.sources import MemorySource


@dataclass(frozen=True)
class TriangleSource:
    """L with its unit diagonal, or U, of factors that are packed panel by panel.

    Rows of a panel of L lie as they were when the panel was factored: the exchanges of later panels
    are made when they are read.
    """

    base: MemorySource
    part: Literal["lower", "upper"]
    edges: tuple[int, ...]
    """Columns at which panels begin, and the number of columns."""
    pivots: NDArray[np.int64]
    """Row i was exchanged with this row, one after the other."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the triangle (or trapezoid)."""
        m, n = self.base.shape
        return (m, min(m, n)) if self.part == "lower" else (min(m, n), n)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the factors."""
        return self.base.dtype

    @property
    def unit(self) -> tuple[int, ...]:
        """Shape of the piece that is read at once."""
        return self.base.unit

    @property
    def name(self) -> str:
        """The source in words."""
        return f"{self.part} triangle of shape {self.shape}"

    @property
    def shareable(self) -> bool:
        """Whether other processes can read it."""
        return self.base.shareable

    def read(self, region: Region, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Give the values of a region, with zeros beside the triangle."""
        (r0, r1), (c0, c1) = region
        made = np.empty((r1 - r0, c1 - c0), self.dtype) if out is None else out
        for k, (low, high) in enumerate(zip(self.edges, self.edges[1:], strict=False)):
            first, last = max(c0, low), min(c1, high)
            if first < last:
                rows: Any = slice(r0, r1) if self.part == "upper" else self._rows[k][r0:r1]
                made[:, first - c0 : last - c0] = self.base.array[rows, first:last]
        self._clear(made, region)
        return made

    def units_in(self, region: Region) -> int:
        """Count nothing: memory has no storage units."""
        return 0

    def identity(self) -> dict[str, Any]:
        """Describe the source."""
        exchanged = MemorySource(self.pivots).identity()
        return {"triangle": self.part, "of": self.base.identity(), "pivots": exchanged}

    @cached_property
    def _rows(self) -> list[NDArray[np.int64]]:
        """For each panel, where the rows of L lie: only later panels exchanged them."""
        m, given = self.base.shape[0], []
        order = np.arange(m)
        last = len(self.pivots)
        for first in reversed([min(high, last) for high in self.edges[1:]]):
            # exchanges first:last come before those that `order` holds
            earlier = np.arange(m)
            for row, other in enumerate(self.pivots[first:last].tolist(), start=first):
                if row != other:
                    earlier[row], earlier[other] = earlier[other], earlier[row]
            order, last = earlier[order], first
            given.append(order)
        return given[::-1]

    def _clear(self, made: NDArray[Any], region: Region) -> None:
        (r0, r1), (c0, c1) = region
        lower = self.part == "lower"
        beside = slice(0, max(0, c0 - r0)) if lower else slice(max(0, c1 - r0), None)
        made[beside] = 0
        for row in range(max(r0, c0), min(r1, c1)):
            if lower:
                made[row - r0, row - c0] = 1
                made[row - r0, row - c0 + 1 :] = 0
            else:
                made[row - r0, : row - c0] = 0


@dataclass(frozen=True)
class TriangleView:
    """How a stage's target is seen in its operand instead of being computed from it."""

    operand: str
    part: Literal["lower", "upper"]
    edges: tuple[int, ...]

    def of(self, base: MemorySource, pivots: NDArray[np.int64]) -> TriangleSource:
        """Give the triangle of factors in memory.

        Parameters
        ----------
        base : MemorySource of shape (m, n)
            Packed factors.
        pivots : array of int64
            Exchanges of rows.

        Returns
        -------
        TriangleSource
            Made when it is read.
        """
        return TriangleSource(base, self.part, self.edges, pivots)
