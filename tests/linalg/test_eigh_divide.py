"""Eigenpairs of what no worker holds: by division, and resumed, and checked on the way."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import leptonhpc as lh
from leptonhpc.api import outputs
from leptonhpc.errors import (
    LinAlgError,
    NumericRangeError,
)
from leptonhpc.kernels import tables
from leptonhpc.linalg import eigh_recursion, eigh_stages
from leptonhpc.runtime import run as runner
from leptonhpc.testing import put

from .hermitians import MATRICES, check, hermitian

MEMORY = "1 GB"
PROGRAM = """
import sys
import leptonhpc as lh
from leptonhpc.linalg import eigh_stages
eigh_stages.Stages.fits = lambda self, n: n <= 600
lh.eigh(sys.argv[1], method="divide", memory="230 MB", out=sys.argv[2])
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(int(peak.split()[1]) * 1024)
"""


ONCE = hermitian(np.linspace(-1, 3, 48))
"""Is divided once into parts that are small enough: what is not about them needs no more."""


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a part of order 24 be what one worker holds, in chunks of 16."""
    monkeypatch.setattr(eigh_stages.Stages, "fits", lambda _, n: n <= 24)
    monkeypatch.setattr(eigh_stages, "UNIT", 16)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("name", MATRICES)
def test_divided_pairs_are_backward_stable(name: str) -> None:
    a = MATRICES[name]
    r = lh.eigh(a, method="divide", memory=MEMORY)
    assert r.certificate.converged
    assert r.certificate.complete
    assert r.certificate.method == "divide and conquer"
    check(a, r, np.linalg.eigvalsh(a))


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("which", ["largest", "smallest"])
def test_some_divided_pairs_are_those_at_the_end(which: Any) -> None:
    a = MATRICES["spread"]
    r = lh.eigh(a, k=20, which=which, method="divide", memory=MEMORY)
    true = np.linalg.eigvalsh(a)
    assert r.eigenvectors.shape == (90, 20)
    check(a, r, true[-20:] if which == "largest" else true[:20])


@pytest.mark.usefixtures("small_parts")
def test_a_divided_job_that_was_killed_goes_on_from_its_last_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eigh_stages, "UNIT", 48)
    stop = 60
    place = put(MATRICES["complex"], tmp_path / "a", chunks=(30, 20))
    whole = lh.eigh(place, method="divide", memory=MEMORY, out=tmp_path / "whole")
    execute = runner._Run.execute
    count = 0

    def failing(self: Any, stage: Any, small: Any) -> Any:
        nonlocal count
        count += 1
        if count > stop:
            raise KeyError("stopped")
        return execute(self, stage, small)

    with monkeypatch.context() as patch:
        patch.setattr(runner._Run, "execute", failing)
        with pytest.raises(KeyError, match="stopped"):
            lh.eigh(place, method="divide", memory=MEMORY, out=tmp_path / "r")
    again = lh.eigh(place, method="divide", memory=MEMORY, out=tmp_path / "r")
    assert sum(stage.resumed for stage in again.report.stages) == stop
    assert np.array_equal(again.eigenvectors, whole.eigenvectors)
    assert again.certificate == whole.certificate
    assert sorted(p.name for p in (tmp_path / "r").iterdir()) == sorted(
        p.name for p in (tmp_path / "whole").iterdir()
    )


@pytest.mark.usefixtures("small_parts")
def test_a_wrong_product_on_the_way_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    gemm = tables.DEVICES["host"].gemm

    def wrong(c: Any, a: Any, b: Any, **options: Any) -> None:
        gemm(c, a, b, **options)
        if c.shape == (16, 16):
            c[3, 5] += 1e-3

    monkeypatch.setitem(tables.DEVICES, "host", replace(tables.DEVICES["host"], gemm=wrong))
    tables.table.cache_clear()
    try:
        with pytest.raises(LinAlgError, match="product is wrong"):
            lh.eigh(MATRICES["spread"], method="divide", memory=MEMORY)
    finally:
        tables.table.cache_clear()


def test_a_spectrum_is_divided_within_the_budget(tmp_path: Path) -> None:
    n = 1000
    a = hermitian(np.sort(np.random.default_rng(5).standard_normal(n)))
    place = put(a, tmp_path / "a.zarr", chunks=(250, 250))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(place), str(tmp_path / "r")],
        capture_output=True, text=True, timeout=600, check=True,
    )  # fmt: skip
    assert int(done.stdout) <= 230e6
    r = lh.load(tmp_path / "r")
    assert r.certificate.method == "divide and conquer"
    assert r.certificate.converged
    check(a, r, np.linalg.eigvalsh(a))


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("size", [1e-310, 1.5e308])
def test_what_cannot_be_squared_is_not_divided(size: float) -> None:
    with pytest.raises(NumericRangeError, match="Scale it first"):
        lh.eigh(hermitian(np.linspace(-1, 1, 40)) * size, method="divide", memory=MEMORY)


@pytest.mark.usefixtures("small_parts")
def test_a_dominating_eigenvalue_and_a_multiple_one_are_divided_in_few_products() -> None:
    for a in (
        np.outer(np.arange(81.0), np.arange(81)),
        hermitian(np.r_[1e13, np.linspace(0, 1, 50)]),
    ):
        r = lh.eigh(a, method="divide", memory=MEMORY)
        check(a, r, np.linalg.eigvalsh(a))
        assert len(r.report.stages) < 400


@pytest.mark.usefixtures("small_parts")
def test_an_eigenvalue_that_lanczos_did_not_see_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    a = hermitian(np.r_[-1.2, np.linspace(0.3, 1, 40), np.linspace(-1, -0.3, 40)])
    unseen = eigh_recursion.Recursion._spectrum

    def blind(self: Any, b: Any, depth: int) -> Any:
        found = unseen(self, b, depth)
        seen = found.theta > -1.1
        return replace(found, theta=found.theta[seen], weights=found.weights[seen])

    monkeypatch.setattr(eigh_recursion.Recursion, "_spectrum", blind)
    with pytest.raises(LinAlgError, match="seed="):
        lh.eigh(a, k=3, which="smallest", method="divide", memory=MEMORY)


@pytest.mark.usefixtures("small_parts")
def test_a_fault_is_not_kept_in_the_journal(tmp_path: Path) -> None:
    place = put(ONCE, tmp_path / "a", chunks=(30, 30))
    gemm = tables.DEVICES["host"].gemm
    calls = 0

    def wrong_once(c: Any, a: Any, b: Any, **options: Any) -> None:
        nonlocal calls
        gemm(c, a, b, **options)
        if c.shape == (48, 48):
            calls += 1
            c[3, 5] += 1e-3 * (calls == 5)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(tables.DEVICES, "host", replace(tables.DEVICES["host"], gemm=wrong_once))
        tables.table.cache_clear()
        with pytest.raises(LinAlgError, match="product is wrong"):
            lh.eigh(place, method="divide", memory=MEMORY, out=tmp_path / "r")
    tables.table.cache_clear()
    r = lh.eigh(place, method="divide", memory=MEMORY, out=tmp_path / "r")
    check(ONCE, r, np.linalg.eigvalsh(ONCE))


@pytest.mark.usefixtures("small_parts")
def test_a_finished_job_that_was_killed_while_it_tidied_up_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = put(ONCE, tmp_path / "a", chunks=(30, 30))

    def killed(*_: Any, **__: Any) -> None:
        raise KeyError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(outputs.store, "publish", killed)
        with pytest.raises(KeyError, match="killed"):
            lh.eigh(place, method="divide", memory=MEMORY, out=tmp_path / "r")
    assert not (tmp_path / "r").exists()
    r = lh.eigh(place, method="divide", memory=MEMORY, out=tmp_path / "r")
    check(ONCE, r, np.linalg.eigvalsh(ONCE))
    assert [p.name for p in tmp_path.iterdir() if "partial" in p.name] == []
