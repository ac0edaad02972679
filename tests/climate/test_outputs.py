"""What others put beside an output stays, and unfinished outputs are known."""

from pathlib import Path

import pytest
import xarray as xr

from leptonhpc import store
from leptonhpc.climate import eof, eofs
from leptonhpc.errors import OutputExistsError


class StopError(Exception):
    """Somebody pulled the plug."""


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("suffix", ["partial", "svd"])
def test_folders_of_others_are_never_removed(
    field: xr.DataArray, tmp_path: Path, suffix: str, overwrite: bool
) -> None:
    thesis = tmp_path / f"x.zarr.{suffix}" / "thesis.txt"
    thesis.parent.mkdir()
    thesis.write_text("four years")
    with pytest.raises(
        OutputExistsError, match=rf"x.zarr.{suffix}', .* is something else; move it"
    ):
        eof(field, modes=2, out=tmp_path / "x.zarr", overwrite=overwrite)
    assert thesis.read_text() == "four years"


def test_files_of_others_beside_a_netcdf_file_stay(field: xr.DataArray, tmp_path: Path) -> None:
    thesis = tmp_path / "x.nc.partial"
    thesis.write_text("four years")
    with pytest.raises(OutputExistsError, match="something else"):
        eof(field, modes=2, out=tmp_path / "x.nc")
    assert thesis.read_text() == "four years"
    thesis.unlink()
    eof(field, modes=2, out=tmp_path / "x.nc")
    assert [path.name for path in tmp_path.iterdir()] == ["x.nc"]


def stopped(*_: object, **__: object) -> None:
    raise StopError


def test_unfinished_call_goes_on_and_another_is_refused_by_name(
    field: xr.DataArray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "x.zarr"
    with monkeypatch.context() as patch:
        patch.setattr(eofs, "assemble", stopped)
        with pytest.raises(StopError):
            eof(field, modes=3, out=out)
    message = r"x.zarr.svd' was left by an unfinished call .* overwrite=True to begin anew"
    with pytest.raises(OutputExistsError, match=message):
        eof(field, modes=2, out=out)
    assert eof(field, modes=3, out=out).sizes["mode"] == 3
    assert [path.name for path in tmp_path.iterdir()] == ["x.zarr"]


def test_what_a_stop_left_while_writing_is_replaced(
    field: xr.DataArray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(xr.Dataset, "to_zarr", stopped)
        with pytest.raises(StopError):
            eof(field, modes=3, out=tmp_path / "x.zarr")
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["x.zarr.partial", "x.zarr.svd"]
    found = eof(field, modes=2, out=tmp_path / "x.zarr", overwrite=True)
    assert "leptonhpc_unfinished" not in found.attrs
    assert [path.name for path in tmp_path.iterdir()] == ["x.zarr"]


def test_output_that_a_living_call_makes_is_refused(field: xr.DataArray, tmp_path: Path) -> None:
    with store.being_made(tmp_path / "x.zarr", overwrite=False) as place:
        with pytest.raises(OutputExistsError, match=r"x\.zarr\.partial' is being made by process"):
            eof(field, modes=2, out=tmp_path / "x.zarr", overwrite=True)
        store.create_group(place)
    assert store.exists(tmp_path / "x.zarr")
