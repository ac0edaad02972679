"""What SLURM tells a process of itself: its commands, and the allocation that it runs in."""

from __future__ import annotations

import math
import os
import re
import shutil

from leptonhpc.cluster.groups import Group
from leptonhpc.cluster.runs import RUNS, runs_folder
from leptonhpc.errors import OptionError

_PATH = re.compile(r"[\w/.,:+@=~-]+")
"""Of a folder that is named in a job's script."""
_SHARE = 0.85
"""Of a task's memory is its worker's; the rest is the nanny's and the script's."""


def require_slurm() -> None:
    """Refuse where jobs cannot be submitted.

    Raises
    ------
    OptionError
        If sbatch or dask-jobqueue is not there, or the folder of runs has a name that cannot
        stand in a job's script.
    """
    from importlib.util import find_spec

    if shutil.which("sbatch") is None:
        raise OptionError("kind slurm needs sbatch; it is not on PATH here: run on a login node")
    if find_spec("dask_jobqueue") is None:
        message = "kind slurm needs dask-jobqueue: pip install 'leptonhpc[slurm]'"
        raise OptionError(message)
    folder = str(runs_folder())
    if not _PATH.fullmatch(folder):
        message = (
            "kind slurm needs a folder of runs without blanks or signs that SLURM or a shell reads "
            f"(% is SLURM's); found {folder!r}. Set ${RUNS}"
        )
        raise OptionError(message)


def require_allocation(*, several: bool) -> None:
    """Refuse outside an allocation.

    Parameters
    ----------
    several : bool
        No interface was named: it must have one node.

    Raises
    ------
    OptionError
        If there is no allocation, or several nodes without an interface.
    """
    if "SLURM_JOB_ID" not in os.environ or shutil.which("srun") is None:
        message = (
            "in-allocation needs to run inside sbatch or salloc; $SLURM_JOB_ID is not set here"
        )
        raise OptionError(message)
    nodes = _number("SLURM_JOB_NUM_NODES") or _number("SLURM_NNODES") or 1
    if several and nodes > 1:
        message = (
            f"an allocation of {nodes} nodes needs interface=, the network that they share, "
            "such as 'ib0'"
        )
        raise OptionError(message)


def group_of_here(workers: int | None, memory: str | int | None, threads: int | None) -> Group:
    """Make a group of what the allocation was asked for.

    Parameters
    ----------
    workers : int, optional
        Default: its tasks.
    memory : str or int, optional
        Default: a task's share.
    threads : int, optional
        Default: a task's cores.

    Returns
    -------
    Group
        One worker a task.

    Raises
    ------
    OptionError
        If its memory is not known and was not given.
    """
    cores = threads or _number("SLURM_CPUS_PER_TASK") or 1
    tasks = workers or _number("SLURM_NTASKS") or 1
    nbytes = memory or _share(tasks, cores)
    if nbytes is None:
        message = (
            "the allocation does not say its memory; pass memory=, or give sbatch --mem-per-cpu"
        )
        raise OptionError(message)
    return Group("worker", tasks, nbytes, cores)


def _share(tasks: int, cores: int) -> int | None:
    """Give a worker's part of the memory, which SLURM counts in MiB."""
    of_core, of_node = _number("SLURM_MEM_PER_CPU"), _number("SLURM_MEM_PER_NODE")
    nodes = _number("SLURM_JOB_NUM_NODES") or _number("SLURM_NNODES") or 1
    if of_core:
        return int(_SHARE * of_core * cores * 2**20)
    if of_node:  # 0: all of a node's, and SLURM does not say how much that is
        of_fullest = math.ceil(tasks / nodes)  # tasks cannot be shared out evenly over all nodes
        return int(_SHARE * of_node * 2**20 / of_fullest)
    return None


def _number(name: str) -> int | None:
    text = os.environ.get(name, "")
    return int(text) if text.isdigit() else None
