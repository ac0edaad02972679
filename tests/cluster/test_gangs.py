"""Ranks that work in step on Dask workers: they end together, and begin again when one is lost."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import dask
import psutil
import pytest
from distributed import Client, LocalCluster

from leptonhpc.cluster.gangs import GangLimits, run_gang
from leptonhpc.cluster.gangs_ranks import Regroup, Seat
from leptonhpc.errors import OptionError, WorkerError

from .conftest import is_written

PATIENT = GangLimits(timeout=120.0, max_restarts=20)
FAST = GangLimits(timeout=4.0, max_restarts=20)
"""A machine that has much else to do may be too slow for it a few times."""
SOON = {"distributed.comm.timeouts.connect": "1 s", "distributed.comm.retry.count": 0}


# distributed looks for a port with a socket that it leaves to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


RUNNING_UNTIL_THE_MODULE_ENDS = True


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """Give two workers with nannies, which start what dies anew."""
    settings = {"distributed.deploy.lost-worker-timeout": "600s"}
    with dask.config.set(settings), LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, memory_limit=0, host="127.0.0.1",
        dashboard_address="127.0.0.1:0", worker_dashboard_address="127.0.0.1:0",
        silence_logs=50,
    ) as running:  # fmt: skip
        yield running
        warnings.simplefilter("ignore")


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[Client]:
    with Client(cluster, set_as_default=False) as connected:
        connected.wait_for_workers(2)
        connected.run(_import_torch)  # for seconds, in which workers say nothing
        yield connected


def _import_torch() -> None:
    import torch._dynamo  # noqa: F401


def sum_of_ranks(seat: Seat, factor: int) -> tuple[int, int]:
    import torch
    import torch.distributed as dist

    total = torch.tensor([seat.rank * factor])
    dist.all_reduce(total)
    return int(total), seat.world


def work(seat: Seat, folder: str, steps: int, raises: bool = False, least_world: int = 1) -> int:
    """Count steps in a file, in step with the others; leave a process id for whoever kills.

    It does not end before a file "go-on" is there: whoever kills was not too late.
    """
    import torch
    import torch.distributed as dist

    place = Path(folder)
    counted = place / "counted"
    with tempfile.NamedTemporaryFile("w", dir=place, delete=False) as file:
        file.write(str(os.getpid()))
    os.replace(file.name, place / f"pid-{seat.attempt}-{seat.rank}")
    done = torch.tensor([int(counted.read_text()) if counted.exists() else 0])
    dist.broadcast(done, 0)
    may_end = False
    while done < steps or seat.world < least_world or not may_end:
        if raises and seat.rank == 1 and done > 2:
            raise ZeroDivisionError("of the user")
        time.sleep(0.02)
        done += 1
        dist.all_reduce(done, dist.ReduceOp.MAX)
        flags = torch.tensor([int(seat.is_regroup_asked()), int((place / "go-on").exists())])
        dist.broadcast(flags, 0)
        asked, may_end = map(bool, flags.tolist())
        if seat.rank == 0:
            (place / "new").write_text(str(int(done)))
            (place / "new").replace(counted)
        if asked:
            raise Regroup
    return int(done)


def test_ranks_form_one_group(client: Client) -> None:
    found = run_gang(client, sum_of_ranks, 10)
    assert found.values == ((10, 2), (10, 2))
    assert (found.restarts, found.regroups) == (0, 0)
    alone = run_gang(client, sum_of_ranks, 10, limits=GangLimits(most=1))
    assert alone.values == ((0, 1),)


def test_ranks_meet_on_the_interface_of_their_worker_alone(client: Client) -> None:
    found = run_gang(client, listening_addresses, limits=PATIENT)
    assert set().union(*found.values) <= {"127.0.0.1"}


def listening_addresses(seat: Seat) -> set[str]:
    connections = psutil.Process().net_connections(kind="inet")
    return {c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN}


def test_an_exception_of_a_rank_comes_back_as_itself_at_once(
    client: Client, tmp_path: Path
) -> None:
    began = time.monotonic()
    slow = GangLimits(timeout=600.0)
    with pytest.raises(ZeroDivisionError, match="of the user"):
        run_gang(client, work, str(tmp_path), 10_000, True, limits=slow)
    assert time.monotonic() - began < slow.timeout  # the others did not wait for it


def test_killed_ranks_are_begun_again_and_count_on(client: Client, tmp_path: Path) -> None:
    """First rank 1 of the first attempt, then rank 0 of the second."""

    def kill() -> None:
        first = strike(tmp_path, 1, signal.SIGKILL)
        strike(tmp_path, 0, signal.SIGKILL, after=first.attempt)

    with meanwhile(tmp_path, kill):
        found = run_gang(client, work, str(tmp_path), 150, limits=PATIENT)
    assert found.values[0] >= 150
    assert found.restarts >= 2


def test_a_stopped_rank_is_given_up_and_a_worker_that_joins_is_taken_in(
    cluster: LocalCluster, client: Client, tmp_path: Path
) -> None:
    stopped: list[int] = []

    def stop() -> None:
        first = strike(tmp_path, 1, signal.SIGSTOP)
        stopped.append(first.pid)
        a_rank(tmp_path, 0, after=first.attempt)
        cluster.scale(3)

    try:
        with meanwhile(tmp_path, stop):
            found = run_gang(client, work, str(tmp_path), 50, False, 2, limits=FAST)
    finally:
        for pid in stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
    assert len(found.values) == 2
    assert found.values[0] == found.values[1] >= 50
    assert found.restarts >= 1
    assert found.regroups >= 1


def test_too_many_losses_are_said(client: Client) -> None:
    never = GangLimits(max_restarts=0, timeout=4.0)
    with pytest.raises(WorkerError, match="ranks were lost 1 times; max_restarts=0"):
        run_gang(client, die, limits=never)


def die(seat: Seat) -> None:
    if seat.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    sum_of_ranks(seat, 1)


def test_a_scheduler_that_is_lost_is_said(tmp_path: Path) -> None:
    address = tmp_path / "scheduler.json"
    command = [
        sys.executable, "-m", "dask", "scheduler", "--host", "127.0.0.1", "--port", "0",
        "--no-dashboard", "--scheduler-file", str(address),
    ]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=tmp_path) as scheduler:
        wait_until(lambda: is_written(address))
        killer = threading.Timer(1.0, scheduler.kill)  # while the gang waits for workers
        with dask.config.set(SOON), Client(scheduler_file=str(address), timeout=600) as client:
            client._timeout = 2.0  # so long it hopes for a scheduler that was killed
            killer.start()
            with pytest.raises(WorkerError, match="scheduler of the cluster cannot be reached"):
                run_gang(client, sum_of_ranks, 1, limits=FAST)
        killer.join()


@pytest.mark.parametrize(
    "wrong", [{"least": 0}, {"least": 3, "most": 2}, {"max_restarts": -1}, {"timeout": 0.0}]
)
def test_limits_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match="found"):
        GangLimits(**wrong)


@contextlib.contextmanager
def meanwhile(folder: Path, act: Callable[[], None]) -> Iterator[None]:
    """Do something while ranks work, who may end after that."""

    def acted() -> None:
        try:
            act()
        finally:
            (folder / "go-on").touch()

    acting = threading.Thread(target=acted)
    acting.start()
    try:
        yield
    finally:
        acting.join()


class AtWork(NamedTuple):
    attempt: int
    pid: int


def a_rank(folder: Path, rank: int, after: int = -1) -> AtWork:
    """Wait for such a rank in a later attempt than one, the last that there is."""
    found: list[AtWork] = []

    def look() -> bool:
        found.extend(
            AtWork(int(path.name.split("-")[1]), int(path.read_text()))
            for path in folder.glob(f"pid-*-{rank}")
        )
        return max(found, default=AtWork(-1, 0)).attempt > after

    wait_until(look)
    return max(found)


def strike(folder: Path, rank: int, number: int, after: int = -1) -> AtWork:
    """Send a signal to the process of a rank that has worked for half a second."""
    while True:
        found = a_rank(folder, rank, after)
        time.sleep(0.5)
        try:
            os.kill(found.pid, number)
        except ProcessLookupError:  # lost before, on a machine that is slow: then the next
            after = found.attempt
        else:
            return found


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
