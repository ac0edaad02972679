"""A process made slower: stopped most of the time, as cpulimit does it."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator

_PERIOD_SECONDS = 0.1


@contextlib.contextmanager
def slowed(pid: int, *, to: float) -> Iterator[None]:
    """Let a process run only so much of the time.

    Parameters
    ----------
    pid : int
        The process; its children are not slowed.
    to : float
        Part of the time in which it runs, between 0 and 1.

    Yields
    ------
    None
        Inside, the process is stopped and continued ten times a second.
    """
    end = threading.Event()
    slowing = threading.Thread(target=_slow, args=(pid, to, end), daemon=True)
    slowing.start()
    try:
        yield
    finally:
        end.set()
        slowing.join()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def _slow(pid: int, to: float, end: threading.Event) -> None:
    """Keep to the share over all the time, whatever the sleeps really took."""
    began, ran = time.perf_counter(), 0.0
    with contextlib.suppress(ProcessLookupError):
        while not end.is_set():
            os.kill(pid, signal.SIGCONT)
            go = time.perf_counter()
            time.sleep(max(0.001, to * (go - began + _PERIOD_SECONDS) - ran))
            os.kill(pid, signal.SIGSTOP)
            ran += time.perf_counter() - go
            time.sleep((1 - to) * _PERIOD_SECONDS)
