"""On a cluster of processes the numbers are the same; a worker that dies loses nothing."""

import functools
import os
import signal
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from distributed import Client, LocalCluster
from scipy.sparse import csr_array

from leptonhpc.errors import NotPositiveDefiniteError, WorkerError
from leptonhpc.recommend import ALS, ImplicitALS, fitting, store_ratings
from leptonhpc.recommend.crews import ClusterCrew


def test_cluster_gives_the_numbers_of_one_process_also_when_a_worker_dies(
    ratings: csr_array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    stored = store_ratings(ratings, "r", block_ratings=400)  # workers are elsewhere
    model = {"n_factors": 3, "tol": 0, "max_iter": 3}
    expected = ImplicitALS(**model).fit(stored)
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, memory_limit=0, host="127.0.0.1",
            dashboard_address="127.0.0.1:0", worker_dashboard_address="127.0.0.1:0",
        ) as cluster,
        Client(cluster) as client,
    ):  # fmt: skip
        for given in (stored, ratings):
            found = ImplicitALS(**model, memory="1 GB").fit(given)
            assert found.report_.workers == 2
            # rows are solved alike, and Y'Y is made in this process by both
            assert np.array_equal(found.user_factors_, expected.user_factors_)
            assert np.array_equal(found.item_factors_, expected.item_factors_)
        assert set(client.run(_held).values()) == {0}
        _slow_workers_get_fewer_blocks(client)
        monkeypatch.setattr(fitting, "PICKLED_NBYTES", 1000)
        with pytest.raises(WorkerError, match="write it with store_ratings"):
            ImplicitALS(**model).fit(ratings)
        with pytest.raises(NotPositiveDefiniteError, match="has no unique solution"):
            ALS(n_factors=30, regularization=0.0).fit(stored)
        warnings.simplefilter("ignore")  # what a dead worker's connections say when they close
        victim = client.run(os.getpid).popitem()[1]
        killer = threading.Timer(0.3, os.kill, (victim, signal.SIGKILL))
        killer.start()
        long = ImplicitALS(n_factors=3, tol=0, max_iter=20, memory="1 GB").fit(stored)
        killer.join()
    alone = ImplicitALS(n_factors=3, tol=0, max_iter=20).fit(stored)
    assert np.array_equal(long.item_factors_, alone.item_factors_)


def _slow_workers_get_fewer_blocks(client: Client) -> None:
    """A worker that became thirty times slower gives most of the blocks that it had to the other.

    In a sweep of 24 the slow one begins the two that were sent ahead, and few more.
    """
    address, slow = sorted(client.run(os.getpid).items())[0]
    crew = ClusterCrew(client, functools.partial(_naps, slow), [], _nothing)
    shares = []
    for seconds in (0.01, 0.3):
        taken: list[int] = []
        crew.each(
            "users", [1] * 24, lambda n, s=seconds: (n, s), lambda n, given, t=taken: t.append(n)
        )
        assert sorted(taken) == list(range(24))
        shares.append(sum(worker == address for worker in crew._homes.values()))
    crew.close()
    assert shares[1] <= 6
    assert shares[1] < shares[0]


def _naps(slow: int, block: tuple[int, float]) -> int:
    time.sleep(block[1] if os.getpid() == slow else 0.01)
    return block[0]


def _nothing() -> None:
    """Leave nothing, having left nothing."""


def _held() -> int:
    from leptonhpc.recommend.half_sweeps import kept

    return len(kept._blocks)
