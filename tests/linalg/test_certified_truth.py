"""Every number of a certificate against the truth, in extended precision, on hard matrices."""

from typing import Any

import numpy as np
import pytest

import leptonhpc as lh
from leptonhpc.testing import matrix_with_spectrum
from leptonhpc.testing.hard import graded, hilbert, kahan, vandermonde

from .systems import draw, in_dtype, widened
from .test_qr import laeuchli

MEMORY = "1 GB"
DTYPES = ["float32", "float64", "complex64", "complex128"]


def copies(n: int, size: float) -> np.ndarray:
    """Make columns, and their copies at rounding level of them, told apart at that of the copies.

    What little the copies have of their own is lost in any Gram matrix.
    """
    b = draw((2 * n + 5, n))
    return np.hstack([b, size * b + 1e-10 * size * draw(b.shape, seed=1)])


MATRICES = {
    "Hilbert": hilbert(60),
    "Kahan": kahan(50),
    "Laeuchli": laeuchli(20, 60, 1e-9),
    "Laeuchli, lost": laeuchli(20, 60, 1e-17),
    "graded": graded(40),
    "graded rows": draw((60, 20)) * np.geomspace(1, 1e-18, 60)[:, None],
    "graded columns": draw((60, 30)) * np.geomspace(1, 1e-18, 30),
    "deficient": matrix_with_spectrum((70, 40), np.r_[np.geomspace(1, 1e-3, 15), np.zeros(25)]),
    "nearly deficient": matrix_with_spectrum((70, 40), np.geomspace(1, 1e-20, 40)),
    "clustered": matrix_with_spectrum((60, 36), np.r_[np.ones(18), np.full(18, 1e-10)]),
    "Vandermonde": vandermonde(40),
    "copies": copies(15, 1e-17),
    "one": np.ones((30, 20)),
}
every_matrix = pytest.mark.parametrize("name", MATRICES)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)
both_ways = pytest.mark.parametrize("turned", [False, True])


def made(name: str, dtype: str, *, turned: bool = False) -> np.ndarray:
    return in_dtype(MATRICES[name], dtype, turned=turned)


def lengths(a: np.ndarray) -> np.ndarray:
    return np.sqrt(np.sum(np.abs(a) ** 2, axis=0)).astype(float)


def length(a: np.ndarray) -> float:
    return float(np.sqrt(np.sum(np.abs(a) ** 2)))


def departure(q: np.ndarray) -> np.ndarray:
    return np.abs(q.conj().T @ q - np.eye(q.shape[1]))


def require_true_triplets(a: np.ndarray, r: lh.SvdResult) -> None:
    """Compare residuals both ways, the error, norm, shares, orthogonality and values."""
    c, eps, wide = r.certificate, float(np.finfo(r.s.dtype).eps), widened(a)
    u, s, v = widened(r.u), widened(r.s).real, widened(r.vh).conj().T
    bounds = np.array(c.residuals) + c.rounding
    assert np.all(lengths(wide.conj().T @ u - v * s) <= bounds)
    assert np.all(lengths(wide @ v - u * s) <= bounds)
    true = np.linalg.svd(a.astype(np.result_type(a, float)), compute_uv=False)
    distance = np.min(np.abs(r.s.astype(float)[:, None] - true), axis=1)
    # those of NumPy are right to n eps of double precision
    noise = 2 * len(true) * np.finfo(float).eps * true[0]
    assert np.all(distance <= bounds + noise)
    assert length(wide - (u * s) @ v.conj().T) <= c.frobenius_bound
    size = length(wide)
    assert abs(c.norm - size) <= 4 * min(a.shape) * eps * size
    share = float(np.sum(s**2)) / size**2
    assert abs(c.captured - share) <= 16 * min(a.shape) * eps
    # entries of Gram matrices are sums of products below one; what is written is measured
    longer = u if a.shape[0] >= a.shape[1] else v
    assert abs(c.orthogonality - np.max(departure(longer))) <= max(a.shape) * np.finfo(float).eps
    assert np.max(departure(u)) <= 8 * min(a.shape) * eps
    assert np.max(departure(v)) <= 8 * min(a.shape) * eps


@both_ways
@every_dtype
@every_matrix
def test_residuals_of_all_triplets_are_bounded(name: str, dtype: str, turned: bool) -> None:
    a = made(name, dtype, turned=turned)
    r = lh.svd(a, memory=MEMORY)
    require_true_triplets(a, r)
    # so that a bound says something: residuals of a backward stable method are rounding
    assert max(r.certificate.residuals) <= 2 * r.certificate.rounding


@every_dtype
@every_matrix
def test_residuals_of_some_triplets_are_bounded(name: str, dtype: str) -> None:
    a = made(name, dtype)
    for rank in (3, 12, 18):
        require_true_triplets(a, lh.svd(a, rank=rank, method="gram", memory=MEMORY))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_hilbert_matrix_of_order_two_hundred_is_factored_as_backward_stably(dtype: str) -> None:
    a = hilbert(200).astype(dtype)
    r = lh.svd(a, memory=MEMORY)
    require_true_triplets(a, r)
    assert max(r.certificate.residuals) <= r.certificate.rounding


@pytest.mark.parametrize("seed", range(4))
def test_what_is_outside_of_the_modes_is_seen_by_those_that_have_nothing(seed: int) -> None:
    # more modes than the leading block has, and a block beside it that no Gram matrix shows
    a = np.zeros((60, 30))
    a[:30, :15] = np.outer(draw((30,), seed=seed), draw((15,), seed=seed + 9))
    a[30:, 15:] = 1e-11 * draw((30, 15), seed=seed)
    for rank in (2, 5, 14):
        require_true_triplets(a, lh.svd(a, rank=rank, method="gram", memory=MEMORY))


@pytest.mark.filterwarnings("ignore::leptonhpc.errors.NotConvergedWarning")
@pytest.mark.parametrize("method", ["krylov", "mixed"])
@every_dtype
def test_iterated_triplets_are_bounded(dtype: str, method: Any) -> None:
    for values in (np.geomspace(1, 1e-17, 80), np.r_[0.5 ** np.arange(6), np.zeros(74)]):
        a = matrix_with_spectrum((150, 80), values, dtype=dtype)
        r = lh.svd(a, rank=4, method=method, memory=MEMORY)
        c, wide = r.certificate, widened(a)
        u, s, v = widened(r.u), widened(r.s).real, widened(r.vh).conj().T
        bounds = np.array(c.residuals) + c.rounding
        assert np.all(lengths(wide.conj().T @ u - v * s) <= bounds)
        assert np.all(lengths(wide @ v - u * s) <= bounds)
        assert length(wide - (u * s) @ v.conj().T) <= c.frobenius_bound


def seen(error: float, estimate: float, size: float, eps: float, n: int) -> None:
    """Two Gaussian vectors see a tenth of an error, 99 %, and three times it at most, 99.9 %."""
    slack = 4 * n**0.5 * eps * size
    assert error <= 10 * estimate + slack
    assert estimate <= 4 * error + slack


@both_ways
@every_dtype
@every_matrix
def test_polar_factors_are_as_far_off_as_is_said(name: str, dtype: str, turned: bool) -> None:
    a = made(name, dtype, turned=turned)
    tall = a.shape[0] >= a.shape[1]
    r = lh.polar(a, side="right" if tall else "left", memory=MEMORY)
    c, u, p, wide = r.certificate, widened(r.u), widened(r.p), widened(a)
    size, eps, n = length(wide), float(np.finfo(r.u.dtype).eps), min(a.shape)
    assert c.norm == pytest.approx(size, rel=4 * n * eps)
    seen(length((u @ p if tall else p @ u) - wide) / size, c.backward_error, 1.0, 1e-16, n)
    seen(length(departure(u if tall else u.conj().T)), c.orthogonality, 1.0, 1e-16, n)
    assert c.converged
    assert c.backward_error <= c.bound == 8 * n * eps


@every_dtype
@every_matrix
def test_qr_and_lu_are_as_far_off_as_is_said(name: str, dtype: str) -> None:
    a = made(name, dtype)
    wide, eps = widened(a), float(np.finfo(dtype).eps)
    size, n = length(wide), max(a.shape)
    r = lh.qr(a, memory=MEMORY)
    q = widened(r.q)
    seen(length(q @ widened(r.r) - wide) / size, r.certificate.backward_error, 1.0, eps, n)
    seen(length(departure(q)), r.certificate.orthogonality, q.shape[1] ** 0.5, eps, n)
    f = lh.lu(a, memory=MEMORY)
    error = length(widened(f.l) @ widened(f.u) - wide[f.perm]) / size
    seen(error, f.certificate.backward_error, 1.0, eps, n)


@pytest.mark.filterwarnings("ignore::leptonhpc.errors.NotConvergedWarning")
@every_dtype
@every_matrix
def test_conditions_and_ranks_lie_between_their_bounds(name: str, dtype: str) -> None:
    a = made(name, dtype)
    true = np.linalg.svd(a.astype(np.result_type(a, float)), compute_uv=False)
    noise = 2 * len(true) * np.finfo(float).eps * true[0]
    r = lh.cond(a, memory=MEMORY)
    c = r.certificate
    assert c.lower <= true[0] / max(true[-1] - noise, 1e-300) * (1 + 1e-12)
    assert (true[0] + noise) / (true[-1] + noise) <= c.upper * (1 + 1e-12)
    k = lh.matrix_rank(a, memory=MEMORY)
    assert np.max(np.abs(k.s - true)) <= k.certificate.rounding + noise
    if k.certificate.converged:
        assert int(k) == np.count_nonzero(true > k.certificate.cutoff)
