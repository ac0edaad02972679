"""Cholesky factors are right, refusals are typed and name the place, and certificates tell."""

import warnings
from dataclasses import replace
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
    NotPositiveDefiniteError,
    ShapeError,
)
from leptonhpc.kernels import DEVICES, table, tables
from leptonhpc.testing import put
from leptonhpc.testing.cases import Storage
from leptonhpc.testing.hard import graded, hilbert, random_walk

MEMORY = "1 GB"
PANELS = "162 MB"  # 12 MB for arrays: a matrix of order 700 is cut into panels
DTYPES = ["float32", "float64", "complex64", "complex128"]


def positive(n: int, dtype: str = "float64", seed: int = 0) -> np.ndarray:
    """Give a Hermitian matrix of condition below 10, exactly Hermitian."""
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((n, n))
    if dtype.startswith("c"):
        a = a + 1j * rng.standard_normal((n, n))
    hermitian = (a + a.conj().T) / np.sqrt(8 * n)  # eigenvalues within 1 (2, complex)
    return (hermitian + 3 * np.eye(n)).astype(dtype)


def require_right(r: lh.CholeskyResult, a: np.ndarray) -> None:
    """Check |A - L L^H| <= c n eps |L||L^H| entry by entry, and the certificate against that."""
    lower = np.asarray(r.l).astype(np.result_type(a, float))
    n, eps = len(a), float(np.finfo(np.asarray(r.l).dtype).eps)
    assert np.array_equal(lower, np.tril(lower))
    assert np.array_equal(r.diagonal, lower.diagonal())
    assert np.all(r.diagonal > 0)
    error = np.abs(lower @ lower.conj().T - a)
    # Higham 2002, Theorem 10.3; complex counts sqrt(2) twice
    assert np.all(error <= 4 * (n + 1) * eps * (np.abs(lower) @ np.abs(lower).T))
    c, size = r.certificate, float(np.linalg.norm(a))
    assert c.norm == pytest.approx(size, rel=4 * n * eps)
    # two random vectors see a tenth of an error, 99 %; what they sum rounds like a random walk
    assert float(np.linalg.norm(error)) <= 10 * c.backward_error * size + 4 * eps * size
    assert c.converged
    assert c.backward_error <= c.bound == 8 * max(n, 2) * eps


@pytest.mark.parametrize("dtype", DTYPES)
def test_factors_of_every_dtype_are_right_in_one_panel_and_in_many(
    dtype: str, tmp_path: Path
) -> None:
    for n in (1, 2, 37, 131, 463):
        a = positive(n, dtype)
        x = put(a, tmp_path / str(n), chunks=(64, 64))
        for memory, out in ((MEMORY, None), ("156 MB", None), (PANELS, tmp_path / f"r{n}")):
            r = lh.cholesky(x, memory=memory, out=out)
            require_right(r, a)
            assert np.asarray(r.l).dtype == np.dtype(dtype)
            assert r.report.reads_per_chunk <= 1
        sign, logdet = np.linalg.slogdet(a.astype(np.result_type(a, float)))
        assert r.logdet() == pytest.approx(
            logdet, abs=16 * n * float(np.finfo(dtype).eps) * (n + 10)
        )
        require_right(lh.load(tmp_path / f"r{n}"), a)


@pytest.mark.parametrize(
    ("chunks", "storage"),
    [
        ((100, 37), "zarr3"), ((37, 100), "sharded"), ((64, 64), "sharded"), ((128, 128), "zarr2"),
        ((463, 463), "zarr3"), ((7, 463), "zarr3"), ((463, 7), "zarr3"), ((16, 16), "fortran"),
        ((16, 16), "big-endian"), ((16, 16), "numpy"),
    ],
)  # fmt: skip
def test_no_grid_changes_the_factor(
    chunks: tuple[int, int], storage: Storage, tmp_path: Path
) -> None:
    a = positive(463, seed=2)
    x = put(a, tmp_path / "a", chunks=chunks, storage=storage)
    expected = np.linalg.cholesky(a)
    for memory in (MEMORY, "170 MB"):
        r = lh.cholesky(x, memory=memory)
        require_right(r, a)
        # factors of perturbed matrices differ by kappa < 10 times the perturbation (Sun 1991)
        close = 10 * 2 * 463 * np.finfo(float).eps * np.linalg.norm(expected)
        assert np.linalg.norm(np.asarray(r.l) - expected) <= close


@pytest.mark.parametrize("strip", [(20, 5000), (5000, 20)])
def test_long_strips_are_copied_to_squares_first(strip: tuple[int, int], tmp_path: Path) -> None:
    n = 4200  # strips longer than four squares; one band of them is enough to see
    x = put(np.eye(n, dtype="f4") * 2, tmp_path / "a", chunks=strip)
    plan = lh.plan("cholesky", x, memory="400 MB")
    assert [s.name for s in plan.job.before] == ["rechunk a"]
    r = plan.run()
    assert np.array_equal(r.diagonal, np.full(n, np.sqrt(np.float32(2))))
    assert r.certificate.converged


def test_integers_are_widened_and_one_element_is_its_root() -> None:
    r = lh.cholesky(np.array([[4, 2], [2, 10]]))
    assert np.array_equal(r.l, [[2, 0], [1, 3]])
    assert np.array_equal(lh.cholesky([[9.0]]).l, [[3.0]])


PLACES = [(0, 1), (5, 3), (3, 699), (699, 3), (600, 601), (300, 200)]


@pytest.mark.parametrize("at", PLACES)
@pytest.mark.parametrize("memory", [MEMORY, PANELS])
def test_an_asymmetric_matrix_is_refused_with_the_index(
    at: tuple[int, int], memory: str, tmp_path: Path
) -> None:
    a = positive(700)
    a[at] += 1e-9
    with pytest.raises(NotHermitianError) as caught:
        lh.cholesky(put(a, tmp_path / "a", chunks=(100, 100)), memory=memory, out=tmp_path / "r")
    assert str(at) in str(caught.value)
    assert str(at[::-1]) in str(caught.value)
    assert not (tmp_path / "r").exists()


def test_a_complex_symmetric_matrix_is_refused_a_hermitian_one_is_not(tmp_path: Path) -> None:
    a = positive(300, "complex128")
    require_right(lh.cholesky(put(a, tmp_path / "h", chunks=(64, 64)), memory=PANELS), a)
    symmetric = np.tril(a) + np.tril(a, -1).T
    with pytest.raises(NotHermitianError, match="Symmetrise"):
        lh.cholesky(put(symmetric, tmp_path / "s", chunks=(64, 64)), memory=PANELS)
    a[7, 7] += 1e-3j
    with pytest.raises(NotHermitianError, match=r"\(7, 7\)"):
        lh.cholesky(a, memory=MEMORY)


def test_rounding_of_a_gram_matrix_is_not_asymmetry(tmp_path: Path) -> None:
    q = np.linalg.qr(np.random.default_rng(0).standard_normal((700, 700)))[0]
    a = np.array([[column @ other for other in q.T[:300]] for column in q.T[:300]])
    a += np.tril(1e-16 * np.random.default_rng(1).standard_normal(a.shape), -1)
    assert not np.array_equal(a, a.T)
    for memory in (MEMORY, "156 MB"):
        r = lh.cholesky(put(a, tmp_path / memory, chunks=(64, 64)), memory=memory)
        assert r.certificate.converged


@pytest.mark.parametrize("value", [np.nan, -np.inf])
@pytest.mark.parametrize("at", PLACES)
def test_what_is_not_finite_is_named_by_its_own_index_in_either_triangle(
    value: float, at: tuple[int, int], tmp_path: Path
) -> None:
    a = positive(700)
    a[at] = value
    with pytest.raises(NonFiniteError) as caught:
        lh.cholesky(put(a, tmp_path / "a", chunks=(100, 100)), memory=PANELS, out=tmp_path / "r")
    assert f"index {at}" in str(caught.value)
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("dtype", ["float32", "complex128"])
@pytest.mark.parametrize("order", [1, 64, 65, 400, 463])
def test_the_order_of_the_failing_minor_is_lapacks_in_every_panel(
    dtype: str, order: int, tmp_path: Path
) -> None:
    from scipy.linalg import get_lapack_funcs

    a = positive(463, dtype)
    a[order - 1, order - 1] = -1
    (potrf,) = get_lapack_funcs(["potrf"], (a,))
    assert potrf(a, lower=1)[1] == order
    x = put(a, tmp_path / "a", chunks=(64, 64))
    for memory in (MEMORY, "160 MB"):
        out = tmp_path / memory
        with pytest.raises(NotPositiveDefiniteError, match=f"order {order} of") as caught:
            lh.cholesky(x, memory=memory, out=out)
        assert not out.exists()
        assert caught.value.order == order
        assert isinstance(caught.value, np.linalg.LinAlgError)


def test_semidefinite_matrices_are_refused() -> None:
    for a in (np.zeros((5, 5)), np.ones((300, 300)), np.diag([1.0, 0.0, 1.0])):
        with pytest.raises(NotPositiveDefiniteError) as caught:
            lh.cholesky(a, memory=MEMORY)
        assert caught.value.order == (1 if not a.any() else 2)


@pytest.mark.parametrize("memory", [MEMORY, "156 MB"])
@pytest.mark.parametrize(
    "a", [hilbert(12), graded(300), random_walk(463)], ids=["hilbert", "graded", "random walk"]
)
def test_hard_matrices_have_right_factors(a: np.ndarray, memory: str, tmp_path: Path) -> None:
    require_right(lh.cholesky(put(a, tmp_path / "a", chunks=(64, 64)), memory=memory), a)


@pytest.mark.parametrize(
    ("dtype", "exponent"), [("f4", -30), ("f4", 30), ("f8", -200), ("f8", 200)]
)
def test_matrices_far_from_one_are_right_and_still_checked(dtype: str, exponent: int) -> None:
    a = (positive(90) * 10.0**exponent).astype(dtype)
    r = lh.cholesky(a, memory=MEMORY)
    assert 0 < r.certificate.backward_error <= r.certificate.bound
    root = np.asarray(r.l) / 10.0 ** (exponent / 2)
    error = np.abs(root.astype(float) @ root.T.astype(float) - a.astype(float) / 10.0**exponent)
    assert np.max(error) <= 4 * 91 * np.finfo(dtype).eps * 4


@pytest.mark.parametrize("shape", [(3, 4), (4,), (0, 0), (2, 2, 2)])
def test_what_is_not_square_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="cholesky needs a square matrix"):
        lh.cholesky(np.ones(shape), memory=MEMORY)


def least_memory(a: np.ndarray) -> str:
    """Give the smallest budget, which cuts a matrix into many panels."""
    with pytest.raises(MemoryBudgetError) as caught:
        lh.plan("cholesky", a, memory=150_000_001)
    return str(caught.value).partition("memory='")[2].partition("'")[0]


@pytest.mark.parametrize("broken", ["potrf", "trsm", "syrk", "gemm"])
@pytest.mark.parametrize(
    ("dtype", "size"), [("float32", 1.0), ("float32", 1e-12), ("complex128", 1.0)]
)
def test_one_wrong_entry_of_a_block_is_caught(
    broken: str, dtype: str, size: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = DEVICES["host"]
    good, spoilt = getattr(host, broken), []

    def faulty(*blocks: np.ndarray, **options: Any) -> None:
        good(*blocks, **options)
        block = blocks[1] if broken == "trsm" else blocks[0]
        if block.shape[1] > 2 and len(block) and not spoilt:
            spoilt.append(block.shape)
            # the check knows Hermitian products only: syrk's upper triangle is never read
            # the diagonal of A is 3 size, rounding allows 0.03 size
            block[-1, 1] += 0.5 * (size**0.5 if broken in ("potrf", "trsm") else size)

    monkeypatch.setitem(tables.DEVICES, "host", replace(host, **{broken: faulty}))
    table.cache_clear()
    a = positive(500, dtype) * np.asarray(size, dtype)
    try:
        with pytest.warns(NotConvergedWarning, match="NOT BACKWARD STABLE"):
            r = lh.cholesky(a, memory=least_memory(a))
    finally:
        table.cache_clear()
    assert spoilt
    assert not r.certificate.converged


def test_nothing_warns_that_need_not() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lh.cholesky(positive(50) * 1e300, memory=MEMORY)
        lh.cholesky(positive(50) * 1e-300, memory=MEMORY)
