"""A server and workers that come and go: an actor, and tasks that talk with it when they like."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from leptonhpc.cluster.clients import identities, is_reached, reached
from leptonhpc.cluster.gangs import GangLimits, Hear, silent_seconds
from leptonhpc.cluster.gangs_ranks import Seat
from leptonhpc.errors import WorkerError

if TYPE_CHECKING:
    from distributed import Client, Future

_LOOK_SECONDS = 0.1
_TELL_SECONDS = 0.5
_NONE_SECONDS = 60.0

Call = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class FreeOutcome:
    """What a server and its workers did."""

    value: Any
    """The server's `outcome`."""
    given: dict[str, Any]
    """By address: what each worker that ended gave."""
    restarts: int
    """How often the server was made again."""
    joined: int
    """Workers that came later."""
    left: int
    """Workers that went."""


def run_freely(
    client: Client, make_server: Callable[[], Any], main: Callable[..., Any], *arguments: Any,
    limits: GangLimits | None = None, hear: Hear | None = None,
) -> FreeOutcome:  # fmt: skip
    """Run a server as a Dask actor, and a worker's loop on each worker, until all loops end.

    Parameters
    ----------
    client : distributed.Client
        Of the cluster.
    make_server : callable
        Makes the server, on a worker, and again if that is lost: it finds its own state. It has
        methods ``leave(name)``, ``progress()`` and ``outcome()``.
    main : callable
        ``main(seat, call, name, *arguments)``; ``call("method", ...)`` asks the server.
    *arguments : object
        More of its arguments, picklable.
    limits : GangLimits, optional
        How many workers, and how long an answer may take.
    hear : callable, optional
        Called with the server's `progress`.

    Returns
    -------
    FreeOutcome
        What came of it.

    Raises
    ------
    Exception
        What `main` or `make_server` raised, as it was raised.
    WorkerError
        If no worker is there, the server was lost more often than `max_restarts`, or the scheduler
        cannot be reached any more.
    """
    chosen = limits if limits is not None else GangLimits()
    free = _Free(client, make_server, main, arguments, chosen, hear)
    with reached(client):
        try:
            return free.run()
        finally:
            free.end()


class _ServerLostError(Exception):
    """Its worker is gone, or does not answer."""


def _run_worker(
    home: str, actor: str, timeout: float, name: str, main: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> tuple[str, Any]:  # fmt: skip
    """Run the loop of one worker, which asks the actor at another's address."""
    from distributed import get_worker
    from distributed.protocol.serialize import to_serialize
    from distributed.utils import sync

    worker = get_worker()
    key = worker.get_current_task()

    def is_wanted() -> bool:
        task = worker.state.tasks.get(key)
        return task is not None and task.state in ("executing", "long-running")

    def call(method: str, *values: Any) -> Any:
        """Ask as `distributed.Actor` does, from any thread, and without a client of its own."""

        async def ask() -> Any:
            return await worker.rpc(home).actor_execute(
                function=method, actor=actor, args=[to_serialize(v) for v in values], kwargs={}
            )

        try:
            answer = sync(worker.loop, ask, callback_timeout=timeout)
        except (OSError, TimeoutError) as error:
            raise _ServerLostError(str(error)) from error
        if answer["status"] == "OK":
            return answer["result"]
        raise answer["exception"]

    seat = Seat(threads=worker.state.nthreads, is_wanted=is_wanted)
    try:
        return "done", main(seat, call, name, *arguments)
    except _ServerLostError as error:
        return "lost", str(error)
    except SystemExit as error:  # which would end the worker
        message = f"what {name} ran called sys.exit({error.code!r})"
        raise WorkerError(message) from error


@dataclass
class _Free:
    """The supervisor."""

    client: Client
    make_server: Callable[[], Any]
    main: Callable[..., Any]
    arguments: tuple[Any, ...]
    limits: GangLimits
    hear: Hear | None
    actor: Future[Any] | None = None
    server: Any = None
    home: str = ""
    """Address of the server's worker."""
    futures: dict[str, Future[Any]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    """By address: what its loop is called; no two loops, also of one worker, have one name."""
    given: dict[str, Any] = field(default_factory=dict)
    restarts: int = 0
    joined: int = 0
    left: int = 0
    told: float = 0.0

    def run(self) -> FreeOutcome:
        while True:
            try:
                self._begin()
                self._watch()
                value = self._ask("outcome")
                return FreeOutcome(value, self.given, self.restarts, self.joined, self.left)
            except _ServerLostError as error:
                identities(self.client)  # raises if it is the scheduler that was lost
                self.end()
                self.restarts += 1
                if self.restarts > self.limits.max_restarts:
                    message = (
                        f"the server was lost {self.restarts} times; max_restarts="
                        f"{self.limits.max_restarts}. The last time: {error}"
                    )
                    raise WorkerError(message) from error

    def end(self) -> None:
        if is_reached(self.client):
            self.client.cancel([*self.futures.values(), *([self.actor] if self.actor else [])])
        self.futures, self.actor, self.server = {}, None, None

    def _begin(self) -> None:
        """Make the server on a worker; on another, if that one goes meanwhile."""
        while not self._is_started():
            if self.actor is not None:
                self.client.cancel([self.actor])
            self.home = self._a_worker()
            self.actor = self.client.submit(
                self.make_server, actor=True, pure=False, workers=[self.home],
                allow_other_workers=False, key=f"leptonhpc-server-{uuid.uuid4().hex}",
            )  # fmt: skip
        self.server = self._made()
        self._begin_missing()

    def _made(self) -> Any:
        """Give the server; what its own making raised is raised, whatever else is a loss."""
        from distributed import KilledWorker

        assert self.actor is not None
        if self.actor.status == "error":
            error = self.actor.exception()
            assert error is not None
            if not isinstance(error, KilledWorker):
                raise error
            raise _ServerLostError(f"its worker died: {error}") from error
        try:
            return self.actor.result(timeout=self.limits.start_seconds)
        except (OSError, TimeoutError, CancelledError) as error:  # went before it was fetched
            raise _ServerLostError(f"{self.home} had it no more: {error}") from error

    def _a_worker(self) -> str:
        deadline = time.monotonic() + _NONE_SECONDS
        while not (there := self._workers()):
            if time.monotonic() > deadline:
                raise WorkerError("training needs a worker; the cluster has none that answers")
            time.sleep(_LOOK_SECONDS)
        return there[-1]

    def _is_started(self) -> bool:
        """Wait for the server; False if its worker went."""
        deadline = time.monotonic() + self.limits.start_seconds
        while self.actor is not None and not self.actor.done():
            if self.home not in self._workers():
                return False
            if time.monotonic() > deadline:
                raise _ServerLostError(f"it did not start on {self.home}")
            time.sleep(_LOOK_SECONDS)
        return self.actor is not None

    def _begin_missing(self) -> int:
        """Start a loop on each worker that has none."""
        most = self.limits.most
        assert self.actor is not None
        new = [a for a in self._workers() if a not in self.futures and a not in self.given]
        for address in new if most is None else new[: max(0, most - len(self.futures))]:
            self.names[address] = f"{address}/{uuid.uuid4().hex}"
            self.futures[address] = self.client.submit(
                _run_worker, self.home, self.actor.key, self.limits.timeout, self.names[address],
                self.main, self.arguments, pure=False, workers=[address], allow_other_workers=False,
                key=f"leptonhpc-trainer-{uuid.uuid4().hex}",
            )  # fmt: skip
        return len(new)

    def _watch(self) -> None:
        while self.futures:
            there = self._workers()
            if self.home not in there:
                raise _ServerLostError(f"its worker {self.home} is gone")
            for address in list(self.futures):
                self._look(address, there)
            self.joined += self._begin_missing() if self.limits.grow and self.futures else 0
            self._tell()
            time.sleep(_LOOK_SECONDS)

    def _look(self, address: str, there: list[str]) -> None:
        future = self.futures[address]
        if future.status == "error":
            error = future.exception()
            assert error is not None
            raise error
        if future.status == "finished":
            kind, value = future.result(timeout=self.limits.timeout)
            if kind == "lost":
                raise _ServerLostError(str(value))
            self.given[address] = value
            del self.futures[address]
        elif address not in there:
            self._ask("leave", self.names[address])
            self.client.cancel([future])
            del self.futures[address]
            self.left += 1

    def _workers(self) -> list[str]:
        """Give workers that are there, and were not silent for longer than an answer may take."""
        found = identities(self.client)
        silence = silent_seconds(found)
        return [a for a in sorted(found) if silence[a] <= self.limits.timeout]

    def _tell(self) -> None:
        if self.hear is not None and time.monotonic() - self.told > _TELL_SECONDS:
            with contextlib.suppress(OSError, TimeoutError):  # the next time will do
                self.hear(self._method("progress")().result(timeout=_TELL_SECONDS))
            self.told = time.monotonic()

    def _ask(self, method: str, *values: Any) -> Any:
        try:
            return self._method(method)(*values).result(timeout=self.limits.timeout)
        except (OSError, TimeoutError) as error:
            raise _ServerLostError(str(error)) from error

    def _method(self, name: str) -> Call:
        try:
            method: Call = getattr(self.server, name)
        except RuntimeError as error:  # so Dask says that it knows the actor no more
            raise _ServerLostError(str(error)) from error
        return method
