"""What a device does is what the host does, on three devices: none of them mixes its arrays."""

import itertools
import pickle
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

import leptonhpc as lh
from leptonhpc.errors import NotPositiveDefiniteError, OptionError
from leptonhpc.kernels import dense, held, primitives_of, settled, table, taken
from leptonhpc.kernels.accelerators import accelerator
from leptonhpc.kernels.cuda import factorisations
from leptonhpc.kernels.fold import Blas
from leptonhpc.kernels.host import HOST

DEVICES = [
    "leptonhpc.testing.strict_device", "leptonhpc.testing.torch_device",
    "leptonhpc.testing.cuda_double",
]  # fmt: skip
with suppress(OptionError):  # where there is a GPU, it is one of them
    primitives_of("cuda")
    DEVICES.append("cuda")
DTYPES = ["float32", "float64", "complex64", "complex128"]
N = 270  # more than two of the parts that go to the host


@pytest.fixture(params=DEVICES)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if name.endswith("torch_device"):
        pytest.importorskip("torch")
    return name


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with threadpool_limits(1):
        yield


@pytest.fixture
def device(kind: str) -> Blas:
    return primitives_of(kind)


@pytest.fixture
def on(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEPTONHPC_DEVICE", kind)


def drawn(dtype: str, *shape: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    a = rng.standard_normal(shape)
    return (a + 1j * rng.standard_normal(shape) if dtype.startswith("c") else a).astype(dtype)


def apart(p: Any, q: Any) -> float:
    return float(np.max(np.abs(p - q)) / np.max(np.abs(q)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["trsm", "trmm"])
def test_triangles_of_every_kind_are_used_as_the_host_uses_them(
    device: Blas, dtype: str, name: str
) -> None:
    t = (drawn(dtype, N, N) / N + 3 * np.eye(N)).astype(dtype)
    for flags in itertools.product([False, True], repeat=4):
        how = dict(zip(("right", "lower", "adjoint", "unit"), flags, strict=True))
        b = drawn(dtype, *((50, N) if how["right"] else (N, 50)), seed=1)
        expected, there = b.copy(), device.put(b)
        getattr(HOST, name)(t, expected, **how)
        getattr(device, name)(device.put(t), there, **how)
        # a well conditioned triangle: sums of N terms, both ways
        assert apart(device.get(there), expected) <= 4 * N * np.finfo(dtype).eps, how


@pytest.mark.parametrize("dtype", DTYPES)
def test_factors_multiply_to_the_matrix(
    device: Blas, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(factorisations, "_MOST_NUMBERS", 20_000)  # several of cuSOLVER's too
    eps = np.finfo(dtype).eps
    a = drawn(dtype, N, N)
    definite = (a @ a.conj().T + N * np.eye(N)).astype(dtype)
    there = device.put(definite)
    device.potrf(there)
    lower = np.tril(device.get(there))
    assert apart(lower @ lower.conj().T, definite) <= N * eps  # Higham, Theorem 10.3
    for m, n in [(N, N), (N + 90, N - 40), (N - 40, N + 90)]:
        a, rank = drawn(dtype, m, n, seed=2), min(m, n)
        there = device.put(a)
        pivots = device.getrf(there)
        packed = device.get(there)
        lower, upper = np.tril(packed[:, :rank], -1) + np.eye(m, rank), np.triu(packed[:rank])
        permuted = a[dense.permutation(pivots, m)]
        growth = np.abs(upper).max() / np.abs(a).max()
        assert apart(lower @ upper, permuted) <= N * eps * growth
        there = device.put(a)
        taus = device.geqrf(there)
        c = device.put(a)
        reflectors = there[:, :rank]
        device.reflect(reflectors, taus, c, adjoint=True)
        assert apart(np.triu(device.get(there)), device.get(c)) <= 4 * N * eps  # Q^H A = R
        device.reflect(reflectors, taus, c)
        assert apart(device.get(c), a) <= 4 * N * eps
    w, rows = device.syevd(device.put(definite))
    found = device.get(rows)
    assert apart(found @ definite, w[:, None] * found) <= 4 * N * eps
    assert apart(found @ found.conj().T, np.eye(N)) <= 4 * N * eps
    w, rows = device.syevd(device.put(np.zeros((3, 3), dtype)))
    assert not w.any()
    assert np.array_equal(np.abs(device.get(rows)), np.eye(3))


@pytest.mark.parametrize("bad", ["indefinite", "nan"])
def test_a_matrix_that_is_not_definite_is_named_by_its_order(
    device: Blas, bad: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(factorisations, "_MOST_NUMBERS", 20_000)  # it is in the second half
    a = np.eye(N)
    a[200, 200] = np.nan if bad == "nan" else -1.0
    with pytest.raises(NotPositiveDefiniteError) as error:
        device.potrf(device.put(a))
    assert error.value.order == 201


def test_a_column_without_a_pivot_leaves_a_zero(device: Blas) -> None:
    a = np.ones((4, 4))
    there = device.put(a)
    device.getrf(there)
    assert device.get(there)[1, 1] == 0


M, COLUMNS, WIDTH = 2300, 13, 4
CONDITIONS: list[dict[str, Any]] = [
    {},
    {"shift": np.arange(13.0), "missing": "mean", "fill": np.full(13, 0.5)},
    {"unit_scale": 2.0**-7},
    {"features": "rows", "center": True},
    {"features": "rows", "center": True, "scale": "std", "missing": "mean"},
    {"features": "rows", "scale": np.linspace(1, 2, 2300), "weights": np.linspace(3, 4, 2300)},
]


@pytest.mark.parametrize(("dtype", "order"), [("float32", "C"), ("complex128", "F")])
@pytest.mark.parametrize("kernel", ["gram", "gram_narrow", "normal", "sketch", "rotate"])
@pytest.mark.parametrize("condition", range(len(CONDITIONS)))
def test_bands_are_conditioned_and_folded_as_on_the_host(
    kind: str, device: Blas, dtype: str, kernel: str, condition: int, order: str
) -> None:
    x = np.array(drawn(dtype, M, COLUMNS), order=order)  # type: ignore[call-overload]
    given = CONDITIONS[condition]
    if given.get("missing") == "mean":
        x[17, 3] = x[2000, 0] = np.nan
    small = small_of(kernel, dtype) | given
    if kernel == "rotate":
        x[np.isnan(x)] = 0
    host, y = folded("host", kernel, x, small)
    there, z = folded(kind, kernel, x, small)
    eps = float(np.finfo("float32" if kernel == "gram_narrow" else dtype).eps)
    assert_same_sums(there, host, eps)
    assert (y is None) == (z is None)
    assert y is None or apart(z, y) <= 64 * np.sqrt(COLUMNS) * eps


@pytest.mark.parametrize("kernel", ["gram", "gram_narrow", "normal", "sketch", "rotate"])
@pytest.mark.parametrize("back", [False, True])
def test_sums_of_another_kind_of_worker_are_gone_on_with(
    kind: str, kernel: str, back: bool
) -> None:
    x, small = drawn("float64", M, COLUMNS), small_of(kernel, "float64")
    kinds = (kind, "host") if back else ("host", kind)
    eps = float(np.finfo("float32" if kernel == "gram_narrow" else float).eps)
    alone, _ = folded("host", kernel, x, small)
    together, _ = folded(kinds[0], kernel, x, small, then=kinds[1])
    assert_same_sums(together, alone, eps)


def small_of(kernel: str, dtype: str) -> dict[str, Any]:
    small = {
        "dtype": np.dtype(dtype), "rows": M, "columns": COLUMNS, "features": "columns",
        "shift": None, "fill": None, "factor": None, "missing": "raise", "center": False,
        "scale": None, "weights": None, "transposed": False, "name": "x", "first": True,
        "w": drawn(dtype, COLUMNS, WIDTH, seed=1), "y_gram": True, "psi": 9, "theta": 16,
        "seed": 3, "unit_scale": 1.0, "offset": None, "edges": ((0,), (0,)),
    }  # fmt: skip
    if kernel == "rotate":
        w = drawn(dtype, COLUMNS + 2, WIDTH, seed=2).astype(np.result_type(dtype, float))
        small |= {"w": w, "offset": np.arange(WIDTH), "fresh": 2, "write": True}
    return small


def assert_same_sums(found: Any, expected: Any, eps: float) -> None:
    assert found.keys() == expected.keys()
    for key in expected.keys() - {"steps"}:
        p, q = np.asarray(found[key]), np.asarray(expected[key])
        if key in ("gram", "y_gram", "narrow"):
            p, q = np.tril(p), np.tril(q)
        # sums of M products, in another order; sums that cancel count by what was added
        size = max(1.0, float(np.max(np.abs(q)))) if key != "sum" else M * 13
        assert np.max(np.abs(p - q), initial=0) <= 8 * np.sqrt(M) * eps * size, key


def folded(
    kind: str, kernel: str, x: np.ndarray, small: dict[str, Any], *, then: str | None = None
) -> tuple[Any, Any]:
    """Fold two bands, the second on a worker of another kind if that is asked for."""
    fold, rows = table(kind)[kernel], []
    acc = fold.begin(small, ((0, M), (0, COLUMNS)))
    for low, high in ((0, 1000), (1000, M)):
        if low and then is not None:
            travelled = pickle.loads(pickle.dumps(held(acc, fold.blas)))
            fold = table(then)[kernel]
            acc = taken(travelled, fold.blas)
        block: Any = np.array(x[low:high], order="K")
        if not fold.blas.is_host:
            block = fold.blas.stage(block.shape, block.dtype, lambda _, block=block: block)
        rows.append(fold.step(acc, [block], small, ((low, high), (0, COLUMNS))))
    return settled(held(acc, fold.blas)), None if rows[0] is None else np.concatenate(rows)


@pytest.mark.usefixtures("on")
@pytest.mark.parametrize("dtype", ["float64", "complex64"])
@pytest.mark.parametrize("driver", ["cholesky", "lu", "qr", "eigh", "inv", "polar"])
def test_factorisations_run_on_the_device_and_are_certified(
    kind: str, driver: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    n = 260
    a = drawn(dtype, n, n)
    definite = a @ a.conj().T / n + np.eye(n)
    matrix = ((definite + definite.conj().T) / 2).astype(dtype)
    called = counted(kind, monkeypatch)
    result = getattr(lh, driver)(matrix, memory="300 MB")
    assert result.certificate.converged
    root = {"cholesky": "potrf", "lu": "getrf", "qr": "geqrf", "eigh": "syevd", "inv": "getrf"}
    assert called[root.get(driver, "gemm")] > 0


def counted(kind: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Count the calls of a device's primitives."""
    from dataclasses import replace

    from leptonhpc.kernels import tables

    blas, calls = (
        primitives_of(kind),
        dict.fromkeys(("gemm", "potrf", "getrf", "geqrf", "syevd"), 0),
    )

    def counting(name: str) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            calls[name] += 1
            return getattr(blas, name)(*arguments, **options)

        return call

    monkeypatch.setitem(tables.DEVICES, kind, replace(blas, **{n: counting(n) for n in calls}))
    table.cache_clear()
    return calls


@pytest.fixture(autouse=True)
def _tables_afresh() -> Iterator[None]:
    yield
    table.cache_clear()  # one may have been made of primitives that are counted


@pytest.mark.usefixtures("on")
@pytest.mark.parametrize("assume", ["gen", "pos"])
def test_systems_are_solved_on_the_device(assume: Any) -> None:
    n = 260
    a = drawn("float64", n, n)
    matrix = a @ a.T / n + np.eye(n)
    b = drawn("float64", n, 5, seed=4)
    x = np.asarray(lh.solve(matrix, b, assume=assume, memory="300 MB").x)
    scale = np.linalg.norm(matrix) * np.linalg.norm(x) + np.linalg.norm(b)
    assert np.linalg.norm(matrix @ x - b) <= n * np.finfo(float).eps * scale


@pytest.mark.usefixtures("on")
@pytest.mark.parametrize("method", ["gram", "krylov", "sketch"])
@pytest.mark.parametrize("wide", [False, True])
def test_values_are_the_hosts_for_tall_and_wide(
    method: Any, wide: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = drawn("float64", 900, 5) @ drawn("float64", 5, 120, seed=1)
    a = np.ascontiguousarray(a.T) if wide else a
    options: dict[str, Any] = {"rank": 5, "method": method, "memory": "300 MB"}
    there = lh.svd(a, **options)
    monkeypatch.setenv("LEPTONHPC_DEVICE", "host")
    here = lh.svd(a, **options)
    assert np.max(np.abs(there.s - here.s)) <= 900 * np.finfo(float).eps * here.s[0]


@pytest.mark.usefixtures("on")
def test_iterations_stay_on_the_device_between_bands() -> None:
    a, b = drawn("float64", 900, 30), drawn("float64", 900, seed=1)
    x = np.asarray(lh.lsmr(a, b, memory="300 MB").x)
    expected = np.linalg.lstsq(a, b, rcond=None)[0]
    assert np.linalg.norm(x - expected) <= 1e-6 * np.linalg.norm(expected)  # its default tol


@pytest.mark.usefixtures("on")
def test_narrow_integers_are_widened_on_the_device() -> None:
    a = np.random.default_rng(0).integers(-3, 4, (900, 40)).astype(np.int8)
    found = lh.svd(a, rank=3, memory="300 MB").s
    expected = np.linalg.svd(a.astype(float), compute_uv=False)[:3]
    assert np.max(np.abs(found - expected)) <= 900 * np.finfo(float).eps * expected[0]


class Copies(np.ndarray[Any, Any]):
    """Arrays whose parts are copies."""

    def __getitem__(self, key: Any) -> Any:
        return np.array(super().__getitem__(key))


@pytest.mark.parametrize(
    ("put", "get", "message"),
    [
        (lambda host: host, np.array, "put= is a copy"),
        (np.array, lambda there: there, "get= is a copy"),
        (np.array, lambda there: np.broadcast_to(there, there.shape), "may be changed"),
        (lambda host: host.astype("f4"), np.array, "comes back from the device as float32"),
        (lambda host: np.array(host).view(Copies), np.array, "slices .* are views"),
    ],
)
def test_a_device_that_would_give_wrong_numbers_is_refused(
    put: Any, get: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        accelerator(np, np.ndarray, put=put, get=get)
