"""Dask's scheduler and worker, listening to nobody but whom they should.

Both open their HTTP server on all interfaces by default, and a TLS handshake may take for ever.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable
from typing import Any

from distributed import Nanny, Scheduler, Worker
from distributed.comm.addressing import unparse_host_port
from distributed.comm.registry import backends
from distributed.comm.tcp import TLSBackend, TLSListener
from distributed.core import Server
from distributed.http.routing import RoutingApplication
from tornado.httpserver import HTTPServer

from leptonhpc.cluster.audit import Audit, AuditPlugin, ToldAudit, holder, note_stranger
from leptonhpc.cluster.demand import NAME as DEMAND
from leptonhpc.cluster.gate import Gate, most_waiting
from leptonhpc.errors import WorkerError

logger = logging.getLogger(__name__)

HANDSHAKE_SECONDS = 10.0
"""Who has not shown a certificate by then, or asked for a page, is cut off."""
_TRIES = 3
"""A worker that ended so often before it had joined is not started again."""


def guard_listeners(audit: Audit | None = None) -> None:
    """Make what listens for TLS in this process note and cut off those who show no certificate.

    Parameters
    ----------
    audit : Audit, optional
        Where refusals are noted; default: Python's log.
    """
    backend: Any = TLSBackend()
    backend._listener_class = functools.partial(_Listener, audit or Audit(None), {})
    backends["tls"] = backend


class _Listener(TLSListener):
    def __init__(self, audit: Audit, waiting: dict[Any, None], *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)  # type: ignore[no-untyped-call]
        self._audit, self._waiting = audit, waiting

    async def _prepare_stream(self, stream: Any, address: str) -> Any | None:
        self._waiting[stream] = None
        if len(self._waiting) > most_waiting():  # whoever came first had the longest
            oldest = next(iter(self._waiting))
            del self._waiting[oldest]
            oldest.close()
        try:
            await asyncio.wait_for(stream.wait_for_handshake(), HANDSHAKE_SECONDS)
        except OSError as error:  # TimeoutError is one
            stream.close()
            reason = str(getattr(error, "real_error", None) or error)
            reason = reason or f"no TLS handshake within {HANDSHAKE_SECONDS:g} seconds"
            logger.warning("refused %s: %s", address, reason)
            bound: Any = self.bound_address  # known since it listens
            at = self.prefix + unparse_host_port(*bound[:2])
            self._audit.note("refused", at=at, peer=address, reason=reason)
            return None
        finally:
            self._waiting.pop(stream, None)
        return stream


class GuardedScheduler(Scheduler):
    """A scheduler whose HTTP server listens on loopback behind a token, or not at all.

    Parameters
    ----------
    audit : Audit
        Where connections are noted.
    token : str, optional
        Of the HTTP server; None: it does not listen.
    **options : object
        As `distributed.Scheduler` takes them.
    """

    def __init__(self, *, audit: Audit, token: str | None = None, **options: Any) -> None:
        self.audit, self._token = audit, token
        self.shown: dict[str, dict[str, str]] = {}
        """With which certificate workers register, by their address."""
        super().__init__(**options)
        self.add_plugin(AuditPlugin(audit))

    def start_http_server(
        self, routes: Any, dashboard_address: Any, default_port: int = 0, ssl_options: Any = None
    ) -> None:
        """Listen on loopback behind the token, or not at all.

        Parameters
        ----------
        routes, dashboard_address, default_port, ssl_options : object
            As Dask gives them; the address is not used.
        """
        if self._token is None:
            _serve_nobody(self, routes)
            return
        super().start_http_server(  # type: ignore[no-untyped-call]
            routes, "127.0.0.1:0", 0, ssl_options
        )
        Gate(self.http_application, self._token, self.audit).guard(self.http_server)
        waiting = self.http_server.conn_params  # by default for an hour, and for ever
        waiting.header_timeout = waiting.body_timeout = HANDSHAKE_SECONDS

    def identity(self, n_workers: int = -1) -> dict[str, Any]:
        """Say who this is, who its workers are, and which its launcher can start.

        Parameters
        ----------
        n_workers : int
            Of so many workers; -1: of all.

        Returns
        -------
        dict
            As Dask's own.
        """
        found = dict(super().identity(n_workers))
        if DEMAND in self.extensions:
            found[DEMAND] = self.extensions[DEMAND].to_dict()
        return found

    def handle_comm(self, comm: Any) -> Any:
        """Note who connected.

        Parameters
        ----------
        comm : distributed.comm.Comm
            The connection; its certificate was accepted.

        Returns
        -------
        awaitable
            As Dask's own.
        """
        self.audit.note("connected", peer=comm.peer_address, **holder(comm))
        return super().handle_comm(comm)

    async def add_client(self, comm: Any, client: str, versions: dict[str, Any]) -> None:
        """Note a client; its jobs are noted under its id.

        Parameters
        ----------
        comm : distributed.comm.Comm
            The connection.
        client : str
            Its id.
        versions : dict
            As Dask gives them.
        """
        self.audit.note("client joined", client=client, peer=comm.peer_address, **holder(comm))
        await super().add_client(comm=comm, client=client, versions=versions)

    async def add_worker(self, comm: Any, *, address: str, **options: Any) -> None:
        """Remember the certificate of a worker, which is noted when it has joined.

        Parameters
        ----------
        comm : distributed.comm.Comm
            The connection.
        address : str
            Where it listens.
        **options : object
            As Dask gives them.
        """
        shown = holder(comm)
        self.shown[address] = {"peer": comm.peer_address, "certificate": shown.get("name", "")}
        self.shown[address] |= {k: v for k, v in shown.items() if k == "serial"}
        try:
            await super().add_worker(comm, address=address, **options)
        except OSError:  # it died before it was answered: Dask would count it for minutes more
            found = self.workers.get(address)
            if found is not None and found.server_id == options.get("server_id"):
                await self.remove_worker(address, stimulus_id="leptonhpc-lost-while-joining")
            raise
        finally:
            self.shown.pop(address, None)


class _Noting(Server):
    """Notes who connects to it, but for the scheduler and workers."""

    _audit: Audit

    def handle_comm(self, comm: Any) -> Any:
        note_stranger(self._audit, self, comm)
        return super().handle_comm(comm)


class GuardedNanny(_Noting, Nanny):
    """A nanny that notes who connects to it, and of whose worker all is told to the scheduler.

    Parameters
    ----------
    *args : object
        As `distributed.Nanny` takes them.
    audit : Audit, optional
        Where they are noted; default: what the scheduler is told.
    **options : object
        As `distributed.Nanny` takes them.
    """

    def __init__(self, *args: Any, audit: Audit | None = None, **options: Any) -> None:
        if audit is None:
            audit = ToldAudit(self)
            guard_listeners(audit)
        self._audit = audit
        self.gave_up = False
        """Its worker could not be started again: it closed by itself, and nobody asked it to."""
        self.exit_code: int | None = None
        """Of its worker's process that ended last; below 0: the signal that killed it."""
        super().__init__(*args, **{**options, "worker_class": GuardedWorker})

    async def close(self, timeout: float = 5, reason: str = "nanny-close") -> Any:  # type: ignore[override]
        """Close, and remember whether anybody wanted that.

        Parameters
        ----------
        timeout : float
            Seconds that the worker may take.
        reason : str
            As Dask gives it.

        Returns
        -------
        str
            As Dask's own.
        """
        self.gave_up |= reason.startswith(("nanny-instantiate", "nanny-unregister"))
        return await super().close(timeout=timeout, reason=reason)

    def _on_worker_exit_sync(self, exitcode: int | None) -> None:
        self.exit_code = exitcode
        super()._on_worker_exit_sync(exitcode)  # type: ignore[no-untyped-call]


async def begin(make: Callable[[], GuardedNanny]) -> GuardedNanny:
    """Start a worker and its nanny: again, if it ends before it has joined.

    Parameters
    ----------
    make : callable
        Makes the nanny.

    Returns
    -------
    GuardedNanny
        Its worker has joined.

    Raises
    ------
    WorkerError
        If it did not join in three tries.
    """
    for left in reversed(range(_TRIES)):
        nanny = make()
        try:
            await nanny
            return nanny
        except (OSError, RuntimeError) as error:
            message = f"worker {nanny.name} did not start: {_reason(nanny, error)}"
            if not left:
                raise WorkerError(f"{message}, in the last of {_TRIES} tries") from error
            logger.warning("%s; it is started again", message)
    raise AssertionError  # the last try returns or raises


def _reason(nanny: GuardedNanny, error: Exception) -> str:
    told: BaseException = error
    while told.__cause__ is not None:
        told = told.__cause__
    if nanny.exit_code is None or "Nanny failed" not in str(told):  # the worker's own words
        return f"{type(told).__name__}: {told}"
    code = nanny.exit_code
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"


class GuardedWorker(_Noting, Worker):
    """A worker whose HTTP server does not listen, and that tells the scheduler who connects.

    Parameters
    ----------
    *args : object
        As `distributed.Worker` takes them.
    **options : object
        As `distributed.Worker` takes them.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        self._audit = ToldAudit(self)
        guard_listeners(self._audit)
        super().__init__(*args, **options)

    def start_http_server(
        self, routes: Any, dashboard_address: Any, default_port: int = 0, ssl_options: Any = None
    ) -> None:
        """Do not listen.

        Parameters
        ----------
        routes, dashboard_address, default_port, ssl_options : object
            As Dask gives them; not used.
        """
        _serve_nobody(self, routes)


def _serve_nobody(server: Any, routes: Any) -> None:
    server.http_application = RoutingApplication(routes)
    server.http_server = HTTPServer(server.http_application)
