"""A client: whether its scheduler is there, one clear error if not any more, and its workers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from leptonhpc.errors import LeptonError, WorkerError

LOST = (
    "the scheduler of the cluster cannot be reached any more. With out= the same call goes on "
    "where it was, on another cluster; close the client to compute in this process"
)
_NOTICE_SECONDS = 2.0
"""That a connection is closed, who asks sees at once, and its client a moment later."""


def is_reached(client: Any) -> bool:
    """Say whether a client has its scheduler."""
    return bool(client.status == "running")


@contextmanager
def reached(client: Any) -> Iterator[None]:
    """Say in one error that the scheduler is gone, whatever call noticed it first.

    Parameters
    ----------
    client : distributed.Client
        The client whose calls are made inside.

    Yields
    ------
    None
        Nothing.

    Raises
    ------
    WorkerError
        If something failed inside and the scheduler cannot be reached any more.
    """
    try:
        yield
    except LeptonError:
        raise
    except (Exception, asyncio.CancelledError) as error:
        if _is_reached_after(client, error):
            raise
        raise WorkerError(LOST) from error


def _is_reached_after(client: Any, error: BaseException) -> bool:
    """Say whether a client has its scheduler, once it knows of a connection that was closed."""
    from distributed.comm.core import CommClosedError

    deadline = time.monotonic() + _NOTICE_SECONDS
    while isinstance(error, CommClosedError) and is_reached(client) and time.monotonic() < deadline:
        time.sleep(0.01)
    return is_reached(client)


def identities(client: Any) -> dict[str, Any]:
    """Ask the scheduler what it knows of each worker that is there.

    The answer of ``client.scheduler_info`` lies in an attribute that the client's own clock
    overwrites every two seconds with one that leaves all workers out: now and then that is what
    it gives.

    Parameters
    ----------
    client : distributed.Client
        The client.

    Returns
    -------
    dict of str to dict
        What is known of each worker, by its address, in their order.

    Raises
    ------
    WorkerError
        If the scheduler cannot be reached any more.
    """
    return workers_in(identity(client))


def workers_in(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Give those workers of a scheduler's answer that do not end.

    Parameters
    ----------
    answer : mapping
        As `identity` gives it.

    Returns
    -------
    dict of str to dict
        What is known of each worker, by its address, in their order.
    """
    found = sorted(answer["workers"].items())
    return {a: w for a, w in found if not w["status"].startswith("clos")}


def identity(client: Any) -> dict[str, Any]:
    """Ask the scheduler what it says of itself.

    Parameters
    ----------
    client : distributed.Client
        The client.

    Returns
    -------
    dict
        Its answer.

    Raises
    ------
    WorkerError
        If it cannot be reached any more.
    """
    with reached(client):
        return dict(client.sync(client.scheduler.identity, n_workers=-1))
    raise AssertionError  # reached lets no exception pass in silence
