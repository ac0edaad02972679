"""Workers die and join while parts are worked on: every value is there once, nothing hangs."""

import itertools
import os
import signal
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import dask
import pytest
from distributed import Client, LocalCluster

from leptonhpc.errors import WorkerError
from leptonhpc.parallel import parallel_process as process
from leptonhpc.runtime import dealing
from leptonhpc.runtime import workers as workers_module

from .faults import die_once, kill, within

# distributed looks for a port with a socket that it leaves to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


RUNNING_UNTIL_THE_MODULE_ENDS = True


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """Give two workers with nannies, which start what dies anew."""
    # else a nanny is given up whose worker takes long to start anew
    with dask.config.set({"distributed.deploy.lost-worker-timeout": "600 s"}), LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, memory_limit=0,
        dashboard_address="127.0.0.1:0", host="127.0.0.1", worker_dashboard_address="127.0.0.1:0",
        silence_logs=50,
    ) as running:  # fmt: skip
        yield running
        warnings.simplefilter("ignore")


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[Client]:
    with Client(cluster) as connected:
        connected.wait_for_workers(2)
        yield connected


def wait(i: int) -> int:
    time.sleep(0.1)
    return i


def test_parts_of_the_dead_are_done_elsewhere_and_who_joins_gets_some(
    cluster: LocalCluster, client: Client, tmp_path: Path
) -> None:
    with within(600):
        results = process(lambda i: die_once(str(tmp_path), i), range(6))
        assert list(results) == list(range(6))
        assert results.report.lost >= 1
        assert results.report.parts == 6
        joined = process(wait, itertools.count(), in_flight=3)
        taken = [next(joined)]
        cluster.scale(3)
        while len(joined.report.where) < 3:
            taken.append(next(joined))
        joined.close()
        assert taken == list(range(len(taken)))


def test_parts_of_a_stopped_worker_are_done_elsewhere(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers_module, "SILENT_SECONDS", 2.5)
    with within(600):
        stopped = next(iter(client.run(os.getpid).values()))
        results = process(wait, range(12))
        taken = [next(results)]
        os.kill(stopped, signal.SIGSTOP)
        try:
            assert [*taken, *results] == list(range(12))
        finally:
            os.kill(stopped, signal.SIGCONT)


def test_a_part_that_kills_every_worker_is_an_error(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dealing, "MOST_DEATHS", 2)
    with (
        within(600),
        pytest.raises(WorkerError, match=r"item 1 was lost .* 2 times"),
    ):
        list(process(kill, range(2)))
