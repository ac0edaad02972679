"""Running jobs on Dask: in this process, or on the connected cluster."""

from leptonhpc.runtime.probe import probe
from leptonhpc.runtime.report import Report
from leptonhpc.runtime.run import cluster_machine, connected_client, resources_of, run_job

__all__ = [
    "Report",
    "cluster_machine",
    "connected_client",
    "probe",
    "resources_of",
    "run_job",
]
