"""A fit that was killed goes on from its last half sweep, and gives the same numbers."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array

import leptonhpc as lh
from leptonhpc.errors import (
    JobMismatchError,
    NotAnArrayError,
    OptionError,
    OutputExistsError,
    StoreError,
)
from leptonhpc.recommend import ImplicitALS, load, store_ratings
from leptonhpc.recommend.checkpoints import Checkpoints

SCRIPT = Path(__file__).with_name("killed_fit.py")
OPTIONS: dict[str, Any] = {"n_factors": 3, "tol": 0, "max_iter": 4}


def test_killed_fit_goes_on_and_gives_the_same_numbers(ratings: csr_array, tmp_path: Path) -> None:
    last = 5
    stored = store_ratings(ratings, tmp_path / "r", block_ratings=200)
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path / "r"), str(tmp_path / "m"), str(last)],
        capture_output=True, text=True, timeout=1200, check=False,
    )  # fmt: skip
    assert done.returncode == -9, done.stderr
    assert not (tmp_path / "m").exists()
    assert lh.status(tmp_path / "m").state == "stopped"
    with pytest.raises(StoreError, match="m.partial' is not finished"):
        load(tmp_path / "m")
    resumed = ImplicitALS(**OPTIONS).fit(stored, out=tmp_path / "m")
    assert resumed.report_.resumed_half_sweeps == last
    straight = ImplicitALS(**OPTIONS).fit(stored)
    assert np.array_equal(resumed.user_factors_, straight.user_factors_)
    assert np.array_equal(resumed.item_factors_, straight.item_factors_)
    assert resumed.certificate_ == straight.certificate_
    assert {path.name for path in tmp_path.iterdir()} == {"r", "m"}
    left = {path.name for path in (tmp_path / "m").iterdir()}
    assert left == {"zarr.json", "user_factors", "item_factors"}


def test_finished_fit_is_given_again_and_another_is_refused(
    ratings: csr_array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ImplicitALS(**OPTIONS).fit(ratings, out=tmp_path / "m")

    def fail(*_: Any) -> None:
        raise AssertionError("a finished fit is not run again")

    monkeypatch.setattr(Checkpoints, "keep", fail)
    again = ImplicitALS(**OPTIONS, memory="2 GB").fit(ratings, out=tmp_path / "m")
    assert np.array_equal(first.item_factors_, again.item_factors_)
    assert again.n_iter_ == 4
    monkeypatch.undo()
    with pytest.raises(OutputExistsError, match="overwrite=True"):
        ImplicitALS(**OPTIONS, alpha=3.0).fit(ratings, out=tmp_path / "m")
    with pytest.raises(OptionError, match="give out="):
        ImplicitALS(**OPTIONS).fit(ratings, overwrite=True)
    other = ImplicitALS(**OPTIONS, alpha=3.0).fit(ratings, out=tmp_path / "m", overwrite=True)
    assert np.array_equal(load(tmp_path / "m").item_factors_, other.item_factors_)


def test_unfinished_fit_of_other_ratings_or_parameters_is_refused(
    ratings: csr_array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Checkpoints.keep

    def stop(self: Checkpoints, number: int, *rest: Any) -> None:
        real(self, number, *rest)
        if number == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoints, "keep", stop)
    with pytest.raises(KeyboardInterrupt):
        ImplicitALS(**OPTIONS).fit(ratings, out=tmp_path / "m")
    monkeypatch.undo()
    with pytest.raises(JobMismatchError, match=r"alpha was 2.0, is 3.0"):
        ImplicitALS(**OPTIONS, alpha=3.0).fit(ratings, out=tmp_path / "m")
    with pytest.raises(JobMismatchError, match="ratings"):
        ImplicitALS(**OPTIONS).fit(ratings[:40], out=tmp_path / "m")
    assert ImplicitALS(**OPTIONS).fit(ratings, out=tmp_path / "m").report_.resumed_half_sweeps == 2


@pytest.mark.parametrize("step", ["Output.finish", "remove_slots", "store.publish"])
def test_fit_that_was_stopped_while_it_was_written_is_not_done_again(
    ratings: csr_array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"leptonhpc.recommend.outputs.{step}", stop)
        with pytest.raises(KeyboardInterrupt):
            ImplicitALS(**OPTIONS).fit(ratings, out=tmp_path / "m")
    with pytest.raises(JobMismatchError, match=r"alpha was 2.0|only lacks its name"):
        ImplicitALS(**OPTIONS, alpha=3.0).fit(ratings, out=tmp_path / "m")
    monkeypatch.setattr(Checkpoints, "keep", stop)
    again = ImplicitALS(**OPTIONS).fit(ratings, out=tmp_path / "m")
    straight = ImplicitALS(**OPTIONS).fit(ratings)
    assert np.array_equal(again.item_factors_, straight.item_factors_)
    left = {path.name for path in (tmp_path / "m").iterdir()}
    assert left == {"zarr.json", "user_factors", "item_factors"}
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_what_is_not_ours_is_not_touched(ratings: csr_array, tmp_path: Path) -> None:
    (tmp_path / "m.partial").mkdir()
    (tmp_path / "m.partial" / "mine").touch()
    with pytest.raises(OutputExistsError, match="something else"):
        ImplicitALS(**OPTIONS).fit(ratings, out=tmp_path / "m")
    assert (tmp_path / "m.partial" / "mine").exists()
    store_ratings(ratings, tmp_path / "r")
    with pytest.raises(NotAnArrayError, match="holds no factors"):
        load(tmp_path / "r")
