"""What a worker does for one task: read, fold, write, mark.

Exactly-once: an accumulator knows the steps that it holds, and skips them when they come again. A
task takes over the arrays of the one before and changes them: doing so a second time is an error.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.errors import CoverageError
from leptonhpc.kernels import Accumulator, held, primitives_of, table, taken
from leptonhpc.planning import Task
from leptonhpc.runtime import blas_limits
from leptonhpc.runtime.adding import TAKEN, writable
from leptonhpc.runtime.cores import usable_cores
from leptonhpc.runtime.device import device_here
from leptonhpc.runtime.foreign import in_words
from leptonhpc.runtime.kept import Kept
from leptonhpc.runtime.memory import (
    peak_nbytes,
    resident_nbytes,
    return_free_memory,
    return_large_pieces,
)
from leptonhpc.runtime.pulse import is_wanted, pulse
from leptonhpc.runtime.reading import Context, Reader, Resident
from leptonhpc.store.buffers import drop_buffers


class Cancelled(Exception):  # noqa: N818  (not an error: the user asked for it)
    """The job was stopped."""


class _TooLate(Exception):  # noqa: N818
    """What the task was to write is gone: others did its work."""


Told = Mapping[str, Any]
"""What a task tells when it is done: ``stage``, ``task``, ``seconds``, ``read_seconds``,
``write_seconds`` and ``compute_seconds`` of them, ``read_nbytes``, and ``ended`` by the clock of
who hears it; from a worker also ``address``, ``job``, ``kept``, ``resident``, ``peak_nbytes``."""


@dataclass
class Totals:
    """What tasks of all jobs did in this process."""

    tasks: int = 0
    seconds: float = 0.0
    read_seconds: float = 0.0
    write_seconds: float = 0.0
    read_nbytes: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, told: Told) -> None:
        """Count one task."""
        with self.lock:
            self.tasks += 1
            self.seconds += told["seconds"]
            self.read_seconds += told["read_seconds"]
            self.write_seconds += told["write_seconds"]
            self.read_nbytes += told["read_nbytes"]


@dataclass
class _Process:
    """State of this process that jobs share."""

    resident: Resident = field(default_factory=Resident)
    cancelled: set[str] = field(default_factory=set)
    ended: deque[str] = field(default_factory=lambda: deque(maxlen=200))
    """The latest jobs that ended: nobody tidies up again after a task that is late."""
    told: dict[str, deque[Told]] = field(default_factory=dict)
    """Of jobs on threads of this process: what their tasks told."""
    totals: Totals = field(default_factory=Totals)
    stages: dict[str, str] = field(default_factory=dict)
    """The latest of each job whose tasks ran on this worker: its threads live on between stages."""


_process = _Process()


def prepare() -> None:
    """Load BLAS before lanes run: an import in a thread that has no memory left may never end."""
    return_large_pieces()
    import scipy.linalg.cython_blas  # noqa: F401
    import threadpoolctl  # noqa: F401


def run_task(
    task: Task,
    context: Context,
    small: dict[str, Any],
    previous: Accumulator | None,
    needed: Sequence[Accumulator] = (),
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
        The accumulator of the lane's task before; taken over (and changed) where tasks are chained
        or the task continues it.
    needed : sequence of dict
        Accumulators of the tasks that this one needs.

    Returns
    -------
    dict
        The accumulator.

    Raises
    ------
    MemoryBudgetError
        If an accelerator has less memory than was planned with.
    WorkerError
        If the library of an accelerator failed.
    """
    device = context.device or device_here()
    try:
        return _folded(task, context, small, previous, needed, device)
    except Exception as error:
        if primitives_of(device).is_host:
            raise
        words = in_words(error, device, f"task {task.key}")
    raise words  # not in the handler: what it came of would travel with it


def _folded(
    task: Task, context: Context, small: dict[str, Any], previous: Accumulator | None,
    needed: Sequence[Accumulator], device: str,
) -> Accumulator:  # fmt: skip
    began, ran = time.perf_counter(), time.thread_time()
    require_wanted = _watched(context)
    fold = table(device, context.precision)[task.kernel]
    blas = fold.blas
    cuts = blas.is_host and getattr(fold, "cuts_products", False)
    blas_limits.limit(_blas_threads(context, device), cut_products=cuts)
    if needed:
        small = {**small, "needed": needed}
    if (context.chained or task.continues) and previous is not None:
        if previous.get(TAKEN):
            message = f"task {task.key} would go on with an accumulator that was changed already"
            raise CoverageError(message)
        acc = {k: writable(v) for k, v in taken(previous, blas).items()}
        previous.clear()
        previous[TAKEN] = True
    else:
        place = None if context.writer is None or context.chained else context.writer.place(task.at)
        begun = fold.begin({**small, "place": place}, task.at)
        acc = {**begun, "steps": frozenset(), "read_nbytes": 0, "units": 0}
    steps = [s for s in task.steps if (task.kernel, task.at, s.at) not in acc["steps"]]
    reader, wrote = Reader(context, acc, _process.resident, blas), 0.0
    for step, blocks in reader.blocks_of(steps):
        if context.job in _process.cancelled:
            raise Cancelled(context.job)
        if has_ended(context.job):
            raise _TooLate(context.job)
        block = fold.step(acc, blocks, small, step.at)
        if block is not None and context.writer is not None:
            require_wanted()
            start = time.perf_counter()
            context.writer.write((step.at[0], (0, block.shape[1])), block, require_wanted)
            wrote += time.perf_counter() - start
        acc["steps"] |= {(task.kernel, task.at, step.at)}
    ends = not context.chained and task.part_of is None
    block = fold.finish(acc, small, task.at) if ends else None
    if block is not None and context.writer is not None:
        require_wanted()
        start = time.perf_counter()
        acc = _write_whole(task, context, acc, block, require_wanted)
        wrote += time.perf_counter() - start
    acc = held(acc, blas)
    seconds, ran = time.perf_counter() - began, time.thread_time() - ran
    _tell(context, task, reader, seconds, wrote, ran)
    return acc


def run_placed(
    task: Task,
    shared: tuple[Context, dict[str, Any]],
    previous: Accumulator | None,
    needed: Sequence[Accumulator],
) -> Accumulator:
    """Fold the steps of one task on a worker, which has context and small arrays as one."""
    context, _ = shared
    if has_ended(context.job):
        return Kept({TAKEN: True})
    with _unprofiled():
        if _process.stages.get(context.job) != context.stage:  # what the last one read into goes
            _process.stages[context.job] = context.stage
            drop_buffers()
            return_free_memory()
        try:
            return Kept(run_task(task, *shared, previous, needed))
        except _TooLate:  # no news for the worker's log
            return Kept({TAKEN: True})
        finally:
            if has_ended(context.job):
                forget(context.job)


@contextmanager
def _unprofiled() -> Iterator[None]:
    """Have Dask's profiler look past this thread.

    For each it keeps some 80 kB a second, of up to a thousand seconds, which no plan counts.
    """
    from distributed import get_worker

    worker, ident = get_worker(), threading.get_ident()
    with worker.active_threads_lock:
        key = worker.active_threads.pop(ident)
    try:
        yield
    finally:
        with worker.active_threads_lock:
            worker.active_threads[ident] = key


def _watched(context: Context) -> Callable[[], None]:
    """Give what fails, before a block is written, in a worker that was given up meanwhile."""
    if context.topic is None or context.writer is None:
        return lambda: None
    from distributed import get_worker

    worker, pauses, writer = get_worker(), pulse().pauses, context.writer

    def require_wanted() -> None:
        if context.job in _process.cancelled or not is_wanted(worker, pauses):
            raise Cancelled(context.job)
        if not writer.is_there():
            raise _TooLate(context.job)

    return require_wanted


def _blas_threads(context: Context, device: str) -> int:
    """Give the cores of a lane: a plan counts those of the smallest worker, this may have more."""
    if context.topic is None:
        return lane_cores(context.blas_threads, device)
    from distributed import get_worker

    own: int = get_worker().state.nthreads
    return max(context.blas_threads, own // context.lanes_per_worker)


def lane_cores(planned: int, device: str) -> int:
    """Give the cores of a lane of this process, without a cluster.

    An accelerator's one lane has all cores for what it leaves to the host.
    """
    return planned if primitives_of(device).is_host else usable_cores()


def listen(job: str) -> deque[Told]:
    """Give what tasks of a job on threads of this process tell from now on, until `forget`."""
    return _process.told.setdefault(job, deque())


def totals() -> Totals:
    """Give what tasks of all jobs did in this process."""
    return _process.totals


def forget(job: str) -> None:
    """Drop what a job left in this process: resident bands, BLAS limits.

    That it was cancelled stays: its tasks may still run.
    """
    _process.resident.forget(job)
    _process.told.pop(job, None)
    _process.stages.pop(job, None)
    drop_buffers()
    return_free_memory()
    blas_limits.restore()


def end(job: str) -> None:
    """Drop what a job left in this process, for good: tasks of it that are late end soon."""
    _process.ended.append(job)
    forget(job)


def has_ended(job: str) -> bool:
    """Say whether this process was told that a job ended."""
    return job in _process.ended


def allow(job: str) -> None:
    """Let a job's tasks run in this process, also after a stage of it was stopped."""
    _process.cancelled.discard(job)


def cancel(job: str) -> None:
    """Stop a job's tasks in this process at their next step."""
    _process.cancelled.add(job)


def leave(job: str) -> None:
    """Stop a job's tasks in this process, and drop what it left: it may be allowed in again."""
    cancel(job)
    forget(job)


def _write_whole(
    task: Task, context: Context, acc: Accumulator, block: NDArray[Any],
    require_wanted: Callable[[], None],
) -> Accumulator:  # fmt: skip
    """Write the block of a task that ends, then mark it."""
    assert context.writer is not None
    context.writer.write(task.at, block, require_wanted)
    if task.mirror:
        context.writer.write(task.at[::-1], block.conj().T, require_wanted)
    require_wanted()
    return_free_memory()
    result = {k: v for k, v in acc.items() if isinstance(v, int | float | np.ndarray)}
    if context.journal is not None:
        context.journal.mark(f"{context.stage}/{task.key}", result)
    return acc


def _tell(
    context: Context, task: Task, reader: Reader, seconds: float, write_seconds: float, ran: float
) -> None:
    """Tell who waits for the job what was done, where, and how long it took."""
    told: dict[str, Any] = {
        "stage": context.stage, "task": task.key, "seconds": seconds,
        "read_seconds": reader.waited_seconds, "write_seconds": write_seconds,
        "read_nbytes": reader.read_nbytes,
        "compute_seconds": reader.computed_seconds(seconds - write_seconds, ran),
    }  # fmt: skip
    _process.totals.add(told)
    if context.topic is None:
        heard = _process.told.get(context.job)
        if heard is not None:
            heard.append({**told, "ended": time.perf_counter()})
        return
    from distributed import get_worker

    worker = get_worker()
    told |= {
        "address": worker.address, "job": context.job, "kept_nbytes": reader.kept_nbytes,
        "resident_nbytes": resident_nbytes(), "peak_nbytes": peak_nbytes(),
    }  # fmt: skip
    worker.log_event(context.topic, told)
