"""Factorisations of one block: against the reference, and against what they are by definition."""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from leptonhpc.errors import NotPositiveDefiniteError
from leptonhpc.kernels import blas, dense, reference, threads

DTYPES = ["float32", "float64", "complex64", "complex128"]
ORDERS = [1, 2, 31, 33, 64, 97, 255, 257, 300]
SHAPES = [(1, 1), (5, 1), (1, 5), (33, 33), (40, 33), (33, 40), (130, 70), (70, 130), (300, 290)]
LAYOUTS = ["plain", "padded", "every other row"]
TRIANGLES = [
    {"right": right, "lower": lower, "adjoint": adjoint, "unit": unit}
    for right in (False, True)
    for lower in (False, True)
    for adjoint in (False, True)
    for unit in (False, True)
]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with threadpool_limits(1):  # small blocks: threads would only wait for one another
        yield


def draw(shape: tuple[int, ...], dtype: str, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    a = rng.standard_normal(shape)
    return (a + 1j * rng.standard_normal(shape) if dtype.startswith("c") else a).astype(dtype)


def strided(a: np.ndarray, layout: str) -> np.ndarray:
    """Give equal values as a view into a larger array."""
    m, n = a.shape
    if layout == "padded":
        big = np.full((m, n + 5), 7, a.dtype)
        big[:, 2 : n + 2] = a
        return big[:, 2 : n + 2]
    if layout == "every other row":
        big = np.full((2 * m, n), 7, a.dtype)
        big[::2] = a
        return big[::2]
    return a.copy()


def wide(a: np.ndarray) -> np.ndarray:
    return a.astype(np.result_type(a.dtype, np.float64))


def positive(n: int, dtype: str) -> np.ndarray:
    a = draw((n, n + 3), dtype)
    return a @ a.conj().T + np.eye(n, dtype=dtype)


def triangle(n: int, dtype: str, *, unit: bool) -> np.ndarray:
    """Give a matrix both of whose triangles are well conditioned, whatever the diagonal."""
    t = draw((n, n), dtype, 1) / max(n, 1)
    np.fill_diagonal(t, 3 if unit else t.diagonal() + 2)
    return t


def lower_upper(packed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    k = min(packed.shape)
    lower = np.tril(wide(packed)[:, :k], -1)
    lower[np.diag_indices(k)] = 1
    return lower, np.triu(wide(packed)[:k])


def q_of(packed: np.ndarray, taus: np.ndarray, kernel: object) -> np.ndarray:
    q = np.eye(len(packed), dtype=packed.dtype)
    kernel.reflect(packed[:, : len(taus)], taus, q)
    return q


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_cholesky_gives_l_with_l_times_its_adjoint(dtype: str, layout: str) -> None:
    for n in ORDERS:
        a = positive(n, dtype)
        found, expected = strided(a, layout), a.copy()
        dense.potrf(found)
        reference.potrf(expected)
        lower = np.tril(wide(found))
        # |A - L L^H| <= (n + 1) eps |L||L^H| (Higham 2002, Theorem 10.3); complex counts sqrt(2) x2
        bound = 4 * (n + 1) * np.finfo(dtype).eps * (np.abs(lower) @ np.abs(lower).T)
        assert np.all(np.abs(lower @ lower.conj().T - wide(a)) <= bound), n
        assert np.all(lower.diagonal().real > 0)
        assert np.all(lower.diagonal().imag == 0)
        # two factors of perturbed matrices differ by kappa times the perturbations (Sun 1991)
        values = np.linalg.eigvalsh(wide(a))
        allowed = 16 * (n + 1) * np.finfo(dtype).eps * values[-1] / values[0]
        assert np.linalg.norm(lower - np.tril(wide(expected))) <= allowed * np.linalg.norm(lower)


@pytest.mark.parametrize("kernel", [dense, reference])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [-1.0, 0.0, np.nan])
def test_a_bad_pivot_is_named_by_the_order_of_its_minor(
    kernel: object, dtype: str, value: float
) -> None:
    for n, at in ((1, 0), (5, 4), (300, 100), (300, 256), (600, 512), (600, 599)):
        a = np.eye(n, dtype=dtype)
        a[at, at] = value
        if kernel is reference and n > 300:
            continue
        with pytest.raises(NotPositiveDefiniteError) as caught:
            kernel.potrf(a)
        assert caught.value.order == at + 1


def test_nan_below_the_diagonal_of_cholesky_reaches_a_pivot() -> None:
    for n, at in ((5, (4, 0)), (600, (599, 0)), (600, (300, 299))):
        a = np.eye(n)
        a[at] = np.nan
        with pytest.raises(NotPositiveDefiniteError) as caught:
            dense.potrf(a)
        assert caught.value.order == at[0] + 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_lu_gives_the_rows_in_the_order_of_the_pivots(dtype: str, layout: str) -> None:
    for m, n in SHAPES:
        a = draw((m, n), dtype)
        found = strided(a, layout)
        pivots = dense.getrf(found)
        lower, upper = lower_upper(found)
        order = dense.permutation(pivots, m)
        assert sorted(order) == list(range(m))
        # |P A - L U| <= k eps |L||U| (Higham 2002, Theorem 9.3); complex counts sqrt(2) twice
        bound = 4 * (min(m, n) + 1) * np.finfo(dtype).eps * (np.abs(lower) @ np.abs(upper))
        assert np.all(np.abs(lower @ upper - wide(a)[order]) <= bound), (m, n)
        # LAPACK takes the pivot that is largest by |re| + |im|: another is at most sqrt(2) larger
        most = np.sqrt(2) if dtype.startswith("c") else 1.0
        assert np.max(np.abs(lower)) <= most * (1 + 4 * np.finfo(dtype).eps)
        moved = a.copy()
        dense.permute(moved, pivots)
        assert np.array_equal(moved, a[order])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_real_lu_has_the_pivots_of_the_reference(dtype: str) -> None:
    for shape in SHAPES:
        found, expected = draw(shape, dtype), draw(shape, dtype)
        assert np.array_equal(dense.getrf(found), reference.getrf(expected)), shape


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("columns", [(0,), (40, 41, 69), tuple(range(70))])
def test_lu_of_zero_columns_leaves_zeros_and_nothing_that_is_not_finite(
    dtype: str, columns: tuple[int, ...]
) -> None:
    for m, n in ((70, 70), (130, 70), (70, 130)):
        a = draw((m, n), dtype)
        a[:, columns] = 0
        found = a.copy()
        order = dense.permutation(dense.getrf(found), m)
        lower, upper = lower_upper(found)
        bound = 4 * (min(m, n) + 1) * np.finfo(dtype).eps * (np.abs(lower) @ np.abs(upper))
        assert np.all(np.abs(lower @ upper - wide(a)[order]) <= bound)
        assert np.all(upper[:, columns] == 0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_qr_gives_orthonormal_q_and_r(dtype: str, layout: str) -> None:
    for m, n in SHAPES:
        a = draw((m, n), dtype)
        found, expected = strided(a, layout), a.copy()
        q = wide(q_of(found, dense.geqrf(found), dense))
        r = np.triu(wide(found))
        # columns of Q and of A - Q R are right to c m k eps (Higham 2002, Theorem 19.4)
        eps = np.finfo(dtype).eps
        allowed = 8 * np.sqrt(m) * np.sqrt(min(m, n)) * eps
        assert np.linalg.norm(q.conj().T @ q - np.eye(m)) <= allowed * np.sqrt(m), (m, n)
        assert np.linalg.norm(q @ r - wide(a)) <= allowed * np.linalg.norm(a)
        reference.geqrf(expected)
        other = np.triu(wide(expected))
        values = np.linalg.svd(wide(a)[:, : min(m, n)], compute_uv=False)
        condition = values[0] / values[-1]
        assert np.linalg.norm(np.abs(r) - np.abs(other)) <= 4 * condition * allowed * (
            np.linalg.norm(a)
        ), (m, n)


@pytest.mark.parametrize("dtype", DTYPES)
def test_reflectors_that_do_nothing_have_a_factor_of_zero_and_change_nothing(dtype: str) -> None:
    a = np.zeros((90, 70), dtype)
    a[:70][np.diag_indices(70)] = np.arange(70) % 3  # triangular: nothing is to be done
    found = a.copy()
    taus = dense.geqrf(found)
    assert not taus.any()
    assert np.array_equal(found, a)
    c = draw((90, 11), dtype)
    for adjoint in (False, True):
        kept = c.copy()
        dense.reflect(found, taus, kept, adjoint=adjoint)
        assert np.array_equal(kept, c)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1.0, 1e-18, 1e18])
def test_reflectors_of_zero_columns_among_others_are_skipped(dtype: str, scale: float) -> None:
    a = (draw((90, 70), dtype) * scale).astype(dtype)
    a[:, [0, 33, 69]] = 0
    found = a.copy()
    taus = dense.geqrf(found)
    assert taus[0] == 0
    q, r = wide(q_of(found, taus, dense)), np.triu(wide(found))
    allowed = 8 * 90 * np.finfo(dtype).eps
    assert np.linalg.norm(q.conj().T @ q - np.eye(90)) <= allowed * np.sqrt(90)
    assert np.linalg.norm(q @ r / scale - wide(a) / scale) <= allowed * np.linalg.norm(a / scale)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("adjoint", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_reflect_applies_q_as_the_reference_does(dtype: str, adjoint: bool, layout: str) -> None:
    for m, k, n in ((1, 1, 3), (40, 33, 1), (70, 70, 9), (300, 290, 5)):
        v = draw((m, k), dtype)
        taus = reference.geqrf(v)
        taus[::7] = 0
        c = draw((m, n), dtype, 1)
        found, expected = strided(c, layout), c.copy()
        dense.reflect(strided(v, layout), taus, found, adjoint=adjoint)
        reference.reflect(v, taus, expected, adjoint=adjoint)
        # a reflector whose tau is zero is the identity: what is left is a product of isometries
        allowed = 8 * m * np.finfo(dtype).eps * np.linalg.norm(c)
        assert np.linalg.norm(found - expected) <= allowed, (m, k, n)


@pytest.mark.parametrize("first", [0, 3])
def test_permute_exchanges_one_after_the_other(first: int) -> None:
    pivots = np.array([4, 1, 4, 3, 4, 8, 6, 7, 8, 9])
    for width in (1, 5, 3000):
        a = draw((13, width), "complex64")
        found, expected = a.copy(), a.copy()
        dense.permute(found, pivots, first=first)
        reference.permute(expected, pivots, first=first)
        assert np.array_equal(found, expected)
    untouched = draw((5, 4), "float64")
    before = untouched.copy()
    dense.permute(untouched, np.arange(5))
    dense.permute(untouched, np.zeros(0, np.int64))
    assert np.array_equal(untouched, before)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.usefixtures("cut")
def test_triangles_multiply_and_solve_as_the_reference_does(dtype: str) -> None:
    sizes = [(1, 1), (1, 6), (7, 1), (33, 20), (70, 9)]
    for options, (number, (k, n)) in itertools.product(TRIANGLES, enumerate(sizes)):
        layout = LAYOUTS[number % 3]
        t = triangle(k, dtype, unit=options["unit"])
        b = draw((n, k) if options["right"] else (k, n), dtype, 2)
        for name in ("trsm", "trmm"):
            found, expected = strided(b, layout), b.copy()
            getattr(blas, name)(strided(t, layout), found, **options)
            getattr(reference, name)(t, expected, **options)
            # the triangles have condition below 4
            allowed = 16 * (k + 1) * np.finfo(dtype).eps * max(1, np.linalg.norm(expected))
            assert np.linalg.norm(found - expected) <= allowed, (name, k, n, options)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("alpha", [1.0, -1.0, 0.5])
@pytest.mark.usefixtures("cut")
def test_products_with_a_factor_and_an_adjoint_on_the_right(
    dtype: str, layout: str, alpha: float
) -> None:
    for m, k, n in ((1, 1, 1), (5, 3, 1), (17, 33, 9), (64, 40, 129)):
        for adjoint in (False, True):
            a, b = draw((k, m) if adjoint else (m, k), dtype), draw((n, k), dtype, 1)
            start = draw((m, n), dtype, 2)
            found, expected = strided(start, layout), start.copy()
            options = {"alpha": alpha, "adjoint": adjoint, "right_adjoint": True}
            blas.gemm(found, strided(a, layout), strided(b, layout), **options)
            reference.gemm(expected, a, b, **options)
            left = np.abs(wide(a.T if adjoint else a))
            bound = 8 * (k + 2) * np.finfo(dtype).eps * (left @ np.abs(wide(b)).T + np.abs(start))
            assert np.all(np.abs(found - expected) <= bound), (m, k, n)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.usefixtures("cut")
def test_gram_matrix_of_rows_is_added_to_the_lower_triangle_only(dtype: str, layout: str) -> None:
    for n, k in ((1, 1), (9, 1), (33, 17), (64, 129)):
        a, start = draw((n, k), dtype), draw((n, n), dtype, 1)
        start[np.diag_indices(n)] = start.diagonal().real
        found, expected = strided(start, layout), start.copy()
        blas.syrk(found, strided(a, layout), alpha=-1.0, right_adjoint=True)
        reference.syrk(expected, a, alpha=-1.0, right_adjoint=True)
        both = np.abs(wide(a))
        bound = 8 * (k + 2) * np.finfo(dtype).eps * (both @ both.T + np.abs(start))
        assert np.all(np.abs(found - expected) <= bound), (n, k)
        upper = np.triu_indices(n, 1)
        assert np.array_equal(found[upper], start[upper])


def test_rows_are_exchanged_alike_on_any_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    a = np.random.default_rng(3).standard_normal((300, 257))
    pivots = np.array([min(i + (7 * i) % 11, 299) for i in range(250)])
    expected = a.copy()
    dense.permute(expected, pivots)
    monkeypatch.setattr(threads, "_LEAST_NBYTES", 0)
    for count in (2, 3):
        monkeypatch.setattr(threads, "_allowed", count)
        found = a.copy()
        dense.permute(found, pivots)
        assert np.array_equal(found, expected)
