"""What a blocked array reads from: anything that gives the values of a region.

Sources are small, picklable and lazy; they compose (transposed, sliced, summed), so that an
expression of arrays is read block by block without any of it being stored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from leptonhpc.blocks.grid import Region
from leptonhpc.store import StoredArray


@runtime_checkable
class Source(Protocol):
    """What every source has."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the stored values."""

    @property
    def unit(self) -> tuple[int, ...]:
        """Shape of the piece that is read at once, however little of it is asked for."""

    @property
    def name(self) -> str:
        """The source in words, for messages."""

    @property
    def shareable(self) -> bool:
        """Whether other processes can read it."""

    def read(self, region: Region, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Give the values of a region, in `out` if that is given and fits."""

    def units_in(self, region: Region) -> int:
        """Count the storage units that a region touches."""

    def identity(self) -> dict[str, Any]:
        """Describe the source so that a change of it is noticed."""


class StoredSource:
    """A Zarr array.

    Parameters
    ----------
    array : StoredArray
        The array.
    """

    def __init__(self, array: StoredArray) -> None:
        self.array = array
        self.shape = array.shape
        self.dtype = array.dtype
        self.unit = array.unit
        self.name = array.name
        self.read = array.read
        self.units_in = array.units_in
        self.identity = array.identity
        self.shareable = not array.name.startswith("memory:")

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the array only."""
        return StoredSource, (self.array,)


class MemorySource:
    """A NumPy array.

    Parameters
    ----------
    array : ndarray
        The values; they are not copied.
    """

    shareable = True
    name = "numpy array"

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array
        self.shape = array.shape
        self.dtype = array.dtype
        self.unit = (1,) * array.ndim

    def read(self, region: Region, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Give a copy of a region (the caller may change it)."""
        part = self.array[tuple(slice(*pair) for pair in region)]
        if out is None:
            return np.array(part, order="C")
        out[...] = part
        return out

    def units_in(self, region: Region) -> int:
        """Count nothing: memory has no storage units."""
        return 0

    def identity(self) -> dict[str, Any]:
        """Describe the values by their digest."""
        data = np.ascontiguousarray(self.array)
        sha = hashlib.sha256(data.view(np.uint8).reshape(-1).data if data.size else b"").hexdigest()
        return {"shape": self.shape, "dtype": str(self.dtype), "sha256": sha[:16]}


@dataclass(frozen=True)
class TransposedSource:
    """A two-dimensional source with rows and columns exchanged, and conjugated if asked for."""

    base: Source
    conjugate: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self.base.shape[::-1]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the stored values."""
        return self.base.dtype

    @property
    def unit(self) -> tuple[int, ...]:
        """Shape of the piece that is read at once."""
        return self.base.unit[::-1]

    @property
    def name(self) -> str:
        """The source in words."""
        return f"{self.base.name} transposed"

    @property
    def shareable(self) -> bool:
        """Whether other processes can read it."""
        return self.base.shareable

    def read(self, region: Region, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Give a transposed view of what the base gives, which may lie in the memory of `out`."""
        usable = out is not None and out.flags.c_contiguous
        there = out.reshape(out.shape[::-1]) if usable and out is not None else None
        block = self.base.read(region[::-1], there).T
        return (
            np.conjugate(block, out=block) if self.conjugate and block.dtype.kind == "c" else block
        )

    def units_in(self, region: Region) -> int:
        """Count the storage units that a region touches."""
        return self.base.units_in(region[::-1])

    def identity(self) -> dict[str, Any]:
        """Describe the source."""
        return {"transposed": self.base.identity(), "conjugate": self.conjugate}


@dataclass(frozen=True)
class SlicedSource:
    """A contiguous part of a source, optionally without dimensions of length one."""

    base: Source
    region: Region

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return tuple(stop - start for start, stop in self.region)

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
        return f"{self.base.name}{list(self.region)}"

    @property
    def shareable(self) -> bool:
        """Whether other processes can read it."""
        return self.base.shareable

    def _shift(self, region: Region) -> Region:
        return tuple(
            (a + low, b + low) for (a, b), (low, _) in zip(region, self.region, strict=True)
        )

    def read(self, region: Region, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Give the values of a region of the part."""
        return self.base.read(self._shift(region), out)

    def units_in(self, region: Region) -> int:
        """Count the storage units that a region touches."""
        return self.base.units_in(self._shift(region))

    def identity(self) -> dict[str, Any]:
        """Describe the source."""
        return {"slice": self.region, "of": self.base.identity()}


@dataclass(frozen=True)
class ReshapedSource:
    """An N-dimensional source seen as a matrix: its first axis by all others together."""

    base: Source

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the matrix."""
        return self.base.shape[0], int(np.prod(self.base.shape[1:], dtype=np.int64))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the stored values."""
        return self.base.dtype

    @property
    def unit(self) -> tuple[int, ...]:
        """Shape of the piece that is read at once: all columns."""
        return self.base.unit[0], max(1, self.shape[1])

    @property
    def name(self) -> str:
        """The source in words."""
        return self.base.name

    @property
    def shareable(self) -> bool:
        """Whether other processes can read it."""
        return self.base.shareable

    def read(self, region: Region, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Give rows of the matrix; columns are cut after whole rows are read."""
        rows, (first, last) = region
        whole = (rows, *((0, n) for n in self.base.shape[1:]))
        full = first == 0 and last == self.shape[1]
        if full and out is not None and out.flags.c_contiguous:
            self.base.read(whole, out.reshape((-1, *self.base.shape[1:])))
            return out
        block = self.base.read(whole).reshape(rows[1] - rows[0], -1)
        return block if full else block[:, first:last]

    def units_in(self, region: Region) -> int:
        """Count the storage units that a region touches."""
        return self.base.units_in((region[0], *((0, n) for n in self.base.shape[1:])))

    def identity(self) -> dict[str, Any]:
        """Describe the source."""
        return {"matrix": self.base.identity()}


_OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
}


@dataclass(frozen=True)
class ElementwiseSource:
    """Sum, difference or product, element by element, of sources of one shape and of scalars."""

    operation: Literal["+", "-", "*"]
    left: Source | complex
    right: Source | complex

    @property
    def _operands(self) -> list[Source]:
        return [x for x in (self.left, self.right) if isinstance(x, Source)]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self._operands[0].shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the values, by NumPy's promotion."""
        terms = [x.dtype if isinstance(x, Source) else x for x in (self.left, self.right)]
        return np.result_type(*terms)

    @property
    def unit(self) -> tuple[int, ...]:
        """Shape of the larger piece that is read at once."""
        return tuple(max(sizes) for sizes in zip(*(x.unit for x in self._operands), strict=True))

    @property
    def name(self) -> str:
        """The source in words."""
        left, right = (x.name if isinstance(x, Source) else str(x) for x in (self.left, self.right))
        return f"({left} {self.operation} {right})"

    @property
    def shareable(self) -> bool:
        """Whether other processes can read it."""
        return all(x.shareable for x in self._operands)

    def read(self, region: Region, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Read the operands and combine them."""
        terms = [x.read(region) if isinstance(x, Source) else x for x in (self.left, self.right)]
        result = _OPERATIONS[self.operation](*terms)
        return np.asarray(result)

    def units_in(self, region: Region) -> int:
        """Count the storage units that a region touches."""
        return sum(x.units_in(region) for x in self._operands)

    def identity(self) -> dict[str, Any]:
        """Describe the source."""
        sides = [x.identity() if isinstance(x, Source) else x for x in (self.left, self.right)]
        return {"operation": self.operation, "operands": sides}


@dataclass(frozen=True)
class ProductSource:
    """A matrix product, formed panel by panel for each region that is read."""

    left: Source
    right: Source

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self.left.shape[0], self.right.shape[1]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the values, by NumPy's promotion."""
        return np.result_type(self.left.dtype, self.right.dtype)

    @property
    def unit(self) -> tuple[int, ...]:
        """Shape of the piece that is read at once."""
        return self.left.unit[0], self.right.unit[1]

    @property
    def name(self) -> str:
        """The source in words."""
        return f"({self.left.name} @ {self.right.name})"

    @property
    def shareable(self) -> bool:
        """Whether other processes can read it."""
        return self.left.shareable and self.right.shareable

    def read(self, region: Region, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Multiply the panels that meet in a region."""
        rows, columns = region
        length = self.left.shape[1]
        step = max(self.left.unit[1], self.right.unit[0], 1024)
        result = np.zeros((rows[1] - rows[0], columns[1] - columns[0]), self.dtype)
        for start in range(0, length, step):
            inner = (start, min(start + step, length))
            result += self.left.read((rows, inner)) @ self.right.read((inner, columns))
        return result

    def units_in(self, region: Region) -> int:
        """Count the storage units that a region touches."""
        inner = (0, self.left.shape[1])
        return self.left.units_in((region[0], inner)) + self.right.units_in((inner, region[1]))

    def identity(self) -> dict[str, Any]:
        """Describe the source."""
        return {"product": [self.left.identity(), self.right.identity()]}
