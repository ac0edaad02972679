"""KernelPCA with all samples as landmarks is scikit-learn's; with a few, Nystroem's method."""

from typing import Any

import numpy as np
import pytest
import sklearn.decomposition
from sklearn.datasets import load_digits, load_iris, make_low_rank_matrix
from sklearn.kernel_approximation import Nystroem
from sklearn.metrics.pairwise import rbf_kernel

from leptonhpc.decomposition import KernelPCA
from leptonhpc.errors import LinAlgError, NonFiniteError, OptionError

PROMISED = 1e-6
PROBLEMS = {
    "iris": load_iris().data,
    "digits": load_digits().data[:200],
    "tall": make_low_rank_matrix(150, 30, effective_rank=8, random_state=0),
    "wide": make_low_rank_matrix(60, 200, effective_rank=8, random_state=1),
}


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("kernel", ["linear", "rbf", "poly", "cosine"])
def test_with_all_landmarks_results_are_those_of_scikit_learn(name: str, kernel: str) -> None:
    x = PROBLEMS[name] / np.max(np.abs(PROBLEMS[name]))  # eigenvalues of order one
    ours = KernelPCA(3, n_landmarks=len(x), kernel=kernel)
    again = ours.fit_transform(x)
    theirs = sklearn.decomposition.KernelPCA(3, kernel=kernel, eigen_solver="dense").fit(x)
    assert np.max(np.abs(ours.eigenvalues_ - theirs.eigenvalues_)) <= PROMISED
    new = x[:20] + 0.01
    for samples in (x, new):
        difference = ours.transform(samples) - theirs.transform(samples)
        assert np.max(np.abs(difference)) <= PROMISED
    assert np.max(np.abs(again - theirs.transform(x))) <= PROMISED
    assert ours.certificate_.converged


def test_a_few_landmarks_give_the_components_of_nystroems_features() -> None:
    x = PROBLEMS["digits"] / 16
    ours = KernelPCA(4, n_landmarks=40, kernel="rbf", gamma=0.05, random_state=7).fit(x)
    landmarks = x[ours.landmark_indices_]
    assert np.array_equal(ours.landmarks_, landmarks)
    assert len(set(ours.landmark_indices_)) == 40
    inner = rbf_kernel(landmarks, gamma=0.05)
    outer = rbf_kernel(x, landmarks, gamma=0.05)
    kernel = outer @ np.linalg.solve(inner, outer.T)
    center = np.eye(len(x)) - 1 / len(x)
    w, v = np.linalg.eigh(center @ kernel @ center)
    # the solve with the landmarks' kernel is right to eps times its condition
    allowed = 64 * np.finfo(float).eps * np.linalg.cond(inner) * w[-1]
    assert np.max(np.abs(ours.eigenvalues_ - w[:-5:-1])) <= allowed
    scores = ours.transform(x)
    assert np.max(np.abs(np.abs(scores) - np.abs(v[:, :-5:-1] * np.sqrt(w[:-5:-1])))) <= PROMISED


def test_features_have_the_inner_products_of_scikit_learns() -> None:
    x = PROBLEMS["digits"] / 16
    ours = KernelPCA(n_landmarks=30, kernel="rbf", gamma=0.05).fit(x)
    theirs = Nystroem(n_components=30, kernel="rbf", gamma=0.05)
    theirs.fit(x[ours.landmark_indices_])
    features = theirs.transform(x)
    features -= features.mean(axis=0)
    scores = ours.transform(x)
    assert np.max(np.abs(scores @ scores.T - features @ features.T)) <= PROMISED


def test_more_landmarks_leave_less_of_the_kernel_out() -> None:
    x = PROBLEMS["digits"] / 16
    captured = [
        float(np.sum(KernelPCA(n_landmarks=m, kernel="rbf").fit(x).eigenvalues_))
        for m in (5, 20, 80, 200)
    ]
    kernel = rbf_kernel(x)
    center = np.eye(len(x)) - 1 / len(x)
    whole = float(np.trace(center @ kernel @ center))
    assert captured == sorted(captured)
    assert captured[-1] == pytest.approx(whole, rel=1e-9)


def test_components_that_are_rounding_are_left_out() -> None:
    x = PROBLEMS["iris"]  # a linear kernel of four features has rank four
    assert KernelPCA(n_landmarks=50).fit(x).eigenvalues_.shape == (4,)
    assert KernelPCA(9, n_landmarks=50).fit(x).eigenvalues_.shape == (4,)
    assert KernelPCA(9, n_landmarks=50).fit_transform(x).shape == (150, 4)


def test_a_kernel_may_be_a_function() -> None:
    x = PROBLEMS["iris"][:40]
    ours = KernelPCA(2, n_landmarks=40, kernel=_laplace, kernel_params={"width": 2.0}).fit(x)
    named = KernelPCA(2, n_landmarks=40, kernel="laplacian", gamma=0.5).fit(x)
    assert np.max(np.abs(ours.transform(x) - named.transform(x))) <= PROMISED


def _laplace(a: np.ndarray, b: np.ndarray, width: float) -> float:
    return float(np.exp(-np.sum(np.abs(a - b)) / width))


def test_single_precision_stays() -> None:
    x = PROBLEMS["iris"].astype("f4")
    ours = KernelPCA(2, kernel="rbf").fit(x)
    assert ours.transform(x).dtype == KernelPCA(2, kernel="rbf").fit_transform(x).dtype == "f4"


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"n_components": 0}, "n_components is a whole number from 1"),
        ({"n_landmarks": 0}, "n_landmarks is a whole number from 1"),
        ({"kernel": "precomputed"}, "kernel is a name or a function"),
    ],
)
def test_what_cannot_be_is_refused(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        KernelPCA(**keywords).fit(PROBLEMS["iris"])


def test_a_kernel_that_is_not_positive_is_refused() -> None:
    with pytest.raises(LinAlgError, match="positive semidefinite kernel; 'sigmoid' has"):
        KernelPCA(kernel="sigmoid", gamma=1.0, coef0=-2.0).fit(PROBLEMS["wide"] * 10)


def test_a_sample_that_is_not_finite_is_named(stored: Any) -> None:
    x = PROBLEMS["iris"].copy()
    x[57, 2] = np.nan
    with pytest.raises(NonFiniteError, match=r"nan.*\(57, 2\)|\(57, 2\)"):
        KernelPCA(2, n_landmarks=5, kernel="rbf").fit(stored(x, (50, 4)))
