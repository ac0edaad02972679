"""The NMF estimator: as scikit-learn's on arrays in memory and stored, and on streams."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.decomposition as peer
from scipy.optimize import nnls
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler

import leptonhpc as lh
from leptonhpc.decomposition import NMF
from leptonhpc.errors import NegativeValueError, NonFiniteError, OptionError, ShapeError

X = load_digits().data[:600]


@pytest.mark.parametrize("loss", ["frobenius", "kullback-leibler"])
def test_error_is_that_of_scikit_learn_or_less(loss: Any) -> None:
    solver = "cd" if loss == "frobenius" else "mu"
    with warnings.catch_warnings(action="ignore"):
        theirs = peer.NMF(8, init="nndsvda", beta_loss=loss, solver=solver, max_iter=200).fit(X)
        ours = NMF(8, init="nndsvda", beta_loss=loss).fit(X)
    assert ours.reconstruction_err_ <= 1.01 * theirs.reconstruction_err_
    assert ours.components_.shape == theirs.components_.shape
    assert ours.n_components_ == 8
    assert ours.n_iter_ == ours.certificate_.sweeps


def test_error_is_that_of_what_is_restored() -> None:
    nmf = NMF(8)
    w = nmf.fit_transform(X)
    error = np.linalg.norm(X - nmf.inverse_transform(w))
    assert error == pytest.approx(nmf.reconstruction_err_, rel=1e-9)


def test_weights_are_those_of_nnls() -> None:
    nmf = NMF(6).fit(X)
    expected = np.stack([nnls(nmf.components_.T, row)[0] for row in X[:40]])
    least = np.linalg.eigvalsh(nmf.components_ @ nmf.components_.T)[0]
    norms = np.linalg.norm(nmf.components_, axis=1).max()
    # the gradient is within 1e-9 |X| of optimal, with components scaled to one
    allowed = 2e-9 * np.linalg.norm(X[:40]) * norms / least
    assert np.max(np.abs(nmf.transform(X[:40]) - expected)) <= allowed


def test_stored_and_blocked_samples_give_what_samples_in_memory_give(stored: Any) -> None:
    path = stored(X, (64, 64))
    nmf = NMF(5, memory="1 GB")
    w = nmf.fit_transform(X)
    for samples in (path, str(path), lh.open(path)):
        other = clone(nmf)
        other_w = np.asarray(other.fit_transform(samples))
        # sums in another order, through as many sweeps
        allowed = 64 * nmf.n_iter_ * 600 * np.finfo(float).eps * np.linalg.norm(X)
        assert np.linalg.norm(w @ nmf.components_ - other_w @ other.components_) <= allowed
        assert other.n_features_in_ == 64


def test_results_can_be_written_to_zarr(stored: Any, tmp_path: Path) -> None:
    path = stored(X, (64, 64))
    nmf = NMF(5, memory="1 GB").fit(path)
    w = nmf.transform(path, out=tmp_path / "w")
    back = nmf.inverse_transform(tmp_path / "w", out=tmp_path / "back")
    assert np.array_equal(np.asarray(lh.open(tmp_path / "w")), np.asarray(w))
    assert np.array_equal(np.asarray(w), nmf.transform(X))
    assert np.allclose(np.asarray(back), np.asarray(w) @ nmf.components_, rtol=1e-13, atol=1e-12)


def test_single_precision_stays_single() -> None:
    nmf = NMF(4).fit(X.astype("f4"))
    assert nmf.components_.dtype == nmf.transform(X[:9].astype("f4")).dtype == np.float32


def test_factors_can_be_given_to_begin_with() -> None:
    rng = np.random.default_rng(0)
    w0, h0 = rng.random((600, 4)), rng.random((4, 64))
    nmf = NMF(4)
    nmf.fit_transform(X, W=w0, H=h0)
    direct = lh.nmf(X, w0=w0, h0=h0)
    assert np.array_equal(nmf.components_, direct.h)
    with pytest.raises(OptionError, match="W and H together"):
        nmf.fit_transform(X, W=w0)


def test_it_works_in_a_pipeline() -> None:
    pipeline = make_pipeline(MaxAbsScaler(), NMF(4)).set_output(transform="pandas")
    frame = pipeline.fit_transform(X)
    assert list(frame.columns) == ["nmf0", "nmf1", "nmf2", "nmf3"]


STREAM_LOSSES: list[Any] = ["frobenius", "kullback-leibler"]


@pytest.mark.parametrize("loss", STREAM_LOSSES)
def test_a_stream_comes_near_to_what_is_found_in_all_of_it(loss: Any) -> None:
    rng = np.random.default_rng(0)
    x = rng.gamma(0.5, size=(500, 5)) @ rng.gamma(0.5, size=(5, 40)) + 0.01 * rng.random((500, 40))
    with warnings.catch_warnings(action="ignore"):
        whole = NMF(5, beta_loss=loss, tol=1e-5).fit(x)
        online = NMF(5, beta_loss=loss)
        errors = []
        for begin in range(0, 500, 100):
            online.partial_fit(x[begin : begin + 100])
            errors.append(_error(online, x, loss))
    assert online.n_samples_seen_ == 500
    assert errors[-1] <= errors[0]
    # one look at each sample, against all looks that are needed
    assert errors[-1] <= 2 * _error(whole, x, loss)
    assert _error(whole, x, loss) <= 0.05


def test_components_of_a_stream_are_best_for_its_sums() -> None:
    online = NMF(4)
    batches = [X[i : i + 150] for i in range(0, 600, 150)]
    w_of = []
    for batch in batches:
        first = not w_of
        if not first:
            w_of.append(online.transform(batch))
        online.partial_fit(batch)
        if first:
            w_of.append(NMF(4).fit_transform(batch))
    w = np.concatenate(w_of)
    # H of min |X - WH| for the weights that batches had when they came
    expected = np.stack([nnls(w, column)[0] for column in X.T], axis=1)
    loss = [np.linalg.norm(X - w @ h) for h in (online.components_, expected)]
    assert loss[0] <= (1 + 1e-4) * loss[1]


def test_forgetting_follows_a_change() -> None:
    rng = np.random.default_rng(1)
    old, new = rng.gamma(0.3, size=(2, 3, 30))
    before = [rng.gamma(0.5, size=(100, 3)) @ old for _ in range(6)]
    after = [rng.gamma(0.5, size=(100, 3)) @ new for _ in range(6)]
    errors = []
    for factor in (1.0, 0.2):
        online = NMF(3, forget_factor=factor)
        for batch in before + after:
            online.partial_fit(batch)
        errors.append(_error(online, after[-1], "frobenius"))
    assert errors[1] < 0.5 * errors[0]


def test_extending_reads_the_new_rows_only(stored: Any) -> None:
    import zarr

    path = stored(X[:200], (50, 64))
    grown = NMF(4, batch_size=50).extend(path)
    assert grown.n_samples_seen_ == 200
    array = zarr.open_array(path, mode="r+")
    array.resize((300, 64))
    array[200:] = X[200:300]
    grown.extend(path)
    at_once = NMF(4, batch_size=50).extend(path)
    assert grown.n_samples_seen_ == 300
    assert np.array_equal(grown.components_, at_once.components_)
    assert np.array_equal(grown.extend(path).components_, at_once.components_)
    with pytest.raises(ShapeError, match="not yet seen"):
        grown.extend(X[:100])


def test_bad_samples_are_refused(stored: Any) -> None:
    bad = X.copy()
    bad[70, 3] = -1
    with pytest.raises(ValueError, match="Negative values in data passed to NMF"):
        NMF(2).fit(bad)
    with pytest.raises(NegativeValueError, match=r"-1.0 at index \(70, 3\)"):
        NMF(2).fit(stored(bad, (50, 64)))
    bad[70, 3] = np.nan
    with pytest.raises(NonFiniteError, match="NMF takes no missing values"):
        NMF(2).fit(stored(bad, (50, 64), "nan"))
    for options, words in (
        ({"n_components": 0}, "whole number from 1"), ({"forget_factor": 0.0}, "above 0"),
        ({"beta_loss": "euclid"}, "loss is one of"),
    ):  # fmt: skip
        with pytest.raises(OptionError, match=words):
            NMF(**{"n_components": 2, **options}).partial_fit(X)
    with pytest.raises(ShapeError, match="2 components"):
        NMF(2).fit(X).inverse_transform(np.ones((3, 5)))
    changed = NMF(2).partial_fit(X).set_params(n_components=3)
    with pytest.raises(OptionError, match="use fit to begin anew"):
        changed.partial_fit(X)


def _error(nmf: NMF, x: np.ndarray, loss: str) -> float:
    y = nmf.transform(x) @ nmf.components_
    if loss == "frobenius":
        return float(np.linalg.norm(x - y) / np.linalg.norm(x))
    return float(np.sqrt(np.sum(x * np.log(x / np.maximum(y, 1e-30)) - x + y) / x.sum()))
