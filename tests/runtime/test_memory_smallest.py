"""What is named as the smallest budget is enough: jobs run within it, each in a fresh process."""

import json
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import leptonhpc as lh
from leptonhpc.planning.costs import LIBRARIES_NBYTES

N = 1400
"""Matrices of this order take 16 MB, five times the slack that libraries leave of their share."""
PROGRAM = """
import faulthandler, json, os, re, sys, time, traceback, warnings
faulthandler.dump_traceback_later(1700, exit=True)
warnings.simplefilter("ignore")
import numpy as np, scipy.linalg, threadpoolctl, zarr
import leptonhpc as lh
from leptonhpc.api import drivers, orthogonal
from leptonhpc.runtime import memory, run
folder, cases = sys.argv[1], json.loads(sys.argv[2])

def smallest(driver, arrays, options):
    try:
        lh.plan(driver, *arrays, memory="151 MB", **options)
    except lh.errors.MemoryBudgetError as error:
        return int(re.search(r"memory='([0-9]+) MB'", str(error))[1])
    return 151

def answer(name, driver, arrays, options):
    found = {"budget": smallest(driver, arrays, options) * 10**6}
    memory.reset_peak()
    try:
        out = folder + "/answer to " + name
        r = getattr(lh, driver)(*arrays, memory=found["budget"], out=out, **options)
    except lh.errors.MemoryBudgetError as error:
        found |= {"refused": str(error)}
    else:
        found |= {"planned": r.report.predicted_peak_nbytes, "reported": r.report.peak_nbytes,
                  "converged": bool(r.certificate.converged) if driver == "svd" else True,
                  "modes": len(r.s) if driver == "svd" else 0}
    return found | {"peak": memory.peak_nbytes(), "cpu": time.process_time()}

for name, driver, arrays, options in cases:
    arrays = [folder + "/" + a for a in arrays]
    read, write = os.pipe()
    if not (child := os.fork()):  # no thread was started yet, and nothing is left from the last job
        try:
            with os.fdopen(write, "w") as file:
                json.dump(answer(name, driver, arrays, options), file)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as file:
        print(json.dumps([name, json.loads(file.read() or "null")]), flush=True)
    os.waitpid(child, 0)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give arrays: a flat spectrum, one that decays fast, and a tall and a long one."""
    folder = tmp_path_factory.mktemp("arrays")
    rng = np.random.default_rng(0)
    plain = rng.standard_normal((N, N))
    for name, a, chunks in (
        ("flat", plain, (N, 10)),
        ("decaying", plain * 0.8 ** np.arange(N), (200, 200)),
        ("single", plain.astype("f4"), (700, 700)),
        ("whole", plain, (N, N)),
        ("tall", rng.standard_normal((40_000, 120)), (20_000, 120)),
    ):
        import zarr

        zarr.create_array(folder / name, shape=a.shape, dtype=a.dtype, chunks=chunks)[:] = a
    return folder


def run(folder: Path, cases: list[tuple[str, str, list[str], dict[str, Any]]]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder), json.dumps(cases)],
        capture_output=True, text=True, timeout=1800, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-1500:]
    found = dict(json.loads(line) for line in done.stdout.splitlines())
    assert all(found.values()), done.stderr[-1500:]
    return found


def test_jobs_run_within_the_smallest_budget_that_is_named(folder: Path) -> None:
    found = run(folder, [
        ("gram", "svd", ["flat"], {"rank": N // 6, "method": "gram"}),
        ("krylov", "svd", ["single"], {"rank": 100, "method": "krylov", "most_passes": 3}),
        ("sketch", "svd", ["single"], {"rank": 100, "method": "sketch"}),
        ("matmul", "matmul", ["whole", "whole"], {}),
        ("qr", "qr", ["tall"], {}),
    ])  # fmt: skip
    for name, job in found.items():
        assert "refused" not in job, name
        assert job["planned"] <= job["budget"], name
        assert job["peak"] <= job["budget"], name
        assert job["budget"] > LIBRARIES_NBYTES + 35e6, name  # arrays are what is measured


@pytest.mark.parametrize("share", [{"tol": 0.5}, {"variance": 0.75}])
def test_an_unknown_number_of_modes_stays_within_the_smallest_budget(
    share: dict[str, float], folder: Path
) -> None:
    found = run(folder, [
        (f"flat {share}", "svd", ["flat"], share),
        (f"decaying {share}", "svd", ["decaying"], share),
    ])  # fmt: skip
    flat, decaying = found.values()
    assert max(job["peak"] / job["budget"] for job in (flat, decaying)) <= 1
    # columns of length about N^1/2 0.8^j: modes 1 to k have all but 0.64^k of the squares
    assert decaying["converged"]
    assert decaying["modes"] in (3, 4)
    # of a flat spectrum half of the modes would be needed: more than there is room for
    assert "more modes than the" in flat["refused"]


def test_a_refusal_names_a_budget_and_a_rank_that_do(tmp_path: Path) -> None:
    a = np.random.default_rng(0).standard_normal((320, 300))
    options: dict[str, Any] = {"tol": 0.1, "method": "gram"}
    with pytest.raises(lh.errors.MemoryBudgetError) as refusal:
        lh.plan("svd", a, memory="151 MB", **options)
    smallest = re.search(r"memory='(.*?)'", str(refusal.value))
    assert smallest is not None
    with pytest.raises(lh.errors.MemoryBudgetError) as refusal:  # more than half are needed
        lh.svd(a, memory=smallest[1], out=tmp_path / "r", **options)
    assert not list(tmp_path.iterdir())
    words = re.search(r"takes (\d+) modes.*memory='(\d+ MB)'.*rank=(\d+)", str(refusal.value))
    assert words is not None
    r = lh.svd(a, memory=smallest[1], rank=int(words[3]), method="gram")
    assert len(r.s) == int(words[3])
    r = lh.svd(a, memory=words[2], **options)
    squares = np.linalg.svd(a, compute_uv=False) ** 2
    left = squares.sum() - np.cumsum(squares)
    assert len(r.s) == int(words[1]) == int(np.flatnonzero(left <= 0.01 * squares.sum())[0]) + 1


def test_where_krylov_has_too_few_modes_the_gram_matrix_answers() -> None:
    a = np.random.default_rng(0).standard_normal((900, 800))
    plan = lh.plan("svd", a, tol=0.5, memory="1 GB")
    assert plan.job.algorithm.name == "krylov"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        r = plan.run()
    assert r.certificate.method == "Gram matrix"
    assert 3 <= r.certificate.passes <= plan.explanation.most_passes
    assert r.report.peak_nbytes <= 10**9
    squares = np.linalg.svd(a, compute_uv=False) ** 2
    left = squares.sum() - np.cumsum(squares)
    assert len(r.s) == int(np.flatnonzero(left <= 0.25 * squares.sum())[0]) + 1
