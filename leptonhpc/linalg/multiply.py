"""One stage that multiplies two matrices: a stationary block of C, streamed panels of A and B.

A block of C as large as memory allows stays in place while the inner dimension streams by: about
2 m n k / sqrt(M) elements are read for M elements of memory, which is optimal [1]_.

References
----------
.. [1] G. Kwasniewski, M. Kabic, M. Besta, J. VandeVondele, R. Solca, T. Hoefler, Red-blue pebbling
   revisited: near optimal parallel matrix-matrix multiplication, SC 2019, Theorem 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from leptonhpc.blocks import Region, Source
from leptonhpc.blocks.drawing import format_nbytes
from leptonhpc.errors import MemoryBudgetError
from leptonhpc.linalg.partition import (
    elements,
    partition,
    partition_triangle,
    partition_unlike,
)
from leptonhpc.linalg.rechunk import SQUARE
from leptonhpc.planning import Read, Resources, Stage, Step, Target, Task, flops, seconds
from leptonhpc.planning.costs import LIBRARIES_NBYTES, decoding_nbytes
from leptonhpc.planning.tasks import Steps

Kind = Literal["general", "gram", "hermitian"]


@dataclass(frozen=True)
class _Sizes:
    """Block sizes along m, n and k."""

    unit: tuple[int, int]
    """Of C's chunks."""
    panel: int
    """Of the inner dimension, folded at once."""
    rows: int
    """Of the blocks of A that are read at once."""


def multiply_stage(
    a: Source, b: Source, resources: Resources, dtype: np.dtype[Any], *, kind: Kind = "general"
) -> Stage:
    """Plan the product of two matrices as one stage.

    Parameters
    ----------
    a : Source of shape (m, k)
        Operand "a".
    b : Source of shape (k, n)
        Operand "b".
    resources : Resources
        Memory, workers, cores and rates.
    dtype : dtype
        Of computing.
    kind : {"general", "gram", "hermitian"}
        Gram: A is B's adjoint, only B is read. Hermitian: the product is its own adjoint. Of both
        half is computed.

    Returns
    -------
    Stage
        With target "product".

    Raises
    ------
    MemoryBudgetError
        If not even one chunk of C fits; the message names the smallest budget.
    """
    sizes = _choose_sizes(a, b)
    regions = _choose_regions(a, b, sizes, resources, dtype, symmetric=kind != "general")
    tasks = _tasks(a, b, regions, sizes, dtype, resources.workers, kind=kind)
    unit = sizes.unit if kind == "general" else (sizes.unit[1],) * 2
    target = Target("product", (a.shape[0], b.shape[1]), dtype.str, unit)
    nbytes = sum(
        math.prod(x.shape) * x.dtype.itemsize for x in ((b,) if kind == "gram" else (a, b))
    )
    peak = _peak(regions, sizes, dtype, a, b, resources.threads)
    return _stage(tasks, target, resources, dtype, peak, nbytes)


def _choose_sizes(a: Source, b: Source) -> _Sizes:
    (m, k), n = a.shape, b.shape[1]

    def whole(unit: int, size: int, preferred: int) -> int:
        unit = max(1, min(unit, size))
        if unit > 4 * preferred:  # a chunk this long is read in pieces
            return min(size, preferred) or 1
        return min(unit * max(1, round(preferred / unit)), size) or 1

    inner = math.lcm(max(1, min(a.unit[1], k)), max(1, min(b.unit[0], k)))
    if inner > 4 * SQUARE:
        inner = max(min(a.unit[1], k), min(b.unit[0], k), 1)
    panel = whole(inner, k, SQUARE // 2)
    rows = whole(a.unit[0], m, SQUARE)
    return _Sizes((rows, whole(b.unit[1], n, SQUARE)), panel, rows)


def _streams(
    sizes: _Sizes, columns: int, dtype: np.dtype[Any], a: Source, b: Source, threads: int
) -> int:
    """Bytes beside C: a panel of B, blocks of A being used and read ahead, chunks being decoded."""
    panels = sizes.panel * columns
    blocks = 2 * sizes.rows * sizes.panel
    converted = (a.dtype != dtype) * sizes.rows * sizes.panel
    converted += (b.dtype != dtype) * sizes.panel * columns
    chunk = max(
        int(np.prod([min(u, s) for u, s in zip(x.unit, x.shape, strict=True)])) * x.dtype.itemsize
        for x in (a, b)
    )
    reading = (panels + blocks + converted) * dtype.itemsize + decoding_nbytes(chunk, threads)
    # blocks of C are encoded when their panels are gone, a few chunks at a time
    writing = 8 * sizes.unit[0] * sizes.unit[1] * dtype.itemsize
    return max(reading, writing)


def _choose_regions(
    a: Source, b: Source, sizes: _Sizes, resources: Resources, dtype: np.dtype[Any],
    *, symmetric: bool,
) -> list[Region]:  # fmt: skip
    """Cut C into the largest blocks that fit with the panels beside them."""
    m, n, total = a.shape[0], b.shape[1], a.shape[0] * b.shape[1]
    least = min(sizes.unit[0] * sizes.unit[1], total)
    cap = min(total, max(least, resources.arrays_nbytes // dtype.itemsize))
    while True:
        if symmetric:
            regions = partition_triangle(n, sizes.unit[1], cap, _parts(n, n, resources))
        elif resources.speeds:
            speeds, parts = resources.speeds, resources.parts
            regions = partition_unlike(m, n, sizes.unit, cap, speeds, parts)
        else:
            regions = partition(m, n, sizes.unit, cap, _parts(m, n, resources))
        peak = _peak(regions, sizes, dtype, a, b, resources.threads)
        if peak <= resources.memory_nbytes:
            return regions
        largest = max(map(elements, regions))
        if cap <= least or largest <= least:
            message = (
                f"matmul of {a.name} and {b.name} needs at least memory='{-(-peak // 10**6)} MB' "
                f"(one chunk of C and the panels beside it); found "
                f"{format_nbytes(resources.memory_nbytes)}"
            )
            raise MemoryBudgetError(message)
        cap = max(
            least,
            min(largest, cap) - max(least // 4, (peak - resources.memory_nbytes) // dtype.itemsize),
        )


def _parts(m: int, n: int, resources: Resources) -> int:
    """Blocks that workers share: two each, so that one that comes or goes changes something."""
    if resources.workers == 1:
        return 1
    return max(resources.workers, min(2 * resources.workers, m * n // SQUARE**2))


def _peak(
    regions: list[Region], sizes: _Sizes, dtype: np.dtype[Any], a: Source, b: Source, threads: int,
) -> int:  # fmt: skip
    shapes = {(rows[1] - rows[0], columns[1] - columns[0]) for rows, columns in regions}
    largest = max(
        rows * columns * dtype.itemsize + _streams(sizes, columns, dtype, a, b, threads)
        for rows, columns in shapes
    )
    return LIBRARIES_NBYTES + largest


def _tasks(
    a: Source, b: Source, regions: list[Region], sizes: _Sizes, dtype: np.dtype[Any],
    workers: int, *, kind: Kind,
) -> tuple[Task, ...]:  # fmt: skip
    inner = a.shape[1]
    loads = [0] * workers
    previous: list[str | None] = [None] * workers
    tasks = []
    for region in sorted(regions, key=elements, reverse=True):
        lane = loads.index(min(loads))
        loads[lane] += elements(region)
        diagonal = kind == "gram" and region[0] == region[1]
        mirror = kind != "general" and region[0] != region[1]
        steps: Steps = PanelSteps(region, inner, sizes.panel, sizes.rows)
        if diagonal:
            steps = SymmetricSteps(region[1], inner, sizes.panel)
        rows, columns = (stop - start for start, stop in region)
        kernel = "syrk" if diagonal else "gemm"
        if kind == "hermitian" and region[0] == region[1]:
            kernel = "gemm_hermitian"
        read = columns * inner * b.dtype.itemsize
        read += 0 if diagonal else rows * inner * a.dtype.itemsize
        task = Task(
            f"{kernel}-{region[0][0]}-{region[1][0]}", kernel, steps, lane, previous[lane], region,
            mirror=mirror,
            flops=flops("syrk", dtype, rows=inner, columns=columns) if diagonal
            else flops("gemm", dtype, rows=rows, columns=columns, width=inner),
            read_nbytes=read, write_nbytes=rows * columns * dtype.itemsize * (1 + mirror),
        )  # fmt: skip
        previous[lane] = task.key
        tasks.append(task)
    return tuple(tasks)


@dataclass(frozen=True, slots=True)
class PanelSteps:
    """The inner dimension panel by panel, and for each panel of B the blocks of A."""

    region: Region
    inner: int
    panel: int
    rows: int

    @property
    def operands(self) -> tuple[str, ...]:
        """What the steps read."""
        return ("a", "b")

    def __iter__(self) -> Iterator[Step]:
        """Make the steps."""
        (r0, r1), columns = self.region
        for k in range(0, self.inner, self.panel):
            depth = (k, min(k + self.panel, self.inner))
            panel = Read("b", (depth, columns))  # the same Read in a row: it is read once
            for r in range(r0, r1, self.rows):
                rows = (r, min(r + self.rows, r1))
                at = ((rows[0] - r0, rows[1] - r0), depth)
                yield Step((Read("a", (rows, depth)), panel), at)

    def __len__(self) -> int:
        """Count the blocks of A."""
        (r0, r1), _ = self.region
        return -(-self.inner // self.panel) * -(-(r1 - r0) // self.rows)


@dataclass(frozen=True, slots=True)
class SymmetricSteps:
    """The inner dimension panel by panel, for a diagonal block of A^H A."""

    columns: tuple[int, int]
    inner: int
    panel: int

    @property
    def operands(self) -> tuple[str, ...]:
        """What the steps read."""
        return ("b",)

    def __iter__(self) -> Iterator[Step]:
        """Make the steps."""
        for k in range(0, self.inner, self.panel):
            depth = (k, min(k + self.panel, self.inner))
            yield Step((Read("b", (depth, self.columns)),), (self.columns, depth))

    def __len__(self) -> int:
        """Count the panels."""
        return -(-self.inner // self.panel)


def _stage(
    tasks: tuple[Task, ...],
    target: Target,
    resources: Resources,
    dtype: np.dtype[Any],
    peak: int,
    input_nbytes: int,
) -> Stage:
    predicted = seconds(
        "gemm",
        dtype,
        flops=sum(t.flops for t in tasks),
        read_nbytes=sum(t.read_nbytes for t in tasks),
        write_nbytes=sum(t.write_nbytes for t in tasks),
        resources=resources,
    )
    used = len({t.lane for t in tasks})
    return Stage(
        "multiply", tasks, resources.workers, 1, resources.threads, target, chained=False,
        passes=sum(t.read_nbytes for t in tasks) / max(1, input_nbytes), peak_nbytes=peak,
        seconds=predicted * resources.workers / used, prefetch="within",
        dtype=dtype.str,
    )  # fmt: skip
