"""Rows mixed in pairs by random signs: an orthogonal change of a matrix, read lazily."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.blocks.grid import Region
from leptonhpc.blocks.sources import Source

_STRIP = 64
"""Pairs of rows that are turned at once: what they were is copied."""


@dataclass(frozen=True)
class Butterfly:
    """The orthogonal matrix W that turns rows in pairs by random angles, twice [1]_.

    Rows i and i + n // 2 become c a_i + s a_{i+n//2} and c a_{i+n//2} - s a_i; then neighbours are
    turned likewise. Of an odd number of rows the last has a neighbour only, the first none. Its
    determinant is one.

    Notes
    -----
    Random signs in place of angles leave the growth of block diagonal matrices as it was, and the
    square root of that of two-point boundary value problems. Halves that are coupled by a multiple
    of the identity still grow if rows far apart are turned alone.

    References
    ----------
    .. [1] D. S. Parker, Random butterfly transformations with applications in computational linear
       algebra, Technical report CSD-950023, UCLA, 1995.
    """

    n: int
    seed: int

    @property
    def angles(self) -> NDArray[np.float64]:
        """Of each pair, far and near; shape (2, n // 2)."""
        generator = np.random.Generator(np.random.Philox(key=self.seed))
        return generator.uniform(0, 2 * np.pi, (2, self.n // 2))

    def mix(self, a: NDArray[Any]) -> NDArray[Any]:
        """Give W A."""
        (far, near), (first, second) = self.angles, self._pairs(mixed := a.copy())
        _turn(*first, far)
        _turn(*second, near)
        return mixed

    def unmix(self, a: NDArray[Any]) -> NDArray[Any]:
        """Give W^T A, which undoes `mix`."""
        (far, near), (first, second) = self.angles, self._pairs(back := a.copy())
        _turn(*second, -near)
        _turn(*first, -far)
        return back

    def _pairs(self, a: NDArray[Any]) -> tuple[tuple[NDArray[Any], NDArray[Any]], ...]:
        half, odd = self.n // 2, self.n % 2
        return (a[:half], a[half : 2 * half]), (a[odd::2], a[odd + 1 :: 2])


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
        """Give mixed rows; both rows of each pair are read, and neighbours of what is at an end."""
        (start, stop), *rest = region
        low, high = self._with_neighbours(start, stop)
        widths = [last - first for first, last in rest]
        whole = out is not None and (low, high) == (start, stop)
        block = out if whole and out is not None else np.empty((high - low, *widths), self.dtype)
        far, near = Butterfly(self.shape[0], self.seed).angles
        self._read_far(block, (low, high), rest, far)
        odd = self.shape[0] % 2
        first = max(low, odd)
        pairs = block[first - low :]
        _turn(pairs[::2], pairs[1::2], near[(first - odd) // 2 : (high - odd) // 2])
        asked = block[start - low : stop - low]
        if out is None:
            return asked
        if not whole:
            out[...] = asked
        return out

    def _read_far(
        self, block: NDArray[Any], rows: tuple[int, int], rest: list[tuple[int, int]],
        angles: NDArray[np.float64],
    ) -> None:  # fmt: skip
        """Read rows i and i + n // 2, and turn them."""
        half = self.shape[0] // 2
        for low, high, at, other in self._runs(*rows):
            part = block[low - rows[0] : high - rows[0]]
            own = slice(at, at + high - low)
            part[...] = self.base.read(((own.start, own.stop), *rest))
            if other is None:
                continue
            pair = self.base.read(((other, other + high - low), *rest))
            cosine, sine = _turns(angles[own], part)
            if low < half:
                part *= cosine
                part += sine * pair
            else:
                part *= -sine
                part += cosine * pair

    def _with_neighbours(self, start: int, stop: int) -> tuple[int, int]:
        odd = self.shape[0] % 2
        low = start - (start - odd) % 2 if start >= odd else start
        return low, stop + (stop - odd) % 2 if stop > odd else stop

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
        for low, high, at, other in self._runs(*self._with_neighbours(start, stop)):
            for first in (at,) if other is None else (at, other):
                count += self.base.units_in(((first, first + high - low), *rest))
        return count

    def identity(self) -> dict[str, Any]:
        """Describe the source."""
        return {"turned": self.base.identity(), "dtype": self.dtype.str, "seed": self.seed}


def _turn(top: NDArray[Any], bottom: NDArray[Any], angles: NDArray[np.float64]) -> None:
    """Turn pairs of rows in place, strip by strip."""
    for first in range(0, len(angles), _STRIP):
        rows = slice(first, first + _STRIP)
        cosine, sine = _turns(angles[rows], top)
        before = top[rows].copy()
        top[rows] = cosine * before + sine * bottom[rows]
        bottom[rows] = cosine * bottom[rows] - sine * before


def _turns(angles: NDArray[np.float64], part: NDArray[Any]) -> NDArray[Any]:
    """Give cosine and sine of angles of rows, for an array like `part`."""
    turns = np.stack([np.cos(angles), np.sin(angles)]).astype(part.real.dtype)
    return turns.reshape(2, -1, *(1,) * (part.ndim - 1))
