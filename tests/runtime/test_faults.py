"""Workers die, stop, leave, come back and join while a job runs: the answer is the same.

One cluster for all: what a test kills is started anew while the next one begins.
"""

import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cloudpickle
import dask
import numpy as np
import pytest
from distributed import Client, LocalCluster

import leptonhpc as lh
from leptonhpc.cluster.clients import identities
from leptonhpc.errors import NonFiniteError, WorkerError
from leptonhpc.runtime import cluster as cluster_module
from leptonhpc.runtime import lanes, pausing
from leptonhpc.runtime import workers as workers_module
from leptonhpc.runtime.backends import in_this_process
from leptonhpc.runtime.record import Record
from leptonhpc.testing import put

# distributed looks for a port with a socket that it leaves to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

RUNNING_UNTIL_THE_MODULE_ENDS = True
MEMORY = "300 MB"
ORDER = 1536
WORKERS = 3
PAUSE_SECONDS = 0.04
"""Each block takes a worker at least so long to read: there is time for a fault."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("faults")
    rng = np.random.default_rng(0)
    a = rng.standard_normal((ORDER, ORDER))
    put((a + a.T) / 120 + 3 * np.eye(ORDER), place / "a", chunks=(256, 256))
    put(rng.standard_normal((4000, 60)), place / "tall", chunks=(64, 60))
    modes = (
        rng.standard_normal((4000, 3)) @ np.diag([9.0, 6.0, 3.0]) @ rng.standard_normal((3, 300))
    )
    put(modes + 0.01 * rng.standard_normal((4000, 300)), place / "modes", chunks=(64, 300))
    return place


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """Give three workers with nannies, which start what dies anew."""
    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)  # else workers import pytest to be paused
    # a worker that is late in coming back is not given up; what a dead one had is Dask's to blame
    patient = {"deploy.lost-worker-timeout": "600 s", "scheduler.allowed-failures": 0}
    with dask.config.set({f"distributed.{k}": v for k, v in patient.items()}), LocalCluster(
        n_workers=WORKERS, threads_per_worker=1, processes=True, memory_limit=0,
        dashboard_address="127.0.0.1:0", host="127.0.0.1", worker_dashboard_address="127.0.0.1:0",
        silence_logs=50,
    ) as running:  # fmt: skip
        yield running
        warnings.simplefilter("ignore")
    cloudpickle.unregister_pickle_by_value(module)


@pytest.fixture
def client(cluster: LocalCluster, folder: Path) -> Iterator[Client]:
    """Give three workers or more that are all slow at reading."""
    with Client(cluster) as connected:
        deadline = time.monotonic() + 600
        paused: set[str] = set()
        while len(paused) < WORKERS or paused != identities(connected).keys():
            assert time.monotonic() < deadline, "workers do not come back"
            closed = [n for n in cluster.workers.values() if "clos" in n.status.name]
            if len(cluster.worker_spec) < WORKERS + len(closed):
                cluster.scale(WORKERS + len(closed))
            time.sleep(0.05)
            # one that was just killed may still be known
            told = (pause_before_reads, PAUSE_SECONDS, str(gate(folder)))
            found = connected.run(*told, on_error="return")
            paused = {address for address, error in found.items() if error is None}
        yield connected


def gate(folder: Path) -> Path:
    """Name a file: while it is there nothing is read."""
    return folder / "gate"


def pause_before_reads(seconds: float, gate: str) -> None:
    """Make this process slow at reading."""
    import os
    import time

    from leptonhpc.runtime.reading import Reader

    read = getattr(Reader, "_unpaused", Reader._read)

    def reading(self: Any, *args: Any) -> Any:
        time.sleep(seconds)
        while os.path.exists(gate):
            time.sleep(0.02)
        return read(self, *args)

    Reader._unpaused = read  # type: ignore[attr-defined]
    Reader._read = reading  # type: ignore[method-assign]


def svd(folder: Path, out: Path | None = None) -> Any:
    return lh.svd(folder / "tall", rank=3, method="gram", memory=MEMORY, out=out, progress=False)


def cholesky(folder: Path, out: Path | None = None) -> Any:
    return lh.cholesky(folder / "a", memory=MEMORY, out=out, progress=False)


def matmul(folder: Path, out: Path | None = None) -> Any:
    return lh.matmul(folder / "a", folder / "a", memory=MEMORY, out=out, progress=False)


def krylov(folder: Path, out: Path | None = None) -> Any:
    return lh.svd(folder / "modes", rank=3, method="krylov", memory=MEMORY, out=out, progress=False)


JOBS = {"svd": svd, "cholesky": cholesky, "matmul": matmul, "krylov": krylov}


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
    """Do something as soon as so many tasks are told of, before any more are sent."""
    heard, struck = 0, threading.Event()
    hear = Record.hear

    def hearing(self: Any, told: Any) -> None:
        nonlocal heard
        hear(self, told)
        heard += 1
        if heard == count:
            fault()
            struck.set()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Record, "hear", hearing)
        yield struck


_expected: dict[str, list[np.ndarray[Any, Any]]] = {}


def require_same(job: str, result: Any, folder: Path) -> None:
    """Compare with the job on threads of this process: to rounding, in units of the norm."""
    if job not in _expected:
        with in_this_process():
            _expected[job] = [np.asarray(x) for x in JOBS[job](folder).arrays().values()]
    assert result.certificate.converged
    for found, y in zip(result.arrays().values(), _expected[job], strict=True):
        x = np.asarray(found)
        # all are backward stable; condition below 4, gaps of the values above 1e-3 of the largest
        assert np.linalg.norm(x - y) <= 1e3 * 4000 * np.finfo(float).eps * np.linalg.norm(y)


def pids(client: Client) -> dict[str, int]:
    found: dict[str, int] = client.run(os.getpid)
    return dict(sorted(found.items()))


def kill(*victims: int) -> None:
    for pid in victims:
        os.kill(pid, signal.SIGKILL)


def is_another(worker: Any, before: Any) -> bool:
    """Say whether it is another process, by the folder that each has of its own."""
    return bool(worker["local_directory"] != before["local_directory"])


def executed(dask_worker: Any) -> list[str]:
    """Give the keys that a worker executed, from its log of transitions."""
    return [entry[0] for entry in dask_worker.state.log if entry[2:3] == ("executing",)]


def is_mended(result: Any) -> bool:
    return any(s.placement.dealt_again for s in result.report.stages if s.placement)


KILLS = [
    ("svd", "the fastest"), ("cholesky", "one"), ("matmul", "the fastest"),
    ("svd", "two"), ("cholesky", "two"), ("matmul", "two"),
]  # fmt: skip


@pytest.mark.parametrize(("job", "victims"), KILLS)
def test_workers_that_are_killed_are_done_without(
    job: str, victims: str, folder: Path, client: Client, tmp_path: Path
) -> None:
    workers = pids(client)
    doomed = list(workers)[: 2 if victims == "two" else 1]
    if victims == "the fastest":
        others = [address for address in workers if address not in doomed]
        client.run(pause_before_reads, 5 * PAUSE_SECONDS, str(gate(folder)), workers=others)
    out = None if job == "svd" else tmp_path / "r"
    with within(600), after_tasks(2, lambda: kill(*map(workers.get, doomed))) as struck:  # type: ignore[arg-type]
        result = JOBS[job](folder, out)
    assert struck.is_set()
    assert is_mended(result)
    assert result.report.off_owner == 0
    require_same(job, result, folder)


def test_blocks_that_are_written_are_not_computed_again(
    folder: Path, client: Client, tmp_path: Path
) -> None:
    doomed = list(pids(client).values())[0]
    tasks = len(lh.plan("matmul", folder / "a", folder / "a", memory=MEMORY).job.stage.tasks)
    with within(600), after_tasks(2, lambda: kill(doomed)):
        result = matmul(folder, tmp_path / "r")
    placement = result.report.stages[-1].placement
    # what a dead worker had in flight was not told of; all else was done once
    assert sum(device.tasks for device in placement.devices) in (tasks, tasks + 1)


def test_a_job_goes_on_when_all_workers_died_and_came_back_under_other_addresses(
    folder: Path, client: Client, tmp_path: Path
) -> None:
    before = pids(client)
    with within(600), after_tasks(3, lambda: kill(*before.values())):
        result = cholesky(folder, tmp_path / "r")
    done_by = {device.name for device in result.report.by_device()}
    assert done_by - set(before)
    require_same("cholesky", result, folder)


@pytest.mark.parametrize("address", ["another", "the same"])
@pytest.mark.parametrize("job", ["svd", "cholesky"])
def test_a_worker_that_leaves_and_returns_gets_work_again(
    job: str, address: str, folder: Path, cluster: LocalCluster, client: Client, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    workers, dealt = identities(client), Record.dealt
    left, pid = next(iter(pids(client).items()))
    name, returned, had = workers[left]["name"], set[str](), set[str]()
    if address == "the same":  # as where firewalls let few ports through
        nanny = cluster.workers[name]
        nanny.process.worker_kwargs["port"] = int(left.rpartition(":")[2])

    def back() -> set[str]:
        there = {a: w for a, w in identities(client).items() if w["name"] == name}
        return {a for a, w in there.items() if is_another(w, workers[left])}

    def leave() -> None:
        gate(folder).touch()  # the others wait until it is back
        had.update(client.has_what()[left], client.processing()[left])
        kill(pid)
        while address == "the same" and not back():  # who looks for workers does not see it gone
            time.sleep(0.01)

    def dealing(self: Any, placed: Any) -> None:
        dealt(self, placed)
        returned.update(back() & {device.name for device in placed.work.machine.devices})
        if returned:
            gate(folder).unlink(missing_ok=True)

    monkeypatch.setattr(Record, "dealt", dealing)
    try:
        with within(600), after_tasks(2, leave):
            result = JOBS[job](folder, tmp_path / "r")
    finally:
        gate(folder).unlink(missing_ok=True)
        if address == "the same":
            nanny.process.worker_kwargs["port"] = 0
    assert (returned == {left}) is (address == "the same")
    assert returned <= {device.name for device in result.report.by_device()}
    ran = {key for log in client.run(executed, workers=list(returned)).values() for key in log}
    assert had
    assert not had & ran  # what the old process had was dealt anew
    assert result.report.off_owner == 0
    require_same(job, result, folder)


@pytest.mark.parametrize("job", ["svd", "matmul"])
def test_a_worker_that_is_stopped_is_given_up(
    job: str, folder: Path, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = next(iter(pids(client).values()))

    def stop() -> None:  # and only then is patience short: the machine may be busy
        os.kill(stopped, signal.SIGSTOP)
        monkeypatch.setattr(workers_module, "SILENT_SECONDS", 2.0)

    try:
        with within(600), after_tasks(2, stop):
            result = JOBS[job](folder, tmp_path / "r")
    finally:
        kill(stopped)
    require_same(job, result, folder)


def set_status(name: str, dask_worker: Any = None) -> None:
    """Have this worker be paused, as Dask does for too much memory, or go on."""
    from distributed.core import Status

    dask_worker.status = Status[name]


def test_a_worker_that_dask_paused_is_done_without(
    folder: Path, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paused = next(iter(pids(client)))

    def pause() -> None:
        client.run(set_status, "paused", workers=[paused])
        monkeypatch.setattr(pausing, "PAUSED_SECONDS", 0.5)

    try:
        with within(600), after_tasks(2, pause):
            result = cholesky(folder, tmp_path / "r")
        assert is_mended(result)
        require_same("cholesky", result, folder)
        with within(600):  # it has had nothing yet
            result = cholesky(folder, tmp_path / "again")
        assert paused not in {device.name for device in result.report.by_device()}
    finally:
        client.run(set_status, "running", workers=[paused])


def test_a_worker_that_is_stopped_for_a_moment_goes_on(
    folder: Path, client: Client, tmp_path: Path
) -> None:
    workers = pids(client)
    pid = next(iter(workers.values()))

    def stop() -> None:
        os.kill(pid, signal.SIGSTOP)
        threading.Timer(1.0, os.kill, (pid, signal.SIGCONT)).start()

    with within(600), after_tasks(2, stop):
        result = matmul(folder, tmp_path / "r")
    assert {device.name for device in result.report.by_device()} <= set(workers)
    assert set(pids(client)) == set(workers)
    require_same("matmul", result, folder)


def test_what_a_worker_has_in_its_sum_that_stands_still_is_done_by_others(
    folder: Path, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "PATIENCE_SECONDS", 0.5)
    slow, closed = next(iter(pids(client))), tmp_path / "closed"

    def close() -> None:
        closed.touch()

    client.run(pause_before_reads, PAUSE_SECONDS, str(closed), workers=[slow])
    try:
        with within(600), after_tasks(3, close) as struck:
            result = svd(folder)
        assert struck.is_set()
    finally:  # only now can it go on
        closed.unlink()
    assert result.report.off_owner == 0
    assert slow in pids(client)
    require_same("svd", result, folder)
    monkeypatch.setattr(lanes, "PATIENCE_SECONDS", 600.0)
    again = svd(folder)  # nothing of what it did meanwhile is taken
    assert slow in {device.name for device in again.report.by_device()}
    require_same("svd", again, folder)


def test_only_what_is_in_hand_is_done_again_where_sums_travel(
    folder: Path, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "LATE_SECONDS", 0.25)
    slow, closed = next(iter(pids(client))), tmp_path / "closed"
    client.run(pause_before_reads, PAUSE_SECONDS, str(closed), workers=[slow])
    (tmp_path / "results").mkdir()
    try:
        with within(600), after_tasks(6, closed.touch) as struck:
            result = krylov(folder, tmp_path / "results" / "r")
        assert struck.is_set()
    finally:
        closed.unlink()
    first = next(s for s in result.report.stages if s.placement is not None)
    assert sum(device.tasks for device in first.placement.devices) == first.tasks
    require_same("krylov", result, folder)
    with within(600):  # it goes on, and finds that its scratch is gone
        while any(client.processing().values()):
            time.sleep(0.05)
    assert os.listdir(tmp_path / "results") == ["r"]
    assert not list((tmp_path / "results").rglob("*y1*"))


@pytest.mark.parametrize("job", ["svd", "cholesky"])
def test_a_worker_that_joins_at_half_time_gets_work(
    job: str, folder: Path, cluster: LocalCluster, client: Client, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    before, dealt = set(pids(client)), Record.dealt

    def call() -> None:
        gate(folder).touch()  # however long it takes to come
        cluster.scale(len(cluster.worker_spec) + 1)

    def dealing(self: Any, placed: Any) -> None:
        dealt(self, placed)
        if not before >= {device.name for device in placed.work.machine.devices}:
            gate(folder).unlink(missing_ok=True)

    monkeypatch.setattr(Record, "dealt", dealing)
    try:
        with within(600), after_tasks(2, call):
            result = JOBS[job](folder, tmp_path / "r")
    finally:
        gate(folder).unlink(missing_ok=True)
    assert {device.name for device in result.report.by_device()} - before
    require_same(job, result, folder)


def test_a_worker_that_becomes_slow_gets_less(folder: Path, client: Client, tmp_path: Path) -> None:
    slow, pause = next(iter(pids(client))), lanes.AHEAD_SECONDS / 2  # few are sent beforehand
    client.run(pause_before_reads, pause, str(gate(folder)))

    def slow_down() -> None:
        gate(folder).touch()  # however long it takes to come to the worker
        client.run(pause_before_reads, 10 * pause, str(gate(folder)), workers=[slow])
        gate(folder).unlink()

    try:
        with within(600), after_tasks(3, slow_down) as struck:
            result = svd(folder, tmp_path / "r")
    finally:
        gate(folder).unlink(missing_ok=True)
    assert struck.is_set()
    shares = {d.name: d.tasks for d in result.report.stages[0].placement.devices}
    # it had its share of what was done before, and what was in flight
    assert 3 * shares.get(slow, 0) <= 2 * max(shares.values())
    require_same("svd", result, folder)


def test_a_worker_that_dies_while_it_is_measured_is_done_without(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    doomed, *others = pids(client)

    def measure(*, save: bool) -> None:
        from distributed import get_worker

        if get_worker().address == doomed:
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(cluster_module, "measure", measure)
    with within(600):
        machine = lh.probe(save=False)
    assert {device.name for device in machine.devices} >= set(others)
    assert doomed not in {device.name for device in machine.devices}


def test_a_worker_that_retires_hands_over(folder: Path, client: Client, tmp_path: Path) -> None:
    leaving = next(iter(pids(client)))
    with within(600), after_tasks(3, lambda: client.retire_workers([leaving])) as struck:
        result = svd(folder, tmp_path / "r")
    assert struck.is_set()
    assert leaving not in pids(client)
    require_same("svd", result, folder)


def test_an_error_of_a_task_is_the_users_and_not_a_workers(
    folder: Path, client: Client, tmp_path: Path
) -> None:
    put(np.full((4000, 60), np.nan), tmp_path / "nan", chunks=(64, 60))
    with within(600), pytest.raises(NonFiniteError, match="nan at index"):
        lh.svd(tmp_path / "nan", rank=3, method="gram", memory=MEMORY, out=tmp_path / "r")
    assert svd(folder).certificate.converged


def test_without_any_worker_a_job_ends_with_an_error(
    folder: Path, cluster: LocalCluster, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers_module, "_PATIENCE_SECONDS", 1.0)
    with (
        within(600),
        after_tasks(3, lambda: cluster.scale(0)),
        pytest.raises(WorkerError, match="all workers of the cluster are gone"),
    ):
        svd(folder)
