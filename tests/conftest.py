"""What every test gets: a seeded generator, and failure for leaving anything running behind."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator

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

GRACE_SECONDS = 5.0
# Pools that their libraries make once a process and join when it ends; dask's have no name.
PROCESS_LIFETIME_THREADS = ("asyncio_", "zarr_pool", "Dask-Offload")
PROCESS_LIFETIME_CHILDREN = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")


@pytest.fixture
def rng() -> np.random.Generator:
    """Give the same random numbers in every run."""
    return np.random.default_rng(20260101)


@pytest.fixture(autouse=True)
def _nothing_is_left_running() -> Iterator[None]:
    """Fail a test that leaves a non-daemon thread, a child process or a listening port."""
    looks: list[Callable[[], set[object]]] = [_threads, _children, _listening_ports]
    before = [look() for look in looks]
    yield
    deadline = time.monotonic() + GRACE_SECONDS
    while left := set().union(*(look() - old for look, old in zip(looks, before, strict=True))):
        if time.monotonic() > deadline:
            pytest.fail(f"left running: {sorted(map(str, left))}", pytrace=False)
        time.sleep(0.02)


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


def _children() -> set[object]:
    found: set[object] = set()
    for child in psutil.Process().children(recursive=True):
        try:
            command = " ".join(child.cmdline())
        except psutil.Error:  # ended between the two looks
            continue
        if not any(name in command for name in PROCESS_LIFETIME_CHILDREN):
            found.add(f"process {child.pid}: {command}")
    return found


def _listening_ports() -> set[object]:
    return {
        f"port {c.laddr.ip}:{c.laddr.port}"
        for c in psutil.Process().net_connections(kind="inet")
        if c.status == psutil.CONN_LISTEN
    }
