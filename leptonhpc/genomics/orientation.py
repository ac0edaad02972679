"""The two ways in which calls lie: a variant's samples together, or a sample's variants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.blocks import Region
from leptonhpc.blocks.sources import Source
from leptonhpc.genomics.selected import SelectedSource

_TILE = 256
"""Rows and columns that are turned at once."""


@dataclass(frozen=True)
class Turned:
    """A source with rows and columns exchanged, its values moved to lie that way too."""

    base: Source

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self.base.shape[::-1]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the calls."""
        return self.base.dtype

    @property
    def unit(self) -> tuple[int, ...]:
        """Shape of the piece that is read at once."""
        return self.base.unit[::-1]

    @property
    def name(self) -> str:
        """The source in words."""
        return self.base.name

    @property
    def shareable(self) -> bool:
        """Whether other processes can read it."""
        return self.base.shareable

    def read(self, region: Region, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Give a region, row after row, turned in tiles that stay in cache."""
        rows = self.base.read(region[::-1])
        if out is None:
            out = np.empty(rows.shape[::-1], rows.dtype)
        for top in range(0, len(rows), _TILE):
            for left in range(0, rows.shape[1], _TILE):
                part = rows[top : top + _TILE, left : left + _TILE]
                out[left : left + _TILE, top : top + _TILE] = part.T
        return out

    def units_in(self, region: Region) -> int:
        """Count the storage units that a region touches."""
        return self.base.units_in(region[::-1])

    def identity(self) -> dict[str, Any]:
        """Describe the source."""
        return {"turned": self.base.identity()}


def by_variant(source: Source) -> Source:
    """Give calls as variants by samples: what is read of a variant is all in one piece.

    Parameters
    ----------
    source : Source of shape (samples, variants)
        The calls.

    Returns
    -------
    Source of shape (variants, samples)
        The same; as they lie in the file, where that is by variant.
    """
    if isinstance(source, Turned):
        return source.base
    if isinstance(source, SelectedSource):
        return SelectedSource(by_variant(source.base), source.columns, source.rows)
    return Turned(source)
