"""What is appended is given once, whatever is killed and whenever."""

import os
import pickle
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import leptonhpc as lh
from leptonhpc.errors import (
    MemoryBudgetError,
    OptionError,
    OutputExistsError,
    StoreError,
    StreamError,
)
from leptonhpc.store import StoredArray, leasing
from leptonhpc.streams import append, end_stream

from .forking import Forks


def numbered(start: int, stop: int) -> Any:
    return np.arange(start, stop, dtype=np.float64)[:, np.newaxis] * [1.0, 10.0]


@pytest.fixture
def stream(tmp_path: Path) -> Path:
    append(tmp_path / "x", numbered(0, 10), chunk_rows=4)
    return tmp_path / "x"


def test_rows_are_given_while_they_are_appended(stream: Path) -> None:
    def write() -> None:
        for start in range(10, 40, 6):
            time.sleep(0.02)
            append(stream, numbered(start, start + 6))
        end_stream(stream)

    writer = threading.Thread(target=write)
    writer.start()
    slabs = list(lh.watch(stream, poll_seconds=0.01))
    writer.join()
    assert [slab.start for slab in slabs] == [0, *(slab.stop for slab in slabs[:-1])]
    assert np.array_equal(np.concatenate([slab.values for slab in slabs]), numbered(0, 40))


def test_slabs_of_given_rows_are_the_same_whenever_it_looks(stream: Path) -> None:
    end_stream(stream)
    assert [s.stop for s in lh.watch(stream, rows=4)] == [4, 8, 10]
    append(stream, numbered(10, 13))
    assert [s.stop for s in lh.watch(stream, rows=4)] == [4, 8, 12, 13]


def test_any_axis_may_grow(tmp_path: Path, rng: np.random.Generator) -> None:
    x = rng.standard_normal((3, 7, 2))
    append(tmp_path / "x", x[:, :4], axis=1)
    watcher = lh.watch(tmp_path / "x", axis=1, timeout_seconds=0.0)
    assert np.array_equal(next(watcher).values, x[:, :4])
    append(tmp_path / "x", x[:, 4:], axis=1)
    assert np.array_equal(next(watcher).values, x[:, 4:])
    assert list(watcher) == []


def test_an_end_that_comes_with_rows_loses_none(stream: Path) -> None:
    """In version 2, shape and attributes are two objects: it looks once more."""
    watcher = lh.watch(stream, poll_seconds=0.01, timeout_seconds=5.0)
    look = watcher._look

    def late() -> Any:
        array = look()
        if array.attributes.get("leptonhpc_stream_ended"):
            watcher._look = look  # type: ignore[method-assign]
            append(stream, numbered(10, 12))  # what it did not see yet
        return array

    assert next(watcher).stop == 10
    end_stream(stream)
    watcher._look = late  # type: ignore[method-assign]
    assert [slab.stop for slab in watcher] == [12]


def test_slabs_fit_in_memory_and_end_with_chunks(tmp_path: Path) -> None:
    row = np.zeros((40, 250_000))  # 2 MB a row
    append(tmp_path / "x", row, chunk_rows=3)
    end_stream(tmp_path / "x")
    budget = 340_000_000
    slabs = list(lh.watch(tmp_path / "x", memory=budget))
    assert all(slab.values.nbytes * 3 <= budget for slab in slabs)
    assert len(slabs) > 1
    assert all(slab.stop % 3 == 0 for slab in slabs[:-1])
    with pytest.raises(MemoryBudgetError, match="slabs of 40 rows .* need at least memory='"):
        lh.watch(tmp_path / "x", rows=40, memory=budget)


def test_a_new_watcher_goes_on_after_the_last_commit(stream: Path, tmp_path: Path) -> None:
    with lh.watch(stream, state=tmp_path / "s", rows=3) as watcher:
        assert watcher.state is None
        next(watcher)
        watcher.commit({"sum": 1.5})
        next(watcher)  # given and not committed
    with lh.watch(stream, state=tmp_path / "s", rows=3) as watcher:
        assert watcher.state == {"sum": 1.5}
        assert next(watcher).start == 3


CONSUMER = """
import sys
import leptonhpc as lh

stream, state = sys.argv[1:]
with lh.watch(stream, state=state, poll_seconds=0.005) as slabs:
    counts, model = slabs.state or ({}, lh.streams.IncrementalSVD(2, spare=0))
    for slab in slabs:
        for number in slab.values[:, 0].tolist():
            counts[int(number)] = counts.get(int(number), 0) + 1
        model.partial_fit(slab.values)
        slabs.commit((counts, model))
"""
WRITER = """
import sys, time
from pathlib import Path
import numpy as np
import leptonhpc as lh

stream, most = sys.argv[1], Path(sys.argv[2])
start = lh.open(stream).shape[0]
while start < 250:
    while start >= int(most.read_text()):  # until so often somebody was killed
        time.sleep(0.002)
    stop = min(start + 1 + start % 7, 250)
    rows = np.arange(start, stop, dtype=np.float64)[:, np.newaxis] * [1.0, 10.0]
    start = lh.streams.append(stream, rows)
    time.sleep(0.01)
lh.streams.end_stream(stream)
"""


def test_each_row_is_counted_once_whenever_consumer_and_writer_are_killed(
    stream: Path, tmp_path: Path, fork: Forks
) -> None:
    moments = random.Random(5)
    most, committed = tmp_path / "most", tmp_path / "s" / "stream-position"
    commands = {"writer": (WRITER, stream, most), "consumer": (CONSUMER, stream, tmp_path / "s")}
    deadline = time.monotonic() + 600

    def let_write(rows: int) -> None:
        most.with_suffix(".new").write_text(str(rows))
        most.with_suffix(".new").replace(most)

    def last_commit() -> bytes:
        return committed.read_bytes() if committed.exists() else b""

    def wait_until(condition: Callable[[], bool]) -> None:
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.001)

    let_write(10)
    running = {name: fork(*command) for name, command in commands.items()}
    for kills in range(8):
        before = last_commit()
        let_write(35 + 25 * kills)
        # until something was committed again, then a moment that falls anywhere
        wait_until(lambda before=before: last_commit() != before)
        time.sleep(moments.random() * 0.05)
        for name in ("consumer", "writer") if kills % 3 == 0 else ("consumer",):
            assert running[name].poll() is None  # there is more to come
            running[name].kill()
            running[name].wait()
            running[name] = fork(*commands[name])
    let_write(250)
    wait_until(lambda: None not in [process.poll() for process in running.values()])
    assert [process.returncode for process in running.values()] == [0, 0]
    _, position = pickle.loads(committed.read_bytes())
    counts, model = position.state
    assert counts == dict.fromkeys(range(250), 1)
    s = np.linalg.svd(numbered(0, 250), compute_uv=False)
    # rank one; a stable SVD of few rows for each of at most 250 slabs
    assert np.abs(model.s[0] - s[0]) <= 4 * 16 * 250 * np.finfo(float).eps * s[0]
    assert model.rows == 250


def test_a_commit_is_whole_or_not_there(
    stream: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = lh.watch(stream, state=tmp_path / "s", rows=3)
    next(watcher)
    watcher.commit("first")
    next(watcher)
    with pytest.raises(StoreError, match="state cannot be kept"):
        watcher.commit(threading.Lock())
    watcher.close()
    again = lh.watch(stream, state=tmp_path / "s", rows=3)
    assert (again.state, again.position) == ("first", 3)


def test_two_living_processes_do_not_share_a_state(
    stream: Path, tmp_path: Path, fork: Forks
) -> None:
    code = (
        "import sys, time, leptonhpc as lh; x = lh.watch(sys.argv[1], state=sys.argv[2]);"
        "open(sys.argv[3], 'w').close(); time.sleep(3600)"
    )
    other = fork(code, stream, tmp_path / "s", tmp_path / "begun")
    while not (tmp_path / "begun").exists():
        assert other.poll() is None
        time.sleep(0.001)
    with pytest.raises(StreamError, match=f"process {other.pid} of .* watches with the state"):
        lh.watch(stream, state=tmp_path / "s")
    other.kill()
    other.wait()
    assert next(lh.watch(stream, state=tmp_path / "s")).start == 0


def test_an_old_watcher_rolls_nothing_back(stream: Path, tmp_path: Path) -> None:
    first = lh.watch(stream, state=tmp_path / "s", rows=3)
    next(first)
    first.commit("first")
    with pytest.raises(StreamError, match="That is this process: close the other watcher"):
        lh.watch(stream, state=tmp_path / "s", rows=3)
    second = lh.watch(stream, state=tmp_path / "s", rows=3, takeover=True)
    next(second)
    second.commit("second")
    next(first)
    with pytest.raises(StreamError, match="no longer this watcher's"):
        first.commit("late")
    first.close()
    second.close()
    with pytest.raises(StreamError, match="no longer this watcher's"):
        second.commit("closed")
    third = lh.watch(stream, state=tmp_path / "s", rows=3)
    assert (third.position, third.state) == (6, "second")
    del third  # what nothing refers to keeps nobody out
    assert lh.watch(stream, state=tmp_path / "s", rows=3).position == 6


def test_a_watcher_on_another_machine_is_alive_until_it_is_silent(
    stream: Path, tmp_path: Path, fork: Forks, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import sys, time, leptonhpc as lh;"
        "from leptonhpc.store import leasing, standing;"
        "leasing.BEAT_SECONDS = 0.02; standing.this_system = lambda: 'another';"
        "x = lh.watch(sys.argv[1], state=sys.argv[2], rows=3); next(x); x.commit('first');"
        "open(sys.argv[3], 'w').close(); time.sleep(3600)"
    )
    other = fork(code, stream, tmp_path / "s", tmp_path / "begun")
    while not (tmp_path / "begun").exists():
        assert other.poll() is None
        time.sleep(0.001)
    monkeypatch.setattr(leasing, "_LOOK_SECONDS", 0.02)
    with pytest.raises(StreamError, match=r"gives signs of life.*takeover=True"):
        lh.watch(stream, state=tmp_path / "s", rows=3)
    other.kill()
    other.wait()
    monkeypatch.setattr(leasing, "PATIENCE_SECONDS", 0.2)
    second = lh.watch(stream, state=tmp_path / "s", rows=3)
    assert (second.state, second.position) == ("first", 3)
    second.close()
    assert os.listdir(tmp_path / "s") == ["stream-position"]


def test_what_a_killed_watcher_left_before_its_first_position_is_taken(
    stream: Path, tmp_path: Path
) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "stream-owner").write_text("")
    with lh.watch(stream, state=tmp_path / "s", rows=3) as watcher:
        assert next(watcher).start == 0


def test_a_stream_that_shrank_or_became_another_is_an_error(stream: Path, tmp_path: Path) -> None:
    watcher = lh.watch(stream, timeout_seconds=0.0)
    next(watcher)
    zarr.open_array(stream, mode="r+").resize((5, 2))
    with pytest.raises(StreamError, match="shrank to 5 rows, of which 10 were taken"):
        next(watcher)
    zarr.create_array(stream, shape=(20, 2), dtype="f8", overwrite=True)
    with pytest.raises(StreamError, match="row 9 .* is not what it was when it was taken"):
        next(watcher)
    zarr.create_array(stream, shape=(20, 2), dtype="f4", overwrite=True)
    with pytest.raises(StreamError, match="float64.* before, float32"):
        next(watcher)
    zarr.create_array(stream, shape=(20, 3), dtype="f8", overwrite=True)
    with pytest.raises(StreamError, match="became another array"):
        next(watcher)


def test_a_stream_made_anew_while_it_is_read_is_an_error(
    stream: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = lh.watch(stream, rows=5, timeout_seconds=0.0)
    next(watcher)
    read = StoredArray.read

    def replacing(self: StoredArray, region: Any, out: Any = None) -> Any:
        found = read(self, region, out)
        if not self.attributes.get("new"):
            made = zarr.create_array(stream, shape=(10, 2), dtype="f8", overwrite=True)
            made.attrs["new"] = True
        return found

    monkeypatch.setattr(StoredArray, "read", replacing)
    for _ in range(2):
        with pytest.raises(StreamError, match="row 4 .* is not what it was when it was taken"):
            next(watcher)
        assert watcher.position == 5


def test_a_state_of_another_stream_is_refused(stream: Path, tmp_path: Path) -> None:
    with lh.watch(stream, state=tmp_path / "s") as watcher:
        next(watcher)
        watcher.commit()
    append(tmp_path / "other", numbered(100, 110))
    with pytest.raises(StreamError, match="row 9 of the stream .* is not what it was"):
        lh.watch(tmp_path / "other", state=tmp_path / "s")
    append(tmp_path / "wide", np.zeros((10, 3)))
    with pytest.raises(StreamError, match="belongs to another stream"):
        lh.watch(tmp_path / "wide", state=tmp_path / "s")
    append(tmp_path / "short", numbered(0, 4))
    with pytest.raises(StreamError, match="shrank to 4 rows"):
        lh.watch(tmp_path / "short", state=tmp_path / "s")
    with lh.watch(stream, state=tmp_path / "s", timeout_seconds=0.0) as watcher:
        assert list(watcher) == []


def test_a_folder_of_the_user_is_no_state(stream: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    with pytest.raises(OutputExistsError, match="holds no position"):
        lh.watch(stream, state=tmp_path / "mine")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rows": 0}, "rows is a whole number"),
        ({"axis": 2}, "axis is from -2 to 1"),
        ({"poll_seconds": -1}, "poll_seconds is a duration"),
        ({"timeout_seconds": float("nan")}, "timeout_seconds is a duration"),
    ],
)
def test_options_without_meaning_are_refused(
    stream: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        lh.watch(stream, **options)


def test_commit_needs_a_place_and_the_stream_must_be_there(stream: Path, tmp_path: Path) -> None:
    watcher = lh.watch(stream)
    next(watcher)
    with pytest.raises(OptionError, match="give watch state="):
        watcher.commit()
    with pytest.raises(StoreError, match="nothing is stored"):
        lh.watch(tmp_path / "nowhere")
