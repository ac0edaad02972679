"""Digits: the template runs from a copy, its notebook too; in step the losses are those alone."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import numpy as np
import pytest

TEMPLATE = Path(__file__).parents[2] / "workflows" / "digits_training"


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(TEMPLATE, tmp_path / "mine"))


def test_all_ways_learn_to_read(copied: Path) -> None:
    done = subprocess.run(
        [sys.executable, "run.py", "--epochs", "8", "--learning-rate", "5e-3"],
        cwd=copied, capture_output=True, text=True, timeout=1200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-1500:]
    accuracies = re.findall(r"^[a-z].{27} +(0\.\d{4}) ", done.stdout, re.MULTILINE)
    assert len(accuracies) == 9
    assert min(map(float, accuracies)) > 0.9
    apart = re.findall(r"first 20 steps differ by (\S+)", done.stdout)
    assert len(apart) == 4
    assert max(map(float, apart)) <= 1e-5
    assert (copied / "digits-output" / "digits.png").stat().st_size > 20_000


def test_files_of_mnist_are_read(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(copied)
    import run

    images = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    header = b"\0\0\x08\x03" + np.array(images.shape, ">u4").tobytes()
    assert np.array_equal(run.idx(header + images.tobytes()), images)


def pictures(notebook: Any) -> int:
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    return sum("image/png" in output.get("data", {}) for output in outputs)


def test_the_notebook_holds_its_pictures_and_runs(tmp_path: Path) -> None:
    path = TEMPLATE / "notebook.ipynb"
    assert pictures(json.loads(path.read_text())) == 1
    assert os.fspath(TEMPLATE.parents[1]) not in path.read_text()
    notebook = nbformat.read(path, as_version=4)
    (chosen,) = (cell for cell in notebook["cells"] if '"epochs": 12' in cell["source"])
    chosen["source"] = chosen["source"].replace('"epochs": 12', '"epochs": 2')
    where = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=1200, resources=where).execute()
    assert pictures(notebook) == 1
