"""Scores, fields of modes, and modes of new data undo one another."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr

from leptonhpc.climate import correlation_map, eof, project, reconstruct, regression_map, scores
from leptonhpc.errors import NonFiniteError, OptionError, ShapeError

EPS = np.finfo(float).eps
# 280 K in float64, over the smallest weight of the test field, with room for sums of 108 cells
ROUNDING = 280 * EPS * 1000


def test_all_modes_make_the_field_again(field: xr.DataArray) -> None:
    # few samples: all their modes are kept
    short = field.isel(time=slice(20))
    made = reconstruct(eof(short, modes=19))
    assert dask.is_dask_collection(made)
    assert made.dims == field.dims
    assert made.name == "air"
    assert made.attrs["units"] == "K"
    np.testing.assert_allclose(made, short, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("options", [{"anomalies": "month"}, {"detrend": 2}])
def test_what_was_removed_comes_back(field: xr.DataArray, options: dict[str, Any]) -> None:
    most = 48 if "anomalies" in options else 57
    made = reconstruct(eof(field, modes=most, **options))
    np.testing.assert_allclose(made, field, rtol=0, atol=ROUNDING)
    without = reconstruct(eof(field, modes=most, **options), mean=False)
    assert float(abs(without.mean("time")).max()) <= ROUNDING


def test_chosen_modes_add_up(field: xr.DataArray) -> None:
    modes = eof(field, modes=4)
    two = reconstruct(modes, which=2, mean=False)
    others = reconstruct(modes, which=[3, 4], mean=False)
    np.testing.assert_allclose(two + others, reconstruct(modes, mean=False), rtol=0, atol=ROUNDING)
    for wrong in (5, [1, 1], [1.5], "a"):
        with pytest.raises(OptionError, match="from 1 to 4, each at most once"):
            reconstruct(modes, which=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("found", ["noleap calendar", "numbers", "lengths of time"])
def test_trends_are_those_of_one_calendar(field: xr.DataArray, found: str) -> None:
    modes = eof(field, modes=2, detrend=True)
    later = {
        "noleap calendar": lambda: field.convert_calendar("noleap", use_cftime=True),
        "numbers": lambda: field.drop_vars("time"),
        "lengths of time": lambda: field.assign_coords(time=field.time - field.time[0]),
    }[found]()
    with pytest.raises(OptionError, match=f"along dates of the standard calendar; .*{found}"):
        project(modes, later)
    same = field.convert_calendar("gregorian", use_cftime=True)
    np.testing.assert_allclose(project(modes, same), modes.pcs, atol=1e-9)


def test_scores_are_scaled_to_variance(field: xr.DataArray) -> None:
    modes = eof(field, modes=3)
    np.testing.assert_allclose(scores(modes).var("time", ddof=1), modes.eigenvalues, rtol=1e-12)
    np.testing.assert_allclose(scores(modes, scaling="unit").var("time", ddof=1), 1, rtol=1e-12)
    np.testing.assert_allclose(
        scores(modes, scaling="variance").std("time", ddof=1), modes.eigenvalues, rtol=1e-12
    )
    with pytest.raises(OptionError, match="'unit'"):
        scores(modes, scaling="some")  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{}, {"anomalies": "month", "detrend": True}])
def test_old_data_project_to_their_own_scores(
    field: xr.DataArray, options: dict[str, Any], tmp_path: Path
) -> None:
    modes = eof(field, modes=3, **options)
    field.chunk(time=17, lat=4, lon=5).to_dataset().to_zarr(tmp_path / "x.zarr", consolidated=False)
    for data in (field, field.chunk(time=7, lon=5), tmp_path / "x.zarr"):
        found = project(modes, data)
        assert found.dims == ("time", "mode")
        assert np.array_equal(found.time, field.time)
        # the iteration leaves a residual in U S that X V does not have
        np.testing.assert_allclose(found, modes.pcs, rtol=0, atol=1e-6 * 280)


def test_new_data_project_as_by_hand(field: xr.DataArray) -> None:
    modes = eof(field.isel(time=slice(40)), modes=3)
    new = field.isel(time=slice(40, None))
    by_hand = xr.dot(
        (new - modes["mean"]) * modes.weights, modes.eofs.fillna(0), dim=("lat", "lon")
    )
    stacked = ((new - modes["mean"]) * modes.weights).fillna(0)
    by_hand = xr.dot(stacked, modes.eofs.fillna(0), dim=("lat", "lon"))
    found = project(modes, new.transpose("lon", "time", "lat"))
    np.testing.assert_allclose(found, by_hand.transpose("time", "mode"), rtol=0, atol=ROUNDING)


def test_new_data_on_another_grid_or_with_gaps_are_refused(field: xr.DataArray) -> None:
    modes = eof(field, modes=2)
    with pytest.raises(ShapeError, match="lat has 9 values there and 8"):
        project(modes, field.isel(lat=slice(8)))
    with pytest.raises(ShapeError, match="same grid|on the grid"):
        project(modes, field.assign_coords(lon=field.lon + 1))
    curved = (field.lat + 0 * field.lon).drop_vars(("lat", "lon"))
    here = field.drop_vars(("lat", "lon")).rename(lat="y", lon="x")
    here, there = (
        here.assign_coords(lat=(("y", "x"), curved.values + shift)) for shift in (0.0, 3.0)
    )
    bent = eof(here, modes=2)
    np.testing.assert_allclose(project(bent, here.transpose("x", ...)), bent.pcs, atol=1e-9)
    with pytest.raises(ShapeError, match="on the grid of the modes; lat has other values"):
        project(bent, there)
    gappy = field.copy()
    gappy[3, 0, 0] = np.nan
    with pytest.raises(NonFiniteError, match="lat=-80.0"):
        project(modes, gappy)
    with pytest.raises(OptionError, match="eof gave"):
        project(field.to_dataset(), field)
    for other in (field.rename(lat="y"), field.expand_dims(level=2)):
        with pytest.raises(ShapeError, match="must be on the grid of the modes: lat, lon; it has"):
            project(modes, other)


def test_scores_of_other_dimensions_make_no_field(field: xr.DataArray) -> None:
    modes = eof(field, modes=2)
    with pytest.raises(ShapeError, match="dimensions time and mode.*these have t, mode"):
        reconstruct(modes, pcs=modes.pcs.rename(time="t"))


def test_several_fields_are_made_and_projected(make_field: Callable[..., xr.DataArray]) -> None:
    air, sst = make_field(20, name="air"), make_field(20, lats=6, name="sst").rename(lat="y")
    modes = eof([air, sst], modes=19, weights=["coslat", None])
    np.testing.assert_allclose(reconstruct(modes, field="sst"), sst, rtol=0, atol=ROUNDING)
    np.testing.assert_allclose(reconstruct(modes, field="air"), air, rtol=0, atol=ROUNDING)
    np.testing.assert_allclose(project(modes, [air, sst]), modes.pcs, rtol=0, atol=1e-9)
    with pytest.raises(OptionError, match="air, sst"):
        reconstruct(modes)


@pytest.mark.parametrize("chunks", [None, {"time": 13, "lat": 4, "lon": 5}])
def test_maps_are_regressions_and_correlations_of_cells(
    field: xr.DataArray, rng: np.random.Generator, chunks: dict[str, int] | None
) -> None:
    index = xr.DataArray(
        rng.standard_normal((60, 2)) + 3, dims=("time", "index"), coords={"time": field.time}
    )
    data = field if chunks is None else field.chunk(chunks)
    slope, correlation = regression_map(index, data), correlation_map(index, data)
    one = correlation_map(index[:, 1], data)
    for number in range(2):
        x = index.values[:, number]
        for lat, lon in ((0, 0), (5, 7), (8, 11)):
            y = field.values[:, lat, lon]
            expected = np.polyfit((x - x.mean()) / x.std(), y, 1)[0]
            np.testing.assert_allclose(slope[number, lat, lon], expected, rtol=1e-9, atol=ROUNDING)
            expected = np.corrcoef(x, y)[0, 1]
            np.testing.assert_allclose(correlation[number, lat, lon], expected, atol=1e-12)
    assert slope.dims == ("index", "lat", "lon")
    assert bool(slope[:, 2, 3].isnull().all())
    np.testing.assert_allclose(one, correlation[1], rtol=0, atol=1e-12)
    assert slope.attrs["units"] == "K"
    with pytest.raises(ShapeError, match="60, 50|same time"):
        regression_map(index, field.isel(time=slice(50)))
    with pytest.raises(OptionError, match="does not vary"):
        regression_map(index * 0, field)


def test_regression_on_scores_is_the_eof_in_units_of_the_field(field: xr.DataArray) -> None:
    modes = eof(field, modes=2)
    found = regression_map(modes, field)
    # population deviations: the n of a mean, not n - 1
    expected = modes.eofs / modes.weights * modes.singular_values / np.sqrt(60)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_number_of_modes_may_be_one_of_numpy(field: xr.DataArray) -> None:
    modes = eof(field, modes=3)
    one, other = (reconstruct(modes, which=which) for which in (2, np.int64(2)))
    xr.testing.assert_identical(one.compute(), other.compute())


def test_complex_fields_are_projected_on_their_own_modes(
    field: xr.DataArray, rng: np.random.Generator
) -> None:
    moving = field * np.exp(2j * np.pi * rng.random(field.shape))
    modes = eof(moving, modes=3)
    size = float(abs(modes.pcs).max())
    np.testing.assert_allclose(project(modes, moving), modes.pcs, rtol=0, atol=1e-6 * size)


def test_infinite_new_data_are_refused_and_named(field: xr.DataArray) -> None:
    modes = eof(field, modes=2, detrend=True)
    broken = field.copy()
    broken[41, 5, 7] = -np.inf
    place = "air is -inf at time=2003-06.*lat=20.0, lon=210.0"
    with pytest.raises(NonFiniteError, match=place):
        project(modes, broken)
    for other in ({}, {"detrend": True}):
        with pytest.raises(NonFiniteError, match=place if other else "inf"):
            eof(broken, modes=2, **other)
    broken[41, 5, 7] = 280.0
    broken[41, 2, 3] = np.inf
    with pytest.raises(NonFiniteError, match="air is inf at .*lat=-40.0, lon=90.0"):
        project(modes, broken)
