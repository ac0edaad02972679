"""The folder of a run: its keys, its address, its logs. It is locked for as long as the run lives.

A run that was killed leaves its folder unlocked: the next one that starts on that machine removes
it. Another machine may not see its locks, so it waits until there was no sign of life for long.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import stat
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leptonhpc.cluster.certificates import write_private
from leptonhpc.cluster.machines import Machine
from leptonhpc.cluster.ownership import KINDS, MAKING, machine_of, mark, remove_ours
from leptonhpc.errors import OptionError, StoreError

RUNS = "LEPTONHPC_RUNS"
"""Environment variable: the folder of all runs, on a file system that all nodes see."""
PRIVATE = "leptonhpc-runs"
"""Folder of the runs in one that others can enter."""
SIGN_SECONDS = 3600.0
"""A run that lives touches its folder so often."""
SILENT_SECONDS = 30 * 86400.0
"""Of a folder without a sign of life: then other machines take the run for dead."""
_MAKING_SECONDS = 60.0
"""A folder that was killed in the making is removed after that."""
_CANCEL_SECONDS = 60.0


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

    @property
    def stop_file(self) -> Path:
        """File that ends the run once it is there, on whichever machine its host is."""
        return self.folder / "stop"

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

    def give_sign(self) -> None:
        """Show machines that see no locks that the run lives."""
        with contextlib.suppress(OSError):  # a file system that is away: the next time will do
            os.utime(self.folder)

    def remove(self) -> None:
        """Remove the folder and all that is in it."""
        remove_ours(self.folder)


def runs_folder() -> Path:
    """Give the folder of all runs: $LEPTONHPC_RUNS, or one in the user's home.

    A folder that is there already is used as it is if only its owner can enter it; if others can,
    the runs are in a private folder within, and it stays open to them.

    Returns
    -------
    Path
        Made if it was not there, for its owner only.

    Raises
    ------
    StoreError
        If it belongs to somebody else, others can enter it, or it cannot be made.
    """
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    folder = Path(os.environ.get(RUNS) or Path(base) / "leptonhpc" / "runs").absolute()
    try:
        for place in (*reversed(folder.parents), folder):
            if not place.exists():
                place.mkdir(mode=0o700, exist_ok=True)  # whatever the umask: who may rename it?
        found = folder.stat()
    except OSError as error:
        message = f"the folder of runs cannot be made: {error}. Set ${RUNS} to a folder of yours"
        raise StoreError(message) from error
    if found.st_uid == os.getuid() and found.st_mode & 0o077:
        folder = folder / PRIVATE
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        found = folder.lstat()
    private = stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o077
    if found.st_uid != os.getuid() or not private:
        message = (
            f"the folder of runs must be yours, and open to nobody else; {str(folder)!r} is not. "
            f"Set ${RUNS}"
        )
        raise StoreError(message)
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

    Raises
    ------
    OptionError
        If there is no such kind.
    StoreError
        If its folder cannot be written, such as on a full disk.
    """
    if kind not in KINDS:
        raise OptionError(f"a run is of kind {', '.join(KINDS)}; found {kind!r}")
    remove_dead_runs()
    folder = runs_folder() / f"{kind}-{uuid.uuid4().hex[:10]}"
    making = folder.with_name(f"{MAKING}{folder.name}")
    try:
        making.mkdir(mode=0o700)
        mark(making)
        descriptor = os.open(making / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        with contextlib.suppress(OSError):  # no locks here: such a run counts as alive for long
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        making.rename(folder)  # locked before others can see it: none takes it for a dead one
    except OSError as error:
        shutil.rmtree(making, ignore_errors=True)  # its name is random: nobody else's
        message = f"a run cannot be made in {str(folder.parent)!r}: {error}. ${RUNS} names another"
        raise StoreError(message) from error
    return Run(folder), descriptor


def live_runs() -> list[Run]:
    """Give the runs whose host process lives, as far as this machine can tell.

    Returns
    -------
    list of Run
        In the order of their names.
    """
    return [r for r, home in _all_runs() if not _is_making(r) and not _is_dead(r, home)]


def is_alive(run: Run) -> bool:
    """Say whether a run's host process lives, as far as this machine can tell.

    Parameters
    ----------
    run : Run
        The run.

    Returns
    -------
    bool
        False as well if its folder is gone.
    """
    home = machine_of(run.folder)
    return home is not None and not _is_dead(run, home)


def remove_dead_runs() -> list[Run]:
    """Remove what killed runs left: their SLURM jobs, keys and files.

    Returns
    -------
    list of Run
        Those that were removed.
    """
    dead = [run for run, home in _all_runs() if _is_dead(run, home)]
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
    if not run.name.startswith("slurm-"):
        return
    ids: list[str] = []
    with contextlib.suppress(OSError):
        ids = [word for word in run.jobs_file.read_text().split() if word.isdigit()]
    # by name too: a job may have been submitted when there was nobody left to note its id
    for words in ([ids] if ids else []) + [by_name(run)]:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            subprocess.run(
                ["scancel", *words], capture_output=True, timeout=_CANCEL_SECONDS, check=False
            )


def by_name(run: Run) -> list[str]:
    """Give the options of scancel that choose the jobs of a run.

    Parameters
    ----------
    run : Run
        The run.

    Returns
    -------
    list of str
        Of this user, and with the name of the run, which no other has.
    """
    return ["--me", f"--name={run.name}"]


def _all_runs() -> Iterator[tuple[Run, Machine]]:
    for folder in sorted(runs_folder().iterdir()):
        home = machine_of(folder)
        if home is not None:
            yield Run(folder), home


def _is_making(run: Run) -> bool:
    return run.name.startswith(MAKING)


def _is_dead(run: Run, home: Machine) -> bool:
    """Say whether nobody holds the lock: the kernel lets it go with the last process."""
    try:
        age = time.time() - run.folder.lstat().st_mtime
        held = _is_locked(run)
    except FileNotFoundError:
        return False  # gone meanwhile
    if _is_making(run) and age <= _MAKING_SECONDS:
        return False
    if held is False and home.is_here:
        return True
    # no locks here, or those of another machine: they may not be seen
    return not held and age > SILENT_SECONDS


def _is_locked(run: Run) -> bool | None:
    """Say whether a process holds the lock; None: the file system has none."""
    try:
        descriptor = os.open(run.folder / "lock", os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False  # somebody began to make or to remove it, and was killed
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return False
