"""A journal belongs to one job, says what differs, and survives a kill at any moment."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leptonhpc.errors import JobMismatchError, StoreError
from leptonhpc.store import Journal
from leptonhpc.store.journal import read_note

JOB: dict[str, Any] = {
    "inputs": {"x": {"location": "/data/x", "metadata": "12ab"}},
    "parameters": {"driver": "svd", "rank": 5, "seed": 3, "center": True},
    "version": "1.0",
}


def changed(**parameters: Any) -> dict[str, Any]:
    return {**JOB, "parameters": {**JOB["parameters"], **parameters}}


@pytest.fixture(params=["folder", "memory://"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "r") if request.param == "folder" else f"memory://{tmp_path.name}/r"


def test_a_journal_is_begun_once_and_then_taken_up(output: str) -> None:
    assert Journal(output, JOB).begin() is False
    assert Journal(output, JOB).begin() is True


def test_marks_and_stages_come_back_in_another_journal_of_the_job(output: str) -> None:
    journal = Journal(output, JOB)
    journal.begin()
    journal.mark("multiply/gemm-0-0", {"square": 2.5, "max_error": 1e-17})
    journal.save_stage("pass 1", {"z": np.arange(6.0).reshape(2, 3), "square": 4.0})
    again = Journal(output, JOB)
    assert again.done("multiply") == {"multiply/gemm-0-0": {"square": 2.5, "max_error": 1e-17}}
    kept = again.load_stage("pass 1")
    assert kept is not None
    assert np.array_equal(kept["z"], np.arange(6.0).reshape(2, 3))
    assert again.load_stage("pass 2") is None


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (changed(rank=6), "rank was 5, is 6"),
        (changed(seed=4), "seed was 3, is 4"),
        ({**JOB, "version": "2.0"}, "version was '1.0', is '2.0'"),
        (
            {**JOB, "inputs": {"x": {**JOB["inputs"]["x"], "metadata": "34cd"}}},
            "metadata was '12ab'",
        ),
    ],
)
def test_another_job_is_refused_and_only_the_difference_is_named(
    other: dict[str, Any], named: str, output: str
) -> None:
    Journal(output, JOB).begin()
    with pytest.raises(JobMismatchError, match=named) as caught:
        Journal(output, other).begin()
    for same in ("center", "driver", "location"):
        assert same not in str(caught.value)
    assert "overwrite=True" in str(caught.value)


@pytest.mark.parametrize("left", [b"", b'{"inputs": {', b"[]", b"\x84"])
def test_a_journal_that_does_not_say_whose_it_is_goes_on_with_nothing(
    left: bytes, tmp_path: Path
) -> None:
    Journal(tmp_path / "r", JOB).begin()
    (kept,) = tmp_path.rglob("job.json")
    kept.write_bytes(left)
    with pytest.raises(JobMismatchError, match=r"which job it is of.*overwrite=True"):
        Journal(tmp_path / "r", JOB).begin()


def test_marks_of_another_job_do_not_count(output: str) -> None:
    Journal(output, JOB).mark("multiply/gemm-0-0", {"square": 1.0})
    assert Journal(output, changed(seed=4)).done("multiply") == {}


def test_a_half_written_mark_left_by_a_kill_does_not_count(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "r"), JOB)
    journal.begin()
    journal.mark("multiply/gemm-0-0", {"square": 1.0})
    done = next(p.parent for p in tmp_path.rglob("gemm-0-0"))
    whole = (done / "gemm-0-0").read_bytes()
    # zarr writes beside the name and renames
    (done / "gemm-8-0.5f7e4c.partial").write_bytes(whole[: len(whole) // 2])
    (done / "gemm-16-0.5f7e4c.partial").write_bytes(whole)
    (done / "gemm-24-0.5f7e4c.partial").write_bytes(b"")
    (done / "gemm-32-0").write_bytes(b"[1]")
    assert list(journal.done("multiply")) == ["multiply/gemm-0-0"]


@pytest.mark.parametrize("part", [0.0, 0.5, 0.9])
def test_a_stage_that_a_loss_of_power_cut_short_does_not_count(part: float, tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "r"), JOB)
    journal.save_stage("pass 1", {"z": np.arange(60.0)})
    (kept,) = tmp_path.rglob("pass 1.npz")
    whole = kept.read_bytes()
    kept.write_bytes(whole[: int(part * len(whole))])
    assert journal.load_stage("pass 1") is None


def test_every_object_of_a_journal_is_whole_or_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    journal = Journal(str(tmp_path / "r"), JOB)
    journal.begin()

    def stopped(*_: Any, **__: Any) -> None:
        raise PermissionError("stopped")

    for name in ("replace", "rename", "link"):
        monkeypatch.setattr(os, name, stopped)
    monkeypatch.setattr(Path, "rename", stopped)
    monkeypatch.setattr(Path, "replace", stopped)
    with pytest.raises(StoreError):
        journal.mark("multiply/gemm-0-0", {"square": 1.0})
    journal.note_end({"pid": 7})  # cannot be said either
    monkeypatch.undo()
    assert journal.done("multiply") == {}
    journal.note("now", {"pid": 7})
    for name in ("replace", "rename", "link"):
        monkeypatch.setattr(os, name, stopped)
    monkeypatch.setattr(Path, "replace", stopped)
    journal.note_end({"pid": 7})
    assert read_note(tmp_path / "r", "now") == {}  # nobody is said to live who does not


def test_a_journal_travels_to_workers(output: str) -> None:
    if output.startswith("memory"):
        pytest.skip("one process's memory")
    journal = Journal(output, JOB)
    journal.begin()
    pickle.loads(pickle.dumps(journal)).mark("a/b", {"x": 1.0})
    assert journal.done("a") == {"a/b": {"x": 1.0}}
    assert json.loads(json.dumps(journal.job)) == JOB
