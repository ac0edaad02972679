"""One pass over the variants: a function is called with block after block of all samples.

Blocks are as wide as the memory allows, on as many cores as there are; on a connected cluster its
workers read them.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from math import prod
from typing import Any, Protocol, TypeVar

from numpy.typing import NDArray

from leptonhpc.blocks import BlockedArray
from leptonhpc.blocks.sources import Source
from leptonhpc.errors import MemoryBudgetError, WorkerError
from leptonhpc.genomics.extras import TABLES_NBYTES, Nbytes
from leptonhpc.genomics.orientation import by_variant
from leptonhpc.planning import Resources
from leptonhpc.planning.amounts import parse_nbytes
from leptonhpc.runtime import connected_client, resources_of
from leptonhpc.runtime.memory import return_free_memory, return_large_pieces

Result = TypeVar("Result")
Columns = tuple[int, int]


class Keeping(Protocol[Result]):
    """What remembers blocks of an earlier call."""

    def get(self, columns: Columns) -> Result | None:
        """Give what was found of a block, if that is known."""

    def put(self, columns: Columns, result: Result) -> None:
        """Remember it."""


_MOST_CELLS = 1 << 21
"""Of one block: a larger one is not faster, and leaves the caches."""
_UNITS_READ = 3
"""Storage units that a lane holds while it reads: as stored, decoded, and the next one."""
_QUEUED = 2
"""Blocks on the way for each core: the results of the next wait until this one is taken."""


def map_variants(
    calls: BlockedArray,
    function: Callable[[NDArray[Any], int], Result],
    *,
    memory: Nbytes,
    cell_nbytes: int,
    fixed_nbytes: int = 0,
    overlap: int = 0,
    width: int | None = None,
    keeping: Keeping[Result] | None = None,
) -> Iterator[Result]:
    """Call a function with every block of variants; give what it gives, in order.

    Parameters
    ----------
    calls : BlockedArray
        (samples, variants).
    function : callable
        Of a block (all samples by some variants) and the number of its first variant. Picklable
        where a cluster is connected; called on several threads.
    memory : int, float, str or None
        Budget of each worker with everything in it.
    cell_nbytes : int
        Bytes that reading and `function` take for each call of a block, the result included.
    fixed_nbytes : int
        Bytes that `function` itself holds.
    overlap : int
        Each block goes on for so many variants into the next.
    width : int, optional
        Of every block; default: as the memory allows, in whole storage units if they fit.
    keeping : Keeping, optional
        Blocks that it has are not read; what is found of the others is given to it.

    Yields
    ------
    object
        What `function` gave.

    Raises
    ------
    MemoryBudgetError
        If not even one variant fits; the message has the smallest budget that would do.
    """
    resources = resources_of(parse_nbytes(memory))
    width, lanes = _layout(calls, resources, cell_nbytes, fixed_nbytes, overlap, width)
    total = calls.shape[1]
    regions = [(b, min(b + width + overlap, total)) for b in range(0, total, width)]
    block = _Block(calls.source, function)
    client = connected_client()
    return_large_pieces()
    if client is not None:
        yield from _on_cluster(client, block, regions, lanes * resources.workers, keeping)
        return
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1 if lanes > 1 else None, "blas"), ThreadPoolExecutor(lanes) as pool:
        yield from _windowed(
            lambda region: pool.submit(block, region), regions, _QUEUED * lanes, keeping
        )
    return_free_memory()


class _Block:
    """Read one block and call the function with it."""

    def __init__(self, source: Source, function: Callable[[NDArray[Any], int], Any]) -> None:
        self.source = source
        self.function = function

    def __call__(self, columns: Columns) -> Any:
        """Give what the function gives; a variant's calls lie together if they do in the store."""
        rows = by_variant(self.source).read((columns, (0, self.source.shape[0])))
        return self.function(rows.T, columns[0])


def _on_cluster(
    client: Any, block: _Block, regions: list[Columns], lanes: int, keeping: Any
) -> Iterator[Any]:
    if not block.source.shareable:
        message = f"{block.source.name} is in this process only; workers need a stored array"
        raise WorkerError(message)
    shared = client.scatter(block, broadcast=True, hash=False)

    def submit(region: Columns) -> Any:
        return client.submit(_call, shared, region, pure=False)

    yield from _windowed(submit, regions, _QUEUED * lanes, keeping)


def _call(block: _Block, region: Columns) -> Any:
    return block(region)


def _windowed(
    submit: Callable[[Columns], Any], regions: list[Columns], queued: int, keeping: Any
) -> Iterator[Any]:
    """Keep a bounded number of blocks on the way."""
    waiting: deque[tuple[Columns, Any, Any]] = deque()

    def first() -> Any:
        region, found, future = waiting.popleft()
        if future is not None:
            found = future.result()
            if keeping is not None:
                keeping.put(region, found)
        return found

    try:
        for region in regions:
            known = None if keeping is None else keeping.get(region)
            waiting.append((region, known, submit(region) if known is None else None))
            if len(waiting) >= queued:
                yield first()
        while waiting:
            yield first()
    finally:
        for _, _, future in waiting:
            if future is not None:
                future.cancel()


def _layout(
    calls: BlockedArray,
    resources: Resources,
    cell_nbytes: int,
    fixed_nbytes: int,
    overlap: int,
    width: int | None,
) -> Columns:
    """Choose the width of the blocks, and how many are worked on at once."""
    samples, variants = calls.shape
    column = max(1, samples * cell_nbytes)
    unit = calls.source.unit
    reading = _UNITS_READ * prod(map(min, unit, calls.shape)) * calls.dtype.itemsize
    least = reading + ((width or 1) + overlap) * column
    cores = resources.threads
    if resources.distributed:
        least *= cores  # a worker begins as many blocks at once as it has threads
    free = resources.arrays_nbytes - TABLES_NBYTES - fixed_nbytes
    if free < least:
        needed = resources.memory_nbytes - free + least
        message = (
            f"a block of {(width or 1) + overlap} variants of {calls.name} takes {least:,} bytes "
            f"with what is read for it; memory={resources.memory_nbytes} leaves {max(0, free):,}. "
            f"Give memory='{-(-needed // 10**6)} MB' or more"
        )
        raise MemoryBudgetError(message)
    if resources.distributed:
        lanes = cores
    else:
        lanes = max(1, min(cores, os.cpu_count() or 1, free // least))
    if width is not None:
        return width, lanes
    fitting = (free // lanes - reading) // column - overlap
    widest = max(1, min(fitting, max(unit[1], _MOST_CELLS // max(1, samples))))
    if widest > unit[1]:
        widest -= widest % unit[1]
    return min(widest, max(1, variants)), lanes
