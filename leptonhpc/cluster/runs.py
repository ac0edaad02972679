"""The folder of a run: its keys, its address, its logs. It is locked for as long as the run lives.

A run that was killed leaves its folder unlocked: the next one that starts removes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leptonhpc.cluster.certificates import LIFETIME, write_private
from leptonhpc.errors import StoreError

RUNS = "LEPTONHPC_RUNS"
"""Environment variable: the folder of all runs, on a file system that all nodes see."""
_MAKING = "."
"""Begins the name of a folder that is in the making, for no longer than a minute."""
_MAKING_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Run:
    """One run, by its folder."""

    folder: Path

    @property
    def name(self) -> str:
        """Name of the run, as `leptonhpc cluster status` shows it."""
        return self.folder.name

    @property
    def scheduler_file(self) -> Path:
        """File with the scheduler's address; there once the scheduler listens."""
        return self.folder / "scheduler.json"

    @property
    def launch_file(self) -> Path:
        """File with what the run was asked for."""
        return self.folder / "launch.json"

    @property
    def log_file(self) -> Path:
        """File with what the host process says."""
        return self.folder / "host.log"

    @property
    def jobs_file(self) -> Path:
        """File with the ids of the run's SLURM jobs, one a line."""
        return self.folder / "jobs"

    @property
    def scratch(self) -> Path:
        """Folder of the workers: all but empty, as nothing is spilled."""
        return self.folder / "scratch"

    def write(self, path: Path, content: dict[str, Any]) -> None:
        """Write one of its JSON files.

        Parameters
        ----------
        path : path
            The file.
        content : dict
            What it holds.
        """
        write_private(path, json.dumps(content))

    def remove(self) -> None:
        """Remove the folder and all that is in it."""
        for _ in range(3):  # a worker that is dying may still write
            shutil.rmtree(self.folder, ignore_errors=True)
            if not self.folder.exists():
                return
            time.sleep(0.2)


def runs_folder() -> Path:
    """Give the folder of all runs: $LEPTONHPC_RUNS, or one in the user's home.

    Returns
    -------
    Path
        Made if it was not there, for its owner only.

    Raises
    ------
    StoreError
        If it belongs to somebody else.
    """
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    folder = Path(os.environ.get(RUNS) or Path(base) / "leptonhpc" / "runs").absolute()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        message = f"the folder of runs must be yours; {str(folder)!r} is not. Set ${RUNS}"
        raise StoreError(message)
    folder.chmod(0o700)
    return folder


def new_run(kind: str) -> tuple[Run, int]:
    """Make the folder of a run, after those of dead ones were removed.

    Parameters
    ----------
    kind : str
        Begins its name.

    Returns
    -------
    tuple of (Run, int)
        The run, and the open file that holds its lock until the last process that has it ends.
    """
    remove_dead_runs()
    folder = runs_folder() / f"{kind}-{uuid.uuid4().hex[:10]}"
    making = folder.with_name(f"{_MAKING}{folder.name}")
    making.mkdir(mode=0o700)
    descriptor = os.open(making / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    with contextlib.suppress(OSError):  # no locks here: such a run counts as alive until it expires
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    os.write(descriptor, socket.gethostname().encode())
    making.rename(folder)  # locked before others can see it: none takes it for a dead one
    return Run(folder), descriptor


def live_runs() -> list[Run]:
    """Give the runs whose host process lives.

    Returns
    -------
    list of Run
        In the order of their names.
    """
    return [r for r in _all_runs() if not r.name.startswith(_MAKING) and not _is_dead(r)]


def remove_dead_runs() -> list[Run]:
    """Remove what killed runs left: their SLURM jobs, keys and files.

    Returns
    -------
    list of Run
        Those that were removed.
    """
    dead = [run for run in _all_runs() if _is_dead(run)]
    for run in dead:
        cancel_jobs(run)
        run.remove()
    return dead


def cancel_jobs(run: Run) -> None:
    """Cancel the SLURM jobs of a run, if it has any.

    Parameters
    ----------
    run : Run
        The run.
    """
    with contextlib.suppress(OSError):
        jobs = run.jobs_file.read_text().split()
        if jobs:
            subprocess.run(["scancel", *jobs], capture_output=True, timeout=60, check=False)


def _all_runs() -> Iterator[Run]:
    for folder in sorted(runs_folder().iterdir()):
        if folder.is_dir() and not folder.is_symlink():
            yield Run(folder)


def _is_dead(run: Run) -> bool:
    """Say whether nobody holds the lock: the kernel lets it go with the last process."""
    try:
        age = time.time() - run.folder.stat().st_mtime
        if run.name.startswith(_MAKING):
            return age > _MAKING_SECONDS
        descriptor = os.open(run.folder / "lock", os.O_RDWR)
    except FileNotFoundError:
        return run.folder.exists()  # somebody began to remove it, and was killed
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return age > LIFETIME.total_seconds()
    finally:
        os.close(descriptor)
    return True
