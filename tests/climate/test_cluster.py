"""On a cluster of processes the numbers are the same, and errors are too."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from distributed import Client, LocalCluster

from leptonhpc.climate import (
    bootstrap,
    cca,
    common_eofs,
    correlation_map,
    eof,
    fill_gaps,
    hilbert_eof,
    mca,
    project,
    reconstruct,
    regression_map,
    rotate,
)
from leptonhpc.errors import NonFiniteError


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, memory_limit=0,
        dashboard_address="127.0.0.1:0", host="127.0.0.1", worker_dashboard_address="127.0.0.1:0",
    ) as running:  # fmt: skip
        yield running
        warnings.simplefilter("ignore")


def test_cluster_gives_the_numbers_and_the_errors_of_one_process(
    field: xr.DataArray, tmp_path: Path, cluster: LocalCluster
) -> None:
    field.chunk(time=13, lat=4).to_dataset().to_zarr(tmp_path / "x.zarr", consolidated=False)
    expected = eof(field, modes=3, anomalies="month")
    maps = correlation_map(expected, field)
    again = reconstruct(rotate(expected))
    here = _answers(field)
    field.to_dataset().to_netcdf(tmp_path / "x.nc")
    gappy = field.copy()
    gappy[41, 5, 7] = np.nan
    with Client(cluster):
        for name, values in _answers(tmp_path / "x.zarr").items():
            # EOFs are found to a residual of 1e-6, modes of a filled one to one of 5e-3
            allowed = (1e-2 if name == "fill" else 1e-5) * np.nanmax(np.abs(here[name]))
            np.testing.assert_allclose(values, here[name], rtol=0, atol=allowed, err_msg=name)
        for data in (tmp_path / "x.zarr", tmp_path / "x.nc"):
            found = eof(data, modes=3, anomalies="month")
            np.testing.assert_allclose(found.eofs, expected.eofs, rtol=0, atol=1e-9)
        np.testing.assert_allclose(project(found, field.chunk(time=9)), found.pcs, atol=1e-4)
        np.testing.assert_allclose(correlation_map(found, tmp_path / "x.zarr"), maps, atol=1e-9)
        turned = rotate(eof(tmp_path / "x.zarr", 3, anomalies="month", out=tmp_path / "m.zarr"))
        np.testing.assert_allclose(reconstruct(turned), again, rtol=0, atol=1e-7)
        with pytest.raises(NonFiniteError, match="air is missing at time=2003-06.*lat=20.0"):
            eof(gappy, modes=2)


def _answers(field: Any) -> dict[str, Any]:
    """Ask the other functions; the second field is made of the first, in memory or stored."""
    array = (
        field if isinstance(field, xr.DataArray) else xr.open_zarr(field, consolidated=False).air
    )
    other = array[:, ::-1].rename("other").rename(lat="y", lon="x")
    options: dict[str, Any] = {"modes": 2, "weights": None, "eofs": 3}
    return {
        "bounded": np.asarray(mca(field, other, **options).squared_covariance_fraction),
        "measured": np.asarray(mca(field, other, total="measured", **options).covariances),
        "cca": np.asarray(cca(field, other, **options).correlations),
        "hilbert": np.asarray(hilbert_eof(field, 2, eofs=4).eigenvalues),
        "common": np.asarray(common_eofs({"a": field, "b": array[20:]}, 2).eigenvalues),
        "fill": np.asarray(fill_gaps(array[:, 4:], 1, tol=0.05).mean("time")),
        "bootstrap": np.asarray(bootstrap(field, 2, eofs=3, draws=9).eigenvalues_high),
        "regression": np.asarray(regression_map(array.time.dt.month * 1.0, field)),
    }
