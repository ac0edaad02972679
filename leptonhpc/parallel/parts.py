"""Parts of data: small descriptions that are read where they are worked on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.blocks import BlockedArray, StoredSource
from leptonhpc.errors import OptionError
from leptonhpc.store import StoredArray


@dataclass(frozen=True)
class Part:
    """One part of some data, and its number: the unit of work."""

    number: int
    data: Any
    """What the function gets; rows of an array are read first, where it runs."""
    name: str
    """In words, for messages: "rows 0 to 99 of 'x.zarr'"."""
    size: int = 1
    """Rows or items."""
    device: str | None = None
    """Address of the worker that it was cut for, if it was cut by speed."""

    def __repr__(self) -> str:
        return f"Part({self.number}: {self.name})"

    def load(self) -> Any:
        """Give the values.

        Returns
        -------
        object
            Rows of an array as NumPy array, of the stored dtype; of anything else, `data`.
        """
        return self.data.read() if isinstance(self.data, Rows) else self.data

    def in_memory(self) -> Part:
        """Give the same part with its values read."""
        return Part(self.number, self.load(), self.name, self.size, self.device)


class Parts:
    """Parts in their order; each is made when it is asked for.

    Parameters
    ----------
    parts : iterable of Part
        Of a stream, gone through once.
    sizes : tuple of int or None
        Rows or items of each; None for a stream, whose end is not known.
    """

    def __init__(self, parts: Iterable[Part], sizes: tuple[int, ...] | None) -> None:
        self._parts = parts
        self.sizes = sizes
        """Rows or items of each part, None for a stream: weights of a mean, for instance."""

    def __iter__(self) -> Iterator[Part]:
        return iter(self._parts)

    def __len__(self) -> int:
        if self.sizes is None:
            raise OptionError("the parts of a stream are not counted; list(parts) reads them all")
        return len(self.sizes)

    def __repr__(self) -> str:
        if self.sizes is None:
            return "Parts(of a stream)"
        return f"Parts({len(self.sizes)}, of {min(self.sizes)} to {max(self.sizes)} rows or items)"


@dataclass(frozen=True)
class Rows:
    """Rows of an array along its first dimension, not read yet."""

    array: BlockedArray
    rows: range | NDArray[np.int64]
    """A range of step 1, or increasing numbers."""

    @property
    def nbytes(self) -> int:
        """Bytes when they are read."""
        return self.array.nbytes // max(1, self.array.shape[0]) * len(self.rows)

    @property
    def stored(self) -> StoredArray | None:
        """The Zarr array that they are read from, if any process can do that by itself."""
        source: Any = self.array.source
        while hasattr(source, "base"):
            source = source.base
        return source.array if isinstance(source, StoredSource) and source.shareable else None

    def read(self) -> NDArray[Any]:
        """Read them; each storage unit that has some of them is read once.

        Returns
        -------
        array of shape (rows, ...)
            Of the stored dtype.
        """
        rest = tuple((0, n) for n in self.array.shape[1:])
        if isinstance(self.rows, range):
            return self.array.read(((self.rows.start, self.rows.stop), *rest))
        values = np.empty((len(self.rows), *self.array.shape[1:]), self.array.dtype)
        # rows of one unit are next to each other, since they increase
        units = self.rows // max(1, self.array.source.unit[0])
        edges = np.flatnonzero(np.diff(units, prepend=-1, append=-1))
        for first, last in zip(edges[:-1], edges[1:], strict=True):
            mine = self.rows[first:last]
            low = int(mine[0])
            block = self.array.read(((low, int(mine[-1]) + 1), *rest))
            values[first:last] = block[mine - low]
        return values
