"""Calls of any function, dealt to the workers of a cluster as their lanes get free.

The client keeps what is not done. Each lane has one call, or a little more where calls are short,
so that fast workers get more, one that joins gets some, and what a dead one had is done elsewhere.
"""

from __future__ import annotations

import queue
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import dask
from dask.task_spec import DataNode, TaskRef
from distributed import Client, Future
from distributed.protocol.pickle import dumps, loads

from leptonhpc.cluster.clients import LOST, is_reached, reached
from leptonhpc.errors import WorkerError
from leptonhpc.planning import Resources
from leptonhpc.runtime.asking import fetch, raise_failure
from leptonhpc.runtime.backends import in_this_process
from leptonhpc.runtime.cluster import Process
from leptonhpc.runtime.placed import PlacedTask
from leptonhpc.runtime.shared import submit
from leptonhpc.runtime.workers import LOOK_SECONDS, Workers

MOST_DEATHS = 3
"""A call whose worker died so often is not tried again: it may be what kills them."""
_AHEAD_SECONDS = 0.3
"""A lane has so much work in flight, or one call: news of its end takes some milliseconds."""
_MOST_AHEAD = 8
_ANY_NBYTES = 1
"""What a worker must have: what calls need is not known."""
_QUIET = {"distributed.admin.large-graph-warning-threshold": "1 TiB"}
"""What is sent is meant to be: callers say how much at once."""


@dataclass
class Call:
    """One call that is to be made somewhere."""

    number: int
    payload: bytes
    name: str
    """In words, for messages."""
    prefers: str | None = None
    """Address of the worker that should do it, if it has a lane free."""
    deaths: int = 0
    """How often a worker died with it."""


@dataclass(frozen=True)
class Ended:
    """What a call gave."""

    number: int
    outcome: bytes
    worker: str


@dataclass
class _Flying:
    call: Call
    future: Future[Any]


class Dealer:
    """Makes calls on the workers of a cluster.

    Parameters
    ----------
    client : distributed.Client
        The client.
    work : callable
        Takes the payload of a call and gives bytes; sent to each worker once.
    paths : sequence of str
        Local folders that workers must see.

    Raises
    ------
    WorkerError
        If the cluster has no worker that can take part, or its scheduler cannot be reached.
    """

    def __init__(
        self, client: Client, work: Callable[[bytes], bytes], *, paths: Sequence[str] = ()
    ) -> None:
        self._client, self._packed = client, dumps(work)
        self._name = uuid.uuid4().hex[:12]
        self._waiting: deque[Call] = deque()
        self._flying: dict[str, list[_Flying]] = {}
        self._processes: dict[str, Process] = {}
        """Those that these calls were given to."""
        self._copies: dict[str, Future[Any]] = {}
        """Of the function, one on each worker, by key."""
        self._seconds: dict[str, float] = {}
        """What a call takes on each worker, as seen."""
        self._sent = 0
        self._ready: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.deaths = 0
        """Calls that were taken back from workers that were gone."""
        with reached(client):
            resources = Resources(_ANY_NBYTES)
            self._workers = Workers(client, resources, tuple(paths), self._name, metered=False)
            try:
                self._look()
            except BaseException:
                self.close()
                raise

    @property
    def lanes(self) -> int:
        """Calls that run at once."""
        return sum(device.cores for device in self._workers.machine.devices)

    def send(self, call: Call) -> None:
        """Take a call; it is dealt at the next `receive`."""
        self._waiting.append(call)

    def receive(self) -> list[Ended]:
        """Wait until at least one call has ended.

        Returns
        -------
        list of Ended
            Those that did.

        Raises
        ------
        WorkerError
            If all workers are gone, the scheduler cannot be reached any more, or one call ends
            each worker that takes it.
        """
        while True:
            if not is_reached(self._client):  # calls that it had are cancelled
                raise WorkerError(LOST)
            with reached(self._client):
                self._look()
                self._deal()
                ended = self._collect()
            if ended:
                return ended
            try:
                self._ready.get(timeout=LOOK_SECONDS)
                while True:
                    self._ready.get_nowait()
            except queue.Empty:
                pass

    def close(self) -> None:
        """Let go all that is on the cluster; a call that runs there ends unheard."""
        self._flying.clear()
        self._copies.clear()
        self._workers.close()

    def _look(self) -> None:
        """See who is there, and take back what those had that are gone."""
        self._workers.look()
        there = self._workers.processes
        for address in [a for a in self._flying if there.get(a) != self._processes[a]]:
            self._copies.pop(self._copy(address), None)
            self._seconds.pop(address, None)
            self._take_back(self._flying.pop(address))
        for address in there:
            self._flying.setdefault(address, [])
        self._processes = dict(there)

    def _cores(self) -> dict[str, int]:
        if not self._workers.addresses:
            return {}
        return {device.name: device.cores for device in self._workers.machine.devices}

    def _take_back(self, lost: list[_Flying]) -> None:
        for flying in reversed(lost):
            call = flying.call
            call.deaths += 1
            self.deaths += 1
            if call.deaths >= MOST_DEATHS:
                message = (
                    f"{call.name} was lost with its worker {call.deaths} times: it may need more "
                    "memory than a worker has, or end its process. Try it in this process, or cut "
                    "it smaller"
                )
                raise WorkerError(message)
            self._waiting.appendleft(call)

    def _deal(self) -> None:
        """Give each worker what it has room for: first what should go to it, then anything."""
        graph: dict[str, Any] = {}
        sent: list[tuple[str, Call, str]] = []
        cores = self._cores()
        busy = {address: [f.call for f in self._flying[address]] for address in cores}
        while (found := self._pair(cores, busy)) is not None:
            address, call = found
            busy[address].append(call)
            sent.append((address, call, self._add(graph, address, call)))
        if sent:
            self._submit(graph, sent)

    def _pair(self, cores: dict[str, int], busy: dict[str, list[Call]]) -> tuple[str, Call] | None:
        """Give a call to the worker that has least to do: nobody has two while one has none."""
        for anything in (False, True):
            for address in sorted(cores, key=lambda a: len(busy[a]) / cores[a]):
                if len(busy[address]) < self._room(address, cores[address], ahead=not anything):
                    call = self._next(address, busy, anything=anything)
                    if call is not None:
                        return address, call
        return None

    def _room(self, address: str, lanes: int, *, ahead: bool) -> int:
        """Say how many calls a worker may have."""
        seconds = self._seconds.get(address)
        if seconds is None or not ahead:
            return lanes
        return lanes * (1 + min(_MOST_AHEAD, int(_AHEAD_SECONDS / max(seconds, 1e-3))))

    def _next(self, address: str, busy: dict[str, list[Call]], *, anything: bool) -> Call | None:
        here = busy[address]
        if any(call.deaths for call in here):  # it is alone: if it is lost again, it is known why
            return None
        for call in self._waiting:
            mine = call.prefers in (None, address) or call.prefers not in busy
            if (mine or anything) and not (call.deaths and here):
                self._waiting.remove(call)
                return call
        return None

    def _add(self, graph: dict[str, Any], address: str, call: Call) -> str:
        """Put a call into a graph, with the function if its worker does not have that."""
        key = f"part-{self._name}-{self._sent}"
        self._sent += 1
        copy = self._copy(address)
        if copy not in self._copies and copy not in graph:
            graph[copy] = PlacedTask(copy, loads, DataNode(None, self._packed), owner=address)
        function = self._copies.get(copy) or TaskRef(copy)
        payload = DataNode(None, call.payload)
        graph[key] = PlacedTask(key, _run, function, payload, owner=address)
        return key

    def _submit(self, graph: dict[str, Any], sent: list[tuple[str, Call, str]]) -> None:
        copies = [key for key in graph if key.startswith("function-")]
        with dask.config.set(_QUIET):
            futures = submit(self._client, graph, [*(key for _, _, key in sent), *copies])
        for (address, call, _), future in zip(sent, futures, strict=False):
            self._flying[address].append(_Flying(call, future))
            future.add_done_callback(self._wake)
        for copy, future in zip(copies, futures[len(sent) :], strict=True):
            self._copies[copy] = future

    def _copy(self, address: str) -> str:
        """Name the copy of the function that a worker's process has."""
        return f"function-{self._name}-{'-'.join(self._processes[address])}"

    def _is_gone(self, address: str) -> bool:
        return self._workers.are_gone([self._processes[address]])

    def _wake(self, _future: Any) -> None:
        self._ready.put(None)

    def _collect(self) -> list[Ended]:
        done = [(a, f) for a, flying in self._flying.items() for f in flying if f.future.done()]
        for address, flying in done:
            if flying.future.status != "finished" and not self._is_gone(address):
                raise_failure(flying.future, flying.call.name)
        done = [(a, f) for a, f in done if f.future.status == "finished"]
        if not done:
            return []
        is_lost = partial(self._workers.are_gone, {self._processes[a] for a, _ in done})
        found = fetch(self._client, [flying.future for _, flying in done], is_lost)
        if found is None:
            return []  # what is left is asked again when the others were taken back
        ended = []
        for (address, flying), (outcome, seconds) in zip(done, found, strict=True):
            self._flying[address].remove(flying)
            self._seconds[address] = (self._seconds.get(address, seconds) + seconds) / 2
            ended.append(Ended(flying.call.number, outcome, address))
        return ended


def _run(work: Callable[[bytes], bytes], payload: bytes) -> tuple[bytes, float]:
    """Make one call on a worker; what it runs in turn stays there, or it would wait for itself."""
    import time

    began = time.perf_counter()
    with in_this_process():
        outcome = work(payload)
    return outcome, time.perf_counter() - began
