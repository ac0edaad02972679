"""Two hosts, each in a network namespace of its own, joined by one cable."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from leptonhpc.cluster.runs import RUNS

HEAD, OTHER = "10.79.0.1", "10.79.0.2"

CLUSTER = """
import subprocess
from leptonhpc.cluster import Group, Profile, from_profile
profile = Profile("local", (Group("a", memory="300 MB"),), interface="cable0")
with from_profile(profile) as client:
    print(client.security.tls_ca_file, flush=True)
    input()
"""

CLIENT = """
import sys
from leptonhpc.cluster import connect
with connect(sys.argv[1], workers=1, timeout=20) as client:
    print(sum(client.gather(client.map(lambda i: i * i, range(50)))))
"""

STRANGER = """
import socket, ssl, sys
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=20) as raw:
    try:
        with context.wrap_socket(raw) as tls:
            tls.sendall(bytes(64))
            print("answered" if tls.recv(1) else "refused")
    except (ssl.SSLError, ConnectionError):
        print("refused")
"""


@dataclass
class Hosts:
    head: str
    other: str

    def popen(self, host: str, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["ip", "netns", "exec", host, *words],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def run(self, host: str, *words: str) -> str:
        with self.popen(host, *words) as process:
            said, _ = process.communicate(timeout=100)
        assert process.returncode == 0, said
        return said


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    if os.getuid() != 0 or shutil.which("ip") is None or shutil.which("ss") is None:
        pytest.skip("network namespaces need root and iproute2")
    mark = uuid.uuid4().hex[:6]
    names = Hosts(f"lh{mark}a", f"lh{mark}b")
    with contextlib.ExitStack() as stack:
        for name in (names.head, names.other):
            _ip("netns", "add", name)
            stack.callback(_ip, "netns", "del", name)
            _ip("-n", name, "link", "set", "lo", "up")
        _ip(
            *("-n", names.head, "link", "add", "cable0", "type", "veth"),
            *("peer", "name", "cable0", "netns", names.other),
        )
        for name, address in ((names.head, HEAD), (names.other, OTHER)):
            _ip("-n", name, "addr", "add", f"{address}/24", "dev", "cable0")
            _ip("-n", name, "link", "set", "cable0", "up")
        yield names


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode != 0 and "Operation not permitted" in done.stderr:
        pytest.skip("network namespaces are not allowed here")
    assert done.returncode == 0, done.stderr


def test_a_cluster_listens_on_its_interface_only_and_takes_its_own_clients_only(
    hosts: Hosts, runs: Path
) -> None:
    assert os.environ[RUNS] == str(runs)  # both hosts see this folder
    with hosts.popen(hosts.head, sys.executable, "-c", CLUSTER) as cluster:
        try:
            assert cluster.stdout is not None
            folder = Path(cluster.stdout.readline().strip()).parent
            address = json.loads((folder / "scheduler.json").read_text())["address"]
            assert address.startswith(f"tls://{HEAD}:")
            listening = hosts.run(hosts.head, "ss", "-ltnH").splitlines()
            places = [line.split()[3] for line in listening]
            assert len(places) == 3  # scheduler, nanny, worker
            assert {place.rsplit(":", 1)[0] for place in places} == {HEAD}

            said = hosts.run(hosts.other, sys.executable, "-c", CLIENT, str(folder))
            assert int(said) == sum(i * i for i in range(50))
            for place in places:
                words = (sys.executable, "-c", STRANGER, *place.rsplit(":", 1))
                assert hosts.run(hosts.other, *words) == "refused\n"
            assert hosts.run(hosts.other, "ss", "-ltnH") == ""  # clients listen nowhere
        finally:
            cluster.communicate("\n", timeout=60)
    assert cluster.returncode == 0
    assert hosts.run(hosts.head, "ss", "-ltnH") == ""
    assert not folder.exists()
