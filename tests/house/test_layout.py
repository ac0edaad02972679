"""The shape of the repository: one idea a file, no drawers, no machine's paths, a light import."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAX_LINES = 400
DRAWERS = {"utils.py", "helpers.py", "common.py"}
HEAVY = {"dask", "distributed", "scipy", "zarr"}
MACHINE_PATH = re.compile(r"(?<![\w.~}-])/(?:work|root|home)/\w")


def test_no_file_is_a_drawer(files: list[Path]) -> None:
    assert [str(f) for f in files if f.name in DRAWERS] == []


def test_files_are_short_enough_to_read(files: list[Path]) -> None:
    package = [f for f in files if f.parts[0] == "leptonhpc" and f.suffix == ".py"]
    lengths = {str(f): len((ROOT / f).read_text().splitlines()) for f in package}
    assert {f: n for f, n in lengths.items() if n > MAX_LINES} == {}


def test_no_file_names_a_path_of_some_machine(files: list[Path]) -> None:
    found = []
    for file in files:
        text = (ROOT / file).read_bytes().decode(errors="ignore")
        found += [f"{file}: {m.group()}" for m in MACHINE_PATH.finditer(text)]
    assert found == []


def test_import_loads_nothing_heavy() -> None:
    code = "import sys, leptonhpc; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert HEAVY & set(done.stdout.split()) == set()


@pytest.fixture(scope="module")
def files() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: what belongs to the repository is not known")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [Path(n) for n in names.split("\0") if n and (ROOT / n).is_file()]
