"""A field seen as a matrix, times by cells, while it is read: masks, means and trends inside.

Land (cells that are missing at every time) becomes zero, which adds nothing to any product; what
is missing elsewhere is refused. Nothing of the field is stored in another form.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.blocks import Region, Source
from leptonhpc.errors import NonFiniteError

TILE_NBYTES = 8 << 20
"""Rows that are looked at together: what is made beside them stays small."""


@dataclass(frozen=True)
class Removed:
    """What is subtracted: a fit of a few terms (a climatology, a trend) to every cell."""

    design: NDArray[np.float64]
    """(times, terms)."""
    coefficients: NDArray[np.float64]
    """(terms, cells); zero on land."""


@dataclass(frozen=True)
class FieldMatrix:
    """A source of shape (times, cells) over an N-dimensional one."""

    base: Source
    axis: int
    """Which of its dimensions is time."""
    land: NDArray[np.bool_]
    """(cells,): where there are no data."""
    removed: Removed | None = None
    """What is subtracted."""
    labels: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """Coordinates by dimension, time first, for messages."""
    title: str = ""
    """Name of the variable, for messages."""

    @property
    def space(self) -> tuple[int, ...]:
        """Lengths of the dimensions other than time."""
        return self.base.shape[: self.axis] + self.base.shape[self.axis + 1 :]

    @property
    def shape(self) -> tuple[int, int]:
        """Times and cells."""
        return self.base.shape[self.axis], prod(self.space)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the values: integers are widened, since land and anomalies need fractions."""
        kind = self.base.dtype.kind
        return np.result_type(self.base.dtype, np.float32 if kind in "fc" else np.float64)

    @property
    def unit(self) -> tuple[int, int]:
        """Times and cells in a row that are read at once."""
        unit = self.base.unit[: self.axis] + self.base.unit[self.axis + 1 :]
        for at, length in enumerate(unit):
            if length > 1 or at == len(unit) - 1:
                return self.base.unit[self.axis], max(1, length * prod(self.space[at + 1 :]))
        return self.base.unit[self.axis], 1

    @property
    def name(self) -> str:
        """The field in words."""
        return self.title or self.base.name

    @property
    def shareable(self) -> bool:
        """Whether other processes can read it."""
        return self.base.shareable

    def read(self, region: Region, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Give some times of some cells: land is zero, what is to be removed is gone."""
        rows, (first, last) = region
        box, low = _box(self.space, first, last)
        cells = prod(b - a for a, b in box)
        exact = low == 0 and cells == last - first
        if out is None:
            out = np.empty((rows[1] - rows[0], last - first), self.dtype)
        straight = exact and self.axis == 0 and out.dtype == self.base.dtype
        if straight and out.flags.c_contiguous:
            place = (rows, *box)
            self.base.read(place, out.reshape([b - a for a, b in place]))
        else:
            for top, bottom in _whole_units(
                rows, self.base.unit[self.axis], self.base.dtype.itemsize * cells
            ):
                place = (*box[: self.axis], (top, bottom), *box[self.axis :])
                block = np.moveaxis(self.base.read(place), self.axis, 0)
                into = out[top - rows[0] : bottom - rows[0]]
                into[...] = block.reshape(len(block), -1)[:, low : low + last - first]
        self._condition(out, rows[0], first)
        return out

    def units_in(self, region: Region) -> int:
        """Count the storage units that a region touches."""
        box, _ = _box(self.space, *region[1])
        return self.base.units_in((*box[: self.axis], region[0], *box[self.axis :]))

    def identity(self) -> dict[str, Any]:
        """Describe the source."""
        parts: list[NDArray[Any]] = [self.land]
        if self.removed is not None:
            parts += [self.removed.design, self.removed.coefficients]
        return {
            "field": self.base.identity(),
            "axis": self.axis,
            "made": [digest(p) for p in parts],
        }

    def _condition(self, block: NDArray[Any], row: int, column: int) -> None:
        land = self.land[column : column + block.shape[1]]
        step = max(1, TILE_NBYTES // max(1, block[:1].nbytes))
        for low in range(0, len(block), step):
            tile = block[low : low + step]
            wrong = np.isfinite(tile) == land
            if land.any():
                wrong |= np.isinf(tile)
            if wrong.any():
                at = np.argwhere(wrong)[0]
                self._refuse(row + low + int(at[0]), column + int(at[1]), tile[tuple(at)])
            if land.any():
                tile[:, land] = 0
            if self.removed is not None:
                part = self.removed.design[row + low : row + low + len(tile)]
                tile -= part @ self.removed.coefficients[:, column : column + block.shape[1]]

    def _refuse(self, row: int, column: int, value: Any) -> None:
        names = list(self.labels)
        where = [row, *(int(i) for i in np.unravel_index(column, self.space))]
        place = ", ".join(
            f"{name}={self.labels[name][i]}" for name, i in zip(names, where, strict=False)
        )
        if np.isinf(value):
            message = f"a field must be finite; {self.name} is {value} at {place or tuple(where)}"
            raise NonFiniteError(f"{message}. Leave this cell or time out, or make it missing")
        finding = "is missing" if np.isnan(value) else "has a value, and none at the first time,"
        message = (
            "a cell must have a value at every time, or at none (land); "
            f"{self.name} {finding} at {place or tuple(where)}. Fill such gaps with "
            "leptonhpc.climate.fill_gaps (gaps='em'), or leave these cells or times out"
        )
        raise NonFiniteError(message)


@dataclass(frozen=True)
class JoinedFields:
    """Several fields of the same times, side by side as one matrix."""

    parts: tuple[FieldMatrix, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Times, and cells of all fields."""
        return self.parts[0].shape[0], sum(part.shape[1] for part in self.parts)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype that holds all."""
        return np.result_type(*(part.dtype for part in self.parts))

    @property
    def unit(self) -> tuple[int, int]:
        """The largest piece that is read at once."""
        return max(p.unit[0] for p in self.parts), max(p.unit[1] for p in self.parts)

    @property
    def name(self) -> str:
        """The fields in words."""
        return ", ".join(part.name for part in self.parts)

    @property
    def shareable(self) -> bool:
        """Whether other processes can read all of them."""
        return all(part.shareable for part in self.parts)

    def read(self, region: Region, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Read the part of every field that lies in the region."""
        rows, (first, last) = region
        if out is None:
            out = np.empty((rows[1] - rows[0], last - first), self.dtype)
        for part, low, high in self._within(first, last):
            out[:, low[1] : high[1]] = part.read((rows, (low[0], high[0])))
        return out

    def units_in(self, region: Region) -> int:
        """Count the storage units that a region touches."""
        found = self._within(*region[1])
        return sum(part.units_in((region[0], (low[0], high[0]))) for part, low, high in found)

    def identity(self) -> dict[str, Any]:
        """Describe the sources."""
        return {"joined": [part.identity() for part in self.parts]}

    def _within(
        self, first: int, last: int
    ) -> list[tuple[FieldMatrix, tuple[int, int], tuple[int, int]]]:
        """Give parts with their own columns and those of the region, first and last."""
        found, begin = [], 0
        for part in self.parts:
            low, high = max(first, begin), min(last, begin + part.shape[1])
            if low < high:
                found.append((part, (low - begin, low - first), (high - begin, high - first)))
            begin += part.shape[1]
        return found


def digest(values: NDArray[Any]) -> str:
    """Give a short digest of an array.

    Parameters
    ----------
    values : array
        The numbers.

    Returns
    -------
    str
        Sixteen hexadecimal digits.
    """
    # bytes where they are: coefficients of a climatology may be as large as all else
    flat = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    return hashlib.sha256(flat.data).hexdigest()[:16]


def _whole_units(rows: tuple[int, int], unit: int, row_nbytes: int) -> Iterator[tuple[int, int]]:
    """Cut rows into pieces of a tile's bytes that no unit of storage is in two of."""
    step = unit * max(1, TILE_NBYTES // max(1, unit * row_nbytes))
    top = rows[0]
    while top < rows[1]:
        bottom = min(rows[1], (top // step + 1) * step)
        yield top, bottom
        top = bottom


def _box(shape: tuple[int, ...], first: int, last: int) -> tuple[Region, int]:
    """Give the smallest box of whole trailing dimensions that holds cells first to last.

    And the place of the first in it.
    """
    if not shape:
        return (), 0
    stride = prod(shape[1:])
    low, high = first // stride, -(-last // stride)
    if high - low <= 1 and len(shape) > 1:
        inner, offset = _box(shape[1:], first - low * stride, last - low * stride)
        return ((low, low + 1), *inner), offset
    return ((low, high), *((0, n) for n in shape[1:])), first - low * stride
