"""Covariance, precision and likelihood are scikit-learn's."""

from typing import Any

import numpy as np
import pytest
import scipy.stats
import sklearn.decomposition
from sklearn.datasets import load_digits, load_iris
from sklearn.model_selection import GridSearchCV

from leptonhpc.decomposition import PCA, IncrementalPCA
from leptonhpc.errors import NonFiniteError, SingularMatrixError

PROMISED = 1e-6
IRIS = load_iris().data


def test_with_all_components_the_covariance_is_that_of_the_samples() -> None:
    covariance = PCA(whiten=True).fit(IRIS).get_covariance()
    assert np.max(np.abs(covariance - np.cov(IRIS.T))) <= PROMISED


@pytest.mark.parametrize("wanted", [1, 2, None])
@pytest.mark.parametrize("whiten", [False, True])
def test_the_model_is_that_of_scikit_learn(wanted: Any, whiten: bool) -> None:
    ours = PCA(wanted, whiten=whiten).fit(IRIS)
    # theirs with whiten=True counts the variances twice; the model has nothing to do with it
    theirs = sklearn.decomposition.PCA(wanted, svd_solver="full").fit(IRIS)
    assert np.max(np.abs(ours.get_covariance() - theirs.get_covariance())) <= PROMISED
    assert np.max(np.abs(ours.get_precision() - theirs.get_precision())) <= PROMISED
    assert np.max(np.abs(ours.score_samples(IRIS) - theirs.score_samples(IRIS))) <= PROMISED
    assert ours.score(IRIS) == pytest.approx(theirs.score(IRIS), abs=PROMISED)
    normal = scipy.stats.multivariate_normal(ours.mean_, ours.get_covariance())
    assert np.max(np.abs(ours.score_samples(IRIS) - normal.logpdf(IRIS))) <= PROMISED


def test_that_of_increments_is_too() -> None:
    ours = IncrementalPCA(2, batch_size=40).fit(IRIS)
    theirs = sklearn.decomposition.IncrementalPCA(2, batch_size=40).fit(IRIS)
    assert np.max(np.abs(ours.get_covariance() - theirs.get_covariance())) <= PROMISED
    assert np.max(np.abs(ours.get_precision() - theirs.get_precision())) <= PROMISED


def test_stored_samples_are_scored_in_bands(stored: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from leptonhpc.decomposition import bands

    monkeypatch.setattr(bands, "_BAND_NBYTES", 8 * 4 * 20)
    ours = PCA(2).fit(IRIS)
    scores = ours.score_samples(stored(IRIS, (20, 4)))
    assert np.array_equal(scores, ours.score_samples(IRIS)) or (
        np.max(np.abs(scores - ours.score_samples(IRIS))) <= 1e3 * np.finfo(float).eps
    )


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_stored_sample_that_is_not_finite_has_no_likelihood(
    value: float, stored: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from leptonhpc.decomposition import bands

    monkeypatch.setattr(bands, "_BAND_NBYTES", 8 * 4 * 20)
    x = IRIS.copy()
    x[77, 2] = value
    path, ours = stored(x, (20, 4)), PCA(2).fit(IRIS)
    for ask in (ours.score, ours.score_samples):
        with pytest.raises(NonFiniteError, match=rf"has {value} at index \(77, 2\)"):
            ask(path)


def test_directions_without_variance_have_no_precision() -> None:
    x = np.column_stack([IRIS, np.ones(len(IRIS))])
    with pytest.raises(SingularMatrixError, match="variance in every direction"):
        PCA(4).fit(x).score_samples(x)


def test_a_search_finds_the_number_of_components_that_scikit_learn_finds() -> None:
    x = load_digits().data[:300, 20:44]
    grid = {"n_components": [2, 5, 10]}
    ours = GridSearchCV(PCA(), grid, cv=3).fit(x)
    theirs = GridSearchCV(sklearn.decomposition.PCA(svd_solver="full"), grid, cv=3).fit(x)
    assert ours.best_params_ == theirs.best_params_
    difference = np.subtract(
        ours.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"]
    )
    assert np.max(np.abs(difference)) <= PROMISED
