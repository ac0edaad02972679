"""Genotypes in two bits: four calls a byte, as they are stored and as PLINK 1 writes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.blocks import Region
from leptonhpc.blocks.sources import Source

MISSING = -1
_CALLS = np.array([0, 1, 2, MISSING], np.int8)
"""What our own codes mean."""
_SHIFTS = np.array([0, 2, 4, 6], np.uint8)


def decoding_table(calls: NDArray[np.int8]) -> NDArray[np.int8]:
    """Give the four calls of every byte.

    Parameters
    ----------
    calls : array of shape (4,), int8
        What the codes 0 to 3 mean.

    Returns
    -------
    array of shape (256, 4), int8
        The lowest two bits come first.
    """
    table: NDArray[np.int8] = calls[(np.arange(256)[:, None] >> _SHIFTS) & 3]
    return table


_TABLE = decoding_table(_CALLS)


def pack(calls: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Put four samples into a byte.

    Parameters
    ----------
    calls : array of shape (n, m), int8
        0, 1, 2, or negative where missing; the caller has refused all else.

    Returns
    -------
    array of shape (ceil(n / 4), m), uint8
        Sample 4 i + j is in bits 2 j and 2 j + 1; what fills the last byte is missing.
    """
    n, m = calls.shape
    codes = np.full((-(-n // 4) * 4, m), 3, np.uint8)
    codes[:n] = np.where(calls < 0, 3, calls)
    quads = codes.reshape(-1, 4, m) << _SHIFTS[:, None]
    packed: NDArray[np.uint8] = np.bitwise_or.reduce(quads, axis=1)
    return packed


@dataclass(frozen=True)
class PackedSource:
    """Calls that are stored in two bits."""

    base: Source
    """(ceil(n / 4), m), uint8."""
    samples: int

    dtype = np.dtype(np.int8)

    @property
    def shape(self) -> tuple[int, int]:
        """Samples and variants."""
        return self.samples, self.base.shape[1]

    @property
    def unit(self) -> tuple[int, int]:
        """Shape of the piece that is read at once."""
        return 4 * self.base.unit[0], self.base.unit[1]

    @property
    def name(self) -> str:
        """The source in words."""
        return self.base.name

    @property
    def shareable(self) -> bool:
        """Whether other processes can read it."""
        return self.base.shareable

    def read(self, region: Region, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Decode a region."""
        (first, last), columns = region
        begin = first // 4
        packed = self.base.read(((begin, -(-last // 4)), columns))
        calls = np.empty((len(packed), 4, packed.shape[1]), np.int8)
        for quarter in range(4):
            calls[:, quarter] = _TABLE[:, quarter][packed]
        part = calls.reshape(-1, packed.shape[1])[first - 4 * begin : last - 4 * begin]
        if out is None:
            return np.ascontiguousarray(part)
        out[...] = part
        return out

    def units_in(self, region: Region) -> int:
        """Count the storage units that a region touches."""
        (first, last), columns = region
        return self.base.units_in(((first // 4, -(-last // 4)), columns))

    def identity(self) -> dict[str, Any]:
        """Describe the source."""
        return {"two bits": self.base.identity(), "samples": self.samples}
