"""The scheduler dies: one clear error, nothing computed elsewhere unasked, and the job goes on."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dask
import numpy as np
import pytest
from distributed import Client

import leptonhpc as lh
from leptonhpc.cluster.clients import identities
from leptonhpc.errors import WorkerError
from leptonhpc.recommend.crews import ClusterCrew
from leptonhpc.runtime.record import Record
from leptonhpc.testing import put

# what the client does on its own when its scheduler is gone
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
SOON = {"distributed.comm.timeouts.connect": "1 s", "distributed.comm.retry.count": 0}


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


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    running = Cluster(tmp_path)
    try:
        deadline = time.monotonic() + 600
        while not running.address.exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield running
    finally:
        running.kill()


def test_the_workers_are_there_whatever_the_clients_clock_does(cluster: Cluster) -> None:
    # Dask's clock asks for no workers, and keeps the answer where scheduler_info reads its own
    with Client(scheduler_file=str(cluster.address), timeout=5) as client:
        client.wait_for_workers(1, timeout=300)

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

    with dask.config.set(SOON), Client(scheduler_file=str(cluster.address), timeout=5) as client:
        client.wait_for_workers(1, timeout=300)
        with monkeypatch.context() as patch:
            patch.setattr(Record, "hear", strike)
            with pytest.raises(WorkerError, match="scheduler of the cluster cannot be reached"):
                lh.matmul(x, x, memory="200 MB", out=place, progress=False)
        if client.status == "connecting":  # the client still hopes: nothing is done in its stead
            with pytest.raises(WorkerError, match="scheduler of the cluster cannot be reached"):
                lh.matmul(x, x, memory="200 MB")
    r = lh.matmul(x, x, memory="200 MB", out=place, overwrite=place is not None, progress=False)
    # k eps |A| |A|, element by element
    assert np.max(np.abs(np.asarray(r) - a @ a)) <= 600 * np.finfo(float).eps * np.max(
        np.abs(a) @ np.abs(a)
    )


def test_parts_whose_scheduler_is_killed_end_in_the_same_error(cluster: Cluster) -> None:
    def slow(x: int) -> int:
        time.sleep(0.2)
        return x

    with dask.config.set(SOON), Client(scheduler_file=str(cluster.address), timeout=5) as client:
        client.wait_for_workers(1, timeout=300)
        results = lh.parallel.parallel_process(slow, range(20))
        assert next(results) == 0
        cluster.processes[0].kill()
        with pytest.raises(WorkerError, match="scheduler of the cluster cannot be reached"):
            list(results)


def test_factors_whose_scheduler_is_killed_end_in_the_same_error(cluster: Cluster) -> None:
    with dask.config.set(SOON), Client(scheduler_file=str(cluster.address), timeout=5) as client:
        client.wait_for_workers(1, timeout=300)
        crew = ClusterCrew(client, abs, (), lambda: None)
        cluster.processes[0].kill()
        with pytest.raises(WorkerError, match="scheduler of the cluster cannot be reached"):
            crew.each("rows", [1] * 10_000, lambda n: n, lambda n, given: None)
        crew.close()
