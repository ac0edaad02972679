"""Running a user's program: it is told what this process is told, and never outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

_BOUND = Path(__file__).with_name("bound.py")
_FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


def run_program(command: Sequence[str], variables: Mapping[str, str]) -> int:
    """Run a program until it ends, and pass on the signals that ask this process to end.

    Parameters
    ----------
    command : sequence of str
        The program and its arguments.
    variables : mapping
        More of its environment.

    Returns
    -------
    int
        Its exit code; of one that a signal ended 128 and the signal, as shells say it.
    """
    with _forwarding() as told:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_BOUND), str(os.getpid()), *command],
            env={**os.environ, **variables},
        )
        told.process = process
        if told.early is not None:
            process.send_signal(told.early)
        code = process.wait()
    return code if code >= 0 else 128 - code


class _Told:
    """What a signal is passed on to."""

    process: subprocess.Popen[bytes] | None = None
    early: int | None = None

    def __call__(self, number: int, _: object) -> None:
        if self.process is None:
            self.early = number
        elif number != signal.SIGINT or not _is_at_a_terminal():
            with suppress(ProcessLookupError):
                self.process.send_signal(number)


@contextmanager
def _forwarding() -> Iterator[_Told]:
    told = _Told()
    # what is ignored stays so: nohup
    old = {n: signal.getsignal(n) for n in _FORWARDED if signal.getsignal(n) != signal.SIG_IGN}
    try:
        for number in old:
            signal.signal(number, told)
        yield told
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def _is_at_a_terminal() -> bool:
    """Say whether Ctrl-C reaches the program by itself: it must not be told twice."""
    with suppress(OSError):
        return os.tcgetpgrp(0) == os.getpgrp()
    return False
