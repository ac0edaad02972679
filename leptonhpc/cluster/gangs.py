"""Collective jobs on Dask workers: ranks that work in step, and begin again when one is lost.

Dask has the members and the restarts, torch the collectives. A gang goes on after the death, the
stop or the arrival of a worker: its ranks are begun anew on the workers there are, and find for
themselves (in a checkpoint) how far they were.
"""

from __future__ import annotations

import contextlib
import queue
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from leptonhpc.cluster.clients import identities, is_reached, reached
from leptonhpc.cluster.gangs_ranks import Place, ask_to_regroup, require_private, run_rank, topic_of
from leptonhpc.errors import OptionError, WorkerError

if TYPE_CHECKING:
    from distributed import Client, Future

Hear = Callable[[Mapping[str, Any]], None]

_LOOK_SECONDS = 0.05
_IDENTITY_SECONDS = 0.5
_SILENT_SECONDS = 5.0
"""A worker that says nothing for so long, after another rank failed, is taken to be stopped."""
_RAISED_SECONDS = 2.0
"""Other ranks get so long to end after one has raised an exception."""
_REJOIN_SECONDS = 5.0
"""What keeps workers gets so long to start a lost one again, before fewer go on."""
_NONE_SECONDS = 60.0
"""A gang with too few workers waits for so long."""
_SETTLED_SECONDS = 3.0
"""A gang runs for so long before it is stopped for a worker that joined."""


@dataclass(frozen=True, slots=True)
class GangOutcome:
    """What a gang did."""

    values: tuple[Any, ...]
    """What each rank gave, in order."""
    addresses: tuple[str, ...]
    """Workers of the last attempt."""
    restarts: int
    """How many times it was begun again because a rank was lost."""
    regroups: int
    """How many times, because a worker joined."""


@dataclass(frozen=True, slots=True)
class GangLimits:
    """How large a gang may be, and how long things may take."""

    least: int = 1
    """Fewest ranks."""
    most: int | None = None
    """Most ranks; None: all workers."""
    multiple: int = 1
    """The ranks are a multiple of this."""
    max_restarts: int = 3
    """How many times it is begun again after a loss."""
    timeout: float = 60.0
    """Seconds that a collective may take: longer means that a rank is stopped."""
    start_seconds: float = 120.0
    """Seconds in which all ranks must have started."""
    grow: bool = True
    """Take workers that join later."""
    insecure: bool = False
    """Let torch's collectives go over the network of a cluster with TLS as they are."""

    def __post_init__(self) -> None:
        for name in ("least", "multiple"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} is a number from 1; found {getattr(self, name)!r}")
        if self.most is not None and self.most < self.least:
            raise OptionError(f"most is None, or a number from {self.least}; found {self.most!r}")
        if self.max_restarts < 0:
            raise OptionError(f"max_restarts is a number from 0; found {self.max_restarts!r}")
        if not (self.timeout > 0 and self.start_seconds > 0):
            message = f"timeouts are above 0; found {self.timeout!r} and {self.start_seconds!r}"
            raise OptionError(message)


def run_gang(
    client: Client,
    main: Callable[..., Any],
    *arguments: Any,
    limits: GangLimits | None = None,
    hear: Hear | None = None,
) -> GangOutcome:
    """Run a function as ranks of one torch process group, a rank on each worker.

    Parameters
    ----------
    client : distributed.Client
        Of the cluster.
    main : callable
        ``main(seat, *arguments)``, with a `Seat`; it must store what a later attempt goes on from.
    *arguments : object
        More of its arguments, picklable.
    limits : GangLimits, optional
        How many ranks, and how long things may take.
    hear : callable, optional
        Called, in this thread, with what ranks `tell`.

    Returns
    -------
    GangOutcome
        What the ranks gave.

    Raises
    ------
    Exception
        What `main` raised, as it was raised: that is not tried again.
    WorkerError
        If too few workers are there, ranks were lost more often than `max_restarts`, or the
        scheduler cannot be reached any more.

    Notes
    -----
    One gang at a time runs on a cluster: two that wait for each other's workers would wait for
    ever. Ranks are found lost when Dask's scheduler misses their worker, when their sockets close
    (at once), or when a collective takes longer than `timeout` (a process that was stopped).
    """
    chosen = limits if limits is not None else GangLimits()
    gang = _Gang(client, main, arguments, chosen, hear)
    with reached(client), _alone(client, chosen.start_seconds), gang.listening():
        return gang.run()


@contextlib.contextmanager
def _alone(client: Client, seconds: float) -> Iterator[None]:
    from distributed import Lock

    lock = Lock("leptonhpc-gang", scheduler_rpc=client.scheduler, loop=client.loop)
    if not lock.acquire(timeout=seconds):
        message = f"another gang runs on this cluster, and did not end within {seconds:g} seconds"
        raise WorkerError(message)
    try:
        yield
    finally:
        lock.refresh_leases = False
        if is_reached(client):
            lock.release()


@dataclass
class _Attempt:
    """The ranks of one attempt: what became of each."""

    addresses: list[str]
    futures: list[Future[Any]] = field(default_factory=list)
    ended: dict[int, tuple[str, Any]] = field(default_factory=dict)
    """By rank: done, regroup, peers, lost, silent, hung or raised; and what it gave."""
    began: float = field(default_factory=time.monotonic)
    deadline: float | None = None
    """When ranks that did not end by themselves are hung; set once one failed."""

    @property
    def is_over(self) -> bool:
        return len(self.ended) == len(self.addresses)

    @property
    def failed(self) -> bool:
        return any(kind not in ("done", "regroup") for kind, _ in self.ended.values())

    def of_kind(self, *kinds: str) -> list[int]:
        return sorted(rank for rank, (kind, _) in self.ended.items() if kind in kinds)


def silent_seconds(workers: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Say for how long workers have said nothing, by the scheduler's clock.

    Parameters
    ----------
    workers : mapping
        What the scheduler knows, by address.

    Returns
    -------
    dict
        Seconds that each is behind the one that spoke last.
    """
    latest = max((w["last_seen"] for w in workers.values()), default=0.0)
    return {address: latest - worker["last_seen"] for address, worker in workers.items()}


def _patience(workers: Mapping[str, Any]) -> float:
    """Say how long a worker may say nothing; workers of a large cluster speak less often."""
    return _SILENT_SECONDS + len(workers) / 20


class _Gang:
    """The supervisor."""

    def __init__(
        self, client: Client, main: Callable[..., Any], arguments: tuple[Any, ...],
        limits: GangLimits, hear: Hear | None,
    ) -> None:  # fmt: skip
        self._client, self._main, self._arguments = client, main, arguments
        self._limits, self._hear = limits, hear
        self._job = uuid.uuid4().hex
        self._told: queue.SimpleQueue[Mapping[str, Any]] = queue.SimpleQueue()
        self._refused: set[str] = set()
        self._looked, self._seen = -1e9, {}  # type: ignore[var-annotated]
        self._regroup_asked = False
        self.restarts = self.regroups = 0

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        topic = topic_of(self._job)
        self._client.subscribe_topic(topic, lambda event: self._told.put(event[1]))
        try:
            yield
        finally:
            if is_reached(self._client):
                self._client.unsubscribe_topic(topic)

    def run(self) -> GangOutcome:
        expected = self._whole(len(self._workers(now=True)))
        while True:
            addresses = self._choose(expected)
            require_private(addresses, insecure=self._limits.insecure)
            expected = max(expected, len(addresses))
            attempt = _Attempt(addresses)
            try:
                self._begin(attempt)
                self._watch(attempt)
            finally:
                if is_reached(self._client):
                    self._client.cancel(attempt.futures)
            if len(attempt.of_kind("done")) == len(addresses):
                values = tuple(attempt.ended[rank][1] for rank in range(len(addresses)))
                return GangOutcome(values, tuple(addresses), self.restarts, self.regroups)
            self._note(attempt)

    def _note(self, attempt: _Attempt) -> None:
        """Raise what a rank raised; else count the loss, and say so if there were too many."""
        self._workers(now=True)  # all ranks seem lost when the scheduler is: that is said instead
        for rank in attempt.of_kind("raised"):
            raise attempt.ended[rank][1]
        self._refused |= {attempt.addresses[rank] for rank in attempt.of_kind("hung")}
        if not attempt.failed:
            self.regroups += 1
            return
        self.restarts += 1
        if self.restarts > self._limits.max_restarts:
            what = "; ".join(
                f"rank {rank} on {attempt.addresses[rank]}: {kind}"
                + (f" ({said})" if isinstance(said, str) else "")
                for rank, (kind, said) in sorted(attempt.ended.items())
            )
            message = (
                f"ranks were lost {self.restarts} times; max_restarts={self._limits.max_restarts}. "
                f"The last time: {what}"
            )
            raise WorkerError(message)

    # -- who takes part

    def _choose(self, expected: int) -> list[str]:
        began = time.monotonic()
        while True:
            usable = self._fitting(sorted(self._workers(now=True)))
            waited = time.monotonic() - began
            if len(usable) >= max(expected, self._limits.least) or (
                usable and waited > _REJOIN_SECONDS
            ):
                return usable
            if waited > _NONE_SECONDS:
                message = (
                    f"at least {self._limits.least} workers are needed; {len(self._seen)} are "
                    f"there, of which {len(self._refused & self._seen.keys())} do not answer"
                )
                raise WorkerError(message)
            time.sleep(_IDENTITY_SECONDS)

    def _fitting(self, there: Sequence[str]) -> list[str]:
        """Give as many of the usable workers as a gang may have; none if they are too few."""
        silence = silent_seconds(self._seen)
        usable = [
            address
            for address in there
            if address not in self._refused and silence[address] <= _patience(self._seen)
        ]
        count = self._whole(len(usable))
        return usable[:count] if count >= self._limits.least else []

    def _whole(self, count: int) -> int:
        """Give how many of so many workers a gang may have."""
        count = min(count, self._limits.most or count)
        return count - count % self._limits.multiple

    def _workers(self, *, now: bool = False) -> Mapping[str, Mapping[str, Any]]:
        if now or time.monotonic() - self._looked > _IDENTITY_SECONDS:
            self._seen = identities(self._client)
            self._looked = time.monotonic()
        return self._seen

    # -- one attempt

    def _begin(self, attempt: _Attempt) -> None:
        """Start rank 0, learn where the ranks meet, and start the others."""
        self._regroup_asked = False
        self._submit(attempt, 0, None)
        number, deadline = self.restarts + self.regroups, time.monotonic()
        deadline += self._limits.start_seconds
        while not attempt.ended:
            for told in self._hear_all():
                if "rendezvous" in told and told["attempt"] == number:
                    host, port = told["rendezvous"]
                    for rank in range(1, len(attempt.addresses)):
                        self._submit(attempt, rank, (host, port))
                    return
            self._look(attempt)
            if time.monotonic() > deadline:
                attempt.ended[0] = "hung", f"did not start in {self._limits.start_seconds:g} s"
            time.sleep(_LOOK_SECONDS)
        for rank in range(1, len(attempt.addresses)):
            attempt.ended[rank] = "peers", "rank 0 did not start"

    def _submit(self, attempt: _Attempt, rank: int, rendezvous: tuple[str, int] | None) -> None:
        address, number = attempt.addresses[rank], self.restarts + self.regroups
        place = Place(
            self._job, rank, len(attempt.addresses), number, address,
            self._limits.start_seconds, self._limits.timeout,
        )  # fmt: skip
        future = self._client.submit(
            run_rank, place, rendezvous, self._main, self._arguments, pure=False, retries=0,
            key=f"leptonhpc-gang-{self._job}-{number}-{rank}", workers=[address],
            allow_other_workers=False,
        )  # fmt: skip
        attempt.futures.append(future)

    def _watch(self, attempt: _Attempt) -> None:
        while not attempt.is_over:
            self._look(attempt)
            for told in self._hear_all():
                if self._hear is not None and "rendezvous" not in told:
                    self._hear(told)
            if attempt.failed and attempt.deadline is None:
                patience = _RAISED_SECONDS if attempt.of_kind("raised") else self._limits.timeout
                attempt.deadline = time.monotonic() + patience
            self._give_up_hung(attempt)
            self._ask_to_regroup(attempt)
            time.sleep(_LOOK_SECONDS)

    def _look(self, attempt: _Attempt) -> None:
        """See which ranks ended, and which were lost with their worker."""
        there = self._workers()
        for rank, future in enumerate(attempt.futures):
            if rank in attempt.ended:
                continue
            if future.status in ("error", "finished"):
                attempt.ended[rank] = self._result(future)
            elif future.status in ("lost", "cancelled") or attempt.addresses[rank] not in there:
                attempt.ended[rank] = "lost", None

    def _result(self, future: Future[Any]) -> tuple[str, Any]:
        from distributed import KilledWorker

        if future.status == "error":
            error = future.exception()
            return ("lost", str(error)) if isinstance(error, KilledWorker) else ("raised", error)
        try:
            found: tuple[str, Any] = future.result(timeout=self._limits.timeout)
        except Exception as error:  # its worker went before it was fetched
            return "lost", str(error)
        return found

    def _give_up_hung(self, attempt: _Attempt) -> None:
        """After a failure, do not wait long for ranks that are stopped or do something else."""
        if attempt.deadline is None:
            return
        silence = silent_seconds(self._workers())
        for rank, address in enumerate(attempt.addresses):
            if rank in attempt.ended:
                continue
            if silence.get(address, 0.0) > _patience(self._seen):
                attempt.ended[rank] = "silent", None  # may take part again when it speaks
            elif time.monotonic() > attempt.deadline:
                attempt.ended[rank] = "hung", None

    def _ask_to_regroup(self, attempt: _Attempt) -> None:
        settled = time.monotonic() - attempt.began > _SETTLED_SECONDS
        if not self._limits.grow or self._regroup_asked or not settled or attempt.ended:
            return
        if len(self._fitting(sorted(self._workers()))) > len(attempt.addresses):
            self._regroup_asked = True
            with contextlib.suppress(OSError, TimeoutError):  # rank 0 was just lost
                self._client.run(ask_to_regroup, self._job, workers=[attempt.addresses[0]])

    def _hear_all(self) -> Iterator[Mapping[str, Any]]:
        while not self._told.empty():
            yield self._told.get()
