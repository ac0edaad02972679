"""Stores that fail for a moment: the same is tried again, a little later each time.

Network file systems, object stores and servers in between fail now and then; a job of hours must
not end by that. What will not pass by itself (no such object, no permission, a full disk) is raised
at once.
"""

from __future__ import annotations

import errno
import logging
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

WAITS_SECONDS = (0.1, 0.4, 1.6, 6.4)
"""Before each new try; up to half as long again each, so that workers do not come all at once."""
_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Answers of a server by which it does not mean this very request."""
_PASSING = frozenset(
    getattr(errno, name)
    for name in (
        "EAGAIN", "EBUSY", "ECONNABORTED", "ECONNREFUSED", "ECONNRESET", "EHOSTUNREACH", "EINTR",
        "EIO", "ENETDOWN", "ENETRESET", "ENETUNREACH", "EPIPE", "ESTALE", "ETIMEDOUT",
    )
)  # fmt: skip
_PASSING_NAMES = frozenset(
    {"ClientConnectionError", "ServerDisconnectedError", "ClientPayloadError"}
)
"""Of aiohttp, which need not be installed."""
_ABSENT = frozenset(
    {errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT}
)  # fmt: skip
SILENT_SECONDS = 5.0
"""After so long without an answer it is said what is waited for."""
_log = logging.getLogger("leptonhpc.store")


def retried(act: Callable[[], T], *, first: bool = False) -> T:
    """Do something with a store, again if it fails for a moment.

    Parameters
    ----------
    act : callable
        What may be done twice with the same effect as once.
    first : bool
        Nothing was had of this store before: one that is not there at all is not waited for.

    Returns
    -------
    object
        What it gives.

    Notes
    -----
    After four new tries, about ten seconds, the last error is raised as it is.
    """
    for wait in WAITS_SECONDS:
        try:
            return act()
        except Exception as error:
            if not may_pass(error) or (first and is_absent(error)):
                raise
            wait *= 1 + random.random() / 2  # noqa: S311, PLW2901  (no secret)
            _log.warning("the store failed: %s; trying again in %.1f s", error, wait)
        time.sleep(wait)
    return act()


def may_pass(error: BaseException) -> bool:
    """Say whether an error of a store, or what caused it, may be gone at the next try."""
    return any(_is_passing(each) for each in _causes(error))


def is_absent(error: BaseException) -> bool:
    """Say whether nobody answers there: no such host, nobody listens, or all was silent."""
    return any(_is_absent(each) for each in _causes(error))


@contextmanager
def waiting_for(name: str) -> Iterator[None]:
    """Say in the log what is waited for, if that takes long.

    Parameters
    ----------
    name : str
        Of what shall answer.

    Yields
    ------
    None
        While it is waited for.
    """
    said = (f"waiting for an answer of {name!r} for {SILENT_SECONDS:g} s now",)
    timer = threading.Timer(SILENT_SECONDS, _log.warning, said)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def answers(error: BaseException) -> set[int]:
    """Give the HTTP statuses that an error of a store, or what caused it, tells of."""
    return {found for each in _causes(error) if (found := _answer(each)) is not None}


def _is_passing(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in _PASSING:
        return True
    if isinstance(error, TimeoutError | ConnectionError):  # asyncio's have no errno
        return True
    if _PASSING_NAMES & {kind.__name__ for kind in type(error).__mro__}:
        return True
    return _answer(error) in _BUSY


def _is_absent(error: BaseException) -> bool:
    if isinstance(error, socket.gaierror):
        return error.errno != socket.EAI_AGAIN
    return isinstance(error, TimeoutError) or getattr(error, "errno", None) in _ABSENT


def _answer(error: BaseException) -> int | None:
    """Give the HTTP status that an error of aiohttp or botocore tells of."""
    status = getattr(error, "status", getattr(error, "code", None))
    response = getattr(error, "response", None)
    if status is None and isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status if isinstance(status, int) else None


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = each.__cause__ or each.__context__
