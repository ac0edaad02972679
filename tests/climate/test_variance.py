"""Fields that do not vary have no EOFs, and leave nothing."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from leptonhpc.climate import bootstrap, cca, common_eofs, eof, hilbert_eof, mca
from leptonhpc.climate.variance import ConstantFieldError


def constant(field: xr.DataArray, value: float = 280.1) -> xr.DataArray:
    return (field.fillna(0) * 0 + value).rename("air")


@pytest.mark.parametrize("options", [{}, {"anomalies": "month"}, {"detrend": True}])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("chunks", [None, {"time": 7, "lat": 2}])
def test_rounding_is_no_variance(
    field: xr.DataArray, options: dict[str, Any], dtype: str, chunks: dict[str, int] | None
) -> None:
    """280.1 is no binary fraction: its mean over 60 samples may differ in the last digit."""
    same = constant(field).astype(dtype)
    with pytest.raises(ConstantFieldError, match="air does not vary"):
        eof(same if chunks is None else same.chunk(chunks), modes=2, **options)


def test_what_is_all_trend_or_all_season_has_no_variance_left(field: xr.DataArray) -> None:
    numbers = xr.DataArray(np.arange(60.0), dims="time", coords={"time": field.time})
    cycle = constant(field) + 3.3 * (numbers % 12)
    with pytest.raises(ConstantFieldError):
        eof(cycle.rename("air"), modes=2, anomalies="month")
    trend = (constant(field) + 0.37 * numbers).assign_coords(time=np.arange(60))
    with pytest.raises(ConstantFieldError):
        eof(trend.astype("float32").rename("air"), modes=2, detrend=True)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_small_variance_about_a_large_mean_is_variance(field: xr.DataArray, dtype: str) -> None:
    small = (280 + (field - 280) * (1e-4 if dtype == "float32" else 1e-9)).astype(dtype)
    assert eof(small, modes=1).singular_values[0] > 0
    assert eof([small, constant(field, 1e6).rename("pressure")], modes=1).singular_values[0] > 0


Call = Callable[[xr.DataArray, xr.DataArray, Path], Any]


@pytest.mark.parametrize(
    "call",
    [
        lambda same, _, out: eof(same, modes=2, out=out),
        lambda same, _, out: hilbert_eof(same, modes=2, out=out),
        lambda same, field, out: mca(field, same, modes=2, out=out),
        lambda same, field, out: cca(field, same, modes=2, eofs=2, out=out),
        lambda same, _, out: bootstrap(same, modes=2, draws=10, out=out),
        lambda same, _, out: common_eofs({"a": same, "b": same + 1}, modes=2, out=out),
    ],
)
def test_nothing_is_left_of_a_call_that_found_no_variance(
    field: xr.DataArray, tmp_path: Path, call: Call
) -> None:
    same = constant(field).rename(lat="y", lon="x")
    same.y.attrs["units"] = "degrees_north"
    with pytest.raises(ConstantFieldError) as caught:
        call(same, field, tmp_path / "x.zarr")
    assert list(tmp_path.iterdir()) == []
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
