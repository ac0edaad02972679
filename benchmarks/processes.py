"""What a process and its children hold in memory and have read, as Linux counts it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import psutil


def family(pid: int) -> list[int]:
    """Give a process and all that descend from it."""
    try:
        children = psutil.Process(pid).children(recursive=True)
    except psutil.Error:  # it has ended
        return []
    return [pid, *(child.pid for child in children)]


def peak_nbytes(pids: Iterable[int]) -> int:
    """Add up the largest resident memory of each process (VmHWM).

    No less than what they held at any one time; pages that they share count once for each.
    """
    return sum(_status(pid, "VmHWM") for pid in pids)


def resident_nbytes(pids: Iterable[int]) -> int:
    """Add up the resident memory of each process now."""
    return sum(_status(pid, "VmRSS") for pid in pids)


def read_nbytes(pids: Iterable[int]) -> int:
    """Add up what each process has read from files so far, page cache included, sockets not."""
    return sum(_field(Path(f"/proc/{pid}/io"), "rchar") for pid in pids)


def touch(nbytes: int) -> None:
    """Write to so much memory in a process that ends: the next one finds the pages at hand."""
    if nbytes:
        code = f"import numpy; numpy.empty({nbytes}, numpy.uint8)[::4096] = 1"
        subprocess.run([sys.executable, "-c", code], check=True)


def own_family() -> list[int]:
    """Give this process and its children."""
    return family(os.getpid())


def _status(pid: int, name: str) -> int:
    return 1024 * _field(Path(f"/proc/{pid}/status"), name)


def _field(path: Path, name: str) -> int:
    with contextlib.suppress(OSError):  # a process that has ended holds nothing
        for line in path.read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1])
    return 0
