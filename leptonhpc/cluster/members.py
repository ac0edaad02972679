"""What a host process starts beside its scheduler: the workers of one machine, or jobs."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Any, Protocol

from distributed.security import Security

from leptonhpc.cluster.guarded import GuardedNanny, begin
from leptonhpc.cluster.launching import Launch
from leptonhpc.cluster.runs import Run
from leptonhpc.errors import WorkerError

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0


class Members(Protocol):
    """The workers of a cluster, however they are started."""

    async def start(self) -> None:
        """Start them."""

    async def tend(self) -> None:
        """Replace those that are lost, until cancelled."""

    async def close(self) -> None:
        """End them."""


def members_of(run: Run, launch: Launch, scheduler: Any, security: Security) -> Members:
    """Choose what starts the workers.

    Parameters
    ----------
    run : Run
        The run's folder.
    launch : Launch
        What was asked for.
    scheduler : distributed.Scheduler
        The scheduler, listening.
    security : Security
        Keys of all roles.

    Returns
    -------
    Members
        Not started yet.
    """
    if launch.kind == "local":
        return LocalMembers(run, launch, scheduler, security)
    if launch.kind == "in-allocation":
        from leptonhpc.cluster.steps import StepMembers

        return StepMembers(run, launch, scheduler)
    from leptonhpc.cluster.jobs import JobMembers

    return JobMembers(run, launch, scheduler)


class LocalMembers:
    """Processes of this machine, each watched by a nanny that starts it again when it dies.

    Parameters
    ----------
    run : Run
        The run's folder.
    launch : Launch
        What was asked for.
    scheduler : distributed.Scheduler
        The scheduler.
    security : Security
        Keys of all roles.
    """

    def __init__(self, run: Run, launch: Launch, scheduler: Any, security: Security) -> None:
        self._makers = {
            name: partial(
                GuardedNanny, scheduler.address, name=name, nthreads=group.threads,
                memory_limit=group.nbytes, host=launch.host, interface=launch.interface,
                protocol="tls", security=security, env=group.variables, audit=scheduler.audit,
                local_directory=str(run.scratch),
            )
            for group in launch.groups
            for name in group.worker_names
        }  # fmt: skip
        self._nannies: dict[str, GuardedNanny] = {}

    async def start(self) -> None:
        """Start all at once."""
        await asyncio.gather(*map(self._begin, self._makers))

    async def tend(self) -> None:
        """Replace nannies that gave their worker up; they start a worker that died themselves."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            for name in [n for n, nanny in self._nannies.items() if nanny.gave_up]:
                try:
                    await self._begin(name)
                except WorkerError as error:
                    del self._nannies[name]
                    logger.error("%s: given up", error)

    async def close(self) -> None:
        """End all at once."""
        await asyncio.gather(*(nanny.close(timeout=5) for nanny in self._nannies.values()))

    async def _begin(self, name: str) -> None:
        def make() -> GuardedNanny:
            self._nannies[name] = self._makers[name]()  # known before it has started: to be ended
            return self._nannies[name]

        await begin(make)
