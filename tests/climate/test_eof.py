"""EOFs equal those of plain NumPy, whatever the chunks, the order of dimensions and the store."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

from leptonhpc.climate import eof
from leptonhpc.errors import (
    LeptonError,
    NonFiniteError,
    OptionError,
    OutputExistsError,
    ShapeError,
    StoreError,
)

MakeField = Callable[..., xr.DataArray]
EPS = np.finfo(float).eps


def sea(field: xr.DataArray) -> NDArray[np.bool_]:
    return ~np.isnan(field.transpose("time", ...).values[0]).ravel()


def weighted(field: xr.DataArray) -> NDArray[np.float64]:
    """Sea cells less their mean, times the root of the cosine of latitude."""
    root = np.sqrt(np.cos(np.deg2rad(field.lat.values)))[:, None]
    matrix = (field.values * root).reshape(field.sizes["time"], -1)[:, sea(field)]
    return matrix - matrix.mean(axis=0)


def check_modes(found: xr.Dataset, matrix: NDArray[Any], kept: NDArray[np.bool_]) -> None:
    """Compare with LAPACK: vectors to their residual over their gap (Davis and Kahan 1970)."""
    u, s, vh = np.linalg.svd(matrix, full_matrices=False)
    k = found.sizes["mode"]
    maps = found.eofs.transpose("mode", "lat", "lon").values.reshape(k, -1)
    assert np.array_equal(np.isnan(maps), np.broadcast_to(~kept, maps.shape))
    squares = s**2
    gaps = np.minimum(np.r_[np.inf, -np.diff(squares)][:k], -np.diff(squares)[:k])
    residuals = np.array(json.loads(found.attrs["certificate"])["residuals"])
    # 280: the mean, whose rounding is that of the field
    rounding = 16 * EPS * (squares[0] + 280 * np.sqrt(matrix.size) * s[0])
    allowed = 2 * (residuals * s[:k] + rounding) / gaps
    assert np.all(allowed < 1e-5)
    signs = np.sign(np.sum(maps[:, kept] * vh[:k], axis=1))
    assert np.all(np.linalg.norm(maps[:, kept] - signs[:, None] * vh[:k], axis=1) <= allowed)
    scores = found.pcs.values / (signs * s[:k])
    assert np.all(np.linalg.norm(scores - u[:, :k], axis=0) <= allowed)
    np.testing.assert_allclose(found.singular_values, s[:k], rtol=1e-11)
    n = len(matrix)
    np.testing.assert_allclose(found.eigenvalues, squares[:k] / (n - 1), rtol=1e-11)
    np.testing.assert_allclose(found.variance_fraction, squares[:k] / squares.sum(), rtol=1e-11)
    np.testing.assert_allclose(found.total_variance, squares.sum() / (n - 1), rtol=1e-11)
    np.testing.assert_allclose(found.north_errors, found.eigenvalues * np.sqrt(2 / n), rtol=1e-14)


def test_coordinates_that_contradict_are_left_out(field: xr.DataArray) -> None:
    low = field.assign_coords(height=2.0, zone=("lon", np.arange(12)), weights=3.0)
    high = field.assign_coords(height=10.0, zone=("lon", np.arange(12))).rename("wind")
    found = eof([low, high], modes=2)
    assert "height" not in found.coords
    assert np.array_equal(found.zone, np.arange(12))
    alone = eof(low, modes=1)
    assert float(alone.height) == 2
    assert alone.weights.dims == ("lat", "lon")  # a result's own


CHUNKS: list[dict[str, int] | None] = [
    None,
    {"time": 7, "lat": -1, "lon": -1},
    {"time": -1, "lat": 2, "lon": 5},
    {"time": 11, "lat": 4, "lon": 3},
]


@pytest.mark.parametrize("chunks", CHUNKS)
@pytest.mark.parametrize("times", [40, 150], ids=["wide", "tall"])
def test_eofs_equal_those_of_lapack_with_any_chunks(
    make_field: MakeField, times: int, chunks: dict[str, int] | None
) -> None:
    field = make_field(times=times)
    given = field if chunks is None else field.chunk(chunks)
    check_modes(eof(given, modes=4), weighted(field), sea(field))


@pytest.mark.parametrize("dims", [("lat", "time", "lon"), ("lon", "lat", "time")])
def test_order_of_dimensions_does_not_matter(field: xr.DataArray, dims: tuple[str, ...]) -> None:
    found = eof(field.transpose(*dims), modes=3)
    check_modes(found, weighted(field), sea(field))


@pytest.mark.parametrize("chunks", CHUNKS[1:])
def test_zarr_by_path_gives_the_same_with_its_coordinates(
    field: xr.DataArray, tmp_path: Path, chunks: dict[str, int]
) -> None:
    place = tmp_path / "x.zarr"
    field.chunk(chunks).to_dataset().to_zarr(place, consolidated=False)
    found = eof(place, modes=3)
    check_modes(found, weighted(field), sea(field))
    assert found.eofs.dims == ("mode", "lat", "lon")
    assert found.pcs.dims == ("time", "mode")
    assert found.lat.attrs["units"] == "degrees_north"
    assert found.pcs.attrs["units"] == "K"
    assert np.array_equal(found.time, field.time)
    assert json.loads(found.attrs["certificate"])["converged"] is True
    assert json.loads(found.attrs["report"])["driver"] == "svd"


def test_packed_numbers_are_decoded_as_xarray_decodes_them(
    field: xr.DataArray, tmp_path: Path
) -> None:
    packing = {"dtype": "int16", "scale_factor": 0.01, "add_offset": 280.0, "_FillValue": -32768}
    for name, write in (("x.zarr", "to_zarr"), ("x.nc", "to_netcdf")):
        more = {"consolidated": False} if write == "to_zarr" else {}
        getattr(field.to_dataset(), write)(tmp_path / name, encoding={"air": packing}, **more)
        reader = {"x.zarr": xr.open_zarr, "x.nc": xr.open_dataset}[name]
        with reader(tmp_path / name, **more) as opened:
            decoded = opened.air.load()
        check_modes(eof(tmp_path / name, modes=3), weighted(decoded), sea(decoded))


def test_many_files_are_one_field(field: xr.DataArray, tmp_path: Path) -> None:
    for number, begin in enumerate(range(0, 60, 25)):
        part = field.isel(time=slice(begin, begin + 25))
        part.to_dataset().to_netcdf(tmp_path / f"part-{number}.nc")
    for wild in ("*", "?", "[0-2]"):
        found = eof(str(tmp_path / f"part-{wild}.nc"), modes=3)
        check_modes(found, weighted(field), sea(field))


@pytest.mark.parametrize("suffix", ["zarr", "nc"])
def test_stored_result_is_the_same_and_nothing_else_is_left(
    field: xr.DataArray, tmp_path: Path, suffix: str
) -> None:
    place = tmp_path / f"eofs.{suffix}"
    kept = eof(field, modes=3, out=place)
    xr.testing.assert_equal(kept.load(), eof(field, modes=3))
    assert [path.name for path in tmp_path.iterdir()] == [f"eofs.{suffix}"]
    with pytest.raises(OutputExistsError, match="overwrite"):
        eof(field, modes=3, out=place)
    assert eof(field, modes=2, out=place, overwrite=True).sizes["mode"] == 2


def test_stopped_job_goes_on_from_its_decomposition(
    field: xr.DataArray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "eofs.zarr"
    expected = eof(field, modes=3)
    with monkeypatch.context() as patch:
        patch.setattr(xr.Dataset, "to_zarr", _full)
        with pytest.raises(OSError, match="disk is full"):
            eof(field, modes=3, out=place)
    kept = json.loads((tmp_path / "eofs.zarr.svd" / "zarr.json").read_text())
    found = eof(field, modes=3, out=place)
    assert json.loads(found.attrs["report"]) == kept["attributes"]["report"]  # not run again
    xr.testing.assert_equal(found.load(), expected)
    assert [path.name for path in tmp_path.iterdir()] == ["eofs.zarr"]


def _full(*_: Any, **__: Any) -> None:
    raise OSError("the disk is full")


def test_departures_from_the_months_and_a_parabola_are_removed(make_field: MakeField) -> None:
    for times in (60, 150):
        field = make_field(times=times)
        matrix = weighted(field)
        month = np.eye(12)[np.arange(times) % 12]
        days = (field.time.values - field.time.values[0]) / np.timedelta64(1, "D")
        position = days / days[-1] * 2 - 1
        design = np.column_stack([month, position, position**2])
        left = matrix - design @ np.linalg.lstsq(design, matrix, rcond=None)[0]
        found = eof(field.chunk(time=13, lat=4), modes=3, anomalies="month", detrend=2)
        check_modes(found, left, sea(field))


def test_trend_alone_is_removed_with_the_mean(field: xr.DataArray) -> None:
    days = (field.time.values - field.time.values[0]) / np.timedelta64(1, "D")
    design = np.column_stack([np.ones(60), days / days[-1]])
    matrix = weighted(field)
    left = matrix - design @ np.linalg.lstsq(design, matrix, rcond=None)[0]
    check_modes(eof(field, modes=3, detrend=True), left, sea(field))


def test_weights_are_numbers_by_the_names_of_dimensions(field: xr.DataArray) -> None:
    numbers = xr.DataArray(np.arange(1.0, 13.0), dims="lon")
    matrix = (field.values * numbers.values).reshape(60, -1)[:, sea(field)]
    check_modes(eof(field, modes=3, weights=numbers), matrix - matrix.mean(axis=0), sea(field))
    plain = field.values.reshape(60, -1)[:, sea(field)]
    check_modes(eof(field, modes=3, weights=None), plain - plain.mean(axis=0), sea(field))
    same = eof(field, modes=3, weights="sqrt_coslat")
    xr.testing.assert_equal(same.eofs, eof(field, modes=3).eofs)


def test_several_fields_are_one_matrix(make_field: MakeField) -> None:
    air, sst = make_field(name="air"), make_field(lats=7, lons=10, name="sst")
    sst = sst.rename(lat="y", lon="x").assign_attrs(units="degC")
    found = eof([air, sst.chunk(time=9)], modes=3, weights=["coslat", None])
    plain = sst.values.reshape(60, -1)[:, sea(sst)]
    both = np.hstack([weighted(air), plain - plain.mean(axis=0)])
    u, s, vh = np.linalg.svd(both, full_matrices=False)
    np.testing.assert_allclose(found.singular_values, s[:3], rtol=1e-11)
    maps = np.hstack(
        [
            found.eofs_air.values.reshape(3, -1)[:, sea(air)],
            found.eofs_sst.values.reshape(3, -1)[:, sea(sst)],
        ]
    )
    assert np.all(np.abs(np.sum(maps * vh[:3], axis=1)) >= 1 - 1e-12)
    assert np.all(np.abs(np.sum(found.pcs.values * u[:, :3], axis=0)) >= s[:3] * (1 - 1e-12))
    assert found.eofs_sst.dims == ("mode", "y", "x")


@pytest.mark.parametrize("chunks", CHUNKS[1:])
def test_annual_cycle_thirty_times_the_next_mode_spoils_none_of_ten(
    rng: np.random.Generator, chunks: dict[str, int]
) -> None:
    """Iterations that do not orthogonalise again lose such modes in single precision."""
    times, lats, lons = 360, 24, 36
    s = np.r_[30.0 * 20, 20.0 * 0.8 ** np.arange(9)]
    q, _ = np.linalg.qr(rng.standard_normal((times, 10)))
    angle = 2 * np.pi * np.arange(times) / 12
    q = np.linalg.qr(np.column_stack([np.ones(times), np.cos(angle), q]))[0][:, 1:11]
    p, _ = np.linalg.qr(rng.standard_normal((lats * lons, 10)))
    values = (q * s) @ p.T + 1e-3 * rng.standard_normal((times, lats * lons))
    values -= values.mean(axis=0)
    _, true, vh = np.linalg.svd(values, full_matrices=False)
    field = xr.DataArray(values.reshape(times, lats, lons) + 15, dims=("time", "lat", "lon"))
    found = eof(field.chunk(chunks), modes=10, weights=None)
    np.testing.assert_allclose(found.singular_values, true[:10], rtol=1e-6)
    maps = found.eofs.values.reshape(10, -1)
    cosine = np.sum(maps * vh[:10], axis=1)
    assert np.all(np.linalg.norm(maps - np.sign(cosine)[:, None] * vh[:10], axis=1) <= 1e-6)


@pytest.mark.parametrize("dtype", ["float32", "int16", "complex128"])
def test_every_kind_of_number_can_be_decomposed(
    field: xr.DataArray, rng: np.random.Generator, dtype: str
) -> None:
    values = np.nan_to_num(field.values - 280) * (100 if dtype == "int16" else 1)
    if dtype == "complex128":
        values = values + 1j * rng.standard_normal(values.shape)
    given = xr.DataArray(values.astype(dtype), dims=field.dims)
    matrix = given.values.reshape(60, -1).astype(np.complex128 if dtype[0] == "c" else float)
    u, s, vh = np.linalg.svd(matrix - matrix.mean(axis=0), full_matrices=False)
    found = eof(given.chunk(time=25, lat=4), modes=2, weights=None)
    eps = np.finfo(np.float32 if dtype == "float32" else float).eps
    np.testing.assert_allclose(found.singular_values, s[:2], rtol=1e3 * eps)
    made = found.pcs.values @ found.eofs.values.reshape(2, -1)
    bound = 1e3 * max(eps, 1e-9) * s[0]  # 1e-9: what an accuracy of 1e-6 leaves of s**2
    assert np.linalg.norm(made - (u[:, :2] * s[:2]) @ vh[:2]) <= bound
    assert found.eofs.dtype == (dtype if dtype != "int16" else "float64")


def test_missing_xarray_names_the_extra(
    field: xr.DataArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(LeptonError, match=r"leptonhpc\[xarray\]"):
        eof(field)


def test_scattered_gaps_are_refused_with_their_place(field: xr.DataArray) -> None:
    later, first = field.copy(), field.copy()
    later[41, 5, 7] = np.nan
    first[0, 5, 7] = np.nan
    for gappy, words in ((later, "is missing"), (first, "none at the first time")):
        for given in (gappy, gappy.chunk(time=20, lat=3)):
            with pytest.raises(NonFiniteError, match=f"{words}.*lat=20.0, lon=210.0.*fill_gaps"):
                eof(given, modes=2)
    with pytest.raises(NonFiniteError, match="time=2003-06"):
        eof(later, modes=2)


def wrong_latitude(field: xr.DataArray) -> xr.DataArray:
    attributed = field.assign_coords(lat=field.lat * 2)
    attributed.lat.attrs["units"] = "degrees_north"
    return attributed


def unknown_chunks(field: xr.DataArray) -> xr.DataArray:
    values = field.chunk(time=20).data
    later = values[(values[:, 0, 0] > 0).compute_chunk_sizes()]
    return xr.DataArray(later, dims=field.dims, coords={"lat": field.lat}, name="air")


def unknown_time(field: xr.DataArray) -> xr.DataArray:
    return field.assign_coords(time=field.time.where(field.time != field.time[3]))


@pytest.mark.parametrize(
    ("change", "options", "error", "words"),
    [
        (lambda x: x, {"dim": "when"}, OptionError, "no dimension 'when'; it has time, lat, lon"),
        (lambda x: x, {"modes": 60}, OptionError, "from 1 to 59"),
        (lambda x: x, {"modes": 0}, OptionError, "from 1 to 59"),
        (wrong_latitude, {}, OptionError, "-160 to 160"),
        (lambda x: x.rename(lat="y").drop_vars("y"), {}, OptionError, "no latitude"),
        (lambda x: x * np.nan, {}, NonFiniteError, "no value at its first time"),
        (lambda x: x.fillna(280) * 0 + 3, {}, OptionError, "air does not vary"),
        (lambda x: x.assign_coords(lat=x.lat.where(x.lat < 70)), {}, OptionError, "latitude.*nan"),
        (lambda x: x, {"weights": "area"}, OptionError, "'coslat'"),
        (lambda x: x, {"weights": xr.DataArray(np.ones(5), dims="lon")}, ShapeError, "12"),
        (lambda x: x, {"weights": xr.DataArray(np.ones(5), dims="t")}, ShapeError, "found t"),
        (lambda x: x, {"gaps": "zero"}, OptionError, "'refuse' or 'em'"),
        (lambda x: x, {"anomalies": "week"}, OptionError, "season, month"),
        (lambda x: x.isel(time=slice(14)), {"anomalies": "month"}, ShapeError, "two samples"),
        (lambda x: x.drop_vars("time"), {"anomalies": "month"}, OptionError, "needs dates"),
        (lambda x: x.isel(lat=0, lon=0), {}, ShapeError, "at least one more"),
        (lambda x: x.to_dataset(), {"variable": "sst"}, OptionError, "no variable 'sst'"),
        (lambda x: x.to_dataset().assign(b=x), {}, OptionError, "variable= says"),
        (lambda x: [x, x.isel(time=slice(50))], {}, ShapeError, "same time"),
        (lambda x: [x, x], {}, OptionError, "names of their own"),
        (lambda x: "nowhere.nc", {}, LeptonError, "nowhere.nc"),
        (lambda x: x, {"out": "eofs.csv"}, OptionError, "ends in .zarr or .nc"),
        (lambda x: x, {"ddof": 60}, OptionError, "ddof is from 0 to 59"),
        (lambda x: x, {"ddof": -1}, OptionError, "ddof is from 0 to 59"),
        (lambda x: x.isel(time=[0]), {"modes": 1}, ShapeError, "two samples or more; air has 1"),
        (lambda x: x, {"dim": ("lat", "time")}, OptionError, "x.stack.*makes one of several"),
        (lambda x: unknown_time(x), {"detrend": True}, OptionError, "missing of number 3"),
        (lambda x: unknown_time(x), {"anomalies": "month"}, OptionError, "missing of number 3"),
        (
            lambda x: x.assign_coords(time=list(map(str, range(60)))),
            {"detrend": 1},
            OptionError,
            "numbers or dates; time has 0",
        ),
        (lambda x: x.rename(lon="mode"), {}, OptionError, "rename.mode"),
        (lambda x: [], {}, OptionError, "list of fields or files is empty"),
        (lambda x: unknown_chunks(x), {}, ShapeError, "compute_chunk_sizes"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_way_out(
    field: xr.DataArray, change: Any, options: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        eof(change(field), **options)


def test_members_and_times_are_samples_when_they_are_stacked(
    field: xr.DataArray, tmp_path: Path
) -> None:
    members = xr.concat([field, field * 1.1, field - 1], "member")
    stacked = members.stack(sample=("member", "time"))
    found = eof(stacked, modes=2, dim="sample")
    joined = xr.concat([field, field * 1.1, field - 1], "time")
    expected = eof(joined.assign_coords(time=np.arange(180)), modes=2)
    np.testing.assert_allclose(found.singular_values, expected.singular_values, rtol=1e-12)
    assert found.pcs.unstack("sample").sizes == {"mode": 2, "member": 3, "time": 60}
    with pytest.raises(OptionError, match=r"x.reset_index\('sample'\) keeps its levels"):
        eof(stacked, modes=2, dim="sample", out=tmp_path / "x.zarr")
    assert list(tmp_path.iterdir()) == []
    plain = eof(stacked.reset_index("sample"), modes=2, dim="sample", out=tmp_path / "x.zarr")
    np.testing.assert_array_equal(plain.member, stacked.member)


def test_edges_of_cells_are_no_field(field: xr.DataArray, tmp_path: Path) -> None:
    """Most files of models have them beside the one variable that is meant."""
    dataset = field.to_dataset().assign(lat_bnds=(("lat", "bnds"), np.zeros((9, 2))))
    dataset.lat.attrs["bounds"] = "lat_bnds"
    dataset.to_netcdf(tmp_path / "x.nc")
    for given in (dataset, tmp_path / "x.nc"):
        assert eof(given, modes=1).attrs["fields"] == '["air"]'


def test_files_of_several_calendars_are_not_joined(field: xr.DataArray, tmp_path: Path) -> None:
    for year, calendar in ((2000, "noleap"), (2005, "360_day")):
        dates = xr.date_range(f"{year}", periods=60, freq="MS", calendar=calendar, use_cftime=True)
        field.assign_coords(time=dates).to_netcdf(tmp_path / f"{year}.nc")
    with pytest.raises(StoreError, match="Datetime360Day.*x.convert_calendar"):
        eof(str(tmp_path / "*.nc"), modes=1)
