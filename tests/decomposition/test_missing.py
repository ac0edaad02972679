"""Missing values are refused with their index, and with a way out that estimators have."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from leptonhpc.decomposition import PCA, IncrementalPCA, KernelPCA, Ridge, TruncatedSVD
from leptonhpc.errors import NonFiniteError

X = np.random.default_rng(0).standard_normal((300, 20))
X[217, 3] = np.nan
Y = np.arange(300.0)
ESTIMATORS: dict[str, Callable[[], Any]] = {
    "PCA": lambda: PCA(2),
    "PCA by sketch": lambda: PCA(2, svd_solver="sketch"),
    "TruncatedSVD": lambda: TruncatedSVD(2),
    "IncrementalPCA": lambda: IncrementalPCA(2, batch_size=100),
    "KernelPCA": lambda: KernelPCA(2, n_landmarks=30, kernel="rbf"),
    "Ridge": lambda: Ridge(),
    "Ridge without intercept": lambda: Ridge(fit_intercept=False),
    "Ridge by lsmr": lambda: Ridge(fit_intercept=False, solver="lsmr"),
    "Ridge by lstsq": lambda: Ridge(alpha=0, fit_intercept=False),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_of_a_stored_array_the_index_and_a_way_out_are_named(name: str, stored: Any) -> None:
    estimator = ESTIMATORS[name]()
    with pytest.raises(NonFiniteError, match=r"nan at (index )?\(217, 3\)") as caught:
        estimator.fit(stored(X, (50, 7)), Y)
    message = str(caught.value)
    assert f"{type(estimator).__name__} takes no missing values: remove such samples" in message
    assert "missing=" not in message
    assert message.count("emove such") == 1  # in place of the driver's words, not after them


def test_the_index_is_that_of_the_array_also_where_it_is_followed(stored: Any) -> None:
    estimator = IncrementalPCA(2, batch_size=100).partial_fit(X[:200])
    with pytest.raises(NonFiniteError, match=r"has nan at index \(217, 3\)"):
        estimator.extend(stored(X, (50, 7)))
    assert estimator.n_samples_seen_ == 200


@pytest.mark.parametrize("name", ESTIMATORS)
def test_of_an_array_in_memory_the_message_is_that_of_scikit_learn(name: str) -> None:
    with pytest.raises(ValueError, match="Input X contains NaN"):
        ESTIMATORS[name]().fit(X, Y)
