"""Every function of the extension: shape, dtype, fields and mathematics, of both kinds of array."""

from __future__ import annotations

import doctest
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

import leptonhpc as lh
import leptonhpc.array_api as xp
from leptonhpc import store
from leptonhpc.errors import (
    LeptonError,
    MemoryBudgetError,
    NotAnArrayError,
    OptionError,
    ShapeError,
)
from leptonhpc.testing import matrix_with_spectrum, orthogonality, put, spectrum

DTYPES = ["float32", "float64", "complex64", "complex128"]
few = settings(max_examples=15)
STACKS = st.sampled_from([(), (2,), (1, 2)])


@pytest.fixture(scope="module", autouse=True)
def _everything_by_drivers() -> Iterator[None]:
    with (
        threadpool_limits(limits=1, user_api="blas"),
        xp.using_drivers(memory="1 GB", from_nbytes=0),
    ):
        yield


def _matrices(stack: tuple[int, ...], shape: tuple[int, int], dtype: str, seed: int) -> np.ndarray:
    """Make a stack of matrices whose singular values go from 1 to 0.1."""
    count = int(np.prod(stack, dtype=int))
    values = spectrum("mild", min(shape))
    made = [matrix_with_spectrum(shape, values, dtype=dtype, seed=seed + i) for i in range(count)]
    return np.stack(made).reshape(stack + shape)


def _hermitian(stack: tuple[int, ...], n: int, dtype: str, seed: int) -> np.ndarray:
    """Make positive definite matrices: A^H A + I."""
    a = _matrices(stack, (n, n), dtype, seed)
    h = _adjoint(a) @ a + np.eye(n, dtype=dtype)
    return (h + _adjoint(h)) / 2


def _adjoint(a: np.ndarray) -> np.ndarray:
    return np.conj(np.swapaxes(a, -1, -2))


def _allowed(n: int, dtype: Any, condition: float = 1.0) -> float:
    """Give 16 n eps times a condition number: norms here are at most 2 (Higham 2002, (3.13))."""
    return 16 * max(n, 2) * float(np.finfo(dtype).eps) * condition


def _near(found: Any, true: Any, allowed: float, dtype: Any = None) -> None:
    found, true = np.asarray(found), np.asarray(true)
    assert found.shape == true.shape
    assert found.dtype == (true.dtype if dtype is None else np.dtype(dtype))
    assert np.max(np.abs(found - true), initial=0.0) <= allowed


def _real(dtype: str) -> np.dtype[Any]:
    return np.empty(0, dtype).real.dtype


@st.composite
def stacks(draw: st.DrawFn, *, square: bool = False) -> np.ndarray:
    m, n = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    shape = (m, m if square else n)
    return _matrices(draw(STACKS), shape, draw(st.sampled_from(DTYPES)), draw(st.integers(0, 99)))


@st.composite
def hermitian_stacks(draw: st.DrawFn) -> np.ndarray:
    n, dtype = draw(st.integers(1, 9)), draw(st.sampled_from(DTYPES))
    return _hermitian(draw(STACKS), n, dtype, draw(st.integers(0, 99)))


@few
@given(a=hermitian_stacks(), upper=st.booleans(), blocked=st.booleans())
def test_cholesky_factor_times_its_adjoint_is_the_matrix(
    a: np.ndarray, upper: bool, blocked: bool
) -> None:
    f = np.asarray(xp.linalg.cholesky(lh.open(a) if blocked else a, upper=upper))
    assert np.array_equal(f, (np.triu if upper else np.tril)(f))
    _near(_adjoint(f) @ f if upper else f @ _adjoint(f), a, _allowed(a.shape[-1], a.dtype), a.dtype)


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
    _near(q @ t, a, _allowed(max(m, n), a.dtype))
    for one in q.reshape(-1, m, k):
        assert orthogonality(one) <= _allowed(m, a.dtype)


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
    bound = _allowed(max(m, n), a.dtype, 10)
    _near((u[..., :k] * r.S[..., None, :]) @ vh[..., :k, :], a, bound, a.dtype)
    _near(r.S, np.linalg.svd(a, compute_uv=False), bound, _real(a.dtype))
    _near(xp.linalg.svdvals(x), r.S, bound)
    assert np.all(np.diff(r.S) <= 0)
    for one in [*u.reshape(-1, *u.shape[-2:]), *_adjoint(vh).reshape(-1, *vh.shape[:-3:-1])]:
        assert orthogonality(one) <= bound


@few
@given(a=hermitian_stacks(), blocked=st.booleans())
def test_eigenpairs_satisfy_their_equation(a: np.ndarray, blocked: bool) -> None:
    x = lh.open(a) if blocked else a
    r = xp.linalg.eigh(x)
    assert r._fields == ("eigenvalues", "eigenvectors")
    v, bound = np.asarray(r.eigenvectors), _allowed(a.shape[-1], a.dtype)
    assert (r.eigenvalues.dtype, v.dtype) == (_real(a.dtype), a.dtype)
    _near(a @ v, v * r.eigenvalues[..., None, :], bound)
    _near(xp.linalg.eigvalsh(x), np.linalg.eigvalsh(a), bound, _real(a.dtype))
    _near(r.eigenvalues, np.linalg.eigvalsh(a), bound, _real(a.dtype))


@few
@given(a=stacks(square=True), blocked=st.booleans())
def test_determinants_are_those_of_numpy(a: np.ndarray, blocked: bool) -> None:
    x = lh.open(a) if blocked else a
    r = xp.linalg.slogdet(x)
    assert r._fields == ("sign", "logabsdet")
    # d log det = tr(A^-1 dA): at most n cond(A) eps
    n = a.shape[-1]
    bound = n * _allowed(n, a.dtype, 10)
    sign, logabsdet = np.linalg.slogdet(a)
    _near(r.sign, sign, bound, a.dtype)
    _near(r.logabsdet, logabsdet, bound, _real(a.dtype))
    _near(xp.linalg.det(x), np.linalg.det(a), bound, a.dtype)


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
    _near(found, true, _allowed(n, a.dtype, 10) * max(1.0, size))
    eye = np.broadcast_to(np.eye(n, dtype=a.dtype), a.shape)
    _near(np.asarray(xp.linalg.inv(x)) @ a, eye, _allowed(n, a.dtype, 100))


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
    bound = _allowed(max(m, n), a.dtype, 100)
    _near(xp.linalg.pinv(x, rtol=rtol), np.linalg.pinv(a, rcond=0.33), bound, a.dtype)
    _near(a @ np.asarray(xp.linalg.pinv(x)) @ a, a, bound)
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
        _near(found, true, count * _allowed(max(a.shape), a.dtype), _real(a.dtype))


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
        _near(found, true, _allowed(a.size, a.dtype) * float(np.max(true)), _real(a.dtype))
        flat = a.reshape(-1)
        whole = xp.linalg.vector_norm(lh.open(flat) if blocked else flat, ord=order)
        true = np.linalg.vector_norm(flat, ord=order)
        _near(whole, true, _allowed(a.size, a.dtype) * float(true), _real(a.dtype))


@few
@given(a=stacks(square=True), n=st.integers(-3, 6), blocked=st.booleans())
def test_powers_are_repeated_products(a: np.ndarray, n: int, blocked: bool) -> None:
    found = xp.linalg.matrix_power(lh.open(a) if blocked else a, n)
    true = np.linalg.matrix_power(a.astype(np.result_type(a, float)), n)
    # each factor is wrong by n eps cond; negative powers are as large as 10^|n|
    bound = _allowed(a.shape[-1], a.dtype, 10) * max(1, abs(n)) * 10.0 ** max(0, -n)
    _near(found, true, bound, a.dtype)


SHAPES = [
    ((4,), (4,)), ((4,), (4, 3)), ((5, 4), (4,)), ((5, 4), (4, 3)), ((2, 5, 4), (4, 3)),
    ((4,), (2, 4, 3)), ((3, 1, 5, 4), (2, 4, 3)), ((2, 5, 4), (4,)), ((0, 4), (4, 3)),
    ((5, 0), (0, 3)), ((0, 2, 3), (3, 1)),
]  # fmt: skip


@pytest.mark.parametrize("dtypes", [("float32", "complex64"), ("float64", "float64")])
@pytest.mark.parametrize("shapes", SHAPES)
def test_products_broadcast_as_numpy_does(
    shapes: Any, dtypes: Any, rng: np.random.Generator
) -> None:
    a, b = (rng.uniform(-1, 1, s).astype(d) for s, d in zip(shapes, dtypes, strict=True))
    for x, y in itertools.product((a, lh.open(a)), (b, lh.open(b))):
        _near(xp.matmul(x, y), np.matmul(a, b), _allowed(4, a.dtype))


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int32", "int64", "uint64"])
def test_products_of_integers_are_exact_in_their_own_dtype(
    dtype: str, rng: np.random.Generator
) -> None:
    a = rng.integers(0, 100, (5, 5)).astype(dtype) + np.asarray(
        2**57 if "64" in dtype else 0, dtype
    )
    b = rng.integers(0, 5, (5, 3)).astype(dtype)
    for x, y in ((lh.open(a), b), (a, lh.open(b)), (lh.open(a), lh.open(b)), (a, b)):
        found = np.asarray(xp.matmul(x, y))
        assert found.dtype == np.dtype(dtype)
        assert np.array_equal(found, a @ b)
    found = np.asarray(xp.vecdot(lh.open(a[0]), b[:, 0]))
    assert found.dtype == np.dtype(dtype)
    assert found == np.vecdot(a[0], b[:, 0])


@pytest.mark.parametrize("dtype", [*DTYPES, "int64"])
def test_products_of_vectors_and_tensors_are_those_of_numpy(
    dtype: str, rng: np.random.Generator
) -> None:
    a, b = (rng.integers(-9, 9, s).astype(dtype) for s in ((5, 4), (4, 5)))
    if dtype.startswith("c"):
        a, b = a + np.asarray(2j, dtype), b - np.asarray(1j, dtype)
    blocked = lh.open(a), lh.open(b)
    pairs = [(a, b), blocked, (blocked[0], b)]
    for axes in (0, 1, ((0,), (1,)), ((1,), (0,)), ((-1,), (-2,)), ((0, 1), (1, 0))):
        for x, y in pairs:
            _near(xp.tensordot(x, y, axes=axes), np.tensordot(a, b, axes=axes), 0, dtype)
    u, v = a[:, 0], b[0]
    for x, y in ((u, v), (lh.open(u), lh.open(v)), (u, lh.open(v))):
        _near(xp.linalg.outer(x, y), np.outer(u, v), 0, dtype)
        _near(xp.vecdot(x, y), np.vecdot(u, v), 0, dtype)
    _near(xp.vecdot(lh.open(a), b.T), np.vecdot(a, b.T), 0, dtype)
    three = a[:, :3]
    _near(xp.linalg.cross(lh.open(three), b.T[:, :3]), np.cross(three, b.T[:, :3]), 0, dtype)


@pytest.mark.parametrize("offset", [-9, -4, -1, 0, 2, 5, 7])
@pytest.mark.parametrize("shape", [(5, 7), (7, 5), (2, 3, 4), (0, 3), (2, 0, 3)])
def test_diagonals_are_those_of_numpy(shape: tuple[int, ...], offset: int) -> None:
    for dtype in ("int16", "float32", "bool"):
        a = (np.arange(np.prod(shape)).reshape(shape) % 7).astype(dtype)
        true = np.linalg.diagonal(a, offset=offset)
        for x in (a, lh.open(a)):
            _near(xp.linalg.diagonal(x, offset=offset).astype(float), true.astype(float), 0)
            assert xp.linalg.diagonal(x, offset=offset).dtype == dtype
            _near(xp.linalg.trace(x, offset=offset), np.linalg.trace(a, offset=offset), 0)
    assert xp.linalg.trace(np.ones((2, 2)), dtype=xp.float32).dtype == np.float32


def test_diagonal_of_a_large_array_reads_what_is_beside_it(tmp_path: Path) -> None:
    array = store.create_array(tmp_path / "x", shape=(3000, 2500), dtype="f8", chunks=(500, 500))
    a = np.arange(3000.0)[:, None] * 3000 + np.arange(2500.0)
    array.write_units((0, 0), a[:500, :500])  # the others are not stored: zeros
    found = xp.linalg.diagonal(lh.open(tmp_path / "x"), offset=-3)
    assert np.array_equal(found[:497], np.diagonal(a, -3)[:497])
    assert not found[497:].any()
    assert found.shape == (2500,)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("chunks", [(16, 16), (7, 40), (64, 9)])
def test_arrays_in_zarr_give_what_numpy_gives(
    dtype: str, chunks: tuple[int, int], tmp_path: Path
) -> None:
    a = _matrices((), (40, 40), dtype, 3)
    x, bound = lh.open(put(a, tmp_path / "x", chunks=chunks)), _allowed(40, dtype, 10)
    assert xp.asarray(x) is x
    _near(xp.matmul(x, x), a @ a, bound, dtype)
    _near(xp.matrix_transpose(x), a.T, 0, dtype)
    _near(xp.linalg.inv(x), np.linalg.inv(a), 10 * bound, dtype)
    _near(xp.linalg.solve(x, a[:, 0]), np.eye(40)[0], 10 * bound, dtype)
    q, r = xp.linalg.qr(x[:, :11])
    _near(np.asarray(q) @ np.asarray(r), a[:, :11], bound, dtype)
    _near(xp.linalg.matrix_norm(x), np.linalg.norm(a), 4 * bound, _real(dtype))
    h = _hermitian((), 40, dtype, 3)
    y = lh.open(put(h, tmp_path / "h", chunks=chunks))
    lower = np.asarray(xp.linalg.cholesky(y))
    _near(lower @ _adjoint(lower), h, bound, dtype)
    _near(xp.linalg.eigvalsh(y), np.linalg.eigvalsh(h), bound, _real(dtype))


def test_a_large_result_stays_blocked_and_lives_as_long_as_it_is_used(
    rng: np.random.Generator,
) -> None:
    a = rng.standard_normal((3000, 1500))
    with xp.using_drivers(memory="240 MB"):
        product = xp.matmul(lh.open(a), lh.open(a.T))  # 72 MB, and as much for the computing
    assert isinstance(product, lh.BlockedArray)
    part = product[:100, :100]
    folder = Path(product.source.array.name).parent
    del product
    true = a[:100] @ a[:100].T
    assert np.max(np.abs(np.asarray(part) - true)) <= _allowed(1500, float) * np.max(np.abs(true))
    assert folder.exists()
    del part
    assert not folder.exists()


@pytest.mark.parametrize("kind", ["stack", "qr", "svd", "transpose", "cross", "norm", "asarray"])
def test_nothing_large_is_read_into_memory_unasked(kind: str) -> None:
    big = lh.open(np.broadcast_to(np.float64(1), (400_000, 3)))  # 9.6 MB; its square 1.3 TB
    stack = lh.open(np.broadcast_to(np.float64(1), (100, 1000, 1000)))
    calls = {
        "stack": lambda: xp.linalg.diagonal(stack),
        "qr": lambda: xp.linalg.qr(big, mode="complete"),
        "svd": lambda: xp.linalg.svd(big),
        "transpose": lambda: xp.matrix_transpose(stack),
        "cross": lambda: xp.linalg.cross(big, big),
        "norm": lambda: xp.linalg.vector_norm(big, axis=1),
        "asarray": lambda: xp.asarray(big, dtype=xp.float32),
    }
    memory = {"qr": "250 MB", "svd": "250 MB", "stack": "1 MB"}.get(kind, "15 MB")
    with xp.using_drivers(memory=memory), pytest.raises(MemoryBudgetError, match="in this process"):
        calls[kind]()


def test_small_or_unusual_numpy_arrays_go_to_numpy() -> None:
    with xp.using_drivers():
        asymmetric = np.asarray([[2.0, 9.0], [1.0, 2.0]])  # the drivers would refuse it
        assert np.array_equal(xp.linalg.eigh(asymmetric).eigenvalues, [1, 3])
    nan = np.asarray([[np.nan, 1.0], [1.0, 2.0]])
    with np.errstate(invalid="ignore"):
        assert np.isnan(xp.linalg.det(nan))  # NumPy's arrays behave alike at all sizes
    assert xp.linalg.inv(np.empty((0, 0))).shape == (0, 0)
    assert np.array_equal(xp.linalg.det(np.empty((3, 0, 0))), np.ones(3))
    with pytest.raises(LeptonError, match="has nan at index"):
        xp.linalg.det(lh.open(nan))


def test_empty_results_are_made_without_reading_what_is_not_empty() -> None:
    vast = lh.open(np.broadcast_to(np.float64(1), (10**6, 10**6)))  # 8 TB
    nothing = np.empty((10**6, 0), np.complex64)
    for found in (xp.matmul(vast, nothing), xp.linalg.solve(vast, nothing)):
        assert (found.shape, found.dtype) == ((10**6, 0), np.dtype(np.complex128))
    blocked = lh.open(np.empty((3, 0)))
    _near(xp.matmul(blocked, np.empty((0, 2))), np.zeros((3, 2)), 0)
    with pytest.raises(MemoryBudgetError, match="of nothing"):
        xp.matmul(nothing, lh.open(np.empty((0, 10**6))))


def test_a_blocked_side_of_a_small_matrix_is_taken(rng: np.random.Generator) -> None:
    for shape in ((5, 5), (2, 5, 5)):
        a, b = rng.standard_normal(shape) + 9 * np.eye(5), rng.standard_normal(5)
        with xp.using_drivers(memory="1 GB"):
            found = xp.linalg.solve(a, lh.open(b))
        _near(found, np.linalg.solve(a, b), _allowed(5, float))


def test_mistakes_are_typed_errors() -> None:
    with pytest.raises(ShapeError, match=r"square .*\(2, 3\)"):
        xp.linalg.det(np.ones((2, 3)))
    with pytest.raises(ShapeError, match="matrix"):
        xp.linalg.svd(np.ones(3))
    with pytest.raises(ShapeError, match="length 2"):
        xp.linalg.solve(np.eye(2), np.ones(3))
    with pytest.raises(ShapeError, match="broadcast"):
        xp.matmul(np.ones((2, 2, 2)), np.ones((3, 2, 2)))
    with pytest.raises(ShapeError, match="length 3"):
        xp.linalg.cross(np.ones(2), np.ones(2))
    with pytest.raises(ShapeError, match="vectors"):
        xp.linalg.outer(np.ones((2, 2)), np.ones(2))
    with pytest.raises(LeptonError, match="mode"):
        xp.linalg.qr(np.eye(2), mode="r")
    with pytest.raises(LeptonError, match="whole power"):
        xp.linalg.matrix_power(np.eye(2), 0.5)
    with pytest.raises(NotAnArrayError, match=r"leptonhpc\.open"):
        xp.linalg.det("x.zarr")


def test_the_example_of_the_documentation_runs() -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "array-api.md"
    text = page.read_text().replace("```", "")
    example = doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0)
    assert len(example.examples) >= 8
    assert doctest.DocTestRunner().run(example).failed == 0


def test_the_namespace_is_complete() -> None:
    assert xp.linalg.__name__ == "leptonhpc.array_api.linalg"
    assert xp.__array_api_version__ == "2024.12"
    x = lh.open(np.eye(2))
    assert x.__array_namespace__(api_version="2023.12") is xp
    with pytest.raises(OptionError, match="2024.12"):
        x.__array_namespace__(api_version="2099.12")
    assert set(xp.__array_namespace_info__().capabilities()) >= {"boolean indexing"}
    functions = [n for n in xp.linalg.__all__ if not n.endswith("Result")]
    assert len(functions) == 23
    for name in ("matmul", "matrix_transpose", "tensordot", "vecdot"):
        assert getattr(xp, name) is getattr(xp.linalg, name)
    assert isinstance(xp.ones((2, 2)), np.ndarray)
    assert xp.asarray([1, 2], dtype=xp.float32).dtype == np.float32
