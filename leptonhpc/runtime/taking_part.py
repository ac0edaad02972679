"""The beginning and the end of a job on its workers.

For the end its client need not wait: a slow worker, which may answer after seconds, is told by the
scheduler. And where a client is gone before it could tell anybody, the scheduler tells all workers.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from importlib.util import find_spec
from typing import Any

from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.protocol.pickle import dumps

from leptonhpc.runtime import energy, execute, memory
from leptonhpc.runtime.device import device_here

NAME = "leptonhpc-tidier"


class Tidier(SchedulerPlugin):
    """Knows which clients have jobs, and ends those of clients that are gone."""

    name = NAME
    idempotent = True

    def __init__(self) -> None:
        self.jobs: dict[str, set[str]] = {}
        """By client."""

    def remove_client(self, scheduler: Any, client: str) -> None:
        """Have all workers tidy up after the jobs that a client left.

        Parameters
        ----------
        scheduler : distributed.Scheduler
            Given by Dask.
        client : str
            Its name.
        """
        for job in self.jobs.pop(client, ()):
            _tell(scheduler, job, scheduler.workers)


async def begin_job(dask_scheduler: Any, who: str, job: str) -> None:
    """Take note of a job.

    Parameters
    ----------
    dask_scheduler : distributed.Scheduler
        Given by `Client.run_on_scheduler`.
    who : str
        The client that has it.
    job : str
        Its name.
    """
    if NAME not in dask_scheduler.plugins:
        dask_scheduler.add_plugin(Tidier())
    dask_scheduler.plugins[NAME].jobs.setdefault(who, set()).add(job)


async def end_job(dask_scheduler: Any, who: str, job: str, workers: Collection[str]) -> None:
    """Take note of a job's end, and tell workers, without waiting for them.

    Parameters
    ----------
    dask_scheduler : distributed.Scheduler
        Given by `Client.run_on_scheduler`.
    who : str
        The client that had it.
    job : str
        Its name.
    workers : collection of str
        Addresses of those that are not told yet.
    """
    tidier = dask_scheduler.plugins.get(NAME)
    if tidier is not None:  # a scheduler that was restarted has none
        tidier.jobs.get(who, set()).discard(job)
        if not tidier.jobs.get(who, True):
            del tidier.jobs[who]
    _tell(dask_scheduler, job, workers)


def take_part(paths: tuple[str, ...], job: str, metered: bool) -> tuple[str, bool]:
    """Prepare this worker for a job, and measure memory and energy anew.

    Parameters
    ----------
    paths : tuple of str
        Local folders that it must see.
    job : str
        Name of the job.
    metered : bool
        Whether to measure energy.

    Returns
    -------
    tuple of (str, bool)
        Why it cannot take part, or nothing; whether there is energy to measure.
    """
    if execute.has_ended(job):
        return "is too late", False
    execute.prepare()
    execute.allow(job)  # it may have been here before
    memory.reset_peak()
    if find_spec("prometheus_client") is not None:
        from leptonhpc.runtime.metrics import show_worker

        show_worker()
    deadline = time.monotonic() + 5
    while blind := [path for path in paths if not os.path.exists(path)]:
        if time.monotonic() > deadline:  # network file systems lag
            why = f"does not see {blind[0]!r}; use a folder that all machines share, or a URL"
            return why, False
        time.sleep(0.2)
    return "", metered and energy.begin(job, device_here())


def tidy_up(job: str) -> dict[str, float]:
    """Drop what a job left on this worker, and have its late tasks do the same.

    Parameters
    ----------
    job : str
        Its name.

    Returns
    -------
    dict of str to float
        Joules by host and sensor.
    """
    execute.end(job)
    return energy.end(job)


def _tell(scheduler: Any, job: str, workers: Collection[str]) -> None:
    there = [address for address in workers if address in scheduler.workers]
    message = {
        "op": "run", "function": dumps(tidy_up), "args": dumps((job,)), "kwargs": dumps({}),
        "wait": True,
    }  # fmt: skip
    if there and not scheduler._ongoing_background_tasks.closed:
        scheduler._ongoing_background_tasks.call_soon(
            scheduler.broadcast, msg=message, workers=there, on_error="ignore"
        )
