"""What a lane reads: whole blocks, ahead of their use, in pieces on all of its cores.

Blocks come into buffers that stay: fresh memory costs more than reading into it.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.blocks import MemorySource, Region, Source
from leptonhpc.kernels import Accumulator
from leptonhpc.kernels.fold import Blas, Held
from leptonhpc.planning import Read, Step
from leptonhpc.planning.costs import MOST_DECODERS
from leptonhpc.planning.tasks import Prefetch
from leptonhpc.runtime.targets import Writer
from leptonhpc.store import Journal
from leptonhpc.store.buffers import buffer

Blocks = dict[Read, Any]


@dataclass
class Context:
    """What all tasks of a stage share; sent to each worker once."""

    job: str
    stage: str
    sources: dict[str, Source]
    inputs: frozenset[str]
    """Sources that are the job's inputs: how often their storage units are read is counted."""
    writer: Writer | None
    journal: Journal | None
    blas_threads: int
    chained: bool
    prefetch: Prefetch | None
    device: str | None = None
    """Table of kernels; None: that of the device of each worker."""
    topic: str | None = None
    """Where a cluster's worker tells that a task is done."""
    lanes_per_worker: int = 1
    resident_nbytes: int | None = None
    """What this process may keep, whatever was dealt to it; None: what steps say is kept."""
    precision: str | None = None
    """Of products; None: as the kind of each device says."""


class Resident:
    """Blocks that a process keeps from stage to stage, by job."""

    def __init__(self) -> None:
        self._blocks: dict[str, dict[Read, NDArray[Any] | Held]] = {}
        self._nbytes: dict[str, int] = {}
        self._lock = threading.Lock()

    def get(self, job: str, read: Read) -> NDArray[Any] | Held | None:
        """Give a block, if it is here, in the memory of the host or of the device."""
        return self._blocks.get(job, {}).get(read)

    def claim(self, job: str, nbytes: int, most: int | None) -> bool:
        """Take room for a block, if there is any."""
        with self._lock:
            held = self._nbytes.get(job, 0)
            if most is not None and held + nbytes > most:
                return False
            self._nbytes[job] = held + nbytes
            return True

    def put(self, job: str, read: Read, block: NDArray[Any] | Held) -> None:
        """Keep a block that room was taken for."""
        self._blocks.setdefault(job, {})[read] = block

    def forget(self, job: str) -> None:
        """Drop what a job kept."""
        with self._lock:
            self._blocks.pop(job, None)
            self._nbytes.pop(job, None)


@dataclass
class Reader:
    """Reads the blocks of a task's steps."""

    context: Context
    acc: Accumulator
    """Where bytes and storage units are counted."""
    resident: Resident
    """Blocks that stay in memory from stage to stage."""
    blas: Blas
    """Of the kernel: its blocks are brought to that device while the one before is folded."""
    kept_nbytes: int = 0
    """What was added to them."""
    waited_seconds: float = 0.0
    """What the steps waited for their blocks."""
    read_nbytes: int = 0
    """What was read for this task."""
    loading_seconds: float = 0.0
    """Processor time of reading beside the task's own thread."""

    def computed_seconds(self, seconds: float, ran: float) -> float:
        """Say how long a task would have computed, had nothing been read beside it.

        Parameters
        ----------
        seconds : float
            What it took, without writing.
        ran : float
            Processor time of its own thread.

        Returns
        -------
        float
            What it did not wait for its blocks; on a lane of one core, the part of the time that
            its own thread had of that core.
        """
        rest = max(0.0, seconds - self.waited_seconds)
        if self.context.blas_threads > 1 or not self.blas.is_host or not ran:
            return rest
        return min(rest, max(ran, seconds * ran / (ran + self.loading_seconds)))

    def blocks_of(self, steps: Sequence[Step]) -> Iterator[tuple[Step, list[Any]]]:
        """Give each step with its blocks; a block that follows itself is read once.

        With prefetch "within", the next step's blocks come while this one is folded if the two
        share a block: a whole panel goes before the next one comes, for two do not fit.
        """
        threads = min(self.context.blas_threads, MOST_DECODERS)
        prefetch = self.context.prefetch
        if self.blas.capacity_nbytes is not None:
            # its lane needs one core, the others decode; what comes ahead has room of its own
            threads, prefetch = MOST_DECODERS, prefetch or "always"
        with (
            ThreadPoolExecutor(threads, thread_name_prefix="leptonhpc-decoder") as decoders,
            ThreadPoolExecutor(1, thread_name_prefix="leptonhpc-reader") as reader,
        ):
            pool = decoders if threads > 1 else None
            held: Blocks = {}
            slots: dict[str, int] = {}
            ahead = None
            for number, step in enumerate(steps):
                began = time.perf_counter()
                if ahead is None:
                    held = {r: block for r, block in held.items() if r in step.reads}
                    if not held:
                        slots.clear()  # what is not needed gives its buffers to what comes
                    # buffers are a thread's own: one thread reads all
                    load = reader.submit(self._ahead, step, held, slots, pool) if prefetch else None
                    held = load.result() if load else self._load(step, held, slots, pool)
                    load = None  # which has its blocks until then
                else:
                    held = ahead.result()
                    ahead = None
                self.waited_seconds += time.perf_counter() - began
                if prefetch and number + 1 < len(steps):
                    following = steps[number + 1]
                    if prefetch == "always" or not held.keys().isdisjoint(following.reads):
                        ahead = reader.submit(self._ahead, following, held, slots, pool)
                blocks = [held[r] for r in step.reads]
                yield step, blocks
                blocks.clear()  # who folded them holds none while the next come

    def _ahead(self, *load: Any) -> Blocks:
        began = time.thread_time()
        blocks = self._load(*load)
        self.loading_seconds += time.thread_time() - began
        return blocks

    def _load(
        self, step: Step, held: Blocks, slots: dict[str, int], pool: Executor | None
    ) -> Blocks:
        blocks = {}
        for read in step.reads:
            if read in held:
                blocks[read] = held[read]
                continue
            if self.context.prefetch:  # its buffer is not the one that is being used
                slots[read.operand] = 1 - slots.get(read.operand, 1)
            blocks[read] = self._read(read, f"{read.operand} {slots.get(read.operand, 0)}", pool)
        return blocks

    def _read(self, read: Read, name: str, pool: Executor | None) -> Any:
        kept = self.resident.get(self.context.job, read)
        if kept is not None:
            return self._kept(read, kept)
        source = self.context.sources[read.operand]
        shape = tuple(stop - start for start, stop in read.region)
        nbytes = int(np.prod(shape, dtype=np.int64)) * source.dtype.itemsize
        keep = read.keep and self.resident.claim(
            self.context.job, nbytes, self.context.resident_nbytes
        )

        def into(out: NDArray[Any]) -> NDArray[Any]:
            if isinstance(source, MemorySource) and pool is not None and not self.blas.is_host:
                return _copy_strips(source, read.region, out, pool)
            return _read_pieces(source, read.region, out, pool)

        if self.blas.is_host:
            out = np.empty(shape, source.dtype) if keep else buffer(name, shape, source.dtype)
            block = into(out)
        else:
            block = self.blas.stage(shape, source.dtype, into)
        self.acc["read_nbytes"] += nbytes
        self.read_nbytes += nbytes
        if read.operand in self.context.inputs:
            self.acc["units"] += source.units_in(read.region)
        if keep:
            there = block if self.blas.is_host else Held(block, self.blas.get)
            self.resident.put(self.context.job, read, there)
            self.kept_nbytes += nbytes
        return block

    def _kept(self, read: Read, kept: NDArray[Any] | Held) -> Any:
        """Give a resident block in the memory of the kernel; it stays where it was used last."""
        if self.blas.is_host:
            return kept.get(kept.array) if isinstance(kept, Held) else kept
        if isinstance(kept, Held):
            return kept.array
        block = self.blas.stage(kept.shape, kept.dtype, lambda _: kept)
        self.resident.put(self.context.job, read, Held(block, self.blas.get))
        return block


def _copy_strips(
    source: MemorySource, region: Region, out: NDArray[Any], pool: Executor
) -> NDArray[Any]:
    """Copy rows on several cores: one copies slower than a device takes."""
    (first, last), *rest = region
    step = max(1, -(-(last - first) // MOST_DECODERS))

    def copy(low: int) -> None:
        high = min(low + step, last)
        source.read(((low, high), *rest), out[low - first : high - first])

    for done in pool.map(copy, range(first, last, step)):
        assert done is None
    return out


def _read_pieces(
    source: Source, region: Region, out: NDArray[Any], pool: Executor | None
) -> NDArray[Any]:
    """Read a region, its storage units in parallel."""
    if pool is None or source.units_in(region) < 2:
        return source.read(region, out)
    cuts = [
        sorted({low, high, *range(low - low % unit + unit, high, unit)})
        for (low, high), unit in zip(region, source.unit, strict=True)
    ]
    pieces = itertools.product(*(itertools.pairwise(edges) for edges in cuts))

    def read(piece: Region) -> None:
        place = out[
            tuple(slice(a - low, b - low) for (a, b), (low, _) in zip(piece, region, strict=True))
        ]
        block = source.read(piece, place)
        if block.ctypes.data != place.ctypes.data or block.strides != place.strides:
            place[...] = block

    for done in pool.map(read, pieces):
        assert done is None
    return out
