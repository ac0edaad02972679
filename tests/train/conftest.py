"""Clusters of two worker processes, and small problems with known answers."""

import contextlib
import warnings
from collections.abc import Iterator

import dask
import numpy as np
import pytest
import torch
from distributed import Client, LocalCluster

from ..conftest import IN_EVERY_WORKER
from ..forking import forkserver_of
from .processes import Ranks, rank_processes

IN_EVERY_TRAINER = (*IN_EVERY_WORKER, "torch._dynamo", "leptonhpc.train.ranks")
"""PyTorch imports the first of itself when an optimiser is made, and takes as long once more."""


@pytest.fixture(scope="package", autouse=True)
def _workers_have_imported_torch() -> Iterator[None]:
    """Let processes of this folder begin at once: importing takes each of them seconds."""
    with forkserver_of(IN_EVERY_TRAINER):
        yield


@pytest.fixture(scope="package")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ranks]:
    with rank_processes(4, tmp_path_factory.mktemp("ranks")) as made:
        yield made


@contextlib.contextmanager
def two_workers() -> Iterator[tuple[LocalCluster, Client]]:
    settings = {"distributed.deploy.lost-worker-timeout": "600s"}
    with dask.config.set(settings), LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, memory_limit=0, host="127.0.0.1",
        dashboard_address="127.0.0.1:0", worker_dashboard_address="127.0.0.1:0",
    ) as cluster:  # fmt: skip
        with Client(cluster, set_as_default=False) as client:
            client.run(_import_torch)  # for seconds, in which no test shall wait for an answer
            yield cluster, client
        warnings.simplefilter("ignore")


def _import_torch() -> None:
    import torch._dynamo  # noqa: F401

    import leptonhpc.train.ranks  # noqa: F401


@pytest.fixture(scope="session", autouse=True)
def _torch_on_one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="package")
def shared_client() -> Iterator[Client]:
    """Give a cluster whose workers nobody kills."""
    with two_workers() as (_, client):
        yield client


@pytest.fixture
def client(shared_client: Client) -> Iterator[Client]:
    """Connect what the test calls."""
    with shared_client.as_current():
        yield shared_client


def three_classes(rows: int = 600, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Give points in six dimensions, and which of three linear functions is largest there."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, 6)).astype(np.float32)
    return x, (x @ np.random.default_rng(99).standard_normal((6, 3))).argmax(axis=1)


def network(dtype: torch.dtype = torch.float32, outputs: int = 3) -> torch.nn.Module:
    return torch.nn.Sequential(
        torch.nn.Linear(6, 16), torch.nn.Tanh(), torch.nn.Linear(16, outputs)
    ).to(dtype)


def double_network() -> torch.nn.Module:
    return network(torch.float64)
