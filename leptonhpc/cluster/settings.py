"""Settings of Dask in the processes that leptonhpc starts."""

from __future__ import annotations

SETTINGS = {
    "distributed.comm.default-scheme": "tls",
    "distributed.comm.require-encryption": True,
    # plans keep to `memory=`: host spilling would hide it if one did not
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    # its history of the last thousand seconds grew to tens of megabytes beside what a plan counts
    "distributed.worker.profile.enabled": False,
    # workers have folders of their own, on file systems that may have no locks
    "distributed.worker.use-file-locking": False,
    # the death of a worker must not end the jobs of others
    "distributed.scheduler.allowed-failures": 20,
}
"""Of Dask, in every process of a cluster that leptonhpc starts."""
