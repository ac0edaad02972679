"""Arrays that a job writes: in the unfinished output, in a temporary folder, or in memory."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc import store
from leptonhpc.blocks import MemorySource, Region, Source, StoredSource
from leptonhpc.errors import ShapeError
from leptonhpc.planning import Target
from leptonhpc.store.journal import FOLDER
from leptonhpc.store.locations import Location


@dataclass(frozen=True)
class Writer:
    """Writes the blocks of one target."""

    target: Target
    array: store.StoredArray | NDArray[Any]

    def write(self, region: Region, block: NDArray[Any]) -> None:
        """Write one block whole.

        Parameters
        ----------
        region : region
            Where it belongs, in the coordinates of the tall matrix.
        block : array
            Its values.
        """
        if self.target.transposed:
            region, block = region[::-1], block.conj().T
        if isinstance(self.array, np.ndarray):
            self.array[tuple(slice(*pair) for pair in region)] = block
            return
        start = []
        for (low, _), unit in zip(region, self.array.unit, strict=True):
            if low % unit:
                message = f"block {region} of {self.target.name} does not begin at a unit of {unit}"
                raise ShapeError(message)
            start.append(low // unit)
        self.array.write_units(start, np.ascontiguousarray(block))


@dataclass
class Workspace:
    """Where a job's targets are made, by name.

    Parameters
    ----------
    output : str or path, optional
        The unfinished output; without it, targets are in memory while they fit into
        `memory_nbytes`, else in a temporary folder.
    memory_nbytes : int
        For targets in memory.
    """

    output: Location | None = None
    memory_nbytes: int = 0
    arrays: dict[str, store.StoredArray | NDArray[Any]] = field(default_factory=dict)
    folder: str | None = None

    def create(self, target: Target) -> Writer:
        """Make the array of a target anew.

        Parameters
        ----------
        target : Target
            Its name, shape, dtype and units.

        Returns
        -------
        Writer
            What writes it.
        """
        if self.output is None and target.nbytes <= self.memory_nbytes:
            self.memory_nbytes -= target.nbytes
            array: store.StoredArray | NDArray[Any] = np.empty(target.shape, target.dtype)
        else:
            location = self._place(target)
            store.require_space(location, target.nbytes)
            array = store.create_array(
                location,
                shape=target.shape,
                dtype=target.dtype,
                chunks=tuple(
                    max(1, min(u, n)) for u, n in zip(target.unit, target.shape, strict=True)
                ),
                compress=not target.scratch,
                overwrite=True,
            )
        self.arrays[target.name] = array
        return Writer(target, array)

    def reopen(self, target: Target) -> None:
        """Take up a target that an earlier run of the job finished."""
        self.arrays[target.name] = store.open_array(self._place(target), writable=True)

    def sources(self) -> dict[str, Source]:
        """Give the targets as operands of later stages."""
        return {
            name: MemorySource(array) if isinstance(array, np.ndarray) else StoredSource(array)
            for name, array in self.arrays.items()
        }

    def drop_scratch(self, targets: list[Target]) -> None:
        """Remove what only the job itself needed."""
        for target in targets:
            if target.scratch and target.name in self.arrays:
                array = self.arrays.pop(target.name)
                if isinstance(array, store.StoredArray):
                    store.remove(array.location)

    def close(self) -> None:
        """Remove the temporary folder."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = None

    def _place(self, target: Target) -> Location:
        if self.output is None:
            if self.folder is None:
                self.folder = tempfile.mkdtemp(prefix="leptonhpc-")
            return Path(self.folder) / target.name
        if target.scratch:
            return store.join(store.join(store.join(self.output, FOLDER), "scratch"), target.name)
        return store.join(self.output, target.name)
