"""Parts worked on in this process: in order, a bounded number at once, kept, and not done twice."""

import functools
import importlib
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import leptonhpc as lh
from leptonhpc.errors import JobMismatchError, OptionError, OutputExistsError, WorkerError
from leptonhpc.parallel.digests import digest_of, digest_of_function

process, aggregate = lh.parallel.parallel_process, lh.parallel.aggregate_results


def square(x: int) -> int:
    return x * x


def cube(x: int) -> int:
    return x * x * x


def test_values_come_in_the_order_of_the_parts() -> None:
    last_is_done = threading.Event()

    def last_is_first(i: int) -> int:
        last_is_done.set() if i == 3 else last_is_done.wait()
        return i

    assert list(process(last_is_first, range(4), lanes=4)) == [0, 1, 2, 3]


def test_values_are_given_as_they_come_if_asked_for() -> None:
    last_is_given = threading.Event()

    def last_is_first(i: int) -> int:
        if i < 3:
            last_is_given.wait()
        return i

    results = process(last_is_first, range(4), lanes=4)
    found = results.as_completed()
    assert next(found) == (3, 3)
    last_is_given.set()
    assert sorted(found) == [(i, i) for i in range(3)]
    assert results.report.parts == 4
    assert sum(results.report.where.values()) == 4


def test_nothing_runs_before_a_value_is_asked_for_and_nothing_after_close() -> None:
    ran: list[int] = []
    results = process(ran.append, range(100), lanes=1, in_flight=2)
    assert ran == []
    next(results)
    results.close()
    assert 1 <= len(ran) <= 3
    assert list(results) == []
    assert not [t for t in threading.enumerate() if t.name.startswith("leptonhpc-part")]


@pytest.mark.parametrize("in_flight", [1, 3])
def test_no_more_parts_are_begun_than_may_be(in_flight: int) -> None:
    begun = 0

    def numbers() -> Iterator[int]:
        nonlocal begun
        for i in range(20):
            begun += 1
            yield i

    for taken, _ in enumerate(process(square, numbers(), lanes=4, in_flight=in_flight)):
        assert begun <= taken + 1 + in_flight


def test_a_slow_part_does_not_let_others_pile_up() -> None:
    begun: list[int] = []
    go_on = threading.Event()

    def work(i: int) -> int:
        begun.append(i)
        if i == 0:
            go_on.wait(10)
        return i

    results = process(work, range(50), lanes=2, in_flight=5)
    threading.Timer(0.3, go_on.set).start()
    assert next(results) == 0
    assert len(begun) <= 5 + 1
    assert list(results) == list(range(1, 50))


def test_an_exception_is_the_users_own_and_names_the_part(stored: Path) -> None:
    def fail(rows: Any) -> None:
        raise KeyError("no such thing")

    with pytest.raises(KeyError, match="no such thing") as caught:
        list(process(fail, lh.parallel.distribute_data(stored, parts=5)))
    note = caught.value.__notes__[-1]
    assert re.match(r"in part [0-4] \(rows \d+ to \d+ of '", note)  # all fail; one is first
    assert "fail" in "".join(str(frame) for frame in caught.traceback)


def test_stop_iteration_does_not_end_the_callers_loop() -> None:
    with pytest.raises(WorkerError, match="raised StopIteration") as caught:
        list(process(lambda part: next(iter(part)), [[1], []]))
    assert isinstance(caught.value.__cause__, StopIteration)
    assert caught.value.__notes__[-1].startswith("in part 1 (item 1)")


def test_an_exception_of_the_users_iterator_ends_it() -> None:
    def numbers() -> Iterator[int]:
        yield 1
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(process(square, numbers()))


def test_random_numbers_depend_on_seed_and_part_only() -> None:
    def draw(n: int, *, rng: np.random.Generator) -> Any:
        return rng.standard_normal(n)

    one = list(process(draw, [4] * 6, seed=5, lanes=1))
    four = list(process(draw, [4] * 6, seed=5, lanes=4))
    assert np.array_equal(one, four)
    third = np.random.Generator(np.random.Philox(key=[5, 2])).standard_normal(4)
    assert np.array_equal(one[2], third)
    assert len(np.unique(one)) == 24
    assert not np.array_equal(one, list(process(draw, [4] * 6, seed=6)))


def test_arrays_are_cut_by_themselves(stored: Path) -> None:
    total = aggregate(process(functools.partial(np.sum, axis=0), stored))
    expected = np.asarray(lh.open(stored)).sum(0)
    # both sums have an error below 103 eps / 2 of the sum of magnitudes
    bound = 103 * np.finfo(float).eps * np.abs(np.asarray(lh.open(stored))).sum(0)
    assert np.all(np.abs(total - expected) <= bound)


def test_finished_parts_are_not_done_again(tmp_path: Path) -> None:
    ran: list[int] = []

    def work(i: int) -> int:
        ran.append(i)
        return i * i

    out = tmp_path / "kept"
    first = process(work, range(10), out=out, version="1", lanes=1, in_flight=1)
    assert [next(first), next(first), next(first)] == [0, 1, 4]
    first.close()
    again = process(work, range(10), out=out, version="1")
    assert list(again) == [i * i for i in range(10)]
    assert sorted(ran) == list(range(10))
    assert (again.report.kept, again.report.parts) == (3, 7)


def test_a_failed_part_is_done_again_and_the_others_are_not(tmp_path: Path) -> None:
    ran: list[int] = []
    broken = [True]

    def work(i: int) -> int:
        ran.append(i)
        if i == 2 and broken[0]:
            raise OSError("disk")
        return i

    out = tmp_path / "kept"
    with pytest.raises(OSError, match="disk"):
        list(process(work, range(4), out=out, version="1", lanes=1, in_flight=1))
    broken[0] = False
    assert list(process(work, range(4), out=out, version="1")) == [0, 1, 2, 3]
    assert sorted(ran) == [0, 1, 2, 2, 3]


KILLED = """
import os, sys, time
import leptonhpc as lh

def work(i):
    with open(sys.argv[2], "ab") as log:
        log.write(b"%d\\n" % i)
    time.sleep(0.02)
    return i * i

results = lh.parallel.parallel_process(work, range(40), out=sys.argv[1], in_flight=4)
print(lh.parallel.aggregate_results(results), results.report.kept)
"""


def test_a_killed_process_goes_on_where_it_was(tmp_path: Path) -> None:
    script, out, log = tmp_path / "job.py", tmp_path / "kept", tmp_path / "log"
    script.write_text(textwrap.dedent(KILLED))
    command = [sys.executable, str(script), str(out), str(log)]
    kills = 0
    for wanted in (5, 20):
        doomed = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 600
        while not log.exists() or log.read_bytes().count(b"\n") < wanted:
            assert time.monotonic() < deadline
            assert doomed.poll() is None
            time.sleep(0.005)
        doomed.send_signal(signal.SIGKILL)
        doomed.wait()
        kills += 1
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    total, kept = map(int, done.stdout.split())
    assert total == sum(i * i for i in range(40))
    # of the 20 lines, at most four parts each time were begun and not kept
    assert kept >= 20 - kills * 4
    times = np.bincount([int(line) for line in log.read_text().split()], minlength=40)
    assert times.min() == 1
    assert (times - 1).sum() <= kills * 4


def test_kept_results_of_another_job_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "kept"
    assert list(process(square, range(3), out=out)) == [0, 1, 4]
    with pytest.raises(JobMismatchError, match="function was"):
        process(cube, range(3), out=out)
    with pytest.raises(JobMismatchError, match="seed was None, is 1"):
        process(square, range(3), out=out, seed=1)
    with pytest.raises(JobMismatchError, match="another part 0 than item 0"):
        list(process(square, range(5, 8), out=out))
    assert list(process(square, range(5, 8), out=out, overwrite=True)) == [25, 36, 49]


def test_results_belong_to_the_array_as_it_was(tmp_path: Path) -> None:
    x = tmp_path / "x.zarr"
    lh.streams.append(x, np.ones((4, 2)), chunk_rows=2)
    parts = {"parts": 2}
    out = tmp_path / "kept"
    list(process(np.sum, lh.parallel.distribute_data(x, **parts), out=out))
    lh.streams.append(x, np.ones((2, 2)))
    with pytest.raises(JobMismatchError, match="the data, or how they are cut"):
        list(process(np.sum, lh.parallel.distribute_data(x, **parts), out=out))


def test_a_folder_of_the_user_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    with pytest.raises(OutputExistsError, match="holds no results"):
        process(square, range(3), out=tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "all of it"


def test_digests_tell_functions_apart_but_not_where_they_stand() -> None:
    def make(source: str) -> Any:
        names: dict[str, Any] = {}
        exec(source, names)
        return names["f"]

    plain = digest_of_function(make("def f(x):\n    return x + 1"))
    assert plain == digest_of_function(make("\n\n# moved\ndef f(x):\n    return x + 1"))
    assert plain != digest_of_function(make("def f(x):\n    return x + 2"))
    assert plain != digest_of_function(make("def f(x):\n    return x - 1"))
    inner = "def f(x):\n    return [y + {} for y in x]"
    assert digest_of_function(make(inner.format(1))) != digest_of_function(make(inner.format(2)))
    scaled = "k = {}\ndef g(x):\n    return x * {}\ndef f(x):\n    return [g(y) + k for y in x]"
    versions = [make(scaled.format(*each)) for each in ((1, 1), (2, 1), (1, 2), (1, 1))]
    digests = [digest_of_function(version) for version in versions]
    assert len(set(digests)) == 3
    assert digests[0] == digests[3]

    def closed(k: int) -> Any:
        return lambda x: x + k

    assert digest_of_function(closed(1)) == digest_of_function(closed(1))
    assert digest_of_function(closed(1)) != digest_of_function(closed(2))
    itself = make("def f(x):\n    return f(x - 1) if x else 0")
    assert digest_of_function(itself) == digest_of_function(itself)
    first, second = functools.partial(pow, 2), functools.partial(pow, 3)
    assert digest_of_function(first) != digest_of_function(second)


@dataclass
class Settings:
    k: int

    def scaled(self, x: int) -> int:
        return x * self.k


TABLE = {"k": 1}


def of_table(x: int) -> int:
    return x * TABLE["k"]


def closing(held: Any) -> Any:
    return lambda x: (x, held)


HELD = [
    (lambda k: closing({"k": [k]})), (lambda k: closing(Settings(k))),
    (lambda k: Settings(k).scaled), (lambda k: closing({Settings: {k}})),
    (lambda k: closing(pd.DataFrame({"k": [k]}))), (lambda k: closing(pd.Series([k]))),
]  # fmt: skip


@pytest.mark.parametrize("make", HELD)
def test_what_a_function_holds_counts_of_whatever_kind_it_is(make: Any) -> None:
    assert digest_of_function(make(1)) == digest_of_function(make(1))
    assert digest_of_function(make(1)) != digest_of_function(make(2))


def test_a_changed_table_of_the_module_is_another_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list(process(of_table, [1, 2], out=tmp_path / "r")) == [1, 2]
    monkeypatch.setitem(TABLE, "k", 100)
    with pytest.raises(JobMismatchError, match="function was"):
        process(of_table, [1, 2], out=tmp_path / "r")


def test_helpers_in_other_modules_of_the_user_count_by_their_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    digests = []
    for k in (1, 2):
        (tmp_path / "my_helper.py").write_text(f"def times(x):\n    return x * {k}\n" + "#" * k)
        sys.modules.pop("my_helper", None)
        importlib.invalidate_caches()
        helper = importlib.import_module("my_helper")
        used: list[dict[str, Any]] = [{"helper": helper}, {"times": helper.times}]
        exec("def f(x):\n    return helper.times(x)", used[0])
        exec("def f(x):\n    return times(x)", used[1])
        digests += [digest_of_function(each["f"]) for each in used]
    sys.modules.pop("my_helper", None)
    assert len(set(digests)) == 4


def test_what_cannot_be_told_apart_needs_a_version(tmp_path: Path) -> None:
    stream = iter(i for i in range(3))

    def work(i: int) -> int:
        return i if stream is not None else 0

    assert list(process(work, [1])) == [1]
    with pytest.raises(OptionError, match="Give version="):
        process(work, [1], out=tmp_path / "r")
    assert list(process(work, [1], out=tmp_path / "r", version="1")) == [1]
    with pytest.raises(JobMismatchError, match="function was"):
        process(work, [1], out=tmp_path / "r", version="2")


def test_digests_of_sets_are_the_same_in_every_process() -> None:
    code = (
        "from leptonhpc.parallel.digests import digest_of;"
        "print(digest_of([{'a', 'b', 'c'}, 'x' * 3, 1.5]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONHASHSEED": "1"},
    )  # fmt: skip
    assert done.stdout.strip() == digest_of([{"c", "b", "a"}, "xxx", 1.5])


def test_digests_tell_masks_apart() -> None:
    masks = ([True, False], [False, True], [False, False])
    assert len({digest_of(np.ma.masked_array([1, 2], mask)) for mask in masks}) == 3


BAD: list[tuple[Any, Any, dict[str, Any], str]] = [
    (3, [1], {}, "function is what"),
    (square, 3, {}, "parts are an iterable"),
    (square, [1], {"seed": -1}, "seed is a whole number from 0"),
    (square, [1], {"in_flight": 0}, "in_flight is a whole number from 1"),
    (square, [1], {"lanes": 1.5}, "lanes is a whole number from 1"),
    (square, [1], {"version": "1"}, "version is a text, for results that out= keeps"),
]


@pytest.mark.parametrize(("function", "parts", "options", "message"), BAD)
def test_what_has_no_meaning_is_refused(
    function: Any, parts: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        process(function, parts, **options)
