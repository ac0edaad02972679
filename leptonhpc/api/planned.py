"""Planning a job without running it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from leptonhpc.api import drivers, factorisations, systems
from leptonhpc.api.plans import Plan
from leptonhpc.errors import OptionError
from leptonhpc.linalg import Job

Driver = Literal["svd", "matmul", "norm", "cholesky", "lu", "solve"]

_DRIVERS: dict[str, tuple[Callable[..., Job], Callable[..., Any]]] = {
    "svd": (drivers._plan_svd, drivers._run_svd),
    "matmul": (drivers._plan_matmul, drivers._run_matmul),
    "norm": (drivers._plan_norm, drivers._run_norm),
    "cholesky": (factorisations._plan_cholesky, factorisations._run_cholesky),
    "solve": (systems._plan_solve, systems._run_solve),
    "lu": (factorisations._plan_lu, factorisations._run_lu),
}


def plan(driver: Driver, *arrays: Any, **options: Any) -> Plan:
    """Plan a job without running it.

    Parameters
    ----------
    driver : str
        What to do: the name of a driver.
    *arrays : arrays, or what `leptonhpc.open` takes
        Its inputs; only their metadata is read.
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
    if driver not in _DRIVERS:
        raise OptionError(f"driver is one of {', '.join(_DRIVERS)}; found {driver!r}")
    planner, runner = _DRIVERS[driver]
    try:
        job = planner(*arrays, **options)
    except TypeError as error:
        if "argument" not in str(error):
            raise
        raise OptionError(f"plan({driver!r}): {str(error).partition('() ')[2]}") from error
    return Plan(job, runner)
