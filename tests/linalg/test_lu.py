"""LU factors are right for every matrix there is, and the certificate says how right."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import leptonhpc as lh
from leptonhpc.errors import NonFiniteError, NotConvergedWarning, NumericRangeError, ShapeError
from leptonhpc.kernels import DEVICES, table, tables
from leptonhpc.testing import put
from leptonhpc.testing.cases import Storage
from leptonhpc.testing.hard import HARD

MEMORY = "1 GB"
PANELS = "162 MB"  # 12 MB for arrays: a matrix of order 700 is cut into panels
DTYPES = ["float32", "float64", "complex64", "complex128"]


def draw(shape: tuple[int, int], dtype: str = "float64", seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    a = rng.standard_normal(shape)
    return (a + 1j * rng.standard_normal(shape) if dtype.startswith("c") else a).astype(dtype)


def factors(r: lh.LuResult, dtype: Any = np.float64) -> tuple[np.ndarray, ...]:
    wide = np.result_type(r.l.dtype, dtype)
    return r.perm, np.asarray(r.l).astype(wide), np.asarray(r.u).astype(wide)


def require_right(r: lh.LuResult, a: np.ndarray) -> float:
    """Check |P A - L U| <= c k eps |L||U| entry by entry (Higham 2002, Theorem 9.3); give its norm.

    Also that L and U are triangles, and that nothing in L is larger than partial pivoting allows.
    """
    perm, lower, upper = factors(r)
    k = min(a.shape)
    wide = a.astype(np.result_type(a, lower))
    eps = np.finfo(np.asarray(r.l).dtype).eps
    assert lower.shape == (a.shape[0], k)
    assert upper.shape == (k, a.shape[1])
    assert sorted(perm) == list(range(a.shape[0]))
    assert np.array_equal(lower[:k], np.tril(lower[:k]))
    assert np.all(lower.diagonal() == 1)
    assert np.array_equal(upper, np.triu(upper))
    assert np.array_equal(r.diagonal, np.asarray(r.u).diagonal())
    assert np.max(np.abs(lower)) <= (np.sqrt(2) if lower.dtype.kind == "c" else 1) * (1 + 4 * eps)
    error = np.abs(lower @ upper - wide[perm])
    assert np.all(error <= 4 * (k + 1) * eps * (np.abs(lower) @ np.abs(upper)))
    return float(np.linalg.norm(error))


def require_honest(r: lh.LuResult, a: np.ndarray) -> None:
    """Check the certificate: norm, error (two random vectors see a tenth of it, 99 %), growth."""
    c, error = r.certificate, require_right(r, a)
    size = float(np.linalg.norm(a.astype(complex)))
    eps = float(np.finfo(np.asarray(r.l).dtype).eps)
    assert c.norm == pytest.approx(size, rel=4 * eps * max(a.shape))
    # what the vectors sum rounds too, like a random walk
    assert error <= 10 * c.backward_error * size + 4 * eps * size
    assert c.converged == (c.backward_error <= c.bound)
    assert c.bound <= 8 * eps * max(2, a.shape[1], a.shape[0] ** 0.5)
    if np.any(a):
        true = np.max(np.abs(np.asarray(r.u))) / np.max(np.abs(a))
        assert c.growth == pytest.approx(true, rel=1e-4)


@pytest.mark.parametrize("dtype", [*DTYPES, "int16", "bool", "float16"])
def test_factors_of_every_dtype_and_shape_are_right(dtype: str, tmp_path: Path) -> None:
    shapes = [(1, 1), (1, 9), (9, 1), (2, 2), (70, 33), (33, 70), (131, 131)]
    for number, shape in enumerate(shapes):
        a = draw(shape, "float64" if dtype[0] in "ibf" else dtype)
        a = (a > 0).astype(dtype) if dtype == "bool" else (8 * a).astype(dtype)
        r = lh.lu(put(a, tmp_path / str(number), chunks=(16, 11)), memory=MEMORY)
        require_honest(r, a)
        assert r.certificate.converged
        kind = np.dtype(dtype)
        wanted = {"i": "f8", "b": "f8"}.get(kind.kind, "f4" if dtype == "float16" else kind.str)
        assert np.asarray(r.l).dtype == np.asarray(r.u).dtype == np.dtype(wanted)


@pytest.mark.parametrize(
    ("chunks", "storage"),
    [
        ((64, 64), "zarr3"), ((100, 37), "sharded"), ((128, 128), "zarr2"), ((700, 700), "zarr3"),
        ((7, 700), "zarr3"), ((700, 7), "zarr3"), ((256, 256), "sharded"), ((16, 16), "fortran"),
        ((16, 16), "big-endian"),
    ],
)  # fmt: skip
def test_no_grid_and_no_number_of_panels_changes_the_factors(
    chunks: tuple[int, int], storage: Storage, tmp_path: Path
) -> None:
    a = draw((463, 463), seed=3)
    expected = lh.lu(a, memory=MEMORY)
    for number, out in enumerate((None, tmp_path / "r")):
        x = put(a, tmp_path / str(number), chunks=chunks, storage=storage)
        r = lh.lu(x, memory=(PANELS, "170 MB")[number], out=out)
        require_honest(r, a)
        assert np.array_equal(r.perm, expected.perm)
        # the same pivots: both are right to k eps |L||U|, and condition turns that into this
        close = 463 * np.finfo(float).eps * np.linalg.cond(a) * np.linalg.norm(a)
        assert np.max(np.abs(np.asarray(r.u) - np.asarray(expected.u))) <= close


@pytest.mark.parametrize("shape", [(900, 300), (300, 900), (700, 650), (650, 700)])
@pytest.mark.parametrize("dtype", ["float64", "complex64"])
def test_tall_and_wide_matrices_in_panels(
    shape: tuple[int, int], dtype: str, tmp_path: Path
) -> None:
    a = draw(shape, dtype)
    plan = lh.plan("lu", put(a, tmp_path / "a", chunks=(100, 90)), memory=PANELS)
    assert len(plan.job.panels) >= 2
    r = plan.run(out=tmp_path / "r")
    require_honest(r, a)
    assert r.certificate.converged
    assert r.report.reads_per_chunk <= 1
    assert require_right(lh.load(tmp_path / "r"), a) >= 0


@pytest.mark.filterwarnings("ignore::leptonhpc.errors.NotConvergedWarning")
@pytest.mark.parametrize("memory", [MEMORY, PANELS])
@pytest.mark.parametrize("name", HARD)
def test_hard_matrices_have_right_factors_and_honest_certificates(
    name: str, memory: str, tmp_path: Path
) -> None:
    n = {"hilbert": 60, "vandermonde": 80, "wilkinson": 50}.get(name, 500)
    a = HARD[name](n)
    r = lh.lu(put(a, tmp_path / "a", chunks=(-(-n // 2),) * 2), memory=memory)
    require_honest(r, a)
    if name != "wilkinson":
        assert r.certificate.converged


def test_pivots_that_grow_are_said() -> None:
    # powers of two would not be rounded; what is below the diagonal stays the smaller candidate
    a = HARD["wilkinson"](60) * (1 - 1e-3 * np.tril(np.abs(draw((60, 60))), -1))
    with pytest.warns(NotConvergedWarning, match="growth"):
        r = lh.lu(a, memory=MEMORY)
    require_honest(r, a)
    assert r.certificate.growth > 1e12


@pytest.mark.parametrize("size", [1e-8, 1e-12])
def test_small_leading_blocks_do_no_harm(size: float, tmp_path: Path) -> None:
    from leptonhpc.testing.hard import small_corner

    a = small_corner(600, size)
    r = lh.lu(put(a, tmp_path / "a", chunks=(300, 300)), memory=PANELS)
    assert require_right(r, a) <= 600 * np.finfo(float).eps * np.linalg.norm(a)


@pytest.mark.parametrize("dtype", DTYPES)
def test_singular_matrices_have_factors_with_a_zero_on_the_diagonal(dtype: str) -> None:
    for columns in ([0], [299], [100, 101], list(range(300))):
        a = draw((300, 300), dtype)
        a[:, columns] = 0
        r = lh.lu(a, memory=PANELS)
        require_honest(r, a)
        assert r.certificate.converged
        assert list(np.flatnonzero(r.diagonal == 0)) == columns
        with pytest.raises(np.linalg.LinAlgError, match=f"column {columns[0]} "):
            r.solve(np.ones(300, dtype))


@pytest.mark.parametrize("exponent", [-30, -20, 15, 30])
def test_single_precision_far_from_one_is_still_checked(exponent: int) -> None:
    a = (draw((90, 90)) * 10.0**exponent).astype("float32")
    r = lh.lu(a, memory=MEMORY)
    require_honest(r, a)
    assert r.certificate.converged
    assert r.certificate.backward_error > 0


@pytest.mark.parametrize("exponent", [-250, -200, 200, 300])
def test_double_precision_far_from_one_is_still_checked(exponent: int) -> None:
    a = draw((90, 90)) * 10.0**exponent
    r = lh.lu(a, memory=MEMORY)
    assert r.certificate.converged
    assert 0 < r.certificate.backward_error <= r.certificate.bound
    perm, lower, upper = factors(r)
    scaled = draw((90, 90))[perm] - lower @ (upper / 10.0**exponent)
    assert np.max(np.abs(scaled)) <= 4 * 91 * np.finfo(float).eps * 90 * np.max(
        np.abs(draw((90, 90)))
    )


@pytest.mark.parametrize("shape", [(200_000, 1), (100_000, 3), (3, 20_000)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_very_tall_matrices_are_not_called_unstable(shape: tuple[int, int], dtype: str) -> None:
    for a in (draw(shape, dtype), np.full(shape, 1 / 3, dtype)):
        assert lh.lu(a, memory=MEMORY).certificate.converged


@pytest.mark.parametrize("value", [np.nan, -np.inf])
@pytest.mark.parametrize("at", [(0, 0), (3, 599), (599, 3)])
def test_the_error_names_the_global_index(
    value: float, at: tuple[int, int], tmp_path: Path
) -> None:
    a = draw((600, 600))
    a[at] = value
    x = put(a, tmp_path / "spoilt", chunks=(200, 150))
    with pytest.raises(NonFiniteError) as caught:
        lh.lu(x, memory=PANELS, out=tmp_path / "r")
    assert str(at) in str(caught.value)
    assert "spoilt" in str(caught.value)
    assert not (tmp_path / "r").exists()


def test_complex_numbers_whose_absolute_value_overflows_are_refused() -> None:
    with pytest.raises(NumericRangeError, match="finite in complex128"):
        lh.lu(np.full((3, 3), 1.5e308 + 1.5e308j), memory=MEMORY)


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (4,), (2, 2, 2)])
def test_what_is_not_a_matrix_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="lu needs a matrix"):
        lh.lu(np.ones(shape), memory=MEMORY)


def test_a_budget_that_is_too_small_names_the_one_that_does(tmp_path: Path) -> None:
    x = put(draw((3000, 200)), tmp_path / "a", chunks=(1000, 200))
    with pytest.raises(ValueError, match="at least memory='") as caught:
        lh.lu(x, memory="151 MB")
    enough = str(caught.value).partition("memory='")[2].partition("'")[0]
    require_right(lh.lu(x, memory=enough), draw((3000, 200)))


def test_slogdet_and_det_are_those_of_numpy(tmp_path: Path) -> None:
    for dtype in DTYPES:
        for n in (1, 2, 300):
            a = draw((n, n), dtype)
            sign, logabsdet = lh.slogdet(put(a, tmp_path / f"{dtype}{n}"), memory=PANELS)
            right = np.linalg.slogdet(a.astype(np.result_type(a, float)))
            # det of A + E: the logarithm changes by trace(A^-1 E)
            allowed = 8 * n * np.finfo(dtype).eps * np.linalg.cond(a) + 1e-12
            assert abs(sign - right.sign) <= allowed
            assert abs(logabsdet - right.logabsdet) <= allowed
            assert abs(abs(sign) - 1) <= 1e-12
    assert lh.slogdet(np.zeros((4, 4))).logabsdet == -np.inf
    assert lh.det(np.zeros((4, 4))) == 0
    assert lh.det(np.eye(400) * 1e3) == np.inf
    assert lh.det(np.eye(400) * (1e3 + 0j)) == complex(np.inf, 0)
    assert lh.det(np.eye(400) * 1e-3) == 0
    assert lh.det(np.eye(3)[[1, 0, 2]]) == -1
    assert lh.det(np.diag([2j, 3.0])) == pytest.approx(6j)


@pytest.mark.parametrize("broken", ["getrf", "trsm", "gemm"])
@pytest.mark.parametrize(
    ("dtype", "size"), [("float32", 1.0), ("float32", 1e-12), ("complex128", 1.0)]
)
def test_one_wrong_entry_of_a_block_is_caught(
    broken: str, dtype: str, size: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = DEVICES["host"]
    good, spoilt = getattr(host, broken), []

    def faulty(*blocks: np.ndarray, **options: object) -> object:
        result = good(*blocks, **options)
        block = blocks[1] if broken == "trsm" else blocks[0]
        if block.shape[1] > 2 and not spoilt:
            spoilt.append(block.shape)
            block[len(block) // 2, -1] += 0.3 * np.max(np.abs(block))
        return result

    monkeypatch.setitem(tables.DEVICES, "host", replace(host, **{broken: faulty}))
    table.cache_clear()
    a = draw((500, 500), dtype) * np.asarray(size, dtype)
    try:
        with pytest.warns(NotConvergedWarning, match="NOT BACKWARD STABLE"):
            r = lh.lu(a, memory=PANELS if dtype == "complex128" else "156 MB")
    finally:
        table.cache_clear()
    assert spoilt
    assert not r.certificate.converged
    assert r.certificate.backward_error > r.certificate.bound


def test_nothing_warns_that_need_not(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lh.lu(np.zeros((40, 30)), memory=MEMORY)
        lh.lu(np.full((40, 40), 1e300), memory=MEMORY)
