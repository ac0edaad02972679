"""Starting the host process of a cluster, waiting for it, and ending it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from leptonhpc.cluster.groups import Group, group_from
from leptonhpc.cluster.machines import identify
from leptonhpc.cluster.runs import Run, cancel_jobs, new_run
from leptonhpc.cluster.security import make_keys
from leptonhpc.errors import StoreError, WorkerError

END_SECONDS = 30.0
"""A host process that has not ended by then is killed; its workers die with it."""
_POLL_SECONDS = 0.05
_BAD = re.compile(r"WARNING|ERROR|^([a-z_]+\.)*[A-Z]\w*(Error|Exception|Exit)\b")
"""In a line of a log that says what went wrong, such as the last one of a traceback."""


@dataclass(frozen=True, slots=True)
class Launch:
    """What a host process is asked for."""

    kind: str
    """"local", "slurm" or "in-allocation"."""
    groups: tuple[Group, ...]
    host: str | None = None
    """Address to listen on; without an interface."""
    interface: str | None = None
    token: str | None = None
    """Of the dashboard; None: it does not listen."""
    audit: str | None = None
    """Path of the audit log; None: in the run's folder."""
    detached: bool = False
    """Lives on after the process that started it."""
    path: tuple[str, ...] = ()
    """Where modules are found."""
    prologue: tuple[str, ...] = ()
    """Lines of a SLURM job's script before the worker."""
    profile: str | None = None
    """Name of the profile that it was made of."""
    idle_seconds: float = 60.0
    """Without work for so long, SLURM jobs beyond the least of a group are given back."""

    @property
    def awaited(self) -> int:
        """Workers to wait for at the start, if nobody says how many: one of SLURM's is enough."""
        kept = sum(group.kept for group in self.groups)
        return min(1, kept) if self.kind == "slurm" else kept


def new_token() -> str:
    """Give a token that nobody can guess.

    Returns
    -------
    str
        43 letters, 256 bits.
    """
    return secrets.token_urlsafe(32)


def read_launch(run: Run) -> Launch:
    """Read what a run was asked for.

    Parameters
    ----------
    run : Run
        Its folder.

    Returns
    -------
    Launch
        What was asked for.
    """
    known: dict[str, Any] = json.loads(run.launch_file.read_text())
    groups = tuple(group_from(g.pop("name"), g) for g in known.pop("groups"))
    for name in ("path", "prologue"):
        known[name] = tuple(known[name])
    return Launch(groups=groups, **known)


@contextlib.contextmanager
def hosting(launch: Launch, *, timeout: float) -> Iterator[Run]:
    """Keep a host process while something runs inside.

    Parameters
    ----------
    launch : Launch
        What is asked for.
    timeout : float
        Seconds that the start may take.

    Yields
    ------
    Run
        With its scheduler listening.

    Raises
    ------
    WorkerError
        If it does not start.
    """
    run, process = start_host(launch)
    try:
        wait_for_host(run, process, timeout=timeout)
        yield run
    finally:
        end_host(run, process)


def start_host(launch: Launch) -> tuple[Run, subprocess.Popen[bytes]]:
    """Start a host process.

    Parameters
    ----------
    launch : Launch
        What is asked for.

    Returns
    -------
    tuple of (Run, Popen)
        Its run and the process.
    """
    run, lock = new_run(launch.kind)
    try:
        _prepare(run, launch)
        with open(run.log_file, "wb", opener=_private) as log:
            process = subprocess.Popen(
                [
                    # -P: the folder that this happens to run in holds no modules
                    *(sys.executable, "-P", "-m", "leptonhpc.cluster.host"),
                    *(str(run.folder), str(os.getpid()), str(lock)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[lock],
                start_new_session=True,  # Ctrl-C is the client's
            )
        run.write(run.folder / "host.json", asdict(identify(process.pid)))
    except BaseException:
        run.remove()
        raise
    finally:
        os.close(lock)
    return run, process


def _prepare(run: Run, launch: Launch) -> None:
    try:
        make_keys(run.folder)
        run.write(
            run.launch_file, {**asdict(launch), "groups": [g.to_dict() for g in launch.groups]}
        )
    except OSError as error:
        message = f"the keys of a run cannot be written in {str(run.folder.parent)!r}: {error}"
        raise StoreError(message) from error


def wait_for_host(run: Run, process: subprocess.Popen[bytes], *, timeout: float) -> None:
    """Wait until the scheduler listens.

    Parameters
    ----------
    run : Run
        The run.
    process : Popen
        Its host.
    timeout : float
        Seconds.

    Raises
    ------
    WorkerError
        If it ended, or the time is over.
    """
    deadline = time.monotonic() + timeout
    while not run.scheduler_file.exists():
        if process.poll() is not None:
            message = f"the cluster did not start: {_reason(run, process.returncode)}"
            raise WorkerError(message)
        if time.monotonic() > deadline:
            message = f"the cluster did not start within {timeout:g} seconds: {last_words(run)}"
            raise WorkerError(message)
        time.sleep(_POLL_SECONDS)


def end_host(run: Run, process: subprocess.Popen[bytes]) -> None:
    """End a host process and remove its folder.

    Parameters
    ----------
    run : Run
        The run.
    process : Popen
        Its host.
    """
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if run.folder.exists():  # the host removes it, unless it was killed
        cancel_jobs(run)
        run.remove()


def last_words(run: Run) -> str:
    """Give the last warnings of a host process and of SLURM jobs, or whatever they said last.

    Parameters
    ----------
    run : Run
        The run.

    Returns
    -------
    str
        Up to three lines of each of three logs as one.
    """
    said = _end_of(run.log_file)
    with contextlib.suppress(OSError):
        logs = sorted((run.folder / "logs").iterdir(), key=lambda log: log.stat().st_mtime)
        for log in logs[-2:]:
            said += [f"{log.name}: {line}" for line in _end_of(log)]
    return "; ".join(said) or "nothing"


def _end_of(log: Path) -> list[str]:
    with contextlib.suppress(OSError):
        lines = log.read_text(errors="replace").strip().splitlines()
        bad = [line for line in lines if _BAD.search(line)]
        return (bad or lines)[-3:]
    return []


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _reason(run: Run, code: int) -> str:
    failed = run.folder / "failed.json"
    with contextlib.suppress(OSError, ValueError, KeyError):
        return str(json.loads(failed.read_text())["reason"])
    return f"exit code {code}; {last_words(run)}"
