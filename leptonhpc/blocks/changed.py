"""Sources whose numbers are made of another's as they are read, piece by piece."""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.blocks.grid import Region
from leptonhpc.blocks.sources import SlicedSource, Source, TransposedSource
from leptonhpc.errors import NumericRangeError

_PIECE_SIZE = 1 << 20
"""Numbers that are changed at once."""


class ChangedSource(ABC):
    """A source of the shape of another, each number made of the one in its place."""

    base: Source
    dtype: np.dtype[Any]

    @abstractmethod
    def change(self, values: NDArray[Any], region: Region, out: NDArray[Any]) -> None:
        """Write into `out` what is made of the base's values in a region."""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Describe the source so that a change of it is noticed."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self.base.shape

    @property
    def unit(self) -> tuple[int, ...]:
        """Shape of the piece that is read at once."""
        return self.base.unit

    @property
    def name(self) -> str:
        """The source in words."""
        return self.base.name

    @property
    def shareable(self) -> bool:
        """Whether other processes can read it."""
        return self.base.shareable

    def read(self, region: Region, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Give changed values; beside them there is little more than one storage unit."""
        shape = tuple(stop - start for start, stop in region)
        block = np.empty(shape, self.dtype) if out is None else out
        cuts = [
            [low, *range(low - low % step + step, high, step), high]
            for (low, high), step in zip(region, self._steps(shape), strict=True)
        ]
        for piece in itertools.product(*(itertools.pairwise(edges) for edges in cuts)):
            pairs = zip(piece, region, strict=True)
            place = tuple(slice(a - low, b - low) for (a, b), (low, _) in pairs)
            self.change(self.base.read(piece), piece, block[place])
        return block

    def units_in(self, region: Region) -> int:
        """Count the storage units that a region touches."""
        return self.base.units_in(region)

    def _steps(self, shape: tuple[int, ...]) -> list[int]:
        """Give the sides of a piece: whole storage units, as many as are few numbers."""
        steps = [max(1, unit) for unit in self.unit]
        for axis in reversed(range(len(shape))):
            size = math.prod(min(step, n) for step, n in zip(steps, shape, strict=True))
            steps[axis] *= max(1, _PIECE_SIZE // max(1, size))
        return steps


@dataclass(frozen=True)
class ConvertedSource(ChangedSource):
    """A source in another floating dtype, rounded to nearest as it is read."""

    base: Source
    dtype: np.dtype[Any]

    def change(self, values: NDArray[Any], region: Region, out: NDArray[Any]) -> None:
        """Convert.

        Raises
        ------
        NumericRangeError
            If a finite number is out of the range of the dtype. What is below its smallest number
            becomes zero.
        """
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            out[...] = values
        if self.dtype.itemsize >= values.dtype.itemsize:
            return
        lost = np.isfinite(values) & ~np.isfinite(out)
        if lost.any():
            index = tuple(int(i) for i in np.argwhere(lost)[0])
            place = tuple(i + low for i, (low, _) in zip(index, region, strict=True))
            message = (
                f"{self.name} has {values[index]} at index {place}, which {self.dtype} cannot "
                "hold. Scale the array first, or pass precision='float64'"
            )
            raise NumericRangeError(message)

    def identity(self) -> dict[str, Any]:
        """Describe the source."""
        return {"converted": self.base.identity(), "dtype": self.dtype.str}


def converted_source(source: Source, dtype: np.dtype[Any]) -> Source:
    """Give a source in another dtype, converted below transpositions and slices.

    Parameters
    ----------
    source : Source
        What is read.
    dtype : dtype
        Floating, real or complex.

    Returns
    -------
    Source
        That one factor is another's adjoint is still seen, and pieces are whole storage units.
    """
    if isinstance(source, TransposedSource | SlicedSource):
        return replace(source, base=converted_source(source.base, dtype))
    return ConvertedSource(source, dtype)
