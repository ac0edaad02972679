"""What the tasks of a stage on a cluster have in common: context, and small arrays."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
from dask.task_spec import DataNode, TaskRef
from distributed import Client, Future
from distributed.protocol.pickle import dumps, loads

from leptonhpc.kernels import Accumulator
from leptonhpc.runtime.placed import PlacedTask
from leptonhpc.runtime.reading import Context

_SENT_NBYTES = 1 << 24
"""Small arrays up to this are sent to each worker, larger ones from worker to worker."""


_numbers = itertools.count()


def unique_prefix(context: Context) -> str:
    """Give a prefix of keys: a stage that runs in parts must not meet the keys of its last part."""
    return f"{context.job}-{context.stage}-{next(_numbers)}".replace(" ", "-")


class Shared:
    """Copies of what tasks share, one on each worker, so that none waits for another.

    Parameters
    ----------
    client : distributed.Client
        The client.
    prefix : str
        Of keys.
    context : Context
        Of the stage.
    small : mapping
        Its small arrays.
    """

    def __init__(
        self, client: Client, prefix: str, context: Context, small: Mapping[str, Any]
    ) -> None:
        self._client, self._prefix = client, prefix
        self._small = dict(small)
        nbytes = sum(v.nbytes for v in small.values() if isinstance(v, np.ndarray))
        self._travels = nbytes > _SENT_NBYTES
        # packed, since the scheduler unpacks what it is sent, and may not see the arrays
        self._packed = dumps((context, {} if self._travels else self._small))
        self._copies: dict[str, Future[Any]] = {}
        self._coming: dict[str, str] = {}
        """Keys of copies that go with the next graph."""
        self._count = 0
        self._source: Future[Any] | None = None
        self._values: dict[str, Future[Any]] = {}

    def with_worker(self, address: str, graph: dict[str, Any]) -> Future[Any] | TaskRef:
        """Refer to a worker's context and small arrays; what makes them there joins the graph.

        They go with the first tasks that need them: a client sends one message in ten milliseconds.

        Parameters
        ----------
        address : str
            Of the worker.
        graph : dict
            What is sent next, by `submit`.

        Returns
        -------
        Future or TaskRef
            The pair of both.
        """
        if address in self._copies:
            return self._copies[address]
        if address not in self._coming:
            key = self._coming[address] = f"shared-{self._prefix}-{self._count}"
            self._count += 1
            graph[key] = PlacedTask(key, _unpack, self._packed, self._origin(), owner=address)
        return TaskRef(self._coming[address])

    def submit(self, graph: dict[str, Any], keys: list[str]) -> list[Future[Any]]:
        """Send a graph, and what goes with it; give the futures of its keys."""
        futures = submit(self._client, graph, [*keys, *self._coming.values()])
        self._copies.update(zip(self._coming, futures[len(keys) :], strict=True))
        self._coming.clear()
        return futures[: len(keys)]

    def value(self, need: str, acc: Accumulator) -> Future[Any]:
        """Give what an item left to tasks that need it, from this process: it cannot be lost."""
        if need not in self._values:
            name = f"value-{self._prefix}-{need}"
            self._values[need] = submit(self._client, {name: DataNode(name, acc)}, [name])[0]
        return self._values[need]

    def lose(self, address: str) -> None:
        """Forget the copies of a worker that is gone."""
        self._copies.pop(address, None)

    def clear(self) -> None:
        """Leave nothing on the cluster."""
        self._copies.clear()
        self._values.clear()
        self._source = None

    def _origin(self) -> Future[Any] | None:
        """Give what workers get the small arrays from, where these are not so small."""
        if self._travels and self._source is None:
            key = f"source-{self._prefix}"
            self._source = submit(self._client, {key: DataNode(key, self._small)}, [key])[0]
        return self._source


def submit(client: Client, graph: dict[str, Any], keys: list[str]) -> list[Future[Any]]:
    """Send a graph as it is; give the futures of its keys."""
    futures: list[Future[Any]] = client.get(graph, keys, sync=False, optimize_graph=False)
    return futures


def _unpack(packed: bytes, small: dict[str, Any] | None) -> tuple[Context, dict[str, Any]]:
    """Give what is kept on a worker."""
    context, sent = loads(packed)
    return context, sent if small is None else small
