"""Twenty kills of `kills.py`, three of `cluster_kills.py`: the scripts do as many as one likes."""

import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("seed", [20261121])
def test_twenty_random_kills_do_no_harm(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import kills

    killed = kills.soak(tmp_path, kills=20, seed=seed)
    assert killed.total() >= 20
    assert len(killed) >= 5
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
