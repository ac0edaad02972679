"""How a tall matrix is cut into bands and dealt to lanes, within a memory budget."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from leptonhpc.blocks import Source
from leptonhpc.blocks.drawing import format_nbytes
from leptonhpc.errors import MemoryBudgetError
from leptonhpc.planning.costs import LIBRARIES_NBYTES, Resources
from leptonhpc.planning.tasks import Read, Step, Task

BAND_NBYTES = 32 << 20
"""Bands are made about this large where chunks and memory allow it."""
TASK_NBYTES = 128 << 20
"""A task folds bands of about this much together, so that Dask's overhead is small."""
_TASKS_OF_LANE = 16
"""On a cluster no more than about this many: enough to share them out again."""


@dataclass(frozen=True)
class BandLayout:
    """Bands of a tall matrix and the lanes that stream them."""

    rows: int
    columns: int
    height: int
    """Rows of a band (the last may have fewer)."""
    itemsize: int
    lanes: int
    lanes_per_worker: int
    blas_threads: int
    resident: int = 0
    """Bands of each lane that stay in memory."""
    need_nbytes: int = 0
    """Memory of a worker for arrays, without resident bands."""
    room_nbytes: int = 0
    """Memory of a worker that is left for resident bands, however they are dealt."""
    parts: int = 1
    """At least so many tasks, where there are as many bands."""
    modes: int = 0
    """Modes that there is room for, where their number is found while it runs."""

    @property
    def bands(self) -> int:
        """Number of bands."""
        return -(-self.rows // self.height)

    @property
    def band_nbytes(self) -> int:
        """Bytes of a whole band as stored."""
        return self.height * self.columns * self.itemsize

    @property
    def resident_nbytes(self) -> int:
        """Bytes of a worker's resident bands."""
        return self.resident * self.lanes_per_worker * self.band_nbytes

    @property
    def peak_nbytes(self) -> int:
        """Memory of a worker, libraries included."""
        return LIBRARIES_NBYTES + self.need_nbytes + self.resident_nbytes

    def lane_bands(self, lane: int) -> range:
        """Give the bands of one lane: a run of neighbours."""
        return range(lane * self.bands // self.lanes, (lane + 1) * self.bands // self.lanes)

    def rows_of(self, band: int) -> tuple[int, int]:
        """Give first and last row of a band."""
        return band * self.height, min((band + 1) * self.height, self.rows)

    def tasks(
        self,
        name: str,
        kernel: str,
        operands: tuple[tuple[str, int], ...],
        flops_per_row: float,
        *,
        write_row_nbytes: int = 0,
        first: bool = False,
        already: int = 0,
    ) -> tuple[Task, ...]:
        """Deal all bands to lanes as chains of tasks.

        Parameters
        ----------
        name, kernel : str
            Prefix of the keys; the kernel.
        operands : tuple of (name, columns)
            What each step reads: the band's rows of these.
        flops_per_row : float
            Of the kernel.
        write_row_nbytes : int
            Bytes that each row writes.
        first : bool
            The first pass over operand "x": resident bands are read from the store ...
        already : int
            ... but for so many at the beginning.

        Returns
        -------
        tuple of Task
            Lane by lane.
        """
        row_nbytes = sum(columns for _, columns in operands) * self.itemsize
        per_task = max(1, min(TASK_NBYTES // max(self.band_nbytes, 1), self.bands // self.parts))
        if self.lanes > self.lanes_per_worker:  # one scheduler has the tasks of all workers
            per_task = max(per_task, self.bands // (self.lanes * _TASKS_OF_LANE))
        tasks = []
        for lane in range(self.lanes):
            bands = self.lane_bands(lane)
            kept = bands.start + self.resident
            previous = None
            for begin in range(bands.start, bands.stop, per_task):
                end = min(begin + per_task, bands.stop)
                rows = self.rows_of(end - 1)[1] - begin * self.height
                # what is resident was read by the first pass
                resident = kept if not first else already if lane == 0 else 0
                old = max(0, min(resident, end) - begin) * self.height
                read = max(0, rows - old) * row_nbytes
                steps = BandSteps(self.rows, self.columns, self.height, begin, end, kept, operands)
                key = f"{name}-{lane}-{begin}"
                tasks.append(
                    Task(
                        key, kernel, steps, lane, previous,
                        flops=flops_per_row * rows, read_nbytes=read,
                        write_nbytes=write_row_nbytes * rows,
                    )
                )  # fmt: skip
                previous = key
        return tuple(tasks)


@dataclass(frozen=True, slots=True)
class BandSteps:
    """Bands `begin` to `end` of a tall matrix, one step each."""

    rows: int
    columns: int
    height: int
    begin: int
    end: int
    kept: int
    """Bands before this one stay in memory."""
    sources: tuple[tuple[str, int], ...]
    """Operands and their columns."""

    @property
    def operands(self) -> tuple[str, ...]:
        """What the steps read."""
        return tuple(name for name, _ in self.sources)

    def __iter__(self) -> Iterator[Step]:
        """Make the steps."""
        for band in range(self.begin, self.end):
            span = (band * self.height, min((band + 1) * self.height, self.rows))
            reads = tuple(
                Read(name, (span, (0, columns)), band < self.kept and name == "x")
                for name, columns in self.sources
            )
            yield Step(reads, (span, (0, self.columns)))

    def __len__(self) -> int:
        """Count the bands."""
        return self.end - self.begin


def choose_bands(
    source: Source,
    resources: Resources,
    work: Callable[[int], int],
    *,
    fixed_nbytes: int = 0,
    other: Callable[[int], int] | None = None,
    passes: int,
    what: str,
) -> BandLayout:
    """Choose band height, lanes and resident bands for a tall matrix.

    Parameters
    ----------
    source : Source
        The tall matrix.
    resources : Resources
        Memory, workers and cores.
    work : callable
        Bytes that a lane needs for a band of so many rows, beside the band itself.
    fixed_nbytes : int
        Bytes that a worker needs once.
    other : callable, optional
        As `work`, in passes during which the fixed bytes are not needed.
    passes : int
        If more than one, what memory is left keeps bands resident.
    what : str
        The job, for the error.

    Returns
    -------
    BandLayout
        The layout.

    Raises
    ------
    MemoryBudgetError
        If one lane with the smallest band does not fit; the message names the smallest budget
        that would do.
    """
    rows, columns = source.shape
    itemsize = source.dtype.itemsize
    unit = max(1, min(source.unit[0], rows))
    # a chunk that is not a whole band is decoded beside it
    decode = min(
        int(np.prod([min(u, n) for u, n in zip(source.unit, source.shape, strict=True)])),
        rows * columns,
    )

    def need(height: int, lanes: int) -> int:
        per_lane = height * columns * itemsize + 2 * decode * itemsize
        alone = lanes * (per_lane + other(height)) if other is not None else 0
        return int(max(lanes * (per_lane + work(height)) + fixed_nbytes, alone))

    target = max(1, BAND_NBYTES // max(1, columns * itemsize))
    # no fewer bands than lanes, and than it takes to share them fairly
    share = -(-rows // max(1, resources.cores, resources.parts))
    height = unit * max(1, min(target, share) // unit)
    heights = _descending(height, unit)
    for lanes in _descending(resources.threads, 1):
        for candidate in heights:
            if need(candidate, lanes) <= resources.arrays_nbytes:
                layout = BandLayout(
                    rows, columns, candidate, itemsize,
                    lanes=lanes * resources.workers, lanes_per_worker=lanes,
                    blas_threads=max(1, resources.threads // lanes),
                    need_nbytes=need(candidate, lanes), parts=resources.parts,
                )  # fmt: skip
                return _with_resident(layout, resources) if passes > 1 else layout
    smallest = need(unit, 1) + LIBRARIES_NBYTES
    message = (
        f"{what} of {source.name} needs at least memory={_megabytes(smallest)!r} (one band of "
        f"{unit} rows is {format_nbytes(unit * columns * itemsize)}); found "
        f"{format_nbytes(resources.memory_nbytes)}"
    )
    raise MemoryBudgetError(message)


def _with_resident(layout: BandLayout, resources: Resources) -> BandLayout:
    left = resources.arrays_nbytes - layout.need_nbytes
    per_band = max(1, layout.lanes_per_worker * layout.band_nbytes)
    most = max(len(layout.lane_bands(lane)) for lane in range(layout.lanes))
    fitting = int(0.95 * left) // per_band
    room = min(fitting * per_band, layout.bands * layout.band_nbytes)
    return replace(layout, resident=min(fitting, most), room_nbytes=room)


def _descending(first: int, last: int) -> list[int]:
    values = [first]
    while values[-1] > last:
        values.append(max(last, values[-1] // 2 // last * last))
    return values


def _megabytes(nbytes: float) -> str:
    return f"{int(-(-nbytes // 1_000_000))} MB"


def compute_dtype(*dtypes: np.dtype[Any]) -> np.dtype[Any]:
    """Give the dtype of computing: float32, float64, complex64 or complex128.

    Integers and booleans are widened to float64, float16 to float32.
    """
    result = np.result_type(*dtypes, np.float32)
    if result.char not in "fdFD":
        result = np.dtype(np.complex128 if result.kind == "c" else np.float64)
    return np.dtype(np.float64) if all(d.kind in "biu" for d in dtypes) else result
