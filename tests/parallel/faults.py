"""Functions that end their process, and a limit of time."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def within(seconds: int) -> Iterator[None]:
    """Fail rather than hang."""

    def late(*_: Any) -> None:
        raise TimeoutError(f"hung for {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def die_once(marks: str, i: int) -> int:
    """End the process of part 2, the first time."""
    mark = Path(marks) / str(i)
    if i == 2 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return i


def kill(i: int) -> int:
    """End the process of part 1, each time."""
    if i == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return i
