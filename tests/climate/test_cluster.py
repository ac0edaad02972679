"""On a cluster of processes the numbers are the same, and errors are too."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from distributed import Client, LocalCluster

from leptonhpc.climate import correlation_map, eof, project
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
    expected = eof(field, modes=3, anomalies="month")
    maps = correlation_map(expected, field)
    field.chunk(time=13, lat=4).to_dataset().to_zarr(tmp_path / "x.zarr", consolidated=False)
    field.to_dataset().to_netcdf(tmp_path / "x.nc")
    gappy = field.copy()
    gappy[41, 5, 7] = np.nan
    with Client(cluster):
        for data in (tmp_path / "x.zarr", tmp_path / "x.nc"):
            found = eof(data, modes=3, anomalies="month")
            np.testing.assert_allclose(found.eofs, expected.eofs, rtol=0, atol=1e-9)
        np.testing.assert_allclose(project(found, field.chunk(time=9)), found.pcs, atol=1e-4)
        np.testing.assert_allclose(correlation_map(found, tmp_path / "x.zarr"), maps, atol=1e-9)
        with pytest.raises(NonFiniteError, match="air is missing at time=2003-06.*lat=20.0"):
            eof(gappy, modes=2)
