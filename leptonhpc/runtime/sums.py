"""The sum of what the lanes of a cluster have, made by its workers two by two, or by the client."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from dask.task_spec import List, TaskRef
from distributed import Client, Future

from leptonhpc.kernels import Accumulator
from leptonhpc.planning import Stage
from leptonhpc.runtime.adding import sum_accumulators, sum_afresh, take_only
from leptonhpc.runtime.asking import fetch, raise_failure
from leptonhpc.runtime.cluster import Process
from leptonhpc.runtime.placed import PlacedTask
from leptonhpc.runtime.shared import submit
from leptonhpc.runtime.workers import Workers

Part = tuple[Any, str]
"""An accumulator, and the address of the worker that has it."""
_FAN_IN = 2
"""A sum has its parts and itself in memory."""
_TRAVELLING_NBYTES = 1 << 25
"""Of all that the tasks of a stage sum, if it is to come to the client."""


def sums_travel(stage: Stage) -> bool:
    """Say whether what each task sums comes to the client: then none is lost with a worker.

    Parameters
    ----------
    stage : Stage
        One that is summed.

    Returns
    -------
    bool
        Whether that is little, and each task sums by itself.
    """
    if stage.sum_nbytes is None or any(task.at or task.needs for task in stage.tasks):
        return False
    return stage.sum_nbytes * len(stage.tasks) <= _TRAVELLING_NBYTES


class Total:
    """The sum of a stage, begun when all of its parts are on their way.

    Parameters
    ----------
    client : distributed.Client
        The client.
    workers : Workers
        What is known of the cluster's workers.
    prefix : str
        Of keys.
    stage : str
        Whose sum it is.
    """

    def __init__(self, client: Client, workers: Workers, prefix: str, stage: str) -> None:
        self._client, self._workers = client, workers
        self._prefix, self._stage = prefix, stage
        self._future: Future[Any] | None = None
        self._owners: set[Process] = set()

    @property
    def is_begun(self) -> bool:
        """Whether it was begun, and not dropped."""
        return self._future is not None

    def begin(self, parts: list[Part], generation: int, wake: Callable[[Any], None]) -> None:
        """Send it to the workers.

        Parameters
        ----------
        parts : list of (reference, address)
            Accumulators, and where they are.
        generation : int
            Makes its keys others than those of a sum that was dropped.
        wake : callable
            Called when it is done.
        """
        name = f"sum-{self._prefix}-{generation}"
        graph, key = _graph(name, parts, self._workers.typical_seconds)
        self._owners = {self._workers.processes[address] for _, address in parts}
        self._future = submit(self._client, graph, [key])[0]
        self._future.add_done_callback(wake)

    def drop(self) -> None:
        """Let it go: its parts are others now."""
        self._future = None

    def result(self) -> Accumulator | None:
        """Give the sum, if it is there; what a worker took with it is to be summed again."""
        future = self._future
        if future is None or not future.done():
            return None
        is_lost = partial(self._workers.are_gone, self._owners)
        if future.status == "finished":
            found = fetch(self._client, [future], is_lost)
            if found is not None:
                return dict(found[0])
        elif not is_lost():
            raise_failure(future, self._stage)
        self._future = None
        return None


def _graph(
    name: str, parts: list[Part], seconds: Callable[[str], float]
) -> tuple[dict[str, Any], str]:
    """Give the graph that adds accumulators, two by two, and the key of the sum.

    Parameters
    ----------
    name : str
        Prefix of keys.
    parts : list of (reference, address)
        Accumulators, and where they are; they are not changed, so that they can be added again.
    seconds : callable
        What work takes on a worker: the faster of two adds.

    Returns
    -------
    tuple of (dict, str)
        Graph and key.
    """
    graph: dict[str, Any] = {}
    key, depth = "", 0
    first = sum_afresh if len(parts) > 1 else take_only
    while len(parts) > 1 or depth == 0:
        following: list[Part] = []
        for i in range(0, len(parts), _FAN_IN):
            group = parts[i : i + _FAN_IN]
            key = f"{name}-{depth}-{i}"
            owner = min((address for _, address in group), key=seconds)
            add = sum_accumulators if depth else first
            refs = List(*(ref for ref, _ in group))
            graph[key] = PlacedTask(key, add, refs, owner=owner)
            following.append((TaskRef(key), owner))
        parts, depth = following, depth + 1
    return graph, key
