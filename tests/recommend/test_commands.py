"""The commands: what they print and write is what the functions give."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from scipy.sparse import csr_array
from typer.testing import CliRunner

from leptonhpc import recommend
from leptonhpc.cli.app import app


def run(*arguments: Any, code: int = 0) -> Any:
    done = CliRunner().invoke(app, ["recommend", *map(str, arguments)])
    assert done.exit_code == code, done.stdout + done.stderr
    return done


def document(*arguments: Any) -> Any:
    return json.loads(run(*arguments, "--json").stdout)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, ratings: csr_array) -> Path:
    """A text file of labelled ratings, and by the commands: ratings.zarr and model.zarr."""
    folder = tmp_path_factory.mktemp("commands")
    coo = ratings.tocoo()
    with (folder / "ratings.tsv").open("w") as file:
        file.write("stars\tuser\titem\n")
        for u, i, v in zip(coo.row, coo.col, coo.data, strict=True):
            file.write(f"{v:g}\tu{u:02}\ti{i:02}\n")
    made = document(
        "store", folder / "ratings.tsv", "--out", folder / "ratings.zarr",
        "--columns", "user,item,stars", "--delimiter", "tab",
    )  # fmt: skip
    assert made["ratings"] == ratings.nnz
    fit = document(
        "fit", folder / "ratings.zarr", "--out", folder / "model.zarr", "--factors", "4",
        "--max-iter", "6", "--tol", "0", "--seed", "3",
    )  # fmt: skip
    assert fit["driver"] == "ImplicitALS"
    assert len(fit["certificate"]["losses"]) == 12
    assert fit["fields"]["item_factors"]["shape"] == [made["items"], 4]
    return folder


def test_fit_gives_the_factors_of_the_estimator(place: Path, ratings: csr_array) -> None:
    found = recommend.load(place / "model.zarr")
    model = recommend.ImplicitALS(4, max_iter=6, tol=0, random_state=3)
    model.fit(recommend.open_ratings(place / "ratings.zarr"))
    assert np.array_equal(found.user_factors_, model.user_factors_)
    rated = np.flatnonzero(np.diff(ratings.indptr))  # who rated nothing is not in the text
    assert found.user_labels_ is not None
    assert found.user_labels_.tolist() == [f"u{user:02}" for user in rated]
    # the same command again gives what is there
    again = document("fit", place / "ratings.zarr", "--out", place / "model.zarr", "--factors", "4",
                     "--max-iter", "6", "--tol", "0", "--seed", "3")  # fmt: skip
    assert again["report"]["half_sweep_seconds"] == list(found.report_.half_sweep_seconds)


def test_users_are_given_their_best_items_without_those_that_they_rated(
    place: Path, ratings: csr_array
) -> None:
    model = recommend.load(place / "model.zarr")
    assert model.item_labels_ is not None
    found = document("users", place / "model.zarr", "u03", "u11", "--n", "5")
    assert [each["user"] for each in found] == ["u03", "u11"]
    for each in found:
        number = int(each["user"][1:])
        rated = {f"i{i:02}" for i in ratings[[number]].indices}
        place_of = list(model.user_labels_).index(each["user"])  # type: ignore[arg-type]
        scores = model.item_factors_ @ model.user_factors_[place_of]
        order = [str(model.item_labels_[i]) for i in np.argsort(-scores)]
        assert [r["item"] for r in each["ranked"]] == [i for i in order if i not in rated][:5]
    some = document("users", place / "model.zarr", "u07", "--n", "5", "--no-exclude-seen")
    assert len(some[0]["ranked"]) == 5
    # u07 rated all items but one, which none rated
    assert document("users", place / "model.zarr", "u07", "--n", "5")[0]["ranked"] == []
    text = run("users", place / "model.zarr", "u03", "--n", "2").stdout
    assert found[0]["ranked"][1]["item"] in text
    assert "score" in text


def test_a_table_has_all_users_and_appears_whole(place: Path) -> None:
    out = place / "all.csv"
    facts = document("users", place / "model.zarr", "--n", "3", "--out", out)
    with out.open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["user", "rank", "item", "score"]
    assert facts["rows"] == len(rows) - 1
    model = recommend.load(place / "model.zarr")
    ranked = model.recommend(model.user_labels_, 3)
    expected = np.isfinite(ranked.scores).sum()
    assert len(rows) - 1 == expected
    u03 = [row[2] for row in rows if row[0] == "u03"]
    assert u03 == model.recommend("u03", 3).items.tolist()
    before = out.read_bytes()
    done = run("users", place / "model.zarr", "--n", "1", "--out", out, code=2)
    assert "exists" in done.stderr
    done = run("users", place / "model.zarr", "--n", "999", "--out", out, "--overwrite", code=2)
    assert "n is from 1" in done.stderr
    assert out.read_bytes() == before
    assert not list(place.glob("*.partial"))


def test_similar_items_begin_with_the_item_itself(place: Path) -> None:
    found = document("similar", place / "model.zarr", "i04", "i20", "--n", "3")
    model = recommend.load(place / "model.zarr")
    for each in found:
        names = [r["similar"] for r in each["ranked"]]
        assert names[0] == each["item"]
        assert max(r["score"] for r in each["ranked"]) <= 1
        assert names == model.similar_items(each["item"], 3).items.tolist()


def test_an_array_is_stored_with_numbers_as_labels_and_evaluated(
    tmp_path: Path, ratings: csr_array
) -> None:
    coo = ratings.tocoo()
    table = np.column_stack([coo.data.astype("i8"), coo.row + 100, coo.col])
    array = zarr.create_array(tmp_path / "a.zarr", shape=table.shape, chunks=(97, 3), dtype="i8")
    array[...] = table
    options = ("--columns", "1,2,0", "--json")
    run("store", tmp_path / "a.zarr", "--out", tmp_path / "r.zarr", *options)
    stored = recommend.open_ratings(tmp_path / "r.zarr")
    dense = stored.to_scipy().toarray()
    rated, known = np.flatnonzero(np.diff(ratings.indptr)), np.unique(coo.col)
    assert np.array_equal(dense, ratings.toarray()[np.ix_(rated, known)])
    run("fit", tmp_path / "r.zarr", "--out", tmp_path / "m.zarr", "--kind", "explicit",
        "--factors", "2", "--max-iter", "3", "--tol", "0")  # fmt: skip
    model = recommend.load(tmp_path / "m.zarr")
    assert model.get_params()["n_factors"] == 2
    assert isinstance(model, recommend.ALS)
    found = document("users", tmp_path / "m.zarr", "103", "--n", "2")
    assert [r["item"] for r in found[0]["ranked"]] == model.recommend(103, 2).items.tolist()
    measured = document("evaluate", tmp_path / "m.zarr", tmp_path / "r.zarr", "--k", "3")
    assert measured == recommend.evaluate(model, stored, k=3)


def test_what_cannot_be_is_said_in_words_of_the_shell(place: Path, tmp_path: Path) -> None:
    for arguments, words in (
        (("users", place / "model.zarr"), "give --out, or name users"),
        (("users", place / "model.zarr", "nobody"), "there is no user 'nobody'"),
        (("fit", place / "ratings.zarr", "--out", tmp_path / "m", "--kind", "explicit",
          "--alpha", "1"), "--alpha is of implicit feedback"),
        (("fit", place / "ratings.zarr", "--out", place / "model.zarr", "--seed", "9"),
         "pass --overwrite"),
    ):  # fmt: skip
        assert words in run(*arguments, code=2).stderr
    for arguments, words in (
        (("store", place / "ratings.tsv", "--out", tmp_path / "r", "--columns", "a,b,c"),
         "no column 'a'"),
        (("store", tmp_path / "nothing", "--out", tmp_path / "r"), "nothing"),
        (("similar", tmp_path / "nothing", "1"), "nothing is stored"),
    ):  # fmt: skip
        assert words in run(*arguments, code=1).stderr
    zarr.create_array(tmp_path / "half.zarr", shape=(2, 3), chunks=(2, 3), dtype="f8")[...] = 0.5
    done = run("store", tmp_path / "half.zarr", "--out", tmp_path / "r", code=2)
    assert "row 0 has 0.5" in done.stderr
