"""Memory of this process, as the kernel counts it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import sys
from typing import Any


def _of_glibc(name: str) -> Any:
    try:
        return getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError):  # not glibc
        return None


_MALLOC_TRIM = _of_glibc("malloc_trim")
_MALLOPT = _of_glibc("mallopt")
OF_LIMIT = 2 / 3
"""What a job uses of a worker's limit: Dask writes to disk from 0.7 of it, and pauses at 0.8."""
_M_MMAP_THRESHOLD = -3  # malloc.h
_LARGE_NBYTES = 12 << 20
"""Larger pieces go back to the system when they are freed; tiles of a band are smaller."""


def peak_nbytes() -> int:
    """Give the largest resident memory since the last reset (VmHWM)."""
    status = _status("VmHWM")
    if status is not None:
        return status
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def resident_nbytes() -> int:
    """Give the resident memory now (VmRSS)."""
    return _status("VmRSS") or peak_nbytes()


def reset_peak() -> None:
    """Begin a new measurement, where the kernel lets us."""
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def return_free_memory() -> None:
    """Give the heap's free pages back: glibc keeps what its threads freed, each in an arena."""
    if _MALLOC_TRIM is not None:
        _MALLOC_TRIM(0)


def return_large_pieces() -> None:
    """Let what is large go back when it is freed.

    glibc raises that threshold to the largest piece ever freed, and keeps such pieces in an arena
    for each thread: a job with several threads peaked 100 MB over its plan.
    """
    if _MALLOPT is not None:
        _MALLOPT(_M_MMAP_THRESHOLD, _LARGE_NBYTES)


def free_nbytes() -> int:
    """Give the memory that this machine, or this process's limits, have left."""
    left = []
    with contextlib.suppress(OSError, ValueError), open("/proc/meminfo") as file:
        left += [int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable")]
    limit = resource.getrlimit(resource.RLIMIT_DATA)[0]
    if limit != resource.RLIM_INFINITY:
        left.append(limit)
    if not left:
        left.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return min(left)


def _status(name: str) -> int | None:
    try:
        with open("/proc/self/status") as file:
            for line in file:
                if line.startswith(name):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None
