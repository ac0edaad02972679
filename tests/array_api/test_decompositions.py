"""Decompositions, systems and norms of stacks, of both kinds of array: fields and mathematics."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import leptonhpc as lh
import leptonhpc.array_api as xp
from leptonhpc.testing import orthogonality, spectrum

from .stacked import adjoint, allowed, few, hermitian_stacks, near, real, stacks


@few
@given(a=hermitian_stacks(), upper=st.booleans(), blocked=st.booleans())
def test_cholesky_factor_times_its_adjoint_is_the_matrix(
    a: np.ndarray, upper: bool, blocked: bool
) -> None:
    f = np.asarray(xp.linalg.cholesky(lh.open(a) if blocked else a, upper=upper))
    assert np.array_equal(f, (np.triu if upper else np.tril)(f))
    near(adjoint(f) @ f if upper else f @ adjoint(f), a, allowed(a.shape[-1], a.dtype), a.dtype)


@few
@given(a=stacks(), mode=st.sampled_from(["reduced", "complete"]), blocked=st.booleans())
def test_q_is_orthonormal_and_r_triangular(a: np.ndarray, mode: Any, blocked: bool) -> None:
    r = xp.linalg.qr(lh.open(a) if blocked else a, mode=mode)
    assert r._fields == ("Q", "R")
    assert r[0] is r.Q
    m, n = a.shape[-2:]
    k = m if mode == "complete" else min(m, n)
    assert (r.Q.shape, r.R.shape) == ((*a.shape[:-1], k), (*a.shape[:-2], k, n))
    assert r.Q.dtype == r.R.dtype == a.dtype
    q, t = np.asarray(r.Q), np.asarray(r.R)
    assert np.array_equal(t, np.triu(t))
    near(q @ t, a, allowed(max(m, n), a.dtype))
    for one in q.reshape(-1, m, k):
        assert orthogonality(one) <= allowed(m, a.dtype)


@few
@given(a=stacks(), full=st.booleans(), blocked=st.booleans())
def test_singular_vectors_are_orthonormal_and_give_the_matrix(
    a: np.ndarray, full: bool, blocked: bool
) -> None:
    x = lh.open(a) if blocked else a
    r = xp.linalg.svd(x, full_matrices=full)
    assert r._fields == ("U", "S", "Vh")
    (m, n), k = a.shape[-2:], min(a.shape[-2:])
    assert r.U.shape[-2:] == (m, m if full else k)
    assert r.Vh.shape[-2:] == (n if full else k, n)
    assert r.U.dtype == r.Vh.dtype == a.dtype
    u, vh = np.asarray(r.U), np.asarray(r.Vh)
    # the 10 of the condition number: small vectors are only as orthogonal as s1/sk allows
    bound = allowed(max(m, n), a.dtype, 10)
    near((u[..., :k] * r.S[..., None, :]) @ vh[..., :k, :], a, bound, a.dtype)
    near(r.S, np.linalg.svd(a, compute_uv=False), bound, real(a.dtype))
    near(xp.linalg.svdvals(x), r.S, bound)
    assert np.all(np.diff(r.S) <= 0)
    for one in [*u.reshape(-1, *u.shape[-2:]), *adjoint(vh).reshape(-1, *vh.shape[:-3:-1])]:
        assert orthogonality(one) <= bound


@few
@given(a=hermitian_stacks(), blocked=st.booleans())
def test_eigenpairs_satisfy_their_equation(a: np.ndarray, blocked: bool) -> None:
    x = lh.open(a) if blocked else a
    r = xp.linalg.eigh(x)
    assert r._fields == ("eigenvalues", "eigenvectors")
    v, bound = np.asarray(r.eigenvectors), allowed(a.shape[-1], a.dtype)
    assert (r.eigenvalues.dtype, v.dtype) == (real(a.dtype), a.dtype)
    near(a @ v, v * r.eigenvalues[..., None, :], bound)
    near(xp.linalg.eigvalsh(x), np.linalg.eigvalsh(a), bound, real(a.dtype))
    near(r.eigenvalues, np.linalg.eigvalsh(a), bound, real(a.dtype))


@few
@given(a=stacks(square=True), blocked=st.booleans())
def test_determinants_are_those_of_numpy(a: np.ndarray, blocked: bool) -> None:
    x = lh.open(a) if blocked else a
    r = xp.linalg.slogdet(x)
    assert r._fields == ("sign", "logabsdet")
    # d log det = tr(A^-1 dA): at most n cond(A) eps
    n = a.shape[-1]
    bound = n * allowed(n, a.dtype, 10)
    sign, logabsdet = np.linalg.slogdet(a)
    near(r.sign, sign, bound, a.dtype)
    near(r.logabsdet, logabsdet, bound, real(a.dtype))
    near(xp.linalg.det(x), np.linalg.det(a), bound, a.dtype)


@few
@given(a=stacks(square=True), columns=st.integers(0, 3), data=st.data(), blocked=st.booleans())
def test_solutions_of_broadcast_systems_satisfy_them(
    a: np.ndarray, columns: int, data: st.DataObject, blocked: bool
) -> None:
    n, x = a.shape[-1], lh.open(a) if blocked else a
    shape: tuple[int, ...] = (n,)
    if columns:  # only what has one dimension is a vector
        shape = (*data.draw(st.sampled_from([(), (2,), (3, 1, 1), (1,)])), n, columns)
    b = np.random.default_rng(0).uniform(-1, 1, shape).astype(a.dtype)
    found = np.asarray(xp.linalg.solve(x, b))
    assert found.dtype == a.dtype
    true = np.linalg.solve(a, b) if columns else np.linalg.solve(a, b[:, None])[..., 0]
    size = float(np.linalg.norm(true.reshape(-1)))
    near(found, true, allowed(n, a.dtype, 10) * max(1.0, size))
    eye = np.broadcast_to(np.eye(n, dtype=a.dtype), a.shape)
    near(np.asarray(xp.linalg.inv(x)) @ a, eye, allowed(n, a.dtype, 100))


@few
@given(a=stacks(), blocked=st.booleans(), stacked=st.booleans())
def test_pseudoinverse_and_rank_drop_what_is_below_rtol(
    a: np.ndarray, blocked: bool, stacked: bool
) -> None:
    x, (m, n) = lh.open(a) if blocked else a, a.shape[-2:]
    # singular values of the spectrum are well away from 0.33
    rtol = np.full(a.shape[:-2], 0.33) if stacked else 0.33
    ranks = xp.linalg.matrix_rank(x, rtol=rtol)
    kept = int(np.sum(spectrum("mild", min(m, n)) > 0.33))
    assert ranks.dtype == np.int64
    assert np.array_equal(ranks, np.full(a.shape[:-2], kept))
    assert np.array_equal(xp.linalg.matrix_rank(x), np.full(a.shape[:-2], min(m, n)))
    bound = allowed(max(m, n), a.dtype, 100)
    near(xp.linalg.pinv(x, rtol=rtol), np.linalg.pinv(a, rcond=0.33), bound, a.dtype)
    near(a @ np.asarray(xp.linalg.pinv(x)) @ a, a, bound)
    assert not np.any(np.asarray(xp.linalg.pinv(x, rtol=1.0)))
    assert not np.any(np.asarray(xp.linalg.matrix_rank(x, rtol=2)))


@few
@given(a=stacks(), keepdims=st.booleans(), blocked=st.booleans())
def test_matrix_norms_of_all_orders_are_those_of_numpy(
    a: np.ndarray, keepdims: bool, blocked: bool
) -> None:
    x = lh.open(a) if blocked else a
    for order in ("fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf, None):
        true = np.linalg.norm(a, ord=order, axis=(-2, -1), keepdims=keepdims)
        found = xp.linalg.matrix_norm(x, ord=order, keepdims=keepdims)
        count = min(a.shape[-2:]) if order == "nuc" else 1
        near(found, true, count * allowed(max(a.shape), a.dtype), real(a.dtype))


@few
@given(a=stacks(), keepdims=st.booleans(), data=st.data(), blocked=st.booleans())
def test_vector_norms_of_all_orders_and_axes_are_those_of_numpy(
    a: np.ndarray, keepdims: bool, data: st.DataObject, blocked: bool
) -> None:
    axis = data.draw(st.sampled_from([None, 0, -1, (0, 1), tuple(range(a.ndim))]))
    for order in (2, 1, 0, 3, np.inf, -np.inf):
        true = np.linalg.vector_norm(a, axis=axis, keepdims=keepdims, ord=order)
        x = lh.open(a) if blocked else a
        found = xp.linalg.vector_norm(x, axis=axis, keepdims=keepdims, ord=order)
        near(found, true, allowed(a.size, a.dtype) * float(np.max(true)), real(a.dtype))
        flat = a.reshape(-1)
        whole = xp.linalg.vector_norm(lh.open(flat) if blocked else flat, ord=order)
        true = np.linalg.vector_norm(flat, ord=order)
        near(whole, true, allowed(a.size, a.dtype) * float(true), real(a.dtype))


@few
@given(a=stacks(square=True), n=st.integers(-3, 6), blocked=st.booleans())
def test_powers_are_repeated_products(a: np.ndarray, n: int, blocked: bool) -> None:
    found = xp.linalg.matrix_power(lh.open(a) if blocked else a, n)
    true = np.linalg.matrix_power(a.astype(np.result_type(a, float)), n)
    # each factor is wrong by n eps cond; negative powers are as large as 10^|n|
    bound = allowed(a.shape[-1], a.dtype, 10) * max(1, abs(n)) * 10.0 ** max(0, -n)
    near(found, true, bound, a.dtype)
