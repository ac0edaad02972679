"""Pictures show the numbers of the modes."""

import io
from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr

from leptonhpc.climate import eof, plot_eof, plot_scree, rotate
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


def test_scree_shows_eigenvalues_their_errors_and_which_are_apart(field: xr.DataArray) -> None:
    modes = eof(field, modes=4)
    modes["eigenvalues"] = modes.eigenvalues.copy(data=[10.0, 5.0, 4.9, 1.0])
    modes["north_errors"] = modes.eigenvalues * np.sqrt(2 / 60)
    figure = plot_scree(modes, 3)
    apart, mixed = figure.axes[0].containers
    assert apart.lines[0].get_xdata().tolist() == [1]
    assert mixed.lines[0].get_xdata().tolist() == [2, 3]
    for bars in (apart, mixed):
        numbers, values = bars.lines[0].get_data()
        ends = np.array([segment[:, 1] for segment in bars.lines[2][0].get_segments()])
        errors = modes.north_errors.sel(mode=numbers).values
        np.testing.assert_array_equal(values, modes.eigenvalues.sel(mode=numbers))
        np.testing.assert_allclose(ends, np.stack([values - errors, values + errors], 1))
    assert figure.get_suptitle() == "Eigenvalues of air"
    figure.savefig(io.BytesIO())
    (share,) = figure.axes[0].child_axes
    percent = 100 * 5.0 / float(modes.total_variance)
    assert share.transData.transform((0, percent))[1] == pytest.approx(
        figure.axes[0].transData.transform((0, 5.0))[1]
    )


def test_scree_of_rotated_modes_is_refused(field: xr.DataArray) -> None:
    modes = eof(field, modes=3)
    with pytest.raises(OptionError, match="rotated"):
        plot_scree(rotate(modes))
    with pytest.raises(OptionError, match="from 1 to 3; found 0"):
        plot_scree(modes, 0)
