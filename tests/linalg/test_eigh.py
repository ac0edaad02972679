"""Eigenpairs of Hermitian matrices: right, bounded by the certificate, or refused."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import leptonhpc as lh
from leptonhpc.errors import (
    MemoryBudgetError,
    NonFiniteError,
    NotConvergedWarning,
    NotHermitianError,
    OptionError,
    ShapeError,
)
from leptonhpc.testing import put

from .hermitians import MATRICES, check, hermitian

MEMORY = "1 GB"
DTYPES = [np.float32, np.float64, np.complex64, np.complex128]
KRYLOV: dict[str, Any] = {"k": 4, "method": "krylov"}


@pytest.mark.parametrize("name", MATRICES)
def test_all_pairs_are_backward_stable(name: str) -> None:
    a = MATRICES[name]
    r = lh.eigh(a, memory=MEMORY)
    assert r.certificate.converged
    assert r.certificate.complete
    assert max(r.certificate.residuals) <= r.certificate.rounding + 1e-300
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
    assert r.report.predicted_peak_nbytes <= r.report.memory_nbytes
    check(a, r, np.linalg.eigvalsh(a)[-1:])
    assert 3 * a.nbytes + 150e6 > 180e6


def test_the_smallest_budget_is_the_one_that_is_named(tmp_path: Path) -> None:
    place = put(hermitian(np.linspace(0, 1, 700)), tmp_path / "a.zarr", chunks=(100, 100))
    with pytest.raises(MemoryBudgetError) as caught:
        lh.eigh(place, memory="151 MB")
    least = str(caught.value).split("memory='")[1].split("'")[0]
    r = lh.eigh(place, memory=least, out=tmp_path / "out")
    assert r.report.predicted_peak_nbytes <= r.report.memory_nbytes


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
