"""Twenty kills of `kills.py`, three of `cluster_kills.py`: the scripts do as many as one likes."""

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

    killed = cluster_kills.soak(tmp_path, kills=3, seed=20261122)
    assert killed.total() >= 3
    assert len(killed) >= 2
    for name in ("kills", "cluster_kills"):
        sys.modules.pop(name)
