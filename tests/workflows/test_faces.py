"""Eigenfaces: the template runs from a copy, its notebook too, both with known answers."""

import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import leptonhpc as lh
from leptonhpc import datasets, store
from leptonhpc.errors import DatasetError

TEMPLATE = Path(__file__).parents[2] / "workflows" / "faces"
UNMADE = shutil.ignore_patterns("*-output")
"""A template is copied without what its run left there."""
SHARES = (17.61, 12.91, 6.84)
"""Percent; by an SVD of the repaired images in double precision."""


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the template, with the faces fetched, or skip where they cannot be had."""
    folder = tmp_path_factory.mktemp("mine") / "faces"
    shutil.copytree(TEMPLATE, folder, ignore=UNMADE)
    try:
        datasets.fetch("faces", out=folder / "faces-output" / "faces.zarr")
    except DatasetError as error:
        pytest.skip(f"the faces cannot be had: {error}")
    return folder


def run(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "run.py", *arguments],
        cwd=folder, capture_output=True, text=True, timeout=1200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-1500:]
    return done.stdout


def test_faces_have_their_known_variances_and_are_recognised(copied: Path) -> None:
    printed = run(copied)
    for number, share in enumerate(SHARES, 1):
        assert f"eigenface {number} holds {share:.2f} %" in printed
    assert "177 of 200 faces, 88.5%" in printed
    assert (copied / "faces-output" / "eigenfaces.png").stat().st_size > 20_000
    faces = np.asarray(lh.open(copied / "faces-output" / "faces.zarr"), float)
    centred = faces - faces.mean(axis=0)
    exact = np.linalg.eigvalsh(centred @ centred.T)[::-1]
    np.testing.assert_allclose(100 * exact[:3] / exact.sum(), SHARES, atol=0.005)


def test_images_of_the_user_are_taken(copied: Path) -> None:
    labels = "\n".join(str(face // 10) for face in range(400))
    (copied / "labels.txt").write_text(labels)
    given = ("--data", "faces-output/faces.zarr", "--labels", "labels.txt", "--height", "112")
    assert "177 of 200 faces" in run(copied, *given, "--folder", "mine")


def test_labels_that_do_not_fit_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faces = store.create_array(tmp_path / "f.zarr", shape=(4, 6), dtype=np.uint8, chunks=(4, 6))
    faces.write_units((0, 0), np.zeros((4, 6), np.uint8))
    (tmp_path / "l.txt").write_text("a\na\nb\n")
    given = ["--data", "f.zarr", "--labels", "l.txt", "--height", "3"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["run.py", *given])
    with pytest.raises(SystemExit, match="3 labels and a height of 3 pixels do not fit 4 images"):
        runpy.run_path(os.fspath(TEMPLATE / "run.py"), run_name="__main__")


def images(notebook: Any) -> int:
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert "88.5% of 200 faces" in json.dumps(outputs)
    return sum("image/png" in output.get("data", {}) for output in outputs)


@pytest.mark.usefixtures("copied")
def test_notebook_holds_its_pictures_and_runs(tmp_path: Path) -> None:
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    path = TEMPLATE / "notebook.ipynb"
    assert images(json.loads(path.read_text())) == 2
    assert os.fspath(TEMPLATE.parents[1]) not in path.read_text()
    notebook = nbformat.read(path, as_version=4)
    where = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=1200, startup_timeout=1200, resources=where).execute()
    assert images(notebook) == 2
