"""Who makes an unfinished output, and how far that is: left in its journal for others to read."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leptonhpc.errors import LeptonError
from leptonhpc.store.journal import Journal, read_note
from leptonhpc.store.locations import Location

if TYPE_CHECKING:
    import psutil

EVERY_SECONDS = 2.0
"""Facts are no older than this, while tasks end."""
_TICKS = 19
"""Place of the clock ticks from the machine's start to the process's, behind its name."""


class Standing:
    """Tells of a job while it runs.

    Parameters
    ----------
    journal : Journal or None
        Where; None: nobody can ask.
    """

    def __init__(self, journal: Journal | None) -> None:
        self._journal = journal
        self._facts: dict[str, Any] = {}
        self._told = 0.0

    def tell(self, facts: Callable[[], Mapping[str, Any]], *, now: bool = False) -> None:
        """Say how far the job is, unless that was just said.

        Parameters
        ----------
        facts : callable
            Gives what is to be told, at least ``stage``, ``tasks`` and ``done``.
        now : bool
            Also if it was just said: a stage begins.
        """
        if self._journal is None:
            return
        if now or time.monotonic() - self._told > EVERY_SECONDS:
            self._facts = dict(facts())
            self._tell(self._journal)

    def end(self) -> None:
        """Say that the job ended, done or not: its process may live on, as a notebook's does."""
        if self._facts and self._journal is not None:
            self._journal.note_end(self._now())

    def _tell(self, journal: Journal) -> None:
        self._told = time.monotonic()
        journal.note("now", self._now())

    def _now(self) -> dict[str, Any]:
        return {**self._facts, **this_process(), "time": time.time()}


def tell_ended(output: Location) -> None:
    """Say that the job of an unfinished output ended, where that came after its last stage.

    Parameters
    ----------
    output : str or path
        The unfinished output; of another process, it is left as it is.
    """
    with contextlib.suppress(LeptonError, OSError):  # what ended it may be the store
        now = read_note(output, "now")
        if now.get("pid") == os.getpid() and now.get("system") == this_system():
            Journal(output, {}).note_end(now)


def this_process() -> dict[str, Any]:
    """Give what tells this process from every other one, also of another machine or time."""
    import psutil

    process = psutil.Process()
    return {
        "host": socket.gethostname(), "system": this_system(), "pid": process.pid,
        "process_began": _began(process), "at": process.create_time(),
    }  # fmt: skip


def this_system() -> str:
    """Give what tells this start of this machine from all others: names of hosts are not enough.

    Returns
    -------
    str
        A digest of the kernel's boot id, and of the namespace of processes: a container's process
        numbers are its own.
    """
    facts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        facts = [boot, os.readlink("/proc/self/ns/pid")]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]


def is_alive(process: dict[str, Any]) -> bool | None:
    """Say whether a process still runs what it began; None: it is on another machine.

    Parameters
    ----------
    process : dict
        As `this_process` gave it there and then, with ``ended`` if it said so.

    Returns
    -------
    bool or None
        Whether it runs. A machine that was started again since is another one: nobody there knows
        whether a machine of the same name has the process still.
    """
    import psutil

    if process.get("ended"):
        return False
    if process.get("system") != this_system():
        return None
    try:
        there = psutil.Process(process["pid"])
        same = _began(there) == process["process_began"]
        return bool(same and there.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def went_with_its_machine(process: dict[str, Any]) -> bool:
    """Say whether a process of a machine of this name began before this machine was started.

    Parameters
    ----------
    process : dict
        As `this_process` gave it; of a folder that no other machine sees.

    Returns
    -------
    bool
        Whether it ended with the machine's last start.
    """
    import psutil

    here = process["host"] == socket.gethostname() and process.get("system") != this_system()
    return bool(here and process.get("at", math.inf) < psutil.boot_time() - 1.0)


def _began(process: psutil.Process) -> float:
    """Give when a process began, on a clock that nobody sets: the kernel's, if it is told.

    The time of day of it is another one after the machine's clock was set.
    """
    after_name = ""
    with contextlib.suppress(OSError):
        after_name = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2]
    fields = after_name.split()
    return float(fields[_TICKS]) if len(fields) > _TICKS else process.create_time()
