"""Recommendations are the best that sorting all gives; new users get what a fit would give them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.sparse import csr_array

from leptonhpc.errors import OptionError, ShapeError, StoreError
from leptonhpc.recommend import ALS, ImplicitALS, load, open_ratings, store_ratings
from leptonhpc.recommend.ranking import best


@given(arrays(np.int8, (3, 7), elements=st.integers(-2, 2)), st.integers(1, 7))
def test_best_are_those_of_a_stable_sort_ties_included(scores: np.ndarray, n: int) -> None:
    numbers, found = best(scores.astype(float), np.eye(7), None, n)
    expected = np.argsort(-scores.astype(float), axis=1, kind="stable")[:, :n]
    assert np.array_equal(numbers, expected)
    assert np.array_equal(found, np.take_along_axis(scores.astype(float), expected, axis=1))


@pytest.fixture(scope="module", params=["explicit", "implicit"])
def model(request: pytest.FixtureRequest, ratings: csr_array) -> Any:
    kind = ALS if request.param == "explicit" else ImplicitALS
    return kind(n_factors=4, tol=0, max_iter=5, dtype="float64").fit(ratings)


def predictions(model: Any) -> np.ndarray:
    users, items = np.ogrid[: len(model.user_factors_), : len(model.item_factors_)]
    return model.predict(users, items)


def test_recommended_are_unseen_and_the_best_of_all(
    model: Any, ratings: csr_array, monkeypatch: pytest.MonkeyPatch
) -> None:
    from leptonhpc.recommend import ranking

    monkeypatch.setattr(ranking, "_SCORES", 100)  # more than one piece
    users = np.array([30, 2, 61, 2])
    unseen = np.where(ratings.toarray() > 0, -np.inf, predictions(model))[users]
    found = model.recommend(users, 5)
    expected = np.argsort(-unseen, axis=1, kind="stable")[:, :5]
    assert np.array_equal(found.items, expected)
    # another order of adding four terms
    np.testing.assert_allclose(
        found.scores, np.take_along_axis(unseen, expected, 1), rtol=0, atol=1e-14
    )
    alone = model.recommend(61, 5)
    assert np.array_equal(alone.items, expected[2])
    square = model.recommend(users.reshape(2, 2), 5)
    assert np.array_equal(square.items, expected.reshape(2, 2, 5))
    assert model.recommend([], 5).items.shape == (0, 5)
    everything = model.recommend(2, len(model.item_factors_), exclude_seen=False)
    assert sorted(everything.items.tolist()) == list(range(len(model.item_factors_)))
    rated_all = model.recommend(7, 3)
    assert rated_all.items[0] == 9
    assert rated_all.scores[1:].tolist() == [-np.inf, -np.inf]


def test_similar_ones_have_the_largest_cosines(model: Any) -> None:
    for found, factors in (
        (model.similar_items([3, 11], 6), model.item_factors_),
        (model.similar_users([3, 11], 6), model.user_factors_),
    ):
        norms = np.linalg.norm(factors, axis=1)
        cosines = factors @ factors.T / np.maximum(np.outer(norms, norms), 1e-300)
        assert found.items[:, 0].tolist() == [3, 11]
        np.testing.assert_allclose(found.scores[:, 0], 1, rtol=1e-15)
        expected = -np.sort(-cosines[[3, 11]], axis=1)[:, :6]
        np.testing.assert_allclose(found.scores, expected, atol=1e-14)


def test_user_folded_in_solves_the_least_squares_of_its_ratings(
    model: Any, ratings: csr_array
) -> None:
    folded = model.transform(ratings)
    a_user = 30
    seen = ratings[[a_user]].toarray()[0].astype("f8")
    y = np.column_stack([np.ones(len(seen)), model.item_factors_])
    if isinstance(model, ImplicitALS):
        y = model.item_factors_
        weights = np.where(seen > 0, model.alpha * seen, 1)
        a = (y.T * weights) @ y + model.regularization * np.eye(4)
        expected = np.linalg.solve(a, y.T @ (weights * (seen > 0)))
    else:
        rated = seen > 0
        target = (seen - model.mean_ - model.item_biases_)[rated]
        a = y[rated].T @ y[rated] + model.regularization * rated.sum() * np.eye(5)
        expected = np.linalg.solve(a, y[rated].T @ target)[1:]
    np.testing.assert_allclose(folded[a_user], expected, rtol=1e-9, atol=1e-12)


def test_somebody_new_is_recommended_what_a_user_of_the_same_ratings_would_be(
    model: Any, ratings: csr_array
) -> None:
    part = slice(*ratings.indptr[30:32])
    found = model.recommend_new(ratings.indices[part], ratings.data[part], 4)
    folded = model.transform(ratings[[30]])[0]
    scores = model.item_factors_ @ folded + model.item_biases_
    scores[ratings.indices[part]] = -np.inf
    assert np.array_equal(found.items, np.argsort(-scores, kind="stable")[:4])
    with pytest.raises(ShapeError, match="one each"):
        model.recommend_new([1, 2], [3.0])
    if isinstance(model, ImplicitALS):
        with pytest.raises(OptionError, match="not negative"):
            model.recommend_new([1], [-3.0])
    else:
        with pytest.raises(OptionError, match="rated once each"):
            model.recommend_new([1, 1], [3.0, 4.0])
    with pytest.raises(ShapeError, match="57 items; found ratings of 3"):
        model.transform(np.eye(3))


def test_labels_go_in_and_come_out(ratings: csr_array, tmp_path: Path) -> None:
    users, items = ratings.nonzero()
    names = [f"u{user:03d}" for user in users], [f"film {item}" for item in items]
    stored = store_ratings((*names, ratings.data), tmp_path / "r")
    plain = ALS(n_factors=3, tol=0, max_iter=3).fit(ratings)
    named = ALS(n_factors=3, tol=0, max_iter=3).fit(stored)
    found = named.recommend("u030", 4)
    assert found.items.dtype.kind == "U"
    assert not set(found.items.tolist()) & set(stored.of_user("u030")[0].tolist())
    assert named.predict(["u030"], ["film 3"]).shape == (1,)
    assert plain.predict(30, 3).shape == ()
    for wrong, message in (("u999", "no user 'u999'"), (3, "labels are <U4")):
        with pytest.raises(OptionError, match=message):
            named.recommend(wrong)
    with pytest.raises(OptionError, match="no item 57 among the 57"):
        plain.predict(1, 57)
    with pytest.raises(OptionError, match="n is from 1 to the number of items, 57; found 58"):
        plain.recommend(1, 58)


def test_stored_model_is_the_model(model: Any, ratings: csr_array, tmp_path: Path) -> None:
    stored = store_ratings(ratings, tmp_path / "r")
    fitted = type(model)(**model.get_params()).fit(stored, out=tmp_path / "m")
    again = load(tmp_path / "m")
    assert type(again) is type(fitted)
    assert again.get_params() == {**fitted.get_params(), "random_state": 0}
    assert np.array_equal(predictions(again), predictions(fitted))
    assert again.certificate_ == fitted.certificate_
    assert again.n_iter_ == 5
    assert np.array_equal(again.recommend([4, 6]).items, fitted.recommend([4, 6]).items)
    in_memory = type(model)(**model.get_params()).fit(ratings, out=tmp_path / "n")
    alone = load(tmp_path / "n")
    with pytest.raises(StoreError, match="not at hand"):
        alone.recommend(4)
    alone.ratings_ = open_ratings(ratings)
    assert np.array_equal(alone.recommend(4).items, in_memory.recommend(4).items)
