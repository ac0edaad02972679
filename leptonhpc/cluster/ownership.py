"""Which folders are ours to remove: named as a run is, and marked by us before all else.

A folder of runs may be a folder that the user keeps other things in. Whatever lacks one of the
signs is never locked, changed or removed, however much it looks like a dead run.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from leptonhpc.cluster.machines import Machine, this_machine

MARKER = "leptonhpc-run"
"""File that is written first and removed last."""
KINDS = ("local", "slurm", "in-allocation")
MAKING = "."
"""Begins the name of a folder that is in the making."""

_NAME = re.compile(rf"({re.escape(MAKING)})?({'|'.join(KINDS)})-[0-9a-f]{{10}}")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK  # a pipe of that name must not hold us up
_TRIES = 3


def mark(folder: Path) -> None:
    """Mark an empty folder as a run's.

    Parameters
    ----------
    folder : path
        Just made; named as a run is.
    """
    content = {"run": folder.name.removeprefix(MAKING), **asdict(this_machine())}
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    descriptor = os.open(folder / MARKER, flags, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(content, file)


def machine_of(folder: Path) -> Machine | None:
    """Give the machine that a run was started on.

    Parameters
    ----------
    folder : path
        Any.

    Returns
    -------
    Machine or None
        None: the folder is not one that we made, or is another user's, or a link.
    """
    if not _NAME.fullmatch(folder.name):
        return None
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError), _opened(folder) as place:
        if os.fstat(place).st_uid != os.getuid():
            return None
        with os.fdopen(os.open(MARKER, _FILE, dir_fd=place)) as file:
            what = os.fstat(file.fileno())
            if not stat.S_ISREG(what.st_mode) or what.st_uid != os.getuid():
                return None
            known = json.load(file)
        if known["run"] == folder.name.removeprefix(MAKING):
            return Machine(str(known["host"]), str(known["boot"]))
    return None


def remove_ours(folder: Path) -> None:
    """Remove a run's folder and all that is in it; no other folder, and nothing behind a link.

    Parameters
    ----------
    folder : path
        Any.
    """
    for attempt in range(_TRIES):  # a worker that is dying may still write
        if machine_of(folder) is None:
            return
        if attempt:
            time.sleep(0.2)
        with contextlib.suppress(OSError), _opened(folder) as place:
            _empty(place)
            if os.listdir(place) == [MARKER]:  # last: killed on the way, the rest is ours still
                os.unlink(MARKER, dir_fd=place)
                os.rmdir(folder)


def _empty(place: int) -> None:
    """Remove all but the marker from an open folder."""
    for name in os.listdir(place):
        if name == MARKER:
            continue
        with contextlib.suppress(OSError):
            if stat.S_ISDIR(os.stat(name, dir_fd=place, follow_symlinks=False).st_mode):
                shutil.rmtree(name, ignore_errors=True, dir_fd=place)  # follows no links
            else:
                os.unlink(name, dir_fd=place)


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, _FOLDER)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
