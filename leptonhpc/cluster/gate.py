"""A token in front of every HTTP and WebSocket request: Dask's dashboard has none of its own."""

from __future__ import annotations

import hmac
import http.cookies
import logging
import resource
import urllib.parse
import weakref
from collections.abc import Awaitable
from typing import Any

from tornado import httputil

from leptonhpc.cluster.audit import Audit

logger = logging.getLogger(__name__)

COOKIE = "leptonhpc-token"


def most_waiting() -> int:
    """Say how many may be between connecting and showing a certificate, or asking for a page.

    Returns
    -------
    int
        A quarter of the files that this process may open: strangers leave it the rest.
    """
    return max(16, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)


class Gate(httputil.HTTPServerConnectionDelegate):
    """Lets through to an application what shows the token.

    ``?token=T`` is answered with a cookie and the address without it; programs send
    ``Authorization: Bearer T``.

    Parameters
    ----------
    application : tornado.web.Application
        What is guarded.
    token : str
        The token.
    audit : Audit, optional
        Where refusals are noted; default: Python's log.
    """

    def __init__(self, application: Any, token: str, audit: Audit | None = None) -> None:
        self.application, self.token = application, token
        self._audit = audit or Audit(None)
        self.heard = weakref.WeakSet[Any]()
        """Connections that asked for something, with the token or without."""
        self.waiting: dict[Any, None] = {}
        """Connections that have yet to ask, the oldest first."""

    def guard(self, server: Any) -> None:
        """Stand before the application of an HTTP server, and hear which connections end.

        Parameters
        ----------
        server : tornado.httpserver.HTTPServer
            The server.
        """
        forget = server.on_close  # of connections, which an application is not told of

        def on_close(connection: object) -> None:
            forget(connection)
            self.on_close(connection)

        server.request_callback, server.on_close = self, on_close

    def refuse(self, connection: Any, reason: str) -> None:
        """Note that somebody was refused.

        Parameters
        ----------
        connection : object
            The connection.
        reason : str
            Why.
        """
        address = getattr(connection.context, "address", None)
        peer = "http://{}:{}".format(*address[:2]) if address else "http"
        logger.warning("refused %s: %s", peer, reason)
        self._audit.note("refused", peer=peer, reason=reason)

    def start_request(
        self, server_conn: object, request_conn: httputil.HTTPConnection
    ) -> httputil.HTTPMessageDelegate:
        """Begin a request.

        Parameters
        ----------
        server_conn : object
            The connection.
        request_conn : HTTPConnection
            The request on it.

        Returns
        -------
        HTTPMessageDelegate
            What reads it.
        """
        if server_conn not in self.heard:
            self.waiting[server_conn] = None
        if len(self.waiting) > most_waiting():
            oldest = next(iter(self.waiting))
            del self.waiting[oldest]
            oldest.stream.close()
        return _Request(self, server_conn, request_conn)

    def on_close(self, server_conn: object) -> None:
        """Note a connection on which nothing was asked.

        Parameters
        ----------
        server_conn : object
            The connection.
        """
        self.waiting.pop(server_conn, None)
        if server_conn not in self.heard:
            self.refuse(server_conn, "no HTTP request, or none in time")


class _Request(httputil.HTTPMessageDelegate):
    def __init__(
        self, gate: Gate, server_conn: object, request_conn: httputil.HTTPConnection
    ) -> None:
        self._gate, self._server_conn, self._request_conn = gate, server_conn, request_conn
        self._inner: httputil.HTTPMessageDelegate | None = None

    def headers_received(
        self,
        start_line: httputil.RequestStartLine | httputil.ResponseStartLine,
        headers: httputil.HTTPHeaders,
    ) -> Awaitable[None] | None:
        assert isinstance(start_line, httputil.RequestStartLine)  # a server's
        self._gate.heard.add(self._server_conn)
        self._gate.waiting.pop(self._server_conn, None)
        try:
            address = urllib.parse.urlsplit(start_line.path)
        except ValueError:  # such as "//[": a stranger's, who is refused as all are
            address = urllib.parse.urlsplit("/")
        in_address = urllib.parse.parse_qs(address.query).get("token", [""])[0]
        if not self._is_token(in_address or _token_of(headers)):
            self._gate.refuse(self._server_conn, "no token of the dashboard")
            self._answer(401, "Unauthorized", {"WWW-Authenticate": "Bearer"})
            return None
        if in_address:  # out of the address, which browsers keep and show
            cookie = f"{COOKIE}={self._gate.token}; Path=/; HttpOnly; SameSite=Strict"
            # a second slash would make the path another host's
            location = "/" + address.path.lstrip("/")
            self._answer(302, "Found", {"Location": location, "Set-Cookie": cookie})
            return None
        self._inner = self._gate.application.start_request(self._server_conn, self._request_conn)
        return self._inner.headers_received(start_line, headers)

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        return None if self._inner is None else self._inner.data_received(chunk)

    def finish(self) -> None:
        if self._inner is not None:
            self._inner.finish()

    def on_connection_close(self) -> None:
        if self._inner is not None:
            self._inner.on_connection_close()

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self._gate.token.encode())

    def _answer(self, code: int, reason: str, more: dict[str, str]) -> None:
        body = reason.encode()
        headers = {"Content-Length": str(len(body)), "Connection": "close", **more}
        self._request_conn.write_headers(
            httputil.ResponseStartLine("HTTP/1.1", code, reason),
            httputil.HTTPHeaders(headers),
            body,
        )
        self._request_conn.finish()


def _token_of(headers: httputil.HTTPHeaders) -> str:
    scheme, _, given = headers.get("Authorization", "").partition(" ")
    if scheme == "Bearer":
        return given
    cookies: http.cookies.SimpleCookie = http.cookies.SimpleCookie()
    try:
        cookies.load(headers.get("Cookie", ""))
    except http.cookies.CookieError:
        return ""
    return cookies[COOKIE].value if COOKIE in cookies else ""
