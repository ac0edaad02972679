"""What the tests of dask.array.linalg ask for, and what Dask answers with NotImplementedError.

Arrays come as Dask arrays, in the chunks of those tests and in others that Dask refuses.
"""

from __future__ import annotations

import warnings
from typing import Any

import dask.array as da
import numpy as np
import pytest
import scipy.linalg

import leptonhpc as lh
import leptonhpc.array_api as xp
from leptonhpc.errors import LeptonError, ShapeError
from leptonhpc.testing import matrix_with_spectrum, orthogonality

MEMORY = "1 GB"
EPS = float(np.finfo(float).eps)

TALL = [
    (20, 10, 10), (20, 10, (3, 10)), (20, 10, ((8, 4, 8), 10)), (40, 10, ((15, 5, 5, 8, 7), 10)),
    (128, 2, (16, 2)), (129, 2, (16, 2)), (130, 2, (16, 2)), (131, 2, (16, 2)),
    (300, 10, (40, 10)), (300, 10, (30, 10)), (300, 10, (20, 10)), (10, 5, 10),
    (10, 5, ((4, 0, 1, 0, 5), (5,))),
]  # fmt: skip
WIDE = [
    (5, 10, 10), (10, 40, (10, 10)), (10, 40, (10, 15)), (10, 40, (10, (15, 5, 5, 8, 7))),
    (10, 40, (3, 40)), (10, 40, (4, 9)),
]  # fmt: skip
SQUARE = [(10, 10, 10), (10, 10, (9, 10)), (10, 10, (10, 9))]
REFUSED_BY_DASK = [(20, 20, 10), (20, 20, (3, 7)), (40, 10, (9, 4)), (20, 20, (5, (2, 18)))]
GRIDS = TALL + WIDE + SQUARE + REFUSED_BY_DASK


def allowed(a: np.ndarray, *, condition: float = 1.0) -> float:
    """Give 16 n eps |A| cond: backward stable algorithms (Higham 2002, (3.13), theorem 19.4)."""
    size = float(np.linalg.norm(a)) or 1.0
    eps = float(np.finfo(a.dtype).eps) if a.dtype.kind in "fc" else EPS
    return 16 * max(a.shape) * eps * size * condition


def near(found: Any, true: Any, bound: float) -> None:
    found, true = np.asarray(found), np.asarray(true)
    assert found.shape == true.shape
    assert np.max(np.abs(found - true), initial=0.0) <= bound


def flipped(u: np.ndarray, vh: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Make the sum of each left vector positive, as svd_flip does."""
    signs = np.where(np.sum(u, axis=0) < 0, -1, 1)
    return u * signs, vh * signs[:, None]


@pytest.mark.parametrize(("m", "n", "chunks"), GRIDS)
def test_qr_of_any_chunks(m: int, n: int, chunks: Any, rng: np.random.Generator) -> None:
    a = rng.random((m, n))
    q, r = map(np.asarray, lh.qr(da.from_array(a, chunks=chunks), memory=MEMORY))
    k = min(m, n)
    assert (q.shape, r.shape) == ((m, k), (k, n))
    near(q @ r, a, allowed(a))
    assert orthogonality(q) <= 16 * max(m, n) * EPS
    assert np.array_equal(r, np.triu(r))


@pytest.mark.parametrize(("m", "n", "chunks"), GRIDS)
def test_svd_of_any_chunks(m: int, n: int, chunks: Any, rng: np.random.Generator) -> None:
    a, k = rng.random((m, n)), min(m, n)
    r = lh.svd(da.from_array(a, chunks=chunks), memory=MEMORY)
    u, vh = np.asarray(r.u), np.asarray(r.vh)
    assert (u.shape, r.s.shape, vh.shape) == ((m, k), (k,), (k, n))
    true_u, s, true_vh = np.linalg.svd(a, full_matrices=False)
    near(r.s, s, allowed(a))
    near((u * r.s) @ vh, a, allowed(a))
    # small values are as right as s1 eps allows, and vectors turn by that over the gap
    gap = float(np.min(-np.diff(s), initial=s[-1]))
    for found, true in zip(flipped(u, vh), flipped(true_u, true_vh), strict=True):
        near(found, true, allowed(a) / gap)


@pytest.mark.parametrize(("rows", "columns"), [(True, False), (False, True), (True, True)])
def test_what_a_condition_chose_is_factored(
    rows: bool, columns: bool, rng: np.random.Generator
) -> None:
    a = rng.random((40, 10))
    a[:10, 0], a[0, :4] = 0, 0  # so that a whole chunk of rows, or of columns, is not chosen
    d = da.from_array(a, chunks=(10, 4))
    if rows:
        d, a = d[d[:, 0] > 0.3], a[a[:, 0] > 0.3]
    if columns:
        d, a = d[:, da.from_array(a[0] > 0.2, chunks=4)], a[:, a[0] > 0.2]
    with pytest.warns(UserWarning, match="chunks of unknown sizes"):
        q, r = map(np.asarray, lh.qr(d, memory=MEMORY))
    near(q @ r, a, allowed(a))
    assert np.isnan(d.shape).any()  # the user's array is as it was
    known = d.compute_chunk_sizes()
    near(lh.svd(known, memory=MEMORY).s, np.linalg.svd(a, compute_uv=False), allowed(a))


def test_the_same_question_has_the_same_answer_to_the_bit(rng: np.random.Generator) -> None:
    x = da.from_array(rng.random((20, 10)), chunks=(10, 10))
    for driver in (lh.qr, lh.svd, lh.lu):
        for one, other in zip(driver(x, memory=MEMORY), driver(x, memory=MEMORY), strict=True):
            assert np.array_equal(one, other)


@pytest.mark.parametrize("method", ["gram", "krylov", "sketch"])
def test_more_modes_than_there_are_have_the_value_zero(method: Any) -> None:
    x = da.ones((100, 100), chunks=(10, 10))
    r = lh.svd(x, rank=2, method=method, memory=MEMORY)
    near(r.s, [100, 0], allowed(np.ones((100, 100))))
    assert orthogonality(r.u) <= 16 * 100 * EPS
    assert orthogonality(np.asarray(r.vh).T) <= 16 * 100 * EPS
    near(
        (np.asarray(r.u) * r.s) @ np.asarray(r.vh),
        np.ones((100, 100)),
        allowed(np.ones((100,) * 2)),
    )


@pytest.mark.parametrize("dtype", ["f4", "f8", "c8", "c16"])
@pytest.mark.parametrize("chunks", [(10, 50), (50, 10), (-1, -1), (20, 20)])
def test_dtypes_are_kept(dtype: str, chunks: Any, rng: np.random.Generator) -> None:
    x = da.from_array(rng.random((50, 50)).astype(dtype), chunks=chunks)
    full, short = lh.svd(x, memory=MEMORY), lh.svd(x, rank=3, memory=MEMORY)
    real = np.empty(0, dtype).real.dtype
    assert {full.u.dtype, full.vh.dtype, short.u.dtype, short.vh.dtype} == {np.dtype(dtype)}
    assert {full.s.dtype, short.s.dtype} == {real}
    assert {f.dtype for f in lh.qr(x, memory=MEMORY)} == {np.dtype(dtype)}


@pytest.mark.parametrize("m", [5, 10, 20])
@pytest.mark.parametrize("n", [5, 15, 20])
@pytest.mark.parametrize("chunks", [(5, 10), (10, 5)])
def test_truncated_svd_has_the_shapes_asked_for_and_repeats(
    m: int, n: int, chunks: Any, rng: np.random.Generator
) -> None:
    x = da.from_array(rng.random((m, n)), chunks=chunks)
    r, again = (lh.svd(x, rank=min(m, n, 5), seed=1, memory=MEMORY) for _ in range(2))
    k = min(m, n, 5)
    assert (r.u.shape, r.s.shape, r.vh.shape) == ((m, k), (k,), (k, n))
    for one, other in zip(r, again, strict=True):
        assert np.array_equal(one, other)


def test_truncated_svd_is_as_near_as_the_next_value_allows(rng: np.random.Generator) -> None:
    a = rng.random((100, 50))
    r = lh.svd(da.from_array(a, chunks=(30, 20)), rank=5, memory=MEMORY)
    s = np.linalg.svd(a, compute_uv=False)
    distance = np.linalg.norm(a - (np.asarray(r.u) * r.s) @ np.asarray(r.vh), 2)
    assert distance <= 1.001 * s[5]  # Dask allows 1.4


@pytest.mark.parametrize("ndim", [0, 1, 3])
def test_svd_of_what_is_no_matrix_is_refused(ndim: int) -> None:
    with pytest.raises(ShapeError):
        lh.svd(da.ones((10,) * ndim, chunks=5), memory=MEMORY)


@pytest.mark.parametrize("shape", [(12, 7), (7, 12), (10, 10)])
def test_full_singular_vectors(shape: tuple[int, int], rng: np.random.Generator) -> None:
    a, k = rng.random(shape), min(shape)
    u, s, vh = xp.linalg.svd(lh.open(da.from_array(a, chunks=(5, 4))), full_matrices=True)
    assert (u.shape, vh.shape) == ((shape[0],) * 2, (shape[1],) * 2)
    assert max(orthogonality(u), orthogonality(np.asarray(vh).T)) <= 16 * 12 * EPS
    near((np.asarray(u)[:, :k] * s) @ np.asarray(vh)[:k], a, allowed(a))


LU_CASES = [
    ((4, 4), (2, 2)), ((6, 6), (2, 2)), ((50, 50), (25, 25)), ((30, 30), (5, 5)),
    ((10, 8), (5, 4)), ((8, 10), (5, 4)), ((20, 20), (5, 4)), ((23, 23), (7, (3, 20))),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "chunks"), LU_CASES)
@pytest.mark.parametrize("integers", [True, False])
def test_lu_of_any_shape_and_chunks(
    shape: tuple[int, int], chunks: Any, integers: bool, rng: np.random.Generator
) -> None:
    a = rng.integers(0, 10, shape) if integers else rng.standard_normal(shape)
    perm, low, up = lh.lu(da.from_array(a, chunks=chunks), memory=MEMORY)
    low, up = np.asarray(low), np.asarray(up)
    near(low @ up, a[perm], allowed(a, condition=max(1.0, float(np.max(np.abs(up))))))
    assert np.array_equal(low, np.tril(low))
    assert np.array_equal(up, np.triu(up))
    assert np.max(np.abs(low)) <= 1 + EPS  # partial pivoting down whole columns


LARGE = np.diag(np.linspace(40, 60, 8)) + np.cos(np.arange(64.0)).reshape(8, 8)


@pytest.mark.parametrize("order", [np.arange(8), np.arange(8)[::-1], [4, 5, 6, 7, 0, 1, 2, 3]])
@pytest.mark.parametrize("a", [LARGE, np.diag(np.arange(3.0, 11.0))])
def test_factors_are_scipys_with_rows_exchanged_or_not(a: np.ndarray, order: Any) -> None:
    a = a[order]  # pivots are on the diagonal, or in other blocks
    p, low, up = scipy.linalg.lu(a)
    perm, found_low, found_up = lh.lu(da.from_array(a, chunks=2), memory=MEMORY)
    assert np.array_equal(np.eye(8)[perm], p.T)
    near(found_low, low, 64 * EPS)
    near(found_up, up, 64 * EPS * 60)


@pytest.mark.parametrize("swap", [np.eye(2)[::-1], 1e-8 * np.eye(2) + np.eye(2)[::-1]])
def test_pivots_come_from_any_block(swap: np.ndarray) -> None:
    a = np.kron(swap, np.eye(5)) + 0.0
    b = np.arange(10.0)
    near(lh.solve(da.from_array(a, chunks=5), b, memory=MEMORY).x, np.linalg.solve(a, b), 1e-13)


def test_lu_of_what_is_no_matrix_is_refused() -> None:
    with pytest.raises(ShapeError):
        lh.lu(da.ones((10, 10, 10), chunks=5), memory=MEMORY)


@pytest.mark.parametrize(("n", "chunk"), [(20, 10), (50, 10), (50, 20), (70, 20)])
@pytest.mark.parametrize("triangle", [np.triu, np.tril])
@pytest.mark.parametrize("columns", [None, 5, "n"])
def test_triangular_systems(n: int, chunk: int, triangle: Any, columns: Any) -> None:
    rng = np.random.default_rng(1)
    # a diagonal as large as the sums beside it keeps random triangles from being near-singular
    a = triangle(rng.integers(1, 11, (n, n))) + 6 * n * np.eye(n)
    b = rng.integers(1, 11, (n,) if columns is None else (n, n if columns == "n" else columns))
    x = np.asarray(lh.solve(da.from_array(a, chunks=chunk), da.from_array(b, 7), memory=MEMORY).x)
    near(a @ x, b, allowed(a) * float(np.max(np.abs(x))) + allowed(b))
    near(x, np.linalg.solve(a, b), allowed(b) * np.linalg.cond(a) / 6)


@pytest.mark.parametrize(("n", "chunk"), [(20, 10), (50, 10), (30, 6), (30, (7, 11))])
@pytest.mark.parametrize("assume", ["gen", "pos"])
def test_systems_and_inverses(n: int, chunk: Any, assume: Any) -> None:
    rng = np.random.default_rng(1)
    a = rng.integers(1, 10, (n, n)).astype(float)
    if assume == "pos":
        a = np.tril(a) @ np.tril(a).T + n * np.eye(n)
    d, condition = da.from_array(a, chunks=chunk), float(np.linalg.cond(a))
    for shape in ((n,), (n, 5), (n, n)):
        b = rng.integers(1, 10, shape)
        x = lh.solve(d, da.from_array(b, chunks=7), assume=assume, memory=MEMORY).x
        true = np.linalg.solve(a, b)
        near(x, true, 16 * n * EPS * condition * float(np.max(np.abs(true))))
    inverse = np.asarray(lh.inv(d, assume=assume, memory=MEMORY).x)
    near(a @ inverse, np.eye(n), 16 * n * EPS * condition)


@pytest.mark.parametrize(("n", "chunk"), [(20, 10), (12, 3), (30, 3), (30, 6), (31, (7, 20))])
@pytest.mark.parametrize("complex_", [False, True])
def test_cholesky_lower_and_upper(n: int, chunk: Any, complex_: bool) -> None:
    rng = np.random.default_rng(42)
    a = rng.standard_normal((n, n)) + 1j * complex_ * rng.standard_normal((n, n))
    a = a @ a.conj().T + n * np.eye(n)
    a = a if complex_ else a.real
    d = lh.open(da.from_array(a, chunks=chunk))
    low = np.asarray(lh.cholesky(d, memory=MEMORY).l)
    near(low, np.linalg.cholesky(a), allowed(a) * np.linalg.cond(a))
    near(xp.linalg.cholesky(d, upper=True), low.conj().T, 0)


@pytest.mark.parametrize(("m", "n", "chunk"), [(20, 10, 5), (100, 10, 10), (100, 10, 7)])
@pytest.mark.parametrize("complex_", [False, True])
@pytest.mark.parametrize("columns", [None, 5])
def test_least_squares(m: int, n: int, chunk: int, complex_: bool, columns: int | None) -> None:
    rng = np.random.default_rng(1)
    shape = (m,) if columns is None else (m, columns)
    a, b = rng.integers(1, 20, (m, n)), rng.integers(1, 20, shape)
    if complex_:
        a = a + 1j * rng.integers(1, 20, a.shape)
        b = b + 1j * rng.integers(1, 20, b.shape)
    x, residuals, rank, s = lh.lstsq(
        da.from_array(a, chunks=(chunk, n)), da.from_array(b, chunks=chunk), memory=MEMORY
    )
    true = np.linalg.lstsq(a, b, rcond=None)
    size = float(np.linalg.norm(b)) ** 2
    near(x, true[0], allowed(a) * np.linalg.cond(a) ** 2)
    near(residuals if columns else np.ravel(residuals), true[1], 64 * m * EPS * size)
    near(s, true[3], allowed(a))
    assert rank == true[2]
    a[:, 1] = a[:, 2]
    found = lh.lstsq(da.from_array(a, chunks=(chunk, n)), b, memory=MEMORY)
    assert found.rank == n - 1
    true = np.linalg.lstsq(a, b, rcond=m * EPS)  # Dask's x has entries of 1e14
    near(found.x, true[0], allowed(a) * 100)


def test_least_squares_of_a_wide_matrix_is_the_shortest(rng: np.random.Generator) -> None:
    a, b = rng.random((10, 20)), rng.random(10)  # an error in Dask
    x = lh.lstsq(da.from_array(a, chunks=(5, 10)), b, memory=MEMORY).x
    near(x, np.linalg.lstsq(a, b, rcond=None)[0], allowed(a) * np.linalg.cond(a))


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("order", [None, "fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf])
@pytest.mark.parametrize(("shape", "chunks"), [((5, 6), (2, 2)), ((9, 9), (4, 9))])
def test_norms_of_matrices(shape: Any, chunks: Any, order: Any, keepdims: bool, rng: Any) -> None:
    a = rng.random(shape)
    x = lh.open(da.from_array(a, chunks=chunks))
    found = xp.linalg.matrix_norm(x, ord=order, keepdims=keepdims)
    near(found, np.linalg.norm(a, ord=order, axis=(0, 1), keepdims=keepdims), allowed(a))
    if order is not None:
        near(float(lh.norm(x, ord=order)), np.linalg.norm(a, ord=order), allowed(a))


@pytest.mark.parametrize("order", ["fro", 1, -np.inf])
@pytest.mark.parametrize("shape", [(5, 3), (4, 5, 3), (3, 2, 4, 3)])
def test_norms_over_any_axis_and_any_two(shape: Any, order: Any, rng: np.random.Generator) -> None:
    a = rng.random(shape)
    d = da.from_array(a, chunks=2)
    for first in range(len(shape)):
        for second in range(len(shape)):
            if first != second:
                x = lh.open(da.moveaxis(d, (first, second), (-2, -1)))
                found = xp.linalg.matrix_norm(x, ord=order)
                near(found, np.linalg.norm(a, ord=order, axis=(first, second)), 64 * EPS * 5)
            elif order != "fro":
                found = xp.linalg.vector_norm(lh.open(d), ord=order, axis=first)
                near(found, np.linalg.norm(a, ord=order, axis=first), 64 * EPS * 5)


@pytest.mark.parametrize("order", ["nuc", 2, -2, "fro", 1])
@pytest.mark.parametrize("shape", [(3, 2, 4), (2, 3, 4, 5)])
def test_norms_of_stacks(shape: tuple[int, ...], order: Any, rng: np.random.Generator) -> None:
    a = rng.random(shape)  # nuc, 2 and -2 are not implemented in Dask
    x = lh.open(da.from_array(a, chunks=2))
    found = xp.linalg.matrix_norm(x, ord=order)
    near(found, np.linalg.norm(a, ord=order, axis=(-2, -1)), 16 * max(shape) * EPS * np.max(found))


@pytest.mark.parametrize("order", [0, 0.5, 1, -1, 2, -2, np.inf, -np.inf])
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("dtype", ["f4", "f8", "c8", "c16"])
def test_norms_of_vectors(order: Any, keepdims: bool, dtype: str, rng: Any) -> None:
    for shape, axis in (((5,), None), ((5,), 0), ((4, 5, 3), 1), ((4, 5, 3), (0, 2))):
        a = (rng.random(shape) + 0.1).astype(dtype)
        x = lh.open(da.from_array(a, chunks=2))
        found = xp.linalg.vector_norm(x, ord=order, axis=axis, keepdims=keepdims)
        true = np.linalg.vector_norm(a, ord=order, axis=axis, keepdims=keepdims)
        assert found.dtype == np.empty(0, dtype).real.dtype
        near(found, true, 64 * float(np.finfo(dtype).eps) * float(np.max(true)))


def test_a_singular_or_nearly_singular_matrix_is_said_to_be() -> None:
    a = matrix_with_spectrum((20, 20), np.geomspace(1, 1e-18, 20))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(LeptonError, match="singular|regular"):
            lh.solve(da.from_array(a, chunks=10), np.ones(20), memory=MEMORY)
