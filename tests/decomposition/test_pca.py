"""PCA gives what scikit-learn's does, on scikit-learn's own problems."""

from typing import Any

import numpy as np
import pytest
import sklearn.decomposition
from sklearn.datasets import load_digits, load_iris, make_low_rank_matrix

import leptonhpc as lh
from leptonhpc.decomposition import PCA
from leptonhpc.errors import OptionError

PROMISED = 1e-6
"""Largest difference from scikit-learn in float64; both are right to about c eps s1 / gap."""
FITTED = [
    "explained_variance_", "explained_variance_ratio_", "singular_values_", "mean_",
    "noise_variance_", "n_components_",
]  # fmt: skip
PROBLEMS = {
    "iris": load_iris().data,
    "digits": load_digits().data,
    "tall": make_low_rank_matrix(400, 60, effective_rank=8, random_state=0),
    "wide": make_low_rank_matrix(60, 400, effective_rank=8, random_state=1),
}


def largest(a: Any, b: Any) -> float:
    return float(np.max(np.abs(np.asarray(a, float) - np.asarray(b, float))))


def determined(s: np.ndarray) -> int:
    """Count the leading components that rounding leaves determined: s is not zero."""
    return int(np.count_nonzero(s > 1e-6 * s[0]))


CASES = [(name, wanted) for name in PROBLEMS for wanted in (3, 0.9, None)]
CASES += [(name, "mle") for name in ("iris", "digits", "tall")]  # both refuse it where x is wide


@pytest.mark.parametrize(("name", "wanted"), CASES)
@pytest.mark.parametrize("whiten", [False, True])
def test_results_are_those_of_scikit_learn(name: str, wanted: Any, whiten: bool) -> None:
    x = PROBLEMS[name]
    ours = PCA(wanted, whiten=whiten)
    fitted = ours.fit_transform(x)
    theirs = sklearn.decomposition.PCA(wanted, whiten=whiten, svd_solver="full").fit(x)
    for attribute in FITTED:
        assert largest(getattr(ours, attribute), getattr(theirs, attribute)) <= PROMISED, attribute
    k = determined(theirs.singular_values_)
    assert ours.components_.shape == theirs.components_.shape
    assert largest(ours.components_[:k], theirs.components_[:k]) <= PROMISED
    projected = theirs.transform(x)
    assert largest(ours.transform(x)[:, :k], projected[:, :k]) <= PROMISED
    assert largest(fitted[:, :k], projected[:, :k]) <= PROMISED
    back = ours.inverse_transform(ours.transform(x))
    assert largest(back, theirs.inverse_transform(projected)) <= PROMISED
    assert ours.certificate_.converged


@pytest.mark.parametrize("count", [2, 4, 8])
def test_a_share_that_is_reached_exactly_is_not_exceeded(count: int) -> None:
    x = np.vstack([np.eye(count), -np.eye(count)])  # equal variances
    for kept in range(1, count):
        theirs = sklearn.decomposition.PCA(kept / count, svd_solver="full").fit(x)
        assert PCA(kept / count).fit(x).n_components_ == theirs.n_components_ == kept + 1
    assert PCA(0.99 / count).fit(x).n_components_ == 1
    with pytest.raises(OptionError, match="finer than squared norms"):
        PCA(float(np.nextafter(1, 0))).fit(x)


@pytest.mark.parametrize("name", ["iris", "digits", "wide"])
def test_single_precision_stays_and_is_right_to_its_rounding(name: str) -> None:
    x = PROBLEMS[name].astype("f4")
    exact = sklearn.decomposition.PCA(4, svd_solver="full").fit(x.astype("f8"))
    pca = PCA(3).fit(x)
    rounding = pca.certificate_.rounding  # c eps s1, of singular values
    s = exact.singular_values_
    assert largest(pca.singular_values_, s[:3]) <= rounding
    # sin(angle) <= 2 rounding / gap (Davis-Kahan), and the distance at most sqrt(2) times that
    gap = np.min(np.abs(np.diff(s)))
    assert largest(pca.components_, exact.components_[:3]) <= 2**1.5 * rounding / gap
    for value in (pca.components_, pca.mean_, pca.transform(x), PCA(3).fit_transform(x)):
        assert value.dtype == np.float32


@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_krylov_iterations_reach_the_same_components(dtype: str) -> None:
    x = make_low_rank_matrix(600, 300, effective_rank=10, random_state=0)
    theirs = sklearn.decomposition.PCA(5, svd_solver="full").fit(x)
    pca = PCA(5, svd_solver="krylov", accuracy=1e-8, random_state=3).fit(x.astype(dtype))
    assert pca.certificate_.method == "block Krylov"
    assert pca.certificate_.converged
    gap = np.min(np.abs(np.diff(theirs.singular_values_)))
    allowed = PROMISED if dtype == "f8" else 2**1.5 * pca.certificate_.rounding / gap
    assert largest(pca.components_, theirs.components_) <= allowed


def test_a_seed_gives_the_same_numbers_and_another_seed_others() -> None:
    x = make_low_rank_matrix(300, 200, effective_rank=30, random_state=0)

    def fitted(seed: int | None) -> PCA:
        return PCA(2, svd_solver="krylov", accuracy=0.3, random_state=seed).fit(x)

    first, again, other = fitted(5), fitted(5), fitted(None)
    gap = float(np.min(-np.diff(PCA(3).fit(x).singular_values_)))
    # no more than rounding apart, but not yet where all starts end
    assert largest(first.components_, again.components_) <= first.certificate_.rounding / gap
    assert largest(first.components_, other.components_) > PROMISED


def test_the_largest_entry_of_each_component_is_positive() -> None:
    for x in (PROBLEMS["tall"], PROBLEMS["wide"]):
        rows = PCA(8).fit(x).components_
        assert np.all(rows[np.arange(8), np.argmax(np.abs(rows), axis=1)] > 0)


def test_features_that_do_not_vary_have_no_part(rng: np.random.Generator) -> None:
    x = np.column_stack([rng.standard_normal(50), np.full(50, 2.0)])
    pca = PCA().fit(x)
    assert pca.explained_variance_[1] <= pca.certificate_.rounding**2
    assert largest(pca.components_[0], [1.0, 0.0]) <= pca.certificate_.rounding


def test_the_certificate_says_what_was_captured() -> None:
    pca = PCA(2).fit(PROBLEMS["digits"])
    captured = float(np.sum(pca.explained_variance_ratio_))
    assert pca.certificate_.captured == pytest.approx(captured, rel=1e-12)
    assert max(pca.certificate_.residuals) <= pca.certificate_.rounding


@pytest.mark.parametrize("wanted", [0, 5, -1, 0.0, 1.0, 1.5, "all", True])
def test_a_number_of_components_that_cannot_be_is_refused(wanted: Any) -> None:
    with pytest.raises(OptionError, match="n_components of PCA is from 1 to .*=4"):
        PCA(wanted).fit(PROBLEMS["iris"])


def test_the_most_likely_dimension_needs_as_many_samples_as_features() -> None:
    with pytest.raises(OptionError, match="'mle' needs at least as many samples"):
        PCA("mle").fit(PROBLEMS["wide"])


def test_the_most_likely_dimension_is_the_planted_one(rng: np.random.Generator) -> None:
    scores, axes = rng.standard_normal((500, 4)), rng.standard_normal((4, 12))
    x = scores @ axes + 0.1 * rng.standard_normal((500, 12))
    assert PCA("mle").fit(x).n_components_ == 4


def test_a_blocked_array_is_read_twice_and_no_more(rng: np.random.Generator, stored: Any) -> None:
    pca = PCA(2)
    projected = pca.fit_transform(stored(rng.standard_normal((90, 7)), (20, 7)))
    assert pca.certificate_.passes == 2
    assert pca.report_.reads_per_chunk == 1
    assert isinstance(projected, np.ndarray)
    assert lh.open(projected).shape == (90, 2)
