"""TruncatedSVD gives what scikit-learn's does."""

from typing import Any

import numpy as np
import pytest
import sklearn.decomposition
from sklearn.datasets import load_digits, load_iris, make_low_rank_matrix

from leptonhpc.decomposition import TruncatedSVD
from leptonhpc.errors import OptionError

PROMISED = 1e-6
PROBLEMS = {
    "iris": load_iris().data,
    "digits": load_digits().data,
    "tall": make_low_rank_matrix(300, 40, effective_rank=8, random_state=0),
    "wide": make_low_rank_matrix(40, 300, effective_rank=8, random_state=1),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_results_are_those_of_scikit_learn(name: str) -> None:
    x = PROBLEMS[name]
    ours = TruncatedSVD(3)
    fitted = ours.fit_transform(x)
    theirs = sklearn.decomposition.TruncatedSVD(3, algorithm="arpack", random_state=0).fit(x)
    for attribute in (
        "components_", "explained_variance_", "explained_variance_ratio_", "singular_values_",
    ):  # fmt: skip
        difference = np.abs(getattr(ours, attribute) - getattr(theirs, attribute))
        assert np.max(difference) <= PROMISED, attribute
    projected = theirs.transform(x)
    assert np.max(np.abs(ours.transform(x) - projected)) <= PROMISED
    assert np.max(np.abs(fitted - projected)) <= PROMISED
    back = theirs.inverse_transform(projected)
    assert np.max(np.abs(ours.inverse_transform(projected) - back)) <= PROMISED
    assert ours.certificate_.converged


@pytest.mark.parametrize(("dtype", "offset"), [("f4", 1e5), ("f8", 1e8)])
@pytest.mark.parametrize("blocked", [False, True])
def test_variances_about_large_means_do_not_cancel(
    dtype: str, offset: float, blocked: bool, stored: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from leptonhpc.decomposition import bands

    monkeypatch.setattr(bands, "_BAND_NBYTES", 8 * 4 * 150)  # u comes in several bands
    rows = np.random.default_rng(0).standard_normal((500, 8)) * np.arange(1, 9) + offset
    x = rows.astype(dtype)
    ours = TruncatedSVD(4).fit(stored(x, (90, 8)) if blocked else x)
    exact, axes = x.astype("f8") - x.mean(axis=0, dtype="f8"), ours.components_.astype("f8")
    right = (exact @ axes.T).std(axis=0)
    # scores u s are right to c eps s1 in the norm of a column, deviations to 1/sqrt(m) of it
    allowed = ours.certificate_.rounding / np.sqrt(500)
    assert allowed < 0.2 * np.min(right)
    assert np.max(np.abs(np.sqrt(ours.explained_variance_) - right)) <= allowed
    # the whole variance has no part in the rounding of scores: sums of 500 x 8 squares
    whole = ours.explained_variance_ / ours.explained_variance_ratio_
    total = np.sum(exact**2) / 500
    assert np.max(np.abs(whole - total)) <= 4000 * np.finfo("f8").eps * total + (
        4 * np.finfo(dtype).eps * total  # both are rounded to the dtype
    )


def test_single_precision_stays() -> None:
    x = PROBLEMS["digits"]
    exact, single = TruncatedSVD(3).fit(x), TruncatedSVD(3).fit(x.astype("f4"))
    assert single.components_.dtype == single.explained_variance_.dtype == np.float32
    difference = np.abs(single.singular_values_ - exact.singular_values_)
    assert np.max(difference) <= single.certificate_.rounding


@pytest.mark.parametrize("wanted", [0, 5, 1.0, None, True])
def test_a_number_of_components_that_cannot_be_is_refused(wanted: Any) -> None:
    with pytest.raises(OptionError, match="n_components of TruncatedSVD"):
        TruncatedSVD(wanted).fit(PROBLEMS["iris"])
