"""What a worker does for one task: read, fold, write, mark.

Exactly-once: an accumulator knows the steps that it holds, and skips them when they come again. A
task takes over the arrays of the one before and changes them: doing so a second time is an error.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.errors import CoverageError
from leptonhpc.kernels import Accumulator, combine, held, primitives_of, settled, table, taken
from leptonhpc.planning import Task
from leptonhpc.runtime import blas_limits
from leptonhpc.runtime.memory import peak_nbytes, return_free_memory, return_large_pieces
from leptonhpc.runtime.pulse import is_wanted, pulse
from leptonhpc.runtime.reading import Context, Reader, Resident


class Cancelled(Exception):  # noqa: N818  (not an error: the user asked for it)
    """The job was stopped."""


@dataclass
class _Process:
    """State of this process that jobs share."""

    resident: Resident = field(default_factory=Resident)
    cancelled: set[str] = field(default_factory=set)


_process = _Process()
_TAKEN = "taken over"
"""Marks an accumulator whose arrays belong to another now."""


def device_here() -> str:
    """Give the kind of device that this process's lanes compute with: $LEPTONHPC_DEVICE."""
    return os.environ.get("LEPTONHPC_DEVICE") or "host"


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
    """
    began = time.perf_counter()
    require_wanted = _watched(context)
    blas_limits.limit(_blas_threads(context))
    device = context.device or device_here()
    fold, blas = table(device)[task.kernel], primitives_of(device)
    if needed:
        small = {**small, "needed": needed}
    if (context.chained or task.continues) and previous is not None:
        if previous.get(_TAKEN):
            message = f"task {task.key} would go on with an accumulator that was changed already"
            raise CoverageError(message)
        acc = {k: _writable(v) for k, v in taken(previous, blas).items()}
        previous[_TAKEN] = True
    else:
        place = None if context.writer is None or context.chained else context.writer.place(task.at)
        begun = fold.begin({**small, "place": place}, task.at)
        acc = {**begun, "steps": frozenset(), "read_nbytes": 0, "units": 0}
    steps = [s for s in task.steps if (task.kernel, task.at, s.at) not in acc["steps"]]
    reader, wrote = Reader(context, acc, _process.resident), 0.0
    for step, blocks in reader.blocks_of(steps):
        if context.job in _process.cancelled:
            raise Cancelled(context.job)
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
    if context.topic is not None:
        seconds = {
            "seconds": time.perf_counter() - began, "read_seconds": reader.waited_seconds,
            "write_seconds": wrote,
        }  # fmt: skip
        _tell(context.topic, context, task, seconds, reader.kept_nbytes)
    return acc


def run_placed(
    task: Task,
    shared: tuple[Context, dict[str, Any]],
    previous: Accumulator | None,
    needed: Sequence[Accumulator],
) -> Accumulator:
    """Fold the steps of one task on a worker, which has context and small arrays as one."""
    return run_task(task, *shared, previous, needed)


def _watched(context: Context) -> Callable[[], None]:
    """Give what fails, before a block is written, in a worker that was given up meanwhile."""
    if context.topic is None or context.writer is None:
        return lambda: None
    from distributed import get_worker

    worker, pauses = get_worker(), pulse().pauses

    def require_wanted() -> None:
        if context.job in _process.cancelled or not is_wanted(worker, pauses):
            raise Cancelled(context.job)

    return require_wanted


def _blas_threads(context: Context) -> int:
    """Give the cores of a lane: a plan counts those of the smallest worker, this may have more."""
    if context.topic is None:
        return context.blas_threads
    from distributed import get_worker

    own: int = get_worker().state.nthreads
    return max(context.blas_threads, own // context.lanes_per_worker)


def sum_afresh(parts: list[Accumulator]) -> Accumulator:
    """Add the accumulators of lanes into a new one: theirs stay as they are, for another try."""
    total: Accumulator = {}
    for part in parts:
        added = settled(part)
        combine(total, {k: v if k in total else _copied(v) for k, v in added.items()})
    return total


def sum_accumulators(parts: list[Accumulator]) -> Accumulator:
    """Add the accumulators of lanes; a step that is in two of them is an error."""
    total = {k: _writable(v) for k, v in settled(parts[0]).items()}
    for part in parts[1:]:
        combine(total, settled(part))
    return total


def forget(job: str) -> None:
    """Drop what a job left in this process: resident bands, BLAS limits.

    That it was cancelled stays: its tasks may still run.
    """
    _process.resident.forget(job)
    blas_limits.restore()


def allow(job: str) -> None:
    """Let a job's tasks run in this process, also after a stage of it was stopped."""
    _process.cancelled.discard(job)


def cancel(job: str) -> None:
    """Stop a job's tasks in this process at their next step."""
    _process.cancelled.add(job)


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


def _copied(value: Any) -> Any:
    return value.copy() if isinstance(value, np.ndarray) else value


def _writable(value: Any) -> Any:
    """Arrays that came over the wire may be read-only."""
    if isinstance(value, np.ndarray) and not value.flags.writeable:
        return value.copy()
    return value


def _tell(
    topic: str, context: Context, task: Task, seconds: dict[str, float], kept_nbytes: int
) -> None:
    """Tell the client what was done, where, and how long it took."""
    from distributed import get_worker

    worker = get_worker()
    told = {
        "stage": context.stage, "task": task.key, "address": worker.address,
        "kept_nbytes": kept_nbytes, "job": context.job, "peak_nbytes": peak_nbytes(), **seconds,
    }  # fmt: skip
    worker.log_event(topic, told)
