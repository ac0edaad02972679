"""The template runs from a copy outside the repository, and its notebook from top to bottom."""

import csv
import json
import os
import runpy
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leptonhpc.datasets.wheels import RECBOLE, obtain_wheel
from leptonhpc.errors import DatasetError
from leptonhpc.recommend import load, open_ratings

TEMPLATE = Path(__file__).parents[2] / "workflows" / "recommender"


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    left = shutil.ignore_patterns("*-output")
    return Path(shutil.copytree(TEMPLATE, tmp_path / "mine", ignore=left))


def test_run_recommends_from_a_table_of_the_user(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    liked = rng.random((40, 30)) < np.where(np.add.outer(range(40), range(30)) % 2, 0.7, 0.03)
    rows = [f"u{user},film {item},{rng.integers(1, 6)}" for user, item in np.argwhere(liked)]
    (copied / "mine.csv").write_text("\n".join(["who,what,stars", *rows, rows[0][:-1] + "5"]))
    monkeypatch.chdir(copied)
    monkeypatch.setattr(sys, "argv", ["run.py", "--data", "mine.csv", "--factors", "2"])
    runpy.run_path("run.py", run_name="__main__")
    printed = capsys.readouterr().out
    for measure in ("held-out RMSE of ALS", "precision@10", "recall@10", "ndcg@10", "map@10"):
        assert measure in printed
    left = copied / "recommender-output"
    assert {path.name for path in left.iterdir()} == {
        "ratings.zarr", "model.zarr", "recommendations.csv", "losses.png",
    }  # fmt: skip
    with (left / "recommendations.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert len(found) == 400
    # users like films of the other parity
    first = [row for row in found if row["place"] == "1"]
    odd = [(int(row["user"][1:]) + int(row["item"].split()[1])) % 2 for row in first]
    assert np.mean(odd) > 0.74  # by chance a half, in 40 users 0.08 off
    assert load(left / "model.zarr").n_features_in_ == open_ratings(left / "ratings.zarr").shape[1]


def images(notebook: Any) -> int:
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    return sum("image/png" in output.get("data", {}) for output in outputs)


def test_notebook_holds_its_pictures_and_runs(copied: Path) -> None:
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    try:
        obtain_wheel(RECBOLE)
    except DatasetError as error:
        if "could not be downloaded" not in str(error):
            raise
        pytest.skip(str(error))
    text = (copied / "notebook.ipynb").read_text()
    assert images(json.loads(text)) == 2
    assert os.fspath(TEMPLATE.parents[1]) not in text
    notebook = nbformat.read(copied / "notebook.ipynb", as_version=4)
    where = {"metadata": {"path": str(copied)}}
    nbclient.NotebookClient(notebook, timeout=1200, startup_timeout=1200, resources=where).execute()
    assert images(notebook) == 2
