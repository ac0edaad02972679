"""Outputs appear whole or not at all, and never at the cost of an input."""

import gc
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import leptonhpc as lh
from leptonhpc.errors import (
    LeptonError,
    NonFiniteError,
    NotAnArrayError,
    NotConvergedWarning,
    NotPositiveDefiniteError,
    OptionError,
    OutputExistsError,
    SingularMatrixError,
    StoreError,
)
from leptonhpc.runtime.temporary import make_folder
from leptonhpc.testing import matrix_with_spectrum, spectrum

A = matrix_with_spectrum((200, 80), spectrum("halving", 80), seed=2)
OPTIONS: dict[str, Any] = {"rank": 3, "memory": "1 GB"}


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    zarr.create_array(tmp_path / "x", shape=A.shape, dtype="f8", chunks=(20, 80))[...] = A
    return tmp_path / "x"


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("method", ["gram", "krylov", "sketch"])
def test_a_stored_result_is_the_result(method: str, stored: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConvergedWarning)  # of the sketch
        r = lh.svd(stored, method=method, center=True, out=tmp_path / "r", **OPTIONS)
    again = lh.load(tmp_path / "r")
    for name in ("u", "s", "vh", "mean"):
        assert np.array_equal(np.asarray(getattr(again, name)), np.asarray(getattr(r, name))), name
    assert again.certificate == r.certificate
    assert again.report == r.report
    assert {p.name for p in (tmp_path / "r").iterdir()} == {"u", "s", "vh", "mean", "zarr.json"}
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith("r")] == ["r"]


def test_another_process_loads_the_same(stored: Path, tmp_path: Path) -> None:
    r = lh.svd(stored, out=tmp_path / "r", **OPTIONS)
    program = (
        "import sys, numpy as np, leptonhpc as lh; r = lh.load(sys.argv[1]); "
        "sys.stdout.buffer.write(np.concatenate([np.asarray(a).ravel() for a in r]).tobytes())"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, str(tmp_path / "r")],
        capture_output=True, timeout=300, check=True,
    )  # fmt: skip
    expected = np.concatenate([np.asarray(a).ravel() for a in r])
    assert np.array_equal(np.frombuffer(done.stdout), expected)


def test_a_stored_product_is_a_zarr_array_like_any_other(stored: Path, tmp_path: Path) -> None:
    x = lh.open(stored)
    r = lh.matmul(x.H, x, memory="1 GB", out=tmp_path / "r")
    assert np.array_equal(zarr.open_array(tmp_path / "r", mode="r")[...], np.asarray(r))
    assert np.array_equal(np.asarray(lh.load(tmp_path / "r")), np.asarray(r))
    assert np.array_equal(np.asarray(lh.open(tmp_path / "r")), np.asarray(r))


def test_plans_write_outputs_as_drivers_do(stored: Path, tmp_path: Path) -> None:
    r = lh.plan("svd", stored, **OPTIONS).run(out=tmp_path / "r")
    assert np.array_equal(lh.load(tmp_path / "r").s, r.s)
    assert np.array_equal(lh.svd(stored, out=tmp_path / "r", **OPTIONS).s, r.s)


@pytest.mark.parametrize("scale", [None, "std"])
@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("method", ["gram", "krylov"])
def test_a_plan_can_be_run_twice(
    method: str, center: bool, scale: str | None, stored: Path
) -> None:
    plan = lh.plan("svd", stored, method=method, center=center, scale=scale, **OPTIONS)
    first, second = plan.run(), plan.run()
    assert first.certificate == second.certificate
    for name in ("u", "s", "vh"):
        assert np.array_equal(getattr(first, name), getattr(second, name))
    assert [s.name for s in first.report.stages] == [s.name for s in second.report.stages]


def test_plans_are_values_that_running_does_not_change(stored: Path, tmp_path: Path) -> None:
    plan = lh.plan("svd", stored, center=True, **OPTIONS)
    before = plan.to_json()
    first = plan.run(out=tmp_path / "r")
    second = plan.run(out=tmp_path / "q")
    assert plan.to_json() == before
    assert np.array_equal(np.asarray(first.u), np.asarray(second.u))


def test_arrays_of_a_result_that_was_not_stored_live_as_long_as_they_are_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    a = np.random.default_rng(0).standard_normal((3000, 200))
    product = lh.matmul(a, a.T, memory="240 MB").product  # the result itself is let go
    gc.collect()
    assert isinstance(product, lh.BlockedArray)
    assert len(list(tmp_path.iterdir())) == 1
    row = product[7:9].T
    del product
    gc.collect()
    np.testing.assert_allclose(np.asarray(row), (a[7:9] @ a.T).T, rtol=0, atol=1e-10)
    del row
    deadline = time.monotonic() + 60  # a thread may hold for a moment what it read from
    while list(tmp_path.iterdir()):
        assert time.monotonic() < deadline
        gc.collect()
        time.sleep(0.01)


PLACES = {
    "the input": lambda x: x,
    "inside the input": lambda x: x / "r",
    "around the input": lambda x: x.parent,
    "a link to the input": lambda x: _link(x),
    "the input by another path": lambda x: x.parent / "." / ".." / x.parent.name / x.name,
}
SOURCES = {
    "itself": lambda x: x,
    "transposed": lambda x: x.T,
    "part": lambda x: x[5:90],
    "difference": lambda x: x - 1.0,
    "sum": lambda x: x + x,
    "product": lambda x: x.T @ x,
    "matrix": lambda x: x.T[:, 3:].T,
}


def _link(x: Path) -> Path:
    link = x.with_name("link")
    link.symlink_to(x)
    return link


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("place", PLACES)
def test_no_output_touches_an_input(place: str, source: str, overwrite: bool, stored: Path) -> None:
    before = snapshot(stored)
    x = SOURCES[source](lh.open(stored))
    with pytest.raises(LeptonError):
        lh.svd(x, out=PLACES[place](stored), overwrite=overwrite, **OPTIONS)
    assert snapshot(stored) == before


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_input_with_the_name_of_the_unfinished_output_is_not_touched(
    overwrite: bool, stored: Path, tmp_path: Path
) -> None:
    partial = stored.rename(tmp_path / "r.partial")
    before = snapshot(partial)
    with pytest.raises(OptionError, match=r"r\.partial"):
        lh.svd(partial, out=tmp_path / "r", overwrite=overwrite, **OPTIONS)
    assert snapshot(partial) == before


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_foreign_folder_with_the_name_of_the_unfinished_output_is_not_touched(
    overwrite: bool, stored: Path, tmp_path: Path
) -> None:
    (tmp_path / "r.partial").mkdir()
    (tmp_path / "r.partial" / "notes.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match=r"r\.partial"):
        lh.svd(stored, out=tmp_path / "r", overwrite=overwrite, **OPTIONS)
    assert snapshot(tmp_path / "r.partial") == {"notes.txt": b"mine"}


@pytest.mark.parametrize("kind", ["file", "folder", "array", "group"])
def test_an_output_that_exists_is_refused(kind: str, stored: Path, tmp_path: Path) -> None:
    out = tmp_path / "r"
    if kind == "file":
        out.write_text("mine")
    elif kind == "folder":
        out.mkdir()
        (out / "notes.txt").write_text("mine")
    elif kind == "array":
        zarr.create_array(out, shape=(2,), dtype="f8", fill_value=1)
    else:
        zarr.create_group(out)
    before = snapshot(tmp_path)
    told = "is not Zarr" if kind in ("file", "folder") else "overwrite=True"
    with pytest.raises(OutputExistsError, match=told):
        lh.svd(stored, out=out, **OPTIONS)
    assert snapshot(tmp_path) == before
    if kind in ("array", "group"):
        lh.svd(stored, out=out, overwrite=True, **OPTIONS)
        assert lh.load(out).s.shape == (3,)
    else:  # what is not Zarr is nobody's output
        with pytest.raises(OutputExistsError):
            lh.svd(stored, out=out, overwrite=True, **OPTIONS)
        assert snapshot(tmp_path) == before


def test_going_on_and_beginning_again_at_once_is_refused(stored: Path, tmp_path: Path) -> None:
    for made in (False, True):
        if made:
            lh.svd(stored, out=tmp_path / "r", **OPTIONS)
        before = snapshot(tmp_path)
        with pytest.raises(OptionError, match="give one of resume= .* and overwrite="):
            lh.svd(stored, out=tmp_path / "r", resume=True, overwrite=True, **OPTIONS)
        assert snapshot(tmp_path) == before


def test_overwriting_keeps_the_old_result_until_the_new_one_is_done(
    stored: Path, tmp_path: Path
) -> None:
    lh.svd(stored, out=tmp_path / "r", **OPTIONS)
    before = snapshot(tmp_path / "r")
    bad = A.copy()
    bad[150, 2] = np.nan
    with pytest.raises(NonFiniteError):
        lh.svd(bad, out=tmp_path / "r", overwrite=True, **OPTIONS)
    assert snapshot(tmp_path / "r") == before


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("driver", ["svd", "matmul"])
def test_numbers_that_are_not_finite_leave_nothing_under_the_final_name(
    driver: str, value: float, tmp_path: Path
) -> None:
    bad = A.copy()
    bad[150, 2] = value
    zarr.create_array(tmp_path / "x", shape=A.shape, dtype="f8", chunks=(20, 80))[...] = bad
    x = lh.open(tmp_path / "x")
    arrays, options = ((x,), {"rank": 3}) if driver == "svd" else ((x, np.ones((80, 3))), {})
    plan = lh.plan(driver, *arrays, memory="1 GB", **options)
    with pytest.raises(NonFiniteError, match="150"):
        plan.run(out=tmp_path / "r")
    assert {path.name for path in tmp_path.iterdir()} == {"x"}


def test_what_has_no_answer_leaves_nothing_and_can_be_mended(tmp_path: Path) -> None:
    bad = np.eye(300)
    bad[200, 200] = -1
    with pytest.raises(NotPositiveDefiniteError):
        lh.cholesky(bad, memory="1 GB", out=tmp_path / "r")
    assert not list(tmp_path.iterdir())
    lh.cholesky(np.eye(300), memory="1 GB", out=tmp_path / "r")
    with pytest.raises(SingularMatrixError):
        lh.solve(np.zeros((700, 700)), np.ones(700), memory="170 MB", out=tmp_path / "x")
    assert {path.name for path in tmp_path.iterdir()} == {"r"}


def test_folders_that_dead_processes_left_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    program = (
        "import os, signal\n"
        "from leptonhpc.runtime.temporary import make_folder\n"
        "(make_folder() / 'x').write_text('values')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", program], env=environment, check=False)
    (dead,) = tmp_path.iterdir()
    (tmp_path / "leptonhpc-of-the-user").mkdir()
    elsewhere = tmp_path / "leptonhpc-elsewhere"
    elsewhere.mkdir()
    facts = json.loads((dead / "owner.json").read_text())
    (elsewhere / "owner.json").write_text(
        json.dumps({**facts, "host": "another", "system": "another"})
    )
    mine = make_folder()
    again = make_folder()
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {mine.name, again.name, "leptonhpc-of-the-user", "leptonhpc-elsewhere"}


def test_nothing_has_the_final_name_while_the_job_runs(stored: Path, tmp_path: Path) -> None:
    seen = []
    hook = sys.modules["leptonhpc.runtime.run"]._Run.execute

    def looking(self: Any, *args: Any) -> Any:
        result = hook(self, *args)
        seen.append(((tmp_path / "r").exists(), (tmp_path / "r.partial").exists()))
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("leptonhpc.runtime.run._Run.execute", looking)
        lh.svd(stored, out=tmp_path / "r", **OPTIONS)
    assert seen
    assert set(seen) == {(False, True)}


def test_a_folder_that_is_not_there_is_made_or_refused_at_once(
    stored: Path, tmp_path: Path
) -> None:
    r = lh.svd(stored, out=tmp_path / "a" / "b" / "r", **OPTIONS)
    assert np.array_equal(lh.load(tmp_path / "a" / "b" / "r").s, r.s)


def test_a_name_with_a_slash_at_its_end_is_the_same_name(stored: Path, tmp_path: Path) -> None:
    lh.svd(stored, out=f"{tmp_path}/r/", **OPTIONS)
    assert lh.load(tmp_path / "r").s.shape == (3,)


def test_store_objects_are_no_outputs(stored: Path) -> None:
    from zarr.storage import MemoryStore

    with pytest.raises(LeptonError, match="path or a URL"):
        lh.svd(stored, out=MemoryStore(), **OPTIONS)


def test_what_is_no_result_is_not_loaded(stored: Path, tmp_path: Path) -> None:
    with pytest.raises(NotAnArrayError, match="not a result"):
        lh.load(stored)
    with pytest.raises(StoreError, match="nothing is stored"):
        lh.load(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError):
        lh.load(tmp_path / "empty")


def test_the_finished_result_of_another_job_is_refused_with_what_differs(
    stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "r"
    lh.svd(stored, rank=2, out=out)
    with pytest.raises(OutputExistsError, match=r"another job: parameters.*rank was 2, is 3"):
        lh.svd(stored, rank=3, out=out)
    monkeypatch.setattr(lh, "__version__", "9.9")
    with pytest.raises(OutputExistsError, match=r"another job: version was .* is '9.9'"):
        lh.svd(stored, rank=2, out=out)


@pytest.mark.parametrize("out", ["", ".", "a/..", "memory://"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_an_output_without_a_name_is_refused_and_said_to_have_none(
    out: str, overwrite: bool, stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "group").mkdir()
    monkeypatch.chdir(tmp_path / "group")
    zarr.create_group(".")  # what may be replaced, if it had a name
    before = snapshot(tmp_path)
    with pytest.raises(OptionError, match=f"needs a name of its own.*found '{out}'"):
        lh.svd(stored, out=out, overwrite=overwrite, **OPTIONS)
    assert snapshot(tmp_path) == before


def test_a_name_that_the_file_system_does_not_take_is_a_store_error(
    stored: Path, tmp_path: Path
) -> None:
    with pytest.raises(StoreError, match="could not be used: .*too long"):
        lh.svd(stored, out=tmp_path / ("n" * 300), **OPTIONS)
    assert {path.name for path in tmp_path.iterdir()} == {"x"}
