"""Two workers in step find what one process finds, whatever part of a batch each takes."""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from distributed import Client

import leptonhpc as lh
from leptonhpc.errors import NonFiniteError, OptionError
from leptonhpc.testing import put

from .conftest import network, three_classes

# distributed looks for a port with a socket that it leaves to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

X, Y = three_classes(1000)
OPTIONS: dict[str, Any] = {
    "optimiser": "momentum", "learning_rate": 0.05, "batch_size": 50, "seed": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("samples")
    put(X, folder / "x", chunks=(100, 6))
    zarr.save_array(folder / "y", Y)
    return folder / "x", folder / "y"


@pytest.fixture(scope="module")
def alone(data: tuple[Path, Path]) -> Any:
    return lh.train.fit(network, data, validation=data, **OPTIONS)


class Slow(torch.nn.Module):
    """Learns as `network` does; in one process of the two, four times slower."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.inner = network()
        try:
            os.mkdir(folder)  # the first of the two
            self.seconds = 2e-3
        except FileExistsError:
            self.seconds = 5e-4

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        time.sleep(self.seconds * len(x))
        return self.inner(x)


def test_the_losses_of_twenty_steps_are_those_of_one_process(
    client: Client, data: tuple[Path, Path], alone: Any
) -> None:
    found = lh.train.fit(network, data, validation=data, **OPTIONS)
    assert found.report.workers == 2
    assert len(found.step_losses) == 20
    assert np.max(np.abs(found.step_losses - alone.step_losses)) <= 1e-5
    assert sum(found.report.samples) == 1000
    assert found.report.divergence == 0.0
    # all parameters, in single precision, at each step of each worker
    assert found.report.sent_nbytes == 2 * 20 * 4 * (6 * 16 + 16 + 16 * 3 + 3)
    assert found.metrics["accuracy"] == pytest.approx(alone.metrics["accuracy"], abs=2e-3)


def test_a_slow_worker_gets_less_and_the_losses_stay(
    client: Client, data: tuple[Path, Path], alone: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "slow"
    found = lh.train.fit(lambda: _slow_on_workers(folder), data, **OPTIONS)
    small, large = sorted(found.report.shares)
    assert large > small  # how much is in the tests of shares: here other processes slow both
    assert np.max(np.abs(found.step_losses - alone.step_losses)) <= 1e-5


def _slow_on_workers(folder: Path) -> torch.nn.Module:
    import multiprocessing

    on_worker = multiprocessing.parent_process() is not None
    return Slow(folder if on_worker else folder.with_name("client"))


@pytest.mark.parametrize("compression", ["fp16", "powersgd", "topk"])
def test_compressed_gradients_send_less_and_learn(
    client: Client, data: tuple[Path, Path], compression: Any
) -> None:
    options = {**OPTIONS, "epochs": 8}
    plain = lh.train.fit(network, data, validation=data, **options)
    found = lh.train.fit(network, data, validation=data, compression=compression, **options)
    # of 163 parameters fp16 sends half, rank four nearly all, and "topk" three with their places
    most = {"fp16": 0.5, "powersgd": 1.0, "topk": 0.05}[compression]
    assert found.report.sent_nbytes <= most * plain.report.sent_nbytes
    assert found.report.divergence == 0.0
    assert found.metrics["accuracy"] > 0.9


def test_local_steps_send_less_and_end_with_one_model(
    client: Client, data: tuple[Path, Path]
) -> None:
    options = {**OPTIONS, "epochs": 4}
    found = lh.train.fit(network, data, validation=data, local_steps=5, **options)
    assert found.report.divergence == 0.0
    assert found.report.sent_nbytes == 2 * (4 * 20 // 5) * 4 * (6 * 16 + 16 + 16 * 3 + 3)
    assert found.metrics["accuracy"] > 0.9


class Breaks(torch.nn.Module):
    """The user's own fault, in training."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = network()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training and len(x) < 50:
            raise RuntimeError("of the user: gloo/pair.cc NCCL closed by peer")  # words of torch
        return self.inner(x)


def test_what_the_model_raises_comes_back_as_itself(
    client: Client, data: tuple[Path, Path]
) -> None:
    with pytest.raises(RuntimeError, match="of the user") as caught:
        lh.train.fit(Breaks, data, **OPTIONS)
    assert type(caught.value) is RuntimeError


def test_a_nan_on_one_worker_is_said_with_its_batch(client: Client) -> None:
    x = X.copy()
    x[500] = np.inf
    with pytest.raises(NonFiniteError, match=r"in epoch 1, batch \d+ of 20"):
        lh.train.fit(network, (x, Y), **OPTIONS)


def test_predictions_on_workers_are_those_of_one_process(
    client: Client, data: tuple[Path, Path], alone: Any, tmp_path: Path
) -> None:
    expected = alone.predict(X)
    assert np.array_equal(np.asarray(alone.predict(data[0], out=tmp_path / "said")), expected)
    assert np.array_equal(alone.predict(data[0]), expected)


def test_what_workers_cannot_read_is_refused(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leptonhpc.train.running.PICKLED_NBYTES", 1000)
    with pytest.raises(OptionError, match="Write it to Zarr"):
        lh.train.fit(network, (X, Y), **OPTIONS)
