"""The fixture that catches what a test leaves running catches it."""

import os
import re
import subprocess
import sys
from pathlib import Path

CONFTEST = Path(__file__).parents[1] / "conftest.py"

LEAKS = {
    "thread": "import threading as t; t.Thread(target=t.main_thread().join).start()",
    "process": "import subprocess as s; global p; p = s.Popen(['cat'], stdin=s.PIPE)",
    "port": "import socket; global s; s = socket.create_server(('127.0.0.1', 0))",
}
CLEAN = {
    "child": "import subprocess; subprocess.run(['true'])",
    "pool": "import dask; dask.compute(dask.delayed(abs)(-1), scheduler='threads', num_workers=2)",
    "zarr": "import zarr; zarr.ones(4)[:]",
}


def test_a_test_that_leaks_fails_and_one_that_cleans_up_passes(tmp_path: Path) -> None:
    grace = "GRACE_SECONDS = 0.2"
    text, found = re.subn(r"(?m)^GRACE_SECONDS = .*", grace, CONFTEST.read_text())
    assert found == 1
    (tmp_path / "conftest.py").write_text(text)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    bodies = CLEAN | LEAKS  # in this order: what was left is there when the next begins
    tests = (f"def test_{name}():\n    {body}\n" for name, body in bodies.items())
    (tmp_path / "test_it.py").write_text("\n".join(tests))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", "test_it.py"],
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if not k.startswith("PYTEST")},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 1, done.stdout
    failed = re.findall(
        r"(?m)^ERROR test_it\.py::test_(\w+) - .*left running: \['(.*)", done.stdout
    )
    assert [(name, words.split()[0]) for name, words in failed] == [(k, k) for k in LEAKS]
    assert all(len(words.split("', '")) == 1 for _, words in failed), failed
