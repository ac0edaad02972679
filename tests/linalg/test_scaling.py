"""Systems in unlike units are solved; what is singular in any units is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import leptonhpc as lh
from leptonhpc.errors import SingularMatrixError
from leptonhpc.kernels import table
from leptonhpc.linalg.refinement import backward_error
from leptonhpc.testing import put

DTYPES = ["float32", "float64", "complex64", "complex128"]
MEMORY = "1 GB"
N = 90


def unlike(dtype: str, seed: int) -> np.ndarray:
    """Give powers of two whose range is far beyond 1 / eps."""
    most = 24 if np.dtype(dtype).char in "fF" else 200
    return np.ldexp(1.0, np.random.default_rng(seed).integers(-most, most, N))


def draw(shape: tuple[int, ...], dtype: str, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    a = rng.standard_normal(shape)
    return (a + 1j * rng.standard_normal(shape) if dtype.startswith("c") else a).astype(dtype)


@pytest.mark.parametrize("sides", ["rows", "columns", "both"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_system_in_unlike_units_is_that_in_like_ones(dtype: str, sides: str) -> None:
    a, b = draw((N, N), dtype), draw((N, 2), dtype, 1)
    rows = unlike(dtype, 2) if sides != "columns" else np.ones(N)
    columns = unlike(dtype, 3) if sides != "rows" else np.ones(N)
    real = a.real.dtype
    scaled = rows[:, None].astype(real) * a * columns.astype(real)
    given = rows[:, None].astype(real) * b
    r = lh.solve(scaled, given, memory=MEMORY, progress=False)
    assert r.certificate.converged
    assert r.certificate.scaled
    assert "scaled" in str(r.certificate)
    wide = np.result_type(dtype, float)
    true = np.linalg.solve(a.astype(wide), b.astype(wide))
    found = np.asarray(r.x).astype(wide) * columns[:, None]
    error = np.linalg.norm(found - true, axis=0) / np.linalg.norm(true, axis=0)
    # in the units of the certificate, which are near those of A
    assert np.max(error) <= 8 * r.certificate.error
    assert r.certificate.condition <= 100 * np.linalg.cond(a.astype(wide)) * N
    inverse = np.asarray(lh.inv(scaled, memory=MEMORY, progress=False)).astype(wide)
    inverse = columns[:, None] * inverse * rows
    left = a.astype(wide) @ inverse - np.eye(N)
    # a column of a backward stable inverse: |A X - I| <= c n eps |A||X| (Higham 2002, 14.1)
    allowed = 8 * N * np.finfo(dtype).eps * np.linalg.norm(a) * np.linalg.norm(inverse)
    assert np.linalg.norm(left) <= allowed


@pytest.mark.parametrize("assume", ["gen", "sym", "pos"])
def test_stored_matrices_in_panels_are_scaled_too(assume: str, tmp_path: Path) -> None:
    n = 463
    b = draw((n, n), "float64")
    a = b @ b.T / n + np.eye(n) if assume != "gen" else b
    d = np.ldexp(1.0, np.random.default_rng(1).integers(-60, 60, n))
    scaled = d[:, None] * a * d
    x = put(scaled, tmp_path / "a", chunks=(64, 64))
    r = lh.solve(x, d * a.sum(axis=1), assume=assume, memory="163 MB", out=tmp_path / "x",
                 progress=False)  # fmt: skip
    assert r.certificate.scaled
    assert r.certificate.converged
    assert lh.load(tmp_path / "x").certificate == r.certificate
    error = np.linalg.norm(np.asarray(r.x) * d - 1) / n**0.5
    assert error <= 8 * r.certificate.error
    inverse = lh.inv(x, memory="170 MB", out=tmp_path / "inverse", progress=False)
    assert inverse.certificate.scaled
    assert inverse.certificate.converged
    found = d[:, None] * np.asarray(inverse) * d
    assert np.linalg.norm(a @ found - np.eye(n)) <= 1e-10 * np.linalg.norm(found)


def test_what_is_singular_in_any_units_is_refused() -> None:
    a = draw((N, N), "float64")
    a[:, 50] = a[:, 3] + a[:, 4]
    for d in (np.ones(N), unlike("float64", 1)):
        with pytest.raises(SingularMatrixError, match="scaled or not; the condition number"):
            lh.solve(d[:, None] * a, np.ones(N), memory=MEMORY, progress=False)


def test_a_matrix_that_is_regular_as_it_is_is_not_scaled() -> None:
    a = draw((N, N), "float64") * np.geomspace(1, 1e-6, N)
    r = lh.solve(a, a.sum(axis=1), memory=MEMORY, progress=False)
    assert not r.certificate.scaled
    assert not [s for s in r.report.stages if "sizes" in s.name]
    assert backward_error(np.zeros((N, 1)), np.ones((N, 1)), np.ones((N, 1)), 1.0) == 0


@pytest.mark.parametrize("dtype", [*DTYPES, "int16"])
def test_numbers_at_the_ends_of_the_range_are_inverted(dtype: str) -> None:
    kind = np.dtype(dtype)
    ends = (np.iinfo(kind).max, 1) if kind.kind == "i" else (np.finfo(kind).max / 4, 0.5)
    diagonal = np.array([ends[0], ends[1], ends[0], 3]).astype(dtype)
    r = lh.inv(np.diag(diagonal), memory=MEMORY, progress=False)
    assert r.certificate.converged
    expected = 1 / diagonal.astype(np.result_type(kind, np.asarray(r).dtype))
    eps = float(np.finfo(np.asarray(r).dtype).eps)
    assert np.all(np.abs(np.diagonal(np.asarray(r)) - expected) <= 8 * eps * np.abs(expected))


@pytest.mark.parametrize("device", ["host", "reference"])
@pytest.mark.parametrize("dtype", [*DTYPES, "int16"])
def test_kernels_find_sizes_and_scale_exactly(device: str, dtype: str) -> None:
    kernels = table(device)
    a = (8 * draw((9, 7), "complex128" if dtype.startswith("c") else "float64")).astype(dtype)
    weights = np.ldexp(1.0, np.arange(7) - 3)
    small: dict[str, Any] = {"rows": 9, "factors": weights}
    acc = kernels["extents"].begin(small, ())
    for c0, c1 in ((0, 4), (4, 7)):
        kernels["extents"].step(acc, [a[:, c0:c1]], small, ((0, 9), (c0, c1)))
    sizes = np.maximum(np.abs(a.real.astype(float)), np.abs(a.imag.astype(float)))
    assert np.array_equal(acc["extents"], (sizes * weights).max(axis=1))
    rows = np.ldexp(1.0, np.arange(9) - 4)
    target = np.result_type(dtype, np.float32)
    small = {"dtype": target, "row_factors": rows, "column_factors": weights}
    acc = kernels["scaled"].begin(small, ())
    kernels["scaled"].step(acc, [a], small, ((0, 9), (0, 7)))
    found = kernels["scaled"].finish(acc, small, ((0, 9), (0, 7)))
    assert found is not None
    assert found.dtype == target
    assert np.array_equal(found, rows[:, None] * a * weights)
