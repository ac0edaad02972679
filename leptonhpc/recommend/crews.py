"""Who does the blocks of a half sweep: threads of this process, or the workers of a cluster."""

from __future__ import annotations

import pickle
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

Work = Callable[[Any], Any]
Make = Callable[[int], Any]
Take = Callable[[int, Any], None]


class Crew(Protocol):
    """What makes one call for each block, in any order."""

    def each(self, what: str, weights: Sequence[int], make: Make, take: Take) -> None:
        """Make the calls."""

    def close(self) -> None:
        """Leave nothing behind."""


class ThreadCrew:
    """Lanes are threads of this process.

    Parameters
    ----------
    work : callable
        Of what `make` gave; lets other threads run meanwhile.
    lanes : int
        Calls at once.
    """

    def __init__(self, work: Work, lanes: int) -> None:
        self._work, self._lanes = work, lanes

    def each(self, what: str, weights: Sequence[int], make: Make, take: Take) -> None:
        """Make one call for each weight, the heaviest first.

        Parameters
        ----------
        what : str
            Whose blocks they are: numbers are told apart by it.
        weights : sequence of int
            How much work each call is.
        make : callable
            Of a call's number: what it works on, made when its turn comes.
        take : callable
            Of its number and what it gave; one at a time.
        """
        order = deque(sorted(range(len(weights)), key=lambda n: -weights[n]))
        taking = threading.Lock()

        def lane() -> None:
            while order:
                try:
                    number = order.popleft()
                except IndexError:  # another lane was faster
                    return
                try:
                    given = self._work(make(number))
                    with taking:
                        take(number, given)
                except BaseException:
                    order.clear()
                    raise

        lanes = min(self._lanes, len(weights))
        if lanes <= 1:
            lane()
            return
        with ThreadPoolExecutor(lanes, thread_name_prefix="leptonhpc-lane") as pool:
            running = [pool.submit(lane) for _ in range(lanes)]
            try:
                for each in running:
                    each.result()
            except BaseException:
                order.clear()
                raise

    def close(self) -> None:
        """Threads end with each half sweep."""


class ClusterCrew:
    """Lanes are threads of the workers of a connected cluster.

    A worker gets again the blocks that it had before, if it has a lane free.

    Parameters
    ----------
    client : distributed.Client
        The client.
    work : callable
        Picklable.
    paths : sequence of str
        Local folders that workers must see.
    leave : callable
        Run on each worker in the end.

    Raises
    ------
    WorkerError
        If no worker can take part.
    """

    def __init__(
        self, client: Any, work: Work, paths: Sequence[str], leave: Callable[[], None]
    ) -> None:
        from leptonhpc.runtime.dealing import Dealer

        self._dealer = Dealer(client, _Pickled(work), paths=paths)
        self._client, self._leave = client, leave
        self._homes: dict[Any, str] = {}

    def each(self, what: str, weights: Sequence[int], make: Make, take: Take) -> None:
        """Make one call for each weight; two for each lane are on their way.

        Parameters
        ----------
        what : str
            Whose blocks they are: numbers are told apart by it.
        weights : sequence of int
            How much work each call is.
        make, take : callable
            As for threads; both run here.

        Raises
        ------
        WorkerError
            If all workers are gone, or one call ends each worker that takes it.
        """
        from leptonhpc.runtime.dealing import Call

        waiting = deque(sorted(range(len(weights)), key=lambda n: -weights[n]))
        flying = 0
        while waiting or flying:
            while waiting and flying < 2 * self._dealer.lanes:
                number = waiting.popleft()
                payload = pickle.dumps(make(number), protocol=5)
                name = f"block {number} of {what}"
                home = self._homes.get((what, number))
                self._dealer.send(Call(number, payload, name, home))
                flying += 1
            for ended in self._dealer.receive():
                flying -= 1
                self._homes[what, ended.number] = ended.worker
                take(ended.number, pickle.loads(ended.outcome))

    def close(self) -> None:
        """Let go all that is on the cluster."""
        from leptonhpc.cluster.clients import identities, is_reached, reached
        from leptonhpc.runtime.asking import ask

        self._dealer.close()
        if is_reached(self._client):  # or nobody is there to be told
            with reached(self._client):
                ask(self._client, self._leave, workers=list(identities(self._client)))


class _Pickled:
    """A function from bytes to bytes."""

    def __init__(self, work: Work) -> None:
        self._work = work

    def __call__(self, payload: bytes) -> bytes:
        """Unpack, work, pack."""
        return pickle.dumps(self._work(pickle.loads(payload)), protocol=5)
