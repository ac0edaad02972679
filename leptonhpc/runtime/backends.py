"""Where the graphs of a job run: threads of this process, or the workers of a cluster."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

from leptonhpc.cluster.clients import LOST, is_reached, reached
from leptonhpc.errors import WorkerError
from leptonhpc.kernels import Accumulator
from leptonhpc.planning import Resources, Stage
from leptonhpc.planning.costs import LIBRARIES_NBYTES
from leptonhpc.runtime import blas_limits, energy, execute, memory
from leptonhpc.runtime.adding import sum_accumulators
from leptonhpc.runtime.compile import compile_stage
from leptonhpc.runtime.device import device_here
from leptonhpc.runtime.execute import run_task
from leptonhpc.runtime.monitor import HERE, Monitor
from leptonhpc.runtime.reading import Context
from leptonhpc.runtime.report import PlacementReport
from leptonhpc.runtime.ticking import UNTOLD

Done = Mapping[str, Mapping[str, Any]]
"""Accumulators of tasks that an earlier run finished."""
Paths = tuple[str, ...]
"""Local folders that workers must see."""

PICKLED_NBYTES = 100_000_000
"""NumPy inputs up to this size are sent to workers; larger ones must be in a store."""


_alone: ContextVar[bool] = ContextVar("_alone", default=False)


@contextmanager
def in_this_process() -> Iterator[None]:
    """Run jobs in this process, also where it is a worker: a task must not wait for its own lane.

    Yields
    ------
    None
        Inside, `connected_client` gives None.
    """
    token = _alone.set(True)
    try:
        yield
    finally:
        _alone.reset(token)


@dataclass(frozen=True, slots=True)
class Used:
    """What a job used of its machines."""

    peak_nbytes: int
    """Largest memory of a worker."""
    joules: dict[str, float]
    """By host and sensor; empty where nothing tells."""


class Backend(Protocol):
    """What runs stages."""

    topic: str | None

    def begin(self, job: str, paths: Paths, resources: Resources) -> None:
        """Prepare for a job that reads and writes these local folders."""

    def compute(
        self, stage: Stage, context: Context, small: Mapping[str, Any], *, done: Done,
        monitor: Monitor, total: Accumulator | None = None,
    ) -> tuple[Accumulator, PlacementReport | None]:  # fmt: skip
        """Run a stage; give its summed accumulator, with `total` in it."""

    def take(self, stage: Stage, kept: Mapping[str, Any]) -> None:
        """Leave BLAS as it is after every stage, also one that was taken from the journal.

        What is computed between stages is then the same to the bit.
        """

    def tell(self, monitor: Monitor, state: str) -> None:
        """Let those who watch the machines see how far the job is."""

    def end(self, job: str) -> Used:
        """Drop what the job left; say what it used."""


class Threads:
    """Lanes are threads of this process: no server, no ports, no start-up time."""

    topic: str | None = None

    def __init__(self) -> None:
        self._job, self._foreign = "", 0

    def begin(self, job: str, paths: Paths, resources: Resources) -> None:
        """Start a new measurement of the peak memory."""
        self._job = job
        memory.reset_peak()
        energy.begin(job, device_here())
        # what the process held before is the user's own, not the job's
        self._foreign = max(0, memory.resident_nbytes() - LIBRARIES_NBYTES)

    def compute(
        self, stage: Stage, context: Context, small: Mapping[str, Any], *, done: Done,
        monitor: Monitor, total: Accumulator | None = None,
    ) -> tuple[Accumulator, PlacementReport | None]:  # fmt: skip
        """Run on a pool of as many threads as there are lanes, which ends with the stage."""
        from dask.callbacks import Callback
        from dask.threaded import get

        graph, key = compile_stage(stage, context, small, done=done, total=total)
        lanes = stage.lanes
        tasks = {task.key: task for task in stage.tasks}
        begun = {
            key: node.args[0].value for key, node in graph.items()
            if getattr(node, "func", None) is run_task
        }  # fmt: skip
        told = execute.listen(self._job)

        def beginning(key: Any, *_: Any) -> None:
            if key in begun:
                monitor.sent(HERE, begun[key].lane, begun[key])

        def finished(*_: Any) -> None:
            while told:
                each = told.popleft()
                task = tasks[each["task"]]
                monitor.heard(HERE, task.lane, task, each)

        execute.allow(self._job)
        pool = ThreadPoolExecutor(lanes, thread_name_prefix="leptonhpc-lane")
        try:
            with Callback(pretask=beginning, posttask=finished):
                acc: Accumulator = get(graph, key, pool=pool, num_workers=lanes)
        except BaseException:
            execute.cancel(self._job)  # lanes that still run stop at their next band
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            told.clear()  # of a stage that failed; the next one is told of its own tasks only
            memory.return_free_memory()  # what ended threads had; the next stage has others
        self.take(stage, acc)
        return acc, None

    def take(self, stage: Stage, kept: Mapping[str, Any]) -> None:
        """Leave BLAS the threads of a lane."""
        blas_limits.limit(execute.lane_cores(stage.blas_threads, device_here()))
        blas_limits.between_stages(kept)

    def tell(self, monitor: Monitor, state: str) -> None:
        """Tell nobody: there is no server."""

    def end(self, job: str) -> Used:
        """Drop resident bands; give the peak and the energy."""
        execute.forget(job)
        return Used(memory.peak_nbytes() - self._foreign, energy.end(job))


class Cluster:
    """Lanes are threads of the workers of a connected client.

    Parameters
    ----------
    client : distributed.Client
        The client.
    """

    def __init__(self, client: Any) -> None:
        self.client = client
        self.topic: str | None = None
        self._workers: Any = None
        self._job, self._stopped = "", False

    def begin(self, job: str, paths: Paths, resources: Resources) -> None:
        """Register the placement of tasks, and listen to what workers tell."""
        from leptonhpc.runtime.asking import tell_scheduler
        from leptonhpc.runtime.taking_part import begin_job
        from leptonhpc.runtime.workers import TOPIC, Workers

        self._job, self.topic = job, TOPIC
        with reached(self.client):
            tell_scheduler(self.client, begin_job, first=True, who=self.client.id, job=job)
            self._workers = Workers(self.client, resources, paths, job)
            try:
                self._workers.look()
            except BaseException:
                self._workers.close()
                raise

    def compute(
        self, stage: Stage, context: Context, small: Mapping[str, Any], *, done: Done,
        monitor: Monitor, total: Accumulator | None = None,
    ) -> tuple[Accumulator, PlacementReport | None]:  # fmt: skip
        """Deal the stage to workers and wait."""
        from leptonhpc.runtime.asking import ask
        from leptonhpc.runtime.dispatch import Dispatcher

        if self._stopped:
            ask(self.client, execute.allow, self._job, workers=self._workers.addresses)
            self._stopped = False
        blas_limits.limit(1)  # this process waits: its workers may have the same cores
        with reached(self.client):
            try:
                acc, report = Dispatcher(
                    self.client, self._workers, stage, context, small, done=done, monitor=monitor
                ).run()
            except BaseException:
                self._stopped = True
                ask(self.client, execute.cancel, self._job, workers=self._workers.addresses)
                raise
        self.take(stage, acc)
        return acc if total is None else sum_accumulators([total, acc]), report

    def take(self, stage: Stage, kept: Mapping[str, Any]) -> None:
        """Leave BLAS one thread, as while the workers compute."""
        blas_limits.limit(1)
        blas_limits.between_stages(kept)

    def tell(self, monitor: Monitor, state: str) -> None:
        """Tell the scheduler, for its metrics and its dashboard."""
        if is_reached(self.client):
            with reached(self.client):
                self._workers.tell({**monitor.facts(), **monitor.plan()}, state)

    def end(self, job: str) -> Used:
        """Drop what the job left on workers; give the largest peak, and the energy.

        Workers that are much slower than others are told, and not waited for.
        """
        from leptonhpc.runtime.asking import ask, tell_scheduler
        from leptonhpc.runtime.taking_part import end_job, tidy_up

        blas_limits.restore()
        if not is_reached(self.client):  # nobody is there to be told
            return Used(int(max(self._workers.peaks.values(), default=0)), {})
        last = self._workers.told_last()
        self._workers.close()
        awaited = [address for address in self._workers.addresses if address not in last]
        told = ask(self.client, tidy_up, job, workers=awaited)
        with suppress(*UNTOLD):
            tell_scheduler(self.client, end_job, who=self.client.id, job=job, workers=last)
        joules: dict[str, float] = {}
        for each in told.values():  # workers of one host read the same sensors
            for sensor, value in each.items() if isinstance(each, dict) else ():
                joules[sensor] = max(value, joules.get(sensor, 0.0))
        return Used(int(max(self._workers.peaks.values(), default=0)), joules)


def connected_client() -> Any | None:
    """Give the connected `distributed.Client`, or None; never starts anything."""
    distributed = sys.modules.get("distributed")
    if distributed is None or _alone.get():
        return None
    try:
        client = distributed.get_client()
    except ValueError:
        return None
    if client.status == "connecting":  # it was connected: to compute here is not what was asked
        raise WorkerError(LOST)
    return client if is_reached(client) else None
