"""One cluster of processes for all tests of this folder that ask for it."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import dask
import pytest
import zarr
from distributed import Client, LocalCluster

from leptonhpc.runtime import asking, dispatch, workers
from leptonhpc.runtime.lanes import Lane
from leptonhpc.testing import matrix_with_spectrum, spectrum


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    # workers remember what they did for as long as a test may ask
    with dask.config.set({"distributed.admin.low-level-log-length": 100_000}), LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, memory_limit=0,
        dashboard_address="127.0.0.1:0", host="127.0.0.1",
        worker_dashboard_address="127.0.0.1:0",
    ) as running:  # fmt: skip
        yield running
        warnings.simplefilter("ignore")


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[Client]:
    with Client(cluster) as connected:
        yield connected


@pytest.fixture
def nobody_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let workers stand still for as long as they like: what each was dealt first it does."""
    let_nobody_be_late(monkeypatch)


def let_nobody_be_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for whoever stands still.

    Else a busy machine has tasks done twice, or all of them by one worker.
    """
    monkeypatch.setattr(Lane, "stands_still", lambda *_: False)
    monkeypatch.setattr(Lane, "is_late", lambda *_: False)
    monkeypatch.setattr(Lane, "overdue", lambda _: 1.0)
    monkeypatch.setattr(dispatch, "is_uneven", lambda *_: False)
    monkeypatch.setattr(workers, "SILENT_SECONDS", 600.0)
    monkeypatch.setattr(asking, "_ANSWER_SECONDS", 600.0)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a matrix of 40 chunks: 2000 x 120, condition 5e3."""
    path = tmp_path_factory.mktemp("data") / "x"
    array = zarr.create_array(
        path, shape=(2000, 120), dtype="f8", chunks=(50, 120), compressors=None
    )
    array[...] = matrix_with_spectrum((2000, 120), spectrum("moderate", 120), seed=1)
    return path
