"""The scheduler dies: one clear error, nothing computed elsewhere unasked, and the job goes on."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Timer
from typing import Any

import dask
import numpy as np
import pytest
from distributed import Client
from distributed.comm.core import CommClosedError

import leptonhpc as lh
from leptonhpc.cluster import clients
from leptonhpc.cluster.clients import identities, reached
from leptonhpc.errors import WorkerError
from leptonhpc.recommend.crews import ClusterCrew
from leptonhpc.runtime import asking
from leptonhpc.runtime.record import Record
from leptonhpc.testing import put

from .conftest import is_written

# what the client does on its own when its scheduler is gone
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
SOON = {"distributed.comm.timeouts.connect": "1 s", "distributed.comm.retry.count": 0}
PATIENT = 600.0
"""So long a client waits for its scheduler, which takes its time to start."""
HOPE = 2.0
"""So long it hopes for one that was killed."""


class Cluster:
    """A scheduler and a worker in processes of their own."""

    def __init__(self, folder: Path) -> None:
        self.address, self.folder = folder / "scheduler.json", folder
        self.processes = [
            self.start("scheduler", "--port", "0", "--no-dashboard"),
            self.start("worker", "--nthreads", "1", "--no-nanny", "--no-dashboard"),
        ]

    def start(self, kind: str, *options: str) -> subprocess.Popen[bytes]:
        command = [
            sys.executable, "-m", "dask", kind, "--host", "127.0.0.1", *options,
            "--scheduler-file", str(self.address),
        ]  # fmt: skip
        return subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=self.folder)

    def kill(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


@contextlib.contextmanager
def connected(cluster: Cluster) -> Iterator[Client]:
    """Give a client that found its scheduler and worker, and hopes not long for them again."""
    with Client(scheduler_file=str(cluster.address), timeout=PATIENT) as client:
        client.wait_for_workers(1, timeout=PATIENT)
        client._timeout = HOPE
        yield client


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    running = Cluster(tmp_path)
    try:
        deadline = time.monotonic() + 600
        while not is_written(running.address):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield running
    finally:
        running.kill()


def test_the_workers_are_there_whatever_the_clients_clock_does(cluster: Cluster) -> None:
    # Dask's clock asks for no workers, and keeps the answer where scheduler_info reads its own
    with connected(cluster) as client:

        async def hurried() -> None:
            for _ in range(2000):
                await client._update_scheduler_info()

        client.loop.add_callback(hurried)
        assert {len(identities(client)) for _ in range(500)} == {1}


@pytest.mark.parametrize("out", [None, "r"])
def test_a_job_whose_scheduler_is_killed_says_so_and_goes_on_elsewhere(
    out: str | None, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = np.random.default_rng(0).standard_normal((600, 600))
    x = put(a, tmp_path / "a", chunks=(100, 100))
    place = None if out is None else tmp_path / out
    hear = Record.hear

    def strike(self: Record, told: object) -> None:
        hear(self, told)
        os.kill(cluster.processes[0].pid, signal.SIGKILL)

    with dask.config.set(SOON), connected(cluster), monkeypatch.context() as patch:
        patch.setattr(Record, "hear", strike)
        with pytest.raises(WorkerError, match="scheduler of the cluster cannot be reached"):
            lh.matmul(x, x, memory="200 MB", out=place, progress=False)
    r = lh.matmul(x, x, memory="200 MB", out=place, overwrite=place is not None, progress=False)
    # k eps |A| |A|, element by element
    assert np.max(np.abs(np.asarray(r) - a @ a)) <= 600 * np.finfo(float).eps * np.max(
        np.abs(a) @ np.abs(a)
    )


@pytest.mark.parametrize("first", [60.0, 0.1])
def test_a_scheduler_that_stands_still_as_a_job_begins_is_waited_for(
    first: float, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, scheduler = put(np.eye(60), tmp_path / "x"), cluster.processes[0]
    tell = asking.tell_scheduler

    def stand_still(*arguments: Any, **told: Any) -> None:
        monkeypatch.setattr(asking, "tell_scheduler", tell)
        with monkeypatch.context() as patch:
            patch.setattr(asking, "_FIRST_SECONDS", first)
            patch.setattr(asking, "_ANSWER_SECONDS", 0.1)
            tell_stopped(*arguments, **told)

    def tell_stopped(*arguments: Any, **told: Any) -> None:
        scheduler.send_signal(signal.SIGSTOP)
        Timer(1.0, scheduler.send_signal, (signal.SIGCONT,)).start()
        tell(*arguments, **told)

    monkeypatch.setattr(asking, "tell_scheduler", stand_still)
    with connected(cluster):
        if first > 1:
            lh.matmul(x, x, memory="200 MB", out=tmp_path / "r", progress=False)
            return
        with pytest.raises(WorkerError, match="scheduler of the cluster did not answer"):
            lh.matmul(x, x, memory="200 MB", out=tmp_path / "r", progress=False)


def test_while_a_client_hopes_nothing_is_done_in_its_stead(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = np.ones((60, 60))
    with connected(cluster) as client, monkeypatch.context() as patch:
        patch.setattr(client, "status", "connecting")
        with pytest.raises(WorkerError, match="scheduler of the cluster cannot be reached"):
            lh.matmul(a, a, memory="200 MB")


def test_parts_whose_scheduler_is_killed_end_in_the_same_error(
    cluster: Cluster, tmp_path: Path
) -> None:
    killed = tmp_path / "killed"

    def held(x: int) -> int:
        while x and not killed.exists():
            time.sleep(0.05)
        return x

    with dask.config.set(SOON), connected(cluster):
        results = lh.parallel.parallel_process(held, range(20))
        assert next(results) == 0
        cluster.processes[0].kill()
        cluster.processes[0].wait()
        killed.touch()
        with pytest.raises(WorkerError, match="scheduler of the cluster cannot be reached"):
            list(results)


class Noticing:
    """A client that sees its connection closed when it is asked for the fourth time."""

    asked = 0

    @property
    def status(self) -> str:
        self.asked += 1
        return "running" if self.asked < 4 else "connecting"


def test_who_sees_a_closed_connection_before_its_client_does_says_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(clients, "_NOTICE_SECONDS", PATIENT)
    with pytest.raises(WorkerError, match="scheduler .* cannot be reached"), reached(Noticing()):
        raise CommClosedError("in <TCP>: Stream is closed")
    with pytest.raises(ZeroDivisionError), reached(Noticing()):  # of the user
        raise ZeroDivisionError


def test_factors_whose_scheduler_is_killed_end_in_the_same_error(cluster: Cluster) -> None:
    with dask.config.set(SOON), connected(cluster) as client:
        crew = ClusterCrew(client, abs, (), lambda: None)
        cluster.processes[0].kill()
        with pytest.raises(WorkerError, match="scheduler of the cluster cannot be reached"):
            crew.each("rows", [1] * 10_000, lambda n: n, lambda n, given: None)
        crew.close()
