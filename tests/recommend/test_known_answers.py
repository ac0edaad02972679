"""MovieLens-100K: errors and rankings that are known of it."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_array

from leptonhpc import store
from leptonhpc.datasets import fetch
from leptonhpc.datasets.wheels import RECBOLE, cache_folder, obtain_wheel
from leptonhpc.errors import DatasetError
from leptonhpc.recommend import ALS, ImplicitALS, evaluate, rmse

SHAPE = (943, 1682)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> NDArray[np.int32]:
    """Users and films from 0, and stars; or skip and say why they cannot be had."""
    try:
        obtain_wheel(RECBOLE)
    except DatasetError as error:
        if "could not be downloaded" not in str(error):
            raise
        pytest.skip(str(error))
    out = tmp_path_factory.mktemp("movielens") / "m.zarr"
    array = store.open_array(fetch("movielens", out=out, cache=cache_folder()))
    return array.read(tuple((0, n) for n in array.shape))[:, :3] - [1, 1, 0]


def matrix(rows: NDArray[np.int32], values: NDArray[np.int32]) -> csr_array:
    return csr_array((values.astype("f4"), (rows[:, 0], rows[:, 1])), shape=SHAPE)


def cross_validated(table: NDArray[np.int32], make: Callable[[], ALS]) -> float:
    fold = np.random.default_rng(0).permutation(len(table)) % 5
    errors = []
    for k in range(5):
        train, test = table[fold != k], table[fold == k]
        model = make().fit(matrix(train, train[:, 2]))
        found = np.clip(model.predict(test[:, 0], test[:, 1]), 1, 5)
        errors.append(rmse(found, test[:, 2]))
    return float(np.mean(errors))


def test_factors_and_biases_predict_ratings_to_0_92_stars(table: NDArray[np.int32]) -> None:
    biases = cross_validated(table, lambda: ALS(0, regularization=5.0, weighted=False))
    assert biases <= 0.9439
    assert cross_validated(table, lambda: ALS(8, regularization=10.0, weighted=False)) <= 0.915
    assert cross_validated(table, lambda: ALS(8, regularization=0.12)) <= 0.92


def test_ranking_finds_what_was_held_out(table: NDArray[np.int32]) -> None:
    held = np.random.default_rng(0).random(len(table)) < 0.2
    train, test = (matrix(table[part], np.ones(part.sum())) for part in (~held, held))
    plain = ImplicitALS(64, alpha=1.0, regularization=0.01, tol=0, max_iter=15).fit(train)
    assert evaluate(plain, test)["ndcg"] >= 0.284
    tuned = ImplicitALS(32, alpha=2.0, regularization=10.0, tol=1e-3).fit(train)
    assert evaluate(tuned, test)["ndcg"] >= 0.41


def test_films_of_one_series_are_alike(table: NDArray[np.int32]) -> None:
    model = ImplicitALS(32, alpha=2.0, regularization=10.0, tol=1e-3)
    model.fit(matrix(table, np.ones(len(table))))
    star_wars, empire, jedi = 49, 171, 180
    assert {empire, jedi} <= set(model.similar_items(star_wars, 8).items.tolist())
