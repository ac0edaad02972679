"""Rows mixed in pairs by random signs: an orthogonal change of a matrix, read lazily."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.blocks.grid import Region
from leptonhpc.blocks.sources import Source

_HALF = 0.5**0.5


@dataclass(frozen=True)
class Butterfly:
    """The orthogonal matrix W that mixes row i with row i + n // 2 [1]_.

    With h = n // 2 and random signs s: row i of W A is (s_i a_i + s_{i+h} a_{i+h}) / sqrt 2, row
    i + h is (s_i a_i - s_{i+h} a_{i+h}) / sqrt 2; the last row of an odd number stays, but for its
    sign.

    References
    ----------
    .. [1] D. S. Parker, Random butterfly transformations with applications in computational linear
       algebra, Technical report CSD-950023, UCLA, 1995.
    """

    n: int
    seed: int

    @property
    def signs(self) -> NDArray[np.int8]:
        """1 or -1 for each row of A."""
        generator = np.random.Generator(np.random.Philox(key=self.seed))
        return generator.choice(np.array([-1, 1], np.int8), self.n)

    def mix(self, a: NDArray[Any]) -> NDArray[Any]:
        """Give W A."""
        half, signed = self.n // 2, a * self._signs_of(a)
        top, bottom, last = np.split(signed, [half, 2 * half])
        return np.concatenate([_HALF * (top + bottom), _HALF * (top - bottom), last])

    def unmix(self, a: NDArray[Any]) -> NDArray[Any]:
        """Give W^T A, which undoes `mix`."""
        half = self.n // 2
        top, bottom, last = np.split(a, [half, 2 * half])
        signed = np.concatenate([_HALF * (top + bottom), _HALF * (top - bottom), last])
        signed *= self._signs_of(a)
        return signed

    def _signs_of(self, a: NDArray[Any]) -> NDArray[Any]:
        return self.signs.astype(a.real.dtype).reshape(-1, *(1,) * (a.ndim - 1))


@dataclass(frozen=True)
class MixedRowsSource:
    """A source of shape (n, k) or (n,) with its rows mixed."""

    base: Source
    dtype: np.dtype[Any]
    """Of the mixed values."""
    seed: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self.base.shape

    @property
    def unit(self) -> tuple[int, ...]:
        """Shape of the piece that is read at once: two pieces of the base."""
        rows, *rest = self.base.unit
        return (min(2 * rows, self.shape[0]), *rest)

    @property
    def name(self) -> str:
        """The source in words."""
        return self.base.name

    @property
    def shareable(self) -> bool:
        """Whether other processes can read it."""
        return self.base.shareable

    def read(self, region: Region, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Give mixed rows; both halves of the pairs are read."""
        (start, stop), *rest = region
        half, signs = self.shape[0] // 2, Butterfly(self.shape[0], self.seed).signs
        shape = (stop - start, *(high - low for low, high in rest))
        block = out if out is not None else np.empty(shape, self.dtype)
        for low, high, at, other in self._runs(start, stop):
            part = block[low - start : high - start]
            own = slice(at, at + high - low)
            part[...] = self.base.read(((own.start, own.stop), *rest))
            part *= _column(signs[own], part)
            if other is None:
                continue
            there = slice(other, other + high - low)
            pair = self.base.read(((there.start, there.stop), *rest))
            pair = pair * _column(signs[there], part)
            part += pair if low < half else -pair
            part *= _HALF
        return block

    def _runs(self, start: int, stop: int) -> list[tuple[int, int, int, int | None]]:
        """Give first and last mixed row, first row of the base, and first row of its partners."""
        half = self.shape[0] // 2
        bounds = ((0, half), (half, 2 * half), (2 * half, self.shape[0]))
        runs: list[tuple[int, int, int, int | None]] = []
        for number, (first, last) in enumerate(bounds):
            low, high = max(start, first), min(stop, last)
            if low < high:
                at = low - half if number == 1 else low
                runs.append((low, high, at, None if number == 2 else at + half))
        return runs

    def units_in(self, region: Region) -> int:
        """Count the storage units that a region touches."""
        (start, stop), *rest = region
        count = 0
        for low, high, at, other in self._runs(start, stop):
            for first in (at,) if other is None else (at, other):
                count += self.base.units_in(((first, first + high - low), *rest))
        return count

    def identity(self) -> dict[str, Any]:
        """Describe the source."""
        return {"mixed": self.base.identity(), "dtype": self.dtype.str, "seed": self.seed}


def _column(signs: NDArray[np.int8], part: NDArray[Any]) -> NDArray[Any]:
    return signs.astype(part.real.dtype).reshape(-1, *(1,) * (part.ndim - 1))
