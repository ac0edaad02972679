"""Strips of whole storage units, and their tiles: one pass that reads each unit once.

A band that reaches across the matrix may not fit where storage units are tall, or the matrix is
large both ways. A strip is as high as a band but is read tile by tile, so that memory holds a few
tiles however long it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from leptonhpc.blocks import Source
from leptonhpc.blocks.drawing import format_nbytes
from leptonhpc.errors import MemoryBudgetError
from leptonhpc.planning import BandLayout, Resources, Stage, Step
from leptonhpc.planning.costs import LIBRARIES_NBYTES, decoding_nbytes
from leptonhpc.planning.layout import BAND_NBYTES
from leptonhpc.planning.tasks import Steps

_WORK_NBYTES, _WORK_NBYTES_EACH = 6 << 20, 48
"""What sums of a tile take beside it, at most and for each number: some at a time, in double
precision."""


@dataclass(frozen=True)
class Strips:
    """Strips of a matrix, dealt to lanes as bands are, and the width of their tiles."""

    layout: BandLayout
    width: int

    @property
    def busy_lanes(self) -> float:
        """Lanes that are at work, on average."""
        rounds = -(-self.layout.bands // self.layout.lanes)
        return self.layout.bands / rounds

    def tiled(self, stage: Stage) -> Stage:
        """Have a stage over bands read them tile by tile.

        Parameters
        ----------
        stage : Stage
            Planned with `layout`; each step reads one band of one operand.

        Returns
        -------
        Stage
            The same tasks; a step of a band becomes one for each of its tiles.
        """
        if self.width >= self.layout.columns:
            return stage
        tasks = (replace(t, steps=TileSteps(t.steps, self.width)) for t in stage.tasks)
        return replace(stage, tasks=tuple(tasks))


@dataclass(frozen=True, slots=True)
class TileSteps:
    """Steps over bands of one operand, cut by columns."""

    bands: Steps
    width: int

    @property
    def operands(self) -> tuple[str, ...]:
        """What the steps read."""
        return self.bands.operands

    def __iter__(self) -> Iterator[Step]:
        """Make the steps, those of a band in the order of their columns."""
        for band in self.bands:
            (read,), (rows, (first, last)) = band.reads, band.at
            for column in range(first, last, self.width):
                at = (rows, (column, min(column + self.width, last)))
                yield Step((replace(read, region=at),), at)

    def __len__(self) -> int:
        """Count the tiles."""
        band = next(iter(self.bands), None)
        return 0 if band is None else len(self.bands) * -(-band.at[1][1] // self.width)


def choose_strips(source: Source, resources: Resources) -> Strips | None:
    """Choose strips and tiles for as many lanes as fit.

    Parameters
    ----------
    source : Source of shape (m, n)
        The matrix.
    resources : Resources
        Memory, workers and cores.

    Returns
    -------
    Strips or None
        Each lane has a tile, what decoding takes, n column sums and a row sum for each row of a
        strip. None: not even a tile of one storage unit fits.
    """
    rows, columns = source.shape
    most = max(1, min(resources.threads, -(-rows // _unit(source)[0] // resources.workers)))
    tiles = list(_tiles(source, resources))
    for lanes in range(most, 0, -1):
        for height, width in tiles:
            need = _need(source, (height, width), lanes, resources.threads)
            if need <= resources.arrays_nbytes:
                layout = BandLayout(
                    rows, columns, height, source.dtype.itemsize,
                    lanes=lanes * resources.workers, lanes_per_worker=lanes,
                    blas_threads=max(1, resources.threads // lanes),
                    need_nbytes=need, parts=resources.parts,
                )  # fmt: skip
                return Strips(layout, width)
    return None


def refuse_strips(sources: list[Source], resources: Resources, *, what: str) -> MemoryBudgetError:
    """Give the error for a matrix of which not even one storage unit fits.

    Parameters
    ----------
    sources : list of Source
        The matrix, in the ways that it may be cut.
    resources : Resources
        Memory, workers and cores.
    what : str
        The question.

    Returns
    -------
    MemoryBudgetError
        Its message names the smallest budget that would do.
    """
    least = min(_need(source, _unit(source), 1, resources.threads) for source in sources)
    source, unit = sources[0], _unit(sources[0])
    message = (
        f"{what} needs at least "
        f"memory='{-(-(least + LIBRARIES_NBYTES) // 10**6)} MB' (a storage unit of {unit} is "
        f"{format_nbytes(math.prod(unit) * source.dtype.itemsize)}); found "
        f"{format_nbytes(resources.memory_nbytes)}"
    )
    return MemoryBudgetError(message)


def _unit(source: Source) -> tuple[int, int]:
    rows, columns = (max(1, min(u, n)) for u, n in zip(source.unit, source.shape, strict=True))
    return rows, columns


def _tiles(source: Source, resources: Resources) -> Iterator[tuple[int, int]]:
    """Give heights and widths, the largest first: bands if they fit, then parts of them."""
    (rows, columns), (high, wide) = source.shape, _unit(source)
    itemsize = source.dtype.itemsize
    # no fewer strips than lanes, and than it takes to share them fairly
    share = -(-rows // max(1, resources.cores, resources.parts))
    height = min(max(1, BAND_NBYTES // (columns * itemsize)), share) // high * high
    while height > high:
        yield height, columns
        height = height // 2 // high * high
    width = min(columns, max(wide, BAND_NBYTES // (high * itemsize) // wide * wide))
    while width > wide:
        yield high, width
        width = width // 2 // wide * wide
    yield high, wide


def _need(source: Source, tile: tuple[int, int], lanes: int, threads: int) -> int:
    """Bytes of a worker: tiles, what is decoded, sums; column sums also as they are joined."""
    (height, width), (high, wide) = tile, _unit(source)
    itemsize, columns = source.dtype.itemsize, source.shape[1]
    units = -(-height // high) * -(-width // wide)
    decoding = decoding_nbytes(high * wide * itemsize, min(threads // lanes, units))
    sums = 8 * (height + columns)
    work = min(_WORK_NBYTES, _WORK_NBYTES_EACH * height * width)
    return lanes * (height * width * itemsize + decoding + sums + work) + 16 * columns
