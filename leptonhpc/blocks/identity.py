"""The identity matrix as a source: right-hand sides of an inverse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.blocks.grid import Region


@dataclass(frozen=True)
class IdentitySource:
    """An identity matrix that is nowhere stored."""

    order: int
    dtype: np.dtype[Any]
    shareable: bool = True

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the matrix."""
        return self.order, self.order

    @property
    def unit(self) -> tuple[int, int]:
        """Shape of the piece that is made at once."""
        return 1, 1

    @property
    def name(self) -> str:
        """The source in words."""
        return f"identity of order {self.order}"

    def read(self, region: Region, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Make a region."""
        (r0, r1), (c0, c1) = region
        block = np.empty((r1 - r0, c1 - c0), self.dtype) if out is None else out
        block[...] = 0
        both = np.arange(max(r0, c0), min(r1, c1))
        block[both - r0, both - c0] = 1
        return block

    def units_in(self, region: Region) -> int:
        """Count nothing: nothing is stored."""
        return 0

    def identity(self) -> dict[str, Any]:
        """Describe the source."""
        return {"identity": self.order, "dtype": str(self.dtype)}
