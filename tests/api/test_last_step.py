"""The last step of a job: its output gets the final name, and nobody sees or loses a half of it."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import leptonhpc as lh
from leptonhpc import store
from leptonhpc.api import jobs
from leptonhpc.errors import OutputExistsError
from leptonhpc.store import publishing
from leptonhpc.store.locations import resolve
from leptonhpc.store.making import output_lease
from leptonhpc.store.objects import list_objects
from leptonhpc.testing import put


class Killed(BaseException):
    """What no code of ours catches."""


def die(*_: Any, **__: Any) -> None:
    raise Killed


@pytest.fixture
def source(tmp_path: Path, rng: np.random.Generator) -> Path:
    return put(rng.standard_normal((60, 8)), tmp_path / "a", chunks=(20, 8))


def svd(source: Path, out: Any) -> lh.SvdResult:
    return lh.svd(source, rank=2, method="gram", out=out, progress=False)


@pytest.mark.parametrize(("module", "step"), [("os", "replace"), ("shutil", "rmtree")])
def test_killed_within_the_last_step_the_same_call_ends_it(
    module: str, step: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "r"
    with monkeypatch.context() as patch:
        patch.setattr(publishing, module, SimpleNamespace(**{step: die}))
        with pytest.raises(Killed):
            svd(source, out)
    assert out.exists() == (step == "rmtree")
    monkeypatch.setattr("leptonhpc.api.outputs.run_job", die)  # nothing is done again
    assert svd(source, out).s.shape == (2,)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "r"]
    assert not (out / ".leptonhpc").exists()


@pytest.fixture
def remote(tmp_path: Path) -> str:
    pytest.importorskip("fsspec")
    return f"memory://{tmp_path.name}"


def keys_at(place: str) -> list[str]:
    return sorted(list_objects(*resolve(place)))


def test_an_output_is_owned_until_the_last_object_has_its_name(
    source: Path, remote: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, seen = f"{remote}/r", []
    put_object = publishing.put_object

    def look(*arguments: Any) -> None:
        seen.append(output_lease(out).living_owner())
        with pytest.raises(OutputExistsError, match="being made by process"):
            svd(source, out)
        put_object(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(publishing, "put_object", look)
        svd(source, out)
    assert seen
    assert all(seen)
    assert not [key for key in keys_at(remote) if "partial" in key or ".leptonhpc" in key]


def test_an_output_of_which_some_objects_were_copied_gets_its_name(
    source: Path, remote: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, put_object = f"{remote}/r", publishing.put_object
    copied: list[str] = []

    def stop(*arguments: Any) -> None:
        if len(copied) == 3:
            die()
        copied.append(arguments[1])
        put_object(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(publishing, "put_object", stop)
        with pytest.raises(Killed):
            svd(source, out)
    foreign = f"{remote}/r/u/foreign"
    put_object(*resolve(foreign), b"of somebody else")
    with pytest.raises(OutputExistsError, match="choose another output"):
        svd(source, out)
    store.remove(foreign)
    monkeypatch.setattr("leptonhpc.api.outputs.run_job", die)  # nothing is done again
    assert svd(source, out).s.shape == (2,)
    assert not [key for key in keys_at(remote) if "partial" in key or ".leptonhpc" in key]


def test_a_job_that_ends_while_it_is_looked_at_is_finished(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, partial = tmp_path / "r", tmp_path / "r.partial"
    svd(source, out)
    out.rename(partial)  # all is there but the journal, and the name

    now = SimpleNamespace(time=time.time, sleep=lambda _: partial.rename(out))
    monkeypatch.setattr(jobs, "time", now)  # of this module: other threads sleep, too
    assert lh.status(out).state == "finished"


def test_killed_when_an_array_has_its_name_the_same_call_removes_the_rest(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gram() -> lh.MatmulResult:
        return lh.matmul(lh.open(source).H, source, out=tmp_path / "r", progress=False)

    publish = store.publish

    def stop(*arguments: Any, **options: Any) -> None:
        publish(*arguments, **options)
        die()

    with monkeypatch.context() as patch:
        patch.setattr(store, "publish", stop)
        with pytest.raises(Killed):
            gram()
    assert (tmp_path / "r.partial").exists()
    monkeypatch.setattr("leptonhpc.api.outputs.run_job", die)  # nothing is done again
    gram()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "r"]
    assert lh.status(tmp_path / "r").state == "finished"


def test_killed_as_the_old_output_was_removed_the_same_call_removes_the_rest(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lh.svd(source, rank=3, method="gram", out=tmp_path / "r", progress=False)
    with monkeypatch.context() as patch:
        patch.setattr(publishing, "shutil", SimpleNamespace(rmtree=die))
        with pytest.raises(Killed):
            lh.svd(source, rank=2, method="gram", out=tmp_path / "r", overwrite=True)
    assert len(list(tmp_path.iterdir())) == 3
    assert len(svd(source, tmp_path / "r").s) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "r"]


def test_killed_as_the_first_metadata_were_written_the_same_call_begins(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("os.replace", die)
        with pytest.raises(Killed):
            svd(source, tmp_path / "r")
    (left,) = (tmp_path / "r.partial").iterdir()
    assert left.name != "zarr.json"
    assert lh.status(tmp_path / "r").state == "stopped"
    assert svd(source, tmp_path / "r").s.shape == (2,)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "r"]
