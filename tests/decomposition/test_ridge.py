"""Ridge gives what scikit-learn's does, by each solver."""

from typing import Any

import numpy as np
import pytest
import sklearn.linear_model
from sklearn.datasets import load_diabetes, load_digits, make_regression

from leptonhpc.decomposition import Ridge
from leptonhpc.errors import NotPositiveDefiniteError, OptionError, ShapeError

PROMISED = 1e-6
DIABETES = load_diabetes(return_X_y=True)
WIDE = make_regression(40, 90, n_informative=10, n_targets=2, noise=1.0, random_state=0)
PROBLEMS = {"diabetes": DIABETES, "wide": WIDE}


def largest(a: Any, b: Any) -> float:
    return float(np.max(np.abs(np.asarray(a) - np.asarray(b))))


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("solver", ["auto", "cholesky", "lsmr"])
@pytest.mark.parametrize("alpha", [0.1, 10.0])
@pytest.mark.parametrize(("intercept", "weighted"), [(False, False), (True, False), (True, True)])
def test_results_are_those_of_scikit_learn(
    name: str, solver: Any, alpha: float, intercept: bool, weighted: bool
) -> None:
    x, y = PROBLEMS[name]
    weights = np.random.default_rng(1).random(len(x)) if weighted else None
    # |x - x*| <= tol |A| |(r, damp x)| / alpha is 1e-7 or less
    ours = Ridge(alpha, fit_intercept=intercept, solver=solver, tol=1e-11)
    theirs = sklearn.linear_model.Ridge(alpha, fit_intercept=intercept, solver="svd")
    ours.fit(x, y, sample_weight=weights)
    theirs.fit(x, y, sample_weight=weights)
    assert largest(ours.coef_, theirs.coef_) <= PROMISED
    assert largest(ours.intercept_, theirs.intercept_) <= PROMISED
    assert largest(ours.predict(x), theirs.predict(x)) <= PROMISED
    assert ours.coef_.shape == theirs.coef_.shape
    assert ours.solver_ == ("cholesky" if solver == "auto" else solver)
    assert ours.certificate_.converged
    assert ours.score(x, y) == pytest.approx(theirs.score(x, y), abs=PROMISED)


@pytest.mark.parametrize("name", PROBLEMS)
def test_each_target_may_have_its_alpha(name: str) -> None:
    x, y = PROBLEMS[name]
    y = np.column_stack([y, y]) if y.ndim == 1 else y
    theirs = sklearn.linear_model.Ridge([0.5, 20.0]).fit(x, y)
    for solver in ("cholesky", "lsmr"):
        ours = Ridge([0.5, 20.0], solver=solver, tol=1e-11).fit(x, y)
        assert largest(ours.coef_, theirs.coef_) <= PROMISED


@pytest.mark.parametrize("name", PROBLEMS)
def test_without_penalty_it_is_least_squares_of_minimum_norm(name: str) -> None:
    x, y = PROBLEMS[name]
    ours = Ridge(alpha=0).fit(x, y)
    centred, target = x - x.mean(axis=0), y - y.mean(axis=0)
    expected = np.linalg.pinv(centred, rcond=1e-12) @ target
    assert ours.solver_ == "lstsq"
    assert largest(ours.coef_.T, expected) <= PROMISED


@pytest.mark.parametrize("solver", ["cholesky", "lsmr"])
@pytest.mark.parametrize("intercept", [False, True])
def test_a_single_column_of_targets_has_the_shapes_of_scikit_learn(
    solver: Any, intercept: bool, stored: Any
) -> None:
    x, y = DIABETES
    column = y[:, np.newaxis]
    theirs = sklearn.linear_model.Ridge(fit_intercept=intercept).fit(x, column)
    ours = Ridge(fit_intercept=intercept, solver=solver, tol=1e-11)
    for samples in (x, stored(x, (100, 10))):
        ours.fit(samples, column)
        assert ours.coef_.shape == theirs.coef_.shape == (10,)
        assert np.shape(ours.intercept_) == np.shape(theirs.intercept_)
        assert ours.predict(samples).shape == theirs.predict(x).shape == (len(x),)
        assert largest(ours.predict(samples), theirs.predict(x)) <= PROMISED


def test_single_precision_is_rounded_at_the_end() -> None:
    x, y = DIABETES
    exact = Ridge().fit(x.astype("f4").astype("f8"), y)
    ours = Ridge().fit(x.astype("f4"), y)
    assert ours.coef_.dtype == np.float32
    # computed in double precision: apart by the last rounding only
    assert largest(ours.coef_, exact.coef_) <= np.finfo("f4").eps * np.max(np.abs(exact.coef_))


def test_a_tall_problem_reads_the_samples_twice(stored: Any) -> None:
    x, y = DIABETES
    ours = Ridge().fit(stored(x, (100, 10)), y)
    assert largest(ours.coef_, Ridge().fit(x, y).coef_) <= PROMISED
    assert ours.report_.driver == "matmul"  # the other pass is that of the means
    assert ours.report_.reads_per_chunk == 1


def test_an_alpha_below_rounding_is_refused_by_cholesky_and_not_by_lsmr() -> None:
    x = np.ones((20, 2))
    x[:, 1] = x[:, 0]
    y = np.arange(20.0)
    with pytest.raises(NotPositiveDefiniteError, match="is too small for solver='cholesky'.*lsmr"):
        Ridge(1e-30, solver="cholesky", fit_intercept=False).fit(x, y)
    ours = Ridge(1e-30, solver="lsmr", fit_intercept=False).fit(x, y)
    assert largest(ours.predict(x), np.mean(y)) <= PROMISED  # the columns are one, and constant


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"alpha": -1.0}, "alpha is a number from 0"),
        ({"alpha": [1.0, 2.0]}, "one for each of 1 targets"),
        ({"alpha": "much"}, "alpha is a number from 0"),
        ({"solver": "sag"}, "solver is one of auto, cholesky, lsmr, lstsq"),
        ({"solver": "lstsq"}, "is for alpha=0"),
        ({"solver": "cholesky", "alpha": 0}, "needs alpha above 0"),
    ],
)
def test_what_cannot_be_is_refused(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Ridge(**keywords).fit(*DIABETES)


def test_weights_that_cannot_be_are_refused() -> None:
    x, y = DIABETES
    weights = np.ones(len(x))
    weights[3] = -1
    with pytest.raises(OptionError, match="found -1.0 at 3"):
        Ridge().fit(x, y, sample_weight=weights)
    with pytest.raises(ValueError, match="at least one non-zero"):  # scikit-learn's own
        Ridge().fit(x, y, sample_weight=0 * weights)


def test_targets_of_another_number_are_refused(stored: Any) -> None:
    x, y = DIABETES
    with pytest.raises(ShapeError, match=r"X has shape \(442, 10\) and y has shape \(440,\)"):
        Ridge().fit(stored(x, (100, 10)), y[:440])


def test_digits_are_regressed_as_scikit_learn_does() -> None:
    x, y = load_digits(return_X_y=True)  # some pixels never vary
    theirs = sklearn.linear_model.Ridge().fit(x, y)
    assert largest(Ridge().fit(x, y).coef_, theirs.coef_) <= PROMISED
