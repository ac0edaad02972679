"""Common EOFs are eigenvectors of the mean covariance of the models."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr

from leptonhpc.climate import common_eofs, eof
from leptonhpc.errors import OptionError, ShapeError

Make = Callable[..., xr.DataArray]
ACCURACY = 1e-9


@pytest.fixture
def models(make_field: Make) -> dict[str, xr.DataArray]:
    """Three models of different lengths; the second has a lake more."""
    found = {name: make_field(times=times) for name, times in (("a", 40), ("b", 65), ("c", 52))}
    found["b"] = found["b"].where(found["b"].lon != 300)
    return found


def weighted(field: xr.DataArray) -> np.ndarray:
    weights = np.sqrt(np.cos(np.deg2rad(field.lat.values)))[:, None]
    return np.asarray((field - field.mean("time")).values * weights).reshape(len(field), -1)


def test_they_are_eigenvectors_of_the_mean_covariance(models: dict[str, xr.DataArray]) -> None:
    found = common_eofs(models, 4, accuracy=ACCURACY)
    matrices = {name: weighted(field) for name, field in models.items()}
    there = np.all([np.isfinite(m).all(axis=0) for m in matrices.values()], axis=0)
    covariances = [m[:, there].T @ m[:, there] / (len(m) - 1) for m in matrices.values()]
    mean = np.mean(covariances, axis=0)
    values, vectors = np.linalg.eigh(mean)
    np.testing.assert_allclose(found.eigenvalues, values[::-1][:4], rtol=1e-8)
    eofs = found.eofs.values.reshape(4, -1)
    assert np.isnan(eofs[:, ~there]).all()
    cosines = np.abs(np.sum(eofs[:, there] * vectors[:, ::-1][:, :4].T, axis=1))
    np.testing.assert_allclose(cosines, 1, atol=1e-8)
    share = values[::-1][:4] / np.trace(mean)
    np.testing.assert_allclose(found.variance_fraction, share, rtol=1e-8)
    for number, (name, matrix) in enumerate(matrices.items()):
        scores = matrix[:, there] @ eofs[:, there].T
        np.testing.assert_allclose(found[f"pcs_{name}"], scores, atol=1e-8 * np.abs(scores).max())
        own = scores.var(axis=0, ddof=1)
        np.testing.assert_allclose(found.model_variances[number], own, rtol=1e-8)
        total = np.trace(covariances[number])
        np.testing.assert_allclose(found.model_variance_fraction[number], own / total, rtol=1e-8)
    assert found.pcs_b.dims == ("time_b", "mode")
    np.testing.assert_array_equal(found.time_b, models["b"].time)


def test_of_one_model_they_are_its_eofs(make_field: Make) -> None:
    field = make_field()
    options: dict[str, Any] = {"anomalies": "month", "detrend": True, "accuracy": ACCURACY}
    found, expected = common_eofs({"one": field}, 3, **options), eof(field, 3, **options)
    np.testing.assert_allclose(found.eigenvalues, expected.eigenvalues, rtol=1e-9)
    cosines = np.abs((found.eofs * expected.eofs).sum(("lat", "lon")))
    np.testing.assert_allclose(cosines, 1, atol=1e-9)


def test_chunks_and_memory_change_nothing(models: dict[str, xr.DataArray]) -> None:
    whole = common_eofs(models, 3, accuracy=ACCURACY)
    chunked = {name: field.chunk(time=17, lat=4) for name, field in models.items()}
    found = common_eofs(chunked, 3, accuracy=ACCURACY, memory="400 MB")
    np.testing.assert_allclose(found.eigenvalues, whole.eigenvalues, rtol=1e-9)


def test_what_has_no_common_eofs_is_refused(models: dict[str, xr.DataArray]) -> None:
    with pytest.raises(OptionError, match="it is empty"):
        common_eofs({})
    shifted = {**models, "d": models["a"].assign_coords(lon=models["a"].lon + 1)}
    with pytest.raises(ShapeError, match="d and a have different lon"):
        common_eofs(shifted, 2)
    curved = models["a"].assign_coords(latitude=models["a"].lat + 0 * models["a"].lon)
    curved = curved.drop_vars("lat")
    moved = curved.assign_coords(latitude=curved.latitude / 2)
    with pytest.raises(ShapeError, match="e and d have different latitude"):
        common_eofs({"d": curved, "e": moved}, 2)
    with pytest.raises(ShapeError, match="dimensions"):
        common_eofs({"a": models["a"], "d": models["a"].isel(lat=0)}, 2)
    with pytest.raises(OptionError, match="one field; found 2"):
        common_eofs({"a": [models["a"], models["a"].rename("other")]}, 2)
    with pytest.raises(OptionError, match="modes is from 1 to"):
        common_eofs(models, 1000)
    with pytest.raises(OptionError, match="more samples than ddof=1; short has 1"):
        common_eofs({**models, "short": models["a"][:1]}, 2)
