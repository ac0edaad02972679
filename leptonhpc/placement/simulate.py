"""What a placed stage will take: its tasks replayed, with the store and the scheduler shared."""

from __future__ import annotations

import heapq
import math
from collections import deque
from dataclasses import dataclass, field

from leptonhpc.errors import OptionError
from leptonhpc.placement.durations import Seconds
from leptonhpc.placement.policies import Placement
from leptonhpc.placement.work import Work


@dataclass(frozen=True, slots=True)
class Span:
    """One task on one lane."""

    lane: int
    task: str
    start: float
    end: float


@dataclass(frozen=True)
class Simulation:
    """What happened in the model."""

    seconds: float
    """From the first task's start to the last one's end."""
    spans: tuple[Span, ...]
    busy: tuple[float, ...]
    """Seconds of each lane, waits for the store included."""
    store_busy: float
    """Part of the time in which devices waited for the store's share."""
    scheduler_busy: float
    """Part of the time that the scheduler needed for its tasks."""


def simulate(work: Work, placement: Placement) -> Simulation:
    """Replay a placed stage, event by event.

    Parameters
    ----------
    work : Work
        Items, lanes and what tasks take.
    placement : Placement
        What each lane does, in order.

    Returns
    -------
    Simulation
        Seconds and spans. A lane does one task at a time and waits for what a task needs. Reads
        share the store in proportion to what each would read alone, and so do writes. The scheduler
        lets tasks begin one after another.

    Raises
    ------
    OptionError
        If lanes wait for one another for ever: the placement's order is not one of the plan.
    """
    return _Replay(work, placement).run()


@dataclass
class _Shared:
    """A store that flows share: all go slower by the same factor when they want too much.

    In virtual time, which stands still in proportion, each flow ends after its own seconds.
    """

    most: float
    wanted: float = 0.0
    now: float = 0.0
    virtual: float = 0.0
    delayed: float = 0.0
    ends: list[tuple[float, int, float]] = field(default_factory=list)

    @property
    def speed(self) -> float:
        return 1.0 if self.wanted <= self.most else self.most / self.wanted

    def advance(self, now: float) -> None:
        """Let the time pass."""
        self.virtual += (now - self.now) * self.speed
        if self.speed < 1.0:
            self.delayed += now - self.now
        self.now = now

    def add(self, now: float, seconds: float, lane: int, nbytes: float) -> None:
        """Begin a flow that takes so long when it is alone."""
        self.advance(now)
        rate = nbytes / seconds
        self.wanted += rate
        heapq.heappush(self.ends, (self.virtual + seconds, lane, rate))

    def next_end(self) -> float:
        """Say when the next flow ends, if nothing else begins."""
        return self.now + max(0.0, self.ends[0][0] - self.virtual) / self.speed

    def pop(self, now: float) -> int:
        """End it; give its lane."""
        self.advance(now)
        end, lane, rate = heapq.heappop(self.ends)
        self.virtual = max(self.virtual, end)
        self.wanted = max(0.0, self.wanted - rate) if self.ends else 0.0
        return lane


class _Replay:
    """State of one simulation."""

    def __init__(self, work: Work, placement: Placement) -> None:
        items = {item.number: item for item in work.items}
        self.work, self.placement = work, placement
        self.queues = [
            deque(task for number in numbers for task in items[number].tasks)
            for numbers in placement.order
        ]
        here = {task.key for queue in self.queues for task in queue}
        self.missing = {
            task.key: sum(need in here for need in task.needs)
            for queue in self.queues for task in queue
        }  # fmt: skip
        self.dependents: dict[str, list[tuple[int, str]]] = {}
        for lane, queue in enumerate(self.queues):
            for task in queue:
                for need in task.needs:
                    if need in here:
                        self.dependents.setdefault(need, []).append((lane, task.key))
        self.waiting = [False] * len(self.queues)
        self.started = [0.0] * len(self.queues)
        self.phase = [""] * len(self.queues)
        self.current: list[Seconds] = [Seconds(0, 0, 0, 0)] * len(self.queues)
        self.left = [0] * len(self.queues)
        self.spans: list[Span] = []
        self.busy = [0.0] * len(self.queues)
        self.events: list[tuple[float, int, int]] = []
        self.again = {
            items[number].tasks[0].key: (seconds, work.resident[number][1])
            for lane, numbers in zip(placement.lanes, placement.order, strict=True)
            for number in (numbers if work.resident else ())
            if (seconds := work.again_seconds(items[number], lane))
        }
        """Of tasks whose blocks are in the memory of another device: they are read again."""
        machine = work.machine
        self.reads, self.writes = (
            _Shared(machine.store_read_bytes), _Shared(machine.store_write_bytes),
        )  # fmt: skip
        self.scheduler_free = 0.0
        self.scheduled = 0
        self.count = 0

    def run(self) -> Simulation:
        """Go from event to event."""
        for number, owner in enumerate(self.placement.lanes):
            if self.queues[number]:
                self._at(self.work.busy_seconds(owner), number)
        now = 0.0
        while True:
            times = (
                self.events[0][0] if self.events else math.inf,
                self.reads.next_end() if self.reads.ends else math.inf,
                self.writes.next_end() if self.writes.ends else math.inf,
            )
            now_next = min(times)
            if now_next == math.inf:
                break
            now = max(now, now_next)
            if now_next == times[0]:
                lane = heapq.heappop(self.events)[2]
            else:
                lane = (self.reads if now_next == times[1] else self.writes).pop(now)
            self._step(lane, now)
        if any(self.queues):
            raise OptionError("lanes wait for one another: their order is not one of the plan")
        total = max((span.end for span in self.spans), default=0.0)
        delayed = min(total, self.reads.delayed + self.writes.delayed)
        return Simulation(
            total, tuple(self.spans), tuple(self.busy), delayed / total if total else 0.0,
            min(1.0, self.scheduled * self.work.machine.task_seconds / total) if total else 0.0,
        )  # fmt: skip

    def _next(self, lane: int, now: float) -> None:
        """Begin the lane's next task, or wait for what it needs."""
        queue = self.queues[lane]
        if not queue:
            return
        if self.missing[queue[0].key]:
            self.waiting[lane] = True
            return
        begin = max(now, self.scheduler_free)
        self.scheduler_free = begin + self.work.machine.task_seconds
        self.scheduled += 1
        self.phase[lane] = "begin"
        self._at(self.scheduler_free, lane)

    def _step(self, lane: int, now: float) -> None:
        """Go on with a lane's task: it reads, computes (at once, where the device can), writes."""
        device = self.work.machine.devices[self.placement.lanes[lane].device]
        phase, task = self.phase[lane], self.queues[lane][0]
        if not phase:
            self._next(lane, now)
            return
        if phase == "begin":
            self.started[lane] = now
            took = self.work.task_seconds(task, self.placement.lanes[lane])
            read, nbytes = took.read + took.fresh, task.read_nbytes
            if task.key in self.again:
                seconds, more = self.again[task.key]
                read, nbytes = read + seconds, nbytes + more
            self.current[lane] = took
            self.left[lane] = 1
            self.phase[lane] = "read"
            if device.overlaps and max(took.compute, took.link) > 0:
                self.left[lane] += 1
                self._at(now + max(took.compute, took.link), lane)
            self._flow(self.reads, now, read, lane, nbytes)
            return
        took = self.current[lane]
        if phase == "read":
            self.left[lane] -= 1
            if self.left[lane]:
                return
            alone = 0.0 if device.overlaps else took.compute
            if self.writes.most == math.inf:  # nothing is shared any more: one event for both
                self.phase[lane] = "end"
                self._at(now + alone + took.write, lane)
                return
            self.phase[lane] = "compute"
            if alone > 0:
                self._at(now + alone, lane)
                return
        if self.phase[lane] == "compute":
            self.phase[lane] = "write"
            if took.write > 0:
                self._flow(self.writes, now, took.write, lane, task.write_nbytes)
                return
        self._end(lane, now)

    def _flow(self, store: _Shared, now: float, seconds: float, lane: int, nbytes: float) -> None:
        if seconds <= 0 or store.most == math.inf:
            self._at(now + seconds, lane)
        else:
            store.add(now, seconds, lane, nbytes)

    def _end(self, lane: int, now: float) -> None:
        task = self.queues[lane].popleft()
        self.spans.append(Span(lane, task.key, self.started[lane], now))
        self.busy[lane] += now - self.started[lane]
        for other, key in self.dependents.get(task.key, ()):
            self.missing[key] -= 1
            queue = self.queues[other]
            if self.waiting[other] and not self.missing[queue[0].key]:
                self.waiting[other] = False
                self._next(other, now)
        self._next(lane, now)

    def _at(self, time: float, lane: int) -> None:
        self.count += 1
        heapq.heappush(self.events, (time, self.count, lane))
