"""Twenty kills of `kills.py`; the script does as many as one likes."""

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
