"""The placement of a stage: each policy tried on the model, the fastest taken."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from leptonhpc.errors import OptionError
from leptonhpc.placement.durations import NORMAL, Slowdown
from leptonhpc.placement.machine import Machine
from leptonhpc.placement.policies import POLICIES, Placement, Policy, homogeneous, without
from leptonhpc.placement.simulate import Simulation, simulate
from leptonhpc.placement.work import Work, work_of
from leptonhpc.planning import Stage

_GAIN = 0.01
"""A policy is taken before a simpler one if it is faster by more than this."""
_MOST_TRIED = 8
"""Sets of devices that are left out one after another."""
_FEW_ITEMS = 2000
"""Up to so many, each set is tried with each policy."""


@dataclass(frozen=True)
class Placed:
    """A placed stage."""

    work: Work
    placement: Placement
    simulation: Simulation
    considered: Mapping[str, float]
    """Simulated seconds by policy."""

    def shares(self) -> dict[str, tuple[int, float, float]]:
        """Give the tasks of each device, its part of the work, and its busy seconds."""
        devices = self.work.machine.devices
        total = sum(t.flops + t.read_nbytes for i in self.work.items for t in i.tasks) or 1.0
        items = {item.number: item for item in self.work.items}
        result: dict[str, tuple[int, float, float]] = {d.name: (0, 0.0, 0.0) for d in devices}
        for lane, numbers, busy in zip(
            self.placement.lanes, self.placement.order, self.simulation.busy, strict=True
        ):
            name = devices[lane.device].name
            count, share, seconds = result[name]
            tasks = [task for number in numbers for task in items[number].tasks]
            amount = sum(task.flops + task.read_nbytes for task in tasks)
            result[name] = (count + len(tasks), share + amount / total, seconds + busy)
        return result


def place(stage: Stage, machine: Machine, *, policy: str | None = None) -> Placed:
    """Place a stage.

    Parameters
    ----------
    stage : Stage
        Its tasks.
    machine : Machine
        Who can do them.
    policy : str, optional
        One of `POLICIES`; default: the one that is fastest in the simulation.

    Returns
    -------
    Placed
        The placement, what it takes in the model, and what others would take.

    Raises
    ------
    MemoryBudgetError
        If no device has the memory.
    OptionError
        If there is no such policy.
    """
    return place_work(work_of(stage, machine), policy=policy)


def place_work(work: Work, *, policy: str | None = None) -> Placed:
    """Place a stage, or what is left of one; see `place`.

    Parameters
    ----------
    work : Work
        Items and lanes.
    policy : str, optional
        See `place`.

    Returns
    -------
    Placed
        The placement.
    """
    if policy is not None and policy not in POLICIES:
        raise OptionError(f"policy is one of {', '.join(POLICIES)}; found {policy!r}")
    if policy is None and not work.resident and _alike(work):
        placement = homogeneous(work)
        simulation = simulate(work, placement)
        return Placed(work, placement, simulation, {"homogeneous": simulation.seconds})
    names = [policy] if policy else _of_use(work)
    best: Placed | None = None
    considered: dict[str, float] = {}
    for name in names:
        found = _tried(POLICIES[name], work)
        considered[name] = found.simulation.seconds
        if best is None or found.simulation.seconds < best.simulation.seconds * (1 - _GAIN):
            best = found
    assert best is not None
    if policy is None:
        best = _without_slow(best, names)
    return Placed(best.work, best.placement, best.simulation, considered)


def _of_use(work: Work) -> list[str]:
    """Give the policies that may differ: longest first is any order where all are equal."""
    sizes = {
        tuple((t.kernel, t.flops, t.read_nbytes, t.write_nbytes) for t in item.tasks)
        for item in work.items
    }
    if work.resident:
        return list(POLICIES)
    useless = ("locality", "heft") if len(sizes) <= 1 else ("locality",)
    return [name for name in POLICIES if name not in useless]


def _tried(policy: Policy, work: Work) -> Placed:
    placement = policy(work)
    return Placed(work, placement, simulate(work, placement), {})


def _alike(work: Work) -> bool:
    """Whether all lanes are of one speed."""
    speeds = {(lane.kind, work.slowdown.get(lane.device, NORMAL)) for lane in work.lanes}
    return len(speeds) <= 1


def _without_slow(best: Placed, names: list[str]) -> Placed:
    """Leave out devices that the job is no slower without: the slowest first.

    They must save more than they are late: so late may their last answer be too. Where items wait
    for others no policy knows how long. So a job may be slower without one device, and faster
    without two.
    """
    work, few = best.work, len(best.work.items) <= _FEW_ITEMS
    for devices in _slowest(work):
        fewer = without(work, devices, "the job is as fast without it")
        tried = [_tried(POLICIES[n], fewer) for n in (names if few else [best.placement.policy])]
        found = min(tried, key=lambda placed: placed.simulation.seconds)
        late = max(work.late_seconds(lane) for lane in work.lanes if lane.device in devices)
        if found.simulation.seconds <= best.simulation.seconds * (1 + 1e-9) + late:
            best = found
        elif not few:
            break
    return best


def _slowest(work: Work) -> Iterable[set[int]]:
    """Give growing sets of the slowest devices, but never all."""
    speeds: dict[float, set[int]] = {}
    sample = work.items[:: max(1, len(work.items) // 16)]
    known: dict[tuple[int, Slowdown], float] = {}
    for lane in work.lanes:
        key = (lane.kind, work.slowdown.get(lane.device, NORMAL))
        if key not in known:
            known[key] = sum(work.seconds(item, lane) for item in sample)
        speeds.setdefault(known[key], set()).add(lane.device)
    gone: set[int] = set()
    for speed in sorted(speeds, reverse=True)[: min(_MOST_TRIED, len(speeds) - 1)]:
        gone = gone | speeds[speed]
        yield gone
