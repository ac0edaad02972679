"""What comes in any order, with any names, is in Zarr as what it was; what cannot be is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.sparse import coo_array, csr_array

from leptonhpc import store
from leptonhpc.errors import (
    DTypeError,
    MemoryBudgetError,
    NonFiniteError,
    NotAnArrayError,
    OptionError,
    OutputExistsError,
    ShapeError,
    StoreError,
)
from leptonhpc.recommend import open_ratings, read_triples, store_ratings
from leptonhpc.recommend.stored_sides import StoredSide


def shuffled(ratings: csr_array, seed: int = 1) -> tuple[Any, Any, Any]:
    order = np.random.default_rng(seed).permutation(ratings.nnz)
    coo = coo_array(ratings)
    return coo.row[order], coo.col[order], coo.data[order]


def test_stored_ratings_are_the_matrix_whatever_the_blocks(
    ratings: csr_array, tmp_path: Path
) -> None:
    for number, most in enumerate((30, None)):
        found = store_ratings(ratings, tmp_path / f"{number}", block_ratings=most)
        assert abs(found.to_scipy() - ratings).max() == 0
        again = open_ratings(str(tmp_path / f"{number}"))
        assert again.mean == pytest.approx(float(ratings.data.mean(dtype="f8")), rel=1e-12)
        assert again.least == open_ratings(ratings).least
        by_item = [again.by_item.read(n) for n in range(len(again.by_item.edges) - 1)]
        dense = np.zeros(ratings.shape[::-1], "f4")
        for block in by_item:
            for row in range(block.first, block.first + block.rows):
                columns, values = block.row(row)
                dense[row, columns] = values
        assert np.array_equal(dense.T, ratings.toarray())


def test_bucket_after_bucket_gives_what_one_sort_gives(
    ratings: csr_array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from leptonhpc.recommend import spilling, storing

    def store(name: str) -> Any:
        batches = zip(*(np.array_split(a, 7) for a in shuffled(ratings)), strict=True)
        return store_ratings(batches, tmp_path / name, shape=ratings.shape, block_ratings=40)

    whole = store("whole")
    cuts: list[int] = []
    real = spilling.cut_buckets

    def small(pointers: Any, edges: Any, most: int) -> Any:
        ends = real(pointers, edges, 60)
        cuts.append(len(ends))
        return ends

    monkeypatch.setattr(storing, "cut_buckets", small)
    monkeypatch.setattr(storing, "_PIECE", 37)
    cut = store("cut")
    assert min(cuts) > 5
    assert abs(cut.to_scipy() - whole.to_scipy()).max() == 0
    for side in ("by_user", "by_item"):
        a, b = getattr(cut, side), getattr(whole, side)
        for number in range(len(a.edges) - 1):
            assert np.array_equal(a.read(number).values, b.read(number).values)
            assert np.array_equal(a.read(number).columns, b.read(number).columns)


@pytest.mark.parametrize("labels", ["text", "integer"])
def test_labels_are_kept_and_sorted(labels: str, tmp_path: Path) -> None:
    users: Any = ["zoë", "ann", "zoë", "bob"]
    items: Any = ["b", "b", "aa", "c"]
    if labels == "integer":
        users, items = [90, -3, 90, 7], [5, 5, 2**40, 6]
    found = store_ratings((users, items, [1, 2, 3, 4]), tmp_path / "r")
    assert found.user_labels is not None
    assert found.user_labels.tolist() == sorted(set(users))
    seen, values = found.of_user(users[0])
    assert dict(zip(seen.tolist(), values.tolist(), strict=True)) == {items[0]: 1, items[2]: 3}
    with pytest.raises(OptionError, match="there is no user"):
        found.of_user("carl" if labels == "text" else 8)


def test_text_file_is_read_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from leptonhpc.recommend import triples

    monkeypatch.setattr(triples, "_BATCH", 2)
    path = tmp_path / "r.csv"
    path.write_text('when,item,who,stars\n1,"a, b",ann,3\n2,c,bob,4.5\n3,c,ann,1\n')
    batches = list(read_triples(path, columns=("who", "item", "stars")))
    assert [len(batch[0]) for batch in batches] == [2, 1]
    found = store_ratings(iter(batches), tmp_path / "r")
    seen, values = found.of_user("ann")
    assert dict(zip(seen.tolist(), values.tolist(), strict=True)) == {"a, b": 3.0, "c": 1.0}
    tabs = tmp_path / "r.tsv"
    tabs.write_text("5\t6\t1\n")
    assert [c.tolist() for c in next(read_triples(tabs, delimiter="\t", header=False))] == [
        ["5"], ["6"], [1.0],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("u,i,r\na,b,2\na,c\n", ShapeError, "line 3 of .* has 2 columns"),
        ("u,i,r\na,b,2\na,c,four\n", DTypeError, "line 3 of .* has 'four'"),
        ("u,i,s\na,b,2\n", StoreError, "no column 'r'; its columns are u, i, s"),
    ],
)
def test_text_file_that_is_damaged_is_refused_with_the_line(
    tmp_path: Path, text: str, error: type[Exception], message: str
) -> None:
    (tmp_path / "r.csv").write_text(text)
    with pytest.raises(error, match=message):
        list(read_triples(tmp_path / "r.csv", columns=("u", "i", "r")))


def test_duplicates_are_refused_replaced_or_added(tmp_path: Path) -> None:
    source = ([0, 1, 0, 0], [2, 2, 1, 2], [5, 1, 4, 3])
    with pytest.raises(OptionError, match="ratings 0 and 3, counted from 0"):
        store_ratings(source, tmp_path / "r")
    assert list(tmp_path.glob("r")) == []
    last = store_ratings(source, tmp_path / "r", duplicates="last", shape=(2, 3)).to_scipy()
    assert last.toarray().tolist() == [[0, 4, 3], [0, 0, 1]]
    added = store_ratings(source, tmp_path / "s", duplicates="sum", shape=(2, 3))
    assert added.to_scipy().toarray().tolist() == [[0, 4, 8], [0, 0, 1]]
    assert added.mean == pytest.approx(13 / 3)


@pytest.mark.parametrize(
    ("source", "options", "error", "message"),
    [
        (([0, 1], [0, 1], [1, np.nan]), {}, NonFiniteError, "rating 1, counted from 0, is nan"),
        (([0, 1], [0, 1], [1e300, 1]), {}, NonFiniteError, "rating 0.*as float32"),
        (([0, 4], [0, 1], [1, 1]), {"shape": (4, 2)}, OptionError, "rating 1.*user 4.*0 to 3"),
        (([0, 1], [0, -1], [1, 1]), {"shape": (4, 2)}, OptionError, "rating 1.*item -1"),
        (([0, 1], ["a", "b"], [1, 1]), {"shape": (4, 2)}, OptionError, "numbers from 0"),
        (([0, 1], [0], [1, 1]), {}, ShapeError, "three arrays of one length"),
        (([0.5, 1], [0, 1], [1, 1]), {}, DTypeError, "user labels are integers or text"),
        ((["a", 1], [0, 1], [1, 1]), {}, DTypeError, "user labels .* found object"),
        (([0, 1], [0, 1], np.ma.array([1, 2], mask=[0, 1])), {}, DTypeError, "masked in part"),
        ((np.array([2**63], "u8"), [0], [1]), {}, DTypeError, "user labels .* found uint64"),
        (([0, 1], [0, 1], ["a", "b"]), {}, DTypeError, "values are real numbers"),
        (([], [], []), {}, OptionError, "there are no ratings"),
        (iter([]), {}, OptionError, "there are no ratings"),
        (([0], [0], [1]), {"duplicates": "first"}, OptionError, "'refuse', 'last' or 'sum'"),
        (([0], [0], [1]), {"block_ratings": 0}, OptionError, "at least 1"),
        (([0], [0], [1]), {"memory": "1 MB"}, MemoryBudgetError, "memory='3.. MB' or more"),
        ("ratings.csv", {}, DTypeError, "read_triples reads text files"),
    ],
)
def test_what_is_no_ratings_is_refused(
    tmp_path: Path, source: Any, options: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        store_ratings(source, tmp_path / "r", **options)
    assert not (tmp_path / "r").exists()


def test_labels_may_not_change_their_kind(tmp_path: Path) -> None:
    batches = [([1], [1], [1.0]), (["one"], [1], [1.0])]
    with pytest.raises(
        DTypeError, match=r"user labels are integer as before; found <U3 from ra.* 1"
    ):
        store_ratings(iter(batches), tmp_path / "r")


def test_each_storage_unit_of_a_block_is_read_once(
    ratings: csr_array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from leptonhpc.recommend import stored_sides

    monkeypatch.setattr(stored_sides, "_UNIT", 16)  # several units a block
    found = store_ratings(ratings, tmp_path / "r", block_ratings=50)
    side = found.by_user
    assert isinstance(side, StoredSide)
    read: list[int] = []
    real = store.StoredArray.read

    def counted(self: Any, region: Any, out: Any = None) -> Any:
        if self.name.endswith("values"):
            read.append(self.units_in(region))
        return real(self, region, out)

    monkeypatch.setattr(store.StoredArray, "read", counted)
    assert abs(found.to_scipy() - ratings).max() == 0
    sizes = np.diff(side.pointers[side.edges])
    assert sum(read) == int(np.sum(-(-sizes // 16)))


def test_existing_output_is_kept_unless_told(ratings: csr_array, tmp_path: Path) -> None:
    out = tmp_path / "r"
    store_ratings(ratings, out)
    with pytest.raises(OutputExistsError, match="overwrite=True"):
        store_ratings(ratings[:4], out)
    assert store_ratings(ratings[:4], out, overwrite=True).shape == (4, ratings.shape[1])
    (tmp_path / "s.partial").mkdir()
    (tmp_path / "s.partial" / "mine").touch()
    with pytest.raises(OutputExistsError, match="something else"):
        store_ratings(ratings, tmp_path / "s")
    assert (tmp_path / "s.partial" / "mine").exists()


def test_what_a_killed_call_left_is_replaced(ratings: csr_array, tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError):
        store_ratings(([0, 1], [0, 1], [1.0, np.nan]), tmp_path / "s")
    with pytest.raises(StoreError, match="s.partial' is not finished"):
        open_ratings(tmp_path / "s")
    store_ratings(ratings, tmp_path / "s")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s"]


def test_other_zarr_is_not_taken_for_ratings(tmp_path: Path) -> None:
    store.create_group(tmp_path / "g")
    with pytest.raises(NotAnArrayError, match="holds no ratings"):
        open_ratings(tmp_path / "g")
