"""Jobs that were stopped go on where they were, with the numbers of a job that was not."""

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import leptonhpc as lh
from leptonhpc.errors import (
    JobMismatchError,
    NotAnArrayError,
    OptionError,
    OutputExistsError,
    StoreError,
)
from leptonhpc.store import leasing
from leptonhpc.testing import rounding

STAGES, BLOCKS, PARTS = "stages/*.npz", "done/multiply/*-*", "parts/*.npz"
"""What a journal keeps."""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_stages_of_a_stopped_svd_are_not_run_again(number: signal.Signals, svd_job: Any) -> None:
    whole = svd_job.run(out=str(svd_job.out.with_name("whole")))
    words = svd_job.stop(number, (STAGES, 2))
    assert not svd_job.out.exists()
    kept = svd_job.kept(STAGES)
    assert 2 <= kept < len(whole["stages"])  # Ctrl-C does not wait for the others
    resumed = svd_job.run(anew=True)
    assert [name for name, *_ in resumed["stages"]] == [name for name, *_ in whole["stages"]]
    assert [taken for _, taken, *_ in resumed["stages"]].count(True) == kept
    assert all(read == 0 for _, taken, _, _, read in resumed["stages"] if taken)
    assert resumed["digests"] == whole["digests"]
    assert resumed["certificate"] == whole["certificate"]
    assert not Path(f"{svd_job.out}.partial").exists()
    if number == signal.SIGINT:
        assert "KeyboardInterrupt" in words.splitlines()  # zarr may add what it left undone


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_blocks_of_a_stopped_product_are_not_computed_again(
    number: signal.Signals, matmul_job: Any
) -> None:
    whole = matmul_job.run(out=str(matmul_job.out.with_name("whole")))
    words = matmul_job.stop(number, (BLOCKS, 2))
    assert not matmul_job.out.exists()
    marks = matmul_job.kept(BLOCKS)
    assert 2 <= marks < whole["stages"][-1][3]  # Ctrl-C does not wait for the others
    resumed = matmul_job.run(anew=True)
    assert resumed["stages"][-1][2] == marks
    assert resumed["stages"][-1][4] < whole["stages"][-1][4]
    assert resumed["digests"] == whole["digests"]
    assert resumed["certificate"] == whole["certificate"]
    assert not Path(f"{matmul_job.out}.partial").exists()
    if number == signal.SIGINT:
        assert "KeyboardInterrupt" in words.splitlines()  # zarr may add what it left undone


@pytest.mark.parametrize("method", ["krylov", "gram"])
def test_a_pass_that_was_cut_short_goes_on_where_it_was(method: str, svd_job: Any) -> None:
    svd_job.options |= {"method": method}
    svd_job.every_seconds = 0.0
    whole = svd_job.run(out=str(svd_job.out.with_name("whole")))
    assert whole["stages"][0][3] > 4
    svd_job.stop(signal.SIGKILL, (PARTS, 1))
    assert not svd_job.kept(STAGES)
    resumed = svd_job.run()
    _, taken, tasks_taken, tasks, read = resumed["stages"][0]
    assert not taken
    assert 0 < tasks_taken < tasks
    assert read == pytest.approx(whole["stages"][0][4] * (1 - tasks_taken / tasks))
    assert resumed["digests"] == whole["digests"]
    assert resumed["certificate"] == whole["certificate"]


def test_a_job_stopped_three_times_is_still_right(svd_job: Any) -> None:
    whole = svd_job.run(out=str(svd_job.out.with_name("whole")))
    for count in (1, 2, 3):
        svd_job.stop(signal.SIGKILL, (STAGES, count))
    assert svd_job.run()["digests"] == whole["digests"]


def test_without_a_budget_a_stopped_job_keeps_its_layout(matmul_job: Any) -> None:
    matmul_job.stop(signal.SIGKILL, (BLOCKS, 1))
    resumed = matmul_job.run(memory=None)
    assert resumed["stages"][-1][2] >= 1


def test_on_another_number_of_cores_a_stopped_job_keeps_its_layout(svd_job: Any) -> None:
    svd_job.options |= {"method": "gram"}
    svd_job.every_seconds = 0.0
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        whole = svd_job.run(out=str(svd_job.out.with_name("whole")))
        svd_job.stop(signal.SIGKILL, (PARTS, 1))
    finally:
        os.sched_setaffinity(0, cores)
    resumed = svd_job.run()
    assert resumed["stages"][0][2] > 0
    assert [tasks for *_, tasks, _ in resumed["stages"]] == [t for *_, t, _ in whole["stages"]]
    assert resumed["certificate"].keys() == whole["certificate"].keys()


def test_another_budget_is_refused_or_goes_on(matmul_job: Any) -> None:
    matmul_job.stop(signal.SIGKILL, (BLOCKS, 1))
    words = matmul_job.refused(memory="1 GB")
    assert "JobMismatchError" in words
    assert "240" in words or "memory" in words


@pytest.fixture
def stopped(svd_job: Any) -> Any:
    svd_job.stop(signal.SIGKILL, (STAGES, 1))
    return svd_job


def test_another_question_is_refused_and_the_difference_named(stopped: Any) -> None:
    (stopped.journal / "owner.json").unlink()  # of the process that was killed
    before = sorted(p.name for p in stopped.journal.rglob("*"))
    for changed, named in (
        ({"rank": 5}, "rank was 4, is 5"),
        ({"seed": 9}, "seed was 0, is 9"),
        ({"center": True}, "center was False, is True"),
    ):
        words = stopped.refused(**changed)
        assert "JobMismatchError" in words
        assert named in words
        assert "most_passes" not in words
    assert sorted(p.name for p in stopped.journal.rglob("*")) == before


def test_overwriting_begins_anew(stopped: Any) -> None:
    assert not any(taken for _, taken, *_ in stopped.run(overwrite=True)["stages"])


def test_not_resuming_is_refused_where_something_is_unfinished(stopped: Any) -> None:
    assert "unfinished" in stopped.refused(resume=False)
    assert any(taken for _, taken, *_ in stopped.run(resume=True)["stages"])


def test_loading_what_is_unfinished_says_so(stopped: Any) -> None:
    with pytest.raises(OSError, match=r"r\.partial' is not finished"):
        lh.load(stopped.out)


def test_another_input_is_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    values = rng.standard_normal((300, 90))
    array = zarr.create_array(tmp_path / "x", shape=values.shape, dtype="f8", chunks=(50, 90))
    array[...] = values
    options: dict[str, Any] = {"rank": 2, "method": "gram", "memory": "1 GB"}
    with pytest.MonkeyPatch.context() as patch:
        stop_at_second_stage(patch)
        with pytest.raises(KeyError, match="stopped"):
            lh.svd(tmp_path / "x", out=tmp_path / "r", **options)
    array[0, 0] = 5.0
    with pytest.raises(JobMismatchError, match="chunks was '"):
        lh.svd(tmp_path / "x", out=tmp_path / "r", **options)
    lh.svd(tmp_path / "x", out=tmp_path / "r", overwrite=True, **options)
    a = np.asarray(array)
    true = np.linalg.svd(a, compute_uv=False)[:2]
    assert np.all(np.abs(lh.load(tmp_path / "r").s - true) <= rounding(a, float))


def stop_at_second_stage(patch: pytest.MonkeyPatch) -> None:
    from leptonhpc.store import Journal

    save = Journal.save_stage
    count = 0

    def saving(self: Any, *args: Any) -> None:
        nonlocal count
        count += 1
        if count == 2:
            raise KeyError("stopped")
        save(self, *args)

    patch.setattr(Journal, "save_stage", saving)


def test_a_finished_output_is_loaded_not_computed(tmp_path: Path, rng: np.random.Generator) -> None:
    array = zarr.create_array(tmp_path / "x", shape=(300, 90), dtype="f8", chunks=(50, 90))
    array[...] = rng.standard_normal((300, 90))
    first = lh.svd(tmp_path / "x", rank=2, memory="1 GB", out=tmp_path / "r", accuracy=0.5)
    changed = sorted((p, p.stat().st_mtime_ns) for p in (tmp_path / "r").rglob("*"))
    second = lh.svd(tmp_path / "x", rank=2, memory="2 GB", out=tmp_path / "r", accuracy=0.5)
    assert second.report == first.report
    assert np.array_equal(second.s, first.s)
    assert sorted((p, p.stat().st_mtime_ns) for p in (tmp_path / "r").rglob("*")) == changed
    for other in ({"rank": 3}, {"rank": 2, "seed": 1}, {"rank": 2, "resume": False}):
        with pytest.raises(OutputExistsError, match="overwrite=True"):
            lh.svd(tmp_path / "x", memory="1 GB", out=tmp_path / "r", accuracy=0.5, **other)
    assert sorted((p, p.stat().st_mtime_ns) for p in (tmp_path / "r").rglob("*")) == changed


def test_a_finished_product_is_loaded_not_computed(tmp_path: Path) -> None:
    a = np.random.default_rng(1).standard_normal((60, 40))
    first = lh.matmul(a, a.T, memory="1 GB", out=tmp_path / "r")
    second = lh.matmul(a, a.T, memory="1 GB", out=tmp_path / "r")
    assert second.report == first.report
    assert np.array_equal(np.asarray(first), np.asarray(second))


def test_resuming_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JobMismatchError, match="no unfinished output"):
        lh.svd(np.eye(4), rank=1, memory="1 GB", out=tmp_path / "r", resume=True)
    with pytest.raises(OptionError, match="give out="):
        lh.svd(np.eye(4), rank=1, memory="1 GB", resume=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("left", ["empty folder", "no metadata", "no journal", "half-made target"])
def test_a_kill_at_the_worst_moment_does_no_harm(left: str, tmp_path: Path) -> None:
    a = np.diag([3.0, 2.0, 1.0])
    partial = tmp_path / "r.partial"
    if left == "empty folder":
        partial.mkdir()
    else:
        with pytest.MonkeyPatch.context() as patch:
            stop_at_second_stage(patch)
            with pytest.raises(KeyError, match="stopped"):
                lh.svd(a, rank=2, memory="1 GB", out=tmp_path / "r")
        if left == "no metadata":
            (partial / "zarr.json").unlink()
        elif left == "no journal":
            shutil.rmtree(partial / ".leptonhpc")
        else:
            shutil.rmtree(partial / "u", ignore_errors=True)
            (partial / "u").mkdir()
    r = lh.svd(a, rank=2, memory="1 GB", out=tmp_path / "r")
    assert np.all(np.abs(r.s - [3, 2]) <= rounding(a, float))
    assert json.loads((tmp_path / "r" / "zarr.json").read_text())["node_type"] == "group"
    assert not partial.exists()


@contextmanager
def running(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """Give a process, and kill it in the end."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_status_tells_who_works_on_what_and_a_second_job_is_refused(matmul_job: Any) -> None:
    matmul_job.delay = 3600  # however long this takes, it is at its first chunks
    with running(matmul_job.command()) as process:
        wait_for(lambda: (matmul_job.journal / "now.json").exists())
        found = lh.status(matmul_job.out)
        assert (found.state, found.driver, found.pid) == ("running", "matmul", process.pid)
        assert (found.stages_planned, found.stages_done) == (("multiply",), ())
        assert found.stage == "multiply"
        assert found.tasks_done < found.tasks
        assert found.silent_seconds is not None
        json.dumps(found.to_dict())
        for options in ({}, {"overwrite": True}):
            words = matmul_job.refused(**options)
            assert "OutputExistsError" in words
            assert str(process.pid) in words
        with pytest.raises(OutputExistsError, match=str(process.pid)):
            lh.clean(matmul_job.out)
        assert process.poll() is None
    found = lh.status(matmul_job.out)
    assert found.state == "stopped"
    assert "the same command goes on" in repr(found)


def test_clean_removes_what_a_dead_job_left_and_no_result(matmul_job: Any) -> None:
    matmul_job.stop(signal.SIGKILL, (BLOCKS, 2))
    found = lh.status(matmul_job.out)
    assert (found.state, found.stage) == ("stopped", "multiply")
    assert 0 <= found.tasks_done < found.tasks
    assert lh.clean(matmul_job.out) == (f"{matmul_job.out}.partial",)
    assert not Path(f"{matmul_job.out}.partial").exists()
    with pytest.raises(StoreError, match="no unfinished output"):
        lh.clean(matmul_job.out)
    matmul_job.run()
    assert lh.status(matmul_job.out).state == "finished"
    with pytest.raises(StoreError, match="no unfinished output"):
        lh.clean(matmul_job.out)
    assert matmul_job.out.exists()


def test_a_job_that_was_interrupted_in_a_process_that_lives_on_is_not_running(
    matmul_job: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a notebook: the same command goes on in another process."""
    from leptonhpc.store import Journal

    mark, marks = Journal.mark, []

    def interrupting(journal: Journal, *args: Any) -> None:
        mark(journal, *args)
        marks.append(args)
        if len(marks) >= 2:  # of two lanes both may see two
            raise KeyboardInterrupt

    monkeypatch.setattr(Journal, "mark", interrupting)
    with pytest.raises(KeyboardInterrupt):
        lh.matmul(*matmul_job.arrays, **matmul_job.options, out=matmul_job.out)
    found = lh.status(matmul_job.out)
    assert (found.state, found.pid, found.stage) == ("stopped", os.getpid(), "multiply")
    facts = json.loads((matmul_job.journal / "now.json").read_text())
    assert facts["ended"] is True
    assert lh.clean(matmul_job.out)


def test_what_another_machine_works_on_is_not_touched(
    matmul_job: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    matmul_job.stop(signal.SIGKILL, (BLOCKS, 1))
    for name in ("now.json", "owner.json"):
        note = matmul_job.journal / name
        note.write_text(
            json.dumps({**json.loads(note.read_text()), "host": "another", "system": "another"})
        )
    assert lh.status(matmul_job.out).state == "elsewhere"
    monkeypatch.setattr(leasing, "_LOOK_SECONDS", 0.05)
    ended = threading.Event()

    def live() -> None:
        owner = json.loads(note.read_text())
        while not ended.wait(0.05):
            owner["beats"] += 1
            note.with_suffix(".new").write_text(json.dumps(owner))
            note.with_suffix(".new").replace(note)

    owner = threading.Thread(target=live)
    owner.start()
    try:
        for act in (lh.clean, partial(lh.matmul, *matmul_job.arrays, **matmul_job.options)):
            with pytest.raises(OutputExistsError, match="is being made by process .* of another"):
                act(out=matmul_job.out)
    finally:
        ended.set()
        owner.join()
    monkeypatch.setattr(leasing, "PATIENCE_SECONDS", 0.5)
    assert lh.clean(matmul_job.out)


def test_what_a_kill_left_before_anything_was_written_is_cleaned(tmp_path: Path) -> None:
    (tmp_path / "r.partial").mkdir()
    assert lh.status(tmp_path / "r").state == "stopped"
    assert lh.clean(tmp_path / "r") == (str(tmp_path / "r.partial"),)
    folder = tmp_path / "gpca.unfinished"  # of a command
    for mark in (None, b"", b"[]", b"\0"):
        folder.mkdir()
        if mark is not None:
            (folder / "leptonhpc-command.json").write_bytes(mark)
        assert lh.status(tmp_path / "gpca").state == "stopped"
        assert lh.clean(tmp_path / "gpca") == (str(folder),)
    assert not list(tmp_path.iterdir())


def test_status_and_clean_of_what_is_not_ours_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nothing is stored"):
        lh.status(tmp_path / "r")
    (tmp_path / "r.partial").mkdir()
    (tmp_path / "r.partial" / "thesis.tex").write_text("years")
    for function in (lh.status, lh.clean):
        with pytest.raises(NotAnArrayError, match="not an unfinished output"):
            function(tmp_path / "r")
    assert (tmp_path / "r.partial" / "thesis.tex").exists()
    zarr.create_array(tmp_path / "x", shape=(4, 4), dtype="f8")
    (tmp_path / "x.nc").write_bytes(b"CDF")
    for name, words in (("x", "not a result"), ("x.nc", "xarray.open_dataset reads it")):
        for look in (lh.status, lh.load, lh.report):
            with pytest.raises(NotAnArrayError, match=words):
                look(tmp_path / name)


def wait_for(ready: Any) -> None:
    deadline = time.monotonic() + 300
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.01)
