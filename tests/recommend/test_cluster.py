"""On a cluster of processes the numbers are the same; a worker that dies loses nothing."""

import os
import signal
import time
import warnings
from pathlib import Path
from typing import Any

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
        _slow_workers_get_fewer_blocks(client, tmp_path)
        monkeypatch.setattr(fitting, "PICKLED_NBYTES", 1000)
        with pytest.raises(WorkerError, match="write it with store_ratings"):
            ImplicitALS(**model).fit(ratings)
        with pytest.raises(NotPositiveDefiniteError, match="has no unique solution"):
            ALS(n_factors=30, regularization=0.0).fit(stored)
        warnings.simplefilter("ignore")  # what a dead worker's connections say when they close
        victim = client.run(os.getpid).popitem()[1]
        each, sweeps = ClusterCrew.each, []

        def strike(self: ClusterCrew, *arguments: Any) -> None:
            sweeps.append(len(sweeps))
            if len(sweeps) == 9:  # in the middle of forty
                os.kill(victim, signal.SIGKILL)
            each(self, *arguments)

        monkeypatch.setattr(ClusterCrew, "each", strike)
        long = ImplicitALS(n_factors=3, tol=0, max_iter=20, memory="1 GB").fit(stored)
        assert len(sweeps) >= 40
    alone = ImplicitALS(n_factors=3, tol=0, max_iter=20).fit(stored)
    assert np.array_equal(long.item_factors_, alone.item_factors_)


def _slow_workers_get_fewer_blocks(client: Client, folder: Path) -> None:
    """A worker that became slow gives most of the blocks that it had to the other.

    In a first sweep of 24 it does the first twelve. In the next it naps for a second over each,
    which is long beside whatever else the other worker may have to wait for: it does those four
    that are on their way, and few more.
    """
    (address, slow), (_, fast) = sorted(client.run(os.getpid).items())
    crew = ClusterCrew(client, _naps, [], _nothing)
    shares = []
    for who, others, seconds in ((fast, 12, 0.0), (slow, 0, 1.0)):
        taken: list[int] = []
        (place := folder / f"{who}-is-slow").mkdir()
        how = (str(place), who, others, seconds)
        crew.each("users", [1] * 24, lambda n, h=how: (n, *h), lambda n, _, t=taken: t.append(n))
        assert sorted(taken) == list(range(24))
        shares.append(sum(worker == address for worker in crew._homes.values()))
    crew.close()
    assert shares[0] >= 12
    assert shares[1] <= 8


def _naps(block: tuple[int, str, int, int, float]) -> int:
    """Do a block; who is slow naps, and waits until the other has done so many."""
    number, folder, slow, others, seconds = block
    if os.getpid() == slow:
        time.sleep(seconds)
        while len(os.listdir(folder)) < others:
            time.sleep(0.005)
    else:
        (Path(folder) / str(number)).touch()
    return number


def _nothing() -> None:
    """Leave nothing, having left nothing."""


def _held() -> int:
    from leptonhpc.recommend.half_sweeps import kept

    return len(kept._blocks)
