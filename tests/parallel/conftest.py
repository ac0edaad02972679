"""One cluster of processes for the tests of this folder that ask for it."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from distributed import Client, LocalCluster

from leptonhpc.testing import put


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, memory_limit=0,
        dashboard_address="127.0.0.1:0", host="127.0.0.1", worker_dashboard_address="127.0.0.1:0",
        silence_logs=50,
    ) as running:  # fmt: skip
        yield running
        warnings.simplefilter("ignore")


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[Client]:
    cluster.scale(2)
    with Client(cluster) as connected:
        connected.wait_for_workers(2)
        yield connected


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give 103 rows of 6 numbers in chunks of ten rows."""
    path = tmp_path_factory.mktemp("data") / "x.zarr"
    put(np.random.default_rng(1).standard_normal((103, 6)), path, chunks=(10, 6))
    return path
