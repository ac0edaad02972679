"""Solving with stored triangles: right-hand sides stay in memory, the factor streams by."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from leptonhpc.blocks import Source
from leptonhpc.blocks.drawing import format_nbytes
from leptonhpc.errors import MemoryBudgetError
from leptonhpc.planning import Read, Resources, Stage, Step, Target, Task, seconds
from leptonhpc.planning.costs import LIBRARIES_NBYTES, decoding_nbytes
from leptonhpc.planning.tasks import StepList

Direction = Literal["forward", "backward", "adjoint"]

_ROWS = 1024
"""Rows of B that are read at once."""
_PROBES = 2


def substitution_stage(
    factors: tuple[tuple[Direction, str], ...],
    shape: tuple[int, int],
    resources: Resources,
    dtype: np.dtype[Any],
    *,
    what: str,
    breaks: tuple[int, ...],
    sides: Source | None,
    target: Target | None = None,
    unit: int = 1024,
    name: str = "substitute",
) -> Stage:
    """Plan L X = B, U X = B, L^H X = B, one after the other.

    Parameters
    ----------
    factors : tuple of (direction, operand)
        What to solve with, in order.
    shape : tuple of int
        Of X: (n, k).
    resources : Resources
        Memory, workers, cores and rates.
    dtype : dtype
        Of computing.
    what : str
        The driver, for messages.
    breaks : tuple of int
        Columns of the factor at which a sweep must begin, and n.
    sides : Source of shape (n, k) or (n,), or None
        Operand "b"; None where the sides come with the stage.
    target : Target, optional
        Where X is written; else it comes back whole.
    unit : int
        Columns of a chunk of X.
    name : str
        Of the stage.

    Returns
    -------
    Stage
        One task chain per panel of right-hand sides.

    Raises
    ------
    MemoryBudgetError
        If not even one column of X fits.
    """
    n, k = shape
    width, sweep = _choose(n, k, resources, dtype, unit, what)
    lanes = resources.workers
    tasks: list[Task] = []
    previous: dict[int, str] = {}
    factor = 4.0 if dtype.kind == "c" else 1.0
    for c0 in range(0, k, width):
        columns = (c0, min(c0 + width, k))
        at, lane, last = ((0, n), columns), len(previous) % lanes, f"solved-{c0}"
        loads = StepList(tuple(_side_steps(n, columns, sides)) if sides is not None else ())
        key = f"load_sides-{c0}"
        tasks.append(
            Task(
                key, "load_sides", loads, lane, previous.get(lane), at, part_of=last,
                read_nbytes=n * (columns[1] - c0) * dtype.itemsize if loads.steps else 0,
            )
        )  # fmt: skip
        for direction, operand in factors:
            steps = StepList(tuple(_sweeps(direction, operand, n, breaks, sweep)))
            before, key = key, f"{direction}-{c0}"
            tasks.append(
                Task(
                    key, direction, steps, lane, before, at, part_of=last, continues=True,
                    flops=factor * float(n) ** 2 * (columns[1] - c0),
                    read_nbytes=n * n * dtype.itemsize // 2,
                )
            )  # fmt: skip
        tasks.append(
            Task(
                last, "solved", StepList(), lane, key, at, continues=True,
                write_nbytes=0 if target is None else n * (columns[1] - c0) * dtype.itemsize,
            )
        )  # fmt: skip
        previous[lane] = last
    predicted = seconds(
        "normal" if k < 256 else "gemm", dtype, flops=sum(t.flops for t in tasks),
        read_nbytes=sum(t.read_nbytes for t in tasks),
        write_nbytes=sum(t.write_nbytes for t in tasks), resources=resources,
    )  # fmt: skip
    return Stage(
        name, tuple(tasks), lanes, 1, resources.threads, target, chained=False,
        peak_nbytes=_need(n, width, sweep, dtype), seconds=predicted, prefetch="always",
        dtype=dtype.str,
    )  # fmt: skip


def product_stage(
    source: Source,
    resources: Resources,
    dtype: np.dtype[Any],
    columns: int,
    *,
    name: str,
    operand: str = "a",
) -> Stage:
    """Plan A Y for a few vectors Y that come with the stage.

    Parameters
    ----------
    source : Source of shape (m, n)
        The matrix.
    resources : Resources
        Memory, workers, cores and rates.
    dtype : dtype
        Of computing.
    columns : int
        Of Y.
    name : str
        Of the stage.
    operand : str
        Name of the matrix in the job.

    Returns
    -------
    Stage
        One reading of A.

    Raises
    ------
    MemoryBudgetError
        If not even one chunk of A fits beside the vectors.
    """
    m, n = source.shape
    rows, wide, need = _choose_blocks(source, resources, dtype, columns)
    tasks: list[Task] = []
    previous: dict[int, str] = {}
    for i, r in enumerate(range(0, m, rows)):
        lane = i % resources.workers
        steps = []
        for c in range(0, n, wide):
            at = ((r, min(r + rows, m)), (c, min(c + wide, n)))
            steps.append(Step((Read(operand, at),), at))
        key = f"apply-{r}"
        height = min(rows, m - r)
        tasks.append(
            Task(
                key, "apply", StepList(tuple(steps)), lane, previous.get(lane), ((r, r + height),),
                flops=2.0 * height * n * columns, read_nbytes=height * n * source.dtype.itemsize,
            )
        )  # fmt: skip
        previous[lane] = key
    nbytes = m * n * source.dtype.itemsize
    predicted = seconds(
        "normal", dtype, flops=2.0 * m * n * columns, read_nbytes=nbytes, write_nbytes=0,
        resources=resources,
    )  # fmt: skip
    return Stage(
        name, tuple(tasks), resources.workers, 1, resources.threads, None, passes=1.0,
        peak_nbytes=need, seconds=predicted, prefetch="always", dtype=dtype.str,
    )  # fmt: skip


def _sweeps(
    direction: Direction, operand: str, n: int, breaks: tuple[int, ...], sweep: int
) -> Iterator[Step]:
    """Give the columns of a triangle in the order in which they are solved with."""
    spans = [
        (s, min(s + sweep, high))
        for low, high in zip(breaks, breaks[1:], strict=False)
        for s in range(low, high, sweep)
    ]
    for span in spans if direction == "forward" else reversed(spans):
        rows = (0, span[1]) if direction == "backward" else (span[0], n)
        yield Step((Read(operand, (rows, span)),), (rows, span))


def _side_steps(n: int, columns: tuple[int, int], sides: Source) -> Iterator[Step]:
    height = _whole(sides.unit[0], n, _ROWS)
    for r in range(0, n, height):
        rows = (r, min(r + height, n))
        region = (rows,) if len(sides.shape) == 1 else (rows, columns)
        yield Step((Read("b", region),), (rows, columns))


def _choose(
    n: int, k: int, resources: Resources, dtype: np.dtype[Any], unit: int, what: str
) -> tuple[int, int]:
    """Choose how many right-hand sides stay, and how many columns of the factor come at once."""
    for sweep in (512, 256, 128, 64):
        width = k
        while width > unit and _need(n, width, sweep, dtype) > resources.memory_nbytes:
            width = max(unit, width // 2 // unit * unit)
        if _need(n, width, sweep, dtype) <= resources.memory_nbytes:
            return width, sweep
    need = _need(n, min(k, unit), 64, dtype)
    message = (
        f"{what} with {k} right-hand sides of length {n} needs at least "
        f"memory='{-(-need // 10**6)} MB'; found {format_nbytes(resources.memory_nbytes)}"
    )
    raise MemoryBudgetError(message)


def _need(n: int, width: int, sweep: int, dtype: np.dtype[Any]) -> int:
    """Bytes: X and B, blocks of B, two sweeps and one converted, chunks being encoded."""
    sides = 2 * (width + _PROBES) + 2 * width * min(1.0, 2 * _ROWS / n)
    streamed = 3 * min(sweep, n)
    return LIBRARIES_NBYTES + dtype.itemsize * (
        int(n * (sides + streamed)) + min(3 * 2**21, n * width)
    )


def _choose_blocks(
    source: Source, resources: Resources, dtype: np.dtype[Any], columns: int
) -> tuple[int, int, int]:
    """Choose rows and columns of A that are read at once; give the bytes that they need too."""
    m, n = source.shape
    chunk = math.prod(min(u, s) for u, s in zip(source.unit, source.shape, strict=True))
    held = source.dtype.itemsize
    for preferred in (1024, 512, 256, 64):
        rows, wide = _whole(source.unit[0], m, preferred), _whole(source.unit[1], n, 2 * preferred)
        # one block is used, one read ahead; one converted; X, B and what is left of it, twice
        blocks = rows * wide * (2 * held + (dtype.itemsize if dtype != source.dtype else 0))
        vectors = 6 * max(m, n) * columns * dtype.itemsize
        decoding = decoding_nbytes(chunk * held, resources.threads)
        need = LIBRARIES_NBYTES + blocks + vectors + decoding
        if need <= resources.memory_nbytes:
            return rows, wide, need
    message = (
        f"multiplying {source.name} with {columns} vectors needs at least "
        f"memory='{-(-need // 10**6)} MB'; found {format_nbytes(resources.memory_nbytes)}"
    )
    raise MemoryBudgetError(message)


def _whole(unit: int, size: int, preferred: int) -> int:
    unit = max(1, min(unit, size))
    if unit > 4 * preferred:
        return min(size, preferred)
    return min(unit * max(1, round(preferred / unit)), size)
