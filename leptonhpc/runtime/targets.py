"""Arrays that a job writes: in the unfinished output, in a temporary folder, or in memory."""

from __future__ import annotations

import contextlib
import itertools
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc import store
from leptonhpc.blocks import MemorySource, Region, Source, StoredSource
from leptonhpc.blocks.triangles import TriangleSource
from leptonhpc.errors import LeptonError, NotAnArrayError, ShapeError, StoreError
from leptonhpc.planning import Stage, Target
from leptonhpc.runtime.temporary import TemporaryFolder
from leptonhpc.store.journal import FOLDER
from leptonhpc.store.locations import Location, is_local, local_path

_COPIED_NBYTES = 1 << 26
"""What is no larger than this is given as an array of its own."""
_MARK = "made for"
_WAY_OUT = (
    "The unfinished output lacks a part of what it had: put that back, or begin again, with "
    "overwrite=True or after `leptonhpc clean`"
)


def _always() -> None:
    """Let everything be written."""


@dataclass(frozen=True)
class Writer:
    """Writes the blocks of one target."""

    target: Target
    array: store.StoredArray | NDArray[Any] | None
    """None: it was gone when the writer came to this process."""
    threads: int = 1
    mark: str = ""
    """Of a scratch array: who finds another one in its place writes to what is gone."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to a worker, which may be so late that the array is no more."""
        if self.mark and isinstance(self.array, store.StoredArray):
            return _arrived, (self.target, self.array.location, self.threads, self.mark)
        return Writer, (self.target, self.array, self.threads, self.mark)

    def is_there(self) -> bool:
        """Whether the array is still the one that was made for this writer, where that is known."""
        if not self.mark or not isinstance(self.array, store.StoredArray):
            return self.array is not None
        try:
            metadata = (local_path(self.array.location) / "zarr.json").read_bytes()
        except OSError:
            return False
        return self.mark.encode() in metadata

    def place(self, region: Region) -> NDArray[Any] | None:
        """Give the memory of a region, where the target is in memory: a block may be made there."""
        if self.target.transposed or not isinstance(self.array, np.ndarray) or not region:
            return None
        return self.array[tuple(slice(*pair) for pair in region)]

    def write(
        self, region: Region, block: NDArray[Any], require_wanted: Callable[[], None] = _always
    ) -> None:
        """Write one block whole.

        Parameters
        ----------
        region : region
            Where it belongs, in the coordinates of the tall matrix.
        block : array
            Its values.
        require_wanted : callable
            Called before each storage unit: raises if it must not be written any more.
        """
        if self.target.transposed:
            region, block = region[::-1], block.conj().T
        if isinstance(self.array, np.ndarray):
            part = self.array[tuple(slice(*pair) for pair in region)]
            if part.ctypes.data != block.ctypes.data:  # else it was made in its place
                part[...] = block
            return
        array = self.array
        assert array is not None  # who asks whether it is wanted was told
        units = list(self._units(array, region))

        def write_unit(index: tuple[int, ...]) -> None:
            require_wanted()
            self._write_unit(array, region, block, index)

        if len(units) == 1:
            write_unit(units[0])
            return
        with ThreadPoolExecutor(self.threads) as writers:
            for done in writers.map(write_unit, units):
                assert done is None

    def _units(self, array: store.StoredArray, region: Region) -> Iterator[tuple[int, ...]]:
        """Give the storage units of a region; one unit at a time is copied and encoded."""
        for (low, high), unit, size in zip(region, array.unit, array.shape, strict=True):
            if low % unit or (high % unit and high != size):
                message = f"block {region} of {self.target.name} is not made of units of {unit}"
                raise ShapeError(message)
        ranges = (
            range(low // unit, -(-high // unit))
            for (low, high), unit in zip(region, array.unit, strict=True)
        )
        return itertools.product(*ranges)

    def _write_unit(
        self, array: store.StoredArray, region: Region, block: NDArray[Any], index: tuple[int, ...]
    ) -> None:
        part = tuple(
            slice(i * unit - low, min((i + 1) * unit, high) - low)
            for i, unit, (low, high) in zip(index, array.unit, region, strict=True)
        )
        array.write_units(index, np.ascontiguousarray(block[part]))


def _arrived(target: Target, location: Location, threads: int, mark: str) -> Writer:
    array: store.StoredArray | None = None
    with contextlib.suppress(LeptonError):
        array = store.open_array(location, writable=True)
    return Writer(target, array, threads, mark)


@dataclass(frozen=True)
class GoneSource:
    """In the place of a scratch array that an earlier run of the job made, and that is gone."""

    target: Target
    message: str
    """What to say to whoever needs it after all."""
    shareable = True

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self.target.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype that it had."""
        return np.dtype(self.target.dtype)

    @property
    def unit(self) -> tuple[int, ...]:
        """Storage unit that it had."""
        return self.target.unit

    @property
    def name(self) -> str:
        """The array in words, for messages."""
        return self.target.name

    def read(self, region: Region, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Say that it is gone."""
        raise StoreError(self.message)

    def units_in(self, region: Region) -> int:
        """Count none: nothing is read."""
        return 0

    def identity(self) -> dict[str, Any]:
        """Describe the array by its name."""
        return {"gone": self.target.name}


@dataclass
class Workspace:
    """Where a job's targets are made, by name."""

    output: Location | None = None
    """The unfinished output; without it, targets are in memory while they fit, else in a temporary
    folder."""
    memory_nbytes: int = 0
    """What is left for targets in memory."""
    arrays: dict[str, store.StoredArray | NDArray[Any] | TriangleSource | GoneSource] = field(
        default_factory=dict
    )
    folder: TemporaryFolder | None = None

    def create(self, target: Target, threads: int = 1) -> Writer:
        """Make the array of a target anew.

        Parameters
        ----------
        target : Target
            Its name, shape, dtype and units.
        threads : int
            Threads that encode a block of many units.

        Returns
        -------
        Writer
            What writes it.
        """
        old = self.arrays.pop(target.name, None)
        if isinstance(old, np.ndarray):
            self.memory_nbytes += old.nbytes
            del old
        if self.output is None and target.nbytes <= self.memory_nbytes:
            self.memory_nbytes -= target.nbytes
            array: store.StoredArray | NDArray[Any] = np.zeros(target.shape, target.dtype)
            mark = ""
        else:
            location = self._place(target)
            store.require_space(location, target.nbytes)
            store.remove(location)  # what a run that was stopped left, whole or half-made
            mark = uuid.uuid4().hex if target.scratch and is_local(location) else ""
            array = store.create_array(
                location,
                shape=target.shape,
                dtype=target.dtype,
                chunks=tuple(
                    max(1, min(u, n)) for u, n in zip(target.unit, target.shape, strict=True)
                ),
                compression="none" if target.scratch else "fast",
                attributes={
                    store.EVERY_CHUNK: target.triangle or True,
                    **({_MARK: mark} if mark else {}),
                },
            )
            array.keeper = self.folder  # who has the array has what it reads from
        self.arrays[target.name] = array
        return Writer(target, array, threads, mark)

    def reopen(self, target: Target) -> None:
        """Take up a target that an earlier run of the job finished.

        Scratch may be gone, where later stages used its name for something else: nothing reads it
        then.
        """
        place = self._place(target)
        try:
            self.arrays[target.name] = store.open_array(place, writable=True)
        except LeptonError as error:
            if not isinstance(error, NotAnArrayError) and store.exists(place):
                raise  # it is there, and the store fails
            message = f"{error}. {_WAY_OUT}"
            if not target.scratch:
                raise StoreError(message) from error
            self.arrays[target.name] = GoneSource(target, message)

    def take_up(self, target: Target, threads: int = 1) -> Writer:
        """Give what goes on writing a target that an earlier run of the job began."""
        self.reopen(target)
        array = self.arrays[target.name]
        if not isinstance(array, store.StoredArray):
            raise StoreError(array.message if isinstance(array, GoneSource) else _WAY_OUT)
        return Writer(target, array, threads, str(array.attributes.get(_MARK, "")))

    def sources(self) -> dict[str, Source]:
        """Give the targets as operands of later stages."""
        return {
            name: MemorySource(array)
            if isinstance(array, np.ndarray)
            else StoredSource(array)
            if isinstance(array, store.StoredArray)
            else array
            for name, array in self.arrays.items()
        }

    def see(self, stage: Stage, pivots: NDArray[np.int64]) -> bool:
        """Let a stage's target be seen in its operand, where both would be large and in memory.

        Parameters
        ----------
        stage : Stage
            Not run yet.
        pivots : array of int64
            Exchanges of rows.

        Returns
        -------
        bool
            Whether that is so: then the stage need not be run.
        """
        if stage.view is None or stage.target is None or self.output is not None:
            return False
        base = self.arrays.get(stage.view.operand)
        if not isinstance(base, np.ndarray) or stage.target.nbytes <= _COPIED_NBYTES:
            return False
        self.arrays[stage.target.name] = stage.view.of(MemorySource(base), pivots)
        return True

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
            self.folder.remove()
            self.folder = None

    def _place(self, target: Target) -> Location:
        if self.output is None:
            if self.folder is None:
                self.folder = TemporaryFolder()
            return self.folder.path / target.name
        if target.scratch:
            return store.join(store.join(store.join(self.output, FOLDER), "scratch"), target.name)
        return store.join(self.output, target.name)
