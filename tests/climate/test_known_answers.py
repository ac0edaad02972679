"""Fetched fields give the EOFs that are known of them."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

from leptonhpc.climate import correlation_map, eof, reconstruct
from leptonhpc.datasets import fetch
from leptonhpc.datasets.wheels import EOFS, IRIS, Wheel, read_members

Need = Callable[[Wheel], Path]

HALF_A_DIGIT = np.array([5e-5, 5e-3, 5e-3])
WEIGHTINGS = ("equal", "latitude", "area", "area_multi", "area_multi_mix")


def test_pacific_sst(need_wheel: Need, tmp_path: Path) -> None:
    place = fetch("pacific-sst", out=tmp_path / "x.zarr", cache=need_wheel(EOFS))
    found = eof(Path(place).parent, modes=10)
    percent = 100 * found.variance_fraction.values[:3]
    assert np.all(np.abs(percent - [48.9863, 12.92, 7.13]) <= HALF_A_DIGIT)
    assert int(found.eofs.isnull().sum()) == 10 * 90


@pytest.mark.filterwarnings("ignore:Ambiguous reference date")  # of that file
def test_north_atlantic_heights(need_wheel: Need, tmp_path: Path) -> None:
    name = "eofs/examples/example_data/hgt_djf.nc"
    (data,) = read_members(EOFS, [name], cache=need_wheel(EOFS))
    (tmp_path / "hgt.nc").write_bytes(data)
    found = eof(tmp_path / "hgt.nc", modes=3, variable="z")
    percent = 100 * found.variance_fraction.values
    assert np.all(np.abs(percent - [40.690, 18.02, 10.47]) <= [5e-4, 5e-3, 5e-3])


@pytest.mark.parametrize(("name", "first"), [("met-office-e1", 0.719), ("met-office-a1b", 0.880)])
def test_met_office_scenarios(need_wheel: Need, tmp_path: Path, name: str, first: float) -> None:
    place = fetch(name, out=tmp_path / "x.zarr", cache=need_wheel(IRIS), chunks=(50, 10, 20))
    found = eof(Path(place).parent, modes=2, variable="air_temperature")
    assert abs(float(found.variance_fraction[0]) - first) <= 5e-4


def test_ostia_without_its_season(need_wheel: Need, tmp_path: Path) -> None:
    place = fetch("ostia", out=tmp_path / "x.zarr", cache=need_wheel(IRIS))
    found = eof(Path(place).parent, modes=2, anomalies="month")
    assert abs(float(found.variance_fraction[0]) - 0.659) <= 5e-4


def reference(cache: Path, *names: str) -> list[NDArray[Any]]:
    members = [f"eofs/tests/data/{name}.npy" for name in names]
    return [np.load(io.BytesIO(data)) for data in read_members(EOFS, members, cache=cache)]


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("chunked", [False, True])
def test_reference_solutions_of_eofs(need_wheel: Need, weighting: str, chunked: bool) -> None:
    cache = need_wheel(EOFS)
    sst, latitude, longitude = reference(cache, "sst", "latitude", "longitude")
    field = xr.DataArray(
        sst,
        dims=("time", "latitude", "longitude"),
        coords={"latitude": latitude, "longitude": longitude},
        name="sst",
    )
    weights: Any = "coslat" if weighting == "latitude" else None
    if weighting.startswith("area"):
        (numbers,) = reference(cache, f"weights.{weighting}")
        weights = xr.DataArray(numbers, dims=("latitude", "longitude"))
    given = field.chunk(time=4, latitude=5, longitude=7) if chunked else field
    found = eof(given, modes=14, weights=weights)
    names = ("eigenvalues", "eofs", "pcs", "variance", "errors", "scaled_errors", "rcon", "eofscor")
    expected = dict(zip(names, reference(cache, *(f"{n}.{weighting}" for n in names)), strict=True))
    close = {"rtol": 1e-8, "atol": 0}
    np.testing.assert_allclose(found.eigenvalues, expected["eigenvalues"], **close)
    np.testing.assert_allclose(100 * found.variance_fraction, expected["variance"], **close)
    np.testing.assert_allclose(found.north_errors, expected["errors"], **close)
    scaled = found.north_errors / found.total_variance
    np.testing.assert_allclose(scaled, expected["scaled_errors"], **close)
    signs = np.sign(np.nansum(found.eofs.values * expected["eofs"], axis=(1, 2)))
    # the last eigenvalues are 1/60 of the first and 5 % apart: vectors keep 8 of 16 digits
    maps = found.eofs.values * signs[:, None, None]
    np.testing.assert_allclose(maps, expected["eofs"], rtol=0, atol=1e-8)
    top = float(found.singular_values[0])
    np.testing.assert_allclose(found.pcs.values * signs, expected["pcs"], rtol=0, atol=1e-8 * top)
    np.testing.assert_allclose(
        reconstruct(found, which=[1, 2, 5], mean=False), expected["rcon"], rtol=0, atol=1e-8
    )
    correlations = correlation_map(found, field) * signs[:, None, None]
    np.testing.assert_allclose(correlations, expected["eofscor"], rtol=0, atol=1e-8)
