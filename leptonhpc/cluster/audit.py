"""Who connected, from where, with which certificate, and what they ran: one JSON object a line."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distributed.diagnostics.plugin import SchedulerPlugin

from leptonhpc.cluster.security import MEMBERS
from leptonhpc.errors import StoreError

logger = logging.getLogger(__name__)

TOPIC = "leptonhpc-audit"
"""Of what workers and nannies tell the scheduler, whose log has it all."""
_TOLD = {
    "connected": ("at", "peer", "name", "serial"),
    "refused": ("at", "peer", "reason"),
}
"""What they may tell."""
_JOB = re.compile(r"-([0-9a-f]{12})-")
"""Within keys of our tasks."""


class Audit:
    """A log that is only ever appended to.

    Parameters
    ----------
    path : path, optional
        The file; None: Python's log.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def begin(self, **details: Any) -> None:
        """Append the first line.

        Parameters
        ----------
        **details : object
            What the log is of.

        Raises
        ------
        StoreError
            If it cannot be written.
        """
        try:
            self._append(_line("started", details))
        except OSError as error:
            raise StoreError(f"the audit log cannot be written: {error}") from error

    def note(self, event: str, **details: Any) -> None:
        """Append one line; if it cannot be written, such as on a full disk, Python's log has it.

        Parameters
        ----------
        event : str
            What happened.
        **details : object
            About it.
        """
        line = _line(event, details)
        try:
            self._append(line)
        except OSError as error:  # whoever connected goes on with the job
            logger.error("the audit log cannot be written, %s: %s", error, line)

    def _append(self, line: str) -> None:
        if self._path is None:
            logger.info("%s", line)
            return
        # one write of a whole line: appended at once, whoever else writes
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, line.encode() + b"\n")
        finally:
            os.close(descriptor)


def _line(event: str, details: Mapping[str, Any]) -> str:
    return json.dumps({"time": round(time.time(), 3), "event": event, **details}, default=str)


class ToldAudit(Audit):
    """The log of a run, seen from a process on whatever machine: what it notes is told.

    Parameters
    ----------
    server : distributed.Worker or distributed.Nanny
        Who tells it to the scheduler. What is noted before it has joined is in Python's log alone.
    """

    def __init__(self, server: Any) -> None:
        super().__init__(None)
        self._server = server

    def note(self, event: str, **details: Any) -> None:
        """Tell the scheduler.

        Parameters
        ----------
        event : str
            What happened.
        **details : object
            About it.
        """
        super().note(event, **details)
        told = {k: v if v is None else str(v) for k, v in details.items()}
        with contextlib.suppress(RuntimeError):  # it is closing
            self._server.log_event(TOPIC, {"event": event, **told})


def note_stranger(audit: Audit, server: Any, comm: Any) -> None:
    """Note who connected to a worker or a nanny, unless it is the scheduler or another worker.

    Parameters
    ----------
    audit : Audit
        The log.
    server : distributed.Worker or distributed.Nanny
        To whom.
    comm : distributed.comm.Comm
        The connection; its certificate was accepted.
    """
    shown = holder(comm)
    if shown.get("name") not in MEMBERS:
        audit.note("connected", at=server.address, peer=comm.peer_address, **shown)


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
        self._seen: dict[str, set[tuple[str, str | None]]] = {}

    def remove_client(self, scheduler: Any, client: str) -> None:
        """Note that a client left.

        Parameters
        ----------
        scheduler : distributed.Scheduler
            The scheduler.
        client : str
            Its id.
        """
        self._seen.pop(client, None)
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
        shown = scheduler.shown.pop(worker, {})
        self._audit.note("worker joined", worker=worker, name=name, **shown)

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

    def log_event(self, topic: str, msg: Any) -> None:
        """Note what a worker or a nanny tells.

        Parameters
        ----------
        topic : str
            Of the event.
        msg : object
            The event.
        """
        if topic == TOPIC and isinstance(msg, dict) and msg.get("event") in _TOLD:
            event = msg["event"]
            self._audit.note(event, **{k: msg[k] for k in _TOLD[event] if k in msg})

    def update_graph(self, scheduler: Any, *, client: str, keys: set[Any], **_: Any) -> None:
        """Note the first tasks of each kind that a client sends, in each of leptonhpc's jobs.

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
        seen = self._seen.setdefault(client, set())
        for kind, job in sorted({_told_by(key) for key in keys} - seen, key=str):
            seen.add((kind, job))
            told = {} if job is None else {"job": job}
            self._audit.note("job", client=client, tasks=kind, **told)


def _told_by(key: Any) -> tuple[str, str | None]:
    """Give the kind of a task, and the job of leptonhpc's that it is of."""
    from dask.utils import key_split

    found = _JOB.search(key) if isinstance(key, str) else None
    return str(key_split(key)), found and found[1]
