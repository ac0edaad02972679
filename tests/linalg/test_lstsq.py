"""Least squares: of minimum norm, whatever the rank, and checked by its residuals."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import leptonhpc as lh
from leptonhpc.errors import MemoryBudgetError, NonFiniteError, OptionError, ShapeError
from leptonhpc.kernels import combine, table
from leptonhpc.linalg import lstsq as planner
from leptonhpc.testing.cases import put
from leptonhpc.testing.matrices import matrix_with_spectrum
from leptonhpc.testing.memory import STRAY_NBYTES

DTYPES = ["float32", "float64", "complex64", "complex128"]
SHAPES = [(130, 30), (30, 130), (45, 45)]
MEMORY = "600 MB"


def gaussian(shape: tuple[int, ...], dtype: str = "float64", seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    a = rng.standard_normal(shape)
    return (a + 1j * rng.standard_normal(shape) if dtype.startswith("c") else a).astype(dtype)


def deficient(shape: tuple[int, int], dtype: str, rank: int = 9) -> np.ndarray:
    """Make a matrix with a clear gap: singular values from 1 to 0.1, and zeros."""
    values = np.where(np.arange(min(shape)) < rank, np.linspace(1, 0.1, min(shape)), 0)
    return matrix_with_spectrum(shape, values, dtype=dtype)


def solved(a: Any, b: Any, **options: Any) -> lh.LstsqResult:
    result = lh.lstsq(a, b, **{"memory": MEMORY, "progress": False, **options})
    assert result.certificate.converged
    return result


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sides", [(), (3,)])
@pytest.mark.parametrize("shape", [*SHAPES, (1, 1), (6, 1), (1, 6)])
def test_solution_residuals_rank_and_values_are_those_of_numpy(
    dtype: str, sides: tuple[int, ...], shape: tuple[int, int]
) -> None:
    a = matrix_with_spectrum(shape, np.linspace(1, 0.1, min(shape)), dtype=dtype)
    b = gaussian((shape[0], *sides), dtype)
    found = solved(a, b)
    x, residuals, rank, s = np.linalg.lstsq(a, b)  # in double precision, whatever the dtype
    # x moves by c eps cond(A), which is 10, times 1 + |r| cond / |A||x| <= 11
    allowed = 8 * max(shape) * float(np.finfo(dtype).eps) * 110
    assert found.x.shape == x.shape
    assert found.x.dtype == np.dtype(dtype)
    assert np.linalg.norm(found.x - x) <= allowed * np.linalg.norm(x)
    assert found.rank == rank
    assert np.max(np.abs(found.s - s)) <= allowed * s[0]
    assert found.residuals.shape == residuals.shape
    assert np.all(np.abs(found.residuals - residuals) <= allowed * np.linalg.norm(b) ** 2)
    assert [type(f) for f in found][2] is int


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_deficient_matrix_has_the_solution_of_minimum_norm(
    dtype: str, shape: tuple[int, int]
) -> None:
    a, b = deficient(shape, dtype), gaussian((shape[0], 2), dtype)
    found = solved(a, b)
    x, _, rank, _ = np.linalg.lstsq(a, b)
    assert found.rank == rank == 9
    assert np.linalg.norm(found.x - x) <= 1e-10 * np.linalg.norm(x)
    assert found.residuals.shape == (0,)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("condition", [1e3, 1e6, 1e9])
@pytest.mark.parametrize("shape", SHAPES)
def test_ill_conditioned_systems_are_solved_backward_stably(
    dtype: str, condition: float, shape: tuple[int, int]
) -> None:
    a = matrix_with_spectrum(shape, np.geomspace(1, 1 / condition, min(shape)), dtype=dtype)
    truth = a.conj().T @ gaussian((shape[0],), dtype)  # in the range of A^H, if A is wide
    b = a @ truth
    found = solved(a, b)
    n, eps = min(shape) + max(shape) ** 0.5, np.finfo(float).eps
    # a consistent system: the residual is rounding, and x is off by its condition times that
    size = np.linalg.norm(a) * np.linalg.norm(found.x)
    assert np.linalg.norm(b - a @ found.x) <= 8 * n * eps * size
    assert np.linalg.norm(found.x - truth) <= 8 * n * eps * condition * np.linalg.norm(truth)
    assert found.certificate.condition == pytest.approx(condition, rel=1e-3)


@pytest.mark.parametrize("shape", SHAPES)
def test_optimality_that_is_certified_is_the_true_one(shape: tuple[int, int]) -> None:
    a, b = deficient(shape, "float64"), gaussian((shape[0], 2))
    found = solved(a, b)
    left = b - a @ found.x
    normal = np.linalg.norm(a.T @ left, axis=0)
    true = np.max(normal / np.linalg.norm(a) / np.linalg.norm(left, axis=0))
    eps = np.finfo(float).eps
    assert true <= found.certificate.optimality + 8 * sum(shape) * eps
    assert found.certificate.optimality <= 8 * sum(shape) * eps
    assert found.certificate.norm == pytest.approx(np.linalg.norm(a))


@pytest.mark.parametrize("shape", SHAPES)
def test_rcond_drops_small_singular_values(shape: tuple[int, int]) -> None:
    a = matrix_with_spectrum(shape, np.geomspace(1, 1e-4, min(shape)))
    b = gaussian((shape[0],))
    rcond = 0.0107  # no singular value is so near that rounding decides
    found = solved(a, b, rcond=rcond)
    x, _, rank, _ = np.linalg.lstsq(a, b, rcond=rcond)
    assert found.rank == rank < min(shape)
    assert np.linalg.norm(found.x - x) <= 1e-10 * np.linalg.norm(x)
    assert solved(a, b, rcond=0).rank == min(shape)


def test_single_precision_counts_its_own_rounding_as_zero() -> None:
    a, b = deficient((200, 30), "float32"), gaussian((200,), "float32")
    found = solved(a, b)
    assert found.rank == 9
    assert np.linalg.norm(found.x) < 1e3  # NumPy's, by the eps of float64: of the order of 1e7


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "scales", [(1e-200, 1e-250), (1e200, 1e150), (1e-150, 1e50), (1e30, 1e-30)]
)
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_scales_whose_squares_leave_the_range_do_not_matter(
    shape: tuple[int, int], scales: tuple[float, float], dtype: str
) -> None:
    a, b = deficient(shape, dtype), gaussian((shape[0],), dtype)
    plain, found = solved(a, b), solved(a * scales[0], b * scales[1])
    assert found.rank == plain.rank
    back = found.x * (scales[0] / scales[1])
    assert np.linalg.norm(back - plain.x) <= 1e-10 * np.linalg.norm(plain.x)


@pytest.mark.filterwarnings("ignore::leptonhpc.errors.NotConvergedWarning")
def test_a_solution_that_no_float_can_hold_is_not_called_converged() -> None:
    found = lh.lstsq(gaussian((30, 4)) * 1e200, gaussian((30,)) * 1e-120, progress=False)
    assert not found.certificate.converged


@pytest.mark.parametrize("shape", SHAPES)
def test_zeros_have_the_solution_zero(shape: tuple[int, int]) -> None:
    b = gaussian((shape[0], 2))
    for a, sides in ((np.zeros(shape), b), (gaussian(shape), 0 * b)):
        found = solved(a, sides)
        assert not np.any(found.x)
        assert found.rank == np.linalg.matrix_rank(a)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("chunks", "storage"),
    [((16, 16), "zarr3"), ((200, 7), "zarr3"), ((7, 200), "zarr2"), ((9, 11), "sharded"),
     ((16, 16), "fortran"), ((16, 16), "big-endian")],
)  # fmt: skip
def test_any_grid_gives_the_same_solution(
    tmp_path: Path, shape: tuple[int, int], chunks: tuple[int, int], storage: Any
) -> None:
    a, b = deficient(shape, "float64"), gaussian((shape[0], 3))
    plain = solved(a, b)
    x = put(a, tmp_path / "a", chunks=chunks, storage=storage)
    sides = put(b, tmp_path / "b", chunks=(13, 2))
    found = solved(x, sides, out=tmp_path / "out")
    assert np.linalg.norm(found.x - plain.x) <= 1e-12 * np.linalg.norm(plain.x)
    loaded = lh.load(tmp_path / "out")
    assert np.array_equal(loaded.x, found.x)
    assert np.array_equal(loaded.s, found.s)
    assert loaded.residuals.shape == found.residuals.shape
    assert loaded.certificate == found.certificate


def test_a_long_solution_of_many_sides_is_written_in_bands(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(planner, "_HELD_NBYTES", 0)
    a, b = deficient((30, 300), "complex128"), gaussian((30, 4), "complex128")
    x = put(a, tmp_path / "a", chunks=(30, 32))
    found = solved(x, b)
    expected = np.linalg.lstsq(a, b)[0]
    assert np.linalg.norm(np.asarray(found.x) - expected) <= 1e-10 * np.linalg.norm(expected)


def test_a_tall_matrix_is_read_once_if_it_fits_and_else_twice(tmp_path: Path) -> None:
    x = put(gaussian((3000, 64)), tmp_path / "a", chunks=(100, 64))
    found = solved(x, put(gaussian((3000, 1)), tmp_path / "b", chunks=(100, 1)))
    assert found.report.reads_per_chunk <= 1
    assert lh.plan("lstsq", x, gaussian((3000,)), memory=MEMORY).explanation.passes == 2


@pytest.mark.parametrize("is_tall", [True, False])
def test_peak_memory_stays_under_a_budget_smaller_than_the_matrix(
    tmp_path: Path, is_tall: bool
) -> None:
    long = 300_000
    shape, chunks = ((long, 96), (4000, 96)) if is_tall else ((96, long), (96, 4000))
    array = zarr.create_array(tmp_path / "a", shape=shape, chunks=chunks, dtype="f8",
                              compressors=None)  # fmt: skip
    block = gaussian(chunks)
    for low in range(0, long, 4000):
        array[(slice(low, low + 4000), slice(None))[:: 1 if is_tall else -1]] = block
    b = gaussian((shape[0],))
    found = solved(tmp_path / "a", b, memory="220 MB")
    report = found.report
    assert report.peak_nbytes - STRAY_NBYTES <= report.predicted_peak_nbytes <= 220e6 < array.nbytes


def test_a_short_side_that_does_not_fit_names_the_smallest_budget(tmp_path: Path) -> None:
    x = tmp_path / "a"
    zarr.create_array(x, shape=(9000, 6000), chunks=(500, 500), dtype="f8")
    for a, length in ((lh.open(x), 9000), (lh.open(x).T, 6000)):
        with pytest.raises(MemoryBudgetError, match=r"at least memory='\d+ MB'"):
            lh.lstsq(a, np.ones(length), memory="200 MB", progress=False)


def test_errors_say_what_to_do() -> None:
    a, b = gaussian((20, 5)), gaussian((20,))
    with pytest.raises(ShapeError, match="right-hand sides of length 20"):
        lh.lstsq(a, b[:-1])
    with pytest.raises(ShapeError, match="matrix"):
        lh.lstsq(b, b)
    with pytest.raises(OptionError, match="rcond"):
        lh.lstsq(a, b, rcond=-1.0)
    for matrix, sides in ((a, b), (a.T.copy(), b[:5])):
        bad = matrix.copy()
        bad[3, 2] = np.inf
        with pytest.raises(NonFiniteError):
            lh.lstsq(bad, sides, progress=False)
        worse = sides.copy()
        worse[4] = np.nan
        with pytest.raises(NonFiniteError, match="index 4, in block"):
            lh.lstsq(matrix, worse, progress=False)


@pytest.mark.parametrize("device", ["host", "reference"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_triangles_of_lanes_are_joined_as_if_one_lane_had_read_all(device: str, dtype: str) -> None:
    a, b, kernel = gaussian((50, 6), dtype), gaussian((50, 2), dtype, 1), table(device)["stack"]
    wide = np.result_type(dtype, np.float64)
    small = {"columns": 6, "sides": 2, "wide": wide, "tile": 7, "names": ("a", "b")}

    def lane(*cuts: tuple[int, int]) -> dict[str, Any]:
        acc = {**kernel.begin(small, ()), "steps": frozenset(cuts)}
        for low, high in cuts:
            kernel.step(acc, [a[low:high], b[low:high]], small, ((low, high), (0, 6)))
        return acc

    total = combine(lane((0, 11), (11, 20)), lane((20, 50)))["stacked"]
    both = np.hstack([a, b]).astype(wide)
    gram = both.conj().T @ both  # R^H R, whatever the signs of R
    assert np.linalg.norm(total.conj().T @ total - gram) <= 50 * 2.3e-16 * np.linalg.norm(gram)
    assert np.all(np.tril(total, -1) == 0)


@pytest.mark.parametrize("device", ["host", "reference"])
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_checking_kernels_of_every_device_equal_their_formulas(device: str, dtype: str) -> None:
    a, b, x = (gaussian(s, dtype, i) for i, s in enumerate(((40, 6), (40, 2), (6, 2))))
    at, eps = ((0, 40), (0, 6)), 16 * 40 * np.finfo(float).eps
    small: dict[str, Any] = {
        "x": x, "scales": (2.0, 0.5), "tile": 16, "dtype": np.dtype(dtype), "held": True,
        "rows": 40, "left": x, "parts": [x, 2 * x], "write": False,
    }  # fmt: skip
    residual = table(device)["residual"]
    acc = residual.begin(small, at)
    residual.step(acc, [a, b], small, at)
    left = 0.5 * b - 2 * a @ x
    assert np.linalg.norm(acc["normal"] - 2 * a.conj().T @ left) <= eps * 2000
    assert np.allclose(acc["squares"], np.linalg.norm(left, axis=0) ** 2, rtol=eps)
    shortest = table(device)["shortest"]  # its blocks are of A^H
    acc = shortest.begin(small, at)
    shortest.step(acc, [a], small, at)
    scaled = 2 * a @ (3 * x)
    assert np.linalg.norm(acc["solution"] - scaled * 4) <= eps * 2000
    assert np.linalg.norm(acc["product"] - 2 * a.conj().T @ scaled) <= eps * 20000
    normal = np.linalg.norm(2 * a @ x, axis=0) ** 2
    assert np.allclose(acc["normal_squares"], normal, rtol=eps)
