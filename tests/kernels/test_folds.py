"""Folds of the host against those of the reference table, and against their formulas."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptonhpc.errors import CoverageError, OptionError
from leptonhpc.kernels import DEVICES, combine, table
from leptonhpc.kernels.products import mirrored
from leptonhpc.kernels.random import gaussian_rows

DTYPES = ["float32", "float64", "complex64", "complex128"]
M, N, WIDTH = 2300, 13, 4  # more than two tiles of 1024 rows
BOTH = ["host", "reference"]


def data(dtype: str, seed: int = 0, shape: tuple[int, int] = (M, N)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    a = rng.standard_normal(shape)
    return (a + 1j * rng.standard_normal(shape) if dtype.startswith("c") else a).astype(dtype)


def small_for(dtype: str, **more: object) -> dict[str, object]:
    given_ = {
        "dtype": np.dtype(dtype), "rows": M, "columns": N, "features": "columns", "shift": None,
        "fill": None, "factor": None, "missing": "raise", "center": False, "scale": None,
        "weights": None, "transposed": False, "unit": (1, 1), "name": "x", "first": True,
        "w": data(dtype, 1, (N, WIDTH)), "y_gram": True, "psi": 9, "theta": 16, "seed": 3,
        "unit_scale": 1.0, "power": 1.0, "offset": None,
    }  # fmt: skip
    return {**given_, **more}


def fold(device: str, kernel: str, x: np.ndarray, small: dict, cuts: tuple[int, ...] = (0, M)):
    """Fold bands in turn; give the accumulator and what was to be written."""
    f = table(device)[kernel]
    whole = ((0, M), (0, N))
    acc, written = f.begin(small, whole), []
    for low, high in zip(cuts, cuts[1:], strict=False):
        written.append(f.step(acc, [x[low:high].copy()], small, ((low, high), (0, N))))
    return acc, None if written[0] is None else np.concatenate(written)


def close(p: object, q: object, dtype: str, size: float) -> bool:
    # sums of m products in the dtype of computing, |x| up to 5: gamma_m, as random roundings
    eps = np.finfo(dtype).eps
    return bool(np.all(np.abs(np.asarray(p) - np.asarray(q)) <= 16 * np.sqrt(M) * eps * size))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kernel", ["moments", "gram", "normal", "sketch", "norms"])
@pytest.mark.parametrize("cuts", [(0, M), (0, 1, 700, 1724, M)])
def test_host_folds_equal_those_of_the_reference(
    dtype: str, kernel: str, cuts: tuple[int, ...]
) -> None:
    x, small = data(dtype), small_for(dtype)
    host, y = fold("host", kernel, x, small, cuts)
    slow, z = fold("reference", kernel, x, small)
    assert host.keys() == slow.keys()
    for key in host:
        size = float(np.max(np.abs(slow[key]), initial=1.0))
        found, expected = host[key], slow[key]
        if key in ("gram", "y_gram"):
            found, expected = np.tril(found), np.tril(expected)
        assert close(found, expected, dtype, size), key
    assert (y is None) == (z is None)
    assert y is None or close(y, z, dtype, float(np.max(np.abs(z))))


@pytest.mark.parametrize("device", BOTH)
@pytest.mark.parametrize("dtype", DTYPES)
def test_gram_is_the_adjoint_times_the_matrix_in_double(device: str, dtype: str) -> None:
    x = data(dtype)
    acc, _ = fold(device, "gram", x, small_for(dtype))
    wide = x.astype(np.result_type(x, float))
    expected = wide.conj().T @ wide
    assert acc["gram"].dtype == wide.dtype
    # whatever the dtype of the data: double precision
    assert close(np.tril(acc["gram"]), np.tril(expected), "float64", float(np.abs(expected).max()))
    assert close(acc["sum"], wide.sum(axis=0), "float64", np.sqrt(M) * 5)


@pytest.mark.parametrize("device", BOTH)
@pytest.mark.parametrize("dtype", DTYPES)
def test_normal_gives_both_products_and_the_square_of_the_norm(device: str, dtype: str) -> None:
    x, small = data(dtype), small_for(dtype)
    acc, y = fold(device, "normal", x, small, (0, 1024, M))
    wide = x.astype(np.result_type(x, float))
    product = wide @ small["w"]
    assert close(y, product, dtype, float(np.abs(product).max()))
    assert close(acc["z"], wide.conj().T @ product, dtype, float(np.abs(acc["z"]).max()))
    assert close(acc["square"], np.sum(np.abs(wide) ** 2), "float64", acc["square"])
    gram = y.astype(wide.dtype)
    gram = gram.conj().T @ gram
    assert close(np.tril(acc["y_gram"]), np.tril(gram), "float64", float(np.abs(gram).max()))


@pytest.mark.parametrize("device", BOTH)
@pytest.mark.parametrize("dtype", DTYPES)
def test_sketch_is_the_random_matrix_times_the_data_by_global_rows(device: str, dtype: str) -> None:
    x, small = data(dtype), small_for(dtype)
    acc, _ = fold(device, "sketch", x, small, (0, 5, 1030, M))
    draws = gaussian_rows(3, 0, M, 25, np.result_type(x, float))
    expected = draws.conj().T @ x
    assert close(acc["core"], expected, dtype, float(np.abs(expected).max()))
    assert close(acc["ones"], draws.conj().sum(axis=0), dtype, 4 * np.sqrt(M))


@pytest.mark.parametrize("device", BOTH)
@pytest.mark.parametrize("dtype", DTYPES)
def test_rotate_completes_with_random_columns_and_measures_what_it_writes(
    device: str, dtype: str
) -> None:
    y = data(dtype)
    wide = np.result_type(y, float)
    w = data(dtype, 2, (N + 2, WIDTH)).astype(wide)
    small = small_for(
        dtype, w=w, offset=np.arange(WIDTH), fresh=2, write=True, psi=0, theta=0, seed=3
    )
    acc, u = fold(device, "rotate", y, small, (0, 4096, M) if M > 4096 else (0, 999, M))
    fresh = gaussian_rows(3, 0, M, 2, wide)
    expected = np.hstack([y.astype(wide), fresh]) @ w - np.arange(WIDTH)
    assert close(u, expected, dtype, float(np.abs(expected).max()))
    gram = u.astype(wide).conj().T @ u.astype(wide)
    assert close(np.tril(acc["gram"]), np.tril(gram), "float64", float(np.abs(gram).max()))


@pytest.mark.parametrize("device", BOTH)
@pytest.mark.parametrize("dtype", DTYPES)
def test_gemm_and_syrk_folds_give_checked_blocks(device: str, dtype: str) -> None:
    a, b = data(dtype, 1, (50, 70)), data(dtype, 2, (70, 30))
    small = {"dtype": np.dtype(dtype), "seed": 0, "names": ("a", "b"), "missing": "raise"}
    at = ((0, 50), (0, 30))
    gemm = table(device)["gemm"]
    acc = gemm.begin(small, at)
    for low, high in ((0, 40), (40, 70)):
        panel = b[low:high]
        for r0, r1 in ((0, 20), (20, 50)):
            gemm.step(acc, [a[r0:r1, low:high], panel], small, ((r0, r1), (low, high)))
    c = gemm.finish(acc, small, at)
    assert close(c, a @ b, dtype, 70)
    assert acc["max_error"] <= 4 * 70 * np.finfo(dtype).eps
    assert acc["hypot_norm"] == pytest.approx(np.linalg.norm(c), rel=1e-5)
    syrk = table(device)["syrk"]
    acc = syrk.begin(small, ((0, 30), (0, 30)))
    for low, high in ((0, 40), (40, 70)):
        syrk.step(acc, [b[low:high]], small, ((0, 30), (low, high)))
    gram = syrk.finish(acc, small, ((0, 30), (0, 30)))
    assert close(gram, b.conj().T @ b, dtype, 70)
    assert np.array_equal(gram, gram.conj().T)


def test_every_device_has_every_kernel() -> None:
    names = {device: set(table(device)) for device in DEVICES}
    assert len(set(map(frozenset, names.values()))) == 1
    with pytest.raises(OptionError, match="abacus"):
        table("abacus")


@given(size=st.integers(1, 40), seed=st.integers(0, 99))
def test_mirrored_is_hermitian_with_the_lower_triangle_kept(size: int, seed: int) -> None:
    a = data("complex128", seed, (size, size))
    a[np.diag_indices(size)] = a.real.diagonal()
    lower = np.tril(a)
    full = mirrored(a.copy())
    assert np.array_equal(np.tril(full), lower)
    assert np.array_equal(full, full.conj().T)


def test_mirrored_crosses_its_own_blocks() -> None:
    a = data("float64", 0, (1100, 1100))
    full = mirrored(a.copy())
    assert np.array_equal(full, np.tril(a) + np.tril(a, -1).T)


def test_accumulators_add_take_the_larger_and_refuse_what_was_counted_twice() -> None:
    a = {"sum": np.ones(2), "max_row": 3.0, "steps": frozenset({1}), "square": 1.0}
    b = {"sum": np.ones(2), "max_row": 2.0, "steps": frozenset({2}), "square": 2.0}
    total = combine(a, b)
    assert total["sum"].tolist() == [2, 2]
    assert (total["max_row"], total["square"], total["steps"]) == (3.0, 3.0, frozenset({1, 2}))
    with pytest.raises(CoverageError, match="twice"):
        combine(total, b)


@given(
    seed=st.integers(0, 2**63 - 1), start=st.integers(0, 5000), length=st.integers(0, 2500),
    cut=st.integers(0, 2500), width=st.integers(1, 5),
)  # fmt: skip
def test_gaussian_rows_depend_on_their_number_only(
    seed: int, start: int, length: int, cut: int, width: int
) -> None:
    stop, middle = start + length, start + min(cut, length)
    whole = gaussian_rows(seed, start, stop, width, np.float64)
    parts = [
        gaussian_rows(seed, p, q, width, np.float64) for p, q in ((start, middle), (middle, stop))
    ]
    assert whole.shape == (length, width)
    assert np.array_equal(whole, np.concatenate(parts))


@pytest.mark.parametrize("dtype", DTYPES)
def test_gaussian_entries_have_mean_zero_and_unit_variance(dtype: str) -> None:
    x = gaussian_rows(1, 0, 40_000, 4, dtype).astype(complex)
    n = x.size
    assert abs(x.mean()) <= 5 / np.sqrt(n)  # five standard deviations
    assert abs(np.mean(np.abs(x) ** 2) - 1) <= 5 * np.sqrt(2 / n)
    assert not np.array_equal(x[:1024], x[1024:2048])
