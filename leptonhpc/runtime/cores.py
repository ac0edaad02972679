"""The cores of this process."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """Count the cores that this process may use.

    Returns
    -------
    int
        At least one.
    """
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1
