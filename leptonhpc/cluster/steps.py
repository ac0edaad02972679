"""Workers that are tasks of the SLURM allocation that this process runs in: one step a group."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from typing import Any

from leptonhpc.cluster.groups import Group
from leptonhpc.cluster.launching import Launch
from leptonhpc.cluster.runs import Run

logger = logging.getLogger(__name__)

_END_SECONDS = 15.0


class StepMembers:
    """The steps of a run.

    Parameters
    ----------
    run : Run
        The run's folder.
    launch : Launch
        What was asked for.
    scheduler : distributed.Scheduler
        The scheduler.
    """

    def __init__(self, run: Run, launch: Launch, scheduler: Any) -> None:
        self._run, self._launch, self._scheduler = run, launch, scheduler
        self._steps: dict[str, asyncio.subprocess.Process] = {}

    async def start(self) -> None:
        """Start a step for each group."""
        for group in self._launch.groups:
            command = step_command(self._run, group)
            self._steps[group.name] = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL
            )

    async def tend(self) -> None:
        """Say when a step ended; a node that is lost takes its workers only."""
        ended = {name: asyncio.create_task(s.wait()) for name, s in self._steps.items()}
        for name, task in ended.items():
            logger.warning("the step of group %s ended with %d", name, await task)

    async def close(self) -> None:
        """End the steps: srun passes the signal on."""
        running = [s for s in self._steps.values() if s.returncode is None]
        for step in running:
            with contextlib.suppress(ProcessLookupError):
                step.terminate()
        try:
            await asyncio.wait_for(asyncio.gather(*(s.wait() for s in running)), _END_SECONDS)
        except TimeoutError:
            for step in running:
                with contextlib.suppress(ProcessLookupError):
                    step.kill()


def step_command(run: Run, group: Group) -> list[str]:
    """Give the command that starts the workers of a group.

    Parameters
    ----------
    run : Run
        The run's folder.
    group : Group
        The group.

    Returns
    -------
    list of str
        With srun; one task a worker, beside what runs in the allocation already.
    """
    return [
        *("srun", "--overlap", "--kill-on-bad-exit=0", f"--ntasks={group.workers}"),
        *(f"--cpus-per-task={group.threads}", *group.options),
        *(sys.executable, "-P", "-m", "leptonhpc.cluster.member", str(run.folder), group.name),
    ]
