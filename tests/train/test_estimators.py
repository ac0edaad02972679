"""Torch models in scikit-learn's pipelines, on arrays and on stores."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from sklearn.datasets import load_digits, load_iris
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

import leptonhpc as lh
from leptonhpc.errors import OptionError, ShapeError
from leptonhpc.testing import put
from leptonhpc.train import TorchClassifier, TorchRegressor

DIFFERENT = {
    "check_classifiers_one_label": "one class is refused: there is nothing to tell apart",
}


def cases() -> list[Any]:
    found = []
    for estimator in (
        TorchClassifier(epochs=20, learning_rate=0.02),
        TorchRegressor(epochs=80, learning_rate=0.02),
    ):
        for one, check in estimator_checks_generator(estimator):
            name = getattr(check, "func", check).__name__
            if name not in DIFFERENT:
                found.append(pytest.param(one, check, id=f"{type(estimator).__name__}-{name}"))
    return found


@pytest.mark.parametrize(("estimator", "check"), cases())
def test_scikit_learn_finds_nothing_wrong(estimator: Any, check: Any) -> None:
    check(estimator)


def test_digits_are_read_as_well_as_such_a_network_can() -> None:
    x, y = load_digits(return_X_y=True)
    train, test, wanted, truth = train_test_split(x, y, random_state=0, stratify=y)
    found = make_pipeline(StandardScaler(), TorchClassifier(epochs=15, learning_rate=3e-3))
    assert found.fit(train, wanted).score(test, truth) >= 0.96


def test_labels_may_be_words_and_folds_may_be_crossed() -> None:
    x, y = load_iris(return_X_y=True)
    words = np.array(["setosa", "versicolor", "virginica"])[y]
    scores = cross_val_score(TorchClassifier(epochs=30, learning_rate=0.02), x, words, cv=3)
    assert scores.mean() > 0.93


def test_samples_may_be_in_a_store(tmp_path: Path, rng: np.random.Generator) -> None:
    x = rng.standard_normal((300, 4))
    y = x @ np.array([[1.0, 0.0], [2.0, 1.0], [0.0, 1.0], [0.0, 3.0]])
    put(x, tmp_path / "x", chunks=(50, 4))
    zarr.save_array(tmp_path / "y", y)
    linear = TorchRegressor(hidden=(), learning_rate=0.05, epochs=40)
    linear.fit(tmp_path / "x", tmp_path / "y")
    said = linear.predict(tmp_path / "x")
    assert said.shape == (300, 2)
    assert np.max(np.abs(said - y)) < 0.01 * np.max(np.abs(y))


def test_a_single_class_is_refused() -> None:
    with pytest.raises(OptionError, match="two classes; y has one class"):
        TorchClassifier().fit(np.ones((4, 2)), np.zeros(4))


def test_batches_of_a_stream_are_learnt_from_as_they_come(rng: np.random.Generator) -> None:
    x = rng.standard_normal((600, 6)).astype("f4")
    y = np.array(["low", "middle", "high"])[(x @ rng.standard_normal((6, 3))).argmax(axis=1)]
    model = TorchClassifier(hidden=(), batch_size=100, learning_rate=0.05)
    with pytest.raises(OptionError, match="needs classes="):
        model.partial_fit(x[:100], y[:100])
    for _ in range(5):
        for first in range(0, 600, 100):
            batch = slice(first, first + 100)
            model.partial_fit(x[batch], y[batch], classes=["low", "middle", "high"])
    assert model.n_iter_ == 30
    assert model.score(x, y) > 0.9
    with pytest.raises(OptionError, match=r"y has .*'odd'.* at row 1"):
        model.partial_fit(x[:2], ["low", "odd"])
    with pytest.raises(OptionError, match="and stay"):
        model.partial_fit(x[:2], y[:2], classes=["low", "high"])
    with pytest.raises(ValueError, match="6 features"):
        model.partial_fit(x[:2, :5], y[:2])
    line = TorchRegressor(hidden=()).partial_fit(x[:9], x[:9, :2])
    with pytest.raises(ShapeError, match=r"shape \(9,\)"):
        line.partial_fit(x[:9], x[:9, 0])


def test_slabs_of_a_growing_array_are_learnt_from(tmp_path: Path, rng: np.random.Generator) -> None:
    x = rng.standard_normal((400, 3))
    both = np.column_stack([x, x @ [1.0, -2.0, 3.0]])
    lh.streams.append(tmp_path / "rows", both, chunk_rows=50)
    lh.streams.end_stream(tmp_path / "rows")
    model = TorchRegressor(hidden=(), batch_size=10, learning_rate=0.05)
    with lh.watch(tmp_path / "rows", rows=100) as slabs:
        for slab in slabs:
            for _ in range(5):
                model.partial_fit(slab.values[:, :3], slab.values[:, 3])
    assert np.max(np.abs(model.predict(x) - both[:, 3])) < 0.05
