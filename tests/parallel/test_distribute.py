"""Parts: each row in one of them, chunks whole where they can be, the same keys together."""

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import leptonhpc as lh
from leptonhpc.errors import DTypeError, MemoryBudgetError, OptionError, ShapeError
from leptonhpc.parallel.cutting import cut_ranges, deal_round_robin, split_by_part
from leptonhpc.parallel.hashing import parts_of_keys
from leptonhpc.store import StoredArray

distribute = lh.parallel.distribute_data


@given(
    count=st.integers(0, 60),
    weights=st.lists(st.floats(0.1, 10), min_size=1, max_size=9),
    unit=st.integers(1, 20),
)
def test_ranges_have_each_index_once_in_order(count: int, weights: list[float], unit: int) -> None:
    ranges = cut_ranges(count, weights, unit=unit)
    assert len(ranges) == len(weights)
    assert [i for part in ranges for i in part] == list(range(count))


@given(
    count=st.integers(0, 60), parts=st.integers(1, 9), unit=st.integers(1, 20)
)  # fmt: skip
def test_dealt_parts_have_each_index_once_and_units_whole(
    count: int, parts: int, unit: int
) -> None:
    dealt = deal_round_robin(count, parts, unit=unit)
    assert sorted(i for part in dealt for i in np.asarray(part).tolist()) == list(range(count))
    for number, part in enumerate(dealt):
        assert all(i // unit % parts == number for i in np.asarray(part).tolist())


@given(weights=st.lists(st.floats(0.5, 4), min_size=1, max_size=6), unit=st.integers(1, 50))
def test_shares_are_those_of_the_weights_to_half_a_unit(weights: list[float], unit: int) -> None:
    count = 50 * 8 * len(weights)
    sizes = [len(part) for part in cut_ranges(count, weights, unit=unit)]
    for size, weight in zip(sizes, weights, strict=True):
        assert abs(size - count * weight / sum(weights)) <= unit  # half a unit at each end


def test_ranges_of_enough_chunks_end_with_chunks() -> None:
    assert all(part.start % 10 == 0 for part in cut_ranges(103, [1.0] * 4, unit=10) if part)
    assert len(cut_ranges(20, [1.0] * 4, unit=10)[0]) == 5  # fewer chunks than parts


@given(st.lists(st.integers(0, 4), max_size=40))
def test_rows_are_split_by_their_part(owner: list[int]) -> None:
    split = split_by_part(np.asarray(owner, np.int64), 5)
    for part, rows in enumerate(split):
        assert list(rows) == [i for i, of in enumerate(owner) if of == part]


def test_hashes_are_the_same_for_ever() -> None:
    keys = ["Ada", 7, 2.5, None, b"x", ("a", 1), np.datetime64("2020-01-01", "D")]
    assert parts_of_keys(keys, 1000).tolist() == HASHES


HASHES = [560, 93, 483, 268, 450, 863, 320]


def test_equal_numbers_have_equal_hashes() -> None:
    same: list[Any] = [1, 1.0, True, np.int8(1), np.float32(1)]
    assert len(set(parts_of_keys(same, 10**6).tolist())) == 1
    assert len(set(parts_of_keys([(1, "a"), (1.0, "a")], 10**6).tolist())) == 1


def test_many_keys_are_spread_evenly() -> None:
    counts = np.bincount(parts_of_keys(range(8000), 8))
    # binomial with mean 1000 and deviation 30: five of them
    assert np.all(np.abs(counts - 1000) < 150)


def test_keys_that_have_no_fixed_value_are_refused() -> None:
    with pytest.raises(DTypeError, match=r"object object.*key= a function"):
        parts_of_keys([object()], 2)
    with pytest.raises(DTypeError, match=r"\[2\], a list"):
        parts_of_keys([(1, [2])], 2)


def test_a_moment_has_one_hash_whoever_wrote_it() -> None:
    day: list[Any] = [
        np.datetime64("2020-01-01"), np.datetime64("2020-01-01", "ns"), pd.Timestamp("2020-01-01"),
        datetime.date(2020, 1, 1), datetime.datetime(2020, 1, 1),
    ]  # fmt: skip
    assert len(set(parts_of_keys(day, 10**6).tolist())) == 1
    tenth = ["2020-01-01T00:00:00.1", "2020-01-01T00:00:00.100000"]
    zone = datetime.timezone(datetime.timedelta(hours=1))
    here = datetime.datetime(2020, 1, 1, 1, tzinfo=zone)
    for same in (map(np.datetime64, tenth), [here, here.astimezone(datetime.UTC)]):
        assert len(set(parts_of_keys(same, 10**6).tolist())) == 1


def test_stored_rows_are_read_where_they_are_worked_on(
    stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[Any] = []
    read = StoredArray.read

    def counting(self: StoredArray, region: Any, out: Any = None) -> Any:
        reads.append(region[0])
        return read(self, region, out)

    monkeypatch.setattr(StoredArray, "read", counting)
    parts = list(distribute(stored, parts=5))
    assert reads == []
    whole = np.concatenate([part.load() for part in parts])
    assert all(start % 10 == 0 for start, _ in reads)  # each chunk in one part
    assert np.array_equal(whole, np.asarray(lh.open(stored)))


@pytest.mark.parametrize("how", ["round_robin", "hash"])
def test_strewn_rows_are_those_of_the_part(stored: Path, how: Any) -> None:
    labels = np.arange(103) % 7 if how == "hash" else None
    x = np.asarray(lh.open(stored))
    parts = distribute(stored, how=how, parts=3, key=labels)
    for part in parts:
        rows = np.asarray(part.data.rows)
        assert np.array_equal(part.load(), x[rows])
        if labels is not None:
            others = np.setdiff1d(np.arange(103), rows)
            assert not set(labels[rows]) & set(labels[others])
    assert sum(parts.sizes or ()) == 103


def test_tables_and_lists_of_dictionaries_are_cut_alike() -> None:
    table = pd.DataFrame({"city": list("abcab"), "n": range(5)})
    records = table.to_dict("records")
    for options in ({"how": "hash", "key": "city"}, {"how": "round_robin"}, {}):
        frames = distribute(table, parts=2, **options)
        lists = distribute(records, parts=2, **options)
        for frame, items in zip(frames, lists, strict=True):
            assert frame.data.to_dict("records") == items.data


def test_a_stream_is_taken_as_it_comes() -> None:
    taken: list[int] = []

    def numbers() -> Any:
        for i in range(7):
            taken.append(i)
            yield i

    parts = iter(distribute(numbers(), size=3))
    assert next(parts).data == [0, 1, 2]
    assert taken == [0, 1, 2]
    assert [(part.data, part.name) for part in parts] == [
        ([3, 4, 5], "items 3 to 5"), ([6], "items 6 to 6"),
    ]  # fmt: skip


def test_short_memory_makes_more_parts(stored: Path) -> None:
    wide = np.zeros((64, 1_000_000), np.float32)  # 4 MB a row
    parts = distribute(wide, memory="420 MB")
    assert max(parts.sizes or ()) * 4_000_000 * 4 <= 420_000_000
    with pytest.raises(MemoryBudgetError, match=r"needs at least memory='\d+ MB'"):
        distribute(wide, memory="1 MB")


class ArrowLike:
    """A table as PyArrow and Polars have it."""

    shape = (1, 1)
    to_pandas = None


class DaskLike:
    """A table that is not there yet."""

    shape = (None, 1)
    npartitions = 2
    iloc = None


BAD: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
    ([1], {"how": "magic"}, OptionError, "how is one of"),
    ([1], {"parts": 0}, OptionError, "parts is a whole number"),
    ([1], {"size": 2, "parts": 2}, OptionError, "instead of parts="),
    ([1], {"how": "hash"}, OptionError, "which needs it"),
    ([1], {"key": "a"}, OptionError, "which needs it"),
    ([1], {"weights": [1.0]}, OptionError, "weights= is for"),
    ([1], {"how": "weighted", "weights": [1.0, -1.0]}, OptionError, "positive numbers"),
    ([1], {"how": "weighted", "weights": [1.0], "parts": 2}, OptionError, "leave out parts="),
    ({"a": 1}, {}, OptionError, r"list\(data.items\(\)\)"),
    (iter([1]), {}, OptionError, r"size= items.*list\(data\)"),
    ([{"a": 1}, {}], {"how": "hash", "key": "a", "parts": 2}, OptionError, "not every row"),
    (np.ones(3), {"how": "hash", "key": [1], "parts": 2}, ShapeError, "1 labels for 3 rows"),
    (np.ones(3), {"how": "hash", "key": "a", "parts": 2}, OptionError, "by labels"),
    (np.float64(3), {}, ShapeError, "no dimension"),
    (3, {}, OptionError, "an array, a table or an iterable; found 3"),
    (ArrowLike(), {}, OptionError, r"of pandas; found .* ArrowLike: .*to_pandas\(\)"),
    (xr.Dataset({"a": ("t", [1.0])}), {}, OptionError, "xarray Dataset.*one of its variables"),
    (DaskLike(), {}, OptionError, r"compute\(\)"),
]


@pytest.mark.parametrize(("data", "options", "error", "message"), BAD)
def test_what_cannot_be_cut_is_refused(
    data: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        distribute(data, **options)
