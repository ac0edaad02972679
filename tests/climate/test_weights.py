"""Latitude is found, and only where it is; weights are the root of its cosine."""

from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr

from leptonhpc.climate import eof, reconstruct
from leptonhpc.errors import OptionError

EPS = np.finfo(float).eps


def test_latitude_in_radians_is_converted(field: xr.DataArray) -> None:
    expected = eof(field, modes=2)
    turned = field.assign_coords(lat=np.deg2rad(field.lat.values))
    turned["lat"].attrs["units"] = "radian"
    found = eof(turned, modes=2)
    np.testing.assert_allclose(found.weights.values, expected.weights.values, rtol=8 * EPS)
    np.testing.assert_allclose(found.eigenvalues, expected.eigenvalues, rtol=1e-9)


def test_single_number_is_no_latitude_where_a_dimension_is(field: xr.DataArray) -> None:
    expected = eof(field, modes=1).weights.values
    station = xr.Variable((), 80.0, {"units": "degrees_north"})
    track = xr.Variable("time", np.zeros(60), {"standard_name": "latitude"})
    for other in (station, track):
        # the first that is found
        coords = {"reference": other, **field.coords}
        given = xr.DataArray(field.values, dims=field.dims, coords=coords, name="air")
        assert next(iter(given.coords)) == "reference"
        np.testing.assert_array_equal(eof(given, modes=1).weights.values, expected)


def test_two_latitudes_are_refused_and_named(field: xr.DataArray) -> None:
    other = xr.Variable("lat", field.lat.values / 2, {"units": "degrees_north"})
    with pytest.raises(OptionError, match="one latitude; .*lat.*all say"):
        eof(field.assign_coords(rotated=other), modes=1)


def test_weights_are_an_array_of_real_numbers(field: xr.DataArray) -> None:
    flat = field[0].fillna(1).drop_vars("time")
    for wrong, found in ((flat.to_dataset(), "Dataset"), (flat * 1j, "complex128"), (3, "int")):
        with pytest.raises(OptionError, match=f"DataArray of real numbers; found {found}"):
            eof(field, modes=1, weights=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_poles_have_no_weight(make_field: Callable[..., xr.DataArray], dtype: type) -> None:
    field = make_field(20)
    field = field.assign_coords(lat=("lat", np.linspace(90, -90, 9), field.lat.attrs))
    modes = eof(field.astype(dtype), modes=19)
    assert modes.weights.values[[0, -1]].tolist() == [[0.0] * 12] * 2
    assert bool((modes.weights[1] > 0).all())
    made = reconstruct(modes).values
    assert np.isnan(made[:, [0, -1]]).all()


def test_latitude_may_be_missing_on_land(field: xr.DataArray) -> None:
    """As on the grids of ocean models; where there are data a cell is never left out for it."""
    lat = field.lat.broadcast_like(field[0])
    curved = field.rename(lat="j", lon="i").drop_vars(("j", "i"))
    known = lat.where(field[0].notnull()).values
    found = eof(curved.assign_coords(lat=(("j", "i"), known)), modes=2)
    np.testing.assert_array_equal(found.eigenvalues, eof(field, modes=2).eigenvalues)
    known[0, 0] = np.nan
    with pytest.raises(OptionError, match="latitude be known; found nan"):
        eof(curved.assign_coords(lat=(("j", "i"), known)), modes=2)
