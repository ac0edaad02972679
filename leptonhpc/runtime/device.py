"""Which kind of device this process's lanes compute with."""

from __future__ import annotations

import os
import sys


def device_here() -> str:
    """Give the kind of device of this process.

    Returns
    -------
    str
        ``$LEPTONHPC_DEVICE`` if it is set. Else "cuda" in a worker that dask-cuda started, which
        it did for its GPU; "host" in all others, whatever they have.
    """
    named = os.environ.get("LEPTONHPC_DEVICE")
    return named or ("cuda" if _is_worker_of_dask_cuda() else "host")


def _is_worker_of_dask_cuda() -> bool:
    """Say whether a Dask worker in this process has the plugins that dask-cuda gives its own."""
    if "dask_cuda" not in sys.modules or "distributed" not in sys.modules:
        return False
    from distributed import Worker

    return any(
        type(plugin).__module__.partition(".")[0] == "dask_cuda"
        for worker in list(Worker._instances)
        for plugin in worker.plugins.values()
    )
