"""Connecting to a Dask scheduler that somebody started."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from leptonhpc.errors import OptionError, WorkerError


@contextmanager
def connect(scheduler: str) -> Iterator[Any]:
    """Run what is inside on a cluster that is already there.

    Certificates for ``tls://`` are those of Dask's configuration (``distributed.comm.tls``).

    Parameters
    ----------
    scheduler : str
        Address of the scheduler, such as "tls://host:8786", or the path of its scheduler file.

    Yields
    ------
    distributed.Client
        The connected client; closed at the end.

    Raises
    ------
    OptionError
        If it is neither an address nor a file.
    WorkerError
        If no scheduler answers there.
    """
    is_file = Path(scheduler).is_file()
    if not is_file and ":" not in scheduler:
        message = (
            "a scheduler is an address such as tls://host:8786, or the path of a scheduler file; "
            f"found {scheduler!r}"
        )
        raise OptionError(message)
    from distributed import Client

    client, problem = None, ""
    try:
        client = Client(scheduler_file=scheduler) if is_file else Client(scheduler)
    except (OSError, TypeError, ValueError, KeyError) as error:
        problem = str(error)
    if client is None:  # not raised above: a traceback would keep the half-made client alive
        message = f"cannot connect to the scheduler at {scheduler!r}: {problem}"
        raise WorkerError(message)
    with client:
        yield client
