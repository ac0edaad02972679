"""Workers die, stop, leave, come back and join while a job runs: the answer is the same."""

import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed import Client, LocalCluster

import leptonhpc as lh
from leptonhpc.errors import WorkerError
from leptonhpc.runtime import workers as workers_module
from leptonhpc.runtime.record import Record
from leptonhpc.testing import put

# distributed looks for a port with a socket that it leaves to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

MEMORY = "300 MB"
ORDER = 1536
PAUSE_SECONDS = 0.08
"""Each block takes a worker at least so long to read: there is time for a fault."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("faults")
    rng = np.random.default_rng(0)
    a = rng.standard_normal((ORDER, ORDER))
    put((a + a.T) / 120 + 3 * np.eye(ORDER), place / "a", chunks=(256, 256))
    put(rng.standard_normal((4000, 60)), place / "tall", chunks=(64, 60))
    return place


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    """Give three workers with nannies, which start what dies anew."""
    with LocalCluster(
        n_workers=3, threads_per_worker=1, processes=True, memory_limit=0,
        dashboard_address="127.0.0.1:0", host="127.0.0.1", worker_dashboard_address="127.0.0.1:0",
        silence_logs=50,
    ) as running:  # fmt: skip
        yield running
        warnings.simplefilter("ignore")


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[Client]:
    with Client(cluster) as connected:
        connected.run(pause_before_reads, PAUSE_SECONDS)
        yield connected


def pause_before_reads(seconds: float) -> None:
    """Make this process slow at reading."""
    import time

    from leptonhpc.runtime.reading import Reader

    read = Reader._read

    def reading(self: Any, *args: Any) -> Any:
        time.sleep(seconds)
        return read(self, *args)

    Reader._read = reading  # type: ignore[method-assign]


def svd(folder: Path, out: Path | None = None) -> Any:
    return lh.svd(folder / "tall", rank=3, method="gram", memory=MEMORY, out=out, progress=False)


def cholesky(folder: Path, out: Path | None = None) -> Any:
    return lh.cholesky(folder / "a", memory=MEMORY, out=out, progress=False)


def matmul(folder: Path, out: Path | None = None) -> Any:
    return lh.matmul(folder / "a", folder / "a", memory=MEMORY, out=out, progress=False)


JOBS = {"svd": svd, "cholesky": cholesky, "matmul": matmul}


@contextmanager
def within(seconds: int) -> Iterator[None]:
    """Fail rather than hang."""

    def late(*_: Any) -> None:
        raise TimeoutError(f"the job hung for {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def after_tasks(count: int, fault: Callable[[], None]) -> Iterator[threading.Event]:
    """Do something, in a thread of its own, when so many tasks are done."""
    heard, struck = 0, threading.Event()
    hear = Record.hear

    def hearing(self: Any, told: Any) -> None:
        nonlocal heard
        hear(self, told)
        heard += 1
        if heard == count:
            threading.Thread(target=strike).start()

    def strike() -> None:
        fault()
        struck.set()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Record, "hear", hearing)
        yield struck


def require_same(job: str, result: Any, folder: Path, client: Client) -> None:
    """Compare with the job on threads of this process: to rounding, in units of the norm."""
    client.close()
    expected = JOBS[job](folder)
    assert result.certificate.converged
    for found, right in zip(result.arrays().values(), expected.arrays().values(), strict=True):
        x, y = np.asarray(found), np.asarray(right)
        # all are backward stable; condition below 4, gaps of the values above 1e-3 of the largest
        assert np.linalg.norm(x - y) <= 1e3 * 4000 * np.finfo(float).eps * np.linalg.norm(y)


def pids(client: Client) -> dict[str, int]:
    found: dict[str, int] = client.run(os.getpid)
    return dict(sorted(found.items()))


def kill(*victims: int) -> None:
    for pid in victims:
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("victims", [1, 2])
@pytest.mark.parametrize("job", JOBS)
def test_workers_that_are_killed_are_done_without(
    job: str, victims: int, folder: Path, client: Client, tmp_path: Path
) -> None:
    doomed = list(pids(client).values())[:victims]
    out = None if job == "svd" else tmp_path / "r"
    with within(120), after_tasks(4, lambda: kill(*doomed)) as struck:
        result = JOBS[job](folder, out)
    assert struck.is_set()
    assert any(s.placement.dealt_again for s in result.report.stages if s.placement)
    assert result.report.off_owner == 0
    require_same(job, result, folder, client)


def test_blocks_that_are_written_are_not_computed_again(
    folder: Path, client: Client, tmp_path: Path
) -> None:
    doomed = list(pids(client).values())[0]
    tasks = len(lh.plan("matmul", folder / "a", folder / "a", memory=MEMORY).job.stage.tasks)
    with within(120), after_tasks(2, lambda: kill(doomed)):
        result = matmul(folder, tmp_path / "r")
    placement = result.report.stages[-1].placement
    # what a dead worker had in flight was not told of; all else was done once
    assert sum(device.tasks for device in placement.devices) in (tasks, tasks + 1)


def test_a_job_goes_on_when_all_workers_died_and_came_back(
    folder: Path, client: Client, tmp_path: Path
) -> None:
    doomed = list(pids(client).values())
    with within(120), after_tasks(3, lambda: kill(*doomed)):
        result = cholesky(folder, tmp_path / "r")
    require_same("cholesky", result, folder, client)


@pytest.mark.parametrize("job", ["svd", "matmul"])
def test_a_worker_that_is_stopped_is_given_up(
    job: str, folder: Path, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers_module, "SILENT_SECONDS", 3.0)
    stopped = next(iter(pids(client).values()))
    try:
        with within(120), after_tasks(3, lambda: os.kill(stopped, signal.SIGSTOP)):
            result = JOBS[job](folder, tmp_path / "r")
    finally:
        os.kill(stopped, signal.SIGCONT)
    require_same(job, result, folder, client)


def test_a_worker_that_is_stopped_for_a_moment_goes_on(
    folder: Path, client: Client, tmp_path: Path
) -> None:
    pid = next(iter(pids(client).values()))

    def stop_for_a_moment() -> None:
        os.kill(pid, signal.SIGSTOP)
        time.sleep(1.5)
        os.kill(pid, signal.SIGCONT)

    with within(120), after_tasks(3, stop_for_a_moment):
        result = matmul(folder, tmp_path / "r")
    assert len(result.report.stages[-1].placement.devices) == 3
    require_same("matmul", result, folder, client)


@pytest.mark.parametrize("job", ["svd", "cholesky"])
def test_a_worker_that_joins_at_half_time_gets_work(
    job: str, folder: Path, cluster: LocalCluster, client: Client, tmp_path: Path
) -> None:
    client.run(pause_before_reads, 0.4)
    with within(120), after_tasks(2, lambda: cluster.scale(4)):
        result = JOBS[job](folder, tmp_path / "r")
    names = {d.name for s in result.report.stages if s.placement for d in s.placement.devices}
    assert len(names) == 4
    require_same(job, result, folder, client)


def test_a_worker_that_becomes_slow_gets_less(folder: Path, client: Client, tmp_path: Path) -> None:
    slow = next(iter(pids(client)))

    def slow_down() -> None:
        client.run(pause_before_reads, 2.0, workers=[slow])

    with within(120), after_tasks(3, slow_down) as struck:
        result = svd(folder, tmp_path / "r")
    assert struck.is_set()
    shares = {d.name: d.tasks for d in result.report.stages[0].placement.devices}
    # it had a third of what was done before, and what was in flight; a fair share is that of all
    assert 4 * shares.get(slow, 0) <= 3 * max(shares.values())
    require_same("svd", result, folder, client)


def test_a_worker_that_retires_hands_over(folder: Path, client: Client, tmp_path: Path) -> None:
    leaving = next(iter(pids(client)))
    with within(120), after_tasks(3, lambda: client.retire_workers([leaving])):
        result = svd(folder, tmp_path / "r")
    require_same("svd", result, folder, client)


def test_an_error_of_a_task_is_the_users_and_not_a_workers(
    folder: Path, client: Client, tmp_path: Path
) -> None:
    put(np.full((ORDER, ORDER), np.nan), tmp_path / "nan", chunks=(256, 256))
    with within(60), pytest.raises(lh_errors().NonFiniteError, match="nan at index"):
        lh.matmul(folder / "a", tmp_path / "nan", memory=MEMORY, out=tmp_path / "r")
    assert matmul(folder).certificate.converged


def lh_errors() -> Any:
    from leptonhpc import errors

    return errors


def test_without_any_worker_a_job_ends_with_an_error(
    folder: Path, cluster: LocalCluster, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers_module, "_PATIENCE_SECONDS", 2.0)
    with (
        within(60),
        after_tasks(3, lambda: cluster.scale(0)),
        pytest.raises(WorkerError, match="all workers of the cluster are gone"),
    ):
        svd(folder)
