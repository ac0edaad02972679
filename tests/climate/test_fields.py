"""Values are what xarray says they are, also where files are read without it."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from leptonhpc.climate import eof


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
