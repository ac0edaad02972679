"""What a job does now, for whoever looks: a terminal, another process, Dask's dashboard.

All of them show the same facts, which `Monitor.facts` gives as JSON can hold them.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from leptonhpc.planning import Stage, Task
from leptonhpc.planning.explain import Explanation
from leptonhpc.runtime.memory import resident_nbytes
from leptonhpc.runtime.timeline import Timeline, spans_to_dict

HERE = "this process"
"""The name of the one device there is without a cluster."""
RECENT_SECONDS = 10.0
"""Rates are those of so long."""
_MOST_DEVICES = 100
"""So many are told of, those that did most; all are counted."""


@dataclass
class _Device:
    """One device while a job runs."""

    lanes: dict[int, deque[str]] = field(default_factory=dict)
    """What each lane was given and has not done."""
    tasks: int = 0
    flops: float = 0.0
    busy_seconds: float = 0.0
    read_nbytes: int = 0
    write_nbytes: int = 0
    memory_nbytes: int | None = None
    """Resident, at the end of its last task."""
    recent: deque[tuple[float, int, int]] = field(default_factory=deque)
    """When tasks ended, and what they read and wrote."""

    def rates(self, now: float, since: float) -> tuple[float, float]:
        """Give bytes read and written per second."""
        while self.recent and self.recent[0][0] < now - RECENT_SECONDS:
            self.recent.popleft()
        seconds = max(1e-3, min(RECENT_SECONDS, now - since))
        return (
            sum(read for _, read, _ in self.recent) / seconds,
            sum(wrote for _, _, wrote in self.recent) / seconds,
        )


class Monitor:
    """Follows one job.

    Parameters
    ----------
    explanation : Explanation
        Of its plan.
    name : str
        Of this run of it.
    """

    def __init__(self, explanation: Explanation, name: str = "") -> None:
        self.timeline = Timeline()
        self.on_task: Callable[[], None] | None = None
        """Called when a task is done, for the first time."""
        self._plan, self._name = explanation, name
        work = sum(stage.seconds * stage.repeats for stage in explanation.planned)
        self._planned_seconds = work + explanation.extra_seconds
        """Predicted, of the work alone: what is beside it does not tell of speed."""
        self._devices: dict[str, _Device] = {}
        self._began = self._stage_began = time.perf_counter()
        self._stage: Stage | None = None
        self._done = 0
        self._done_before = 0
        """Of the stage that runs: tasks that an earlier run had done."""
        self._behind_seconds = 0.0
        """Predicted, of the stages that are done."""
        self._ran_seconds, self._ran_predicted = 0.0, 0.0
        self._lock = threading.Lock()

    def begin(self, stage: Stage, done: int) -> None:
        """Note that a stage begins.

        Parameters
        ----------
        stage : Stage
            The stage.
        done : int
            Tasks of it that an earlier run has done.
        """
        with self._lock:
            self._stage, self._done, self._done_before = stage, done, done
            self._stage_began = time.perf_counter()

    def end(self, stage: Stage, *, ran: bool) -> None:
        """Note that a stage is done.

        Parameters
        ----------
        stage : Stage
            The stage.
        ran : bool
            Not taken from the journal.
        """
        with self._lock:
            self._behind_seconds += stage.seconds
            if ran:
                left = 1 - self._done_before / max(1, len(stage.tasks))
                self._ran_seconds += time.perf_counter() - self._stage_began
                self._ran_predicted += stage.seconds * left
            self._stage = None
            for device in self._devices.values():
                device.lanes.clear()

    def sent(self, device: str, lane: int, task: Task) -> None:
        """Note that a lane was given a task.

        Parameters
        ----------
        device : str
            Whose lane.
        lane : int
            Its number.
        task : Task
            The task.
        """
        with self._lock:
            lanes = self._devices.setdefault(device, _Device()).lanes
            lanes.setdefault(lane, deque()).append(f"{task.kernel} {task.key}")

    def lost(self, device: str) -> None:
        """Note that a device is gone, with what it was given."""
        with self._lock:
            self._devices.setdefault(device, _Device()).lanes.clear()

    def heard(
        self, device: str, lane: int, task: Task, told: Mapping[str, Any], *, again: bool = False
    ) -> None:
        """Note that a task is done.

        Parameters
        ----------
        device : str
            Who did it.
        lane : int
            Its lane.
        task : Task
            The task.
        told : mapping
            What is known of it, see `execute.account`.
        again : bool
            It was done before, and lost.
        """
        with self._lock:
            known = self._devices.setdefault(device, _Device())
            waiting = known.lanes.get(lane)
            if waiting:
                waiting.popleft()
            self._done += not again
            known.tasks += 1
            known.flops += task.flops
            known.busy_seconds += told["seconds"]
            known.read_nbytes += told["read_nbytes"]
            known.write_nbytes += task.write_nbytes
            known.memory_nbytes = told.get("resident_nbytes")
            known.recent.append((told["ended"], told["read_nbytes"], task.write_nbytes))
            self.timeline.add(
                device, lane, self._stage.name if self._stage is not None else "",
                ended_seconds=told["ended"] - self._began, seconds=told["seconds"],
            )  # fmt: skip
        if self.on_task is not None and not again:
            self.on_task()

    def left_seconds(self) -> float:
        """Predict what is left, by the plan and by how fast this run was up to now."""
        now, stage = time.perf_counter(), self._stage
        ran, predicted, left = self._ran_seconds, self._ran_predicted, 0.0
        if stage is not None:
            each = stage.seconds / max(1, len(stage.tasks))
            left = each * (len(stage.tasks) - self._done)
            ran += now - self._stage_began if self._done > self._done_before else 0.0
            predicted += each * (self._done - self._done_before)
        behind = self._behind_seconds + (stage.seconds - left if stage is not None else 0.0)
        slower = ran / predicted if ran > 0 and predicted > 0 else 1.0
        return slower * max(left, self._planned_seconds - behind)

    def facts(self) -> dict[str, Any]:
        """Give what is to be shown.

        Returns
        -------
        dict
            Driver, stage, its tasks and those done, seconds since the beginning and predicted to be
            left, and of each device what it does, its share of the flops, memory and rates.
        """
        with self._lock:
            now = time.perf_counter()
            flops = sum(device.flops for device in self._devices.values()) or 1.0
            shown = sorted(self._devices.items(), key=lambda item: -item[1].flops)[:_MOST_DEVICES]
            return {
                "run": self._name,
                "driver": self._plan.driver,
                "stage": self._stage.name if self._stage is not None else None,
                "tasks": len(self._stage.tasks) if self._stage is not None else 0,
                "done": self._done if self._stage is not None else 0,
                "seconds": now - self._began,
                "left_seconds": self.left_seconds(),
                "planned_seconds": self._plan.seconds,
                "device_count": len(self._devices),
                "devices": [
                    self._told_of(name, device, now, flops) for name, device in sorted(shown)
                ],
            }

    def plan(self) -> dict[str, Any]:
        """Give what a page shows beside `facts`: the plan's stages, and the timeline up to now."""
        with self._lock:
            spans = tuple(self.timeline)
        return {
            "method": self._plan.method,
            "stages": [
                {name: stage[name] for name in ("name", "times", "tasks", "seconds")}
                for stage in self._plan.stages
            ],
            "spans": spans_to_dict(spans),
        }

    def _told_of(self, name: str, device: _Device, now: float, flops: float) -> dict[str, Any]:
        read, written = device.rates(now, self._began)
        doing = [waiting[0] for _, waiting in sorted(device.lanes.items()) if waiting]
        return {
            "name": name,
            "doing": doing[0] if doing else None,
            "busy_lanes": len(doing),
            "tasks": device.tasks,
            "share": device.flops / flops,
            "busy_seconds": device.busy_seconds,
            "memory_nbytes": resident_nbytes() if name == HERE else device.memory_nbytes,
            "read_nbytes": device.read_nbytes,
            "write_nbytes": device.write_nbytes,
            "read_bytes_per_second": read,
            "write_bytes_per_second": written,
        }
