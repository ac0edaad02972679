"""LAPACK's and SciPy's hard matrices by every factorisation, in memory and by what is beyond it."""

from typing import Any, Literal

import numpy as np
import pytest
import scipy.linalg

import leptonhpc as lh
from leptonhpc.blocks.mixed import Butterfly
from leptonhpc.errors import (
    MemoryBudgetError,
    NotConvergedWarning,
    NotPositiveDefiniteError,
    SingularMatrixError,
)
from leptonhpc.linalg import lstsq as stacked
from leptonhpc.linalg import multiply
from leptonhpc.testing import matrix_with_spectrum
from leptonhpc.testing.hard import graded, hilbert, kahan, small_corner, vandermonde, wilkinson

from .hermitians import check, hermitian
from .systems import GROWING, draw, in_dtype, require_accurate, require_honest, widened
from .test_qr import factored, laeuchli, narrow

MEMORY = "1 GB"
CLUSTERS = np.r_[np.ones(12), 1 + 1e-14 * np.arange(12), np.full(12, 1e-10)]
MATRICES = {
    "Hilbert": hilbert(40),
    "Kahan": kahan(45),
    "Wilkinson growth": wilkinson(40),
    "graded": graded(40),
    "graded rows": draw((60, 20)) * np.geomspace(1, 1e-18, 60)[:, None],
    "clustered": matrix_with_spectrum((60, 36), CLUSTERS),
    "Vandermonde": vandermonde(40),
    "Vandermonde, tall": np.vander(np.linspace(0, 1, 60), 25),
    "Laeuchli": laeuchli(20, 60, 1e-9),
    "Laeuchli, lost": laeuchli(20, 60, 1e-17),
    "small corner": small_corner(40, 1e-12),
}
DTYPES = ["float64", "complex64"]
every_matrix = pytest.mark.parametrize("name", MATRICES)
both_dtypes = pytest.mark.parametrize("dtype", DTYPES)
both_ways = pytest.mark.parametrize("turned", [False, True])


def made(name: str, dtype: str, *, turned: bool = False) -> np.ndarray:
    return in_dtype(MATRICES[name], dtype, turned=turned)


def no_room(*_: Any, **__: Any) -> None:
    raise MemoryBudgetError("none")


def length(a: np.ndarray) -> float:
    return float(np.sqrt(np.sum(np.abs(a) ** 2)))


@both_ways
@both_dtypes
@every_matrix
def test_q_is_orthonormal_in_one_panel_and_in_many(
    name: str, dtype: str, turned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = made(name, dtype, turned=turned)
    factored(a, a)
    narrow(monkeypatch, 16, 8)
    factored(a, a, method="householder")


@both_ways
@every_matrix
@pytest.mark.parametrize(
    ("method", "dtype"), [("gram", "float64"), ("gram", "complex64"), ("divide", "float64")]
)
def test_singular_values_and_vectors_are_backward_stable(
    name: str, dtype: str, turned: bool, method: Literal["gram", "divide"]
) -> None:
    a = made(name, dtype, turned=turned)
    r = lh.svd(a, method=method, memory=MEMORY)
    c, k, eps = r.certificate, min(a.shape), float(np.finfo(dtype).eps)
    u, s, vh, wide = widened(r.u), widened(r.s).real, widened(r.vh), widened(a)
    true = np.linalg.svd(a.astype(np.result_type(a, float)), compute_uv=False)
    assert c.converged
    assert np.max(np.abs(s - true)) <= c.rounding + max(c.residuals)
    # p(m, n) eps |A|, p linear (LAPACK Users' Guide, section 4.9)
    assert length((u * s) @ vh - wide) <= 8 * max(a.shape) * eps * length(wide)
    assert length((u * s) @ vh - wide) <= c.frobenius_bound
    for q in (u.conj().T, vh):
        assert np.max(np.abs(q @ q.conj().T - np.eye(k))) <= 8 * k * eps


@pytest.mark.parametrize(
    ("method", "dtype"),
    [("gathered", "float64"), ("gathered", "complex64"), ("divide", "float64")],
)
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *((name, "gram") for name in MATRICES),
        *((name, "hermitian part") for name, a in MATRICES.items() if a.shape[0] == a.shape[1]),
    ],
)
def test_eigenpairs_are_backward_stable(
    name: str, dtype: str, kind: str, method: Literal["gathered", "divide"]
) -> None:
    a = made(name, dtype)
    if kind == "gram":
        a = a.conj().T @ a
    a = np.tril(a) + np.tril(a, -1).conj().T
    np.fill_diagonal(a, a.diagonal().real)
    r = lh.eigh(a, method=method, memory=MEMORY)
    check(a, r, np.linalg.eigvalsh(a.astype(np.result_type(a, float))))
    assert r.certificate.converged


@both_ways
@every_matrix
@pytest.mark.parametrize(
    ("tiled", "dtype"), [(False, "float64"), (False, "complex64"), (True, "float64")]
)
def test_least_squares_are_backward_stable_whatever_the_condition(
    name: str, dtype: str, turned: bool, tiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if tiled:
        monkeypatch.setattr(multiply, "SQUARE", 40)
        monkeypatch.setattr(stacked, "_plan_stacked", no_room)
    a = made(name, dtype, turned=turned)
    eps = float(np.finfo(dtype).eps)
    for b in (a @ np.ones(a.shape[1], dtype), draw((len(a),), dtype, 1)):
        r = lh.lstsq(a, b, memory=MEMORY)
        c, x, wide = r.certificate, widened(r.x), widened(a)
        assert c.converged
        left = widened(b) - wide @ x
        size = length(wide)
        error = length(wide.conj().T @ left) / (size * (length(left) + size * length(x)))
        # measured in the precision of x, so to c eps; dropped values leave up to rcond of r
        assert error <= c.bound <= 8 * (sum(a.shape) + max(a.shape)) * eps
        assert error <= c.backward_error + 4 * max(a.shape) * eps
        true = np.linalg.lstsq(*(y.astype(np.result_type(y, float)) for y in (a, b)), rcond=c.rcond)
        assert r.rank == true[2]
        # shortest: another solution of the same equations is no shorter, to the same errors
        assert length(x) <= length(true[0]) * (1 + 64 * max(a.shape) * eps * c.condition)


@both_dtypes
@pytest.mark.parametrize("name", ["Hilbert", "graded", "clustered"])
@pytest.mark.parametrize("order", [4, 8, 40])
def test_definite_matrices_are_factored_up_to_where_rounding_ends_them(
    name: str, dtype: str, order: int
) -> None:
    a = hermitian(CLUSTERS) if name == "clustered" else MATRICES[name]
    a = np.ascontiguousarray(a[:order, :order]).astype(dtype)
    eps = float(np.finfo(dtype).eps)
    scale = np.sqrt(a.diagonal().real.astype(float))
    # n eps cond of the scaled matrix below one (Higham 2002, Theorem 10.7)
    definite = 4 * order * eps * np.linalg.cond(a / scale / scale[:, None]) < 1
    if not definite and lapack_fails(a):
        with pytest.raises(NotPositiveDefiniteError, match=r"index \(\d+, \d+\), in block \[0:"):
            lh.cholesky(a, memory=MEMORY)
        return
    r = lh.cholesky(a, memory=MEMORY)
    lower, wide = widened(r.l), widened(a)
    assert length(lower @ lower.conj().T - wide) <= 8 * order * eps * length(wide)
    assert r.certificate.converged


def lapack_fails(a: np.ndarray) -> bool:
    try:
        np.linalg.cholesky(a)
    except np.linalg.LinAlgError:
        return True
    return False


@both_dtypes
@pytest.mark.parametrize("sides", [(), (2,)])
def test_elements_that_overflow_as_they_grow_are_no_singular_matrix(
    dtype: str, sides: tuple[int, ...]
) -> None:
    n = 150 if dtype == "complex64" else 60  # 2^149 is beyond single precision
    a = wilkinson(n) * (1 - 1e-3 * np.tril(np.abs(draw((n, n))), -1))
    a = (a * (np.exp(1j * np.arange(n)) if dtype == "complex64" else 1.0)).astype(dtype)
    with pytest.warns(NotConvergedWarning, match="growth"):
        factors = lh.lu(a, memory=MEMORY)
    growth = factors.certificate.growth
    assert growth == np.inf if dtype == "complex64" else growth > 1e12
    x = draw((n, *sides), dtype, 1)
    for r in (lh.solve(a, a @ x, memory=MEMORY), factors.solve(a @ x)):
        assert r.certificate.converged
        assert np.linalg.norm(r.x - x) <= r.certificate.error * np.linalg.norm(x)


def growth(a: np.ndarray) -> float:
    return float(np.max(np.abs(np.triu(scipy.linalg.lu_factor(a)[0]))) / np.max(np.abs(a)))


@pytest.mark.parametrize("name", GROWING)
def test_pivots_that_grow_with_rows_as_they_are_hardly_do_with_mixed_ones(name: str) -> None:
    for n in (200, 241):
        a = GROWING[name](n)
        assert growth(a) > 1e10
        # random signs in place of angles leave the square root of that, or all of it
        for seed in range(3):
            assert growth(Butterfly(len(a), seed).mix(a)) < len(a)


@both_dtypes
@pytest.mark.parametrize("precision", ["full", "mixed"])
@pytest.mark.parametrize("name", GROWING)
def test_systems_determinants_and_factors_whose_pivots_grow(
    name: str, dtype: str, precision: Literal["full", "mixed"]
) -> None:
    a = GROWING[name](300).astype(dtype)
    x = draw((len(a), 2), dtype, 1)
    b = a @ x
    r = lh.solve(a, b, precision=precision, memory=MEMORY)
    assert r.certificate.converged
    require_honest(r, a, b)
    require_accurate(r, a, x)
    if precision == "full":
        with pytest.warns(NotConvergedWarning, match="lu of .*NOT BACKWARD STABLE"):
            factors = lh.lu(a, memory=MEMORY)
        s = factors.solve(b)
        assert s.certificate.converged
        require_honest(s, a, b)
        require_accurate(s, a, x)
        sign, logabsdet = lh.slogdet(a, memory=MEMORY)
        right = np.linalg.slogdet(a.T.astype(complex))  # pivots of that do not grow
        allowed = 8 * len(a) * float(np.finfo(dtype).eps) * np.linalg.cond(a)
        assert abs(sign - right.sign) <= allowed
        assert abs(logabsdet - right.logabsdet) <= allowed


def test_factors_far_from_a_matrix_that_is_gone_are_said_to_be() -> None:
    a = GROWING["boundary value problem"](400).astype("f4")
    with pytest.warns(NotConvergedWarning):
        factors = lh.lu(a.tolist(), precision="float32", memory=MEMORY)
    with pytest.raises(SingularMatrixError, match=r"pivots of these grew .* Give the matrix as a="):
        factors.solve(a[0])
    assert factors.solve(a[0], a=a).certificate.converged
