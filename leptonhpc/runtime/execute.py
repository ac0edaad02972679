"""What a worker does for one task: read, fold, write, mark.

Exactly-once: an accumulator knows the steps that it holds, so a task that Dask runs again after an
error, over an accumulator that it had already changed, skips what is in it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.blocks import Source
from leptonhpc.kernels import Accumulator, combine, table
from leptonhpc.planning import Read, Step, Task
from leptonhpc.runtime.memory import return_free_memory
from leptonhpc.runtime.targets import Writer
from leptonhpc.store import Journal


@dataclass
class Context:
    """What all tasks of a stage share; sent to each worker once."""

    job: str
    stage: str
    sources: dict[str, Source]
    writer: Writer | None
    journal: Journal | None
    blas_threads: int
    chained: bool
    prefetch: bool
    device: str = "host"
    topic: str | None = None
    """Where a cluster's worker tells that a task is done."""


class Cancelled(Exception):  # noqa: N818  (not an error: the user asked for it)
    """The job was stopped."""


@dataclass
class _Process:
    """State of this process that jobs share."""

    resident: dict[tuple[str, Read], NDArray[Any]] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)
    blas_threads: int | None = None
    limiter: Any = None
    lock: threading.Lock = field(default_factory=threading.Lock)


_process = _Process()
_local = threading.local()


def prepare() -> None:
    """Load BLAS before lanes run: an import in a thread that has no memory left may never end."""
    import scipy.linalg.cython_blas  # noqa: F401
    import threadpoolctl  # noqa: F401


def run_task(
    task: Task, context: Context, small: dict[str, Any], previous: Accumulator | None
) -> Accumulator:
    """Fold the steps of one task.

    Parameters
    ----------
    task : Task
        The task.
    context : Context
        Sources, writer, journal.
    small : dict
        The stage's small arrays.
    previous : dict or None
        The accumulator of the lane's task before; taken over (and changed) where tasks are chained.

    Returns
    -------
    dict
        The accumulator.
    """
    _limit_blas(context.blas_threads)
    fold = table(context.device)[task.kernel]
    if context.chained and previous is not None:
        acc = {k: _writable(v) for k, v in previous.items()}
    else:
        acc = {**fold.begin(small, task.at), "steps": frozenset(), "read_nbytes": 0, "units": 0}
    for step, blocks in _read_ahead(task, context, acc):
        if context.job in _process.cancelled:
            raise Cancelled(context.job)
        block = fold.step(acc, blocks, small, step.at)
        if block is not None and context.writer is not None:
            context.writer.write((step.at[0], (0, block.shape[1])), block)
        acc["steps"] |= {(task.at, step.at)}
    block = fold.finish(acc, small, task.at) if not context.chained else None
    if block is not None and context.writer is not None:
        acc = _write_whole(task, context, acc, block)
    _tell(context, task)
    return acc


def sum_accumulators(parts: list[Accumulator]) -> Accumulator:
    """Add the accumulators of lanes; a step that is in two of them is an error."""
    total = {k: _writable(v) for k, v in parts[0].items()}
    for part in parts[1:]:
        combine(total, part)
    return total


def forget(job: str) -> None:
    """Drop what a job left in this process: resident bands, cancellation, BLAS limits."""
    with _process.lock:
        for key in [k for k in _process.resident if k[0] == job]:
            del _process.resident[key]
        _process.cancelled.discard(job)
        if _process.limiter is not None:
            _process.limiter.restore_original_limits()
            _process.limiter, _process.blas_threads = None, None


def allow(job: str) -> None:
    """Let a job's tasks run in this process, also after a stage of it was stopped."""
    _process.cancelled.discard(job)


def cancel(job: str) -> None:
    """Stop a job's tasks in this process at their next step."""
    _process.cancelled.add(job)


def _write_whole(
    task: Task, context: Context, acc: Accumulator, block: NDArray[Any]
) -> Accumulator:
    """Write the block of a task that ends, then mark it."""
    assert context.writer is not None
    context.writer.write(task.at, block)
    if task.mirror:
        context.writer.write(task.at[::-1], block.conj().T)
    return_free_memory()
    result = {k: v for k, v in acc.items() if isinstance(v, int | float)}
    if context.journal is not None:
        context.journal.mark(f"{context.stage}/{task.key}", result)
    return acc


def _read_ahead(
    task: Task, context: Context, acc: Accumulator
) -> Iterator[tuple[Step, list[NDArray[Any]]]]:
    """Give steps with their blocks; the same Read in a row is read once."""
    steps = [s for s in task.steps if (task.at, s.at) not in acc["steps"]]
    if not context.prefetch:
        for step in steps:
            yield step, [_read(r, context, acc, _buffer(r.operand, r, context)) for r in step.reads]
        return
    held: dict[Read, NDArray[Any]] = {}
    slots: dict[str, int] = {}

    def load(step: Step) -> dict[Read, NDArray[Any]]:
        blocks = {}
        for read in step.reads:
            if read not in held:  # its buffer is not the one that is being used
                slots[read.operand] = 1 - slots.get(read.operand, 1)
                out = _buffer(f"{read.operand} {slots[read.operand]}", read, context)
                blocks[read] = _read(read, context, acc, out)
            else:
                blocks[read] = held[read]
        return blocks

    with ThreadPoolExecutor(1, thread_name_prefix="leptonhpc-reader") as reader:
        ahead = None
        for number, step in enumerate(steps):
            if ahead is None:
                held = {}  # a whole panel goes before the next one comes: two do not fit
                slots.clear()
                held = reader.submit(load, step).result()
            else:
                held = ahead.result()
            following = steps[number + 1] if number + 1 < len(steps) else None
            ahead = None
            if following is not None and not held.keys().isdisjoint(following.reads):
                ahead = reader.submit(load, following)
            yield step, [held[r] for r in step.reads]


def _read(read: Read, context: Context, acc: Accumulator, out: NDArray[Any] | None) -> NDArray[Any]:
    key = (context.job, read)
    kept = _process.resident.get(key)
    if kept is not None:
        return kept
    source = context.sources[read.operand]
    if read.keep:
        out = np.empty(_shape(read), source.dtype)
    block = source.read(read.region, out)
    acc["read_nbytes"] += block.nbytes
    if read.operand in ("x", "a", "b"):
        acc["units"] += source.units_in(read.region)
    if read.keep:
        _process.resident[key] = block
    return block


def _shape(read: Read) -> tuple[int, ...]:
    return tuple(stop - start for start, stop in read.region)


def _buffer(name: str, read: Read, context: Context) -> NDArray[Any] | None:
    """Give this lane's buffer of one name: fresh memory costs more than reading into it."""
    if read.keep:
        return None
    shape, dtype = _shape(read), context.sources[read.operand].dtype
    nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    buffers: dict[str, NDArray[np.uint8]] = _local.__dict__.setdefault("buffers", {})
    if name not in buffers or buffers[name].nbytes < nbytes:
        buffers.pop(name, None)
        buffers[name] = np.empty(nbytes, np.uint8)
    return buffers[name][:nbytes].view(dtype).reshape(shape)


def _writable(value: Any) -> Any:
    """Arrays that came over the wire may be read-only."""
    if isinstance(value, np.ndarray) and not value.flags.writeable:
        return value.copy()
    return value


def _limit_blas(threads: int) -> None:
    """Lanes times BLAS threads are the cores; set once for the process, undone by `forget`."""
    if _process.blas_threads == threads:
        return
    with _process.lock:
        if _process.blas_threads == threads:
            return
        import scipy.linalg.cython_blas  # noqa: F401  (its BLAS must be loaded to be limited)
        from threadpoolctl import threadpool_limits

        if _process.limiter is not None:
            _process.limiter.restore_original_limits()
        _process.limiter = threadpool_limits(limits=threads, user_api="blas")
        _process.blas_threads = threads


def _tell(context: Context, task: Task) -> None:
    if context.topic is None:
        return
    from distributed import get_worker

    get_worker().log_event(context.topic, {"task": task.key})
