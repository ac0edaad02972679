"""One measurement: a fresh process that does its work once, watched from outside.

A fresh process has its own imports, thread pools and peak memory. The watcher ends a process that
takes too long or too much, and says so: a contestant that fails is a result, not a gap.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import processes
import psutil

_LOOK_SECONDS = 0.5
_EXCEPTION = re.compile(r"[\w.]+(Error|Exception|KilledWorker|Interrupt)\b")


class Timer:
    """Seconds, bytes read and peak memory of the work inside ``with timer:``.

    The peak counts from the start of the process: interpreter and libraries are part of it.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.read_nbytes = 0
        self.peak_nbytes = 0

    def __enter__(self) -> Timer:
        self.read_nbytes = -processes.read_nbytes(processes.own_family())
        self._began = time.perf_counter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.seconds = time.perf_counter() - self._began
        pids = processes.own_family()
        self.read_nbytes += processes.read_nbytes(pids)
        self.peak_nbytes = processes.peak_nbytes(pids)


@dataclass(frozen=True)
class Limits:
    """What a contestant may take before it is ended."""

    seconds: float = 900.0
    nbytes: int = field(default_factory=lambda: int(0.8 * psutil.virtual_memory().available))


@dataclass(frozen=True)
class Measurement:
    """What became of a fresh process."""

    status: str
    """"ok", or what went wrong."""
    wall_seconds: float
    """Start and imports included."""
    peak_nbytes: int
    """Largest memory of all processes together."""
    answer: dict[str, Any]
    """What the process wrote to its result file."""


def run_fresh(
    command: Sequence[str],
    result: Path,
    *,
    limits: Limits,
    environment: Mapping[str, str] | None = None,
) -> Measurement:
    """Run a command in a process group of its own and watch it until it ends.

    Parameters
    ----------
    command : sequence of str
        The program and its arguments.
    result : Path
        The JSON file that the command writes, if all goes well.
    limits : Limits
        Beyond these it is killed, with its children.
    environment : mapping, optional
        Variables in addition to this process's.

    Returns
    -------
    Measurement
        What it took.
    """
    began = time.perf_counter()
    peak, ended_for = 0, None
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(
            command, env={**os.environ, **(environment or {})}, stdout=subprocess.DEVNULL,
            stderr=complaints, start_new_session=True,
        )  # fmt: skip
        try:
            while process.poll() is None:
                pids = processes.family(process.pid)
                peak = max(peak, processes.peak_nbytes(pids))
                ended_for = _beyond(limits, began, processes.resident_nbytes(pids))
                if ended_for is not None:
                    break
                left = limits.seconds - (time.perf_counter() - began)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(min(_LOOK_SECONDS, max(0.0, left)))
            # it may have ended while this process stood still
            ended_for = ended_for or _beyond(limits, began, 0)
        finally:
            _end_group(process)
        wall = time.perf_counter() - began
        complaints.seek(0)
        last_words = complaints.read().decode(errors="replace")
    answer = json.loads(result.read_text()) if result.exists() else {}
    status = ended_for or _status(process.returncode, last_words, answer)
    return Measurement(status, wall, max(peak, answer.get("peak_nbytes", 0)), answer)


def _beyond(limits: Limits, began: float, resident_nbytes: int) -> str | None:
    if time.perf_counter() - began > limits.seconds:
        return f"ended: exceeded {limits.seconds:g} s"
    if resident_nbytes > limits.nbytes:
        return f"ended: exceeded {limits.nbytes / 1e9:.3g} GB"
    return None


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of the process's own group: workers outlive a parent that was killed."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _status(returncode: int, last_words: str, answer: Mapping[str, Any]) -> str:
    if returncode < 0:
        return f"died: {signal.Signals(-returncode).name}"
    if returncode > 0 or not answer:
        return f"failed: {_last_line(last_words)}"
    return "ok"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # the exception's line, not what libraries print while they shut down
    named = [line for line in lines if _EXCEPTION.match(line)]
    return (named or lines or ["no message"])[-1][:300]
