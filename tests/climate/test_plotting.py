"""Pictures show the numbers of the modes."""

import io
from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr

from leptonhpc.climate import eof, plot_eof, rotate
from leptonhpc.errors import OptionError, ShapeError

pytest.importorskip("matplotlib", reason="matplotlib is not installed")


def test_maps_are_eofs_in_units_of_the_field_and_series_are_standardised(
    field: xr.DataArray,
) -> None:
    modes = eof(field, modes=3)
    figure = plot_eof(modes, 2, title="Air")
    maps = [axes for axes in figure.axes if axes.get_title()]
    assert [axes.get_title()[:6] for axes in maps] == ["mode 1", "mode 2"]
    for number, axes in enumerate(maps):
        drawn = axes.collections[0].get_array()
        scale = np.sqrt(modes.eigenvalues[number])
        pattern = (modes.eofs[number] / modes.weights * scale).values
        assert np.array_equal(np.ma.getmaskarray(drawn).reshape(9, 12), np.isnan(pattern))
        np.testing.assert_allclose(drawn.reshape(9, 12).filled(np.nan), pattern, rtol=1e-12)
        low, high = axes.collections[0].get_clim()
        assert low == -high
        assert f"{100 * float(modes.variance_fraction[number]):.1f} %" in axes.get_title()
    series = [axes for axes in figure.axes if axes.get_xlabel() == "time"]
    assert len(series) == 2
    np.testing.assert_allclose(np.std(series[0].lines[0].get_ydata(), ddof=1), 1, rtol=1e-6)
    assert figure.get_suptitle() == "Air"
    assert any("K per standard deviation" in axes.get_xlabel() for axes in figure.axes)
    picture = io.BytesIO()
    figure.savefig(picture)
    assert picture.getbuffer().nbytes > 10_000


def test_longitude_is_across_whatever_the_order(field: xr.DataArray) -> None:
    figure = plot_eof(rotate(eof(field.transpose("lon", "time", "lat"), modes=2)))
    assert figure.axes[0].get_xlabel() == "lon"
    assert figure.axes[0].get_ylabel() == "lat"


def test_one_dimension_is_a_line_and_more_than_two_are_refused(
    field: xr.DataArray, make_field: Callable[..., xr.DataArray]
) -> None:
    line = plot_eof(eof(field.isel(lon=0), modes=1))
    assert line.axes[0].get_xlabel() == "lat"
    levels = xr.concat([field, field * 2], "level").transpose("time", "level", "lat", "lon")
    modes = eof(levels, modes=2)
    with pytest.raises(ShapeError, match="level, lat, lon"):
        plot_eof(modes)
    plot_eof(modes.isel(level=0)).savefig(io.BytesIO())
    with pytest.raises(OptionError, match="from 1 to 2"):
        plot_eof(modes.isel(level=0), 3)


def test_maps_can_be_drawn_in_a_projection(field: xr.DataArray) -> None:
    crs = pytest.importorskip("cartopy.crs", reason="cartopy is not installed")
    figure = plot_eof(eof(field, modes=1), projection=crs.Robinson())
    assert figure.axes[0].projection == crs.Robinson()
    assert figure.axes[0].collections
