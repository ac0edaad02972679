"""What every test gets: a seeded generator, and failure for leaving anything running behind."""

import contextlib
import multiprocessing
import multiprocessing.forkserver
import os
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import dask
import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "ci",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile("search", deadline=None, derandomize=False, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

GRACE_SECONDS = 30.0
"""What ends by itself may do so on a machine that is busy with other tests."""
# Pools that their libraries make once a process and join when it ends; dask's have no name.
PROCESS_LIFETIME_THREADS = ("asyncio_", "zarr_pool", "Dask-Offload")
PROCESS_LIFETIME_CHILDREN = ("multiprocessing.resource_tracker",)

IN_EVERY_WORKER = (
    "distributed", "distributed.dashboard.worker", "distributed.http.health",
    "distributed.http.statics", "distributed.http.worker.prometheus", "numpy.random",
    "leptonhpc.api", "leptonhpc.runtime.placed", "leptonhpc.runtime.probe",
    "leptonhpc.runtime.shared", "scipy.linalg",
)  # fmt: skip
"""What a worker of Dask imports before its first task, with its dashboard: Bokeh most of all."""

TOGETHER = "tests/train/"
"""Files of this folder share processes that have imported PyTorch, for seconds: one worker's."""
EARLY = (
    TOGETHER, "tests/benchmarks/test_benchmarks", "tests/soak/", "tests/api/test_resume",
    "tests/workflows/test_digits", "tests/runtime/test_faults", "tests/cluster/test_slurm",
    "tests/cluster/test_hosts", "tests/benchmarks/test_train", "tests/cluster/test_gangs",
    "tests/runtime/test_placement", "tests/api/test_icechunk", "tests/cluster/test_interrupting",
    "tests/decomposition/test_estimator_checks", "tests/recommend/test_workflow",
    "tests/recommend/test_cluster", "tests/climate/test_cluster",
)  # fmt: skip
"""Slow files of few tests, which wait now and then: each has two of many tests beside it."""


def pytest_configure(config: pytest.Config) -> None:
    """Let a process stand still for a second while it starts a server of Dask's."""
    ignored = "ignore:Creating scratch directories is taking:UserWarning"
    config.addinivalue_line("filterwarnings", ignored)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each file to one worker, and all of a folder whose files share processes."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _handed_out_with(nodeid)

    return ByFile(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where workers share the files, let slow ones begin early, beside those that compute."""
    if not hasattr(config, "workerinput"):
        return
    files: dict[str, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(_handed_out_with(item.nodeid), []).append(item)
    names = sorted(files, key=lambda name: -len(files[name]))  # small ones fill up the end
    early = [name for start in EARLY for name in names if name.startswith(start)]
    order = [name for name in names if name not in early]
    for place, name in enumerate(early):
        order.insert(3 * place, name)
    items[:] = [item for name in order for item in files[name]]


def _handed_out_with(nodeid: str) -> str:
    return TOGETHER if nodeid.startswith(TOGETHER) else nodeid.split("::")[0]


@pytest.fixture
def rng() -> np.random.Generator:
    """Give the same random numbers in every run."""
    return np.random.default_rng(20260101)


@pytest.fixture(autouse=True, scope="session")
def _workers_of_dask_are_forked() -> None:
    """Fork Dask's workers from a process that has imported what each of them would, for seconds."""
    if "distributed" in sys.modules:
        # idle ones, of which there are dozens, would look at themselves a hundred times a second
        idle = {"worker.profile.enabled": False, "admin.tick.interval": "500 ms"}
        dask.config.set({f"distributed.{key}": value for key, value in idle.items()})
        dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"})
        multiprocessing.get_context("forkserver").set_forkserver_preload(list(IN_EVERY_WORKER))
        multiprocessing.forkserver.ensure_running()


@pytest.fixture(autouse=True, scope="session")
def _workers_that_stand_still_are_waited_for() -> None:
    """Let reads be counted on a machine whose processes wait for those of other tests."""
    if "distributed" in sys.modules:
        from leptonhpc.runtime import lanes

        lanes.PATIENCE_SECONDS = lanes.LATE_SECONDS = 60.0


@pytest.fixture(autouse=True, scope="module")
def _a_module_leaves_nothing_running(request: pytest.FixtureRequest) -> Iterator[None]:
    """Look at the end of those modules whose tests share what starts processes anew."""
    yield from _left_running() if _is_looked_at_as_a_whole(request) else iter([None])


@pytest.fixture(autouse=True)
def _nothing_is_left_running(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a non-daemon thread, a child process or a listening port."""
    yield from iter([None]) if _is_looked_at_as_a_whole(request) else _left_running()


def _is_looked_at_as_a_whole(request: pytest.FixtureRequest) -> bool:
    return bool(getattr(request.module, "RUNNING_UNTIL_THE_MODULE_ENDS", False))


def _left_running() -> Iterator[None]:
    looks: list[Callable[[], set[object]]] = [_threads, _children, _listening_ports]
    before = [look() for look in looks]
    yield
    deadline = time.monotonic() + GRACE_SECONDS
    while left := set().union(*(look() - old for look, old in zip(looks, before, strict=True))):
        if time.monotonic() > deadline:
            pytest.fail(f"left running: {sorted(map(str, left))}", pytrace=False)
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def _no_scheduler_of_a_closed_client_is_left() -> Iterator[None]:
    """Mend Dask's configuration where clients were closed in another order than they were made."""
    yield
    distributed = sys.modules.get("distributed")
    if distributed is not None and dask.config.get("scheduler", None) == "dask.distributed":
        try:
            distributed.Client.current()
        except ValueError:
            dask.config.set(scheduler=None)


def _threads() -> set[object]:
    dask = _dask_threads()
    return {
        f"thread {t.name} ({t.ident})"
        for t in threading.enumerate()
        if not (t.daemon or t in dask or t.name.startswith(PROCESS_LIFETIME_THREADS))
    }


def _dask_threads() -> set[threading.Thread]:
    threaded = sys.modules.get("dask.threaded")
    if threaded is None:
        return set()
    pools = [pool for by_size in list(threaded.pools.values()) for pool in by_size.values()]
    pools += [threaded.default_pool] if threaded.default_pool is not None else []
    return {thread for pool in pools for thread in getattr(pool, "_threads", ())}


@dataclass(frozen=True)
class _Child:
    process: psutil.Process
    command: str = field(compare=False)
    """Empty while the process begins: it is no part of what it is."""

    def __str__(self) -> str:
        return f"process {self.process.pid}: {self.command}"


def _children() -> set[object]:
    found: set[object] = set()
    for child in _descendants():
        try:
            command = " ".join(child.cmdline())
            if "multiprocessing.forkserver" in command and child.ppid() == os.getpid():
                continue  # what it forked has the same words
        except psutil.Error:  # ended between the two looks
            continue
        if not any(name in command for name in PROCESS_LIFETIME_CHILDREN):
            found.add(_Child(child, command))
    return found


def _descendants() -> list[psutil.Process]:
    """Ask Linux for the children of each: psutil looks at all processes of the machine."""
    me = os.getpid()
    if not os.path.exists(f"/proc/{me}/task/{me}/children"):
        return psutil.Process().children(recursive=True)
    found, asked = [], [me]
    for pid in asked:
        with contextlib.suppress(OSError, psutil.Error):  # ended between the two looks
            found += [psutil.Process(pid)] if pid != me else []
            for thread in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{thread}/children") as children:
                    asked += map(int, children.read().split())
    return found


def _listening_ports() -> set[object]:
    """Ask each socket of this process: psutil reads of all of the machine, for milliseconds."""
    found: set[object] = set()
    for name in os.listdir("/dev/fd"):
        with contextlib.suppress(OSError):  # closed between the two looks
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                found |= _listens_at(os.dup(int(name)))
    return found


def _listens_at(descriptor: int) -> set[object]:
    try:
        asked = socket.socket(fileno=descriptor)
    except OSError:
        os.close(descriptor)
        raise
    with asked:
        if asked.family not in (socket.AF_INET, socket.AF_INET6):
            return set()
        if not asked.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return set()
        ip, port, *_ = asked.getsockname()
        return {f"port {ip}:{port}"}
