"""A token in front of every HTTP and WebSocket request: Dask's dashboard has none of its own."""

from __future__ import annotations

import hmac
import http.cookies
import urllib.parse
from collections.abc import Awaitable
from typing import Any

from tornado import httputil

COOKIE = "leptonhpc-token"


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
    """

    def __init__(self, application: Any, token: str) -> None:
        self.application, self.token = application, token

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
        return _Request(self, server_conn, request_conn)

    def on_close(self, server_conn: object) -> None:
        """Pass on that a connection ended.

        Parameters
        ----------
        server_conn : object
            The connection.
        """
        self.application.on_close(server_conn)


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
        address = urllib.parse.urlsplit(start_line.path)
        in_address = urllib.parse.parse_qs(address.query).get("token", [""])[0]
        if not self._is_token(in_address or _token_of(headers)):
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
