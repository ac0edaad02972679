"""Alternating least squares: the loss falls, blocks and lanes change nothing, the gradient goes."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler
from sklearn.utils import get_tags

from leptonhpc.errors import (
    DTypeError,
    MemoryBudgetError,
    NotConvergedWarning,
    NumericRangeError,
    OptionError,
)
from leptonhpc.recommend import ALS, ImplicitALS, Ratings, solvers, store_ratings

MODELS = [
    ALS(n_factors=4, regularization=0.05, dtype="float64"),
    ALS(n_factors=4, biases=False, weighted=False, regularization=2.0, dtype="float64"),
    ALS(n_factors=4, solver="cg", dtype="float64"),
    ImplicitALS(n_factors=4, dtype="float64"),
    ImplicitALS(n_factors=4, solver="cholesky", dtype="float64"),
]


def loss_of(model: Any, ratings: csr_array) -> float:
    """The loss as the docstrings define it, densely."""
    dense, seen = ratings.toarray().astype("f8"), ratings.toarray() > 0
    x, y = model.user_factors_.astype("f8"), model.item_factors_.astype("f8")
    b, c = model.user_biases_.astype("f8"), model.item_biases_.astype("f8")
    predicted = x @ y.T + b[:, None] + c + model.mean_
    users, items = (x**2).sum(1) + b**2, (y**2).sum(1) + c**2
    if isinstance(model, ImplicitALS):
        confidence = np.where(seen, model.alpha * dense, 1)
        return float(
            np.sum(confidence * (seen - predicted) ** 2)
            + model.regularization * (users.sum() + items.sum())
        )
    counts = (seen.sum(1), seen.sum(0)) if model.weighted else (1, 1)
    penalty = (counts[0] * users).sum() + (counts[1] * items).sum()
    return float(np.sum((dense - predicted)[seen] ** 2) + model.regularization * penalty)


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_loss_falls_with_every_half_sweep_and_is_what_it_says(
    model: Any, ratings: csr_array
) -> None:
    fitted = clone(model).set_params(tol=0, max_iter=12).fit(ratings)
    certificate = fitted.certificate_
    losses = np.array(certificate.losses)
    assert len(losses) == 24
    assert np.all(np.diff(losses) <= 1e-12 * losses[:-1])
    assert certificate.rises == 0
    # double precision: sums of some thousand terms
    assert certificate.loss == pytest.approx(losses[-1], rel=1e-11)
    assert certificate.loss == pytest.approx(loss_of(fitted, ratings), rel=1e-11)


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_gradient_is_that_of_the_loss(model: Any, ratings: csr_array) -> None:
    fitted = clone(model).set_params(tol=0, max_iter=2).fit(ratings)
    square, step = 0.0, 1e-6
    names = ["user_factors_", "item_factors_"]
    names += ["user_biases_", "item_biases_"] if getattr(model, "biases", False) else []
    rated = {"user": np.diff(ratings.indptr) > 0, "item": (ratings > 0).sum(0) > 0}
    for name in names:
        array = getattr(fitted, name)
        for index in np.ndindex(array.shape):
            if not rated[name[:4]][index[0]]:
                continue
            old = array[index]
            array[index] = old + step
            above = loss_of(fitted, ratings)
            array[index] = old - step
            square += ((above - loss_of(fitted, ratings)) / (2 * step)) ** 2
            array[index] = old
    # central differences of a loss near 1e3: eps * loss / step each
    assert fitted.certificate_.gradient_norm == pytest.approx(np.sqrt(square), rel=1e-4, abs=1e-3)


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_long_fit_ends_at_a_stationary_point(model: Any, ratings: csr_array) -> None:
    # with less, users and items creep to the same scale
    regularization = 20.0 if isinstance(model, ImplicitALS) else model.regularization
    options = {"regularization": regularization, "tol": 1e-12, "max_iter": 2000}
    fitted = clone(model).set_params(**options).fit(ratings)
    assert fitted.certificate_.converged
    assert fitted.certificate_.relative_gradient < 1e-4


@pytest.fixture(scope="module")
def stored_in_blocks(
    ratings: csr_array, tmp_path_factory: pytest.TempPathFactory
) -> list[tuple[int, Ratings]]:
    """Give numbers of lanes, and the ratings in blocks of a few."""
    folder = tmp_path_factory.mktemp("blocks")
    return [
        (lanes, store_ratings(ratings, folder / f"{most}", block_ratings=most))
        for lanes, most in ((1, 7), (3, 40))
    ]


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_numbers_do_not_depend_on_blocks_lanes_or_where_the_ratings_are(
    model: Any, ratings: csr_array, stored_in_blocks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from leptonhpc.recommend import fitting

    whole = clone(model).set_params(tol=0, max_iter=4).fit(ratings)
    for lanes, stored in stored_in_blocks:
        real = fitting.ThreadCrew
        monkeypatch.setattr(fitting, "ThreadCrew", lambda work, _, n=lanes, r=real: r(work, n))
        cut = clone(model).set_params(tol=0, max_iter=4).fit(stored)
        monkeypatch.setattr(fitting, "ThreadCrew", real)
        # every row is solved from the same numbers in the same order
        assert np.array_equal(cut.user_factors_, whole.user_factors_)
        assert np.array_equal(cut.item_factors_, whole.item_factors_)
        assert cut.certificate_.loss == pytest.approx(whole.certificate_.loss, rel=1e-13)


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_scikit_learn_has_a_transformer_of_sparse_samples(model: Any, ratings: csr_array) -> None:
    fitted = clone(model).set_params(tol=0, max_iter=2)
    found = make_pipeline(fitted, MaxAbsScaler()).fit_transform(ratings)
    assert np.array_equal(found, MaxAbsScaler().fit_transform(fitted.transform(ratings)))
    tags = get_tags(fitted)
    assert tags.transformer_tags is not None
    assert tags.input_tags.sparse
    assert tags.input_tags.positive_only == isinstance(model, ImplicitALS)


def test_seed_names_the_numbers(ratings: csr_array) -> None:
    one, same, other = (
        ImplicitALS(n_factors=3, tol=0, max_iter=2, random_state=seed).fit(ratings).item_factors_
        for seed in (5, 5, 6)
    )
    assert np.array_equal(one, same)
    assert not np.allclose(one, other)


def test_single_precision_is_near_double(ratings: csr_array) -> None:
    single, double = (
        ALS(n_factors=4, tol=0, max_iter=5, dtype=dtype).fit(ratings)
        for dtype in ("float32", "float64")
    )
    assert single.user_factors_.dtype == np.float32
    # eps of single precision, through ten exact half sweeps
    assert single.certificate_.loss == pytest.approx(double.certificate_.loss, rel=1e-4)


def test_users_and_items_without_ratings_have_no_factors(ratings: csr_array) -> None:
    fitted = ALS(n_factors=3).fit(ratings)
    assert not fitted.user_factors_[[5, 40]].any()
    assert not fitted.item_factors_[9].any()
    assert fitted.predict(5, 9) == pytest.approx(fitted.mean_, rel=1e-6)


def test_planted_ratings_are_found_again() -> None:
    rng = np.random.default_rng(0)
    truth = 3 + rng.normal(size=(60, 2)) @ rng.normal(size=(2, 50))
    seen = rng.random(truth.shape) < 0.5
    model = ALS(
        n_factors=2, regularization=1e-9, tol=0, max_iter=300, dtype="float64", weighted=False
    ).fit(csr_array(np.where(seen, truth, 0)))
    users, items = np.nonzero(~seen)
    # half of the entries of a matrix of rank 2 (3 with the mean) determine the others
    assert np.abs(model.predict(users, items) - truth[users, items]).max() < 1e-3


def test_estimators_keep_the_conventions_of_scikit_learn() -> None:
    for model in (ALS(5, tol=0.5), ImplicitALS(7, alpha=3.0)):
        copied = clone(model)
        assert copied.get_params() == model.get_params()
        assert not [name for name in vars(copied) if name.endswith("_")]
        assert copied.set_params(n_factors=9).n_factors == 9


def test_fit_that_did_not_converge_warns(ratings: csr_array) -> None:
    with pytest.warns(NotConvergedWarning, match="ALS: loss .* after 2 sweeps.*Raise max_iter"):
        ALS(n_factors=3, tol=1e-9, max_iter=2).fit(ratings)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted = ALS(n_factors=3, tol=0, max_iter=2).fit(ratings)
    assert fitted.n_iter_ == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_factors": 0}, "n_factors of ImplicitALS is a whole number from 1; found 0"),
        ({"n_factors": True}, "n_factors"),
        ({"regularization": -1.0}, "regularization .* not negative; found -1.0"),
        ({"regularization": float("nan")}, "regularization"),
        ({"alpha": 0}, "alpha of ImplicitALS is a finite number, positive"),
        ({"solver": "lu"}, "'cg' or 'cholesky'; found 'lu'"),
        ({"dtype": "float16"}, "'float32' or 'float64'"),
        ({"max_iter": 1.5}, "max_iter"),
        ({"random_state": -1}, "random_state .* not negative"),
    ],
)
def test_parameter_that_cannot_be_is_refused(
    change: dict[str, Any], message: str, ratings: csr_array
) -> None:
    with pytest.raises(OptionError, match=message):
        ImplicitALS(**change).fit(ratings)


def test_a_mask_is_not_lost(ratings: csr_array) -> None:
    masked = np.ma.masked_less(ratings.toarray(), 2)
    with pytest.raises(DTypeError, match=r"csr_array\(ratings\.filled\(0\)\)"):
        ALS(2).fit(masked)


def test_negative_counts_are_refused_with_user_and_item(tmp_path: Path) -> None:
    counts = csr_array(np.array([[1.0, 0, 2], [0, -3, 1]]))
    with pytest.raises(OptionError, match="has -3 of user 1 and item 1"):
        ImplicitALS().fit(counts)
    stored = store_ratings((["ann", "bob"], ["x", "y"], [1, -2]), tmp_path / "r")
    with pytest.raises(OptionError, match="has -2 of user bob and item y"):
        ImplicitALS().fit(stored)


def test_budget_that_is_too_small_names_one_that_does(
    ratings: csr_array, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(solvers, "is_compiled", lambda solver: True)
    with pytest.raises(MemoryBudgetError, match=r"memory='\d+ MB' or more") as caught:
        ALS(memory="10 MB").fit(ratings)
    enough = str(caught.value).split("memory='")[1].split("'")[0]
    assert ALS(n_factors=16, memory=enough, tol=0, max_iter=1).fit(ratings).report_.lanes >= 1
    # numba keeps what it compiled where nobody has compiled anything: 80 MB are for that
    monkeypatch.setattr(solvers, "is_compiled", lambda solver: False)
    with pytest.raises(MemoryBudgetError, match=r"first fit .* compiles the solver") as caught:
        ALS(n_factors=16, memory=enough, tol=0, max_iter=1).fit(ratings)
    assert f"memory='{int(enough.split()[0]) + 80} MB'" in str(caught.value)


def test_ratings_out_of_the_range_of_single_precision_are_an_error(ratings: csr_array) -> None:
    for factor, what in ((1e30, "too large"), (1e-30, "too small")):
        scaled = csr_array((ratings.data * np.float32(factor), ratings.indices, ratings.indptr))
        with pytest.raises(NumericRangeError, match=f"{what}.*pass dtype='float64'"):
            ALS(n_factors=2, solver="cg").fit(scaled)
    double = ALS(n_factors=2, max_iter=1, tol=0, dtype="float64").fit(scaled)
    assert double.certificate_.loss > 0


def test_missing_numba_names_the_extra(ratings: csr_array, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(OptionError, match=r"leptonhpc\[recommend\]"):
        ALS().fit(ratings)
