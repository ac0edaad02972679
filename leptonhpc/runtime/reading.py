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

from leptonhpc.blocks import Region, Source
from leptonhpc.kernels import Accumulator
from leptonhpc.planning import Read, Step
from leptonhpc.planning.costs import MOST_DECODERS
from leptonhpc.planning.tasks import Prefetch
from leptonhpc.runtime.targets import Writer
from leptonhpc.store import Journal

_local = threading.local()

Blocks = dict[Read, NDArray[Any]]


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


class Resident:
    """Blocks that a process keeps from stage to stage, by job."""

    def __init__(self) -> None:
        self._blocks: dict[str, dict[Read, NDArray[Any]]] = {}
        self._nbytes: dict[str, int] = {}
        self._lock = threading.Lock()

    def get(self, job: str, read: Read) -> NDArray[Any] | None:
        """Give a block, if it is here."""
        return self._blocks.get(job, {}).get(read)

    def claim(self, job: str, nbytes: int, most: int | None) -> bool:
        """Take room for a block, if there is any."""
        with self._lock:
            held = self._nbytes.get(job, 0)
            if most is not None and held + nbytes > most:
                return False
            self._nbytes[job] = held + nbytes
            return True

    def put(self, job: str, read: Read, block: NDArray[Any]) -> None:
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
    kept_nbytes: int = 0
    """What was added to them."""
    waited_seconds: float = 0.0
    """What the steps waited for their blocks."""

    def blocks_of(self, steps: Sequence[Step]) -> Iterator[tuple[Step, list[NDArray[Any]]]]:
        """Give each step with its blocks; a block that follows itself is read once.

        With prefetch "within", the next step's blocks come while this one is folded if the two
        share a block: a whole panel goes before the next one comes, for two do not fit.
        """
        threads = min(self.context.blas_threads, MOST_DECODERS)
        prefetch = self.context.prefetch
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
                    load = reader.submit(self._load, step, held, slots, pool) if prefetch else None
                    held = load.result() if load else self._load(step, held, slots, pool)
                else:
                    held = ahead.result()
                    ahead = None
                self.waited_seconds += time.perf_counter() - began
                if prefetch and number + 1 < len(steps):
                    following = steps[number + 1]
                    if prefetch == "always" or not held.keys().isdisjoint(following.reads):
                        ahead = reader.submit(self._load, following, held, slots, pool)
                yield step, [held[r] for r in step.reads]

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

    def _read(self, read: Read, name: str, pool: Executor | None) -> NDArray[Any]:
        kept = self.resident.get(self.context.job, read)
        if kept is not None:
            return kept
        source = self.context.sources[read.operand]
        shape = tuple(stop - start for start, stop in read.region)
        nbytes = int(np.prod(shape, dtype=np.int64)) * source.dtype.itemsize
        keep = read.keep and self.resident.claim(
            self.context.job, nbytes, self.context.resident_nbytes
        )
        out = np.empty(shape, source.dtype) if keep else buffer(name, shape, source.dtype)
        block = _read_pieces(source, read.region, out, pool)
        self.acc["read_nbytes"] += block.nbytes
        if read.operand in self.context.inputs:
            self.acc["units"] += source.units_in(read.region)
        if keep:
            self.resident.put(self.context.job, read, block)
            self.kept_nbytes += nbytes
        return block


def buffer(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Give this thread's buffer of one name: fresh memory costs more than reading into it.

    Parameters
    ----------
    name : str
        Of the buffer.
    shape : tuple of int
        Wanted.
    dtype : dtype
        Wanted.

    Returns
    -------
    array
        Of that shape; its values are what was there before.
    """
    nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    buffers: dict[str, NDArray[np.uint8]] = _local.__dict__.setdefault("buffers", {})
    if name not in buffers or buffers[name].nbytes < nbytes:
        buffers.pop(name, None)
        buffers[name] = np.empty(nbytes, np.uint8)
    return buffers[name][:nbytes].view(dtype).reshape(shape)


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
