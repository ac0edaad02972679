"""`make` mends the environment that an interrupted installation left."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).parents[2] / "Makefile"
PYTHON = """#!/bin/sh
# a Python whose environments have a pip that notes what it is asked for
case "$2" in
venv) "{python}" "$@" --without-pip && cp -r pip pip-1.dist-info .venv/lib/python3*/site-packages ;;
*) "{python}" "$@" ;;
esac
"""

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a folder with the Makefile, and an environment that was made by it."""
    shutil.copy(MAKEFILE, tmp_path)
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "python").write_text(PYTHON.format(python=sys.executable))
    (tmp_path / "python").chmod(0o755)
    (tmp_path / "pip").mkdir()
    (tmp_path / "pip" / "__init__.py").touch()
    (tmp_path / "pip" / "__main__.py").write_text(
        "import sys; print(*sys.argv[1:], file=open('installed', 'a'))"
    )
    package(tmp_path, "pip")
    assert "is made anew" not in make(tmp_path)
    assert (tmp_path / "installed").read_text().endswith("--editable .[test,xarray]\n")
    return tmp_path


def package(folder: Path, name: str) -> Path:
    """Write the metadata of a package."""
    metadata = folder / f"{name}-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    (metadata / "RECORD").write_text("METADATA,,\n")
    return metadata


def make(folder: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "PYTHON"))}
    done = subprocess.run(
        ["make", "--no-print-directory", "PYTHON=./python", ".venv/installed"],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def packages_of(folder: Path) -> Path:
    (found,) = (folder / ".venv" / "lib").glob("python3*/site-packages")
    return found


@pytest.mark.parametrize("lost", ["METADATA", "RECORD", "Version", "pip"])
def test_an_environment_that_was_left_half_made_is_made_anew(folder: Path, lost: str) -> None:
    site = packages_of(folder)
    if lost == "pip":  # as the environment itself was made
        shutil.rmtree(site / "pip-1.dist-info")
    elif lost == "Version":  # pip itself ends with a TypeError
        (package(site, "half") / "METADATA").write_text("Metadata-Version: 2.1\nName: half\n")
    else:  # as packages were installed
        (package(site, "half") / lost).unlink()
    (folder / ".venv" / "installed").unlink()
    assert "an installation was interrupted: .venv is made anew" in make(folder)
    assert (site / "pip-1.dist-info").exists()
    assert not (site / "half-1.dist-info").exists()
    assert len((folder / "installed").read_text().splitlines()) == 2
    assert (folder / ".venv" / "installed").exists()


def test_a_whole_environment_is_kept_when_its_requirements_change(folder: Path) -> None:
    other = package(packages_of(folder), "other")
    (folder / ".venv" / "installed").unlink()
    assert "is made anew" not in make(folder)
    assert other.exists()
