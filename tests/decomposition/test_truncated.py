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
    ours = TruncatedSVD(3).fit(x)
    theirs = sklearn.decomposition.TruncatedSVD(3, algorithm="arpack", random_state=0).fit(x)
    for attribute in (
        "components_", "explained_variance_", "explained_variance_ratio_", "singular_values_",
    ):  # fmt: skip
        difference = np.abs(getattr(ours, attribute) - getattr(theirs, attribute))
        assert np.max(difference) <= PROMISED, attribute
    projected = theirs.transform(x)
    assert np.max(np.abs(ours.transform(x) - projected)) <= PROMISED
    assert np.max(np.abs(TruncatedSVD(3).fit_transform(x) - projected)) <= PROMISED
    back = theirs.inverse_transform(projected)
    assert np.max(np.abs(ours.inverse_transform(projected) - back)) <= PROMISED
    assert ours.certificate_.converged


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
