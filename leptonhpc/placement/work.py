"""What is placed: the tasks of a stage, in pieces that stay together, and lanes for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from leptonhpc.errors import MemoryBudgetError
from leptonhpc.placement.durations import (
    NORMAL,
    PANELS,
    Seconds,
    Slowdown,
    read_seconds,
    task_seconds,
)
from leptonhpc.placement.machine import Machine
from leptonhpc.planning import Stage, Task


@dataclass(frozen=True, slots=True)
class Item:
    """Tasks that one lane runs one after another, on one accumulator."""

    number: int
    tasks: tuple[Task, ...]
    free: bool
    """Its accumulator may be the lane's: the numbers of all items of a lane are summed up."""

    @property
    def key(self) -> str:
        """The task that ends it."""
        return self.tasks[-1].key


@dataclass(frozen=True, slots=True)
class Lane:
    """One task at a time on a device."""

    device: int
    number: int
    kind: int
    """Class of its device: what a task takes depends on that alone."""


@dataclass(frozen=True)
class Work:
    """A stage, or what is left of it, and the lanes that may do it."""

    stage: Stage
    items: tuple[Item, ...]
    machine: Machine
    lanes: tuple[Lane, ...]
    slowdown: Mapping[int, Slowdown] = field(default_factory=dict)
    """Of a device: how many times longer than predicted its tasks take."""
    resident: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    """Of an item: the device that holds what it reads, and how many bytes that is."""
    busy: Mapping[tuple[int, int], float] = field(default_factory=dict)
    """Of a lane (device, number): seconds until it can begin."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Devices that cannot do the work, and why."""
    _known: dict[tuple[Any, ...], Seconds] = field(default_factory=dict, repr=False, compare=False)

    def busy_seconds(self, lane: Lane) -> float:
        """Say when a lane can begin."""
        return max(self.busy.get((lane.device, lane.number), 0.0), self.late_seconds(lane))

    def late_seconds(self, lane: Lane) -> float:
        """Say what more than others a slower lane takes for a stage beside its tasks.

        To take messages, to open arrays, to answer: its rates say nothing of that.
        """
        return self.machine.start_seconds * (self._times_slower(lane) - 1)

    def _times_slower(self, lane: Lane) -> float:
        """Say how many times slower than the fastest cores, by rates, a lane's device is."""
        device = self.machine.devices[lane.device]
        return 1.0 if device.overlaps else max(1.0, self._fastest / device.rates.gemm_flops)

    @cached_property
    def _fastest(self) -> float:
        return max((d.rates.gemm_flops for d in self.machine.devices if not d.overlaps), default=0)

    def task_seconds(self, task: Task, lane: Lane) -> Seconds:
        """Predict what a task takes on a lane."""
        sizes = (
            task.kernel, task.flops, task.read_nbytes, task.write_nbytes, len(task.steps),
            task.at if task.kernel in PANELS else tuple(high - low for low, high in task.at),
        )  # fmt: skip
        slow = self.slowdown.get(lane.device, NORMAL)
        key = (*sizes, lane.kind, slow)
        if key not in self._known:
            self._known[key] = task_seconds(
                task, self.stage, self.machine.devices[lane.device], slow,
                self.machine.lane_seconds * self._times_slower(lane),
            )  # fmt: skip
        return self._known[key]

    def again_seconds(self, item: Item, lane: Lane) -> float:
        """Predict what a lane needs to read what is in the memory of another device."""
        home = self.resident.get(item.number)
        if home is None or home[0] == lane.device:
            return 0.0
        device = self.machine.devices[lane.device]
        again = read_seconds(device, self.stage, home[1])
        return again * self.slowdown.get(lane.device, NORMAL).read

    def seconds(self, item: Item, lane: Lane) -> float:
        """Predict what an item takes on a lane, with what must be read again there."""
        device = self.machine.devices[lane.device]
        total = sum(
            self.task_seconds(task, lane).total(overlaps=device.overlaps) for task in item.tasks
        )
        return total + self.again_seconds(item, lane)


def work_of(
    stage: Stage, machine: Machine, *, items: Sequence[Item] | None = None, **more: Any
) -> Work:
    """Find which devices can do a stage.

    Parameters
    ----------
    stage : Stage
        The stage.
    machine : Machine
        What there is.
    items : sequence of Item, optional
        What is left of the stage; default: all of it.
    **more : slowdown, resident and busy
        See `Work`.

    Returns
    -------
    Work
        Items and lanes.

    Raises
    ------
    MemoryBudgetError
        If no device has the memory that the stage needs.
    """
    lanes: list[Lane] = []
    left_out: dict[str, str] = {}
    kinds: dict[tuple[Any, ...], int] = {}
    for number, device in enumerate(machine.devices):
        if device.memory_nbytes < stage.peak_nbytes:
            left_out[device.name] = (
                f"has {device.memory_nbytes / 1e9:.3g} GB, of which stage {stage.name} needs "
                f"{stage.peak_nbytes / 1e9:.3g}"
            )
            continue
        kind = kinds.setdefault(device.class_of(), len(kinds))
        lanes += [Lane(number, i, kind) for i in range(stage.lanes_per_worker)]
    if not lanes:
        most = max(device.memory_nbytes for device in machine.devices)
        message = (
            f"stage {stage.name} needs {stage.peak_nbytes} bytes on a device; the largest has "
            f"{most}: plan with a smaller memory="
        )
        raise MemoryBudgetError(message)
    chosen = items_of(stage) if items is None else tuple(items)
    return Work(stage, chosen, machine, tuple(lanes), left_out=left_out, **more)


def items_of(stage: Stage) -> tuple[Item, ...]:
    """Cut a stage into what may be placed apart.

    Parameters
    ----------
    stage : Stage
        Where tasks are chained, each is an item: a lane's accumulator is a sum, whatever it is of.
        Unless tasks say what part of a result their lane makes: then a lane is one item. Where
        tasks are not chained, those that go on with one accumulator are one.

    Returns
    -------
    tuple of Item
        In the order of the plan.
    """
    free = stage.chained and not any(task.at for task in stage.tasks)
    groups: dict[Any, list[Task]] = {}
    for task in stage.tasks:
        key: Any = task.part_of or task.key
        groups.setdefault(task.lane if stage.chained and not free else key, []).append(task)
    return tuple(Item(i, tuple(tasks), free) for i, tasks in enumerate(groups.values()))
