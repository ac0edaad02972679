"""Who connected, from where, with which certificate, and what they ran: one JSON object a line."""

from __future__ import annotations

import json
import logging
import os
import time
from pathlib import Path
from typing import Any

from distributed.diagnostics.plugin import SchedulerPlugin

logger = logging.getLogger(__name__)


class Audit:
    """A log that is only ever appended to.

    Parameters
    ----------
    path : path, optional
        The file; None: Python's log.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def note(self, event: str, **details: Any) -> None:
        """Append one line.

        Parameters
        ----------
        event : str
            What happened.
        **details : object
            About it.
        """
        line = json.dumps({"time": round(time.time(), 3), "event": event, **details}, default=str)
        if self._path is None:
            logger.info("%s", line)
            return
        # one write of a whole line: appended at once, whoever else writes
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, line.encode() + b"\n")
        finally:
            os.close(descriptor)


def holder(comm: Any) -> dict[str, str]:
    """Say whose certificate the other end of a connection showed.

    Parameters
    ----------
    comm : distributed.comm.Comm
        The connection.

    Returns
    -------
    dict
        Common name and serial number; empty without a certificate.
    """
    certificate = comm.extra_info.get("peercert") or {}
    names = {k: v for part in certificate.get("subject", ()) for k, v in part}
    found = {"name": names.get("commonName"), "serial": certificate.get("serialNumber")}
    return {k: v for k, v in found.items() if v}


class AuditPlugin(SchedulerPlugin):
    """Notes the clients, the workers and the jobs of a scheduler.

    Parameters
    ----------
    audit : Audit
        The log.
    """

    name = "leptonhpc-audit"

    def __init__(self, audit: Audit) -> None:
        self._audit = audit
        self._seen: set[tuple[str, str]] = set()

    def remove_client(self, scheduler: Any, client: str) -> None:
        """Note that a client left.

        Parameters
        ----------
        scheduler : distributed.Scheduler
            The scheduler.
        client : str
            Its id.
        """
        self._audit.note("client left", client=client)

    def add_worker(self, scheduler: Any, worker: str) -> None:
        """Note a worker.

        Parameters
        ----------
        scheduler : distributed.Scheduler
            The scheduler.
        worker : str
            Its address.
        """
        name = scheduler.workers[worker].name
        self._audit.note("worker joined", worker=worker, name=name)

    def remove_worker(self, scheduler: Any, worker: str, **_: Any) -> None:
        """Note that a worker left.

        Parameters
        ----------
        scheduler : distributed.Scheduler
            The scheduler.
        worker : str
            Its address.
        **_ : object
            What else Dask says.
        """
        self._audit.note("worker left", worker=worker)

    def update_graph(self, scheduler: Any, *, client: str, keys: set[Any], **_: Any) -> None:
        """Note the first tasks of each kind that a client sends.

        Parameters
        ----------
        scheduler : distributed.Scheduler
            The scheduler.
        client : str
            Its id.
        keys : set
            Of the tasks that it waits for.
        **_ : object
            What else Dask says.
        """
        from dask.utils import key_split

        for kind in sorted({str(key_split(key)) for key in keys}):
            if (client, kind) not in self._seen:
                self._seen.add((client, kind))
                self._audit.note("job", client=client, tasks=kind)
