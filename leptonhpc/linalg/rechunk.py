"""A scratch copy in other chunks, for arrays whose chunks no algorithm can stream.

A band pass needs whole rows of chunks in memory, a product needs chunks that are not long strips.
Where the user's chunks are not like that, one stage reads each chunk once and writes the array in
chunks that are; everything after it works as on a well-chunked array.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from leptonhpc.blocks import BlockedArray, Region, Source
from leptonhpc.blocks.drawing import format_nbytes
from leptonhpc.errors import MemoryBudgetError
from leptonhpc.planning import Read, Resources, Stage, Step, Target, Task, seconds
from leptonhpc.planning.costs import LIBRARIES_NBYTES
from leptonhpc.planning.tasks import StepList
from leptonhpc.store import units_touched

Planned = TypeVar("Planned")

SQUARE = 1024
"""Rows and columns of a chunk that suits products and factorisations, about."""


@dataclass(frozen=True)
class Rechunked:
    """A source as it will be once its scratch copy is written; it is planned with, never read."""

    base: Source
    unit: tuple[int, ...]
    shareable: bool = True

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self.base.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the values."""
        return self.base.dtype

    @property
    def name(self) -> str:
        """The source in words."""
        return self.base.name

    def read(self, region: Region, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Refuse: the runtime reads the copy in its place."""
        raise NotImplementedError

    def units_in(self, region: Region) -> int:
        """Count the storage units of the copy that a region touches."""
        return units_touched(region, self.unit)

    def identity(self) -> dict[str, Any]:
        """Describe the base."""
        return self.base.identity()


def rechunk_stage(
    operand: str, source: Source, preferred: tuple[int, int], resources: Resources
) -> tuple[Rechunked, Stage]:
    """Plan the copy of a matrix into chunks of about a preferred shape.

    Parameters
    ----------
    operand : str
        Name under which later stages read it.
    source : Source of shape (m, n)
        The matrix.
    preferred : tuple of int
        Chunk shape that is wanted; along each dimension the chunks taken divide a chunk of the
        source, or are whole numbers of them.
    resources : Resources
        Memory, workers and cores.

    Returns
    -------
    tuple of (Rechunked, Stage)
        What to plan with from here on, and the stage.

    Raises
    ------
    MemoryBudgetError
        If not even one chunk of the source fits.
    """
    shape, itemsize = source.shape, source.dtype.itemsize
    old = tuple(max(1, min(u, n)) for u, n in zip(source.unit, shape, strict=True))
    lanes, wanted = resources.threads, preferred

    def layout() -> tuple[tuple[int, ...], list[int], int]:
        """Give unit, block and all lanes' bytes: block, unit being encoded, chunk decoded."""
        unit = tuple(_fitting(o, p, n) for o, p, n in zip(old, wanted, shape, strict=True))
        block = [max(o, u) for o, u in zip(old, unit, strict=True)]
        extra = 2 * int(np.prod(old)) + 3 * int(np.prod(unit))
        return unit, block, lanes * (block[0] * block[1] + extra) * itemsize

    unit, block, need = layout()
    while need > resources.arrays_nbytes and (wanted[1] > old[1] or lanes > 1):
        if wanted[1] > old[1]:  # narrower copies: a band is then a row of several chunks
            wanted = (wanted[0], max(old[1], wanted[1] // 2))
        else:
            lanes -= 1
        unit, block, need = layout()
    if need > resources.arrays_nbytes:
        message = (
            f"{source.name} has chunks of {old} that must be copied to others first; "
            f"that needs at least memory='{-(-(need + LIBRARIES_NBYTES) // 10**6)} MB', found "
            f"{format_nbytes(resources.memory_nbytes)}"
        )
        raise MemoryBudgetError(message)
    tasks: list[Task] = []
    previous: dict[int, str] = {}
    total = lanes * resources.workers
    for i in range(0, shape[0], block[0]):
        for j in range(0, shape[1], block[1]):
            region = ((i, min(i + block[0], shape[0])), (j, min(j + block[1], shape[1])))
            nbytes = (region[0][1] - i) * (region[1][1] - j) * itemsize
            lane, key = len(tasks) % total, f"copy-{operand}-{i}-{j}"
            tasks.append(
                Task(
                    key,
                    "copy",
                    StepList((Step((Read(operand, region),), region),)),
                    lane,
                    previous.get(lane),
                    region,
                    read_nbytes=nbytes,
                    write_nbytes=nbytes,
                )  # fmt: skip
            )
            previous[lane] = key
    target = Target(operand, shape, source.dtype.str, unit, scratch=True)
    predicted = seconds(
        "copy", source.dtype, flops=0, read_nbytes=target.nbytes, write_nbytes=target.nbytes,
        resources=resources,
    )  # fmt: skip
    stage = Stage(
        f"rechunk {operand}", tuple(tasks), total, lanes, 1, target, chained=False, passes=1.0,
        peak_nbytes=LIBRARIES_NBYTES + need, seconds=predicted,
    )  # fmt: skip
    return Rechunked(source, unit), stage


def in_squares(
    x: BlockedArray, operand: str, before: list[Stage], resources: Resources
) -> BlockedArray:
    """Plan with a scratch copy where chunks are long strips, which would be read many times.

    Parameters
    ----------
    x : BlockedArray of shape (m, n)
        The matrix.
    operand : str
        Name under which later stages read it.
    before : list of Stage
        The copy is added here, if there is to be one.
    resources : Resources
        Memory, workers and cores.

    Returns
    -------
    BlockedArray
        What to plan with.
    """
    unit = [max(1, min(u, n)) for u, n in zip(x.source.unit, x.shape, strict=True)]
    if max(unit) <= 4 * SQUARE:
        return x
    planned, stage = rechunk_stage(operand, x.source, (SQUARE, SQUARE), resources)
    before.append(stage)
    return BlockedArray(planned)


def in_chunks_that_fit(plan: Callable[[int], Planned]) -> Planned:
    """Plan a copy and what reads it; where that does not fit, with smaller chunks.

    There may be room for copying in chunks that are too large for the panels that read them.

    Parameters
    ----------
    plan : callable
        Plans both, given the rows and columns of a chunk of the copy.

    Returns
    -------
    object
        What it gives.

    Raises
    ------
    MemoryBudgetError
        If small chunks do not fit either.
    """
    for side in (SQUARE, SQUARE // 4):
        with contextlib.suppress(MemoryBudgetError):
            return plan(side)
    return plan(SQUARE // 16)


def _fitting(old: int, preferred: int, size: int) -> int:
    """Give a length near the preferred one that divides `old`, or is a multiple of it."""
    if old >= size:  # one chunk: it may be cut anywhere
        return max(1, min(preferred, size))
    if old <= preferred:
        return min(size, old * max(1, preferred // old))
    for parts in range(-(-old // preferred), old + 1):
        if old % parts == 0:
            return old // parts
    return 1
