"""Workers are killed, stopped, or join: training goes on from its checkpoint, to the same end."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from distributed import Client, LocalCluster

import leptonhpc as lh
from leptonhpc.cluster.clients import identities
from leptonhpc.testing import put

from .conftest import three_classes, two_workers
from .models import ExactHeld, ExactUntil, Standing, exact, wait_for

# distributed looks for a port with a socket that it leaves to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

RUNNING_UNTIL_THE_MODULE_ENDS = True
"""Workers that were killed are begun anew, as other processes."""
X, Y = three_classes(500)
OPTIONS: dict[str, Any] = {
    "optimiser": "momentum", "learning_rate": 0.05, "batch_size": 25, "seed": 2, "epochs": 3,
}  # fmt: skip
STEPS = 60


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("samples")
    put(X, folder / "x", chunks=(100, 6))
    zarr.save_array(folder / "y", Y)
    return folder / "x", folder / "y"


@pytest.fixture(scope="module")
def alone(data: tuple[Path, Path]) -> Any:
    return lh.train.fit(exact, data, **OPTIONS)


@pytest.fixture(scope="module")
def frail() -> Iterator[tuple[LocalCluster, Client]]:
    """Give a cluster that starts again what a test kills."""
    with two_workers() as made:
        yield made


@pytest.fixture
def pids(frail: tuple[LocalCluster, Client]) -> Iterator[list[int]]:
    """Connect what the test calls; give the workers' processes, that of rank 0 first."""
    cluster, client = frail
    client.wait_for_workers(2, timeout=600)
    with client.as_current():
        found = client.run(os.getpid)
        yield [found[address] for address in sorted(found)]


@contextlib.contextmanager
def meanwhile(do: Callable[[], None]) -> Iterator[None]:
    thread = threading.Thread(target=do)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def held(folder: Path, ranks: int) -> None:
    """Wait until so many ranks have stored some steps, and take no more."""
    wait_for(lambda: len(list(folder.glob("held-*"))) >= ranks)


@pytest.mark.parametrize(("strategy", "victim", "ranks"), [("data", 0, 2), ("hybrid", 1, 1)])
def test_a_killed_worker_costs_no_sample_and_changes_no_loss(
    pids: list[int], data: tuple[Path, Path], alone: Any, tmp_path: Path, strategy: Any,
    victim: int, ranks: int,
) -> None:  # fmt: skip
    """Rank 0, and the last stage of a pipeline, which has the layer that waits."""

    def kill() -> None:
        try:
            held(tmp_path, ranks)
            os.kill(pids[victim], signal.SIGKILL)
        finally:
            (tmp_path / "go-on").touch()

    with meanwhile(kill):
        found = lh.train.fit(
            ExactHeld(tmp_path), data, strategy=strategy, out=tmp_path / "run",
            checkpoint_seconds=0.0, timeout=120.0, **OPTIONS,
        )  # fmt: skip
    assert found.report.restarts >= 1
    assert len(found.step_losses) == STEPS
    # double precision: sums of 25 terms in another order, over 60 steps
    assert np.max(np.abs(found.step_losses - alone.step_losses)) <= 1e-10


def test_a_stopped_worker_is_left_out_and_taken_in_when_it_wakes(
    pids: list[int], data: tuple[Path, Path], alone: Any, tmp_path: Path
) -> None:
    state, go_on = tmp_path / "run" / "state.pt", tmp_path / "go-on"

    def stop() -> None:
        try:
            held(tmp_path, 2)  # who waits stores nothing
            before = state.stat().st_mtime_ns
            os.kill(pids[1], signal.SIGSTOP)
            go_on.touch()
            wait_for(lambda: state.stat().st_mtime_ns != before)  # it goes on alone
        finally:
            go_on.touch()
            os.kill(pids[1], signal.SIGCONT)

    with meanwhile(stop):
        found = lh.train.fit(
            ExactHeld(tmp_path, waits_alone=True), data, out=state.parent, checkpoint_seconds=0.0,
            timeout=8.0, **OPTIONS,
        )  # fmt: skip
    assert found.report.restarts >= 1
    assert found.report.regroups >= 1
    assert found.report.workers == 2
    assert np.max(np.abs(found.step_losses - alone.step_losses)) <= 1e-10


def test_a_trainer_that_joins_takes_the_place_of_one_that_was_killed(
    frail: tuple[LocalCluster, Client], pids: list[int], data: tuple[Path, Path], tmp_path: Path
) -> None:
    """The server, on the last worker, lives on."""
    run, go_on = tmp_path / "run", tmp_path / "go-on"
    before = set(identities(frail[1]))

    def replace() -> None:
        try:
            wait_for((run / "state.pt").exists)
            os.kill(pids[0], signal.SIGKILL)
            wait_for(lambda: len(now := set(identities(frail[1]))) == 2 and now != before)
        finally:
            go_on.touch()

    with meanwhile(replace):
        found = lh.train.fit(
            ExactUntil(go_on), data, strategy="async", out=run, validation=data,
            checkpoint_seconds=0.0, timeout=30.0, **{**OPTIONS, "epochs": 6},
        )  # fmt: skip
    assert (found.report.restarts, found.report.regroups) == (0, 1)
    assert len(found.step_losses) == 120
    assert found.metrics["accuracy"] > 0.9


@pytest.mark.parametrize(("victim", "restarts"), [(0, 0), (1, 1)], ids=["trainer", "server"])
def test_an_asynchronous_run_ends_without_a_worker_that_was_stopped(
    pids: list[int], data: tuple[Path, Path], tmp_path: Path, victim: int, restarts: int
) -> None:
    run, go_on, ended, in_time = tmp_path / "run", tmp_path / "go-on", threading.Event(), []

    def stop() -> None:
        wait_for((run / "state.pt").exists)
        os.kill(pids[victim], signal.SIGSTOP)
        try:
            go_on.touch()
            in_time.append(ended.wait(600))
        finally:
            os.kill(pids[victim], signal.SIGCONT)

    with meanwhile(stop):
        found = lh.train.fit(
            ExactUntil(go_on), data, strategy="async", out=run, validation=data,
            checkpoint_seconds=0.0, timeout=8.0, **{**OPTIONS, "epochs": 6},
        )  # fmt: skip
        ended.set()
    assert in_time == [True]
    assert found.report.restarts == restarts
    assert len(found.step_losses) == 120
    assert found.metrics["accuracy"] > 0.9


def test_trainers_and_then_the_server_may_be_killed(
    pids: list[int], data: tuple[Path, Path], tmp_path: Path
) -> None:
    run, go_on = tmp_path / "run", tmp_path / "go-on"

    def kill() -> None:
        try:
            wait_for((run / "state.pt").exists)
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
                time.sleep(0.5)
        finally:
            go_on.touch()

    options = {**OPTIONS, "epochs": 6}
    with meanwhile(kill):
        found = lh.train.fit(
            ExactUntil(go_on), data, strategy="async", out=run, validation=data,
            checkpoint_seconds=0.0, staleness=2, timeout=30.0, **options,
        )  # fmt: skip
    assert found.report.restarts >= 1
    assert len(found.step_losses) == 120  # each batch once, from the server's checkpoint on
    assert [entry["epoch"] for entry in found.history] == [1, 2, 3, 4, 5, 6]
    assert found.metrics["accuracy"] > 0.9


def test_predictions_do_not_wait_for_a_worker_that_was_stopped(
    pids: list[int], data: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leptonhpc.runtime.workers.SILENT_SECONDS", 3.0)
    monkeypatch.setattr("leptonhpc.train.scoring._PIECE_NBYTES", 1)  # a chunk at once
    model, go_on = torch.nn.Sequential(Standing(tmp_path), *exact()), tmp_path / "go-on"
    ended, in_time = threading.Event(), []

    def stop() -> None:
        try:
            wait_for((tmp_path / f"in-{pids[1]}").exists)
            os.kill(pids[1], signal.SIGSTOP)
            go_on.touch()
            in_time.append(ended.wait(200))  # Dask gives workers 300 seconds
        finally:
            go_on.touch()
            os.kill(pids[1], signal.SIGCONT)

    with meanwhile(stop):
        said = lh.train.predict(model, data[0], classes=True)
        ended.set()
    assert in_time == [True]
    assert np.array_equal(said, model(torch.from_numpy(X).double()).argmax(dim=1).numpy())
