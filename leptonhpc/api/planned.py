"""Planning a job without running it."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any, Literal

from leptonhpc.api import (
    drivers,
    factorisations,
    iterative,
    nonnegative,
    orthogonal,
    pseudoinverses,
    spectra,
    systems,
)
from leptonhpc.api.budget import planned_for
from leptonhpc.api.plans import Plan
from leptonhpc.errors import OptionError
from leptonhpc.linalg import Job
from leptonhpc.placement import POLICIES, Machine, read_machine
from leptonhpc.runtime import cluster_machine

Driver = Literal[
    "svd",
    "matmul",
    "norm",
    "cholesky",
    "lu",
    "solve",
    "inv",
    "slogdet",
    "eigh",
    "matrix_rank",
    "cond",
    "pinv",
    "polar",
    "cg",
    "lsmr",
    "qr",
    "lstsq",
    "nmf",
]

_DRIVERS: dict[str, tuple[Callable[..., Job], Callable[..., Any]]] = {
    "svd": (drivers._plan_svd, drivers._run_svd),
    "matmul": (drivers._plan_matmul, drivers._run_matmul),
    "norm": (drivers._plan_norm, drivers._run_norm),
    "cholesky": (factorisations._plan_cholesky, factorisations._run_cholesky),
    "solve": (systems._plan_solve, systems._run_solve),
    "inv": (systems._plan_inv, systems._run_inv),
    "slogdet": (systems._plan_slogdet, systems._run_slogdet),
    "lu": (factorisations._plan_lu, factorisations._run_lu),
    "eigh": (spectra._plan_eigh, spectra._run_eigh),
    "matrix_rank": (spectra._plan_matrix_rank, spectra._run_matrix_rank),
    "cond": (spectra._plan_cond, spectra._run_cond),
    "pinv": (pseudoinverses._plan_pinv, pseudoinverses._run_pinv),
    "polar": (pseudoinverses._plan_polar, pseudoinverses._run_polar),
    "cg": (iterative._plan_cg, iterative._run_cg),
    "lsmr": (iterative._plan_lsmr, iterative._run_lsmr),
    "qr": (orthogonal._plan_qr, orthogonal._run_qr),
    "lstsq": (orthogonal._plan_lstsq, orthogonal._run_lstsq),
    "nmf": (nonnegative._plan_nmf, nonnegative._run_nmf),
}


_OF_RUN = ("out", "resume", "overwrite", "progress")


def plan(
    driver: Driver,
    *arrays: Any,
    machine: Machine | str | Path | None = None,
    policy: str | None = None,
    **options: Any,
) -> Plan:
    """Plan a job without running it.

    Parameters
    ----------
    driver : str
        What to do: the name of a driver.
    *arrays : arrays, or what `leptonhpc.open` takes
        Its inputs; only their metadata is read.
    machine : Machine or path, optional
        Plan, place and simulate on a machine that is not here: a device is a worker. A TOML file
        with its devices, see `leptonhpc.placement.read_machine`. Default: the connected cluster, or
        this process. Such a plan cannot be run.
    policy : {"homogeneous", "weighted", "heft", "locality"}, optional
        How tasks are placed in the simulation; default: for each stage as is fastest.
    **options : as the driver's
        Its keywords, without out, resume, overwrite and progress, which `Plan.run` takes.

    Returns
    -------
    Plan
        Shows its explanation; `run` runs it.

    Raises
    ------
    LeptonError
        As the driver would, as far as it can be known before anything runs.

    Examples
    --------
    >>> import numpy as np
    >>> import leptonhpc as lh
    >>> p = lh.plan("svd", np.ones((1000, 20)), rank=2, memory="1 GB")
    >>> p.explanation.passes
    2.0
    """
    if not isinstance(driver, str) or driver not in _DRIVERS:
        found = repr(driver) if isinstance(driver, str) else f"a {type(driver).__name__}"
        raise OptionError(f"the first argument is one of {', '.join(_DRIVERS)}; found {found}")
    if policy is not None and policy not in POLICIES:
        raise OptionError(f"policy is one of {', '.join(POLICIES)}; found {policy!r}")
    planner, runner = _DRIVERS[driver]
    _require_takes(driver, planner, arrays, options)
    given: Any = machine
    if not isinstance(given, Machine | str | Path | None):
        raise OptionError(f"machine is a TOML file's path or a Machine; found {given!r}")
    elsewhere = read_machine(machine) if isinstance(machine, str | Path) else machine
    with planned_for(elsewhere):
        job = planner(*arrays, **options)
    here = elsewhere is None
    return Plan(job, runner, cluster_machine() if here else elsewhere, policy, here=here)


def _require_takes(
    driver: str, planner: Callable[..., Job], arrays: tuple[Any, ...], options: dict[str, Any]
) -> None:
    """Refuse arrays and keywords that the driver does not have; say which it has."""
    taken = signature(planner)
    try:
        taken.bind(*arrays, **options)
    except TypeError as error:
        names = [p.name for p in taken.parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
        keywords = [p.name for p in taken.parameters.values() if p.kind is p.KEYWORD_ONLY]
        message = f"plan({driver!r}): {error}; it takes {', '.join(names)}"
        message += f", and by name {', '.join(keywords)}"
        later = [name for name in options if name in _OF_RUN]
        if later:
            message += f". Give {', '.join(f'{name}=' for name in later)} to the plan's run()"
        raise OptionError(message) from error
