"""Host primitives against the reference, for every dtype and layout; and without the GIL."""

import threading
import time
from collections.abc import Callable
from dataclasses import fields

import numpy as np
import pytest

from leptonhpc.kernels import blas, dense, reference
from leptonhpc.kernels.tables import primitives_of

_BLAS, _DENSE = blas.__name__, dense.__name__

DTYPES = ["float32", "float64", "complex64", "complex128"]
SIZES = [
    (1, 1, 1),
    (1, 7, 1),
    (7, 1, 5),
    (5, 3, 1),
    (1, 1, 9),
    (17, 33, 9),
    (64, 40, 129),
    (70, 33, 2),
    (33, 90, 4),
]


def draw(shape: tuple[int, ...], dtype: str, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    a = rng.standard_normal(shape)
    return (a + 1j * rng.standard_normal(shape) if dtype.startswith("c") else a).astype(dtype)


def allowed(a: np.ndarray, b: np.ndarray, c: np.ndarray, k: int) -> np.ndarray:
    """Give gamma_k |A||B| + eps |C|, twice: for the product here and for the reference."""
    wide = [np.abs(x.astype(complex)) for x in (a, b, c)]
    return 4 * (k + 2) * np.finfo(c.dtype).eps * (wide[0] @ wide[1] + wide[2])


def strided(a: np.ndarray, layout: str) -> np.ndarray:
    """Give equal values behind other strides: padded rows, every other row, columns contiguous."""
    m, n = a.shape
    if layout == "padded":
        big = np.full((m, n + 5), 7, a.dtype)
        big[:, 2 : n + 2] = a
        return big[:, 2 : n + 2]
    if layout == "every other row":
        big = np.full((2 * m, n), 7, a.dtype)
        big[::2] = a
        return big[::2]
    return np.asfortranarray(a) if layout == "fortran" else a


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["plain", "padded", "every other row", "fortran"])
@pytest.mark.parametrize("adjoint", [False, True])
@pytest.mark.usefixtures("cut")
def test_gemm_accumulates_the_product_of_any_layout(dtype: str, layout: str, adjoint: bool) -> None:
    for m, k, n in SIZES:
        a = draw((k, m) if adjoint else (m, k), dtype, 1)
        b, start = draw((k, n), dtype, 2), draw((m, n), dtype, 3)
        expected, found = start.copy(), strided(start, layout if layout != "fortran" else "plain")
        found = found.copy() if layout == "plain" else found
        left = a if adjoint and layout == "fortran" else strided(a, layout)
        reference.gemm(expected, a, b, adjoint=adjoint)
        blas.gemm(found, left, strided(b, layout), adjoint=adjoint)
        bound = allowed(a.conj().T if adjoint else a, b, start, k)
        assert np.all(np.abs(found - expected) <= bound), (m, k, n)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["plain", "padded", "every other row"])
@pytest.mark.usefixtures("cut")
def test_syrk_accumulates_the_lower_triangle_and_touches_no_other(dtype: str, layout: str) -> None:
    for k, _, n in SIZES:
        a, start = draw((k, n), dtype, 1), draw((n, n), dtype, 2)
        start[np.diag_indices(n)] = start.real.diagonal()  # as of a Hermitian matrix
        expected, found = start.copy(), strided(start.copy(), layout)
        reference.syrk(expected, a)
        blas.syrk(found, strided(a, layout))
        bound = allowed(a.conj().T, a, start, k)
        assert np.all(np.abs(found - expected) <= bound), (k, n)
        upper = np.triu_indices(n, 1)
        assert np.array_equal(found[upper], start[upper])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.usefixtures("cut")
def test_products_without_terms_leave_the_accumulator(dtype: str) -> None:
    c = draw((4, 3), dtype, 0)
    before = c.copy()
    blas.gemm(c, np.empty((4, 0), dtype), np.empty((0, 3), dtype))
    square = draw((3, 3), dtype, 1)
    kept = square.copy()
    blas.syrk(square, np.empty((0, 3), dtype))
    assert np.array_equal(c, before)
    assert np.array_equal(square, kept)


@pytest.mark.parametrize(
    "view",
    [
        lambda a: a[::-1],
        lambda a: a[:, ::-1],
        lambda a: a[:, ::2][:, :4].repeat(1, axis=1)[::-1, :],
        lambda a: np.broadcast_to(a[0], a.shape),
        lambda a: a[:, ::2],
        lambda a: np.ndarray(a.shape, a.dtype, bytes(a.nbytes + 4 * len(a)), strides=(68, 8)),
    ],
    ids=["reversed rows", "reversed columns", "both", "repeated row", "every other column", "odd"],
)  # fmt: skip
def test_layouts_that_blas_cannot_take_are_refused_or_right(view: object) -> None:
    a = view(draw((8, 8), "float64", 1))
    b, c = draw((a.shape[1], 3), "float64", 2), np.zeros((a.shape[0], 3))
    gram = np.zeros((a.shape[1],) * 2)
    for call, expected, found in (
        (lambda: blas.gemm(c, a, b), a @ b, c),
        (lambda: blas.syrk(gram, a), np.tril(a.T @ a), gram),
    ):
        try:
            call()
        except ValueError:
            continue
        assert np.allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_unlike_dtypes_are_refused_not_reinterpreted() -> None:
    a, b = draw((4, 4), "float32", 1), draw((4, 4), "float64", 2)
    with pytest.raises((TypeError, ValueError)):
        blas.gemm(np.zeros((4, 4)), a, b)
    with pytest.raises((TypeError, ValueError)):
        blas.syrk(np.zeros((4, 4)), a)


def test_unlike_shapes_are_refused_not_read_past_their_end() -> None:
    with pytest.raises(ValueError, match=r".+"):
        blas.gemm(np.zeros((4, 3)), np.ones((4, 5)), np.ones((6, 3)))
    with pytest.raises(ValueError, match=r".+"):
        blas.syrk(np.zeros((3, 3)), np.ones((5, 4)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("factor", [1.0, 2.0**-80, 2.0**80])
def test_sums_of_squares_are_accumulated_in_double_precision(dtype: str, factor: float) -> None:
    for size in (1, 31, 1000, 300_000):
        a = draw((size, 1), dtype, 1) * np.asarray(factor, dtype)
        expected = reference.sum_of_squares(a)
        # sums of blocks and of vector lanes: sqrt(n) of random roundings, with a margin of 16
        assert abs(blas.sum_of_squares(a) - expected) <= (
            16 * np.sqrt(size) * np.finfo(float).eps * expected
        )


@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_of_squares_take_any_layout(dtype: str) -> None:
    a = draw((30, 20), dtype, 1)
    expected = reference.sum_of_squares(a)
    for view in (a, np.asfortranarray(a), strided(a, "padded"), a[::-1], a.T):
        assert blas.sum_of_squares(view) == pytest.approx(expected, rel=1e-13)
    assert blas.sum_of_squares(a[:0]) == 0


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_sums_of_squares_show_what_is_not_finite(value: float) -> None:
    for dtype in DTYPES:
        a = np.ones((10, 10), dtype)
        a[7, 7] = value
        assert not np.isfinite(blas.sum_of_squares(a))


LONG_CALLS = [
    "gemm", "syrk", "trsm", "trmm", "sum_of_squares", "potrf", "getrf", "permute", "geqrf",
    "reflect",
]  # fmt: skip


@pytest.fixture(scope="module")
def long_calls() -> dict[str, Callable[[], object]]:
    """Give a call of every host primitive that lasts milliseconds, however often it is made."""
    n = 900
    a = np.random.default_rng(0).standard_normal((n, n))
    spd = a @ a.T + n * np.eye(n)
    lower = np.linalg.cholesky(spd) / np.sqrt(n)
    c, long = np.zeros((n, n)), np.ones(6_000_000)
    panel, wide = np.tile(a[:, :400], (3, 1)), np.zeros((n, 12 * n))
    reflectors = panel.copy()
    taus = dense.geqrf(reflectors)
    sides, pivots = np.zeros((len(panel), n)), np.arange(n)[::-1][: n // 2].copy()
    return {
        "gemm": lambda: blas.gemm(c, a, a),
        "syrk": lambda: blas.syrk(c, a),
        "trsm": lambda: blas.trsm(c, lower),
        "trmm": lambda: blas.trmm(c, lower),
        "sum_of_squares": lambda: blas.sum_of_squares(long),
        "potrf": lambda: dense.potrf(spd.copy()),
        "getrf": lambda: dense.getrf(a.copy()),
        "permute": lambda: dense.permute(wide, pivots),
        "geqrf": lambda: dense.geqrf(panel.copy()),
        "reflect": lambda: dense.reflect(reflectors, taus, sides),
    }


def test_every_host_primitive_is_shown_to_release_the_gil() -> None:
    host = primitives_of("host")
    brought = {field.name: getattr(host, field.name) for field in fields(host)}
    ours = {n for n, f in brought.items() if getattr(f, "__module__", "") in (_BLAS, _DENSE)}
    assert ours == set(LONG_CALLS)


@pytest.mark.parametrize("name", LONG_CALLS)
def test_python_runs_on_while_one_long_call_computes(
    name: str, long_calls: dict[str, Callable[[], object]]
) -> None:
    def ticks_a_call() -> float:
        spans: list[tuple[float, float]] = []

        def compute() -> None:
            stop = time.perf_counter() + 0.1
            while time.perf_counter() < stop:
                began = time.perf_counter()
                long_calls[name]()
                spans.append((began, time.perf_counter()))

        thread = threading.Thread(target=compute)
        ticks = []
        thread.start()
        while thread.is_alive():
            ticks.append(time.perf_counter())
            time.sleep(0)  # offers the GIL
        thread.join()
        edges = np.searchsorted(ticks, np.ravel(spans))
        return float(np.sum(edges[1::2] - edges[::2])) / len(spans)

    long_calls[name]()  # the routine is found and the pages are there
    # a call that held the GIL would see it change hands at its two ends only; one that does not
    # lasts milliseconds, a tick microseconds. The machine is shared: once is enough
    assert any(ticks_a_call() > 5 for _ in range(30))


def test_two_threads_are_inside_syrk_at_the_same_time() -> None:
    a = np.random.default_rng(0).standard_normal((1000, 1000))
    blas.syrk(np.zeros((1000, 1000)), a)
    began, ended = [], []
    barrier = threading.Barrier(2)

    def compute() -> None:
        c = np.ones((1000, 1000))
        barrier.wait()
        began.append(time.perf_counter())
        blas.syrk(c, a)
        ended.append(time.perf_counter())

    overlaps: list[float] = []
    # the machine is shared: once is enough
    while len(overlaps) < 100 and max(overlaps, default=0) <= 0.3:
        began.clear()
        ended.clear()
        threads = [threading.Thread(target=compute) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        shared = min(ended) - max(began)
        overlaps.append(shared / (max(ended) - min(began)))
    # one after the other, the second would begin when the first has ended
    assert max(overlaps) > 0.3
