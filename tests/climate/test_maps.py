"""Maps of correlation and regression equal those of each cell by itself."""

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

from leptonhpc.climate import correlation_map, regression_map
from leptonhpc.errors import NonFiniteError, NotAnArrayError, OptionError, ShapeError

EPS = np.finfo(float).eps
TIMES = 120


def series(values: NDArray[np.generic]) -> xr.DataArray:
    return xr.DataArray(values, dims="time", coords={"time": np.arange(TIMES)}, name="index")


def cells(values: NDArray[np.generic]) -> xr.DataArray:
    return xr.DataArray(values, dims=("time", "x"), coords={"time": np.arange(TIMES)}, name="air")


@pytest.mark.parametrize("mean", [0.0, 288.0, 1e4])
def test_series_in_single_precision_are_standardised_in_double(
    rng: np.random.Generator, mean: float
) -> None:
    """Both are far from zero: a residue of the mean of one would be multiplied by that of other."""
    given = (rng.standard_normal(TIMES) * 0.5 + mean).astype(np.float32)
    values = rng.standard_normal((TIMES, 6)) * 10 + 1e5
    exact = given.astype(float) - given.astype(float).mean()
    anomaly = values - values.mean(axis=0)
    expected = exact @ anomaly / np.linalg.norm(exact) / np.linalg.norm(anomaly, axis=0)
    found = correlation_map(series(given), cells(values))
    # values of 1e5 that vary by 10 have lost four digits before they are given
    np.testing.assert_allclose(found, expected, rtol=0, atol=TIMES * EPS * 1e4)
    slope = regression_map(series(given), cells(values))
    np.testing.assert_allclose(
        slope, expected * anomaly.std(axis=0), rtol=0, atol=TIMES * EPS * 1e5
    )


def test_correlation_of_a_field_with_its_own_cell_is_one(rng: np.random.Generator) -> None:
    values = (rng.standard_normal((TIMES, 3)) * 0.1 + 280).astype(np.float32)
    found = correlation_map(series(values[:, 1]), cells(values))
    assert float(found[1]) == pytest.approx(1, abs=TIMES * EPS)


def test_complex_fields_are_correlated_by_their_absolute_variance(
    rng: np.random.Generator,
) -> None:
    given = rng.standard_normal(TIMES)
    values = rng.standard_normal((TIMES, 4)) + 1j * rng.standard_normal((TIMES, 4)) + 3
    one, x = given - given.mean(), values - values.mean(axis=0)
    expected = one @ x / np.linalg.norm(one) / np.linalg.norm(x, axis=0)
    found = correlation_map(series(given), cells(values))
    np.testing.assert_allclose(found, expected, rtol=0, atol=TIMES * EPS)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_cells_that_do_not_vary_have_no_correlation(rng: np.random.Generator, dtype: str) -> None:
    values = rng.standard_normal((TIMES, 4))
    values[:, 0], values[:, 1] = 0.1, 280.15
    values[:, 2] = 1 / 3 + EPS / 4 * rng.integers(0, 2, TIMES)
    found = correlation_map(series(rng.standard_normal(TIMES)), cells(values.astype(dtype)))
    assert np.isnan(found.values).tolist() == [True, True, True, False]


def test_series_that_do_not_vary_or_are_not_finite_are_refused(rng: np.random.Generator) -> None:
    field = cells(rng.standard_normal((TIMES, 2)))
    for dtype in ("f4", "f8"):
        with pytest.raises(OptionError, match="does not vary"):
            regression_map(series(np.full(TIMES, 0.1, dtype)), field)
    with pytest.raises(ShapeError, match="'series' of the series; rename that of air"):
        regression_map(series(rng.standard_normal(TIMES)), field.rename(x="series"))
    with pytest.raises(NotAnArrayError, match="found ndarray"):
        regression_map(np.arange(TIMES), field)  # type: ignore[arg-type]
    for wrong in (np.nan, np.inf):
        given = rng.standard_normal(TIMES)
        given[7] = wrong
        with pytest.raises(NonFiniteError, match="index is not at time=7"):
            correlation_map(series(given), field)


@pytest.mark.parametrize("of", [correlation_map, regression_map])
@pytest.mark.parametrize("at", [0, 50])
def test_infinite_values_are_refused_and_named(
    rng: np.random.Generator, of: object, at: int
) -> None:
    values = rng.standard_normal((TIMES, 3))
    values[at, 2] = np.inf
    assert callable(of)
    with pytest.raises(NonFiniteError, match=f"air is inf at time={at}, x=2"):
        of(series(rng.standard_normal(TIMES)), cells(values))
