"""A stage on a cluster: its items are dealt to lanes, sent as these get on, and dealt anew.

The client keeps the list of what is not yet done. Each lane (one task at a time on a worker) has a
little work ahead of it, so that the scheduler holds few tasks whatever the size of the plan, and
all else can still be given to somebody else: when a worker leaves, joins, or is slower than was
thought. What a worker that died had done and not handed over is done again, and nothing else.
"""

from __future__ import annotations

import queue
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from dask.task_spec import DataNode, List, TaskRef
from distributed import Client

from leptonhpc.kernels import Accumulator
from leptonhpc.placement import Work, items_of, place_work, work_of
from leptonhpc.planning import Stage, Task
from leptonhpc.runtime.adding import sum_accumulators
from leptonhpc.runtime.asking import fetch, raise_failure
from leptonhpc.runtime.execute import run_placed
from leptonhpc.runtime.lanes import AHEAD_SECONDS, Begun, Flying, Lane, is_uneven
from leptonhpc.runtime.monitor import Monitor
from leptonhpc.runtime.placed import PlacedTask
from leptonhpc.runtime.reading import Context
from leptonhpc.runtime.record import Record
from leptonhpc.runtime.report import PlacementReport
from leptonhpc.runtime.shared import Shared, unique_prefix
from leptonhpc.runtime.sums import Part, Total, sums_travel
from leptonhpc.runtime.workers import LOOK_SECONDS, Workers


class Dispatcher:
    """Runs one stage on the workers of a cluster.

    Parameters
    ----------
    client : distributed.Client
        The client.
    workers : Workers
        What is known of the cluster's workers.
    stage : Stage
        What to do.
    context : Context
        What its tasks share.
    small : mapping
        Its small arrays.
    done : mapping
        Accumulators of tasks that an earlier run finished.
    monitor : Monitor
        Who follows the job.
    """

    def __init__(
        self,
        client: Client,
        workers: Workers,
        stage: Stage,
        context: Context,
        small: Mapping[str, Any],
        *,
        done: Mapping[str, Mapping[str, Any]],
        monitor: Monitor,
    ) -> None:
        self._client, self._workers, self._stage = client, workers, stage
        self._items = {item.number: item for item in items_of(stage)}
        self._chained = stage.chained and not sums_travel(stage)
        """Whether tasks go on with the sum of their lane; else what each leaves comes here."""
        context = replace(context, chained=self._chained)
        harmless = context.writer is None or context.writer.mark != ""
        self._may_do_again = harmless and all(item.free for item in self._items.values())
        """Whether a task that ends late does no harm: scratch that is still there it may write."""
        self._prefix = unique_prefix(context)
        self._ending = {item.key: item.number for item in self._items.values()}
        self._lanes: dict[tuple[str, int], Lane] = {}
        self._finished: dict[int, Accumulator] = {}
        """What items of a stage that is not chained left; in this process, where it is safe."""
        for number, item in self._items.items():
            kept = done.get(f"{stage.name}/{item.key}")
            if kept is not None:
                nothing = {"steps": frozenset[Any](), "read_nbytes": 0, "units": 0}
                self._finished[number] = {**kept, **nothing}
        self._shared = Shared(client, self._prefix, context, small)
        self._total = Total(client, workers, self._prefix, stage.name)
        self._ready: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._generation = 0
        """Counts losses: what is sent again gets another key."""
        self._dealt_at, self._dealing_seconds = 0.0, 0.0
        self._record = Record(stage, monitor)

    def run(self) -> tuple[Accumulator, PlacementReport]:
        """Do all of it; give the summed accumulator, and who did what."""
        began = time.perf_counter()
        self._workers.work_on(self._stage, self._record.hear)
        try:
            self._look(first=True)
            while True:
                self._send()
                result = self._summed()
                if result is not None:
                    break
                self._wait()
                self._look()
            seconds = time.perf_counter() - began
            self._workers.take_note(wait_for=self._record.is_complete)
        finally:
            self._drop()
            self._workers.work_on(None, None)
        self._workers.take_beside(self._record.beside_seconds(seconds))
        return result, self._record.report(seconds)

    def _wake(self, _future: Any) -> None:
        """Look again; a future that were put into the queue would stay on the cluster with it."""
        self._ready.put(None)

    def _drop(self) -> None:
        """Leave nothing on the cluster."""
        for place, lane in self._lanes.items():
            lane.drop()
            if lane.given_up:  # what it does is in the memory of the next stage
                self._workers.standing[place] = lane
        self._shared.clear()
        self._total.drop()

    # -- sending

    def _send(self) -> None:
        """Give each lane what it may have ahead; when nothing is left to give, sum up."""
        graph: dict[str, Any] = {}
        sent: list[tuple[Lane, Flying, str]] = []
        for lane in self._lanes.values():
            ahead, flying = lane.ahead_seconds(), len(lane.flying)
            before: Any = lane.flying[-1].future if flying else lane.tail
            known = self._workers.is_known(lane.address)
            while lane.may_have(flying, ahead, known=known):
                found = self._next(lane, flying)
                if found is None:
                    break
                task, ends, first = found
                if first and self._chained and not self._continues_sum:
                    before = None
                key = f"{task.kernel}-{self._prefix}-{task.key}-{self._generation}"
                graph[key] = self._call(graph, key, task, lane, before)
                assert lane.begun is not None
                seconds = self._workers.predicted(task, lane.address)
                entry = Flying(task, lane.begun.number, None, seconds, ends)  # type: ignore[arg-type]
                sent.append((lane, entry, key))
                self._record.sent(task.key, lane.address, lane.number)
                before, ahead, flying = TaskRef(key), ahead + seconds, flying + 1
                if ends:
                    lane.begun = None
        futures = self._shared.submit(graph, [key for _, _, key in sent]) if graph else []
        now = time.perf_counter()
        for (lane, entry, _), future in zip(sent, futures, strict=True):
            entry.future = future
            lane.since = lane.since if lane.flying else now
            lane.flying.append(entry)
            future.add_done_callback(self._wake)
        self._sum()

    @property
    def _continues_sum(self) -> bool:
        """Whether an item adds to what its lane has."""
        return self._chained and next(iter(self._items.values())).free

    def _next(self, lane: Lane, flying: int) -> tuple[Task, bool, bool] | None:
        """Give the lane's next task, whether it ends and whether it begins an item."""
        first = lane.begun is None
        if lane.begun is None:
            if not lane.queue:
                return None
            # where each item has its own sum, the next one begins when the last one is there
            if self._chained and not self._continues_sum and flying:
                return None
            item = self._items[lane.queue[0]]
            if not self._is_ready(item.tasks[0]):
                return None
            lane.begun = Begun(lane.queue.popleft(), deque(item.tasks))
            lane.held.append(item.number)
        if not self._is_ready(lane.begun.tasks[0]):
            return None
        task = lane.begun.tasks.popleft()
        return task, not lane.begun.tasks, first

    def _is_ready(self, task: Task) -> bool:
        return all(self._ending[need] in self._finished for need in task.needs)

    def _call(
        self, graph: dict[str, Any], key: str, task: Task, lane: Lane, before: Any
    ) -> PlacedTask:
        needed = List(*(self._shared.value(n, self._finished[self._ending[n]]) for n in task.needs))
        shared = self._shared.with_worker(lane.address, graph)
        call = (run_placed, DataNode(None, task), shared, before, needed)
        return PlacedTask(key, *call, owner=lane.address)

    def _wait(self) -> None:
        """Wait for a task to end, or for a lane that has little left; take note of what ended."""
        waits = [
            max(0.01, lane.ahead_seconds() - AHEAD_SECONDS)
            for lane in self._lanes.values()
            if lane.queue or lane.begun is not None
        ]
        waits += [AHEAD_SECONDS / 2] * bool(self._idle())
        try:
            self._ready.get(timeout=min([LOOK_SECONDS, *waits]))
            while True:
                self._ready.get_nowait()
        except queue.Empty:
            pass
        self._workers.take_note()
        for lane in self._lanes.values():
            while lane.flying and lane.flying[0].future.done():
                if lane.given_up:
                    lane.take_up()
                    continue
                if lane.flying[0].future.status != "finished":
                    if self._workers.are_gone([lane.process]):
                        break  # it is lost with its lane
                    raise_failure(lane.flying[0].future, self._stage.name)
                flying = lane.flying.popleft()
                lane.since = time.perf_counter()
                lane.tail = flying.future  # the one before goes: this one took it over
                if flying.ends and not self._chained:
                    lane.landed.append(flying)
                elif flying.ends and not self._continues_sum:
                    lane.ended.append(flying.future)
        self._fetch()

    def _fetch(self) -> None:
        """Have what finished items left in this process, where no worker can lose it."""
        landed = [(lane, f) for lane in self._lanes.values() for f in lane.landed]
        if not landed:
            return
        is_lost = partial(self._workers.are_gone, {lane.process for lane, _ in landed})
        found = fetch(self._client, [flying.future for _, flying in landed], is_lost)
        if found is None:
            return  # the lanes that are left are asked again when the others were taken away
        for (lane, flying), acc in zip(landed, found, strict=True):
            self._finished[flying.item] = acc
            lane.held.remove(flying.item)
        for lane, _ in landed:
            lane.landed.clear()

    # -- dealing

    def _look(self, *, first: bool = False) -> None:
        """See who is there; deal anew where that is of use."""
        changed = self._workers.look()
        present = set(self._workers.processes.values())
        for lane in [lane for lane in self._lanes.values() if lane.process not in present]:
            self._lose(lane)
        for process in present:
            for number in range(self._stage.lanes_per_worker):
                if (place := (process[0], number)) not in self._lanes:
                    standing = self._workers.standing.pop(place, None)
                    self._lanes[place] = standing or Lane(process, number)
        overdue: dict[str, float] = {}
        for lane in self._lanes.values():
            overdue[lane.address] = max(overdue.get(lane.address, 1.0), lane.overdue())
            self._step_back(lane)
        self._workers.overdue = overdue
        self._give_up_standing()
        pause = max(LOOK_SECONDS, 20 * self._dealing_seconds)
        rested = time.perf_counter() - self._dealt_at > pause
        if first or changed or self._orphans() or (rested and self._is_uneven()):
            self._deal(anew=first or changed)

    def _lose(self, lane: Lane) -> None:
        """Take back all that a lane had: what is in its accumulators is lost."""
        del self._lanes[lane.address, lane.number]
        self._total.drop()
        if lane.flying:
            self._record.died(lane.flying[0].task.key)
        lane.drop()
        self._record.lost(lane.address)
        self._shared.lose(lane.address)
        self._generation += 1

    def _give_up_standing(self) -> None:
        """Let idle lanes do again what a late one has in its sum, or in flight, if sums travel."""
        idle = self._idle()
        for lane in self._lanes.values() if idle else ():
            if lane.given_up:
                continue
            numbers = lane.held if self._chained else [flying.item for flying in lane.flying]
            again = self._seconds_of(numbers, idle[0].address) / len(idle)
            if lane.stands_still(again) if self._chained else lane.is_late(again):
                lane.give_up()
                self._total.drop()
                self._generation += 1

    def _idle(self) -> list[Lane]:
        """Give lanes that could do again what others are late with."""
        return [lane for lane in self._lanes.values() if self._may_do_again and lane.is_idle]

    def _orphans(self) -> set[int]:
        """Give items that are neither done nor with any lane."""
        left = set(self._items) - set(self._finished)
        for lane in self._lanes.values():
            left.difference_update(lane.held, lane.queue)
        return left

    def _deal(self, *, anew: bool) -> None:
        """Deal what is not begun; it is no news if each lane gets what it had."""
        began = time.perf_counter()
        waiting = self._orphans().union(*(lane.queue for lane in self._lanes.values()))
        placed = place_work(self._work(sorted(waiting)))
        devices = self._workers.machine.devices
        before = [lane.queue for lane in self._lanes.values()]
        for lane in self._lanes.values():
            lane.queue = deque()
        for owner, numbers in zip(placed.placement.lanes, placed.placement.order, strict=True):
            self._lanes[devices[owner.device].name, owner.number].queue.extend(numbers)
        if anew or before != [lane.queue for lane in self._lanes.values()]:
            self._record.dealt(placed)
        self._dealt_at = time.perf_counter()
        self._dealing_seconds = self._dealt_at - began

    def _step_back(self, lane: Lane) -> None:
        """Give up an item that waits, where the lane was given one before it.

        Items need only those before them. So the first that is not done can always run, if no lane
        holds on to a later one that waits.
        """
        begun = lane.begun
        if begun is None or lane.flying or not lane.queue or lane.queue[0] > begun.number:
            return
        if self._is_ready(begun.tasks[0]):
            return
        lane.step_back()
        self._generation += 1

    def _is_uneven(self) -> bool:
        """Whether lanes would end much later than they might."""
        self._dealt_at = time.perf_counter()
        if not any(lane.queue for lane in self._lanes.values()):
            return False
        lanes, typical = self._lanes.values(), self._workers.typical_seconds
        rests = [self._busy(lane) + self._seconds_of(lane.queue, lane.address) for lane in lanes]
        return is_uneven(rests, [typical(lane.address) for lane in lanes])

    def _seconds_of(self, numbers: Iterable[int], address: str) -> float:
        """Predict the seconds of items on a worker."""
        tasks = (task for number in numbers for task in self._items[number].tasks)
        return sum(self._workers.predicted(task, address) for task in tasks)

    def _work(self, numbers: list[int]) -> Work:
        devices = self._workers.machine.devices
        places = {device.name: place for place, device in enumerate(devices)}
        resident = {}
        for number in numbers:
            affinity = self._items[number].tasks[0].affinity
            home = self._workers.homes.get(affinity) if affinity is not None else None
            if home is not None:
                resident[number] = (places[home[0]], home[1])
        return work_of(
            self._stage, self._workers.machine, items=[self._items[n] for n in numbers],
            slowdown={p: self._workers.slowdown(name) for name, p in places.items()},
            resident=resident,
            busy={(places[a], n): self._busy(lane) for (a, n), lane in self._lanes.items()},
        )  # fmt: skip

    def _busy(self, lane: Lane) -> float:
        """Seconds until a lane has done what it began."""
        begun = lane.begun.tasks if lane.begun is not None else ()
        rest = sum(self._workers.predicted(task, lane.address) for task in begun)
        return lane.ahead_seconds() + rest

    # -- the sum

    def _sum(self) -> None:
        """Add what lanes have, once all is on its way."""
        if not self._chained or self._total.is_begun or self._orphans():
            return
        parts: list[Part] = []
        for lane in self._lanes.values():
            if lane.queue or lane.begun is not None:
                return
            if lane.given_up:
                continue
            parts += [(future, lane.address) for future in lane.ended]
            if lane.flying:
                parts.append((lane.flying[-1].future, lane.address))
            elif lane.tail is not None and self._continues_sum:
                parts.append((lane.tail, lane.address))
        self._total.begin(parts, self._generation, self._wake)

    def _summed(self) -> Accumulator | None:
        """Give the sum, if it is there."""
        if self._chained:
            return self._total.result()
        if len(self._finished) < len(self._items):
            return None
        return sum_accumulators([dict(self._finished[n]) for n in sorted(self._items)])
