"""The template runs from a copy outside the repository, and its notebook from top to bottom."""

import json
import os
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import xarray as xr

from leptonhpc.datasets.wheels import EOFS, Wheel

TEMPLATE = Path(__file__).parents[2] / "workflows" / "climate_eof"
UNMADE = shutil.ignore_patterns("*-output")
"""A template is copied without what its run left there."""
Need = Callable[[Wheel], Path]


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(TEMPLATE, tmp_path / "mine", ignore=UNMADE))


def test_run_leaves_modes_and_pictures_and_says_when_they_are_there(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(copied)
    given = ("--simulate", "0.006", "--modes", "4", "--anomalies", "month", "--memory", "700 MB")
    monkeypatch.setattr(sys, "argv", ["run.py", *given])
    runpy.run_path("run.py", run_name="__main__")
    left = copied / "climate-eof-output"
    with xr.open_zarr(left / "eofs.zarr") as modes:
        assert f"{100 * float(modes.variance_fraction[0]):.4f} %" in capsys.readouterr().out
        assert modes.eofs.shape == (4, 90, 180)
    assert {path.suffix for path in left.iterdir()} == {".zarr", ".png"}
    with pytest.raises(SystemExit, match="eofs.zarr' exists"):
        runpy.run_path("run.py", run_name="__main__")


def images(notebook: Any) -> int:
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    return sum("image/png" in output.get("data", {}) for output in outputs)


def test_notebook_holds_its_pictures_and_runs(need_wheel: Need, copied: Path) -> None:
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    need_wheel(EOFS)
    text = (copied / "notebook.ipynb").read_text()
    assert images(json.loads(text)) == 2
    assert os.fspath(TEMPLATE.parents[1]) not in text
    notebook = nbformat.read(copied / "notebook.ipynb", as_version=4)
    where = {"metadata": {"path": str(copied)}}
    nbclient.NotebookClient(notebook, timeout=1200, startup_timeout=1200, resources=where).execute()
    assert images(notebook) == 2
