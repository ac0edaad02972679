"""The product: right for all dtypes, shapes and grids, and checked on every block."""

import tempfile
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import leptonhpc as lh
from leptonhpc.api import MatmulResult
from leptonhpc.errors import NotConvergedWarning, ShapeError
from leptonhpc.kernels import DEVICES, table, tables
from leptonhpc.testing import CASES, Case, put
from leptonhpc.testing.strategies import grids

MEMORY = "1 GB"
DTYPES = [
    "float32",
    "float64",
    "complex64",
    "complex128",
    "int8",
    "int64",
    "bool",
    "float16",
    "uint16",
]
GROUPS = [CASES[i : i + 6] for i in range(0, len(CASES), 6)]


def draw(shape: tuple[int, int], dtype: str, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind in "biu":
        return rng.integers(0, 2, shape).astype(dtype)
    a = rng.standard_normal(shape)
    return (a + 1j * rng.standard_normal(shape) if dtype.startswith("c") else a).astype(dtype)


def excess(r: MatmulResult, a: np.ndarray, b: np.ndarray) -> float:
    """Give |C - AB| over gamma_k |A||B| (Higham 2002, (3.13)), element by element; 1 is allowed."""
    c = np.asarray(r)
    kind = np.result_type(a, b, float)
    a, b = a.astype(kind), b.astype(kind)
    # complex products count sqrt(2) twice, and C is rounded once more
    gamma = 4 * (a.shape[1] + 1) * np.finfo(c.dtype).eps
    bound = gamma * (np.abs(a) @ np.abs(b))
    error = np.abs(c - a @ b)
    return float(np.max(np.where(bound > 0, error / np.where(bound > 0, bound, 1), error)))


@pytest.mark.parametrize("left", DTYPES)
def test_every_pair_of_dtypes_gives_the_product_in_the_dtype_of_computing(left: str) -> None:
    for right in DTYPES:
        a, b = draw((70, 50), left), draw((50, 30), right, 1)
        r = lh.matmul(a, b, memory=MEMORY)
        assert excess(r, a, b) <= 1, right
        assert r.certificate.converged, right
        both = np.result_type(a, b)
        if both.kind in "biu":
            assert np.asarray(r).dtype == np.float64
            assert np.array_equal(np.asarray(r), a.astype(float) @ b.astype(float))
        else:
            expected = np.result_type(both, np.float32)
            assert np.asarray(r).dtype == expected, right


@pytest.mark.parametrize("cases", GROUPS, ids=[f"{g[0].name} .." for g in GROUPS])
def test_gram_matrices_of_every_case_are_hermitian_and_right(
    cases: tuple[Case, ...], tmp_path: Path
) -> None:
    for case in cases:
        a = case.matrix()
        folder = tmp_path / case.name
        folder.mkdir()
        x = lh.open(case.keep(a, folder))
        wide = a.astype(np.result_type(a, float))
        for left, right, p, q in ((x.H, x, wide.conj().T, wide), (x, x.H, wide, wide.conj().T)):
            r = lh.matmul(left, right, memory=MEMORY)
            assert excess(r, p.astype(case.computed), q.astype(case.computed)) <= 1, case.name
            c = np.asarray(r)
            assert np.array_equal(c, c.conj().T), case.name
            assert r.certificate.converged, case.name
            assert abs(r.certificate.norm - np.linalg.norm(p @ q)) <= (
                8 * max(a.shape) * np.finfo(case.computed).eps * np.linalg.norm(wide) ** 2
            ), case.name


@settings(max_examples=10)
@given(data=st.data())
def test_no_grid_and_no_memory_changes_the_product(data: st.DataObject) -> None:
    m, k, n = (data.draw(st.integers(1, 60)) for _ in range(3))
    dtype = data.draw(st.sampled_from(["float32", "float64", "complex128", "int16"]))
    a, b = draw((m, k), dtype), draw((k, n), dtype, 1)
    with tempfile.TemporaryDirectory() as folder:
        p = put(a, Path(folder) / "a.zarr", chunks=data.draw(grids(a.shape)))
        q = put(b, Path(folder) / "b.zarr", chunks=data.draw(grids(b.shape)), storage="sharded")
        out = Path(folder) / "c.zarr" if data.draw(st.booleans()) else None
        r = lh.matmul(p, q, out=out, memory=data.draw(st.sampled_from(["161 MB", "1 GB"])))
        assert excess(r, a, b) <= 1
        assert r.certificate.converged


@pytest.mark.parametrize("dtype", ["float64", "complex64"])
def test_transposed_and_conjugated_factors_are_multiplied_as_they_stand(dtype: str) -> None:
    a, b = draw((70, 40), dtype), draw((55, 40), dtype, 1)
    x, y = lh.open(a, chunks=(16, 16)), lh.open(b, chunks=(20, 7))
    for left, right, p, q in (
        (x, y.T, a, b.T), (x, y.H, a, b.conj().T), (y, x.H, b, a.conj().T),
        (y.H.T, x.T, b.conj(), a.T), (x.T, x, a.T, a), (x, x.T, a, a.T), (x.H, x, a.conj().T, a),
        (x.H.H, x.T, a, a.T), (x[3:, 2:], y[:, 2:].T, a[3:, 2:], b[:, 2:].T),
    ):  # fmt: skip
        r = lh.matmul(left, right, memory=MEMORY)
        assert excess(r, p, q) <= 1
        assert r.certificate.converged


def test_many_blocks_of_a_product_larger_than_memory_are_right(tmp_path: Path) -> None:
    a, b = draw((2100, 20), "float32"), draw((20, 2300), "float32", 1)
    p = put(a, tmp_path / "a.zarr", chunks=(100, 60))
    q = put(b, tmp_path / "b.zarr", chunks=(70, 130))
    for memory in ("192 MB", "1 GB"):
        r = lh.matmul(p, q, memory=memory)
        assert r.certificate.blocks > (memory == "192 MB")
        assert excess(r, a, b) <= 1
    s = lh.matmul(lh.open(q).H, lh.open(q), memory="192 MB")
    assert s.certificate.blocks > 1
    assert excess(s, b.conj().T, b) <= 1


@pytest.mark.parametrize("exponent", [-15, 10, 15])
def test_single_precision_with_squares_of_the_product_out_of_its_range_is_checked(
    exponent: int,
) -> None:
    a, b = draw((30, 20), "float32"), draw((20, 25), "float32", 1)
    factor = np.float32(10.0**exponent)
    r = lh.matmul(a * factor, b * factor, memory=MEMORY)
    assert excess(r, a * factor, b * factor) <= 1
    assert r.certificate.converged
    assert 0 < r.certificate.largest_error <= r.certificate.bound
    true = np.linalg.norm((a.astype(float) @ b) * float(factor) ** 2)
    assert r.certificate.norm == pytest.approx(true, rel=1e-5)


@pytest.mark.parametrize("kernel", ["gemm", "syrk"])
@pytest.mark.parametrize("dtype", ["float32", "complex128"])
@pytest.mark.parametrize("size", [1.0, 1e-12, 1e12])
def test_one_wrong_entry_of_a_block_is_caught(
    kernel: str, dtype: str, size: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = DEVICES["host"]

    def faulty(good: object) -> object:
        def multiply(c: np.ndarray, *factors: np.ndarray, **options: object) -> None:
            good(c, *factors, **options)
            # well above 4 k eps |A|_F |B|_F, which is what the certificate allows
            sizes = [np.linalg.norm(f.astype(complex)) for f in factors]
            c[-1, len(c) // 2] += 0.02 * np.prod(sizes) ** (2 / len(factors))

        return multiply

    broken = replace(host, **{kernel: faulty(getattr(host, kernel))})
    monkeypatch.setitem(tables.DEVICES, "host", broken)
    table.cache_clear()
    a = draw((40, 60), dtype) * np.asarray(size, dtype)
    x = lh.open(a)
    try:
        with pytest.warns(NotConvergedWarning, match="FAULTY"):
            r = lh.matmul(x, x.H if kernel == "syrk" else a.conj().T, memory=MEMORY)
    finally:
        table.cache_clear()
    assert not r.certificate.converged
    assert r.certificate.largest_error > r.certificate.bound


@pytest.mark.parametrize(("p", "q"), [(200, -200), (200, 0), (-200, 0), (200, 100), (-250, 250)])
def test_factors_far_from_one_are_right_and_still_checked(p: int, q: int) -> None:
    a, b = draw((30, 20), "float64"), draw((20, 25), "float64", 1)
    r = lh.matmul(a * 10.0**p, b * 10.0**q, memory=MEMORY)
    factor = 10.0 ** (p + q)
    assert np.max(np.abs(np.asarray(r) / factor - a @ b)) <= 4 * 22 * 3e-16 * 20 * 9
    assert r.certificate.converged
    assert 0 < r.certificate.largest_error <= r.certificate.bound


def test_a_product_that_overflows_does_not_pass_its_check() -> None:
    a = np.full((30, 20), 1e200)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        with pytest.warns(NotConvergedWarning):
            r = lh.matmul(a, a.T.copy(), memory=MEMORY)
    assert not r.certificate.converged


@pytest.mark.parametrize("shapes", [((3, 4), (3, 4)), ((0, 4), (4, 3)), ((3,), (3, 4))])
def test_factors_that_do_not_fit_are_refused(shapes: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(ShapeError):
        lh.matmul(np.ones(shapes[0]), np.ones(shapes[1]))


def test_zeros_multiply_to_zeros() -> None:
    r = lh.matmul(np.zeros((9, 5)), np.zeros((5, 7)))
    assert not np.asarray(r).any()
    assert r.certificate.converged
