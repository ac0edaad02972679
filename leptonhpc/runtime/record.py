"""Who did what of a stage on a cluster, by the workers' own account."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from leptonhpc.errors import WorkerError
from leptonhpc.placement import Placed
from leptonhpc.planning import Stage
from leptonhpc.runtime.monitor import Monitor
from leptonhpc.runtime.report import DeviceReport, PlacementReport

_MOST_DEATHS = 4


class Record:
    """What workers tell of a stage while it runs, and what is said of it at its end.

    Parameters
    ----------
    stage : Stage
        The stage.
    monitor : Monitor
        Who follows the job.
    """

    def __init__(self, stage: Stage, monitor: Monitor) -> None:
        self._stage, self._monitor = stage, monitor
        self._tasks = {task.key: task for task in stage.tasks}
        self._owners: dict[str, dict[str, int]] = {}
        """Of each task that was sent: the lane that it was sent to, by address."""
        self._off_owner = 0
        self._deaths: dict[str, int] = {}
        self._done: set[str] = set()
        self._devices: dict[str, tuple[int, float, float]] = {}
        self._first: Placed | None = None
        self._policies: dict[str, int] = {}
        self._busy: tuple[float, float] | None = None
        """When the first task began and the last one ended."""

    def sent(self, key: str, address: str, lane: int = 0) -> None:
        """Take note of who is to do a task."""
        self._owners.setdefault(key, {})[address] = lane
        self._monitor.sent(address, lane, self._tasks[key])

    def dealt(self, placed: Placed) -> None:
        """Take note of a placement."""
        self._first = self._first or placed
        name = placed.placement.policy
        self._policies[name] = self._policies.get(name, 0) + 1

    def lost(self, address: str) -> None:
        """Take note that a worker is gone."""
        self._monitor.lost(address)

    def died(self, key: str) -> None:
        """Count the deaths of workers that a task was there at: after some it is their cause."""
        deaths = self._deaths[key] = self._deaths.get(key, 0) + 1
        if deaths >= _MOST_DEATHS:
            message = (
                f"{deaths} workers died while they did task {key} of stage {self._stage.name}; "
                "their logs may say why (out of memory?)"
            )
            raise WorkerError(message)

    def hear(self, told: Mapping[str, Any]) -> None:
        """Take note of a task that is done, by the worker's own account."""
        address, task = told["address"], self._tasks[told["task"]]
        owners = self._owners.get(task.key, {})
        self._off_owner += address not in owners
        count, seconds, flops = self._devices.get(address, (0, 0.0, 0.0))
        self._devices[address] = (count + 1, seconds + told["seconds"], flops + task.flops)
        first, last = self._busy or (told["ended"], told["ended"])
        self._busy = min(first, told["ended"] - told["seconds"]), max(last, told["ended"])
        again = task.key in self._done  # what was lost and is done again was counted
        self._done.add(task.key)
        self._monitor.heard(address, owners.get(address, 0), task, told, again=again)

    def is_complete(self) -> bool:
        """Whether all tasks were told of."""
        return len(self._done) >= len(self._owners)

    def beside_seconds(self, seconds: float) -> float | None:
        """Say how much of a stage's seconds was before its first task and after its last one."""
        if self._busy is None:  # all was done before
            return None
        first, last = self._busy
        return max(0.0, seconds - (last - first))

    def report(self, seconds: float) -> PlacementReport:
        """Sum it up."""
        assert self._first is not None
        devices = tuple(DeviceReport(a, *row) for a, row in sorted(self._devices.items()))
        return PlacementReport(
            self._first.placement.policy,
            self._first.simulation.seconds + self._first.work.machine.start_seconds, seconds,
            self._off_owner, sum(self._policies.values()) - 1, devices,
            dict(self._first.placement.left_out),
        )  # fmt: skip
