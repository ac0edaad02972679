"""The lanes of a cluster while a stage runs: what each has begun, what it has in flight."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from distributed import Future

from leptonhpc.planning import Task
from leptonhpc.runtime.cluster import Process

AHEAD_SECONDS = 0.3
"""A lane has so much work in flight, or one task: news of its end takes some milliseconds."""
_MOST_AHEAD = 16
"""But no more tasks than this."""
PATIENCE_SECONDS = 1.0
"""A lane that is so much later than what it has takes others to do again is not waited for."""
LATE_SECONDS = 0.25
"""So much sooner others must be done with what a lane has in flight, to do it again."""
_UNEVEN = 1.1
"""Work is dealt anew when lanes would end this much later than they might."""


@dataclass
class Flying:
    """One task that was sent."""

    task: Task
    item: int
    future: Future[Any]
    seconds: float
    """Predicted."""
    ends: bool
    """Whether its item is done with it."""


@dataclass
class Begun:
    """One item that a lane has begun."""

    number: int
    tasks: deque[Task]
    """Those that are not sent."""


@dataclass
class Lane:
    """One task at a time on one worker."""

    process: Process
    """Of the worker."""
    number: int
    """Of the lane on its worker."""
    queue: deque[int] = field(default_factory=deque)
    """Items that are not begun: they may still be given to others."""
    begun: Begun | None = None
    flying: deque[Flying] = field(default_factory=deque)
    tail: Future[Any] | None = None
    """The last accumulator that is done."""
    held: list[int] = field(default_factory=list)
    """Items that are lost with this lane: begun, or done and in its accumulators."""
    ended: list[Future[Any]] = field(default_factory=list)
    """Accumulators that nothing more comes to."""
    landed: list[Flying] = field(default_factory=list)
    """Tasks that ended an item, whose accumulators are not fetched yet."""
    since: float = 0.0
    """When the first task in flight could begin."""
    given_up: bool = False
    """Whether others do what it had: it stands still with a task that nobody waits for."""

    @property
    def address(self) -> str:
        """Address of the worker."""
        return self.process[0]

    @property
    def is_idle(self) -> bool:
        """Whether it has nothing to do."""
        return not (self.flying or self.queue or self.begun)

    def ahead_seconds(self) -> float:
        """Say for how long the lane has work in flight, as predicted."""
        flying = list(self.flying)
        if not flying:
            return 0.0
        took = time.perf_counter() - self.since
        if self.given_up:  # who knows? as long again
            return took
        return max(0.0, flying[0].seconds - took) + sum(f.seconds for f in flying[1:])

    @property
    def first_seconds(self) -> float:
        """What the first task in flight was predicted to take."""
        return self.flying[0].seconds if self.flying else 0.0

    def stands_still(self, again_seconds: float) -> bool:
        """Say whether to wait for it longer would be worse than to do again what it has.

        Parameters
        ----------
        again_seconds : float
            What that takes others.

        Returns
        -------
        bool
            Whether it is later than that.
        """
        if not self.flying:
            return False
        late = time.perf_counter() - self.since - self.first_seconds
        return late > PATIENCE_SECONDS + again_seconds

    def is_late(self, again_seconds: float) -> bool:
        """Say whether others would sooner be done with what it has in flight.

        Parameters
        ----------
        again_seconds : float
            What that takes them.

        Returns
        -------
        bool
            Whether it is so; who is late with a task is taken to be as late again.
        """
        if not self.flying:
            return False
        late = time.perf_counter() - self.since - self.first_seconds
        rest = abs(late) + sum(flying.seconds for flying in list(self.flying)[1:])
        return rest > LATE_SECONDS + again_seconds

    def overdue(self) -> float:
        """Say how many times longer than predicted the first task in flight already takes."""
        if not self.flying:
            return 1.0
        return max(1.0, (time.perf_counter() - self.since) / self.first_seconds)

    def may_have(self, flying: int, ahead: float, *, known: bool) -> bool:
        """Whether one more task may be sent to it: a lane that was not seen working has two.

        Parameters
        ----------
        flying : int
            Tasks in flight.
        ahead : float
            Seconds of them.
        known : bool
            Whether the worker's speed was observed.

        Returns
        -------
        bool
            Whether it has too little to do.
        """
        if self.given_up:
            return False
        if not flying:
            return True
        # what is sent cannot be given to others: not before it is known how long the first takes
        if not known:
            short = max(ahead, self.first_seconds) < AHEAD_SECONDS
            return flying == 1 and self.overdue() <= 1 and short
        return flying < _MOST_AHEAD and ahead < AHEAD_SECONDS

    def step_back(self) -> None:
        """Give the item that it has begun back to its queue."""
        assert self.begun is not None
        self.held.remove(self.begun.number)
        self.queue = deque(sorted((*self.queue, self.begun.number)))
        self.tail, self.begun = None, None

    def give_up(self) -> None:
        """Let go what it had, which others do again; the lane is free when it moves on."""
        self.given_up = True
        while len(self.flying) > 1:
            self.flying.pop()
        self.tail, self.begun = None, None
        self.held = [flying.item for flying in self.landed]  # on their way to the client

    def take_up(self) -> None:
        """Be as new: what it was given up with has ended."""
        self.flying.clear()
        self.given_up = False

    def drop(self) -> None:
        """Let go what is in flight, and what is done; but not what a given-up lane stands with.

        To let go is enough: Dask's cancel fails on a task that something nobody waits for needs.
        """
        if not self.given_up:
            self.flying.clear()
        self.tail = None
        self.ended.clear()
        self.landed.clear()


def is_uneven(rests: Sequence[float], typical: Sequence[float]) -> bool:
    """Say whether lanes would end much later than they might.

    Parameters
    ----------
    rests : sequence of float
        Seconds of what each lane has to do.
    typical : sequence of float
        Seconds of a typical task on it.

    Returns
    -------
    bool
        Whether the last one ends more than a tenth later than all together could.
    """
    work = sum(rest / each for rest, each in zip(rests, typical, strict=True))
    return max(rests) > _UNEVEN * work / sum(1.0 / each for each in typical)
