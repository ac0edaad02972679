"""Jobs as the scheduler knows them: what clients tell it, for its metrics and its dashboard."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

from distributed.diagnostics.plugin import SchedulerPlugin

from leptonhpc.cluster.demand import NAME as DEMAND

NAME = "leptonhpc-board"
_MOST_JOBS = 20
"""Of the latest jobs the facts are kept."""
_KEPT_SECONDS = 300.0
"""So long after its end a job is in the metrics."""
LOST_SECONDS = 30.0
"""A job that runs is told of every second: after so long its client is gone."""


@dataclass
class Posted:
    """What was told last of one job."""

    facts: Mapping[str, Any]
    told: str
    """"running", "done" or "failed"."""
    at_seconds: float = field(default_factory=time.monotonic)

    @property
    def state(self) -> str:
        """What was told, or "lost" if a job that ran is not told of any more."""
        silent = time.monotonic() - self.at_seconds > LOST_SECONDS
        return "lost" if silent and self.told == "running" else self.told


class Board(SchedulerPlugin):
    """Keeps what clients post of their jobs.

    Where the scheduler's HTTP server listens, it shows them at ``/metrics`` if prometheus_client is
    installed, and at ``/leptonhpc`` if bokeh is: both behind whatever guards that server.
    """

    name = NAME
    idempotent = True

    def __init__(self) -> None:
        self.jobs: dict[str, Posted] = {}

    async def start(self, scheduler: Any) -> None:
        """Show what is posted, where somebody can look.

        Parameters
        ----------
        scheduler : distributed.Scheduler
            Given by Dask.
        """
        if not getattr(scheduler.http_server, "port", None):
            return
        if find_spec("prometheus_client") is not None:
            from leptonhpc.runtime.metrics import show_board

            show_board(self)
        if find_spec("bokeh") is not None:
            from leptonhpc.runtime.plan_page import add_page

            add_page(scheduler, self)

    def post(self, facts: Mapping[str, Any], state: str) -> None:
        """Take note of a job.

        Parameters
        ----------
        facts : mapping
            As `Monitor.facts` and `Monitor.plan` give them.
        state : str
            "running", "done" or "failed".
        """
        self.jobs.pop(facts["run"], None)
        self.jobs[facts["run"]] = Posted(facts, state)
        while len(self.jobs) > _MOST_JOBS:
            del self.jobs[next(iter(self.jobs))]

    def recent(self) -> list[Posted]:
        """Give jobs that run, or ended a short while ago."""
        now = time.monotonic()
        return [
            job
            for job in self.jobs.values()
            if job.state == "running" or now - job.at_seconds < _KEPT_SECONDS
        ]

    def latest(self) -> Posted | None:
        """Give the job that was told of last, one that runs if there is any."""
        jobs = list(self.jobs.values())
        running = [job for job in jobs if job.state == "running"]
        shown = running or jobs
        return shown[-1] if shown else None


async def post(dask_scheduler: Any, facts: Mapping[str, Any], state: str, workers: int = 0) -> None:
    """Take note of a job, on the scheduler.

    Parameters
    ----------
    dask_scheduler : distributed.Scheduler
        Given by `Client.run_on_scheduler`.
    facts : mapping
        As `Monitor.facts` and `Monitor.plan` give them.
    state : str
        "running", "done" or "failed".
    workers : int
        How many it could use: a launcher may start so many.
    """
    demand = dask_scheduler.extensions.get(DEMAND)
    if demand is not None:
        demand.tell(facts["run"], workers)
    board = dask_scheduler.plugins.get(NAME)
    if board is not None:  # a scheduler that was restarted has none
        board.post(facts, state)
