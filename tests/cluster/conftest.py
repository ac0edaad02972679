"""Runs of these tests in a folder of their own, and looks at what a cluster leaves behind."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from leptonhpc.cluster import mixed
from leptonhpc.cluster.runs import RUNS, Run, live_runs

from . import private_slurm

WAIT_SECONDS = 300.0
"""Nothing takes long but on a machine that has much else to do; a hang fails the test too."""


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give the folder of runs, which every process of these tests uses."""
    folder = tmp_path_factory.mktemp("runs")
    old = os.environ.get(RUNS)
    os.environ[RUNS] = str(folder)
    yield folder
    if old is None:
        del os.environ[RUNS]
    else:
        os.environ[RUNS] = old


@pytest.fixture(scope="module")
def cluster(runs: Path) -> Iterator[tuple[Any, Run]]:
    """Give a client and the run of a cluster with a double of a GPU, cores, and a dashboard."""
    # the arrays of that device refuse to be mixed with NumPy's
    strict = "leptonhpc.testing.strict_device"
    with mixed([3], "400 MB", workers=1, device=strict, dashboard=True) as client:
        (run,) = live_runs()
        yield client, run
        processes = processes_of(run)
    assert len(processes) >= 3  # the host, and a worker of each lane
    assert not run.folder.exists()
    wait_until(lambda: not alive(processes), "the host's last child to see that it is gone")
    assert listening(processes) == set()


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory, runs: Path) -> Iterator[None]:
    """Keep a SLURM of three nodes."""
    private_slurm.require()
    with private_slurm.running(tmp_path_factory.mktemp("slurm")):
        yield


def wait_until(condition: Callable[[], Any], what: str, seconds: float = WAIT_SECONDS) -> None:
    """Wait for what another process does; never longer than a hang takes to be one."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds:g} s in vain: {what}")
        time.sleep(0.05)


def is_written(path: Path) -> bool:
    """Say whether a scheduler file is there, whole: clients do not wait long for the rest of it."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        return "address" in json.loads(path.read_text())
    return False


def processes_of(run: Run) -> list[psutil.Process]:
    """Give the host process of a run and all that it started."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(run.folder) in process.cmdline():
                found += [process, *process.children(recursive=True)]
        except psutil.Error:  # ended between the two looks
            continue
    return found


def listening(processes: list[psutil.Process]) -> set[str]:
    """Give the addresses that processes listen on, as `ss` shows them."""
    ids = {f"pid={p.pid}," for p in processes}
    shown = subprocess.run(["ss", "-ltnpH"], capture_output=True, text=True, check=True).stdout
    return {line.split()[3] for line in shown.splitlines() if any(number in line for number in ids)}


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Give those that still run: a zombie does not."""
    found = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):  # ended between the two looks
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def is_host(process: psutil.Process) -> bool:
    """Say whether it is the host process of a run; not any more once it has ended."""
    with contextlib.suppress(psutil.Error):
        return "leptonhpc.cluster.host" in process.cmdline()
    return False


def noted(run: Run, event: str) -> list[dict[str, Any]]:
    """Give what the audit log of a run says of an event."""
    lines = (run.folder / "audit.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, lines) if line["event"] == event]


def slow_square(i: int) -> int:
    """Work a little, on a worker."""
    import time

    time.sleep(0.02)
    return i * i


class Killable:
    """A process of its own with a cluster, and all processes of that cluster."""

    def __init__(self, client: subprocess.Popen[str]) -> None:
        self.client = client

    def wait_until_up(self) -> None:
        assert self.client.stdout is not None
        name = self.client.stdout.readline().strip()
        found = [run for run in live_runs() if run.name == name]
        if not found:
            self.client.kill()
            pytest.fail(f"it did not start: {name}\n{self.client.stdout.read()}")
        (self.run,) = found
        self.processes = processes_of(self.run)

    def kill(self, victims: str) -> None:
        if "host" in victims:  # first: it ends when its client does
            next(p for p in self.processes if is_host(p)).kill()
        if "client" in victims:
            self.client.kill()


@contextlib.contextmanager
def killable(code: str, *arguments: str) -> Iterator[Killable]:
    """Start a script that prints the name of its run once its cluster is up."""
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as client:
        try:
            yield Killable(client)
        finally:
            client.kill()
