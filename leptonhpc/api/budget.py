"""Planning within a budget, and finding the smallest one that would do."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace

from leptonhpc import store
from leptonhpc.api.begun import Begun, resources_at
from leptonhpc.api.precisions import in_precision
from leptonhpc.errors import MemoryBudgetError, OptionError
from leptonhpc.linalg import Job
from leptonhpc.placement import Machine, best_cut
from leptonhpc.planning import Precision, Resources
from leptonhpc.planning.amounts import parse_nbytes, smallest_megabytes
from leptonhpc.runtime import cluster_machine, resources_of
from leptonhpc.store.locations import Location

_NAMED = r"memory='(\d+) MB'"
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


def within(
    build: Callable[[Resources], Job], memory: Nbytes, precision: Precision | None = None, *,
    rounds: bool = False,
) -> Job:  # fmt: skip
    """Plan within a budget; if none fits, name the smallest that would.

    Parameters
    ----------
    build : callable
        Plans with what it is given.
    memory : int, float, str or None
        The budget of each worker.
    precision : {None, "float64", "float32", "tf32"}
        What is computed with.
    rounds : bool
        The job's certificate holds for factors rounded to TF32 too: a kind of device that rounds
        them does so though nothing was asked for. Else it computes in float32.

    Returns
    -------
    Job
        The plan.

    Raises
    ------
    MemoryBudgetError
        With the smallest budget, in whole megabytes.
    OptionError
        If its seed is out of range, or no device has TF32 where that was asked for.
    """
    nbytes, machine = parse_nbytes(memory), _planned_for.get()
    resources = resources_of(nbytes) if machine is None else machine.resources(nbytes)
    if not rounds and precision is None and resources.precision == "tf32":
        precision = "float32"
    resources = in_precision(resources, precision)
    if isinstance(memory, Begun):
        resources = memory.laid_out(resources)
    try:
        job = _built(build, resources, machine, begun=isinstance(memory, Begun))
        seed = job.parameters.get("seed", 0)
        if not 0 <= seed < 2**63:
            raise OptionError(f"{job.driver}: seed is from 0 to 2**63 - 1; found {seed}")
        return job
    except MemoryBudgetError as error:

        def fits(megabytes: int) -> bool:
            try:
                build(replace(resources, memory_nbytes=megabytes * 10**6))
            except MemoryBudgetError:
                return False
            return True

        named = re.search(_NAMED, str(error))
        guess = int(named[1]) if named else None
        size = smallest_megabytes(fits, resources.memory_nbytes // 10**6, guess)
        if size is None:
            raise
        message = re.sub(_NAMED, f"memory='{size} MB'", str(error))
        raise MemoryBudgetError(message) from error


def _built(
    build: Callable[[Resources], Job], resources: Resources, machine: Machine | None, *, begun: bool
) -> Job:
    """Plan for the devices that make it fastest; what was begun goes on as it was cut."""
    if begun or not resources.speeds:
        return build(resources)
    there = machine or cluster_machine()
    if there is None:
        return build(resources)
    rounded = there.with_tf32() if resources.precision == "tf32" else there
    return best_cut(build, resources, rounded)


def chosen_budget(memory: Nbytes, out: Location | None, overwrite: bool) -> Nbytes:
    """Have an unfinished job go on as it was laid out; without memory=, also within its budget."""
    if out is None or overwrite:
        return memory
    resources = resources_at(store.partial_location(out))
    if resources is None:
        return memory
    nbytes = parse_nbytes(memory)
    return Begun(resources.memory_nbytes if nbytes is None else nbytes, resources)
