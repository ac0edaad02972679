"""Reading a Hermitian matrix by its lower triangle, in square tiles."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from leptonhpc.blocks import Source
from leptonhpc.planning import Read, Step, Task
from leptonhpc.planning.tasks import MIRROR

SIDES = (1024, 512, 256)
"""Rows and columns of a tile, about: the first that memory has room for."""


def hermitian_tile(source: Source, preferred: int) -> int:
    """Give the side of tiles that are whole chunks, where chunks allow it.

    Parameters
    ----------
    source : Source of shape (n, n)
        The matrix.
    preferred : int
        Rows and columns that are wanted.

    Returns
    -------
    int
        Rows and columns.
    """
    n = source.shape[0]
    side = math.lcm(*(max(1, min(unit, n)) for unit in source.unit))
    side = preferred if side > 2 * preferred else side * max(1, preferred // side)
    return min(side, n)


def lower_tiles(n: int, tile: int, *, mirror: bool) -> Iterator[tuple[Step, ...]]:
    """Give tiles on and below the diagonal, row after row.

    Parameters
    ----------
    n : int
        Order of the matrix.
    tile : int
        Side of a tile.
    mirror : bool
        Read mirror images too.

    Yields
    ------
    tuple of Step
        One row of tiles.
    """
    for r in range(0, n, tile):
        rows = (r, min(r + tile, n))
        steps = []
        for c in range(0, r + 1, tile):
            at = (rows, (c, min(c + tile, n)))
            reads = (Read("a", at), Read(MIRROR, at)) if mirror and c < r else (Read("a", at),)
            steps.append(Step(reads, at))
        yield tuple(steps)


def passes_of(source: Source, tasks: Iterable[Task]) -> float:
    """Count readings of the whole matrix: a half where only one triangle is read.

    Parameters
    ----------
    source : Source of shape (n, n)
        The matrix.
    tasks : iterable of Task
        What reads it.

    Returns
    -------
    float
        Storage units read, by all there are.
    """
    n = source.shape[0]
    whole = source.units_in(((0, n), (0, n)))
    count = elements = 0
    for read in (read for task in tasks for step in task.steps for read in step.reads):
        region = read.region if read.operand == "a" else read.region[::-1]
        count += source.units_in(region)
        elements += math.prod(stop - start for start, stop in region)
    return count / whole if whole else elements / (n * n)  # memory has no storage units
