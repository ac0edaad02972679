"""Tall QR, least squares, norms and non-negative factors on devices, as in the reference table."""

import contextlib
from typing import Any

import numpy as np
import pytest

import leptonhpc as lh
from leptonhpc.errors import NegativeValueError, NonFiniteError, OptionError
from leptonhpc.kernels import combine, held, primitives_of, settled, table
from leptonhpc.kernels.accelerated import pieces

KINDS = [
    "leptonhpc.testing.strict_device",
    "leptonhpc.testing.torch_device",
    "leptonhpc.testing.cuda_double",
]
with contextlib.suppress(OptionError):
    primitives_of("cuda")
    KINDS.append("cuda")
DTYPES = ["float32", "float64", "complex64", "complex128"]
ROWS, COLUMNS, SIDES = 170, 9, 2
EPS = float(np.finfo(float).eps)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name: str = request.param
    if name.endswith("torch_device"):
        pytest.importorskip("torch")
    monkeypatch.setattr(pieces, "PIECE_SIZE", 60 * COLUMNS)  # so that a band is some pieces
    return name


def drawn(dtype: str, *shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(seed)
    a = rng.standard_normal(shape)
    return (a + 1j * rng.standard_normal(shape) if dtype.startswith("c") else a).astype(dtype)


def folded(kind: str, kernel: str, blocks: list[Any], small: Any) -> tuple[Any, Any]:
    """Fold two bands on two lanes; give the joined accumulator and what was written."""
    f, blas = table(kind)[kernel], primitives_of(kind)
    total: dict[str, Any] = {}
    written = []
    for low, high in ((0, 70), (70, ROWS)):
        at = ((low, high), (0, blocks[0].shape[1]))
        acc = f.begin(small, ())
        there = [blas.put(np.ascontiguousarray(b[low:high])) for b in blocks]
        before = [blas.get(b) for b in there]
        written.append(f.step(acc, there, small, at))
        if not blas.is_host:  # a band may be resident: it is not changed
            assert all(
                np.array_equal(blas.get(b), o, equal_nan=True)
                for b, o in zip(there, before, strict=True)
            )
        combine(total, settled(held(acc, blas)))
    return total, None if written[0] is None else np.concatenate(written)


def require_alike(kind: str, kernel: str, blocks: list[Any], small: Any, eps: float = EPS) -> None:
    """Compare with the reference: sums of ROWS terms, solved with triangles near the identity."""
    found, y = folded(kind, kernel, blocks, small)
    expected, z = folded("reference", kernel, blocks, small)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        there = found[key]
        if key == "gram":
            there, value = np.tril(there), np.tril(value)  # noqa: PLW2901
        if key == "stacked":  # the signs of its rows are free
            there, value = there.conj().T @ there, value.conj().T @ value  # noqa: PLW2901
        size = max(1.0, float(np.max(np.abs(value))))
        assert np.max(np.abs(np.asarray(there) - value)) <= 8 * ROWS * eps * size, key
    assert (y is None) == (z is None)
    if y is not None:
        assert y.dtype == z.dtype
        written = 8 * ROWS * float(np.finfo(y.dtype).eps)
        assert np.max(np.abs(y - z)) <= written * np.max(np.abs(z))


@pytest.mark.parametrize("dtype", [*DTYPES, "int16"])
def test_norms_are_those_of_the_reference(kind: str, dtype: str) -> None:
    a = (10 * drawn("float64", ROWS, COLUMNS)).astype(dtype) if dtype == "int16" else drawn(
        dtype, ROWS, COLUMNS
    )  # fmt: skip
    require_alike(kind, "norms", [a], {"columns": COLUMNS, "power": 4.0})


@pytest.mark.parametrize("dtype", ["float32", "complex128", "int16"])
def test_norms_of_tiles_are_those_of_bands(kind: str, dtype: str) -> None:
    a = (drawn("float64", ROWS, COLUMNS) * 10).astype(dtype)
    small = {"columns": COLUMNS, "power": 1.0}
    expected, _ = folded("reference", "norms", [a], small)
    for device in (kind, "host", "reference"):
        f, blas = table(device)["norms"], primitives_of(device)
        total: dict[str, Any] = {}
        for low, high in ((0, 60), (60, 61), (61, ROWS)):  # a strip for each lane
            acc = f.begin(small, ())
            for first, last in ((0, 4), (4, 5), (5, COLUMNS)):
                tile = blas.put(np.ascontiguousarray(a[low:high, first:last]))
                f.step(acc, [tile], small, ((low, high), (first, last)))
            combine(total, settled(held(acc, blas)))
        assert total.keys() == expected.keys()
        for key, value in expected.items():
            allowed = 2 * ROWS * EPS * np.max(np.abs(value))
            assert np.max(np.abs(total[key] - value)) <= allowed, (device, key)


@pytest.mark.parametrize("dtype", ["float32", "complex128"])
@pytest.mark.parametrize("how", ["all", "shifted", "scaled", "a few"])
def test_moments_are_those_of_the_reference(kind: str, dtype: str, how: str) -> None:
    a = drawn(dtype, ROWS, COLUMNS)
    a[[3, 90, 91], [2, 2, 7]] = np.nan
    small = {
        "dtype": np.dtype(dtype), "columns": COLUMNS, "first": how != "a few", "most_rows": 80,
        "shift": drawn(dtype, COLUMNS, seed=1) if how == "shifted" else None, "name": "a",
        "unit_scale": 2.0**-9 if how == "scaled" else 1.0,
    }  # fmt: skip
    require_alike(kind, "moments", [a], small)


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_checks_of_orthonormal_columns_are_those_of_the_reference(kind: str, dtype: str) -> None:
    wide = np.result_type(dtype, np.float64)
    small = {"w": drawn(wide.name, COLUMNS, 3), "tile": 16}
    require_alike(kind, "isometry", [drawn(dtype, ROWS, COLUMNS)], small)


@pytest.mark.parametrize("dtype", ["float32", "complex128"])
@pytest.mark.parametrize("how", ["first", "write", "turn", "basis"])
def test_grams_of_solved_bands_are_those_of_the_reference(kind: str, dtype: str, how: str) -> None:
    wide = np.result_type(dtype, np.float64)
    n = COLUMNS
    triangles = [np.triu(drawn(wide.name, n, n, seed=s)) / 9 + 2 * np.eye(n) for s in (1, 2)]
    scale = 2.0 ** np.arange(-4, COLUMNS - 4)
    small = {
        "dtype": np.dtype(dtype), "wide": wide, "seed": 5, "name": "a", "columns": n, "tile": 16,
        "factors": triangles, "first": how == "first", "write": how in ("write", "turn"),
        "basis": (scale, drawn(wide.name, COLUMNS, 7, seed=3)) if how == "basis" else None,
        "turn": drawn(wide.name, n, n, seed=4) if how == "turn" else None,
    }  # fmt: skip
    # what is written is measured as written: both round to the dtype, at other numbers
    eps = float(np.finfo(dtype).eps) if small["write"] else EPS
    require_alike(kind, "solved_gram", [drawn(dtype, ROWS, COLUMNS)], small, eps)


@pytest.mark.parametrize("dtype", DTYPES)
def test_triangles_of_stacked_bands_are_those_of_the_reference(kind: str, dtype: str) -> None:
    small = {
        "columns": COLUMNS, "sides": SIDES, "wide": np.result_type(dtype, np.float64), "tile": 32,
        "names": ("a", "b"),
    }  # fmt: skip
    blocks = [drawn(dtype, ROWS, COLUMNS), drawn(dtype, ROWS, SIDES, seed=1)]
    require_alike(kind, "stack", blocks, small)


@pytest.mark.parametrize("dtype", ["float32", "complex128"])
@pytest.mark.parametrize("scaled", [False, True])
def test_residuals_and_shortest_solutions_are_those_of_the_reference(
    kind: str, dtype: str, scaled: bool
) -> None:
    wide = np.result_type(dtype, np.float64)
    x = drawn(wide.name, COLUMNS, SIDES, seed=2)
    scales: Any = (4.0, 0.5)
    if scaled:
        scales = (2.0, 2.0 ** np.arange(SIDES))
    small = {
        "x": x, "scales": scales, "tile": 16, "dtype": np.dtype(dtype), "held": True, "rows": ROWS,
        "left": x, "parts": [x, 0.25 * x], "write": True,
    }  # fmt: skip
    a, b = drawn(dtype, ROWS, COLUMNS), drawn(dtype, ROWS, SIDES, seed=1)
    require_alike(kind, "residual", [a, b], small)
    require_alike(kind, "shortest", [a], small, float(np.finfo(dtype).eps))


@pytest.mark.parametrize("kernel", ["hals", "kl_update"])
@pytest.mark.parametrize(
    ("start", "dtype"),
    [
        ("previous", "float32"), ("random", "float64"), ("split", "float32"), ("zero", "float64"),
        ("given", "float64"),
    ],
)  # fmt: skip
def test_sweeps_of_nonnegative_factors_are_those_of_the_reference(
    kind: str, kernel: str, start: str, dtype: str
) -> None:
    k = 3
    ht = np.abs(drawn(dtype, COLUMNS, k, seed=1))
    if start == "previous":
        ht[:, 1] = 0  # a component that is gone
    x, before = np.abs(drawn(dtype, ROWS, COLUMNS)), drawn(dtype, ROWS, k, seed=2)
    small = {
        "dtype": np.dtype(dtype), "ht": ht, "p": ht.astype(float).T @ ht, "sums": ht.sum(axis=0),
        "first": start != "previous", "start": start, "inner": 3, "settle": 0.0, "seed": 4,
        "turn": np.array([1, -1, 1]), "factor": np.array([1.0, 0.5, 2]), "fill": 0.25,
        "name": "x", "transposed": False, "edges": ((0, ROWS), (0, COLUMNS)),
    }  # fmt: skip
    before = before if start == "split" else np.abs(before)
    # rows are improved three times from what rounded like sums of COLUMNS terms
    require_alike(kind, kernel, [x, before], small, float(np.finfo(dtype).eps))


@pytest.mark.parametrize("loss", ["frobenius", "kullback-leibler"])
def test_rows_are_solved_for_on_the_device(
    kind: str, loss: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    h = np.abs(drawn("float64", 3, COLUMNS, seed=1))
    x = np.abs(drawn("float64", 60, 3)) @ h
    monkeypatch.setenv("LEPTONHPC_DEVICE", kind)
    r = lh.nmf(x, h0=h, update_h=False, loss=loss, tol=1e-4)
    assert r.certificate.converged
    assert np.linalg.norm(np.asarray(r.w) @ h - x) <= 1e-2 * np.linalg.norm(x)


def test_overflow_of_a_gram_matrix_is_told(kind: str) -> None:
    small = {
        "dtype": np.dtype("f8"), "wide": np.dtype("f8"), "seed": 0, "name": "a", "tile": 16,
        "columns": COLUMNS, "factors": [], "first": False, "write": False, "basis": None,
        "turn": None,
    }  # fmt: skip
    acc, _ = folded(kind, "solved_gram", [1e200 * drawn("float64", ROWS, COLUMNS)], small)
    assert acc["max_overflow"] == 1
    assert not acc["gram"].any()


def test_what_is_not_finite_is_named(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEPTONHPC_DEVICE", kind)
    a = drawn("float64", ROWS, COLUMNS)
    a[97, 3] = np.nan
    factored = {loss: lambda x, loss=loss: lh.nmf(np.abs(x), rank=2, init="random", loss=loss)
                for loss in ("frobenius", "kullback-leibler")}  # fmt: skip
    for ask in (lh.norm, lh.qr, lambda x: lh.lstsq(x, np.ones(ROWS)), *factored.values()):
        with pytest.raises(NonFiniteError, match=r"\(97, 3\)"):
            ask(a)
    a = np.abs(a)
    a[97, 3] = -2
    with pytest.raises(NegativeValueError, match=r"-2.0 at index \(97, 3\)"):
        lh.nmf(a, rank=2, init="random")


@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_drivers_give_what_they_give_on_the_host(
    kind: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = drawn(dtype, ROWS, COLUMNS), drawn(dtype, ROWS, SIDES, seed=1)
    deficient = a.copy()
    deficient[:, 4] = deficient[:, 2]
    questions: list[Any] = [
        lambda: lh.qr(a), lambda: lh.qr(deficient), lambda: lh.lstsq(a, b),
        lambda: lh.lstsq(a.conj().T, b[:COLUMNS]), lambda: lh.norm(a), lambda: lh.norm(a, ord=1),
    ]  # fmt: skip
    host = [question() for question in questions]
    monkeypatch.setenv("LEPTONHPC_DEVICE", kind)
    there = [question() for question in questions]
    eps = 8 * ROWS * float(np.finfo(dtype).eps)
    for found, expected in zip(there, host, strict=True):
        assert found.certificate.converged
        assert found.certificate.computed == expected.certificate.computed or not hasattr(
            found, "arrays"
        )
    for name in ("q", "r"):
        assert np.max(np.abs(getattr(there[0], name) - getattr(host[0], name))) <= eps * 20
    product = there[1].q @ there[1].r
    assert np.max(np.abs(product - deficient)) <= eps * np.max(np.abs(deficient))
    for i in (2, 3):
        assert np.max(np.abs(there[i].x - host[i].x)) <= eps * there[i].certificate.condition
    assert [float(r) for r in there[4:]] == pytest.approx([float(r) for r in host[4:]], rel=eps)


@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_dense_drivers_give_what_they_give_on_the_host(
    kind: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    g, b = drawn(dtype, 40, 40), drawn(dtype, 40, seed=1)
    square, definite = g + 12 * np.eye(40, dtype=dtype), g @ g.conj().T + 40 * np.eye(40)
    definite = ((definite + definite.conj().T) / 2).astype(dtype)
    questions: dict[str, Any] = {
        "pinv": lambda: lh.pinv(g[:, :9]).pinv, "polar": lambda: lh.polar(g[:, :9]).u,
        "inv": lambda: lh.inv(square).x, "cg": lambda: lh.cg(definite, b, tol=1e-6).x,
        "mixed": lambda: lh.solve(square, b, precision="mixed").x,
        "cond": lambda: float(lh.cond(g[:, :9])), "rank": lambda: int(lh.matrix_rank(g[:, :9])),
        "eigh": lambda: lh.eigh(definite).eigenvalues,
    }  # fmt: skip
    monkeypatch.setenv("LEPTONHPC_DEVICE", "host")
    host = {name: np.asarray(question()) for name, question in questions.items()}
    monkeypatch.setenv("LEPTONHPC_DEVICE", kind)
    for name, question in questions.items():
        # condition numbers are below 10; order 40
        allowed = 10 * 40 * float(np.finfo(dtype).eps) * np.linalg.norm(host[name])
        assert np.linalg.norm(np.asarray(question()) - host[name]) <= allowed, name
