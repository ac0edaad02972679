"""The workers of a cluster: who is there, how fast they are, what they hold."""

from __future__ import annotations

import math
import queue
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from distributed import Client

from leptonhpc.cluster.clients import identities, is_reached, reached
from leptonhpc.cluster.demand import call_for, present
from leptonhpc.errors import WorkerError
from leptonhpc.placement import Device, Lane, Machine, Slowdown, Work
from leptonhpc.planning import Read, Resources, Stage, Task
from leptonhpc.planning.costs import rate_of
from leptonhpc.runtime import lanes, memory
from leptonhpc.runtime.asking import (
    SILENT_SECONDS,
    Questions,
    give_up_silent,
    tell_scheduler,
)
from leptonhpc.runtime.board import Board, post
from leptonhpc.runtime.cluster import (
    START_SECONDS,
    TASK_SECONDS,
    Process,
    devices_of,
    process_of,
    slow_ones,
)
from leptonhpc.runtime.observed import Observed
from leptonhpc.runtime.pausing import Paused
from leptonhpc.runtime.placed import Placer
from leptonhpc.runtime.taking_part import take_part

TOPIC = "leptonhpc-tasks"
"""Where tasks tell what they did."""
_PATIENCE_SECONDS = 60.0
"""A job without workers waits for so long: what keeps workers may start them again."""
LOOK_SECONDS = 0.5
"""How often workers are looked at."""
_DECAY = 0.7
"""How much of what stages took beside their tasks still counts after one more."""


class Workers:
    """What one job knows of the cluster's workers.

    Parameters
    ----------
    client : distributed.Client
        The client.
    resources : Resources
        What the job was planned with: a worker that joins must have as much.
    paths : sequence of str
        Local folders that workers must see.
    job : str
        Its name, by which its workers tell what they did.
    metered : bool
        Begin to measure the energy of its workers: who asks for it also ends it there.
    """

    def __init__(
        self, client: Client, resources: Resources, paths: tuple[str, ...], job: str, *,
        metered: bool = True,
    ) -> None:  # fmt: skip
        self._client, self._resources, self._paths = client, resources, paths
        self._job, self._metered = job, metered
        self._devices: dict[str, Device] = {}
        self.processes: dict[str, Process] = {}
        """Of those who are there, by address."""
        self._refused: set[Process] = set()
        self._paused = Paused(client, job)
        self._observed = Observed()
        self.homes: dict[Read, tuple[str, int]] = {}
        """Where what tasks kept is in memory, and how much that is."""
        self._stage: Stage | None = None
        self.overdue: dict[str, float] = {}
        """How many times longer than predicted a worker's task already takes."""
        self.standing: dict[tuple[str, int], lanes.Lane] = {}
        """Those that were given up in the stage before, and have not moved on."""
        self._tasks: dict[str, Task] = {}
        self._rate = ""
        self._models: dict[int, Work] = {}
        self._places: dict[str, int] = {}
        self._hear: Callable[[Mapping[str, Any]], None] | None = None
        self._beside = START_SECONDS
        self._looked_at = -1e9
        self.peaks: dict[str, int] = {}
        """Largest memory of each worker, as its tasks told."""
        self._told = _listening[job] = queue.SimpleQueue()
        self._joining = Questions(client, take_part, paths, job, metered)
        self._metering: set[str] = set()
        """Those that measure energy."""
        call_for(client, 1)  # none is given back while the job begins
        client.register_plugin(Placer())
        client.register_plugin(Board())
        client.subscribe_topic(TOPIC, _pass_on)

    @property
    def addresses(self) -> list[str]:
        """Who is there, in a fixed order."""
        return list(self._devices)

    @property
    def machine(self) -> Machine:
        """Give the cluster as devices."""
        devices = tuple(self._devices.values())
        return Machine(devices, start_seconds=self._beside, lane_seconds=TASK_SECONDS)

    def tell(self, facts: Mapping[str, Any], state: str) -> None:
        """Let the scheduler's metrics and dashboard show how far the job is."""
        workers = 0
        if state == "running":  # between stages no more are wanted, but there is work
            each = self._stage.lanes_per_worker if self._stage is not None else 1
            workers = max(1, math.ceil((facts["tasks"] - facts["done"]) / each))
        tell_scheduler(self._client, post, facts=dict(facts), state=state, workers=workers)

    def close(self) -> None:
        """Stop listening."""
        _listening.pop(self._job, None)
        if is_reached(self._client):
            self._joining.drop()
            call_for(self._client, 0)
        # jobs in other threads may share the client
        if not _listening and is_reached(self._client):
            with reached(self._client):
                self._client.unsubscribe_topic(TOPIC)

    def told_last(self) -> list[str]:
        """Give those that are not waited for at the end: slow ones, unless they measure energy.

        Returns
        -------
        list of str
            Their addresses; among them those that have not said yet whether they take part, those
            that may not, and those that are paused.
        """
        slow = slow_ones(self._devices) - self._metering
        refused = {address for address, _ in self._refused}
        return sorted(slow | self._joining.asked() | refused | self._paused.addresses)

    def look(self, *, now: bool = False) -> bool:
        """See who is there, unless that was just done; say whether anything changed.

        Parameters
        ----------
        now : bool
            Also if it was just done.

        Returns
        -------
        bool
            Whether workers left or joined.

        Raises
        ------
        WorkerError
            If there is none, and none comes.
        """
        recent = time.monotonic() - self._looked_at < LOOK_SECONDS
        if recent and self._devices and not now:
            return False
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            found = identities(self._client) or present(self._client)
            give_up_silent(self._client, found, SILENT_SECONDS)
            found = self._paused.without(found, self.processes.values())
            changed = self._take(found)
            self._looked_at = time.monotonic()
            if self._devices:
                return changed
            all_refused = found and len(self._refused) == len(found)
            if all_refused or self._looked_at > deadline:
                paused = ", or paused for want of memory" if self._paused.addresses else ""
                raise WorkerError(f"all workers of the cluster are gone{paused}")
            time.sleep(LOOK_SECONDS)

    def are_gone(self, processes: Iterable[Process]) -> bool:
        """Look, and say whether one of some workers is there no more.

        Parameters
        ----------
        processes : iterable of (str, str)
            As `processes` named them: others may have come to have their addresses.

        Returns
        -------
        bool
            Whether one left.
        """
        self.look(now=True)
        return not set(processes) <= set(self.processes.values())

    def _take(self, found: Mapping[str, Mapping[str, Any]]) -> bool:
        there = {address: process_of(address, worker) for address, worker in found.items()}
        gone = [a for a, process in self.processes.items() if there.get(a) != process]
        for address in gone:
            del self._devices[address], self.processes[address]
            self._observed.forget(address)
            self.standing = {k: lane for k, lane in self.standing.items() if k[0] != address}
            self.homes = {read: home for read, home in self.homes.items() if home[0] != address}
        self._refused &= set(there.values())
        new = {
            address: worker for address, worker in found.items()
            if address not in self._devices and there[address] not in self._refused
        }  # fmt: skip
        joined = False
        if new:
            devices = devices_of(self._client, new, beside=self._devices)
            fit = self._fit(new, devices)
            for address, worker in new.items():
                if address not in fit or not isinstance(devices.get(address), Device):
                    continue  # refused, or it did not answer: it is asked again
                memory = worker["memory_limit"] or self._resources.memory_nbytes
                self._devices[address] = replace(
                    devices[address], name=address, memory_nbytes=memory,
                    cores=1 if devices[address].overlaps else worker["nthreads"],
                )  # fmt: skip
                self.processes[address] = there[address]
                joined = True
        self._models = {}
        self._places = {address: place for place, address in enumerate(self._devices)}
        return bool(gone) or joined

    def _fit(self, found: Mapping[str, Mapping[str, Any]], devices: Mapping[str, Any]) -> set[str]:
        """Give those that have leptonhpc, see the data, and are large enough.

        A slow one is not waited for: it joins when it has answered.
        """
        slow = slow_ones({**self._devices, **devices})
        sees = self._joining.answers(list(found), wait_for=found.keys() - slow)
        fit = set()
        for address, answer in sorted(sees.items()):
            why, meters = answer if isinstance(answer, tuple) else (answer, False)
            self._metering |= {address} if meters else set()
            if isinstance(why, ImportError):
                why = "does not have leptonhpc installed"
            worker, wanted = found[address], self._resources
            limit = worker["memory_limit"]
            if why and not self._devices:  # a job begins on workers that all see its data
                raise WorkerError(f"worker {address} {why}")
            if not why and worker["nthreads"] < wanted.threads:
                why = f"has fewer than {wanted.threads} threads"
            if not why and limit and memory.OF_LIMIT * limit < wanted.memory_nbytes:
                why = f"has a memory limit of {limit} bytes, too few for {wanted.memory_nbytes}"
            if not why:
                fit.add(address)
            else:
                self._refused.add(process_of(address, worker))
                warnings.warn(f"worker {address} gets no work: it {why}", stacklevel=2)
        return fit

    # -- how fast they are

    def work_on(
        self, stage: Stage | None, hear: Callable[[Mapping[str, Any]], None] | None
    ) -> None:
        """Say which stage runs, and who is to hear what workers tell of it.

        Parameters
        ----------
        stage : Stage or None
            The stage.
        hear : callable or None
            Gets one mapping for each task.
        """
        self._stage, self._hear, self._models = stage, hear, {}
        if stage is not None:
            self._tasks = {task.key: task for task in stage.tasks}
            self._rate = rate_of(max(stage.tasks, key=lambda task: task.flops).kernel)

    def is_known(self, address: str) -> bool:
        """Whether a worker was seen doing such work."""
        return self._observed.knows(address, self._rate)

    def slowdown(self, address: str) -> Slowdown:
        """Give how many times longer than by its rates a worker takes.

        Parameters
        ----------
        address : str
            Of the worker.

        Returns
        -------
        Slowdown
            As observed; of a worker that was not seen doing such work, as others do it.
        """
        overdue = self.overdue.get(address, 1.0)
        factors = (self._observed.factor(address, p) for p in ("read", self._rate, "write"))
        return Slowdown(*(overdue * factor for factor in factors))

    def predicted(self, task: Task, address: str) -> float:
        """Predict the seconds of a task on a worker.

        Parameters
        ----------
        task : Task
            Of the stage that runs.
        address : str
            Of the worker.

        Returns
        -------
        float
            Seconds.
        """
        slow = self.slowdown(address)
        number = self._places[address]
        took = self._model(number, slow).task_seconds(task, Lane(number, 0, number))
        overlaps = self._devices[address].overlaps
        return took.total(overlaps=overlaps)

    def typical_seconds(self, address: str) -> float:
        """Predict the seconds of a task in the middle of the stage on a worker."""
        assert self._stage is not None
        return self.predicted(self._stage.tasks[len(self._stage.tasks) // 2], address)

    def _model(self, number: int, slow: Slowdown) -> Work:
        """Give what predicts tasks: made anew where a worker's speed is another."""
        assert self._stage is not None
        old = self._models.get(number)
        if old is None or old.slowdown[number] != slow:
            old = Work(self._stage, (), self.machine, (), slowdown={number: slow})
            self._models[number] = old
        return old

    def take_note(self, *, wait_for: Callable[[], bool] | None = None) -> None:
        """Take note of what workers told.

        Parameters
        ----------
        wait_for : callable, optional
            Wait until it is true, but no longer than half a second.
        """
        deadline = time.monotonic() + LOOK_SECONDS
        while True:
            while not self._told.empty():
                self._note(self._told.get())
            if wait_for is None or wait_for() or time.monotonic() > deadline:
                return
            time.sleep(0.005)

    def _note(self, told: Mapping[str, Any]) -> None:
        """Take note of one task that is done."""
        address = told["address"]
        self.peaks[address] = max(self.peaks.get(address, 0), told["peak_nbytes"])
        stage, hear = self._stage, self._hear
        if stage is None or hear is None or told["stage"] != stage.name:
            return
        task = self._tasks[told["task"]]
        hear(told)
        device = self._devices.get(address)
        if device is None:
            return
        machine = Machine((device,), lane_seconds=TASK_SECONDS)
        alone = Work(stage, (), machine, ()).task_seconds(task, Lane(0, 0, 0))
        compute, write = told["compute_seconds"], told["write_seconds"]
        fresh = alone.fresh if told["kept_nbytes"] else 0.0
        read = max(0.0, told["seconds"] - write - compute - fresh)
        self._observed.note(address, "read", read, alone.read)
        self._observed.note(address, "write", write, alone.write)
        self._observed.note(address, self._rate, compute, max(alone.compute, alone.link))
        affinity = task.affinity if told["kept_nbytes"] else None
        if affinity is not None:
            self.homes[affinity] = (address, told["kept_nbytes"])

    def take_beside(self, seconds: float | None) -> None:
        """Take note of what a stage took beside its tasks.

        Parameters
        ----------
        seconds : float or None
            Until the first began, and from the end of the last one on.
        """
        if seconds is not None:
            self._beside = _DECAY * self._beside + (1 - _DECAY) * seconds


_listening: dict[str, queue.SimpleQueue[Mapping[str, Any]]] = {}
"""Of jobs that run: what their tasks told. A client has one listener for a topic."""


def _pass_on(event: tuple[Any, Any]) -> None:
    """Give what a task told to its job, if that is one of this process."""
    told = event[1]
    if told["job"] in _listening:
        _listening[told["job"]].put({**told, "ended": time.perf_counter()})
