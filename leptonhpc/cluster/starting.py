"""Starting the cluster of a profile, and connecting to it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from leptonhpc.cluster.connecting import connect
from leptonhpc.cluster.devices import require_device
from leptonhpc.cluster.groups import Group
from leptonhpc.cluster.launching import Launch, hosting, last_words, new_token
from leptonhpc.cluster.profiles import Profile
from leptonhpc.cluster.runs import Run
from leptonhpc.cluster.slurm_environment import require_allocation, require_slurm
from leptonhpc.errors import OptionError, WorkerError

if TYPE_CHECKING:
    from distributed import Client

LOOPBACK = "127.0.0.1"


@contextmanager
def from_profile(
    profile: Profile, *, workers: int | None = None, timeout: float = 600.0
) -> Iterator[Client]:
    """Run what is inside on the cluster of a profile, whatever its kind.

    Parameters
    ----------
    profile : Profile
        The profile.
    workers : int, optional
        Workers to wait for; default: all; of "connect" one; of "slurm" one, or none where no
        group keeps one without work.
    timeout : float
        Seconds that they may take.

    Yields
    ------
    distributed.Client
        Connected: drivers inside run on it.
    """
    if profile.kind == "connect":
        with connect(
            profile.scheduler or "", security=profile.security, insecure=profile.insecure,
            workers=1 if workers is None else workers, timeout=timeout,
        ) as client:  # fmt: skip
            yield client
        return
    with started(launch_of(profile), timeout=timeout, wait_for=workers) as client:
        yield client


def launch_of(profile: Profile, *, detached: bool = False, name: str | None = None) -> Launch:
    """Say what the host process of a profile is asked for.

    Parameters
    ----------
    profile : Profile
        Of a kind that is started.
    detached : bool
        It lives on after this process.
    name : str, optional
        Of the profile.

    Returns
    -------
    Launch
        What is asked for.

    Raises
    ------
    OptionError
        If it cannot be started from here.
    """
    loopback = profile.interface is None
    if profile.kind == "connect":
        message = (
            f"a profile of kind connect starts nothing, {profile.scheduler!r} is there already: "
            "give it to a driver as --scheduler, or use leptonhpc.cluster.connect"
        )
        raise OptionError(message)
    if profile.kind == "in-allocation":
        require_allocation(several=loopback)
    if profile.kind == "slurm":
        require_slurm()
    elif any(group.least is not None for group in profile.groups):
        message = (
            f"least= is of groups of kind slurm, whose jobs can be given back; this is kind "
            f"{profile.kind}. Leave it out"
        )
        raise OptionError(message)
    for group in profile.groups:
        require_device(group, elsewhere=bool(profile.prologue))
    return Launch(
        profile.kind, _distinct(profile.groups), host=LOOPBACK if loopback else None,
        interface=profile.interface, token=new_token() if profile.dashboard else None,
        audit=None if profile.audit is None else str(Path(profile.audit).expanduser().absolute()),
        detached=detached, path=tuple(os.path.abspath(folder) for folder in sys.path),
        prologue=profile.prologue, profile=name, idle_seconds=profile.idle_seconds,
    )  # fmt: skip


@contextmanager
def started(launch: Launch, *, timeout: float, wait_for: int | None = None) -> Iterator[Client]:
    """Keep a cluster, and a client connected to it, while something runs inside.

    Parameters
    ----------
    launch : Launch
        What is asked for.
    timeout : float
        Seconds that the start may take.
    wait_for : int, optional
        Workers to wait for; default: those that the launch awaits.

    Yields
    ------
    distributed.Client
        Connected.
    """
    wanted = launch.awaited if wait_for is None else wait_for
    with hosting(launch, timeout=timeout) as run, ExitStack() as stack:
        yield stack.enter_context(joined(run, wanted, timeout=timeout))


@contextmanager
def joined(run: Run, workers: int, *, timeout: float) -> Iterator[Client]:
    """Keep a client of a run of this process's; where workers do not come, say what they said.

    Parameters
    ----------
    run : Run
        The run.
    workers : int
        To wait for.
    timeout : float
        Seconds that they may take.

    Yields
    ------
    distributed.Client
        Connected.
    """
    with ExitStack() as stack:
        try:
            client = stack.enter_context(connect(run.folder, workers=workers, timeout=timeout))
        except WorkerError as error:
            raise WorkerError(f"{error}. The cluster said: {last_words(run)}") from error
        yield client


def _distinct(groups: tuple[Group, ...]) -> tuple[Group, ...]:
    names = [group.name for group in groups]
    if not groups or len(set(names)) < len(names):
        message = f"a cluster needs one group or more, of different names; found {names}"
        raise OptionError(message)
    return groups
