"""How many workers the work of a cluster could use: clients tell, and its scheduler sees.

A job of leptonhpc hands its tasks out little by little, so its scheduler does not know how many
are left: the client tells, once a second. Of other tasks the scheduler knows all.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from leptonhpc.cluster.clients import identities, identity, reached, workers_in
from leptonhpc.cluster.groups import Group

logger = logging.getLogger(__name__)

NAME = "leptonhpc-demand"
"""Of the scheduler's extension."""
TOLD_SECONDS = 30.0
"""What a client told holds for so long: then it is gone."""
_CALL_SECONDS = 10.0
"""So long one worker is wanted for a plan, which asks it how fast it is; a job tells more."""
_LOOK_SECONDS = 0.5
_QUIET_SECONDS = 5.0


class Demand:
    """What a scheduler knows of the work.

    Parameters
    ----------
    scheduler : distributed.Scheduler
        The scheduler; those who run a function there find this among its extensions.
    groups : sequence of Group
        What the launcher can start.
    """

    def __init__(self, scheduler: Any, groups: Sequence[Group]) -> None:
        self._scheduler, self._groups = scheduler, groups
        self._told: dict[str, tuple[int, float]] = {}
        self.told_at = time.monotonic()
        """When somebody last told anything."""
        self.giving_back = asyncio.Lock()
        """Held while workers are given back: who tells meanwhile waits, then looks who is left."""
        self.given_up: set[str] = set()
        """Names of workers that will not come."""
        scheduler.extensions[NAME] = self

    def tell(
        self, who: str, workers: int, seconds: float = TOLD_SECONDS, *, at_least: bool = False
    ) -> None:
        """Take note of what somebody could use.

        Parameters
        ----------
        who : str
            A job, or a client that waits.
        workers : int
            How many; 0: no more.
        seconds : float
            How long that holds, unless it is told again.
        at_least : bool
            More, or for longer, stays as it was told before.
        """
        self.told_at = time.monotonic()
        until = self.told_at + seconds
        before, held = self._told.pop(who, (0, 0.0))
        if at_least and held > self.told_at:
            workers, until = max(workers, before), max(until, held)
        if workers:
            self._told[who] = (workers, until)

    def workers(self) -> int:
        """Give how many workers could work; 0: there is nothing to do."""
        now = time.monotonic()
        self._told = {who: told for who, told in self._told.items() if told[1] > now}
        tasks = len(self._scheduler.unrunnable) + len(self._scheduler.queued)
        tasks += sum(len(ws.processing) for ws in self._scheduler.workers.values())
        threads = min(group.threads for group in self._groups)
        # a job's tasks that are under way are among both
        return max(sum(told[0] for told in self._told.values()), math.ceil(tasks / threads))

    def holds(self) -> bool:
        """Say whether workers have results in memory, which somebody may want."""
        return any(ws.has_what for ws in self._scheduler.workers.values())

    def to_dict(self) -> dict[str, Any]:
        """Give what clients are told: how many workers each group may have, and of which size."""
        return {
            group.name: {
                "workers": sum(name not in self.given_up for name in group.worker_names),
                "threads": group.threads,
                "memory_nbytes": group.nbytes,
                "adaptive": group.least is not None,
            }
            for group in self._groups
        }


def missing(
    groups: Sequence[Group], there: Collection[str], wanted: int, *, given_up: Collection[str] = ()
) -> list[str]:
    """Choose workers to start: what each group always has, then what work wants, group by group.

    Parameters
    ----------
    groups : sequence of Group
        The groups; the first are filled first.
    there : collection of str
        Names of workers that were started.
    wanted : int
        How many there should be in all.
    given_up : collection of str
        Names not to start again.

    Returns
    -------
    list of str
        Their names.
    """
    names: list[str] = []
    rest: list[str] = []
    for group in groups:
        free = [n for n in group.worker_names if n not in there and n not in given_up]
        kept = max(0, group.kept - sum(n in there for n in group.worker_names))
        names += free[:kept]
        rest += free[kept:]
    return names + rest[: max(0, wanted - len(there) - len(names))]


def dispensable(
    groups: Sequence[Group], there: Collection[str], joined: Collection[str]
) -> list[str]:
    """Choose workers to give back when there is no work: those that only wait are first.

    Parameters
    ----------
    groups : sequence of Group
        The groups.
    there : collection of str
        Names of workers that were started.
    joined : collection of str
        Names of those that the scheduler has.

    Returns
    -------
    list of str
        Their names.
    """
    names: list[str] = []
    for group in groups:
        ours = sorted((n for n in group.worker_names if n in there), key=lambda n: n not in joined)
        names += ours[group.kept :]
    return names


def coming(client: Any) -> dict[str, dict[str, Any]]:
    """Say what the launcher of a cluster has started, or starts when there is work.

    Parameters
    ----------
    client : distributed.Client
        The client.

    Returns
    -------
    dict of str to dict
        By group ``workers`` (how many at most), ``threads`` and ``memory_nbytes`` of each, and
        whether it is ``adaptive``; empty where no launcher of ours submits jobs.
    """
    return _groups_in(identity(client))


def call_for(client: Any, workers: int, *, seconds: float = TOLD_SECONDS) -> bool:
    """Ask the launcher of a cluster for workers, in place of what this thread asked for before.

    Jobs in other threads share the client: what each asks for is added up.

    Parameters
    ----------
    client : distributed.Client
        The client.
    workers : int
        How many there should be; 0: what this thread asked for is not needed any more.
    seconds : float
        How long that holds.

    Returns
    -------
    bool
        Whether any may come.
    """
    return _call(client, identity(client), workers, seconds)


def present(client: Any) -> dict[str, Any]:
    """Give the workers of a cluster; if there is none and some will come, the first of them.

    Where they are given back without work, the time until then begins anew.

    Parameters
    ----------
    client : distributed.Client
        The client.

    Returns
    -------
    dict of str to dict
        As `identities` gives them.

    Raises
    ------
    WorkerError
        If the scheduler cannot be reached any more.
    """
    began, said = time.monotonic(), False
    while True:
        answer = identity(client)
        if not _call(client, answer, 1, _CALL_SECONDS, at_least=True):
            return workers_in(answer)
        found = identities(client)  # what was being given back is not among them
        if found:
            return found
        if not said and time.monotonic() - began > _QUIET_SECONDS:
            logger.warning("waiting for the first worker: its job is in SLURM's queue, or starts")
            said = True
        time.sleep(_LOOK_SECONDS)


def _groups_in(answer: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: group for name, group in answer.get(NAME, {}).items() if group["workers"]}


def _call(
    client: Any, answer: Mapping[str, Any], workers: int, seconds: float, *, at_least: bool = False
) -> bool:
    if not _groups_in(answer):
        return False
    with reached(client):
        client.run_on_scheduler(
            _tell, who=f"{client.id}/{threading.get_ident()}", workers=workers, seconds=seconds,
            at_least=at_least,
        )  # fmt: skip
    return True


async def _tell(
    dask_scheduler: Any, who: str, workers: int, seconds: float, at_least: bool
) -> None:
    demand = dask_scheduler.extensions[NAME]
    async with demand.giving_back:
        demand.tell(who, workers, seconds, at_least=at_least)
