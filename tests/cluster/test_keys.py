"""Keys live longer than any job, and strangers at a port take nothing from those who have them."""

import asyncio
import contextlib
import datetime
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from distributed.comm import connect, listen
from distributed.comm.registry import backends
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application

from leptonhpc.cluster import gate, guarded, host, security_of
from leptonhpc.cluster.audit import Audit
from leptonhpc.cluster.runs import RUNS, new_run
from leptonhpc.cluster.security import ROLES, make_keys
from leptonhpc.errors import StoreError

LONGEST = datetime.timedelta(days=365)
"""Of a job without a limit SLURM says that it ends in a year."""


def test_keys_outlive_the_longest_walltime_and_hold_where_a_clock_is_late(
    tmp_path: Path,
) -> None:
    make_keys(tmp_path)
    now = datetime.datetime.now(datetime.UTC)
    for name in ("ca", *ROLES):
        certificate = x509.load_pem_x509_certificate((tmp_path / f"{name}.pem").read_bytes())
        assert certificate.not_valid_after_utc > now + LONGEST
        assert certificate.not_valid_before_utc < now - datetime.timedelta(days=1)


def test_a_log_that_cannot_be_written_is_said_first_and_stops_nobody_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = Audit(tmp_path / "gone" / "log")
    with pytest.raises(StoreError, match="audit log cannot be written"):
        log.begin(run="local-0")
    log.note("connected", peer="tls://10.0.0.1:1")
    assert "tls://10.0.0.1:1" in caplog.text


def test_a_run_that_lives_gives_signs_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs").mkdir(mode=0o700)
    monkeypatch.setenv(RUNS, str(tmp_path / "runs"))
    monkeypatch.setattr(host, "SIGN_SECONDS", 0.0)
    run, lock = new_run("local")
    os.close(lock)
    os.utime(run.folder, (0, 0))

    async def live() -> None:
        started: asyncio.Task[None] = asyncio.create_task(asyncio.sleep(600))  # type: ignore[arg-type]
        scheduler, stop = SimpleNamespace(status=SimpleNamespace(name="running")), asyncio.Event()
        ending = asyncio.create_task(host._ended(run, stop, scheduler, started, None))
        while run.folder.stat().st_mtime == 0:
            await asyncio.sleep(0.01)
        stop.set()
        await ending
        started.cancel()

    asyncio.run(asyncio.wait_for(live(), 300))
    run.remove()


@pytest.fixture
def _own_backend() -> Iterator[None]:
    before = backends["tls"]
    yield
    backends["tls"] = before


@pytest.mark.usefixtures("_own_backend")
def test_more_strangers_than_may_wait_push_out_one_another_and_nobody_with_a_certificate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_keys(tmp_path)
    keys = security_of(tmp_path, role="all")
    log = tmp_path / "log"
    monkeypatch.setattr(guarded, "most_waiting", lambda: 5)
    guarded.guard_listeners(Audit(log))

    async def answer(comm: Any) -> None:
        with contextlib.suppress(OSError):
            await comm.write(await comm.read())

    async def push() -> None:
        async with listen(
            "tls://127.0.0.1", answer, **keys.get_listen_args("scheduler")
        ) as listener:
            port = int(listener.contact_address.rsplit(":", 1)[1])
            opened = [asyncio.open_connection("127.0.0.1", port) for _ in range(8)]
            strangers = [await each for each in opened]
            try:
                for reader, _ in strangers[:3]:  # long before their time is over
                    assert await reader.read(1) == b""
                friend = await connect(
                    listener.contact_address, **keys.get_connection_args("client")
                )
                await friend.write("hello")
                assert await friend.read() == "hello"
                await friend.close()
            finally:
                for _, writer in strangers:
                    writer.close()

    monkeypatch.setattr(guarded, "HANDSHAKE_SECONDS", 600.0)
    asyncio.run(asyncio.wait_for(push(), 300))
    refused = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(refused) >= 3
    assert {e["at"].rsplit(":", 1)[0] for e in refused} == {"tls://127.0.0.1"}


def test_more_strangers_than_may_wait_for_a_page_push_out_one_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "most_waiting", lambda: 5)

    async def push() -> None:
        server, log = HTTPServer(Application()), tmp_path / "log"
        gate.Gate(Application(), "secret", Audit(log)).guard(server)
        (listening,) = bind_sockets(0, "127.0.0.1")
        server.add_sockets([listening])
        port = listening.getsockname()[1]
        opened = [asyncio.open_connection("127.0.0.1", port) for _ in range(8)]
        strangers = [await each for each in opened]
        try:
            for reader, _ in strangers[:3]:
                assert await reader.read(1) == b""
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            strangers.append((reader, writer))
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secret\r\n\r\n")
            assert b" 404 " in await reader.readline()  # of the application, which has no page
        finally:
            for _, writer in strangers:
                writer.close()
            server.stop()
            await server.close_all_connections()

    asyncio.run(asyncio.wait_for(push(), 300))
