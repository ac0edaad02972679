"""A tiny size of every benchmark runs, and what fails in one is reported as a failure."""

import json
import runpy
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ..forking import Forking, forking

pytest.importorskip("dask.array")

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
LIMITS = [
    "limit: gemm float32",
    "limit: gemm float64",
    "limit: read, leptonhpc.store",
    "limit: read, zarr-python",
]
CONTESTS = ("svd", "svd_values", "matmul", "factorisations", "nmf", "parallel")
EPS = {"float32": np.finfo("f4").eps, "float64": np.finfo("f8").eps}


SCRIPT = """
import runpy, sys
sys.argv = sys.argv[1:]
sys.path[0] = sys.argv[0].rpartition("/")[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@dataclass(frozen=True)
class Place:
    """Where rows and data are, and what begins a benchmark at once; its contestants are fresh."""

    path: Path
    fork: Forking


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with forking(tmp_path_factory.mktemp("forked")) as fork:
        yield Place(tmp_path_factory.mktemp("benchmarks"), fork)


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import measure

    return measure


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import data

    return data


@pytest.mark.parametrize(
    ("subject", "limits"), [("svd", []), ("svd_values", []), ("matmul", LIMITS)]
)
def test_contest_gives_rows_with_error_and_memory(
    subject: str, limits: list[str], folder: Place
) -> None:
    rows, shown = _run(subject, folder, "--peers", "dask", limits=bool(limits))
    assert [row["contestant"] for row in rows] == [*limits, "leptonhpc", "dask"]
    assert {row["status"] for row in rows} == {"ok"}, shown
    assert all(row["seconds"] > 0 and row["peak_nbytes"] > 10**7 for row in rows)
    for row in rows[len(limits) :]:
        # tiny spectra span 1e3: relative errors are c eps s_1 / s_k, products sum 384 terms
        assert 0 <= row["error"] <= 1e3 * EPS[row["dtype"]], row
        assert row["passes"] >= 0.9
        assert row["machine"]["cores"] >= 1
        assert row["versions"]["zarr"]
    assert "leptonhpc" in shown


@pytest.mark.parametrize("work", ["cholesky", "lu", "qr"])
def test_factors_of_every_contestant_are_judged(work: str, folder: Place) -> None:
    rows, shown = _run("factorisations", folder, "--work", work, "--peers", "leptonhpc-zarr,scipy")
    assert [row["contestant"] for row in rows] == ["leptonhpc", "leptonhpc-zarr", "scipy"]
    assert {row["status"] for row in rows} == {"ok"}, shown
    for row in rows:
        assert 0 < row["error"] <= 1e3 * EPS["float64"], row
        assert row["gflops"] > 0


def test_contest_runs_on_a_cluster(folder: Place) -> None:
    rows, shown = _run("svd", folder, "--peers", "leptonhpc-distributed")
    assert rows[-1]["contestant"] == "leptonhpc-distributed"
    assert rows[-1]["status"] == "ok", shown
    # client and worker are counted together
    assert rows[-1]["peak_nbytes"] > rows[-2]["peak_nbytes"]


def test_domains_are_judged_by_numpy(folder: Place) -> None:
    (eof,), shown = _run("eof", folder, "--peers", "none")
    assert eof["status"] == "ok", shown
    assert 0 < eof["error"] <= 1e2 * EPS["float32"], eof
    rows, shown = _run("genotypes", folder)
    assert {row["status"] for row in rows} == {"ok"}, shown
    assert rows[0]["error"] <= 16 * EPS["float32"]  # products in single precision
    for row in rows[1:]:  # plink2, where it is installed; its randomized method is not exact
        assert row["error"] < (0.1 if "approx" in row["contestant"] else 1e-5)


def test_nonnegative_factors_are_judged_by_numpy(folder: Place) -> None:
    rows, shown = _run("nmf", folder, "--peers", "leptonhpc-compressed,sklearn")
    ours, compressed, theirs = rows
    assert {row["status"] for row in rows} == {"ok"}, shown
    assert 0 < ours["error"] <= 1.01 * theirs["error"]
    assert 0 < compressed["error"] <= 1.05 * theirs["error"]


def test_any_function_is_run_beside_dask(folder: Place) -> None:
    rows, shown = _run("parallel", folder)
    assert {row["status"] for row in rows} == {"ok"}, shown
    contestants = ["leptonhpc", "leptonhpc-distributed", "dask", "dask-futures"]
    assert [row["contestant"] for row in rows] == contestants
    for row in rows:
        # all sum positive numbers: 16 additions of bands are what differs
        assert row["error"] <= 32 * EPS["float64"], row


def test_placement_is_compared_with_dasks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    out = tmp_path / "rows.jsonl"  # in this process: its workers begin at once
    arguments = ["--tiny", "--works", "svd", "--data", str(tmp_path), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["placement.py", *arguments])
    runpy.run_path(str(BENCHMARKS / "placement.py"), run_name="__main__")
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == 5
    assert "dask, one at 0.25" in capsys.readouterr().out
    for row in rows:
        assert row["error"] <= 1e3 * EPS["float32"], row
        assert row.get("off_owner", 0) == 0
    assert sum("of_ideal" in row for row in rows) == 1


def test_scaling_is_simulated(folder: Place) -> None:
    rows, shown = _run("scale", folder)
    assert len(rows) == 3 * 2 * 2, shown
    for few, many in zip(rows[::2], rows[1::2], strict=True):
        assert (few["devices"], many["devices"]) == (2, 8)
        if few["scaling"] == "strong":
            assert many["seconds"] < few["seconds"]
        assert 0 < many["efficiency"] <= 1.3


def test_plan_gives_as_many_tasks_as_asked_for(folder: Place) -> None:
    rows, shown = _run("plan", folder)
    assert {row["status"] for row in rows} == {"ok"}, shown
    placed = {"place on 64 devices", "place on 10,000 devices"}
    assert {row["driver"] for row in rows} == {"svd", "matmul"} | placed
    assert all(400 <= row["tasks"] <= 700 for row in rows)


def test_overhead_measures_starts_and_jobs(folder: Place) -> None:
    rows, shown = _run("overhead", folder)
    assert {row["status"] for row in rows} == {"ok"}, shown
    assert len(rows) == 7
    assert all(row["seconds"] > 0 for row in rows)
    # differences of two measurements: noise has either sign
    names = ("seconds_a_task_ms", "client_and_scheduler_ms", "worker_ms")
    assert np.isfinite([rows[-1][name] for name in names]).all()


def test_peer_that_is_not_known_is_refused(folder: Place) -> None:
    done = _command("svd", folder, "--peers", "matlab")
    assert done.returncode == 2
    assert "found matlab" in done.stderr


def test_peer_that_exceeds_its_time_is_reported(folder: Place) -> None:
    rows, shown = _run("svd", folder, "--peers", "none", "--limit-seconds", "0.01")
    assert {row["status"] for row in rows} == {"ended: exceeded 0.01 s"}
    assert "exceeded" in shown


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "died: SIGKILL"),
        ("raise MemoryError('no room')", "failed: MemoryError: no room"),
        ("pass", "failed: no message"),
        ("x = bytearray(10**9 // 4); x[::4096] = x[::4096]; input()", "ended: exceeded 0.1 GB"),
    ],
)
def test_fresh_process_that_fails_says_how(
    code: str, status: str, measure: Any, tmp_path: Path
) -> None:
    limits = measure.Limits(seconds=600, nbytes=10**8)
    command = [sys.executable, "-c", f"import time; input = lambda: time.sleep(600)\n{code}"]
    taken = measure.run_fresh(command, tmp_path / "none.json", limits=limits)
    assert taken.status == status


def test_peak_of_a_fresh_process_counts_its_children(
    measure: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look, seen = measure.processes.peak_nbytes, tmp_path / "seen"

    def looking(pids: list[int]) -> int:
        found: int = look(pids)
        if found > 60 << 20:
            seen.touch()  # until then the child waits
        return found

    monkeypatch.setattr(measure.processes, "peak_nbytes", looking)
    child = (
        "import os, time; x = bytearray(b'1') * (60 << 20)\n"
        f"while not os.path.exists({str(seen)!r}): time.sleep(0.05)"
    )
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    taken = measure.run_fresh(
        [sys.executable, "-c", code], tmp_path / "none.json", limits=measure.Limits(60)
    )
    assert taken.status == "failed: no message"  # it wrote no result
    assert taken.peak_nbytes > 60 << 20


def test_exact_singular_values_are_those_of_the_stored_array(data: Any, tmp_path: Path) -> None:
    import zarr

    path = data.tall_matrix(tmp_path, rows=300, columns=40, chunk_rows=64)
    expected = np.linalg.svd(zarr.open_array(path)[:].astype(float), compute_uv=False)
    found = data.exact_singular_values(path)
    # eigenvalues of the Gram matrix are right to c eps s_1^2; values span 1e4 at most
    bound = 40 * EPS["float64"] * (expected[0] / expected[-1]) ** 2
    assert data.worst_relative_error(found, expected) <= bound


def test_wrong_block_of_a_product_shows(data: Any, tmp_path: Path) -> None:
    import zarr

    a, b = (data.square_matrix(tmp_path, n=96, chunk=32, seed=seed) for seed in (1, 2))
    product = zarr.open_array(a)[:] @ zarr.open_array(b)[:]
    c = zarr.create_array(tmp_path / "c.zarr", shape=(96, 96), chunks=(32, 32), dtype="f8")
    c[:] = product
    check = data.ProductCheck(a, b)
    # sums of 96 terms, three products
    assert check.error(tmp_path / "c.zarr") <= 3 * 96 * EPS["float64"]
    c[32:64, 32:64] = 0
    assert check.error(tmp_path / "c.zarr") > 0.01


def _run(
    subject: str, folder: Place, *arguments: str, limits: bool = False
) -> tuple[list[dict[str, Any]], str]:
    out = folder.path / f"{subject}-{len(list(folder.path.iterdir()))}.jsonl"
    if subject in CONTESTS and not limits:
        arguments = (*arguments, "--no-limits")
    done = _command(subject, folder, "--out", str(out), *arguments)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in out.read_text().splitlines()], done.stdout


def _command(subject: str, folder: Place, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = str(BENCHMARKS / f"{subject}.py")
    return folder.fork(SCRIPT, script, "--tiny", "--data", str(folder.path / "data"), *arguments)
