"""Eigenpairs of Hermitian matrices: right, bounded by the certificate, or refused."""

import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import leptonhpc as lh
from leptonhpc.api import outputs
from leptonhpc.errors import (
    LinAlgError,
    MemoryBudgetError,
    NonFiniteError,
    NotConvergedWarning,
    NotHermitianError,
    NumericRangeError,
    OptionError,
    ShapeError,
)
from leptonhpc.kernels import tables
from leptonhpc.linalg import eigh_recursion, eigh_stages
from leptonhpc.runtime import run as runner
from leptonhpc.testing import orthogonality, put

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
DTYPES = [np.float32, np.float64, np.complex64, np.complex128]
KRYLOV: dict[str, Any] = {"k": 4, "method": "krylov"}


def hermitian(values: np.ndarray, dtype: type = np.float64, seed: int = 0) -> np.ndarray:
    """Make Q diag(values) Q^H, Hermitian to the last bit."""
    generator = np.random.default_rng(seed)
    q = generator.standard_normal((len(values),) * 2)
    if np.dtype(dtype).kind == "c":
        q = q + 1j * generator.standard_normal(q.shape)
    q = np.linalg.qr(q)[0]
    a = (q * values) @ q.conj().T
    return np.asarray(((a + a.conj().T) / 2).astype(dtype))


def wilkinson(n: int) -> np.ndarray:
    """Make W_n^+, whose large eigenvalues come in pairs that differ by less than eps."""
    off = np.diag(np.ones(n - 1), 1)
    return np.diag(np.abs(np.arange(n) - n // 2).astype(float)) + off + off.T


def graded(n: int) -> np.ndarray:
    return np.asarray(10.0 ** (-np.maximum.outer(np.arange(n), np.arange(n)) / 4.0))


MATRICES = {
    "spread": hermitian(np.linspace(-1, 3, 90)),
    "complex": hermitian(np.linspace(-1, 3, 70), np.complex128),
    "multiple": hermitian(np.repeat([3.0, 1.0, -2.0], 20)),
    "clustered": hermitian(np.r_[1 + 1e-10 * np.arange(40), np.zeros(20)]),
    "Wilkinson": wilkinson(21),
    "graded": graded(60),
    "diagonal graded": np.diag(np.logspace(0, -15, 40)),
    "rank-deficient": hermitian(np.r_[np.zeros(50), np.arange(1.0, 21)]),
    "zero": np.zeros((30, 30)),
    "identity": np.eye(50),
    "one by one": np.array([[-3.0]]),
    "two by two": np.array([[0.0, 1.0], [1.0, 0.0]]),
    "integers": np.array([[2, 1, 0], [1, 2, 1], [0, 1, 2]]),
    "near the top of the range": hermitian(np.linspace(-1, 1, 40)) * 1e300,
    "near its bottom": hermitian(np.linspace(-1, 1, 40)) * 1e-290,
}


def check(a: np.ndarray, r: lh.EighResult, expected: np.ndarray) -> None:
    """Errors are within the certificate, and that is within what rounding and tol allow."""
    w, v = r.eigenvalues, np.asarray(r.eigenvectors)
    c = r.certificate
    wide = a.astype(np.result_type(a, float))
    assert np.all(np.diff(w) >= 0)
    assert np.max(np.abs(w.astype(float) - expected)) <= c.eigenvalue_bound
    scale = float(np.max(np.abs(expected), initial=0.0)) or 1.0
    residuals = scale * np.linalg.norm((wide / scale) @ v - v * (w / scale), axis=0)
    # each was measured in the dtype of computing, to c eps |A|
    assert np.all(np.abs(residuals - np.array(c.residuals)) <= c.rounding + 1e-300)
    assert orthogonality(v) <= 8 * len(a) * np.finfo(v.dtype).eps
    assert c.orthogonality <= 8 * len(a) * np.finfo(v.dtype).eps


@pytest.mark.parametrize("name", MATRICES)
def test_all_pairs_are_backward_stable(name: str) -> None:
    a = MATRICES[name]
    r = lh.eigh(a, memory=MEMORY)
    assert r.certificate.converged
    assert r.certificate.complete
    assert max(r.certificate.residuals) <= r.certificate.rounding + 1e-300
    check(a, r, np.linalg.eigvalsh(a))


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
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert int(done.stdout) <= 230e6
    r = lh.load(tmp_path / "r")
    assert r.certificate.method == "divide and conquer"
    assert r.certificate.converged
    check(a, r, np.linalg.eigvalsh(a))


@pytest.mark.parametrize("which", ["largest", "smallest"])
@pytest.mark.parametrize("method", ["gathered", "krylov"])
@pytest.mark.parametrize("name", MATRICES)
def test_a_few_pairs_are_those_at_the_end_of_the_spectrum(
    name: str, method: Any, which: Any
) -> None:
    a = MATRICES[name]
    k = min(4, len(a))
    r = lh.eigh(a, k=k, which=which, method=method, memory=MEMORY)
    true = np.linalg.eigvalsh(a)
    assert r.certificate.converged
    assert r.eigenvectors.shape == (len(a), k)
    check(a, r, true[-k:] if which == "largest" else true[:k])


@pytest.mark.parametrize("options", [{}, KRYLOV], ids=["gathered", "krylov"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_keeps_its_precision(dtype: type, options: dict[str, Any]) -> None:
    a = hermitian(np.linspace(-2, 5, 130), dtype)
    r = lh.eigh(a, memory=MEMORY, **options)
    true = np.linalg.eigvalsh(a.astype(np.result_type(a, float)))
    assert r.eigenvectors.dtype == dtype
    assert r.eigenvalues.dtype == np.empty(0, dtype).real.dtype
    check(a, r, true[-len(r.eigenvalues) :])


@pytest.mark.parametrize("options", [{}, KRYLOV], ids=["gathered", "krylov"])
@pytest.mark.parametrize("chunks", [(40, 40), (33, 57), (200, 7), (7, 200), (300, 300)])
def test_any_chunk_grid_gives_the_same_pairs(
    chunks: tuple[int, int], options: dict[str, Any], tmp_path: Path
) -> None:
    a = hermitian(np.linspace(0, 1, 170) ** 3, np.complex128)
    r = lh.eigh(put(a, tmp_path / "a.zarr", chunks=chunks), memory=MEMORY, **options)
    check(a, r, np.linalg.eigvalsh(a)[-len(r.eigenvalues) :])
    assert r.report.reads_per_chunk <= 1


def test_all_pairs_by_the_krylov_method_are_all_pairs() -> None:
    a = hermitian(np.linspace(-1, 1, 60))
    r = lh.eigh(a, k=60, method="krylov", memory=MEMORY)
    assert r.certificate.complete
    check(a, r, np.linalg.eigvalsh(a))


def test_restarts_keep_the_spectrum_of_a_basis_that_is_full(monkeypatch: Any) -> None:
    from leptonhpc.linalg import eigh_krylov

    monkeypatch.setattr(eigh_krylov, "_BLOCKS", range(3, 2, -1))
    a = hermitian(np.arange(1.0, 401) ** -0.5)
    r = lh.eigh(a, **KRYLOV, memory=MEMORY)
    assert r.certificate.passes > 4  # more blocks than there is room for
    assert r.certificate.converged
    check(a, r, np.linalg.eigvalsh(a)[-4:])


def test_what_does_not_converge_says_so_and_its_bounds_hold() -> None:
    a = hermitian(np.linspace(0, 1, 300))
    with pytest.warns(NotConvergedWarning, match="NOT CONVERGED"):
        r = lh.eigh(a, k=3, method="krylov", most_passes=3, memory=MEMORY)
    residuals = np.array(r.certificate.residuals)
    true = np.linalg.eigvalsh(a)
    nearest = np.min(np.abs(r.eigenvalues[:, None] - true), axis=1)
    assert np.all(nearest <= residuals + r.certificate.rounding)
    assert residuals.max() > 1e-8


def test_residuals_reach_the_tolerance_that_was_asked_for() -> None:
    a = hermitian(np.linspace(0, 1, 300))
    loose = lh.eigh(a, k=3, method="krylov", tol=1e-2, memory=MEMORY)
    tight = lh.eigh(a, k=3, method="krylov", tol=1e-11, memory=MEMORY)
    assert max(tight.certificate.residuals) <= 1e-11 + tight.certificate.rounding
    assert max(loose.certificate.residuals) <= 1e-2
    assert loose.certificate.passes < tight.certificate.passes


@pytest.mark.parametrize("options", [{}, KRYLOV], ids=["gathered", "krylov"])
@pytest.mark.parametrize("at", [(3, 1), (1, 3), (1000, 2), (2, 1000)])
def test_an_asymmetric_matrix_is_refused_wherever_it_is_asymmetric(
    at: tuple[int, int], options: dict[str, Any], tmp_path: Path
) -> None:
    a = np.ones((1100, 1100)) if max(at) > 60 else hermitian(np.linspace(0, 1, 60))
    a[at] += 1e-3
    i, j = max(at), min(at)
    with pytest.raises(NotHermitianError, match=rf"\({i}, {j}\)|\({j}, {i}\)"):
        lh.eigh(put(a, tmp_path / "a.zarr", chunks=(550, 550)), memory=MEMORY, **options)


@pytest.mark.parametrize("options", [{}, KRYLOV], ids=["gathered", "krylov"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_named_by_its_index(value: float, options: dict[str, Any]) -> None:
    a = hermitian(np.linspace(0, 1, 60))
    a[40, 7] = a[7, 40] = value
    with pytest.raises(NonFiniteError, match=r"index \((40, 7|7, 40)\)"):
        lh.eigh(a, memory=MEMORY, **options)


def test_questions_that_make_no_sense_are_refused() -> None:
    a = np.eye(5)
    for k in (0, 6, -1):
        with pytest.raises(ShapeError, match="k is from 1 to 5"):
            lh.eigh(a, k=k)
    with pytest.raises(ShapeError, match="square"):
        lh.eigh(np.ones((3, 4)))
    bad: list[dict[str, Any]] = [
        {"k": 1.5}, {"which": "middle"}, {"method": "qr"}, {"method": "krylov"}, {"tol": 0},
        {"tol": "a"}, {"most_passes": 1}, {"seed": -1},
    ]  # fmt: skip
    for options in bad:
        with pytest.raises(OptionError):
            lh.eigh(a, **options)


def test_beyond_memory_a_few_pairs_are_found(tmp_path: Path) -> None:
    n = 1500
    a = np.diag(np.arange(n) / n)
    a[:3, :3] += 5
    place = put(a, tmp_path / "a.zarr", chunks=(250, 250))
    with pytest.raises(MemoryBudgetError, match=r"at least memory='\d+ MB'.*k="):
        lh.eigh(place, method="gathered", memory="180 MB")
    r = lh.eigh(place, k=1, memory="180 MB", out=tmp_path / "few")
    assert r.certificate.method == "block Krylov"
    assert r.report.peak_nbytes <= r.report.memory_nbytes
    check(a, r, np.linalg.eigvalsh(a)[-1:])
    assert 3 * a.nbytes + 150e6 > 180e6


def test_the_smallest_budget_is_the_one_that_is_named(tmp_path: Path) -> None:
    place = put(hermitian(np.linspace(0, 1, 700)), tmp_path / "a.zarr", chunks=(100, 100))
    with pytest.raises(MemoryBudgetError) as caught:
        lh.eigh(place, memory="151 MB")
    least = str(caught.value).split("memory='")[1].split("'")[0]
    r = lh.eigh(place, memory=least, out=tmp_path / "out")
    assert r.report.peak_nbytes <= r.report.memory_nbytes


def test_later_passes_read_one_triangle(tmp_path: Path) -> None:
    place = put(np.diag(np.arange(1500.0)), tmp_path / "a.zarr", chunks=(250, 250))
    job: Any = lh.plan("eigh", place, k=2, method="krylov", memory="170 MB").job
    rows = -(-1500 // 250)  # of tiles: the diagonal and half of the rest
    assert job.first.passes == 1
    assert job.later.passes == (rows + 1) / (2 * rows)


def test_a_stored_result_is_read_again(tmp_path: Path) -> None:
    a = hermitian(np.linspace(0, 1, 50))
    r = lh.eigh(a, out=tmp_path / "out", memory=MEMORY)
    again = lh.load(tmp_path / "out")
    w, v = again
    assert np.array_equal(w, r.eigenvalues)
    assert np.array_equal(np.asarray(v), np.asarray(r.eigenvectors))
    assert again.certificate == r.certificate


def test_the_same_seed_gives_the_same_numbers() -> None:
    a = hermitian(np.linspace(0, 1, 200))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConvergedWarning)
        one, two = (lh.eigh(a, **KRYLOV, seed=3, memory=MEMORY) for _ in range(2))
    assert np.array_equal(one.eigenvectors, two.eigenvectors)


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
    place = put(MATRICES["spread"], tmp_path / "a", chunks=(30, 30))
    gemm = tables.DEVICES["host"].gemm
    calls = 0

    def wrong_once(c: Any, a: Any, b: Any, **options: Any) -> None:
        nonlocal calls
        gemm(c, a, b, **options)
        if c.shape == (90, 90):
            calls += 1
            c[3, 5] += 1e-3 * (calls == 5)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(tables.DEVICES, "host", replace(tables.DEVICES["host"], gemm=wrong_once))
        tables.table.cache_clear()
        with pytest.raises(LinAlgError, match="product is wrong"):
            lh.eigh(place, method="divide", memory=MEMORY, out=tmp_path / "r")
    tables.table.cache_clear()
    r = lh.eigh(place, method="divide", memory=MEMORY, out=tmp_path / "r")
    check(MATRICES["spread"], r, np.linalg.eigvalsh(MATRICES["spread"]))


@pytest.mark.usefixtures("small_parts")
def test_a_finished_job_that_was_killed_while_it_tidied_up_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = put(MATRICES["spread"], tmp_path / "a", chunks=(30, 30))
    remove = outputs.store.remove

    def killed(location: Any) -> None:
        if str(location).endswith(".leptonhpc"):
            remove(str(location) + "/stages")
            raise KeyError("killed")
        remove(location)

    with monkeypatch.context() as patch:
        patch.setattr(outputs.store, "remove", killed)
        with pytest.raises(KeyError, match="killed"):
            lh.eigh(place, method="divide", memory=MEMORY, out=tmp_path / "r")
    assert not (tmp_path / "r").exists()
    r = lh.eigh(place, method="divide", memory=MEMORY, out=tmp_path / "r")
    check(MATRICES["spread"], r, np.linalg.eigvalsh(MATRICES["spread"]))
    assert [p.name for p in tmp_path.iterdir() if "partial" in p.name] == []
