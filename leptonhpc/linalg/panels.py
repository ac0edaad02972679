"""Left-looking factorisations: a panel stays in memory while the panels before it stream by.

Each panel of A is read once, updated with every earlier panel of the factor, factored, and written
once, whole. Memory holds one panel and two sweeps of the factor; what is read again is the factor,
about n / w times half of it for panels of w columns. With several workers panels go round in turn:
a panel's updates run as the panels before it come to be.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from leptonhpc.blocks import Region, Source
from leptonhpc.blocks.drawing import format_nbytes
from leptonhpc.errors import MemoryBudgetError
from leptonhpc.planning import Read, Resources, Stage, Step, Target, Task, seconds
from leptonhpc.planning.costs import LIBRARIES_NBYTES, MOST_DECODERS
from leptonhpc.planning.tasks import MIRROR, Prefetch, StepList

_PREFERRED = 1024
"""Rows and columns of a chunk of a factor, about."""
_SWEEPS = (512, 256, 128, 64, 32)
"""Columns of the factor that are read at once."""
_PANEL_SECONDS = 120.0
"""A panel takes no longer than this: that much is lost when a job is killed."""
_LEAF = 64
"""Columns that kernels copy while they factor a panel, about."""


@dataclass(frozen=True)
class Panels:
    """How a matrix is cut into panels."""

    shape: tuple[int, int]
    edges: tuple[int, ...]
    """Columns at which panels begin, and the number of columns."""
    unit: int
    """Rows and columns of a chunk of the factor."""
    sweep: int
    """Columns of the factor that are read at once."""
    tile: tuple[int, int]
    """Rows and columns of A that are read at once."""
    triangular: bool
    """Panels begin at their diagonal block."""
    peak_nbytes: int

    def __len__(self) -> int:
        """Count the panels."""
        return len(self.edges) - 1

    def columns(self, j: int) -> tuple[int, int]:
        """Give first column and end of a panel."""
        return self.edges[j], self.edges[j + 1]

    def region(self, j: int) -> Region:
        """Give what a panel covers."""
        return ((self.edges[j] if self.triangular else 0, self.shape[0]), self.columns(j))

    def load_steps(self, j: int, *, hermitian: bool = False) -> Iterator[Step]:
        """Give the blocks of A in a panel: with their mirror images, or all of them."""
        (r0, r1), (c0, c1) = self.region(j)
        # mirrored blocks on the diagonal are square: rows are cut where the panel ends
        spans = [(c0, c1), (c1, r1)] if hermitian else [(r0, r1)]
        for row, rows_end in ((r, end) for r0, end in spans for r in range(r0, end, self.tile[0])):
            rows = (row, min(row + self.tile[0], rows_end))
            for column in range(c0, min(c1, rows[1]) if hermitian else c1, self.tile[1]):
                at = (rows, (column, min(column + self.tile[1], c1)))
                reads = [Read("a", at)]
                if hermitian and row != column:
                    reads.append(Read(MIRROR, at))
                yield Step(tuple(reads), at)

    def sweeps(self, factor: str, k: int, first_row: int | None = None) -> Iterator[Step]:
        """Give the columns of an earlier panel, from their diagonal or from a row downwards."""
        low, high = self.columns(k)
        for s in range(low, min(high, self.shape[0]), self.sweep):
            columns = (s, min(s + self.sweep, high, self.shape[0]))
            at = ((s if first_row is None else first_row, self.shape[0]), columns)
            yield Step((Read(factor, at),), at)


def choose_panels(
    source: Source,
    resources: Resources,
    dtype: np.dtype[Any],
    *,
    what: str,
    triangular: bool = False,
    flops: float = 0.0,
) -> Panels:
    """Choose the widest panels that fit.

    Parameters
    ----------
    source : Source of shape (m, n)
        The matrix.
    resources : Resources
        Memory, workers and cores.
    dtype : dtype
        Of computing.
    what : str
        The driver, for messages.
    triangular : bool
        Panels begin at their diagonal block.
    flops : float
        Of the whole factorisation.

    Returns
    -------
    Panels
        The cut.

    Raises
    ------
    MemoryBudgetError
        If not even a narrow panel fits.
    """
    m, n = source.shape
    preferred = source.unit[1] if _PREFERRED // 4 <= source.unit[1] <= 2 * _PREFERRED else 0
    for unit in dict.fromkeys((preferred or _PREFERRED, _PREFERRED // 4, _PREFERRED // 16)):
        for sweep in _SWEEPS:
            found = _fitting(
                source, resources, dtype, min(unit, max(m, n)), sweep, triangular, flops
            )
            if found is not None:
                return found
    least = _need(
        m, min(n, unit), sweep, unit, _tile(source, min(n, unit), sweep, triangular), dtype,
        _chunk(source), resources.threads,
    )  # fmt: skip
    message = (
        f"{what} of {source.name} needs at least memory='{-(-least // 10**6)} MB' (a panel of "
        f"{min(n, unit)} columns); found {format_nbytes(resources.memory_nbytes)}"
    )
    raise MemoryBudgetError(message)


def _fitting(
    source: Source, resources: Resources, dtype: np.dtype[Any], unit: int, sweep: int,
    triangular: bool, flops: float,
) -> Panels | None:  # fmt: skip
    m, n = source.shape
    sweep = min(sweep, unit)
    # where A's chunks allow it panels begin where chunks do, so that each chunk is read once
    aligned = math.lcm(unit, *(min(u, s) for u, s in zip(source.unit, source.shape, strict=True)))
    count = max(1, math.ceil(flops / resources.rates.gemm_flops / resources.cores / _PANEL_SECONDS))
    if resources.workers > 1:
        count = max(count, 4 * resources.workers)
    widest = -(-n // count // unit) * unit or unit
    edges, peak, chunk = [0], 0, _chunk(source)
    while edges[-1] < n:
        first = edges[-1]
        rows = m - first if triangular else m

        def need(width: int, rows: int = rows) -> int:
            tile = _tile(source, width, sweep, triangular)
            return _need(rows, width, sweep, unit, tile, dtype, chunk, resources.threads)

        width = min(n - first, widest)
        while width > unit and need(width) > resources.memory_nbytes:
            excess = need(width) - resources.memory_nbytes
            step = max(unit, excess // (rows * dtype.itemsize) // unit * unit)
            width = max(unit, min(width - step, width - 1) // unit * unit)
        if need(width) > resources.memory_nbytes:
            return None
        if width >= aligned and first + width < n:
            width = width // aligned * aligned
        peak = max(peak, need(width))
        edges.append(first + width)
    width = max(b - a for a, b in zip(edges, edges[1:], strict=False))
    tile = _tile(source, width, sweep, triangular)
    return Panels((m, n), tuple(edges), unit, sweep, tile, triangular, peak)


def _chunk(source: Source) -> int:
    return math.prod(min(u, s) for u, s in zip(source.unit, source.shape, strict=True))


def _tile(source: Source, width: int, sweep: int, triangular: bool) -> tuple[int, int]:
    """Give the shape of what is read of A at once: whole chunks, square for a mirror image."""
    rows, columns = (min(u, s) for u, s in zip(source.unit, source.shape, strict=True))
    m, near = source.shape[0], 2 * sweep
    if triangular:
        side = math.lcm(rows, columns)
        side = _PREFERRED if side > 2 * _PREFERRED else side * max(1, near // side)
        return min(side, m), min(side, m)
    rows = rows * max(1, near // rows) if rows <= 2 * _PREFERRED else _PREFERRED
    wide = max(1, 2 * near // columns) * columns
    return min(rows, m), min(width, wide)


def _need(
    rows: int, width: int, sweep: int, unit: int, tile: tuple[int, int], dtype: np.dtype[Any],
    chunk: int, threads: int,
) -> int:  # fmt: skip
    """Bytes of a worker: the panel, two sweeps of the factor, blocks of A, chunks being encoded."""
    # of A and of its mirror image one is used and one is read ahead, by decoders with two chunks
    blocks = 4 * tile[0] * tile[1] + 2 * min(threads, MOST_DECODERS) * chunk
    work = rows * _LEAF + 512 * width + 8 * (rows + width)
    return LIBRARIES_NBYTES + dtype.itemsize * (
        rows * (width + 2 * sweep) + blocks + work + 8 * unit * unit
    )


def panel_stage(
    name: str,
    panels: Panels,
    resources: Resources,
    dtype: np.dtype[Any],
    target: Target,
    *,
    load: tuple[str, Callable[[int], Iterator[Step]]],
    update: tuple[str, Callable[[int, int], Iterator[Step]]],
    factor: str,
    flops: Callable[[int, int, int], float],
    source: Source,
    prefetch: Prefetch = "always",
) -> Stage:
    """Give the tasks of a left-looking factorisation.

    Parameters
    ----------
    name : str
        Of the stage.
    panels : Panels
        The cut.
    resources : Resources
        Workers, cores and rates.
    dtype : dtype
        Of computing.
    target : Target
        What the panels are written to.
    load : tuple of (kernel, steps of panel j)
        How a panel is read.
    update : tuple of (kernel, steps of panel j with panel k)
        How an earlier panel is applied.
    factor : str
        Kernel that ends a panel.
    flops : callable
        Flops of panel j from its rows, columns, and columns before it.
    source : Source
        The matrix, to count how often its chunks are read.
    prefetch : {"within", "always"}
        How far to read ahead.

    Returns
    -------
    Stage
        One chain of tasks per panel; chains of a worker follow one another.
    """
    tasks: list[Task] = []
    previous: dict[int, str] = {}
    for j in range(len(panels)):
        lane, at, last = j % resources.workers, panels.region(j), f"{factor}-{j}"
        (r0, r1), (c0, c1) = at
        rows, width = max(0, r1 - max(r0, c0)), c1 - c0
        inner = min(rows, width)  # columns beyond the last row are only updated
        own = flops(rows, inner, 0) + flops(rows, width - inner, rows)
        before = c0 if panels.triangular else min(c0, r1)
        updates = flops(r1 - r0, width, before) - flops(rows, width, 0)
        loads = StepList(tuple(load[1](j)))
        nbytes = sum(_elements(r.region) for s in loads for r in s.reads) * dtype.itemsize
        key = f"{load[0]}-{j}"
        tasks.append(
            Task(
                key, load[0], loads, lane, previous.get(lane), at, part_of=last, read_nbytes=nbytes
            )
        )
        # several workers: an update runs as soon as its panel is there; one: it is read ahead of
        for group in [range(j)] * (j > 0) if resources.workers == 1 else [[k] for k in range(j)]:
            steps = StepList(tuple(step for k in group for step in update[1](j, k)))
            read = sum(_elements(r.region) for s in steps for r in s.reads) * dtype.itemsize
            share = (panels.edges[group[-1] + 1] - panels.edges[group[0]]) / max(1, c0)
            tasks.append(
                Task(
                    f"{update[0]}-{j}-{group[0]}", update[0], steps, lane, key, at, part_of=last,
                    continues=True, needs=tuple(f"{factor}-{k}" for k in group),
                    flops=share * updates, read_nbytes=read,
                )
            )  # fmt: skip
            key = tasks[-1].key
        tasks.append(
            Task(
                last, factor, StepList(), lane, key, at, continues=True,
                flops=own, write_nbytes=(r1 - r0) * (c1 - c0) * dtype.itemsize,
            )
        )  # fmt: skip
        previous[lane] = last
    read = sum(t.read_nbytes for t in tasks)
    predicted = seconds(
        "gemm", dtype, flops=sum(t.flops for t in tasks), read_nbytes=read,
        write_nbytes=sum(t.write_nbytes for t in tasks), resources=resources,
    )  # fmt: skip
    return Stage(
        name, tuple(tasks), resources.workers, 1, resources.threads, target, chained=False,
        passes=_passes(source, tasks), peak_nbytes=panels.peak_nbytes,
        seconds=predicted * resources.workers / min(resources.workers, len(panels)),
        prefetch=prefetch, dtype=dtype.str,
    )  # fmt: skip


def _passes(source: Source, tasks: list[Task]) -> float:
    """Count readings of the whole input: more than one where panels cut through its chunks."""
    whole = source.units_in(tuple((0, n) for n in source.shape))
    if not whole:  # NumPy and Dask inputs have no storage units
        return 1.0
    # only the tasks that begin a panel read the matrix
    begin = (task for task in tasks if not task.continues)
    reads = [read for task in begin for step in task.steps for read in step.reads]
    count = sum(source.units_in(read.region) for read in reads if read.operand == "a")
    count += sum(source.units_in(read.region[::-1]) for read in reads if read.operand == MIRROR)
    return count / whole


def _elements(region: Region) -> int:
    (r0, r1), (c0, c1) = region
    return (r1 - r0) * (c1 - c0)
