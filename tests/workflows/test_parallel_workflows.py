"""The templates over lh.parallel and streams run from copies, and their notebooks top to bottom."""

import json
import os
import pickle
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest

from leptonhpc.datasets.wheels import SKFOLIO, obtain_wheel
from leptonhpc.errors import DatasetError

TEMPLATES = Path(__file__).parents[2] / "workflows"
PICTURES = {"market_risk": 2, "stream_monitor": 1}


def copy(name: str, folder: Path) -> None:
    """Copy a template without what it left when somebody ran it."""
    shutil.copytree(TEMPLATES / name, folder, ignore=shutil.ignore_patterns("*-output"))


@pytest.fixture
def prices() -> None:
    """Skip, and say why, where the prices cannot be had."""
    try:
        obtain_wheel(SKFOLIO)
    except DatasetError as error:
        if "could not be downloaded" not in str(error):
            raise
        pytest.skip(str(error))


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Run a copy of a template as a program, in this process, and give what it printed."""

    def program(name: str, *arguments: str) -> str:
        if not (tmp_path / "mine").exists():
            copy(name, tmp_path / "mine")
        monkeypatch.chdir(tmp_path / "mine")
        monkeypatch.setattr(sys, "argv", ["run.py", *arguments])
        runpy.run_path("run.py", run_name="__main__")
        return capsys.readouterr().out

    return program


@pytest.mark.usefixtures("prices")
def test_value_at_risk_is_that_of_the_closed_form(tmp_path: Path, run: Callable[..., str]) -> None:
    printed = run("market_risk", "--paths", "200000", "--parts", "10")
    assert "3 factors above the noise edge 1.101" in printed
    assert "holds 34.5 %" in printed
    left = tmp_path / "mine" / "market-risk-output"
    assert (left / "risk.png").stat().st_size > 20_000
    risks = json.loads((left / "risk.json").read_text())
    for law in ("normal", "student"):
        risk = risks[law]
        assert risk["paths"] == 200_000
        # four standard errors, and half a bin of the histogram: a 2000th of a deviation
        bin_size = risks["normal"]["closed_form"] / 2.326 / 2000
        apart = abs(risk["value_at_risk"] - risk["closed_form"])
        assert apart < 4 * risk["standard_error"] + bin_size


def test_a_change_is_told_of_once_whatever_was_killed(
    tmp_path: Path, run: Callable[..., str]
) -> None:
    copy("stream_monitor", tmp_path / "mine")
    small = ("--rows", "2000", "--pause")
    doomed = subprocess.Popen(  # it would need half a minute to the change
        [sys.executable, "run.py", *small, "1.0"], cwd=tmp_path / "mine", start_new_session=True
    )
    state = tmp_path / "mine" / "stream-monitor-output" / "monitor.state" / "stream-position"
    deadline = time.monotonic() + 600
    while not state.exists() or pickle.loads(state.read_bytes())[1].length < 150:
        assert time.monotonic() < deadline
        assert doomed.poll() is None
        time.sleep(0.01)
    os.killpg(doomed.pid, signal.SIGKILL)  # the watcher and its writer
    doomed.wait()
    printed = run("stream_monitor", *small, "0.01")
    assert "going on after row " in printed
    assert "2000 rows, alarms at rows 1" in printed
    assert printed.count("ALARM") == 1
    assert (state.parents[1] / "drift.png").stat().st_size > 20_000


def images(notebook: Any) -> int:
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    return sum("image/png" in output.get("data", {}) for output in outputs)


@pytest.mark.usefixtures("prices")
@pytest.mark.parametrize("name", sorted(PICTURES))
def test_notebook_holds_its_pictures_and_runs(name: str, tmp_path: Path) -> None:
    path = TEMPLATES / name / "notebook.ipynb"
    assert images(json.loads(path.read_text())) == PICTURES[name]
    assert os.fspath(TEMPLATES.parent) not in path.read_text()
    notebook = nbformat.read(path, as_version=4)
    where = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=1200, startup_timeout=1200, resources=where).execute()
    assert images(notebook) == PICTURES[name]
