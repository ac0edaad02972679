"""Questions to workers that may die, or stop, before they answer: none is waited for for ever."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import CancelledError
from typing import Any, NoReturn

from distributed import Client, Future, wait

from leptonhpc.cluster.clients import LOST, is_reached
from leptonhpc.errors import WorkerError
from leptonhpc.runtime.placed import remove_silent

SILENT_SECONDS = 30.0
"""A worker that has said nothing for so long is given up: its process was stopped, or cut off."""
_ANSWER_SECONDS = 10.0
"""For those that are slower than others."""
_FIRST_SECONDS = 60.0
"""Until one answers: all of them may have to import what they need, on a busy machine."""
_LOOK_SECONDS = 0.5


class Questions:
    """A question to workers; each answer is taken when it comes, whoever waits for it.

    Parameters
    ----------
    client : distributed.Client
        The client.
    function, *arguments : callable, objects
        What to run on each.
    """

    def __init__(self, client: Client, function: Callable[..., Any], *arguments: Any) -> None:
        self._client, self._function, self._arguments = client, function, arguments
        self._asked: dict[str, asyncio.Future[dict[str, Any]]] = {}

    def answers(self, workers: Sequence[str], *, wait_for: Collection[str]) -> dict[str, Any]:
        """Ask those that were not asked yet; give what came.

        Parameters
        ----------
        workers : sequence of str
            Whom to ask. Others that were asked before are asked no more.
        wait_for : collection of str
            Who is waited for, as `ask` does. The others' answers are given when they are there,
            perhaps by a later call.

        Returns
        -------
        dict
            See `ask`.
        """
        answers: dict[str, Any] = self._client.sync(self._take, workers, wait_for)
        return {a: value for a, value in answers.items() if not isinstance(value, OSError)}

    def asked(self) -> set[str]:
        """Give those whose answer was not taken yet."""
        return set(self._asked)

    def drop(self) -> None:
        """Ask no more."""
        if self._asked:
            self._client.sync(self._take, (), ())

    async def _take(self, workers: Sequence[str], wait_for: Collection[str]) -> dict[str, Any]:
        for address in self._asked.keys() - set(workers):
            self._asked.pop(address).cancel()
        for address in workers:
            if address not in self._asked:
                self._asked[address] = self._ask(address)
        awaited = {self._asked[address]: address for address in workers if address in wait_for}
        if awaited:
            done, silent = await asyncio.wait(awaited, timeout=_ANSWER_SECONDS)
            if not done:
                done, silent = await asyncio.wait(
                    awaited, timeout=_FIRST_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
            for each in silent:  # it is asked again, if it is still there
                self._asked.pop(awaited[each]).cancel()
        answers: dict[str, Any] = {}
        for address in [a for a, each in self._asked.items() if each.done()]:
            answer = self._asked.pop(address)
            if not answer.cancelled() and answer.exception() is None:
                answers.update(answer.result())
        return answers

    def _ask(self, address: str) -> asyncio.Future[dict[str, Any]]:
        question = self._client.run(
            self._function, *self._arguments, workers=[address], on_error="return"
        )
        asked: asyncio.Future[dict[str, Any]] = asyncio.ensure_future(question)
        # what nobody takes any more is no error
        asked.add_done_callback(lambda each: each.cancelled() or each.exception())
        return asked


def ask(
    client: Client, function: Callable[..., Any], *arguments: Any, workers: Sequence[str]
) -> dict[str, Any]:
    """Run a function on workers.

    Parameters
    ----------
    client : distributed.Client
        The client.
    function, *arguments : callable, objects
        What to run.
    workers : sequence of str
        Where.

    Returns
    -------
    dict
        By address what it gave, or the exception that it raised; nothing of those that are gone,
        or do not answer within ten seconds (a minute, if none of them does).
    """
    if not workers:
        return {}
    return Questions(client, function, *arguments).answers(workers, wait_for=workers)


def tell_scheduler(
    client: Client, function: Callable[..., Any], *, first: bool = False, **told: Any
) -> None:
    """Run a function on the scheduler.

    Parameters
    ----------
    client : distributed.Client
        The client.
    function : callable
        What to run.
    first : bool
        The scheduler may have to import what it needs for it.
    **told : object
        Its keywords.

    Raises
    ------
    WorkerError
        If it does not answer within ten seconds, a minute at first, or cannot be reached.
    """
    seconds = _FIRST_SECONDS if first else _ANSWER_SECONDS

    async def tell() -> None:
        answer = asyncio.ensure_future(client.run_on_scheduler(function, **told))
        deadline = asyncio.get_running_loop().time() + seconds
        while not answer.done() and is_reached(client):
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                break
            await asyncio.wait([answer], timeout=min(left, _LOOK_SECONDS))
        if not answer.done():
            answer.cancel()
            silent = (
                f"the scheduler of the cluster did not answer within {seconds:g} seconds. Make the "
                "same call again when it is less busy"
            )
            raise WorkerError(silent if is_reached(client) else LOST)
        answer.result()

    client.sync(tell)


def give_up_silent(client: Client, found: Mapping[str, Mapping[str, Any]], seconds: float) -> None:
    """Let the scheduler remove workers that said nothing for long, by its own clock.

    Parameters
    ----------
    client : distributed.Client
        The client.
    found : mapping
        What the scheduler knows of each worker, as `identities` gives it.
    seconds : float
        How long; workers of a large cluster speak less often, and may be silent for longer.
    """
    latest = max((w["last_seen"] for w in found.values()), default=0.0)
    silence = seconds + len(found) / 20
    silent = [a for a, w in found.items() if latest - w["last_seen"] > silence]
    if silent:
        client.run_on_scheduler(remove_silent, addresses=silent)


def wait_for_any(futures: Sequence[Future[Any]], seconds: float) -> None:
    """Wait until one of some futures is done, but no longer than so many seconds."""
    # a client that is restarted cancels all futures
    with contextlib.suppress(TimeoutError, CancelledError, asyncio.CancelledError):
        wait(list(futures), timeout=seconds, return_when="FIRST_COMPLETED")


def fetch(
    client: Client, futures: Sequence[Future[Any]], is_lost: Callable[[], bool]
) -> list[Any] | None:
    """Give the values of futures that are done.

    Parameters
    ----------
    client : distributed.Client
        The client.
    futures : sequence of Future
        Their values may be on workers that die meanwhile: Dask then waits for them to be computed
        again.
    is_lost : callable
        Asked again and again: whether a worker that has one of them is gone.

    Returns
    -------
    list or None
        The values; None if one was lost.
    """
    values: list[Any] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            values.extend(client.gather(list(futures)))
        except BaseException as error:
            failures.append(error)

    thread = _in_thread(run)
    while True:
        thread.join(_LOOK_SECONDS)
        if not thread.is_alive():
            break
        if is_lost():
            return None
    if failures:
        if is_lost():
            return None
        raise failures[0]
    return values


def raise_failure(future: Future[Any], of: str) -> NoReturn:
    """Raise what became of a future that is done, but not finished: the user's error as it is.

    Parameters
    ----------
    future : distributed.Future
        The future.
    of : str
        What it belongs to, in words.

    Raises
    ------
    WorkerError
        If the cluster let it go.
    """
    if future.status == "error":
        future.result()
    raise WorkerError(f"{future.key} of {of} was {future.status} by the cluster")


def _in_thread(run: Callable[[], None]) -> threading.Thread:
    """Start what may never end: such a thread does not keep the process."""
    thread = threading.Thread(target=run, daemon=True, name="leptonhpc-asking")
    thread.start()
    return thread
