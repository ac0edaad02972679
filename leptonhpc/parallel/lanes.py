"""Where parts are worked on: threads or processes of this machine, or the connected cluster."""

from __future__ import annotations

import functools
import multiprocessing
import os
import pickle
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol

import cloudpickle

from leptonhpc.errors import OptionError, WorkerError
from leptonhpc.parallel.parts import Part, Rows
from leptonhpc.parallel.work import Outcome, Work, packed_part, unpacked
from leptonhpc.runtime import blas_limits
from leptonhpc.runtime.backends import PICKLED_NBYTES
from leptonhpc.store.locations import is_local, local_path

MOST_DEATHS = 3
"""A part whose process ended so often is not tried again."""


class Lanes(Protocol):
    """What works on parts, several at once."""

    @property
    def lanes(self) -> int:
        """How many at once."""

    @property
    def deaths(self) -> int:
        """How often a part was lost with its process, and done again."""

    def send(self, part: Part) -> None:
        """Take a part."""

    def receive(self) -> list[Outcome]:
        """Wait until at least one part is done."""

    def close(self) -> None:
        """End: what is not begun never begins."""


class ThreadLanes:
    """Threads of this process: nothing is copied; a function should release the GIL.

    Parameters
    ----------
    work : Work
        What to do.
    lanes : int
        How many threads.
    """

    deaths = 0

    def __init__(self, work: Work, lanes: int) -> None:
        self.lanes = lanes
        self._work = work
        self._pool = ThreadPoolExecutor(lanes, thread_name_prefix="leptonhpc-part")
        self._done: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        blas_limits.limit(1)  # lanes are as many as cores

    def send(self, part: Part) -> None:
        """Take a part."""
        self._pool.submit(self._run, part)

    def receive(self) -> list[Outcome]:
        """Wait until at least one part is done."""
        return _drained(self._done)

    def close(self) -> None:
        """Wait for what runs; what is not begun never begins."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        blas_limits.restore()

    def _run(self, part: Part) -> None:
        where = threading.current_thread().name
        try:
            self._done.put(Outcome(part.number, self._work.of_part(part), None, where))
        except BaseException as error:
            self._done.put(Outcome(part.number, None, error, where))


class ProcessLanes:
    """Processes of this machine, each with a pool of its own: a dead one takes nothing with it.

    Parameters
    ----------
    work : Work
        What to do.
    lanes : int
        How many processes.
    """

    def __init__(self, work: Work, lanes: int) -> None:
        self.lanes, self.deaths = lanes, 0
        self._packed = packed_function(work)
        self._pools = [self._pool() for _ in range(lanes)]
        self._idle = list(range(lanes))
        self._waiting: deque[Part] = deque()
        self._lost: dict[int, int] = {}
        self._done: queue.SimpleQueue[tuple[int, Part, Future[bytes]]] = queue.SimpleQueue()

    def send(self, part: Part) -> None:
        """Take a part."""
        self._waiting.append(part)
        self._begin()

    def receive(self) -> list[Outcome]:
        """Wait until at least one part is done.

        Returns
        -------
        list of Outcome
            Those that are.

        Raises
        ------
        WorkerError
            If a part ended each process that took it.
        """
        found: list[Outcome] = []
        while not found:
            for lane, part, future in _drained(self._done):
                error = future.exception()
                if isinstance(error, BrokenProcessPool):
                    self._died(lane, part)
                elif error is not None:
                    raise error
                else:
                    found.append(unpacked(part.number, future.result(), f"process {lane}"))
                self._idle.append(lane)
            self._begin()
        return found

    def close(self) -> None:
        """End the processes, also those that work."""
        for pool in self._pools:
            processes = list((getattr(pool, "_processes", None) or {}).values())
            for process in processes:
                process.terminate()
            pool.shutdown(wait=True, cancel_futures=True)

    def _pool(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            1, multiprocessing.get_context("spawn"), initializer=_begin_process,
            initargs=(self._packed,),
        )  # fmt: skip

    def _begin(self) -> None:
        while self._idle and self._waiting:
            part, lane = self._waiting.popleft(), self._idle.pop()
            future = self._pools[lane].submit(_run_in_process, packed_part(part))
            future.add_done_callback(_putter(self._done, lane, part))

    def _died(self, lane: int, part: Part) -> None:
        self._pools[lane].shutdown(wait=True)
        self._pools[lane] = self._pool()
        self.deaths += 1
        self._lost[part.number] = self._lost.get(part.number, 0) + 1
        if self._lost[part.number] >= MOST_DEATHS:
            message = (
                f"{part.name} ended its process {MOST_DEATHS} times: it may need more memory than "
                "there is, or crash. In a script, what begins processes stands under "
                "`if __name__ == '__main__':`"
            )
            raise WorkerError(message)
        self._waiting.appendleft(part)


class ClusterLanes:
    """The workers of the connected cluster.

    Parameters
    ----------
    client : distributed.Client
        The client.
    work : Work
        What to do.
    paths : iterable of str
        Local folders that workers must see.
    """

    def __init__(self, client: Any, work: Work, paths: Iterable[str]) -> None:
        from leptonhpc.runtime.dealing import Dealer

        packed_function(work)  # says what is wrong with it before anything is sent
        self._dealer = Dealer(client, work, paths=tuple(paths))

    @property
    def lanes(self) -> int:
        """How many parts at once; workers may join and leave."""
        return self._dealer.lanes

    @property
    def deaths(self) -> int:
        """How often a part was lost with its worker, and done again."""
        return self._dealer.deaths

    def send(self, part: Part) -> None:
        """Take a part.

        Parameters
        ----------
        part : Part
            The part.

        Raises
        ------
        WorkerError
            If it is in this process's memory, and large.
        """
        from leptonhpc.runtime.dealing import Call

        payload = packed_part(part)
        if len(payload) > PICKLED_NBYTES:
            message = (
                f"{part.name} has {len(payload) / 1e6:.0f} MB, too much to be sent to a worker; "
                "save the data as Zarr on a shared disk and distribute that, or cut them smaller"
            )
            raise WorkerError(message)
        self._dealer.send(Call(part.number, payload, part.name, part.device))

    def receive(self) -> list[Outcome]:
        """Wait until at least one part is done."""
        return [unpacked(e.number, e.outcome, e.worker) for e in self._dealer.receive()]

    def close(self) -> None:
        """Let go all that is on the cluster."""
        self._dealer.close()


def paths_of(part: Part | None) -> tuple[str, ...]:
    """Give the local folder that a part is read from.

    Parameters
    ----------
    part : Part or None
        The part.

    Returns
    -------
    tuple of str
        One, or none.
    """
    stored = part.data.stored if part is not None and isinstance(part.data, Rows) else None
    if stored is None or not is_local(stored.location):
        return ()
    return (str(local_path(stored.location)),)


def packed_function(work: Work) -> bytes:
    """Give the work as other processes get it.

    Parameters
    ----------
    work : Work
        With the user's function.

    Returns
    -------
    bytes
        Pickled.

    Raises
    ------
    OptionError
        If it cannot be pickled.
    """
    try:
        packed: bytes = cloudpickle.dumps(work)
    except Exception as error:  # what is not pickled says so in many ways
        message = (
            f"the function cannot be sent to another process: {error}. Make what it needs (a file, "
            "a lock, a connection) inside it"
        )
        raise OptionError(message) from error
    return packed


def _drained(done: queue.SimpleQueue[Any]) -> list[Any]:
    """Wait for one entry; give all that are there."""
    found = [done.get()]
    while not done.empty():
        found.append(done.get())
    return found


def _putter(done: queue.SimpleQueue[Any], lane: int, part: Part) -> Callable[[Any], None]:
    return lambda future: done.put((lane, part, future))


_packed_here: list[bytes] = []
"""The work of this process, if it is one of `ProcessLanes`."""


def _begin_process(packed: bytes) -> None:
    """Prepare a process, which ends when the one that began it does."""
    threading.Thread(target=_end_with_parent, daemon=True, name="leptonhpc-parent").start()
    _packed_here.append(packed)
    blas_limits.limit(1)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@functools.cache
def _work_here() -> Callable[[bytes], bytes]:
    """Unpack the work when it is needed: a module that is not there is an error of that part."""
    work: Callable[[bytes], bytes] = pickle.loads(_packed_here[0])
    return work


def _run_in_process(payload: bytes) -> bytes:
    return _work_here()(payload)
