"""On a cluster of processes the same numbers come out."""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from distributed import Client, LocalCluster
from sklearn.datasets import make_low_rank_matrix

from leptonhpc.decomposition import NMF, PCA, IncrementalPCA, KernelPCA, Ridge, TruncatedSVD


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, memory_limit=0,
        host="127.0.0.1", dashboard_address="127.0.0.1:0", worker_dashboard_address="127.0.0.1:0",
    ) as cluster:  # fmt: skip
        with Client(cluster, set_as_default=False) as connected:
            yield connected
        warnings.simplefilter("ignore")


X = make_low_rank_matrix(400, 20, effective_rank=5, random_state=0) + 0.3
Y = np.random.default_rng(0).standard_normal(400)


def test_the_same_comes_out_on_a_cluster(client: Client, stored: Any) -> None:
    path = stored(X, (100, 20))
    for estimator in (
        PCA(3), TruncatedSVD(3), IncrementalPCA(3, batch_size=150),
        KernelPCA(3, n_landmarks=30, kernel="rbf"), Ridge(),
    ):  # fmt: skip
        with client.as_current():
            shared = estimator.fit(path, Y)
            assert shared.report_.workers == 2
            there = _outcome(shared, path)
        alone = estimator.fit(path, Y)
        assert alone.report_.workers == 1
        here = _outcome(alone, path)
        # sums in another order, over singular values above 1e-2
        assert there.shape == here.shape
        name = type(estimator).__name__
        assert np.max(np.abs(there - here)) <= 400 * np.finfo(float).eps / 1e-2, name


@pytest.mark.filterwarnings("ignore::leptonhpc.errors.NotConvergedWarning")
@pytest.mark.parametrize("options", [{}, {"method": "compressed"}, {"init": "random"}])
def test_factors_are_the_same_on_a_cluster(
    client: Client, stored: Any, options: dict[str, Any]
) -> None:
    x = np.abs(X)
    path = stored(x, (50, 20))
    nmf = NMF(3, max_iter=6, tol=0, **options)
    products = []
    for workers in (2, 1):
        if workers == 2:
            with client.as_current():
                w = np.asarray(nmf.fit_transform(path))
        else:
            w = np.asarray(nmf.fit_transform(path))
        assert nmf.report_.workers == workers
        products.append(w @ nmf.components_)
    # sums in another order, through six sweeps
    allowed = 6 * 64 * 400 * np.finfo(float).eps * np.linalg.norm(x)
    assert np.linalg.norm(products[0] - products[1]) <= allowed


def _outcome(estimator: Any, path: Any) -> np.ndarray:
    return np.asarray(
        estimator.predict(path) if isinstance(estimator, Ridge) else estimator.transform(path)
    )
