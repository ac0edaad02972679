"""Clusters that live on after the command that started them, until they are told to end."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from leptonhpc.cluster.clients import identities
from leptonhpc.cluster.connecting import SCHEDULER, connect
from leptonhpc.cluster.launching import (
    END_SECONDS,
    end_host,
    hosting,
    read_launch,
    start_host,
    wait_for_host,
)
from leptonhpc.cluster.machines import ProcessIdentity, this_machine
from leptonhpc.cluster.ownership import machine_of
from leptonhpc.cluster.profiles import load_profile
from leptonhpc.cluster.runs import Run, cancel_jobs, is_alive, live_runs, remove_dead_runs
from leptonhpc.cluster.starting import joined, launch_of
from leptonhpc.errors import LeptonError, OptionError, WorkerError

_ASK_SECONDS = 15.0
_KILL_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class RunStatus:
    """A cluster that lives."""

    run: str
    """Its name."""
    kind: str
    """Of its launcher."""
    profile: str | None
    """Of `up` or `leptonhpc cluster run`."""
    folder: str
    """Its keys and its address; `connect` takes it."""
    scheduler: str | None
    """Address; None: it is starting."""
    workers: int | None
    """That have joined; None: the scheduler does not answer."""
    wanted: int
    """Workers that were asked for; where groups have a `least`, at most."""
    dashboard: str | None
    """Address with its token: who has it sees all that the cluster does."""


def up(profile: str, *, timeout: float = 120.0) -> Path:
    """Start the cluster of a profile and leave it running.

    Parameters
    ----------
    profile : str
        As `load_profile` takes it.
    timeout : float
        Seconds that its scheduler may take.

    Returns
    -------
    Path
        The folder of its run, which `connect` takes.

    Raises
    ------
    OptionError
        If it is up already, or there is no such profile.
    WorkerError
        If it does not start.
    """
    there = _of_profile(profile)
    if there:
        message = f"the cluster of profile {profile!r} is up already: {there[0].folder}"
        raise OptionError(message)
    run, process = start_host(launch_of(load_profile(profile), detached=True, name=profile))
    try:
        wait_for_host(run, process, timeout=timeout)
    except BaseException:
        end_host(run, process)
        raise
    process.returncode = 0  # it lives on: not this process's to wait for
    return run.folder


def down(profile: str) -> int:
    """End the clusters of a profile, and remove what dead ones left.

    Parameters
    ----------
    profile : str
        As it was given to `up`, or the name of a run.

    Returns
    -------
    int
        How many ended.

    Raises
    ------
    OptionError
        If none is up.
    WorkerError
        If one does not end, such as on another machine that is gone; its keys stay.
    """
    remove_dead_runs()
    found = _of_profile(profile)
    if not found:
        there = ", ".join(run.name for run in live_runs()) or "none"
        raise OptionError(f"no cluster of profile {profile!r} is up; there are: {there}")
    for run in found:
        _end(run)
    return len(found)


def status(profile: str | None = None) -> list[RunStatus]:
    """Say which clusters of this user are up.

    Parameters
    ----------
    profile : str, optional
        Only those of this profile.

    Returns
    -------
    list of RunStatus
        One for each.
    """
    runs = live_runs() if profile is None else _of_profile(profile)
    return [_status(run) for run in runs if run.launch_file.exists()]


@contextmanager
def environment(profile: str, *, timeout: float = 600.0) -> Iterator[dict[str, str]]:
    """Give programs the cluster of a profile: the one that is up, or one for as long as they run.

    Parameters
    ----------
    profile : str
        As `load_profile` takes it.
    timeout : float
        Seconds that the start may take.

    Yields
    ------
    dict
        Variables with which ``distributed.Client()`` and `connect` find it: paths of keys, no keys.
    """
    there = _of_profile(profile)
    if there:
        yield _variables(there[0])
        return
    launch = launch_of(load_profile(profile), name=profile)
    with hosting(launch, timeout=timeout) as run:
        with joined(run, launch.awaited, timeout=timeout):
            pass
        yield _variables(run)


def _of_profile(profile: str) -> list[Run]:
    found = []
    for run in live_runs():
        with contextlib.suppress(OSError, ValueError):  # ended, or is being made
            if profile in (run.name, read_launch(run).profile):
                found.append(run)
    return found


def _status(run: Run) -> RunStatus:
    launch = read_launch(run)
    known: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        known = json.loads(run.scheduler_file.read_text())
    workers = None
    if known:
        with contextlib.suppress(LeptonError, OSError), connect(
            run.folder, timeout=_ASK_SECONDS
        ) as client:  # fmt: skip
            workers = len(identities(client))
    dashboard = known.get("dashboard")
    return RunStatus(
        run.name, launch.kind, launch.profile, str(run.folder), known.get("address"), workers,
        sum(group.workers for group in launch.groups),
        None if dashboard is None else f"{dashboard}?token={launch.token}",
    )  # fmt: skip


def _end(run: Run) -> None:
    """Ask a run to end wherever its host is; kill it only here, and only if it is that process."""
    with contextlib.suppress(FileNotFoundError):
        run.write(run.stop_file, asdict(this_machine()))
    _wait_for_end(run, END_SECONDS)
    if is_alive(run) and _kill_host(run):
        _wait_for_end(run, _KILL_SECONDS)
    if is_alive(run):
        home = machine_of(run.folder)
        where = "another machine" if home is None else home.host
        message = (
            f"the cluster {run.name} was asked to end, and had not after {END_SECONDS:g} seconds. "
            f"It was started on {where}: run `leptonhpc cluster down --profile {run.name}` there. "
            f"If that machine is gone, remove {str(run.folder)!r}"
        )
        raise WorkerError(message)
    cancel_jobs(run)
    run.remove()


def _wait_for_end(run: Run, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while is_alive(run) and time.monotonic() < deadline:
        time.sleep(0.05)


def _kill_host(run: Run) -> bool:
    with contextlib.suppress(OSError, ValueError, TypeError):
        return ProcessIdentity(**json.loads((run.folder / "host.json").read_text())).kill()
    return False


def _variables(run: Run) -> dict[str, str]:
    tls = "DASK_DISTRIBUTED__COMM__TLS__"
    return {
        SCHEDULER: str(run.scheduler_file),
        "DASK_SCHEDULER_ADDRESS": str(json.loads(run.scheduler_file.read_text())["address"]),
        "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "True",
        f"{tls}MIN_VERSION": "1.3",
        f"{tls}CA_FILE": str(run.folder / "ca.pem"),
        f"{tls}CLIENT__CERT": str(run.folder / "client.pem"),
        f"{tls}CLIENT__KEY": str(run.folder / "client-key.pem"),
    }
