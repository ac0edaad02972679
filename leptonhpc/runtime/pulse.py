"""A process that was stopped for long may have been given up: it must not write when it wakes."""

from __future__ import annotations

import threading
import time
from typing import Any

LONG_SECONDS = 10.0
"""A process that stood still for so long asks whether it is still wanted."""
_WAIT_SECONDS = 5.0
"""Until a worker that was removed knows it: some of its heartbeats."""


_WANTED = ("running", "paused", "closing_gracefully")


class Pulse:
    """A thread that notices when all threads of the process stood still."""

    def __init__(self) -> None:
        self._beat = time.monotonic()
        self._pauses = 0
        threading.Thread(target=self._run, daemon=True, name="leptonhpc-pulse").start()

    @property
    def pauses(self) -> int:
        """How often the process stood still for long, up to now."""
        return self._pauses + (time.monotonic() - self._beat > LONG_SECONDS)

    def _run(self) -> None:
        while True:
            time.sleep(1.0)
            now = time.monotonic()
            if now - self._beat > LONG_SECONDS:
                self._pauses += 1
            self._beat = now


_pulses: list[Pulse] = []


def pulse() -> Pulse:
    """Give the pulse of this process, which begins when it is asked for."""
    if not _pulses:
        _pulses.append(Pulse())
    return _pulses[0]


def is_wanted(worker: Any, pauses: int) -> bool:
    """Say whether a worker may still write what it began before its process stood still.

    Parameters
    ----------
    worker : distributed.Worker
        This process's.
    pauses : int
        How often it had stood still when the work began.

    Returns
    -------
    bool
        False if it was given up meanwhile: somebody else does its work.
    """
    if pulse().pauses != pauses:
        time.sleep(_WAIT_SECONDS)
    return str(getattr(worker.status, "name", worker.status)) in _WANTED
