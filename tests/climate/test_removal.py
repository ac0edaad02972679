"""Climatologies and trends are those of least squares, in the memory that is given."""

import subprocess
import sys

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

from leptonhpc.climate import eof, project
from leptonhpc.errors import MemoryBudgetError, OptionError, ShapeError


def days(rng: np.random.Generator, first: str, last: str, cells: int = 5) -> xr.DataArray:
    time = np.arange(first, last, dtype="datetime64[D]").astype("datetime64[ns]")
    values = rng.standard_normal((len(time), cells)) + 280
    return xr.DataArray(values, dims=("time", "x"), coords={"time": time}, name="air")


def residual(values: NDArray[np.generic], design: NDArray[np.float64]) -> NDArray[np.generic]:
    found: NDArray[np.generic] = values - design @ np.linalg.lstsq(design, values, rcond=None)[0]
    return found


def test_trend_of_a_complex_field_is_complex(rng: np.random.Generator) -> None:
    t = np.arange(50.0)
    values = rng.standard_normal((50, 6)) + 1j * (rng.standard_normal((50, 6)) + 0.3 * t[:, None])
    field = xr.DataArray(values, dims=("time", "x"), coords={"time": t}, name="wind")
    design = np.stack([np.ones(50), t], axis=1)
    expected = np.linalg.svd(residual(values, design), compute_uv=False)[:3]
    found = eof(field, modes=3, weights=None, detrend=True)
    np.testing.assert_allclose(found.singular_values, expected, rtol=1e-6)


def test_leap_days_are_taken_with_the_day_before(rng: np.random.Generator) -> None:
    """One 29 February in three years: it belongs to 28 February, and March keeps its days."""
    field = days(rng, "2003-01-01", "2006-01-01")
    stamps = np.datetime_as_string(field.time.values, unit="D")
    dates = [stamp[5:].replace("02-29", "02-28") for stamp in stamps]
    names, places = np.unique(dates, return_inverse=True)
    assert len(names) == 365
    design = np.eye(365)[places]
    expected = np.linalg.svd(residual(field.values, design), compute_uv=False)[:3]
    found = eof(field, modes=3, weights=None, anomalies="dayofyear")
    np.testing.assert_allclose(found.singular_values, expected, rtol=1e-6)
    leap = field.sel(time="2004-02")
    np.testing.assert_allclose(project(found, leap), found.pcs.sel(time="2004-02"), atol=1e-4)


def test_day_that_is_there_once_is_refused(rng: np.random.Generator) -> None:
    with pytest.raises(ShapeError, match="one of 01-02"):
        eof(days(rng, "2003-01-01", "2004-03-01")[:-59], 2, weights=None, anomalies="dayofyear")


@pytest.mark.parametrize("detrend", [1.7, "1", -1, 10])
def test_degrees_of_trends_are_whole(field: xr.DataArray, detrend: object) -> None:
    with pytest.raises(OptionError, match="degree up to 9"):
        eof(field, modes=2, detrend=detrend)  # type: ignore[arg-type]
    assert eof(field, modes=1, detrend=np.int64(2)).sizes["term"] == 3


def test_climatology_that_does_not_fit_is_refused_with_the_least_that_would(
    rng: np.random.Generator,
) -> None:
    field = days(rng, "2003-01-01", "2005-01-01", cells=500)
    message = "365 terms .* 500 cells of air .* memory is 8 MB .* at least"
    with pytest.raises(MemoryBudgetError, match=message):
        eof(field, modes=2, weights=None, anomalies="dayofyear", memory="8 MB")
    assert eof(field, 2, weights=None, anomalies="month", memory="500 MB").sizes["mode"] == 2


PEAK = """
import sys
import numpy as np, xarray as xr
from leptonhpc.climate.prepared import prepare

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))

time = np.arange("2003-01-01", "2006-01-01", dtype="datetime64[D]").astype("datetime64[ns]")
values = np.ones((len(time), 1), np.float32) + np.arange(20000, dtype=np.float32)
field = xr.DataArray(values, dims=("time", "x"), coords={"time": time}, name="air")
options = dict(dim="time", variable=None, weights=None, detrend=False)
prepare(field[:, :10], anomalies="month", memory="400 MB", **options)  # imports
before = peak()
(one,) = prepare(field, anomalies="dayofyear", memory="400 MB", **options)
print(peak() - before, one.held_nbytes)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from /proc")
def test_climatology_stays_in_its_budget() -> None:
    """Coefficients of 58 MB: a product of each block with all terms would take as much again."""
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    grown, held = map(int, done.stdout.split())
    # coefficients and terms, the work on terms, and blocks of a quarter of the budget
    assert held >= 8 * 365 * 20000
    assert grown <= held + 3 * 8 * 365 * 1096 + 400e6 / 4
