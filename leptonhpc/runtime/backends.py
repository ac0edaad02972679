"""Where the graphs of a job run: threads of this process, or the workers of a cluster."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from leptonhpc.kernels import Accumulator
from leptonhpc.planning import Resources, Stage
from leptonhpc.planning.costs import LIBRARIES_NBYTES
from leptonhpc.runtime import blas_limits, execute, memory
from leptonhpc.runtime.compile import compile_stage
from leptonhpc.runtime.execute import run_task, sum_accumulators
from leptonhpc.runtime.reading import Context
from leptonhpc.runtime.report import PlacementReport

Done = Mapping[str, Mapping[str, Any]]
"""Accumulators of tasks that an earlier run finished."""
Paths = tuple[str, ...]
"""Local folders that workers must see."""

PICKLED_NBYTES = 100_000_000
"""NumPy inputs up to this size are sent to workers; larger ones must be in a store."""


class Backend(Protocol):
    """What runs stages."""

    topic: str | None

    def begin(self, job: str, paths: Paths, resources: Resources) -> None:
        """Prepare for a job that reads and writes these local folders."""

    def compute(
        self, stage: Stage, context: Context, small: Mapping[str, Any], *, done: Done,
        advance: Callable[[], None], total: Accumulator | None = None,
    ) -> tuple[Accumulator, PlacementReport | None]:  # fmt: skip
        """Run a stage; give its summed accumulator, with `total` in it."""

    def end(self, job: str) -> int:
        """Drop what the job left; give the largest peak memory of a worker."""


class Threads:
    """Lanes are threads of this process: no server, no ports, no start-up time."""

    topic: str | None = None

    def __init__(self) -> None:
        self._job, self._foreign = "", 0

    def begin(self, job: str, paths: Paths, resources: Resources) -> None:
        """Start a new measurement of the peak memory."""
        self._job = job
        memory.reset_peak()
        # what the process held before is the user's own, not the job's
        self._foreign = max(0, memory.resident_nbytes() - LIBRARIES_NBYTES)

    def compute(
        self, stage: Stage, context: Context, small: Mapping[str, Any], *, done: Done,
        advance: Callable[[], None], total: Accumulator | None = None,
    ) -> tuple[Accumulator, PlacementReport | None]:  # fmt: skip
        """Run on a pool of as many threads as there are lanes, which ends with the stage."""
        from dask.callbacks import Callback
        from dask.threaded import get

        graph, key = compile_stage(stage, context, small, done=done, total=total)
        lanes = stage.lanes
        tasks = {k for k, t in graph.items() if getattr(t, "func", None) is run_task}

        def finished(done: Any, *_: Any) -> None:
            if done in tasks:
                advance()

        execute.allow(self._job)
        pool = ThreadPoolExecutor(lanes, thread_name_prefix="leptonhpc-lane")
        try:
            with Callback(posttask=finished):
                acc: Accumulator = get(graph, key, pool=pool, num_workers=lanes)
        except BaseException:
            execute.cancel(self._job)  # lanes that still run stop at their next band
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            memory.return_free_memory()  # what ended threads had; the next stage has others
        blas_limits.between_stages(acc)
        return acc, None

    def end(self, job: str) -> int:
        """Drop resident bands; give the peak."""
        execute.forget(job)
        return memory.peak_nbytes() - self._foreign


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
        from leptonhpc.runtime.workers import TOPIC, Workers

        self._job, self.topic = job, TOPIC
        self._workers = Workers(self.client, resources, paths, job)
        try:
            self._workers.look()
        except BaseException:
            self._workers.close()
            raise

    def compute(
        self, stage: Stage, context: Context, small: Mapping[str, Any], *, done: Done,
        advance: Callable[[], None], total: Accumulator | None = None,
    ) -> tuple[Accumulator, PlacementReport | None]:  # fmt: skip
        """Deal the stage to workers and wait."""
        from leptonhpc.runtime.asking import ask
        from leptonhpc.runtime.dispatch import Dispatcher

        if self._stopped:
            ask(self.client, execute.allow, self._job, workers=self._workers.addresses)
            self._stopped = False
        blas_limits.limit(1)  # this process waits: its workers may have the same cores
        try:
            acc, report = Dispatcher(
                self.client, self._workers, stage, context, small, done=done, advance=advance
            ).run()
        except BaseException:
            self._stopped = True
            ask(self.client, execute.cancel, self._job, workers=self._workers.addresses)
            raise
        blas_limits.between_stages(acc)
        return acc if total is None else sum_accumulators([total, acc]), report

    def end(self, job: str) -> int:
        """Drop what the job left on workers; give the largest peak."""
        from leptonhpc.runtime.asking import ask

        self._workers.close()
        blas_limits.restore()
        ask(self.client, execute.forget, job, workers=self._workers.addresses)
        return int(max(self._workers.peaks.values(), default=0))


def connected_client() -> Any | None:
    """Give the connected `distributed.Client`, or None; never starts anything."""
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return None
    try:
        client = distributed.get_client()
    except ValueError:
        return None
    return client if client.status == "running" else None
