"""The process behind a launcher: the scheduler, and what starts and ends its workers.

``python -P -m leptonhpc.cluster.host FOLDER`` ends, and takes everything with it, when it is told
to (SIGTERM, or a file in the folder), when the client shuts the cluster down, or when the process
that started it is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask

from leptonhpc.cluster.audit import Audit
from leptonhpc.cluster.guarded import GuardedScheduler, guard_listeners
from leptonhpc.cluster.launching import Launch, read_launch
from leptonhpc.cluster.members import Members, members_of
from leptonhpc.cluster.runs import SIGN_SECONDS, Run
from leptonhpc.cluster.security import security_of
from leptonhpc.cluster.settings import SETTINGS

_WATCH_SECONDS = 0.25
_CLOSE_SECONDS = 20.0


async def serve(run: Run, launch: Launch, *, parent: int) -> None:
    """Run a cluster until it is to end.

    Parameters
    ----------
    run : Run
        Its folder.
    launch : Launch
        What was asked for.
    parent : int
        The process that started this one.
    """
    audit = Audit(Path(launch.audit) if launch.audit else run.folder / "audit.jsonl")
    audit.begin(run=run.name, kind=launch.kind, profile=launch.profile)
    guard_listeners(audit)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    security = security_of(run.folder, role="all")
    async with GuardedScheduler(
        audit=audit, token=launch.token, host=launch.host, interface=launch.interface,
        protocol="tls", port=0, security=security, dashboard=launch.token is not None,
    ) as scheduler:  # fmt: skip
        members = members_of(run, launch, scheduler, security)
        started = asyncio.create_task(_start(run, launch, scheduler, members))
        try:
            await _ended(run, stop, scheduler, started, None if launch.detached else parent)
        finally:
            started.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await started
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(members.close(), _CLOSE_SECONDS)
            audit.note("ended", run=run.name)


async def _start(run: Run, launch: Launch, scheduler: Any, members: Members) -> None:
    address = {"address": scheduler.address, "id": scheduler.id}
    if launch.token is not None:
        address["dashboard"] = f"http://127.0.0.1:{scheduler.http_server.port}/status"
    await members.start()
    run.write(run.scheduler_file, address)
    await members.tend()


async def _ended(
    run: Run, stop: asyncio.Event, scheduler: Any, started: asyncio.Task[None], parent: int | None
) -> None:
    """Wait until there is a reason to end; what went wrong at the start is raised."""
    signed = time.monotonic()
    while not stop.is_set():
        if time.monotonic() - signed > SIGN_SECONDS:
            signed = time.monotonic()
            run.give_sign()
        if parent is not None and os.getppid() != parent:
            return
        if run.stop_file.exists():  # `down`, maybe on another machine
            return
        if scheduler.status.name not in ("init", "running"):
            return
        if started.done():
            started.result()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), _WATCH_SECONDS)


def main(arguments: list[str], *, run_async: Callable[..., None] = asyncio.run) -> int:
    """Run the cluster of a folder, then remove the folder.

    Parameters
    ----------
    arguments : list of str
        The folder, the process that waits for this one, and the file with the lock.
    run_async : callable
        What runs a coroutine.

    Returns
    -------
    int
        Exit code.
    """
    run, parent, lock = Run(Path(arguments[0])), int(arguments[1]), int(arguments[2])
    os.set_inheritable(lock, False)  # workers must not keep a dead run alive
    logging.basicConfig(level=logging.WARNING)
    launch = read_launch(run)
    sys.path[:] = list(dict.fromkeys([*launch.path, *sys.path]))
    try:
        # Dask looks for modules there first: in a folder of /tmp anybody could put some
        with dask.config.set({**SETTINGS, "temporary-directory": str(run.scratch)}):
            run_async(serve(run, launch, parent=parent))
    except Exception as error:
        # who waits for the start, or holds the cluster, reads this and removes the folder
        run.write(run.folder / "failed.json", {"reason": f"{type(error).__name__}: {error}"})
        logging.getLogger(__name__).exception("the cluster could not start or go on")
        left_alone = launch.detached and run.scheduler_file.exists()
        if left_alone or os.getppid() != parent:
            run.remove()
        return 1
    run.remove()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
