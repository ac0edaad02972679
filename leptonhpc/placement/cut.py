"""For whom a job is cut: slow devices may cost more, by the smaller blocks they need, than they do.

Blocks are cut for all workers: where speeds are unlike, into more pieces. A small job, or panels
that wait for each other, may be faster in the blocks of the fast devices alone. Slow ones then get
what there is for them of those blocks, or nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Protocol, TypeVar

from leptonhpc.errors import MemoryBudgetError
from leptonhpc.placement.job import place_job
from leptonhpc.placement.machine import Machine, speed_of
from leptonhpc.planning import Explanation, Resources

_PARTS = (0.1, 0.2, 0.5)
"""Of the fastest's speed: slower devices are left out of the cut, if that is faster."""
_GAIN = 0.01
"""By less than this it is not."""
_RISK = 0.1
"""Slow devices must save more than this where all wait for what they do: who is late costs all."""
_MOST_TASKS = 5000
"""Where there are more, blocks are small beside the job, whoever they are for."""


class Planned(Protocol):
    """What was planned."""

    @property
    def explanation(self) -> Explanation:
        """Its stages, and what is between them."""


P = TypeVar("P", bound=Planned)


def best_cut(build: Callable[[Resources], P], resources: Resources, machine: Machine) -> P:
    """Plan for all devices, and for the faster ones; give what the machine does sooner.

    Parameters
    ----------
    build : callable
        Plans with what it is given.
    resources : Resources
        Of all devices that are worth planning for.
    machine : Machine
        All devices: each plan is placed on it, and simulated.

    Returns
    -------
    Planned
        The plan; for all devices unless another is faster by more than 1 %, or, where tasks wait
        for one another, slower by less than 10 %.
    """
    best = build(resources)
    if not resources.speeds or best.explanation.tasks > _MOST_TASKS:
        return best
    least = _seconds(best, machine)
    waits = any(task.needs for stage in best.explanation.planned for task in stage.tasks)
    most = 1 + _RISK if waits else 1 - _GAIN
    for fewer in _fewer(resources, machine):
        try:
            other = build(fewer)
        except MemoryBudgetError:  # a share of fewer workers may be too large for them
            continue
        found = _seconds(other, machine)
        if found < most * least:
            best, least = other, min(found, least)
    return best


def _fewer(resources: Resources, machine: Machine) -> Iterator[Resources]:
    """Give the resources of the fast devices alone."""
    fastest = max(map(speed_of, machine.devices))
    count = resources.workers
    for part in _PARTS:
        fast = tuple(d for d in machine.devices if speed_of(d) >= part * fastest)
        if len(fast) < count:
            count = len(fast)
            rates, speeds = replace(machine, devices=fast).speeds()
            yield replace(resources, workers=count, rates=rates, speeds=speeds)


def _seconds(planned: Planned, machine: Machine) -> float:
    explanation = planned.explanation
    placed = place_job(explanation.planned, machine, extra_seconds=explanation.extra_seconds)
    return placed.seconds
