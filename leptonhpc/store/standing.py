"""Who makes an unfinished output, and how far that is: left in its journal for others to read."""

from __future__ import annotations

import os
import socket
import time
from typing import Any

from leptonhpc.store.journal import Journal

EVERY_SECONDS = 2.0
"""Facts are no older than this, while tasks end."""


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

    def begin(self, stage: str, tasks: int, done: int) -> None:
        """Say that a stage begins, and how many of its tasks were done before."""
        self._facts = {"stage": stage, "tasks": tasks, "done": done, "began": time.time()}
        self._tell()

    def advance(self) -> None:
        """Count a task."""
        self._facts["done"] += 1
        if time.monotonic() - self._told > EVERY_SECONDS:
            self._tell()

    def _tell(self) -> None:
        if self._journal is not None:
            self._told = time.monotonic()
            self._journal.note("now", {**self._facts, **this_process(), "time": time.time()})


def this_process() -> dict[str, Any]:
    """Give what tells this process from every other one, also of another machine or time."""
    import psutil

    began = psutil.Process().create_time()
    return {"host": socket.gethostname(), "pid": os.getpid(), "process_began": began}


def is_alive(process: dict[str, Any]) -> bool | None:
    """Say whether a process still runs; None: it is on another machine.

    Parameters
    ----------
    process : dict
        As `this_process` gave it there and then.

    Returns
    -------
    bool or None
        Whether it runs.
    """
    import psutil

    if process["host"] != socket.gethostname():
        return None
    try:
        there = psutil.Process(process["pid"])
        same = abs(there.create_time() - process["process_began"]) < 1.0
        return bool(same and there.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
