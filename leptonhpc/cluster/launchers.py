"""Launchers: each gives a connected client, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from leptonhpc.cluster.devices import group_of_cores, groups_of_devices
from leptonhpc.cluster.groups import Group
from leptonhpc.cluster.profiles import Profile, load_profile
from leptonhpc.cluster.slurm_environment import group_of_here
from leptonhpc.cluster.starting import from_profile
from leptonhpc.errors import OptionError

if TYPE_CHECKING:
    from distributed import Client


@contextmanager
def local(
    workers: int | None = None,
    memory: str | int | None = None,
    *,
    threads: int = 1,
    groups: Sequence[Group] | None = None,
    dashboard: bool = False,
    audit: str | Path | None = None,
    timeout: float = 120.0,
) -> Iterator[Client]:
    """Run what is inside on worker processes of this machine.

    Everything talks TLS 1.3 on loopback with keys that are made for this run. At the end, after an
    exception, and when this process is killed, the workers, the scheduler, their ports, keys and
    files go.

    Parameters
    ----------
    workers : int, optional
        How many; default: as many as there are cores for.
    memory : str or int, optional
        Limit of each worker; default: half of the free memory, shared out.
    threads : int
        Of each worker.
    groups : sequence of Group, optional
        Unlike workers, such as some on a GPU and some on cores; instead of the first three.
    dashboard : bool
        Serve Dask's dashboard on loopback behind a token; `leptonhpc.cluster.status` gives its
        address with the token, ``client.dashboard_link`` the address alone.
    audit : str or path, optional
        Where who connected is noted; default: in a file that goes with the cluster.
    timeout : float
        Seconds that the start may take.

    Yields
    ------
    distributed.Client
        Connected: drivers inside run on it.

    Raises
    ------
    OptionError
        If a keyword has a value that it cannot take.
    WorkerError
        If the cluster does not start.

    Examples
    --------
    >>> import leptonhpc as lh
    >>> with lh.cluster.local(workers=2, memory="1 GB"):  # doctest: +SKIP
    ...     lh.svd("x.zarr", rank=10, out="x-svd.zarr")
    """
    if groups is not None and (workers, memory, threads) != (None, None, 1):
        message = "local takes groups=, or workers=, memory= and threads=; found both"
        raise OptionError(message)
    chosen = tuple(groups) if groups is not None else (group_of_cores(workers, memory, threads),)
    profile = Profile(
        "local", chosen, dashboard=dashboard, audit=None if audit is None else str(audit)
    )
    with from_profile(profile, timeout=timeout) as client:
        yield client


@contextmanager
def mixed(
    gpus: Sequence[int] | None = None,
    memory: str | int | None = None,
    *,
    workers: int | None = None,
    device: str = "cuda",
    dashboard: bool = False,
    audit: str | Path | None = None,
    timeout: float = 120.0,
) -> Iterator[Client]:
    """Run what is inside on the GPUs of this machine, a worker each, and on the cores beside them.

    Parameters
    ----------
    gpus : sequence of int, optional
        Numbers of the GPUs; default: all that `nvidia-smi` shows.
    memory : str or int, optional
        Host memory of each worker; default: half of the free memory, shared out.
    workers : int, optional
        Workers on cores; default: one for each core that no GPU's worker has; 0: GPUs alone.
    device : str
        Kind of device of the GPUs' workers.
    dashboard, audit, timeout : object
        As `local` takes them.

    Yields
    ------
    distributed.Client
        Connected: drivers inside run on it.

    Raises
    ------
    OptionError
        If no GPU is found.
    WorkerError
        If the cluster does not start.
    """
    groups = groups_of_devices(gpus, memory, workers=workers, device=device)
    with local(groups=groups, dashboard=dashboard, audit=audit, timeout=timeout) as client:
        yield client


@contextmanager
def cuda(
    gpus: Sequence[int] | None = None,
    memory: str | int | None = None,
    *,
    device: str = "cuda",
    dashboard: bool = False,
    audit: str | Path | None = None,
    timeout: float = 120.0,
) -> Iterator[Client]:
    """Run what is inside on the GPUs of this machine, a worker each, and on nothing else.

    Parameters
    ----------
    gpus : sequence of int, optional
        Numbers of the GPUs; default: all that `nvidia-smi` shows.
    memory : str or int, optional
        Host memory of each worker; default: half of the free memory, shared out.
    device : str
        Kind of device of the workers: "cuda", or "cuda-tf32".
    dashboard, audit, timeout : object
        As `local` takes them.

    Yields
    ------
    distributed.Client
        Connected: drivers inside run on it.

    Raises
    ------
    OptionError
        If no GPU is found.
    WorkerError
        If the cluster does not start.
    """
    with mixed(
        gpus, memory, workers=0, device=device, dashboard=dashboard, audit=audit, timeout=timeout
    ) as client:
        yield client


@contextmanager
def in_allocation(
    workers: int | None = None,
    memory: str | int | None = None,
    *,
    threads: int | None = None,
    groups: Sequence[Group] | None = None,
    interface: str | None = None,
    dashboard: bool = False,
    audit: str | Path | None = None,
    timeout: float = 300.0,
) -> Iterator[Client]:
    """Run what is inside on the SLURM allocation that this process runs in.

    The scheduler runs on this node, workers are tasks of a step (srun) on all its nodes.

    Parameters
    ----------
    workers : int, optional
        How many; default: as many tasks as were asked for (``--ntasks``).
    memory : str or int, optional
        Limit of each worker; default: its share of what was asked for.
    threads : int, optional
        Of each worker; default: ``--cpus-per-task``.
    groups : sequence of Group, optional
        Unlike workers; instead of the first three.
    interface : str, optional
        Network interface to listen on; with one node the default is loopback.
    dashboard : bool
        Serve Dask's dashboard on this node's loopback behind a token.
    audit : str or path, optional
        Where who connected is noted; default: in a file that goes with the cluster.
    timeout : float
        Seconds that the start may take.

    Yields
    ------
    distributed.Client
        Connected: drivers inside run on it.

    Raises
    ------
    OptionError
        If this is no allocation, or it has several nodes and no interface was named.
    WorkerError
        If the cluster does not start.
    """
    chosen = tuple(groups) if groups is not None else (group_of_here(workers, memory, threads),)
    profile = Profile(
        "in-allocation", chosen, interface, dashboard, None if audit is None else str(audit)
    )
    with from_profile(profile, timeout=timeout) as client:
        yield client


@contextmanager
def slurm(
    profile: str | Path | Profile, *, workers: int | None = None, timeout: float = 600.0
) -> Iterator[Client]:
    """Run what is inside on workers that are SLURM jobs.

    The scheduler runs on this machine. Jobs that are cancelled, run into their walltime or lose
    their node are submitted again. Groups with `least` have so many jobs without work; others are
    submitted when there is some, and given back. At the end, after an exception, and when this
    process is killed, all jobs are cancelled.

    Parameters
    ----------
    profile : str, path or Profile
        Groups of workers (each worker a job) and the interface; see `load_profile`.
    workers : int, optional
        Workers to wait for, others join later; default: one, or none where no group keeps one
        without work.
    timeout : float
        Seconds that they may take.

    Yields
    ------
    distributed.Client
        Connected: drivers inside run on it.

    Raises
    ------
    OptionError
        If the profile is not of kind slurm.
    WorkerError
        If jobs cannot be submitted, or their workers do not come.
    """
    chosen = profile if isinstance(profile, Profile) else load_profile(profile)
    if chosen.kind != "slurm":
        raise OptionError(f"slurm needs a profile of kind slurm; found kind {chosen.kind}")
    with from_profile(chosen, workers=workers, timeout=timeout) as client:
        yield client
