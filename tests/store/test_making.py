"""One living process at a time makes an output, and only its own gets the final name."""

import os
import shutil
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leptonhpc import store
from leptonhpc.errors import OptionError, OutputExistsError, StoreError
from leptonhpc.store.making import require_no_maker

MAKE = """
import sys
from leptonhpc import store
with store.being_made(sys.argv[1], overwrite=False) as place:
    store.create_array(place, shape=(2,), dtype="int8", chunks=(2,))
    print("made", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def maker(tmp_path: Path) -> Iterator[Any]:
    """Another process that makes an output, and is not finished."""
    command = [sys.executable, "-c", MAKE, str(tmp_path / "r")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"made\n"
        yield process
        process.kill()


def make(out: Path, *, overwrite: bool = False) -> None:
    with store.being_made(out, overwrite=overwrite) as place:
        array = store.create_array(place, shape=(3,), dtype="int8", chunks=(3,))
        array.write_units((0,), np.arange(3, dtype="int8"))


@pytest.mark.parametrize("overwrite", [False, True])
def test_output_of_a_living_process_is_refused_and_of_a_killed_one_replaced(
    maker: Any, tmp_path: Path, overwrite: bool
) -> None:
    with pytest.raises(OutputExistsError, match=f"is being made by process {maker.pid}"):
        make(tmp_path / "r", overwrite=overwrite)
    maker.kill()
    maker.wait()
    make(tmp_path / "r", overwrite=overwrite)
    assert os.listdir(tmp_path) == ["r"]
    assert store.open_array(tmp_path / "r").read(((0, 3),)).tolist() == [0, 1, 2]


def test_a_link_is_replaced_and_one_to_nothing_is_refused_first(tmp_path: Path) -> None:
    (tmp_path / "r").symlink_to(tmp_path / "other")
    with pytest.raises(OptionError, match="a link to what is not there"):
        make(tmp_path / "r")
    make(tmp_path / "other")
    make(tmp_path / "r", overwrite=True)
    assert sorted(os.listdir(tmp_path)) == ["other", "r"]
    assert not (tmp_path / "r").is_symlink()
    for name in ("other", "r"):
        assert store.open_array(tmp_path / name).read(((0, 3),)).tolist() == [0, 1, 2]


@pytest.mark.parametrize("kind", ["folder", "repository"])
def test_what_a_kill_cut_short_gets_no_final_name(kind: str, tmp_path: Path) -> None:
    final = str(tmp_path / "r")
    if kind == "repository":  # which takes no object of such a name
        pytest.importorskip("icechunk")
        final = f"icechunk://{tmp_path}/r#g"
    partial = Path(str(store.partial_location(final)))
    store.create_group(partial)
    array = store.create_array(partial / "a", shape=(3,), dtype="int8", chunks=(3,))
    array.write_units((0,), np.arange(3, dtype="int8"))
    for place in (partial, partial / "a", partial / "a" / "c"):
        (place / f"zarr.{uuid.uuid4().hex}.partial").write_bytes(b"{")
    store.publish(partial, final)
    assert list(tmp_path.rglob("*.partial")) == []
    assert store.open_array(store.join(final, "a")).read(((0, 3),)).tolist() == [0, 1, 2]


def test_results_that_are_done_at_one_moment_are_all_in_their_repository(tmp_path: Path) -> None:
    pytest.importorskip("icechunk")
    places = [f"icechunk://{tmp_path}/r#some/{name}" for name in "abcd"]
    begun = threading.Barrier(len(places))

    def commit(place: str) -> None:
        partial = store.partial_location(place)
        store.create_group(partial, attributes={"of": place})
        begun.wait()
        store.publish(partial, place)

    with ThreadPoolExecutor(len(places)) as pool:
        list(pool.map(commit, places))
    assert [store.read_attributes(place)["of"] for place in places] == places
    assert os.listdir(tmp_path) == ["r"]


def test_two_calls_of_one_process_do_not_make_one_output(tmp_path: Path) -> None:
    with store.being_made(tmp_path / "r", overwrite=False) as place:
        with pytest.raises(OutputExistsError, match=f"is being made by process {os.getpid()}"):
            make(tmp_path / "r")
        store.create_array(place, shape=(5,), dtype="int8", chunks=(5,))
    assert store.open_array(tmp_path / "r").shape == (5,)


def test_what_somebody_else_replaced_gets_no_final_name(tmp_path: Path) -> None:
    with (
        pytest.raises(StoreError, match=r"r\.partial', .* replaced meanwhile"),
        store.being_made(tmp_path / "r", overwrite=False),
    ):
        store.create_group(tmp_path / "r.partial", overwrite=True)
    assert os.listdir(tmp_path) == ["r.partial"]


def test_array_of_the_user_stays(tmp_path: Path) -> None:
    store.create_array(tmp_path / "r.partial", shape=(7,), dtype="int8", chunks=(7,))
    with pytest.raises(OutputExistsError, match="something else"):
        make(tmp_path / "r", overwrite=True)
    assert store.open_array(tmp_path / "r.partial").shape == (7,)


def test_failure_leaves_what_the_next_call_replaces_or_nothing(tmp_path: Path) -> None:
    for leave in (True, False):
        with (
            pytest.raises(ZeroDivisionError),
            store.being_made(tmp_path / "r", overwrite=False, leave=leave),
        ):
            raise ZeroDivisionError
        assert (tmp_path / "r.partial").exists() == leave


@pytest.mark.parametrize("count", range(4))
def test_who_is_killed_as_he_removes_leaves_what_he_may_remove(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after any of the steps of removing, whatever the file system lists first."""
    partial = tmp_path / "r.partial"
    with pytest.raises(ZeroDivisionError), store.being_made(tmp_path / "r", overwrite=False):
        raise ZeroDivisionError
    (partial / ".leptonhpc").mkdir(exist_ok=True)
    (partial / ".leptonhpc" / "owner.json").write_text("{}")
    assert {p.name for p in partial.iterdir()} >= {"zarr.json", ".leptonhpc"}
    (partial / "made").mkdir()
    steps: list[str] = []

    def counted(act: Any) -> Any:
        def step(path: Path, *args: Any, **options: Any) -> None:
            if len(steps) == count:
                raise KeyboardInterrupt
            steps.append(path.name)
            act(path, *args, **options)

        return step

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", counted(shutil.rmtree))
        patch.setattr(Path, "unlink", counted(Path.unlink))
        if count < 3:
            with pytest.raises(KeyboardInterrupt):
                store.remove(partial)
        else:
            store.remove(partial)
    assert steps == ["made", "zarr.json", ".leptonhpc"][:count]
    require_no_maker(tmp_path / "r")  # not "something else; move it"


def test_an_emptied_journal_is_ours(tmp_path: Path) -> None:
    (tmp_path / "r.partial" / ".leptonhpc").mkdir(parents=True)
    with store.being_made(tmp_path / "r", overwrite=False) as place:
        store.create_array(place, shape=(2,), dtype="int8", chunks=(2,))
    assert [p.name for p in tmp_path.iterdir()] == ["r"]


class Killed(BaseException):
    """What no code of ours catches."""


def test_who_is_killed_as_he_writes_metadata_leaves_what_may_be_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", die)
        with pytest.raises(Killed):
            make(tmp_path / "r")
    (left,) = (tmp_path / "r.partial").iterdir()
    assert left.name != "zarr.json"
    make(tmp_path / "r")
    assert os.listdir(tmp_path) == ["r"]


def test_what_was_replaced_goes_with_the_next_output_if_a_kill_came_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "r")
    (tmp_path / "r.replaced-by-me").mkdir()

    def die(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", die)
        with pytest.raises(Killed):
            make(tmp_path / "r", overwrite=True)
    assert len(list(tmp_path.glob("r.replaced-*"))) == 2
    make(tmp_path / "r", overwrite=True)
    assert sorted(os.listdir(tmp_path)) == ["r", "r.replaced-by-me"]
