"""Where the graphs of a job run: threads of this process, or the workers of a cluster."""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from leptonhpc.errors import WorkerError
from leptonhpc.planning.costs import LIBRARIES_NBYTES
from leptonhpc.runtime import blas_limits, execute, memory
from leptonhpc.runtime.execute import run_task

PICKLED_NBYTES = 100_000_000
"""NumPy inputs up to this size are sent to workers; larger ones must be in a store."""


class Backend(Protocol):
    """What runs graphs."""

    owners: tuple[str, ...]
    topic: str | None

    def begin(self, job: str) -> None:
        """Prepare for a job."""

    def compute(
        self, graph: dict[str, Any], key: str, advance: Callable[[], None], lanes: int
    ) -> Any:
        """Give the value of one key."""

    def end(self, job: str) -> int:
        """Drop what the job left; give the largest peak memory of a worker."""


class Threads:
    """Lanes are threads of this process: no server, no ports, no start-up time."""

    owners: tuple[str, ...] = ()
    topic: str | None = None

    def __init__(self) -> None:
        self._job, self._foreign = "", 0

    def begin(self, job: str) -> None:
        """Start a new measurement of the peak memory."""
        self._job = job
        memory.reset_peak()
        # what the process held before is the user's own, not the job's
        self._foreign = max(0, memory.resident_nbytes() - LIBRARIES_NBYTES)

    def compute(
        self, graph: dict[str, Any], key: str, advance: Callable[[], None], lanes: int
    ) -> Any:
        """Run on a pool of as many threads as there are lanes, which ends with the stage."""
        from dask.callbacks import Callback
        from dask.threaded import get

        tasks = {k for k, t in graph.items() if getattr(t, "func", None) is run_task}

        def finished(done: Any, *_: Any) -> None:
            if done in tasks:
                advance()

        execute.allow(self._job)
        pool = ThreadPoolExecutor(lanes, thread_name_prefix="leptonhpc-lane")
        try:
            with Callback(posttask=finished):
                return get(graph, key, pool=pool, num_workers=lanes)
        except BaseException:
            execute.cancel(self._job)  # lanes that still run stop at their next band
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            memory.return_free_memory()  # what ended threads had; the next stage has others
            blas_limits.restore()  # what is solved between stages has all cores

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
        self.owners: tuple[str, ...] = tuple(sorted(_workers(client)))
        self.topic: str | None = None
        self._job, self._stopped = "", False
        if not self.owners:
            message = "the connected cluster has no workers; start some, or close the client"
            raise WorkerError(message)

    def begin(self, job: str) -> None:
        """Register the placement of tasks, and listen to what workers tell."""
        from leptonhpc.runtime.placed import Placer

        self._job = job
        self.topic = f"leptonhpc-{job}"
        self._advance: Callable[[], None] = lambda: None
        missing = [w for w, ok in self.client.run(_is_installed).items() if not ok]
        if missing:
            message = f"leptonhpc is not installed on {', '.join(missing)}"
            raise WorkerError(message)
        self.client.register_plugin(Placer())
        self.client.run(memory.reset_peak)
        self.client.subscribe_topic(self.topic, lambda _event: self._advance())

    def compute(
        self, graph: dict[str, Any], key: str, advance: Callable[[], None], lanes: int
    ) -> Any:
        """Submit the graph as it is and wait."""
        self._advance = advance
        if self._stopped:
            self.client.run(execute.allow, self._job)
            self._stopped = False
        future = self.client.get(graph, [key], sync=False, optimize_graph=False)[0]
        try:
            while True:
                try:
                    return future.result(timeout=1)
                except TimeoutError:
                    if future.status in ("error", "cancelled"):
                        raise
                    if not _workers(self.client):
                        message = "all workers of the cluster are gone"
                        raise WorkerError(message) from None
        except BaseException:
            self._stopped = True
            self.client.run(execute.cancel, self._job)
            future.cancel()
            raise

    def end(self, job: str) -> int:
        """Drop what the job left on workers; give the largest peak."""
        if self.topic is not None:
            self.client.unsubscribe_topic(self.topic)
        self.client.run(execute.forget, job)
        return max(self.client.run(memory.peak_nbytes).values(), default=0)

    def require_visible(self, path: str) -> None:
        """Refuse a local folder that workers do not see."""
        deadline = time.monotonic() + 5
        while True:
            blind = [w for w, ok in self.client.run(os.path.exists, path).items() if not ok]
            if not blind:
                return
            if time.monotonic() > deadline:  # network file systems lag
                message = (
                    f"workers {', '.join(blind)} do not see {path!r}; use a folder that all "
                    "machines share, or a URL"
                )
                raise WorkerError(message)
            time.sleep(0.2)


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


def _workers(client: Any) -> dict[str, Any]:
    workers: dict[str, Any] = client.scheduler_info(n_workers=-1)["workers"]
    return workers


def _is_installed() -> bool:
    return importlib.util.find_spec("leptonhpc") is not None
