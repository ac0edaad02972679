"""Twenty kills of `kills.py`, a few of the others: the scripts do as many as one likes."""

import sys
from inspect import signature
from pathlib import Path

import pytest

import leptonhpc as lh
from leptonhpc.api import planned


def test_every_driver_that_takes_out_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import kills

    drivers = {
        name for name in planned._DRIVERS if "out" in signature(getattr(lh, name)).parameters
    }
    assert {case.driver for case in kills.CASES.values()} == drivers
    sys.modules.pop("kills")


@pytest.mark.parametrize("seed", [20261121])
def test_twenty_random_kills_do_no_harm(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import kills

    killed = kills.soak(tmp_path, kills=20, seed=seed)  # of cases that the seed draws
    assert killed.total() >= 20
    assert len(killed) >= 7  # three times each at most
    sys.modules.pop("kills")


def test_each_part_of_a_cluster_may_be_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import cluster_kills

    it = cluster_kills.soak(tmp_path, kills=3, seed=20261122)
    assert it.kills.total() >= 3
    assert len(it.kills) >= 2
    assert it.seen["of running jobs"] >= 1  # one in ten comes before
    for name in ("kills", "cluster_kills", "departures"):
        sys.modules.pop(name)


def test_a_job_of_the_sciences_is_killed_and_gives_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import job_kills

    it = job_kills.Soak(tmp_path, seed=5)
    while not it.kills.total():  # it may have been faster
        it.kill("climate.mca", 1)  # of those that `job_kills.py` kills
    for name in ("kills", "job_kills"):
        sys.modules.pop(name)
