"""The process of a worker on another node.

``python -P -m leptonhpc.cluster.member FOLDER GROUP [NAME]`` runs until its scheduler is gone.
It finds the scheduler and its keys in the run's folder, which all nodes see.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import dask

from leptonhpc.cluster.groups import Group
from leptonhpc.cluster.guarded import GuardedNanny, begin
from leptonhpc.cluster.launching import Launch, read_launch
from leptonhpc.cluster.runs import RUNS, Run
from leptonhpc.cluster.security import security_of
from leptonhpc.cluster.settings import SETTINGS
from leptonhpc.errors import OptionError, WorkerError

_JOIN_SECONDS = 60.0
_START_SECONDS = 300.0
"""Of one try: a hundred nodes that load Python from one file system take minutes."""
_LOOK_SECONDS = 5.0


async def serve(run: Run, launch: Launch, group: Group, name: str) -> None:
    """Run a worker until its scheduler is gone or it is told to end.

    Parameters
    ----------
    run : Run
        The run's folder.
    launch : Launch
        What was asked for.
    group : Group
        The worker's group.
    name : str
        Its name.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    make = partial(
        GuardedNanny, _scheduler_address(run), name=name, nthreads=group.threads,
        memory_limit=group.nbytes, host=launch.host, interface=launch.interface, protocol="tls",
        env=group.variables, security=security_of(run.folder, role="all"),
        local_directory=str(run.scratch), death_timeout=_START_SECONDS,
    )  # fmt: skip
    joined = asyncio.Event()
    serving = asyncio.create_task(_serve(make, joined))
    stopping = asyncio.create_task(_until_no_more(run, stop, joined))
    await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    serving.cancel()  # while it starts, too
    with contextlib.suppress(asyncio.CancelledError):
        await serving


async def _serve(make: Callable[[], GuardedNanny], joined: asyncio.Event) -> None:
    gave_up = True
    while gave_up:
        async with await begin(make) as nanny:
            joined.set()
            await nanny.finished()
        gave_up = nanny.gave_up


async def _until_no_more(run: Run, stop: asyncio.Event, joined: asyncio.Event) -> None:
    """Wait until this is told to end, or the run ends before its worker has joined."""
    while not stop.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), _LOOK_SECONDS)
        if not joined.is_set():  # later its scheduler's end is its own
            with contextlib.suppress(OSError):
                if not run.launch_file.exists():
                    return


def _scheduler_address(run: Run) -> str:
    """Wait for the file: a job may start before the scheduler has said where it listens."""
    deadline = time.monotonic() + _JOIN_SECONDS
    while not run.scheduler_file.exists():
        if time.monotonic() > deadline or not run.folder.exists():
            message = (
                f"{run.scheduler_file} is not there: the run has ended, or this node does not "
                f"see it; ${RUNS} names a folder that all nodes see"
            )
            raise WorkerError(message)
        time.sleep(0.1)
    return str(json.loads(run.scheduler_file.read_text())["address"])


def main(arguments: list[str]) -> int:
    """Run one worker.

    Parameters
    ----------
    arguments : list of str
        The run's folder, the group, and the worker's name (default: of its task in SLURM's step).

    Returns
    -------
    int
        Exit code.
    """
    run = Run(Path(arguments[0]))
    launch = read_launch(run)
    groups = {group.name: group for group in launch.groups}
    if arguments[1] not in groups:
        message = f"there are groups {sorted(groups)}; found {arguments[1]!r}"
        raise OptionError(message)
    group = groups[arguments[1]]
    name = arguments[2] if len(arguments) > 2 else f"{group.name}-{os.environ['SLURM_PROCID']}"
    sys.path[:] = list(dict.fromkeys([*launch.path, *sys.path]))
    with dask.config.set(SETTINGS):
        asyncio.run(serve(run, launch, group, name))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
