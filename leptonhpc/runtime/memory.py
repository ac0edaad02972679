"""Memory of this process, as the kernel counts it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import sys
from typing import Any


def _find_malloc_trim() -> Any:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):  # not glibc
        return None


_MALLOC_TRIM = _find_malloc_trim()


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
