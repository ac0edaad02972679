"""Every kind of array goes into every estimator, and gives the same."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import sklearn
import sklearn.decomposition
import sklearn.linear_model
import xarray as xr
import zarr
from sklearn.datasets import load_digits, make_low_rank_matrix
from sklearn.pipeline import make_pipeline

import leptonhpc as lh
from leptonhpc.blocks import BlockedArray
from leptonhpc.decomposition import PCA, IncrementalPCA, KernelPCA, Ridge, TruncatedSVD
from leptonhpc.errors import DTypeError, NonFiniteError, NotAnArrayError, OptionError, ShapeError

X = make_low_rank_matrix(300, 20, effective_rank=5, random_state=0) + 0.3
Y = np.random.default_rng(0).standard_normal(300)
TRANSFORMERS: dict[str, Callable[[], Any]] = {
    "PCA": lambda: PCA(3),
    "whitened PCA": lambda: PCA(3, whiten=True),
    "TruncatedSVD": lambda: TruncatedSVD(3),
    "IncrementalPCA": lambda: IncrementalPCA(3, batch_size=150),
    "KernelPCA": lambda: KernelPCA(3, n_landmarks=40, kernel="rbf"),
}
# entries of X are of order one, and what differs is the order of sums
SAME = 1e3 * np.finfo(float).eps / 1e-2  # over the gap of singular values, which are above 1e-2


def kinds(path: Path) -> dict[str, Any]:
    return {
        "path": path,
        "string": str(path),
        "zarr": zarr.open_array(path, mode="r"),
        "blocked": lh.open(path),
        "dask": da.from_array(X, chunks=(70, 8)),
        "xarray": xr.DataArray(X, dims=("sample", "feature")),
        "xarray over dask": xr.DataArray(da.from_array(X, chunks=(70, 20))),
        "pandas": pd.DataFrame(X),
        "list": X.tolist(),
    }


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_all_kinds_of_arrays_give_the_same(name: str, stored: Any) -> None:
    expected = TRANSFORMERS[name]().fit(X)
    scores = expected.transform(X)
    for kind, x in kinds(stored(X, (70, 20))).items():
        ours = TRANSFORMERS[name]()
        assert np.max(np.abs(ours.fit_transform(x) - scores)) <= SAME, kind
        assert ours.n_features_in_ == 20, kind
        assert np.max(np.abs(ours.transform(x) - scores)) <= SAME, kind
        if hasattr(ours, "inverse_transform"):
            back = ours.inverse_transform(lh.open(scores))
            assert np.max(np.abs(back - expected.inverse_transform(scores))) <= SAME, kind


def test_ridge_takes_all_kinds_of_samples_and_targets(stored: Any) -> None:
    expected = Ridge().fit(X, Y)
    for kind, x in kinds(stored(X, (70, 20))).items():
        ours = Ridge().fit(x, Y)
        assert np.max(np.abs(ours.coef_ - expected.coef_)) <= SAME, kind
        assert np.max(np.abs(ours.predict(x) - expected.predict(X))) <= SAME, kind
    for y in (da.from_array(Y), xr.DataArray(Y), lh.open(Y), list(Y), pd.Series(Y)):
        assert np.max(np.abs(Ridge().fit(X, y).coef_ - expected.coef_)) <= SAME


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_projections_are_written_where_they_are_wanted(
    name: str, stored: Any, tmp_path: Path
) -> None:
    path = stored(X, (70, 20))
    ours = TRANSFORMERS[name]().fit(path)
    for number, x in enumerate((path, X)):
        written = ours.transform(x, out=tmp_path / f"scores-{number}")
        assert isinstance(written, BlockedArray)
        assert np.max(np.abs(np.asarray(written) - ours.transform(X))) <= SAME
    if hasattr(ours, "inverse_transform"):
        back = ours.inverse_transform(tmp_path / "scores-0", out=tmp_path / "back")
        assert zarr.open_array(tmp_path / "back", mode="r").shape == X.shape
        assert np.max(np.abs(np.asarray(back) - ours.inverse_transform(ours.transform(X)))) <= SAME


def test_predictions_are_written_where_they_are_wanted(stored: Any, tmp_path: Path) -> None:
    path = stored(X, (70, 20))
    ours = Ridge().fit(path, Y)
    written = ours.predict(path, out=tmp_path / "y")
    assert written.shape == (300, 1)
    assert np.max(np.abs(np.asarray(written)[:, 0] - ours.predict(X))) <= SAME


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_names_of_components_and_data_frames(name: str, stored: Any) -> None:
    path = stored(X, (70, 20))
    ours = TRANSFORMERS[name]().fit(path)
    names = [f"{type(ours).__name__.lower()}{k}" for k in range(3)]
    assert list(ours.get_feature_names_out()) == names
    frame = ours.set_output(transform="pandas").transform(path)
    assert isinstance(frame, pd.DataFrame)
    assert list(frame.columns) == names
    with sklearn.config_context(transform_output="pandas"):
        assert list(TRANSFORMERS[name]().fit_transform(pd.DataFrame(X)).columns) == names


def test_out_and_data_frames_exclude_one_another(stored: Any, tmp_path: Path) -> None:
    ours = PCA(2).fit(X).set_output(transform="pandas")
    with pytest.raises(OptionError, match="out= makes a Zarr array and set_output a data frame"):
        ours.transform(stored(X, (70, 20)), out=tmp_path / "scores")


def test_estimators_work_in_pipelines() -> None:
    x, y = load_digits(return_X_y=True)
    model = make_pipeline(PCA(20), Ridge()).fit(x, y)
    theirs = make_pipeline(
        sklearn.decomposition.PCA(20, svd_solver="full"), sklearn.linear_model.Ridge()
    ).fit(x, y)
    assert np.max(np.abs(model.predict(x) - theirs.predict(x))) <= 1e-6


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (da.ones((4, 3, 2)), ShapeError, r"needs a matrix .*as_matrix\(\)"),
        (da.ones((1, 3)), ShapeError, r"at least 2 sample\(s\); .* has 1 sample\(s\)"),
        (da.ones((3, 2), dtype=complex), DTypeError, "needs real numbers; .*complex128"),
        (da.ones((9, 2)) * np.nan, NonFiniteError, r"\(0, 0\)"),
        ("nowhere.zarr", OSError, "nowhere.zarr"),
    ],
)
def test_what_is_no_matrix_of_samples_is_refused(x: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        PCA(1).fit(x)


def test_another_number_of_features_is_refused(stored: Any) -> None:
    ours = PCA(2).fit(X)
    message = "X has 7 features, but PCA is expecting 20 features"
    with pytest.raises(ShapeError, match=message):
        ours.transform(stored(X[:, :7], (70, 7)))
    with pytest.raises(ValueError, match=message):
        ours.transform(X[:, :7])
    with pytest.raises(ShapeError, match=r"PCA has 2 components; X has shape \(300, 20\)"):
        ours.inverse_transform(X)


def test_a_dask_data_frame_is_refused_with_the_way_out() -> None:
    class Frame:
        pass

    Frame.__module__ = "dask.dataframe.core"
    with pytest.raises(NotAnArrayError, match="to_dask_array"):
        PCA(1).fit(Frame())


def test_names_of_features_are_forgotten_with_samples_that_have_none(stored: Any) -> None:
    ours = PCA(2).fit(pd.DataFrame(X).add_prefix("f"))
    assert len(ours.feature_names_in_) == 20
    assert not hasattr(ours.fit(stored(X, (70, 20))), "feature_names_in_")


@pytest.mark.parametrize("name", [*TRANSFORMERS, "Ridge"])
@pytest.mark.parametrize(
    ("dtype", "chunks", "single"),
    [
        ("f8", (60, 7), False),
        ("i2", (300, 20), False),
        ("f4", (70, 9), True),
        ("?", (70, 20), False),
    ],
)
def test_stored_numbers_of_all_kinds_and_chunks_are_taken(
    name: str, dtype: str, chunks: tuple[int, int], single: bool, stored: Any
) -> None:
    signal = 3 * np.random.default_rng(3).standard_normal((300, 20)) * np.linspace(5, 1, 20)
    values = signal > 3 if dtype == "?" else signal.astype(dtype)
    path, wide = stored(values, chunks), values.astype("f8")

    def make() -> Any:
        if name == "KernelPCA":  # over distances of this size
            return TRANSFORMERS[name]().set_params(gamma=1e-4)
        return TRANSFORMERS.get(name, Ridge)()

    ours, expected = make().fit(path, Y), make().fit(wide, Y)
    method = "predict" if name == "Ridge" else "transform"
    found, right = getattr(ours, method)(path), getattr(expected, method)(wide)
    assert found.dtype == ("f4" if single else "f8")
    # sums over 300 rows round like random walks; singular values are 1/300 of the largest apart
    allowed = np.sqrt(300) * 300 * float(np.finfo(found.dtype).eps)
    assert np.max(np.abs(found - right)) <= allowed * np.max(np.abs(right))


def test_a_mask_is_not_lost() -> None:
    with pytest.raises(DTypeError, match="values are masked"):
        PCA(3).fit(np.ma.masked_greater(X, X.mean()))
