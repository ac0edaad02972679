"""Appended rows are there whole or not at all, and nothing else changes."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import leptonhpc as lh
from leptonhpc import store
from leptonhpc.errors import DTypeError, OptionError, ShapeError, StoreError
from leptonhpc.store import appending as store_appending
from leptonhpc.store import leasing
from leptonhpc.store.standing import this_process
from leptonhpc.streams import append, end_stream
from leptonhpc.streams.appending import ENDED

from .forking import Forks


@pytest.mark.parametrize(("zarr_format", "sharded"), [(2, False), (3, False), (3, True)])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_rows_of_any_number_follow_each_other(
    tmp_path: Path, rng: np.random.Generator, zarr_format: int, sharded: bool, axis: int
) -> None:
    path, shape = tmp_path / "x", [5, 4, 3]
    shape[axis] = 0
    zarr.create_array(
        path, shape=shape, chunks=(3, 2, 3), shards=(6, 4, 6) if sharded else None, dtype="f4",
        zarr_format=zarr_format, attributes={"units": "K"},
    )  # fmt: skip
    pieces = []
    for length in (1, 4, 0, 7, 2):
        shape[axis] = length
        pieces.append(rng.standard_normal(shape).astype("f4"))
        total = append(path, pieces[-1], axis=axis)
        assert total == sum(piece.shape[axis] for piece in pieces)
        found = zarr.open_array(path, mode="r")
        assert np.array_equal(found[...], np.concatenate(pieces, axis=axis))
        assert found.attrs["units"] == "K"
    end_stream(path)
    assert store.read_attributes(path)["units"] == "K"


def test_the_shape_is_the_last_thing_that_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x"
    append(path, np.ones((5, 2)), chunk_rows=4)
    written: list[str] = []
    put = zarr.storage.LocalStore.set

    async def noting(self: Any, key: str, value: Any) -> None:
        await put(self, key, value)
        written.append(key)

    monkeypatch.setattr(zarr.storage.LocalStore, "set", noting)
    append(path, np.full((9, 2), 2.0))
    assert written[-1] == "zarr.json"
    assert sorted(written[:-1]) == ["c/1/0", "c/2/0", "c/3/0"]


def test_what_a_killed_writer_left_is_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x"
    append(path, np.zeros((5, 2)), chunk_rows=4)

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(zarr.Array, "resize", killed)
        with pytest.raises(KeyboardInterrupt):
            append(path, np.full((9, 2), 7.0))
    assert np.array_equal(zarr.open_array(path)[...], np.zeros((5, 2)))
    append(path, np.ones((2, 2)))
    append(path, np.full((6, 2), 3.0))
    expected = np.repeat([0.0, 1.0, 3.0], [5, 2, 6])
    assert np.array_equal(zarr.open_array(path)[...], np.column_stack([expected, expected]))


def test_a_second_writer_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    append(path, np.zeros((5, 2)), chunk_rows=4)
    as_if = store_appending._as_if_of

    def meanwhile(array: Any, shape: Any) -> Any:
        zarr.open_array(path, mode="r+").resize((6, 2))
        return as_if(array, shape)

    monkeypatch.setattr(store_appending, "_as_if_of", meanwhile)
    with pytest.raises(StoreError, match="one writer at a time"):
        append(path, np.ones((2, 2)))
    assert zarr.open_array(path).shape == (6, 2)


def test_a_second_writer_is_kept_out_before_it_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x"
    append(path, np.zeros((5, 2)), chunk_rows=4)
    as_if = store_appending._as_if_of

    def meanwhile(array: Any, shape: Any) -> Any:
        with pytest.raises(StoreError, match=r"process \d+ of .* one writer at a time"):
            append(path, np.full((2, 2), 9.0))
        with pytest.raises(StoreError, match=r"process \d+ of .* one writer at a time"):
            end_stream(path)  # it would write the old shape back, or be written over itself
        return as_if(array, shape)

    monkeypatch.setattr(store_appending, "_as_if_of", meanwhile)
    assert append(path, np.ones((2, 2))) == 7
    assert ENDED not in zarr.open_array(path).attrs
    assert np.array_equal(zarr.open_array(path)[:, 0], [0, 0, 0, 0, 0, 1, 1])
    assert not (path / leasing.NAME).exists()


def test_the_end_of_what_is_no_stream_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="x"):
        end_stream(tmp_path / "x")
    (tmp_path / "x").mkdir()
    with pytest.raises(StoreError):
        end_stream(tmp_path / "x")
    assert not list((tmp_path / "x").iterdir())


def test_the_lease_of_a_dead_writer_is_taken_that_of_another_machine_after_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x"
    append(path, np.zeros((2, 1)))
    for left in ("", json.dumps({**this_process(), "process_began": 0.0})):
        (path / leasing.NAME).write_text(left)
        append(path, np.ones((1, 1)))
    monkeypatch.setattr(leasing, "PATIENCE_SECONDS", 0.3)
    (path / leasing.NAME).write_text(json.dumps({**this_process(), "system": "another"}))
    append(path, np.ones((1, 1)))
    assert sorted(p.name for p in path.iterdir()) == ["c", "zarr.json"]
    assert zarr.open_array(path).shape == (5, 1)


@pytest.mark.parametrize(
    ("dtype", "values", "row"),
    [
        ("i2", [[1.7, np.nan]], 0),
        ("i2", [[1, 2], [70000, -3]], 1),
        ("u8", np.array([[1, 2], [3, -1]], "i1"), 1),
        ("i8", np.array([[1, 2**63]], "u8"), 0),
        ("f4", [[1, 2], [3, 4], [5, 2**24 + 1]], 2),
        ("f4", [[1.0, 2.0], [1e300, np.inf]], 1),
        ("f8", [[1j, 2.0]], 0),
    ],
)
def test_numbers_that_the_array_cannot_hold_are_refused(
    tmp_path: Path, dtype: str, values: Any, row: int
) -> None:
    append(tmp_path / "x", np.ones((3, 2), dtype))
    with pytest.raises(DTypeError, match=f"cannot keep the .*: row {row} of them is"):
        append(tmp_path / "x", values)
    assert np.array_equal(zarr.open_array(tmp_path / "x")[...], np.ones((3, 2), dtype))


@pytest.mark.parametrize(
    ("dtype", "values"),
    [("u2", [[1, 65535]]), ("f4", [[0.1, np.nan]]), ("f4", [[1, 2]]), ("c8", [[0.5, np.inf]])],
)
def test_numbers_that_the_array_can_hold_are_cast(tmp_path: Path, dtype: str, values: Any) -> None:
    append(tmp_path / "x", np.ones((1, 2), dtype))
    append(tmp_path / "x", values)
    found = zarr.open_array(tmp_path / "x")[1:]
    assert np.array_equal(found, np.asarray(values).astype(dtype), equal_nan=True)


WRITER = """
import sys
import numpy as np
import leptonhpc as lh
for i in range(10_000):
    n = 1 + i % 5
    lh.streams.append(sys.argv[1], np.full((n, 3), 1.0), chunk_rows=4)
"""


def test_a_reader_never_sees_a_row_that_is_not_written(tmp_path: Path, fork: Forks) -> None:
    """All rows are ones, and the fill value is zero: a writer is killed again and again."""
    path = tmp_path / "x"
    lengths = []
    for _ in range(3):
        writer = fork(WRITER, path)
        began, first = time.monotonic(), lengths[-1] if lengths else 0
        while (lengths[-1] if lengths else 0) < first + 60:
            assert time.monotonic() < began + 600
            assert writer.poll() is None
            if not path.exists() or not (path / "zarr.json").exists():
                time.sleep(0.01)
                continue
            x = zarr.open_array(path, mode="r")
            assert np.all(x[...] == 1.0)
            lengths.append(x.shape[0])
        writer.kill()
        writer.wait()
    assert lengths == sorted(lengths)
    assert np.all(zarr.open_array(path)[...] == 1.0)


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    append(tmp_path / "x", np.zeros((5, 2)))
    with pytest.raises(ShapeError, match=r"has shape \(5, 2\).*found \(1, 3\)"):
        append(tmp_path / "x", np.zeros((1, 3)))
    with pytest.raises(ShapeError, match=r"found \(2,\)"):
        append(tmp_path / "x", np.zeros(2))
    with pytest.raises(ShapeError, match="single number"):
        append(tmp_path / "y", 3.0)
    with pytest.raises(OptionError, match="axis is from -2 to 1"):
        append(tmp_path / "x", np.zeros((1, 2)), axis=2)
    with pytest.raises(OptionError, match="chunk_rows"):
        append(tmp_path / "y", np.zeros((1, 2)), chunk_rows=0)
    with pytest.raises(DTypeError, match="2 values are masked"):
        append(tmp_path / "y", np.ma.masked_equal(np.eye(2), 1))
    with pytest.raises(DTypeError, match="found dtype <U1"):
        append(tmp_path / "y", [["a"]])
    assert lh.open(tmp_path / "x").shape == (5, 2)
    assert not (tmp_path / "y").exists()
