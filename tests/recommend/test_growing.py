"""Ratings that come later are learnt: with sweeps enough as if all had been there."""

from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array

from leptonhpc.errors import OptionError
from leptonhpc.recommend import ALS, ImplicitALS, store_ratings


@pytest.fixture(scope="module")
def halves(ratings: csr_array) -> tuple[csr_array, csr_array]:
    """Two thirds of the ratings of the first users and items, and all others."""
    users, items = ratings.nonzero()
    early = (np.random.default_rng(4).random(len(users)) < 0.7) & (users < 70) & (items < 50)
    return (
        csr_array((ratings.data[early], (users[early], items[early])), shape=(70, 50)),
        csr_array((ratings.data[~early], (users[~early], items[~early])), shape=ratings.shape),
    )


def test_learning_later_ends_where_learning_at_once_does(
    ratings: csr_array, halves: tuple[csr_array, csr_array]
) -> None:
    early, late = halves
    options = {"n_factors": 2, "regularization": 0.3, "dtype": "float64", "tol": 0}
    whole = ALS(**options, max_iter=400).fit(ratings)
    grown = ALS(**options, max_iter=5).fit(early).partial_fit(late, sweeps=400)
    assert grown.n_features_in_ == ratings.shape[1]
    assert abs(grown.ratings_.to_scipy() - ratings).max() == 0
    # so much regularisation leaves one minimum
    assert grown.certificate_.loss == pytest.approx(whole.certificate_.loss, rel=1e-6)


def test_one_sweep_keeps_what_was_known(
    ratings: csr_array, halves: tuple[csr_array, csr_array]
) -> None:
    early, late = halves
    warm = ALS(n_factors=3, tol=0, max_iter=20).fit(early).partial_fit(late)
    cold = ALS(n_factors=3, tol=0, max_iter=1).fit(ratings)
    assert warm.certificate_.loss < cold.certificate_.loss
    assert warm.n_iter_ == 1


def test_new_rating_replaces_an_old_one_and_a_new_count_is_added() -> None:
    old = csr_array(np.array([[1.0, 2], [3, 0]]))
    new = (np.array([0, 2]), np.array([0, 1]), np.array([5.0, 4.0]))
    explicit = ALS(n_factors=1, tol=0, max_iter=1).fit(old).partial_fit(new)
    assert explicit.ratings_.to_scipy().toarray().tolist() == [[5, 2], [3, 0], [0, 4]]
    implicit = ImplicitALS(n_factors=1, tol=0, max_iter=1).fit(old).partial_fit(new)
    assert implicit.ratings_.to_scipy().toarray().tolist() == [[6, 2], [3, 0], [0, 4]]


def test_factors_follow_their_labels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    users, items = np.divmod(rng.permutation(60)[:40], 10)
    names = np.array(["m", "c", "x", "k", "p", "z"])[users], np.array(list("qwertyuiop"))[items]
    values = rng.integers(1, 6, 40)
    model = ALS(n_factors=2, tol=0, max_iter=3)
    model.fit(store_ratings((*names, values), tmp_path / "a"))
    before = model.predict("x", "e")
    more = (["a", "a"], ["e", "0"], [3, 4])  # both sort before all that were there
    with pytest.raises(OptionError, match="give ratings_out="):
        model.partial_fit(more)
    model.partial_fit(more, ratings_out=tmp_path / "b")
    assert model.user_labels_[0] == "a"
    assert model.item_labels_[0] == "0"
    assert model.ratings_.count == 42
    assert model.predict("x", "e") == pytest.approx(float(before), abs=0.5)
    assert str(model.recommend("a", 1).items[0]) not in {"e", "0"}


def test_what_cannot_be_joined_is_refused(ratings: csr_array, tmp_path: Path) -> None:
    model = ALS(n_factors=2, tol=0, max_iter=1).fit(ratings)
    labelled = store_ratings((["a"], ["b"], [1]), tmp_path / "r")
    with pytest.raises(OptionError, match="they cannot be joined"):
        model.partial_fit(labelled)
    with pytest.raises(OptionError, match="numbers from 0"):
        model.partial_fit((np.array([-1]), np.array([0]), np.array([1.0])))
    with pytest.raises(OptionError, match="numbers from 0"):
        model.partial_fit((["a"], ["b"], [1.0]))
    assert model.partial_fit(([], [], [])).ratings_.count == ratings.nnz
    with pytest.raises(OptionError, match="sweeps is at least 1"):
        model.partial_fit(ratings, sweeps=0)
    with pytest.raises(OptionError, match="n_factors is now 5"):
        model.set_params(n_factors=5).partial_fit(ratings)


def test_first_ratings_may_come_by_partial_fit(ratings: csr_array, tmp_path: Path) -> None:
    model = ALS(n_factors=2, tol=0, max_iter=2)
    with pytest.raises(OptionError, match="give ratings_out="):
        model.partial_fit(([0], [0], [1.0]))
    model.partial_fit(ratings)
    assert model.n_iter_ == 2
