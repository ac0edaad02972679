"""Measures of rankings are their definitions, and scikit-learn's where it has them."""

from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.metrics import average_precision_score, ndcg_score

from leptonhpc.errors import OptionError, ShapeError
from leptonhpc.recommend import (
    ImplicitALS,
    evaluate,
    map_at_k,
    ndcg_at_k,
    precision_at_k,
    recall_at_k,
    rmse,
)


@pytest.fixture
def case(rng: np.random.Generator) -> tuple[np.ndarray, list[np.ndarray], np.ndarray, np.ndarray]:
    """Rankings of 20 items, what is relevant, and both as scores and as a matrix."""
    scores = rng.permuted(np.tile(np.arange(20.0), (30, 1)), axis=1)
    wanted = rng.random(scores.shape) < 0.2
    wanted[:, 0] |= ~wanted.any(axis=1)
    return np.argsort(-scores, axis=1), [np.flatnonzero(row) for row in wanted], scores, wanted


def test_ndcg_is_that_of_scikit_learn(case: Any) -> None:
    found, relevant, scores, wanted = case
    for k in (1, 5, 20):
        expected = ndcg_score(wanted, scores, k=k)
        assert ndcg_at_k(found, relevant, k) == pytest.approx(expected, rel=1e-12)


def test_average_precision_of_all_items_is_that_of_scikit_learn(case: Any) -> None:
    found, relevant, scores, wanted = case
    each = [average_precision_score(w, s) for w, s in zip(wanted, scores, strict=True)]
    assert map_at_k(found, relevant, 20) == pytest.approx(np.mean(each), rel=1e-12)


def test_precision_and_recall_count_hits(case: Any) -> None:
    found, relevant, _, _ = case
    hits = [len(set(f[:6]) & set(r)) for f, r in zip(found, relevant, strict=True)]
    assert precision_at_k(found, relevant, 6) == pytest.approx(np.mean(hits) / 6)
    shares = [h / len(r) for h, r in zip(hits, relevant, strict=True)]
    assert recall_at_k(found, relevant, 6) == pytest.approx(np.mean(shares))


def test_perfect_ranking_scores_one_and_a_useless_one_zero() -> None:
    for measure in (ndcg_at_k, map_at_k, recall_at_k):
        assert measure([[4, 1, 7], [2, 0, 5]], [[4, 1], [2]], 3) == pytest.approx(1)
        assert measure([[4, 1, 7]], [[3]], 3) == 0


def test_users_without_relevant_items_are_left_out() -> None:
    assert precision_at_k([[1, 2], [3, 4]], [[], [3]], 2) == 0.5


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(OptionError, match="no user has a relevant item"):
        recall_at_k([[1]], [[]], 1)
    with pytest.raises(ShapeError, match="2 users .* by 3 or more; found"):
        ndcg_at_k([[1, 2], [3, 4]], [[1], [2]], 3)
    for k in (0, 1.5):
        with pytest.raises(OptionError, match="k is a whole number from 1"):
            map_at_k([[1]], [[1]], k)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="one shape"):
        rmse([1, 2], [1, 2, 3])


def test_evaluation_of_a_model_is_the_measures_of_what_it_recommends(ratings: csr_array) -> None:
    held = np.random.default_rng(0).random(ratings.nnz) < 0.2
    users, items = ratings.nonzero()
    train, test = (
        csr_array((np.ones(part.sum()), (users[part], items[part])), shape=ratings.shape)
        for part in (~held, held)
    )
    model = ImplicitALS(n_factors=3, tol=0, max_iter=5).fit(train)
    found = evaluate(model, test, k=5)
    some = np.flatnonzero(np.diff(test.indptr))
    recommended = model.recommend(some, 5).items
    relevant = [test[[user]].indices for user in some]
    assert found == {
        "precision": precision_at_k(recommended, relevant, 5),
        "recall": recall_at_k(recommended, relevant, 5),
        "ndcg": ndcg_at_k(recommended, relevant, 5),
        "map": map_at_k(recommended, relevant, 5),
    }
    assert found["ndcg"] > 0
