"""Who does what: pure functions from work to a placement."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from leptonhpc.placement.durations import NORMAL, Slowdown
from leptonhpc.placement.work import Item, Lane, Work


@dataclass(frozen=True)
class Placement:
    """Items of each lane, in the order in which it does them."""

    policy: str
    lanes: tuple[Lane, ...]
    order: tuple[tuple[int, ...], ...]
    """Numbers of items, lane by lane."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Devices that get nothing, and why."""

    def owners(self) -> dict[int, int]:
        """Give the device of each item."""
        return {
            number: lane.device
            for lane, numbers in zip(self.lanes, self.order, strict=True)
            for number in numbers
        }


Policy = Callable[[Work], Placement]


def homogeneous(work: Work) -> Placement:
    """Give each lane as many items as the others, as if all were alike.

    Parameters
    ----------
    work : Work
        Items and lanes.

    Returns
    -------
    Placement
        Free items in runs of neighbours, others in turn.
    """
    count, total = len(work.lanes), len(work.items)
    order: list[list[int]] = [[] for _ in work.lanes]
    for position, item in enumerate(work.items):
        lane = position * count // total if item.free else position % count
        order[lane].append(item.number)
    return _placed("homogeneous", work, work.lanes, order)


def weighted(work: Work) -> Placement:
    """Deal items in the order of the plan, to each lane as many as it is fast.

    Parameters
    ----------
    work : Work
        Items and lanes.

    Returns
    -------
    Placement
        Block-cyclic with weights: the next item goes to the lane that would end it first if all
        items so far had taken their average.
    """
    return _dealt("weighted", work, work.items, _average(work))


def heft(work: Work) -> Placement:
    """Give the longest items first, each to the lane that ends it first; leave out who only delays.

    Parameters
    ----------
    work : Work
        Items and lanes.

    Returns
    -------
    Placement
        After the heterogeneous earliest finish time [1]_; items that need others keep the order of
        the plan. A lane is never given what would end later there than elsewhere, so a slow device
        gets nothing longer than the fast ones' remaining work.

    References
    ----------
    .. [1] H. Topcuoglu, S. Hariri, M.-Y. Wu, Performance-effective and low-complexity task
       scheduling for heterogeneous computing, IEEE TPDS 13 (2002) 260-274.
    """
    items: Sequence[Item] = work.items
    if not any(task.needs for item in items for task in item.tasks):
        first = work.lanes[0]
        items = sorted(items, key=lambda item: -work.seconds(item, first))
    return _dealt("heft", work, items, work.seconds)


def locality(work: Work) -> Placement:
    """Keep items where what they read is in memory; deal the others by speed.

    Parameters
    ----------
    work : Work
        Items and lanes.

    Returns
    -------
    Placement
        Items whose data is nowhere go to who ends them first.
    """
    lanes_of: dict[int, list[int]] = {}
    for position, lane in enumerate(work.lanes):
        lanes_of.setdefault(lane.device, []).append(position)
    order: list[list[int]] = [[] for _ in work.lanes]
    loads = [work.busy_seconds(lane) for lane in work.lanes]
    rest = []
    for item in work.items:
        home = work.resident.get(item.number)
        if home is None or home[0] not in lanes_of:
            rest.append(item)
            continue
        position = min(lanes_of[home[0]], key=loads.__getitem__)
        loads[position] += work.seconds(item, work.lanes[position])
        order[position].append(item.number)
    return _dealt("locality", work, rest, work.seconds, loads=loads, order=order)


POLICIES: Mapping[str, Policy] = {
    "homogeneous": homogeneous,
    "weighted": weighted,
    "locality": locality,
    "heft": heft,
}
"""From the simplest on."""


def without(work: Work, devices: Iterable[int], why: str) -> Work:
    """Leave devices out.

    Parameters
    ----------
    work : Work
        Items and lanes.
    devices : iterable of int
        Which; not all of those that have lanes.
    why : str
        For who asks.

    Returns
    -------
    Work
        The same with fewer lanes.
    """
    gone = set(devices)
    names = {work.machine.devices[d].name: why for d in sorted(gone)}
    lanes = tuple(lane for lane in work.lanes if lane.device not in gone)
    return replace(work, lanes=lanes, left_out={**work.left_out, **names})


def _average(work: Work) -> Callable[[Item, Lane], float]:
    """Give what an average item takes on a lane."""
    sample = work.items[:: max(1, len(work.items) // 64)]
    known: dict[tuple[int, Slowdown], float] = {}

    def seconds(_item: Item, lane: Lane) -> float:
        key = (lane.kind, work.slowdown.get(lane.device, NORMAL))
        if key not in known:
            known[key] = sum(work.seconds(item, lane) for item in sample) / max(1, len(sample))
        return known[key]

    return seconds


def _dealt(
    policy: str,
    work: Work,
    items: Sequence[Item],
    seconds: Callable[[Item, Lane], float],
    *,
    loads: list[float] | None = None,
    order: list[list[int]] | None = None,
) -> Placement:
    """Give each item to the lane that ends it first; lanes of one class differ by their load."""
    loads = [work.busy_seconds(lane) for lane in work.lanes] if loads is None else loads
    order = [[] for _ in work.lanes] if order is None else order
    heaps: dict[tuple[int, Slowdown], list[tuple[float, int]]] = {}
    for position, lane in enumerate(work.lanes):
        key = (lane.kind, work.slowdown.get(lane.device, NORMAL))
        heaps.setdefault(key, []).append((loads[position], position))
    for heap in heaps.values():
        heapq.heapify(heap)
    homes: dict[int, list[int]] = {}
    if work.resident:
        for position, lane in enumerate(work.lanes):
            homes.setdefault(lane.device, []).append(position)
    for item in items:
        best: tuple[float, int, list[tuple[float, int]] | None] | None = None
        for heap in heaps.values():
            load, position = _least(heap, loads)
            end = load + seconds(item, work.lanes[position])
            if best is None or end < best[0]:
                best = (end, position, heap)
        home = work.resident.get(item.number)
        for position in homes.get(home[0], ()) if home is not None else ():
            end = loads[position] + seconds(item, work.lanes[position])
            if best is None or end < best[0]:
                best = (end, position, None)
        assert best is not None
        end, position, _ = best
        loads[position] = end
        lane = work.lanes[position]
        key = (lane.kind, work.slowdown.get(lane.device, NORMAL))
        heapq.heappush(heaps[key], (end, position))
        order[position].append(item.number)
    return _placed(policy, work, work.lanes, order)


def _least(heap: list[tuple[float, int]], loads: list[float]) -> tuple[float, int]:
    """Give the least loaded lane; entries that are no longer true go."""
    while heap[0][0] != loads[heap[0][1]]:
        heapq.heappop(heap)
    return heap[0]


def _placed(
    policy: str, work: Work, lanes: Sequence[Lane], order: Sequence[Sequence[int]]
) -> Placement:
    """Items that others need come in the order of the plan, so that no lane waits for itself."""
    return Placement(
        policy, tuple(lanes), tuple(tuple(sorted(numbers)) for numbers in order), work.left_out
    )
