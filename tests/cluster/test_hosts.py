"""Two hosts, each in a network namespace of its own, joined by one cable."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import zarr

import leptonhpc as lh
from leptonhpc.cluster.runs import RUNS, Run

from .conftest import noted, wait_until

HEAD, OTHER = "10.79.0.1", "10.79.0.2"
STRICT = "leptonhpc.testing.strict_device"
"""Its arrays refuse to be mixed with NumPy's."""

CLUSTER = """
import subprocess
from leptonhpc.cluster import Group, Profile, from_profile
profile = Profile("local", (Group("a", memory="340 MB"),), interface="cable0")
with from_profile(profile) as client:
    print(client.security.tls_ca_file, flush=True)
    input()
"""

DRIVER = """
import json, sys, time
import leptonhpc as lh
from leptonhpc.cluster import connect
with connect(sys.argv[1], workers=2, timeout=300):
    print("two", flush=True)
    # never written, so no bytes on disk: arithmetic on zeros, in many blocks
    report = lh.matmul(sys.argv[2], sys.argv[2], out=sys.argv[3], memory="220 MB").report
    print(json.dumps([report.off_owner, [d.name for d in report.by_device()]]))
"""

MIXED = """
import asyncio, json, os, sys
from pathlib import Path
import numpy as np
import zarr
from zarr.storage import LocalStore, WrapperStore
import leptonhpc as lh
from leptonhpc.cluster import connect
from leptonhpc.planning import layout
layout.BAND_NBYTES = layout.TASK_NBYTES = 24_000  # a chunk
folder = Path(sys.argv[2])

asked = folder / "asked"
asked.mkdir()

class Held(WrapperStore):  # nothing is read before each host has asked for something
    async def get(self, key, *words, **options):
        if key.startswith("c/"):
            place = Path(self._store.root).with_name("asked")
            (place / str(os.getpid())).touch()
            while len(list(place.iterdir())) < 2:
                await asyncio.sleep(0.02)
        return await self._store.get(key, *words, **options)

def stored(name, values):
    zarr.create_array(folder / name, data=values, chunks=(50, values.shape[1]))
    return zarr.open_array(Held(LocalStore(folder / name, read_only=True)), mode="r")

random = np.random.default_rng(5)
a, b, c = (random.standard_normal(shape) for shape in ((300, 120), (120, 60), (900, 60)))
with connect(sys.argv[1], workers=2, timeout=300) as client:
    svd = lh.svd(lh.open(stored("n", c)), rank=4, method="gram", out=folder / "svd")
    product = lh.matmul(lh.open(stored("m", a)), b, out=folder / "product")
    devices = client.run(lambda: os.environ.get("LEPTONHPC_DEVICE"))
np.testing.assert_allclose(np.asarray(product.product), a @ b, rtol=0, atol=1e-10)
np.testing.assert_allclose(svd.s, np.linalg.svd(c, compute_uv=False)[:4], rtol=1e-10)
worked = sorted(d.name for d in svd.report.by_device())
print(json.dumps([devices, worked, [r.report.off_owner for r in (product, svd)]]))
"""

CLIENT = """
import sys
from leptonhpc.cluster import connect
with connect(sys.argv[1], workers=1, timeout=120) as client:
    print(sum(client.gather(client.map(lambda i: i * i, range(50)))))
"""

STRANGER = """
import socket, ssl, sys
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=120) as raw:
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
            said, _ = process.communicate(timeout=600)
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
            run = Run(folder)
            (client,) = [e for e in noted(run, "client joined") if _host(e["peer"]) == OTHER]
            assert client["name"] == "client"
            wait_until(lambda: len(noted(run, "refused")) == 3, "refusals to be noted")
            refused = noted(run, "refused")
            assert {e["at"] for e in refused} == {f"tls://{place}" for place in places}
            assert {_host(e["peer"]) for e in refused} == {OTHER}
        finally:
            cluster.communicate("\n", timeout=300)
    assert cluster.returncode == 0
    assert hosts.run(hosts.head, "ss", "-ltnH") == ""
    assert not folder.exists()


def _host(address: str) -> str:
    return address.removeprefix("tls://").rsplit(":", 1)[0]


@dataclass
class Far:
    """A cluster of two hosts, and a product that it can make."""

    hosts: Hosts
    folder: str
    data: Path

    @contextlib.contextmanager
    def job(self) -> Iterator[subprocess.Popen[str]]:
        """Run the job; give its process once both workers are there and a block is done."""
        places = (self.folder, str(self.data / "a"), str(self.data / "r"))
        done = self.data / "r.partial" / ".leptonhpc" / "done"
        with self.hosts.popen(self.hosts.head, sys.executable, "-c", DRIVER, *places) as job:
            try:
                assert job.stdout is not None
                assert job.stdout.readline() == "two\n"
                begun = lambda: any(done.rglob("*-*")) or job.poll() is not None  # noqa: E731
                wait_until(begun, "a block to be done", seconds=600)
                assert job.poll() is None, job.stdout.read()
                yield job
            finally:
                job.kill()

    def cable(self, state: str) -> None:
        """Take the other host's cable out ("down"), or put it back ("up")."""
        _ip("-n", self.hosts.other, "link", "set", "cable0", state)

    def require_right(self, job: subprocess.Popen[str]) -> tuple[int, list[str]]:
        """Wait for the end; the product is right. Give tasks off their owner, and who worked."""
        said, _ = job.communicate(timeout=600)
        assert job.returncode == 0, said
        product = np.asarray(lh.load(self.data / "r").product)
        assert product.shape == (3000, 3000)
        assert not product.any()
        off_owner, devices = json.loads(said.splitlines()[-1])
        return off_owner, devices


@pytest.fixture
def far(hosts: Hosts, runs: Path, tmp_path: Path) -> Iterator[Far]:
    """Start a cluster with a worker on cores of one host, and one on a device of the other."""
    zarr.create_array(tmp_path / "a", shape=(3000, 3000), chunks=(300, 300), dtype="f8")
    python = sys.executable
    with hosts.popen(hosts.head, python, "-c", CLUSTER) as cluster:
        assert cluster.stdout is not None
        folder = cluster.stdout.readline().strip()
        folder = str(Path(folder).parent)
        command = (python, "-P", "-m", "leptonhpc.cluster.member", folder, "a", "far-0")
        member = ("env", f"LEPTONHPC_DEVICE={STRICT}", *command)
        try:
            with hosts.popen(hosts.other, *member) as worker:
                try:
                    yield Far(hosts, folder, tmp_path)
                finally:
                    worker.kill()
        finally:
            cluster.communicate("\n", timeout=300)


def test_a_host_that_is_cut_off_for_seconds_goes_on_with_its_work(far: Far) -> None:
    with far.job() as job:
        far.cable("down")
        time.sleep(4.0)
        far.cable("up")
        off_owner, devices = far.require_right(job)
    assert off_owner == 0
    assert {device.rsplit(":", 1)[0] for device in devices} <= {f"tls://{HEAD}", f"tls://{OTHER}"}


def test_what_a_host_had_that_is_cut_off_for_good_is_done_by_the_other(far: Far) -> None:
    with far.job() as job:
        far.cable("down")
        off_owner, devices = far.require_right(job)
    far.cable("up")
    assert off_owner == 0
    assert f"tls://{HEAD}" in {device.rsplit(":", 1)[0] for device in devices}


def test_cores_of_one_host_and_a_device_of_another_do_one_job_over_a_slow_link(far: Far) -> None:
    for host in (far.hosts.head, far.hosts.other):
        limit = ("tbf", "rate", "20mbit", "burst", "64kb", "latency", "200ms")
        done = subprocess.run(
            ["tc", "-n", host, "qdisc", "add", "dev", "cable0", "root", *limit],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            pytest.skip(f"this kernel has no token bucket: {done.stderr.strip()}")
    said = far.hosts.run(
        far.hosts.head, sys.executable, "-c", MIXED, far.folder, str(far.data)
    )  # fmt: skip
    devices, worked, off_owner = json.loads(said.splitlines()[-1])
    assert {_host(address): device for address, device in devices.items()} == {
        HEAD: os.environ.get("LEPTONHPC_DEVICE"), OTHER: STRICT
    }  # fmt: skip
    assert worked == sorted(devices)  # both hosts did some, and all of it is right
    assert off_owner == [0, 0]
