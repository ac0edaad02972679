"""Workers that a job does not wait for, and clients that are gone: what they left is tidied up."""

import os
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import zarr
from distributed import Client, LocalCluster

import leptonhpc as lh
from leptonhpc.planning import Resources
from leptonhpc.runtime import cluster as cluster_module
from leptonhpc.runtime.backends import Cluster


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 600
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def be_as_fast(part: float) -> None:
    """Have this worker say that it is so much slower than by default."""
    import leptonhpc.runtime.probe  # noqa: F401  (a function has its name, too)
    from leptonhpc.runtime.device import device_here

    probe = sys.modules["leptonhpc.runtime.probe"]
    device = probe.here()
    names = [f.name for f in fields(device.rates) if f.name.endswith(("_flops", "_bytes"))]
    slower = {name: part * getattr(device.rates, name) for name in names}
    probe._here[device_here()] = replace(device, rates=replace(device.rates, **slower))


def ended() -> list[str]:
    from leptonhpc.runtime.execute import _process

    return list(_process.ended)


def metered() -> list[str]:
    from leptonhpc.runtime.energy import _meters

    return list(_meters)


@pytest.mark.usefixtures("nobody_is_late")
def test_a_worker_that_is_much_slower_is_not_waited_for(
    client: Client, stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_module, "_SAID_SECONDS", 1e6)
    slow, pid = min(client.run(os.getpid).items())
    client.run(be_as_fast, 0.01, workers=[slow])
    lh.norm(stored)  # it says how fast it is
    os.kill(pid, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as thread:
        try:
            found = thread.submit(lh.norm, stored).result(300).value  # who waits does so for longer
        finally:
            os.kill(pid, signal.SIGCONT)
    x = np.asarray(zarr.open_array(stored, mode="r")[...])
    # a sum of squares is right to a rounding for each
    assert abs(found - np.linalg.norm(x)) <= x.size * np.finfo(float).eps * found
    wait_until(lambda: len({tuple(jobs) for jobs in client.run(ended).values()}) == 1)
    assert len(client.run(ended)[slow]) >= 2
    assert client.run(metered)[slow] == []
    client.run(be_as_fast, 100.0, workers=[slow])


def test_what_a_client_left_that_is_gone_is_tidied_up(cluster: LocalCluster) -> None:
    with Client(cluster, set_as_default=False) as client, Client(cluster) as other:
        backend = Cluster(client)
        backend.begin("left", (), Resources(10**6))
        assert all("left" in jobs for jobs in other.run(metered).values())
        client.close()
        wait_until(lambda: all("left" in jobs for jobs in other.run(ended).values()))
        assert not any(other.run(metered).values())
        backend.end("left")
