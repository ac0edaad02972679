"""Factorisations that were stopped go on from their last sweep, with the same numbers."""

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr


@pytest.mark.parametrize(
    "options", [{"init": "random"}, {"method": "compressed"}], ids=["sweeps", "compressed"]
)
def test_sweeps_of_a_killed_factorisation_are_not_made_again(
    options: dict[str, Any], nmf_job: Any
) -> None:
    nmf_job.options |= options
    whole = nmf_job.run(out=str(nmf_job.out.with_name("whole")))
    nmf_job.stop(signal.SIGKILL, ("stages/*.npz", 4))
    assert not nmf_job.out.exists()
    kept = nmf_job.kept("stages/*.npz")
    resumed = nmf_job.run()
    assert [name for name, *_ in resumed["stages"]] == [name for name, *_ in whole["stages"]]
    assert [taken for _, taken, *_ in resumed["stages"]].count(True) == kept >= 4
    assert resumed["digests"] == whole["digests"]
    assert resumed["certificate"] == whole["certificate"]
    assert not Path(f"{nmf_job.out}.partial").exists()


@pytest.fixture
def nmf_job(tmp_path: Path, svd_job: Any) -> Any:
    values = np.random.default_rng(0).random((1500, 120))
    array = zarr.create_array(tmp_path / "n", shape=values.shape, dtype="f8", chunks=(50, 120))
    array[...] = values
    svd_job.driver, svd_job.arrays = "nmf", [str(tmp_path / "n")]
    svd_job.options = {"rank": 4, "tol": 1e-3, "memory": "165 MB"}
    return svd_job
