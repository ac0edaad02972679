"""What is done again and again while a job runs, beside it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from leptonhpc.errors import LeptonError

EVERY_SECONDS = 1.0
UNTOLD = (LeptonError, OSError, RuntimeError, ValueError)
"""What telling may fail by; of a client that is closed Dask raises the last two."""
_END_SECONDS = 30.0
"""A store is tried again for ten seconds, a scheduler asked for as long."""


class Ticker:
    """Calls something once a second, in a thread of its own.

    Parameters
    ----------
    act : callable
        What is called. That a job cannot be told of (a full disk, a scheduler that is gone) does
        not end it: the job itself finds out if that matters.
    """

    def __init__(self, act: Callable[[], None]) -> None:
        self._act = act
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="leptonhpc-ticker")
        self._thread.start()

    def close(self) -> None:
        """Stop; what is under way ends first, so that nothing is told of a job that has ended."""
        self._ended.set()
        self._thread.join(_END_SECONDS)

    def _run(self) -> None:
        while not self._ended.wait(EVERY_SECONDS):
            try:
                self._act()
            except UNTOLD:
                continue
