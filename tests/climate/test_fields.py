"""Values are what xarray says they are, also where files are read without it."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from leptonhpc.climate import eof, fields
from leptonhpc.climate.fields import LazySource


@pytest.mark.parametrize(
    "attributes", [{"_Unsigned": "true"}, {"scale_factor": 0.5}, {"add_offset": 3.0}, {}]
)
def test_stored_numbers_are_decoded(
    rng: np.random.Generator, tmp_path: Path, attributes: dict[str, object]
) -> None:
    stored = rng.integers(-128, 128, (30, 8)).astype("i1")
    raw = xr.DataArray(stored, dims=("time", "x"), attrs=attributes, name="count")
    raw.to_dataset().to_zarr(tmp_path / "x.zarr", consolidated=False)
    meant = xr.open_zarr(tmp_path / "x.zarr", chunks=None, consolidated=False)["count"].values
    assert np.array_equal(meant, stored) == (not attributes)
    values = meant.astype(float) - meant.astype(float).mean(axis=0)
    expected = np.linalg.svd(values, compute_uv=False)[:3]
    found = eof(tmp_path / "x.zarr", modes=3, weights=None)
    np.testing.assert_allclose(found.singular_values, expected, rtol=1e-6)


def test_maps_of_grib_messages_are_read_whole(rng: np.random.Generator) -> None:
    """A message is decoded whole, whatever is wanted of it: bands of cells would decode all."""
    shape = (6, 2, 9, 12)
    variable = xr.Variable(
        ("time", "isobaricInhPa", "latitude", "longitude"), rng.standard_normal(shape)
    )
    assert LazySource(variable, "air").unit == (1, 1, 1, 1)
    variable.attrs["GRIB_paramId"] = 130
    assert LazySource(variable, "air").unit == (1, 1, 9, 12)


def test_many_files_without_chunks_are_read_in_pieces(
    rng: np.random.Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else each is one, however large."""
    monkeypatch.setattr(fields, "_PIECE_NBYTES", 8 * 5 * 12)
    values = xr.DataArray(rng.standard_normal((40, 3, 4)), dims=("time", "y", "x"), name="air")
    values = values.assign_coords(time=np.arange(40.0))
    for half, chunks in ((0, None), (1, (10, 3, 4))):
        part = values[20 * half : 20 * half + 20]
        part.to_netcdf(tmp_path / f"{half}.nc", encoding={"air": {"chunksizes": chunks}})
    (one,) = fields.open_fields([tmp_path / "0.nc", tmp_path / "1.nc"], dim="time")
    assert one.source.unit == (5, 3, 4)
    assert np.array_equal(one.source.read(((3, 31), (0, 3), (0, 4))), values[3:31])
    (one,) = fields.open_fields([tmp_path / "1.nc", tmp_path / "0.nc"], dim="time")
    assert max(one.source.unit) == 20  # by the first


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:unable to import")
def test_grib_files_are_fields(rng: np.random.Generator, tmp_path: Path) -> None:
    pytest.importorskip("cfgrib", reason="cfgrib is not installed")
    import eccodes

    values = rng.standard_normal((12, 3)) @ rng.standard_normal((3, 7 * 12)) + 280
    grid = {
        "Ni": 12, "latitudeOfFirstGridPointInDegrees": 60, "longitudeOfFirstGridPointInDegrees": 0,
        "Nj": 7, "latitudeOfLastGridPointInDegrees": -60, "longitudeOfLastGridPointInDegrees": 330,
        "iDirectionIncrementInDegrees": 30, "jDirectionIncrementInDegrees": 20, "bitsPerValue": 24,
        "shortName": "2t",
    }  # fmt: skip
    with (tmp_path / "air.grib").open("wb") as file:
        for month, row in enumerate(values, 1):
            message = eccodes.codes_grib_new_from_samples("regular_ll_sfc_grib2")
            for key, value in {**grid, "dataDate": 20000001 + 100 * month}.items():
                eccodes.codes_set(message, key, value)
            eccodes.codes_set_values(message, row)
            eccodes.codes_write(message, file)
            eccodes.codes_release(message)
    found = eof(tmp_path / "air.grib", modes=2)
    latitudes = np.repeat(np.linspace(60, -60, 7), 12)
    weighted = (values - values.mean(axis=0)) * np.sqrt(np.cos(np.deg2rad(latitudes)))
    expected = np.linalg.svd(weighted, compute_uv=False)[:2]
    np.testing.assert_allclose(found.singular_values, expected, rtol=1e-5)  # 24 bits of each value
    assert found.sizes["latitude"] == 7
