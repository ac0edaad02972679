"""Who has no certificate of the run is refused and noted; the job goes on; nothing else listens."""

import contextlib
import datetime
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import Client
from distributed.security import Security

from leptonhpc.cluster import guarded, security_of, status
from leptonhpc.cluster.certificates import make_certificate
from leptonhpc.cluster.clients import identities
from leptonhpc.cluster.runs import Run
from leptonhpc.cluster.security import make_keys

from .conftest import listening, noted, processes_of, slow_square, wait_until

Cluster = tuple[Any, Run]


@pytest.fixture(scope="module", autouse=True)
def dawdlers(cluster: Cluster) -> Iterator[list[socket.socket]]:
    """Keep 50 strangers at the scheduler's port, and some at each, who begin and never go on."""
    with contextlib.ExitStack() as stack:
        strangers = []
        for address in (_scheduler(cluster), *_ports(cluster), _dashboard(cluster)):
            for _ in range(5 if strangers else 50):
                stranger = stack.enter_context(socket.create_connection(address, timeout=120))
                page = address == _dashboard(cluster)
                stranger.sendall(b"GET /health HTTP/1.1\r\nX-A: " if page else b"\x16\x03\x01")
                strangers.append(stranger)
        yield strangers


def _endpoint(address: str) -> tuple[str, int]:
    host, port = address.removeprefix("tls://").rsplit(":", 1)
    return host, int(port)


def _scheduler(cluster: Cluster) -> tuple[str, int]:
    return _endpoint(json.loads(cluster[1].scheduler_file.read_text())["address"])


def _dashboard(cluster: Cluster) -> tuple[str, int]:
    address = json.loads(cluster[1].scheduler_file.read_text())["dashboard"]
    return _endpoint(address.removeprefix("http://").partition("/")[0])


def _ports(cluster: Cluster) -> list[tuple[str, int]]:
    """Give where the scheduler, the nannies and the workers listen."""
    info = identities(cluster[0])
    return [
        _scheduler(cluster),
        *(_endpoint(address) for address in info),
        *(_endpoint(worker["nanny"]) for worker in info.values()),
    ]


@contextlib.contextmanager
def _unharmed(cluster: Cluster, *, refused: bool = True) -> Any:
    """Run tasks while a stranger tries: all are right, nothing died, and he was noted."""
    client, run = cluster
    processes = {p.pid for p in processes_of(run)}
    before, joined = len(noted(run, "refused")), len(noted(run, "client joined"))
    futures = client.map(slow_square, range(20), pure=False)
    yield
    assert client.gather(futures) == [i * i for i in range(20)]
    assert {p.pid for p in processes_of(run)} >= processes
    assert len(noted(run, "client joined")) == joined
    if refused:
        wait_until(lambda: len(noted(run, "refused")) > before, "the refusal to be noted")


def _greet(address: tuple[str, int], context: ssl.SSLContext) -> bytes:
    """Shake hands, speak, and give what is answered; refusal is an error or nothing at all."""
    with socket.create_connection(address, timeout=120) as raw, context.wrap_socket(raw) as tls:
        tls.sendall(b"\0" * 64)
        return tls.recv(1)  # in TLS 1.3 the server's refusal of a certificate is read here


def _is_refused(address: tuple[str, int], context: ssl.SSLContext) -> bool:
    try:
        return _greet(address, context) == b""
    except (ssl.SSLError, ConnectionError):
        return True


def _require_noted_at_every_port(cluster: Cluster, reason: str) -> None:
    """Wait for the one audit log to say that somebody was refused, by whichever process."""
    ports = {"tls://{}:{}".format(*address) for address in _ports(cluster)}

    def at() -> set[str]:
        return {e["at"] for e in noted(cluster[1], "refused") if reason in e["reason"]}

    wait_until(lambda: at() >= ports, f"{reason!r} to be noted at every port")


def _context(folder: Path) -> ssl.SSLContext:
    context: ssl.SSLContext = security_of(folder).get_connection_args("client")["ssl_context"]
    return context


def test_only_the_intended_ports_listen_and_only_on_loopback(cluster: Cluster) -> None:
    intended = {f"{host}:{port}" for host, port in _ports(cluster)}
    intended.add("{}:{}".format(*_dashboard(cluster)))
    assert len(intended) == 6  # scheduler, two nannies, two workers, dashboard
    assert listening(processes_of(cluster[1])) == intended
    assert {address.rsplit(":", 1)[0] for address in intended} == {"127.0.0.1"}


def test_the_runs_own_certificate_is_accepted_on_every_port(cluster: Cluster) -> None:
    for address in _ports(cluster):
        assert not _is_refused(address, _context(cluster[1].folder))


def test_a_client_of_another_authority_is_refused_on_every_port(
    cluster: Cluster, tmp_path: Path
) -> None:
    make_keys(tmp_path)
    other = _context(tmp_path)
    other.check_hostname, other.verify_mode = False, ssl.CERT_NONE  # he takes anybody's
    with _unharmed(cluster):
        assert [a for a in _ports(cluster) if not _is_refused(a, other)] == []
    _require_noted_at_every_port(cluster, "certificate verify failed")


def test_a_client_without_a_certificate_is_refused_on_every_port(cluster: Cluster) -> None:
    anybody = ssl.create_default_context()
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    with _unharmed(cluster):
        assert [a for a in _ports(cluster) if not _is_refused(a, anybody)] == []
    _require_noted_at_every_port(cluster, "peer did not return a certificate")


def test_an_expired_certificate_is_refused_on_every_port(cluster: Cluster, tmp_path: Path) -> None:
    folder = cluster[1].folder
    make_certificate(folder, "client", into=tmp_path, lifetime=-datetime.timedelta(minutes=1))
    shutil.copy(folder / "ca.pem", tmp_path)
    with _unharmed(cluster):
        assert [a for a in _ports(cluster) if not _is_refused(a, _context(tmp_path))] == []
    _require_noted_at_every_port(cluster, "expired")


def test_tls_1_2_is_refused_even_with_the_runs_certificate(cluster: Cluster) -> None:
    old = _context(cluster[1].folder)
    old.minimum_version = ssl.TLSVersion.TLSv1_2
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with _unharmed(cluster):
        assert [a for a in _ports(cluster) if not _is_refused(a, old)] == []
    _require_noted_at_every_port(cluster, "unsupported protocol")


def test_a_clients_certificate_cannot_play_the_scheduler(cluster: Cluster) -> None:
    folder = cluster[1].folder
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(folder / "ca.pem"))
    server.load_cert_chain(folder / "client.pem", folder / "client-key.pem")
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    victim = _context(folder).wrap_bio(incoming, outgoing)
    impostor = server.wrap_bio(outgoing, incoming, server_side=True)
    with pytest.raises(ssl.SSLCertVerificationError, match="purpose"):
        _shake_hands(victim, impostor)


def _shake_hands(*sides: ssl.SSLObject) -> None:
    for side in sides * 4:
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()


def test_a_plain_client_is_refused(cluster: Cluster) -> None:
    host, port = _scheduler(cluster)
    with _unharmed(cluster), pytest.raises(OSError, match=r"(?i)timed out|closed"):
        Client(f"tcp://{host}:{port}", timeout=2, security=Security(require_encryption=False))


@pytest.mark.parametrize("size", [1, 1000, 1_000_000])
def test_random_bytes_are_refused_on_every_port(cluster: Cluster, size: int) -> None:
    noise = os.urandom(size)
    with _unharmed(cluster, refused=size > 1):
        for address in _ports(cluster):
            _shout(address, noise)
    with _unharmed(cluster):
        _shout(_dashboard(cluster), noise + b"\r\n\r\n")


def _shout(address: tuple[str, int], noise: bytes) -> None:
    with (
        socket.create_connection(address, timeout=120) as stranger,
        contextlib.suppress(ConnectionError),
    ):
        stranger.sendall(noise)
        while len(noise) > 1 and stranger.recv(4096):  # one byte is the beginning of something
            pass


@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Bearer wrong"}, {"Cookie": "leptonhpc-token=wrong"}, {"Cookie": "=;="}],
)
def test_the_dashboard_without_its_token_says_nothing(
    cluster: Cluster, headers: dict[str, str]
) -> None:
    with _unharmed(cluster):
        code, body = _get(cluster, "/health", headers)
        assert (code, body) == (401, b"Unauthorized")
        assert _get(cluster, "/health?token=wrong", headers)[0] == 401
        assert _get(cluster, "//[", headers)[0] == 401  # which Python does not parse
    reasons = [line["reason"] for line in noted(cluster[1], "refused")]
    assert "no token of the dashboard" in reasons  # others are cut off meanwhile


def test_the_dashboard_with_its_token_answers(cluster: Cluster) -> None:
    token = json.loads(cluster[1].launch_file.read_text())["token"]
    for headers in ({"Authorization": f"Bearer {token}"}, {"Cookie": f"leptonhpc-token={token}"}):
        assert _get(cluster, "/health", headers) == (200, b"ok")
    # in an address it becomes a cookie and leaves the address
    assert _get(cluster, f"/health?token={token}", {})[0] == 302


def test_status_gives_the_dashboards_address_with_its_token_and_the_client_does_not(
    cluster: Cluster,
) -> None:
    token = json.loads(cluster[1].launch_file.read_text())["token"]
    (found,) = [s for s in status() if s.run == cluster[1].name]
    assert found.dashboard == f"{cluster[0].dashboard_link}?token={token}"


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def _get(cluster: Cluster, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
    address = json.loads(cluster[1].scheduler_file.read_text())["dashboard"]
    request = urllib.request.Request(address.removesuffix("/status") + path, headers=headers)
    try:
        with urllib.request.build_opener(_Stay).open(request, timeout=120) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_who_dawdled_over_the_handshake_was_cut_off(
    cluster: Cluster, dawdlers: list[socket.socket]
) -> None:
    # all the while the other tests of this file got in and computed
    for stranger in dawdlers:
        with contextlib.suppress(ConnectionError):
            assert stranger.recv(1) == b""
    refused = noted(cluster[1], "refused")
    dawdled = [e for e in refused if f"{guarded.HANDSHAKE_SECONDS:g} seconds" in e["reason"]]
    assert len(dawdled) >= 45
    _require_noted_at_every_port(cluster, f"{guarded.HANDSHAKE_SECONDS:g} seconds")
    peers = {"http://{}:{}".format(*stranger.getsockname()) for stranger in dawdlers[-5:]}
    assert peers <= {e["peer"] for e in refused if "none in time" in e["reason"]}


ATTEMPT = """
import http.client, json, os, socket, ssl, sys
user, pids, ports, page = json.loads(sys.argv[1])
"127.0.0.1".encode("idna")  # nothing is imported as somebody else, who may not see this Python
if user:
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)

def tried(act, *what):
    try:
        return act(*what)
    except (OSError, ssl.SSLError):
        return None

def read(name):
    with open(name, "rb") as file:
        return file.read().decode(errors="replace")

def greet(host, port, words):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((host, port), timeout=120) as raw:
        if words:  # in the clear, as Dask would
            raw.sendall(words)
            return raw.recv(1) or None
        with context.wrap_socket(raw) as tls:
            tls.sendall(bytes(64))
            return tls.recv(1) or None

def ask(host, port):
    page = http.client.HTTPConnection(host, port, timeout=120)
    page.request("GET", "/info/main/workers.html")
    return page.getresponse().status

names = ["ca-key.pem", "client-key.pem", "scheduler-key.pem", "worker-key.pem", "launch.json"]
print(json.dumps({
    "here": tried(os.listdir, "."),
    "files": [name for name in names if tried(read, name)],
    "written": tried(os.open, "new", os.O_CREAT),
    "processes": [
        f"{pid}/{name}"
        for pid in pids for name in ("environ", "maps") if tried(read, f"/proc/{pid}/{name}")
    ] + [f"{pid}/fd" for pid in pids if tried(os.listdir, f"/proc/{pid}/fd")],
    "signalled": [pid for pid in pids if tried(lambda: os.kill(pid, 0) or pid)],
    "words": [tried(read, f"/proc/{pid}/cmdline") for pid in pids],
    "answered": [
        port
        for host, port in ports for words in (b"", bytes(64)) if tried(greet, host, port, words)
    ],
    "page": ask(*page),
}))
"""


def test_another_user_of_the_machine_gets_at_nothing(cluster: Cluster) -> None:
    run = cluster[1]
    pids = [p.pid for p in processes_of(run)]
    assert len(pids) >= 3

    def attempt(user: int) -> dict[str, Any]:
        what = json.dumps([user, pids, _ports(cluster), _dashboard(cluster)])
        # in the run's folder: what is above it need not keep anybody out
        done = subprocess.run(
            [sys.executable, "-I", "-c", ATTEMPT, what],
            cwd=run.folder, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    owner = attempt(0)  # who can, so that what keeps others out is not a mistake in the attempt
    assert (len(owner["files"]), owner["signalled"]) == (5, pids)
    assert (len(owner["processes"]), owner["written"] is None) == (3 * len(pids), False)
    (run.folder / "new").unlink()
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    with _unharmed(cluster):
        other = attempt(65534)
    assert (other["here"], other["written"]) == (None, None)
    for name in ("files", "processes", "signalled", "answered"):
        assert other[name] == []
    assert other["page"] == 401
    keys = [p.read_text().split("\n")[1] for p in run.folder.glob("*-key.pem")]
    secrets = [*keys, json.loads(run.launch_file.read_text())["token"]]
    assert len(secrets) == 5
    assert len([words for words in other["words"] if words]) == len(pids)  # which all can read
    assert not [secret for secret in secrets if secret in " ".join(other["words"])]
