"""A folder with small arrays, and the command line run inside it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from typer.testing import CliRunner

from leptonhpc.cli.app import app

Run = Callable[..., Any]


@pytest.fixture
def matrix(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((300, 120))


@pytest.fixture
def folder(tmp_path: Path, matrix: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Enter a folder with a.zarr (300 x 120), b.zarr (120 x 7), field.zarr (3-D) and nan.zarr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LEPTONHPC_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LEPTONHPC_DEBUG", raising=False)
    spoiled = matrix.copy()
    spoiled[241, 5] = np.nan
    arrays = {"a": matrix, "b": matrix[:120, :7], "field": np.ones((4, 3, 2)), "nan": spoiled}
    for name, values in arrays.items():
        chunks = (100, *values.shape[1:])
        stored = zarr.create_array(
            f"{name}.zarr", shape=values.shape, chunks=chunks, dtype=values.dtype
        )
        stored[...] = values
    return tmp_path


@pytest.fixture
def run(folder: Path) -> Run:
    """Run `leptonhpc` with these arguments in this process; stdout and stderr apart."""

    def invoke(*arguments: str) -> Any:
        return CliRunner().invoke(app, list(arguments))

    return invoke


@pytest.fixture
def run_json(run: Run) -> Run:
    """Run with --json, which must succeed with one document on stdout; give that."""

    def invoke(*arguments: str) -> Any:
        done = run(*arguments, "--json")
        assert done.exit_code == 0, done.stderr
        return json.loads(done.stdout, parse_constant=_refuse)

    return invoke


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
