"""The check that is to be run on a GPU runs to its end without one, on the double."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from leptonhpc.errors import OptionError
from leptonhpc.kernels import primitives_of

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu_check.py"


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), "--out", str(folder / "rows.json"), *arguments]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=900, check=False
    )


def test_each_job_is_held_against_ceilings_of_the_same_run_and_no_part_stops_another(
    tmp_path: Path,
) -> None:
    steps = ("machine", "ceilings", "gemm", "svd", "cholesky")
    done = run(tmp_path, "--double", "--steps", *steps, "--sizes", '{"potrf": "many"}')
    written = json.loads((tmp_path / "rows.json").read_text())
    assert written["double"]
    rows = {row["name"]: row for row in written["rows"]}
    failed = [row["name"] for row in written["rows"] if "failed" in row]
    assert failed == ["ceiling: potrf float64", "ceiling: qr float64"], done.stdout + done.stderr
    assert done.returncode == 1
    assert written["told"].keys() == {"ceilings"}
    assert written["told"]["ceilings"].count("Traceback") == 2
    assert "Traceback" in done.stdout
    assert "numpy" in rows["versions"]["note"]
    for name in ("gemm tf32", "copy out", "read and decompress"):  # before and after
        assert rows[f"ceiling: {name}"]["value"] > 0
    for name in ("gemm out of core, float64", "svd, pass 1", "svd, passes after"):
        assert rows[name]["fraction"] > 0
    for name in ("CuPy, all on the GPU", "dask.array with CuPy"):
        assert "on a GPU only" in rows[f"peer: {name}"]["note"]
    peers = [row["step"] for row in written["rows"] if row["name"] == "peer: NumPy on all cores"]
    assert peers == ["gemm", "svd", "cholesky"]
    for name in rows:
        assert name in done.stdout
    # rounded factors, relative to the largest of sums of 192 products of like size
    single, rounded = (rows[f"gemm out of core, {p}"]["error"] for p in ("float32", "tf32"))
    assert 10 * single < rounded <= 192 * 2.0**-10
    # n eps |A||B|, and the same of the factor, whose largest entry is one
    assert rows["gemm out of core, float64"]["error"] <= 192 * 2.3e-16 * 192
    assert rows["cholesky, n=256"]["error"] <= 256 * 2.3e-16 * 1000  # condition (1 + r) / (1 - r)
    assert rows["svd, in all"]["converged"]
    assert rows["svd, in all"]["error"] < 1e-4


def test_a_step_that_takes_too_long_does_not_stop_the_rest(tmp_path: Path) -> None:
    done = run(tmp_path, "--double", "--steps", "ceilings", "gemm", "--limit-seconds", "0.2")
    assert done.returncode == 1
    assert done.stdout.count("FAILED: took longer than 0 s") == 2


def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    try:
        primitives_of("cuda")
    except OptionError:
        done = run(tmp_path)
        assert done.returncode == 2
        assert "--double" in done.stdout
    else:
        pytest.skip("there is a GPU")
