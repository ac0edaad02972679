"""Pictures show the numbers of the modes."""

import io
import subprocess
import sys
import warnings
from collections.abc import Callable
from types import ModuleType
from urllib.error import URLError

import numpy as np
import pytest
import xarray as xr

from leptonhpc.climate import eof, hilbert_eof, plot_eof, plot_scree, rotate
from leptonhpc.climate.axes import draw_coastlines, globe, in_order
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
    assert figure.axes[0].get_xlabel() == "lon (°E)"
    assert figure.axes[0].get_ylabel() == "lat (°N)"


def test_one_dimension_is_a_line_and_more_than_two_are_refused(
    field: xr.DataArray, make_field: Callable[..., xr.DataArray]
) -> None:
    line = plot_eof(eof(field.isel(lon=0), modes=1))
    assert line.axes[0].get_xlabel() == "lat (°N)"
    levels = xr.concat([field, field * 2], "level").transpose("time", "level", "lat", "lon")
    modes = eof(levels, modes=2)
    with pytest.raises(ShapeError, match="level, lat, lon"):
        plot_eof(modes)
    plot_eof(modes.isel(level=0)).savefig(io.BytesIO())
    with pytest.raises(OptionError, match="from 1 to 2"):
        plot_eof(modes.isel(level=0), 3)


def test_maps_can_be_drawn_in_a_projection(field: xr.DataArray) -> None:
    crs = pytest.importorskip("cartopy.crs", reason="cartopy is not installed")
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        figure = plot_eof(eof(field, modes=2), projection=crs.Robinson())
        figure.savefig(io.BytesIO())
    assert sum("no coastlines" in str(one.message) for one in warned) <= 1  # not for each map
    assert figure.axes[0].projection == crs.Robinson()
    assert figure.axes[0].collections
    assert figure.axes[0].get_facecolor()[:3] == (0.85,) * 3  # land, as on other maps


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


def test_longitudes_that_wrap_are_drawn_in_order(field: xr.DataArray) -> None:
    """Those from 0 to 330 that a user calls -180 to 150 are no longer sorted."""
    wrapped = field.assign_coords(lon=(field.lon + 180) % 360 - 180)
    drawn = [
        plot_eof(eof(one, modes=1)).axes[0].collections[0]
        for one in (wrapped, wrapped.sortby("lon"))
    ]
    first, second = (np.abs(one.get_array().filled(np.nan)) for one in drawn)
    np.testing.assert_allclose(first, second, rtol=1e-6)
    np.testing.assert_array_equal(drawn[0].get_coordinates(), drawn[1].get_coordinates())
    assert np.all(np.diff(drawn[0].get_coordinates()[0, :, 0]) > 0)


def test_pressure_goes_up_the_page_as_it_falls(field: xr.DataArray) -> None:
    levels = xr.DataArray([1000.0, 500.0], dims="plev", attrs={"units": "hPa"})
    section = xr.concat([field[..., 0], field[..., 1]], levels)
    axes = plot_eof(eof(section, modes=1)).axes[0]
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("plev (hPa)", "lat (°N)")
    assert axes.yaxis.get_inverted()
    assert not plot_eof(eof(field, modes=1)).axes[0].yaxis.get_inverted()


def test_samples_of_every_kind_have_a_place(field: xr.DataArray) -> None:
    days = field.assign_coords(time=field.time - field.time[0])
    assert in_order(days, "time")[0][1] == 31
    calendar = xr.date_range("2000-01", periods=60, freq="MS", calendar="360_day", use_cftime=True)
    years, _ = in_order(field.assign_coords(time=calendar), "time")
    assert np.all(np.abs(years - 2000 - np.arange(60) / 12) < 0.1)
    places, sorted_field = in_order(field.isel(time=[5, 3, 4]), "time")
    assert np.all(np.diff(places) > np.timedelta64(0))
    np.testing.assert_array_equal(sorted_field, field.isel(time=[3, 4, 5]))
    members = xr.concat([field, field * 1.1], "member").stack(sample=("member", "time"))
    figure = plot_eof(eof(members, modes=1, dim="sample"))
    line = next(axes for axes in figure.axes if axes.get_xlabel() == "sample").lines[0]
    np.testing.assert_array_equal(line.get_xdata(), np.arange(120))


def test_curved_grids_are_on_the_globe_where_their_coordinates_are(field: xr.DataArray) -> None:
    lat, lon = xr.broadcast(field.lat, field.lon)
    curved = field[0].drop_vars(["lat", "lon"]).rename(lat="j", lon="i")
    curved = curved.assign_coords(
        nav_lat=(("j", "i"), (lat + lon / 90).values, {"standard_name": "latitude"}),
        nav_lon=(("j", "i"), lon.values, {"units": "degrees_east"}),
    )
    across, up = globe(curved.transpose("i", "j"), "j", "i")
    np.testing.assert_array_equal(across, curved.nav_lon)
    np.testing.assert_array_equal(up, curved.nav_lat)
    np.testing.assert_array_equal(globe(field[0], "lat", "lon")[0], field.lon)
    with pytest.raises(OptionError, match="no longitude among time, nav_lat"):
        globe(curved.drop_vars("nav_lon"), "j", "i")


def test_without_a_network_maps_have_no_coastlines_and_say_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def natural_earth(**_: str) -> None:
        raise URLError("no network")

    reader = ModuleType("cartopy.io.shapereader")
    reader.natural_earth = natural_earth  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cartopy.io.shapereader", reader)
    with pytest.warns(UserWarning, match="no coastlines.*no network"):
        draw_coastlines([], np.array([0.0, 350.0]))


def test_datasets_have_their_pictures(field: xr.DataArray) -> None:
    modes = eof(field, modes=3)
    figure = modes.leptonhpc.plot(2, title="Air")
    assert figure.get_suptitle() == "Air"
    assert sum(bool(axes.get_title()) for axes in figure.axes) == 2
    assert modes.leptonhpc.plot_scree().get_suptitle() == "Eigenvalues of air"
    assert (
        hilbert_eof(field, modes=1).leptonhpc.plot().get_suptitle() == "Real parts of EOFs of air"
    )
    with pytest.raises(OptionError, match="that leptonhpc.climate.eof gave"):
        field.to_dataset().leptonhpc.plot()


def test_pictures_are_there_once_xarray_is_and_do_not_load_it() -> None:
    code = """
import sys
from leptonhpc import climate
assert "xarray" not in sys.modules  # a worker's memory
import numpy as np, xarray as xr
field = xr.DataArray(np.random.default_rng(0).random((9, 4)), dims=("time", "x"))
climate.eof(field, modes=1, weights=None).leptonhpc
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    code = "import xarray; from leptonhpc import climate; xarray.Dataset().leptonhpc"
    subprocess.run([sys.executable, "-c", code], check=True)
