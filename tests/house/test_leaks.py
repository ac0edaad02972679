"""The fixture that catches what a test leaves running catches it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"

LEAKS = {
    "thread": "import threading as t; t.Thread(target=t.main_thread().join).start()",
    "process": "import subprocess as s; global p; p = s.Popen(['cat'], stdin=s.PIPE)",
    "port": "import socket; global s; s = socket.create_server(('127.0.0.1', 0))",
}


@pytest.mark.parametrize("kind", sorted(LEAKS))
def test_a_test_that_leaks_fails(kind: str, tmp_path: Path) -> None:
    done = _run(LEAKS[kind], tmp_path)
    assert done.returncode == 1, done.stdout
    assert f"left running: ['{kind} " in done.stdout


@pytest.mark.parametrize(
    "body",
    [
        "import subprocess; subprocess.run(['true'])",
        "import dask; dask.compute(dask.delayed(abs)(-1), scheduler='threads', num_workers=2)",
        "import zarr; zarr.ones(4)[:]",
    ],
)
def test_a_test_that_cleans_up_passes(body: str, tmp_path: Path) -> None:
    done = _run(body, tmp_path)
    assert done.returncode == 0, done.stdout


def _run(body: str, folder: Path) -> subprocess.CompletedProcess[str]:
    grace = "GRACE_SECONDS = 0.2"
    text, found = re.subn(r"(?m)^GRACE_SECONDS = .*", grace, CONFTEST.read_text())
    assert found == 1
    (folder / "conftest.py").write_text(text)
    (folder / "test_it.py").write_text(f"def test_it():\n    {body}\n")
    (folder / "pytest.ini").write_text("[pytest]\n")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
