"""`leptonhpc eof` gives what `leptonhpc.climate.eof` gives."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

from leptonhpc.cli.app import app
from leptonhpc.climate import eof


@pytest.fixture
def store(field: xr.DataArray, tmp_path: Path) -> Path:
    field.to_dataset().to_zarr(tmp_path / "x.zarr", consolidated=False)
    return tmp_path / "x.zarr"


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, ["eof", *map(str, arguments)])


@pytest.mark.parametrize("suffix", ["zarr", "nc"])
def test_command_stores_and_prints_what_the_function_gives(
    field: xr.DataArray, store: Path, suffix: str
) -> None:
    out, picture = store.parent / f"eofs.{suffix}", store.parent / "modes.png"
    given = ("--variable", "air", "--modes", 3, "--anomalies", "month", "--detrend", 1)
    done = run(store, *given, "--out", out, "--plot", picture)
    assert done.exit_code == 0, done.stderr
    expected = eof(field, 3, anomalies="month", detrend=1)
    reader = xr.open_zarr if suffix == "zarr" else xr.open_dataset
    with reader(out) as stored:
        # vectors of length 1, whose small entries are differences of larger ones
        np.testing.assert_allclose(
            stored.eofs, expected.eofs, rtol=0, atol=64 * np.finfo(float).eps
        )
    assert f"{100 * float(expected.variance_fraction[0]):.6g}" in done.stdout
    assert picture.read_bytes()[:4] == b"\x89PNG"
    if suffix == "zarr":
        for command in ("load", "report"):
            shown = CliRunner().invoke(app, [command, str(out)])
            assert (shown.exit_code, "which xarray.open_zarr reads" in shown.stderr) == (1, True)


def test_json_is_one_document(store: Path) -> None:
    done = run(store, "--modes", 2, "--weights", "none", "--json")
    assert done.exit_code == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["driver"] == "eof"
    assert len(document["eigenvalues"]) == 2
    assert document["certificate"]["converged"] is True


def test_wrong_use_is_said_in_one_line(
    field: xr.DataArray, store: Path, tmp_path: Path
) -> None:  # fmt: skip
    gappy = field.assign_coords(lon=np.arange(12)).fillna(280)
    gappy[7, 1, 5] = np.nan
    gappy.to_netcdf(tmp_path / "gappy.nc")
    for arguments, code, words in (
        ((store, "--dim", "t"), 2, "no dimension 't'"),
        ((store, "--variable", "sst"), 2, "no variable 'sst'"),
        ((tmp_path / "none.nc",), 1, "none.nc"),
        ((tmp_path / "gappy.nc", "--weights", "none"), 1, "missing at time=2000-08-01"),
        ((tmp_path / "gappy.nc", "--weights", "none"), 1, "lat=-60.0, lon=5"),
        ((tmp_path / "gappy.nc", "--weights", "none"), 1, "fill_gaps (--gaps 'em')"),
        ((store, "--modes", 3, "--out", store.parent / "x.txt"), 2, ".zarr or .nc"),
        ((store, "--out", tmp_path / "r.zarr", "--plot", "modes.xyz"), 2, "found 'modes.xyz'"),
        ((store, "--out", tmp_path / "r.zarr", "--plot", "no/modes.png"), 2, "no folder 'no'"),
    ):
        done = run(*arguments)
        assert done.exit_code == code, done.stderr
        assert words in done.stderr
        assert not (tmp_path / "r.zarr").exists()


def test_files_that_the_shell_lists_are_one_field(field: xr.DataArray, tmp_path: Path) -> None:
    files = [tmp_path / "1.nc", tmp_path / "2.nc"]
    for half, file in enumerate(files):
        field[30 * half : 30 * half + 30].to_netcdf(file)
    document = json.loads(run(*files, "--modes", 2, "--json").stdout)
    np.testing.assert_allclose(document["eigenvalues"], eof(field, 2).eigenvalues, rtol=1e-10)
