"""Planning within a budget, and finding the smallest one that would do."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace

from leptonhpc.api.outputs import remembered_memory
from leptonhpc.errors import MemoryBudgetError, OptionError
from leptonhpc.linalg import Job
from leptonhpc.placement import Machine
from leptonhpc.planning import Resources
from leptonhpc.planning.amounts import parse_nbytes
from leptonhpc.runtime import resources_of
from leptonhpc.store.locations import Location

Nbytes = int | float | str | None

_planned_for: ContextVar[Machine | None] = ContextVar("_planned_for", default=None)


@contextmanager
def planned_for(machine: Machine | None) -> Iterator[None]:
    """Plan what is planned inside for a machine that is not here.

    Parameters
    ----------
    machine : Machine or None
        The machine; None: the connected cluster, or this one.

    Yields
    ------
    None
        Inside, `within` asks the machine and not the cluster.
    """
    token = _planned_for.set(machine)
    try:
        yield
    finally:
        _planned_for.reset(token)


def within(build: Callable[[Resources], Job], memory: Nbytes) -> Job:
    """Plan within a budget; if none fits, name the smallest that would.

    Parameters
    ----------
    build : callable
        Plans with what it is given.
    memory : int, float, str or None
        The budget of each worker.

    Returns
    -------
    Job
        The plan.

    Raises
    ------
    MemoryBudgetError
        With the smallest budget, in whole megabytes.
    OptionError
        If its seed is out of range.
    """
    nbytes, machine = parse_nbytes(memory), _planned_for.get()
    resources = resources_of(nbytes) if machine is None else machine.resources(nbytes)
    try:
        job = build(resources)
        seed = job.parameters.get("seed", 0)
        if not 0 <= seed < 2**63:
            raise OptionError(f"{job.driver}: seed is from 0 to 2**63 - 1; found {seed}")
        return job
    except MemoryBudgetError as error:
        low, high = resources.memory_nbytes // 10**6, 10**9

        def fits(megabytes: int) -> bool:
            try:
                build(replace(resources, memory_nbytes=megabytes * 10**6))
            except MemoryBudgetError:
                return False
            return True

        if not fits(high):
            raise
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if fits(middle) else (middle, high)
        message = re.sub(r"memory='\d+ MB'", f"memory='{high} MB'", str(error))
        raise MemoryBudgetError(message) from error


def chosen_budget(memory: Nbytes, out: Location | None, overwrite: bool) -> Nbytes:
    """Without memory=, an unfinished job goes on with the budget that it was begun with."""
    if memory is not None or overwrite:
        return memory
    return remembered_memory(out)
