"""Rank, condition, pseudoinverse and polar factors: NumPy's to rounding, and certified."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import leptonhpc as lh
from leptonhpc.errors import (
    MemoryBudgetError,
    NonFiniteError,
    NotConvergedWarning,
    NumericRangeError,
    OptionError,
    ShapeError,
)
from leptonhpc.testing import CASES, Case, matrix_with_spectrum, put

MEMORY = "1 GB"
FEW = [c for c in CASES if not c.name.startswith("krylov")]
GROUPS = [FEW[i : i + 6] for i in range(0, len(FEW), 6)]
IDS = [f"{g[0].name} .." for g in GROUPS]
DTYPES = [np.float32, np.float64, np.complex64, np.complex128]


def widened(a: np.ndarray) -> np.ndarray:
    return a.astype(np.result_type(a, float))


@pytest.mark.filterwarnings("ignore::leptonhpc.errors.NotConvergedWarning")
@pytest.mark.parametrize("cases", GROUPS, ids=IDS)
def test_the_rank_is_the_number_of_singular_values_above_the_cutoff(
    cases: tuple[Case, ...],
) -> None:
    for case in cases:
        a = case.matrix()
        r = lh.matrix_rank(a, memory=MEMORY)
        s = np.linalg.svd(widened(a), compute_uv=False)
        assert np.max(np.abs(r.s - s)) <= r.certificate.rounding + np.finfo(float).eps * s[0]
        if r.certificate.converged:
            assert int(r) == np.count_nonzero(s > r.certificate.cutoff), case.name


@pytest.mark.parametrize("shape", [(400, 300), (300, 400), (400, 400)])
def test_exact_zeros_below_values_of_1e_minus_12_are_told_apart(shape: tuple[int, int]) -> None:
    values = np.r_[np.geomspace(1, 1e-12, 150), np.zeros(min(shape) - 150)]
    r = lh.matrix_rank(matrix_with_spectrum(shape, values), memory=MEMORY)
    assert int(r) == 150
    assert r.certificate.converged
    # the last of them keeps the digits that LAPACK gives it
    assert abs(r.s[149] - 1e-12) <= r.certificate.rounding


@pytest.mark.parametrize("dtype", DTYPES)
def test_products_of_thin_factors_have_the_rank_of_the_factors(
    dtype: type, rng: np.random.Generator
) -> None:
    left, right = rng.standard_normal((120, 7)), rng.standard_normal((7, 60))
    r = lh.matrix_rank((left @ right).astype(dtype), memory=MEMORY)
    assert int(r) == 7
    assert r.certificate.converged
    assert "decided" in str(r.certificate)


def test_a_tolerance_within_rounding_of_a_value_is_said_not_to_decide() -> None:
    a = matrix_with_spectrum((50, 20), np.r_[np.ones(19), 1e-4])
    assert int(lh.matrix_rank(a, tol=1e-3)) == 19
    assert int(lh.matrix_rank(a, tol=1e-5)) == 20
    with pytest.warns(NotConvergedWarning, match="NOT DECIDED"):
        lh.matrix_rank(a, tol=1e-4)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("condition", [1.0, 30.0, 1e4])
@pytest.mark.parametrize("shape", [(90, 40), (40, 90), (60, 60)])
def test_the_condition_number_lies_between_its_bounds(
    shape: tuple[int, int], condition: float, dtype: type
) -> None:
    a = matrix_with_spectrum(shape, np.geomspace(1, 1 / condition, min(shape)), dtype=dtype)
    r = lh.cond(a, memory=MEMORY)
    true = np.linalg.cond(widened(a))
    assert r.certificate.lower <= true * (1 + 1e-12)
    assert true <= r.certificate.upper * (1 + 1e-12)
    assert abs(float(r) - true) <= r.certificate.upper - r.certificate.lower + 1e-12 * true


def test_conditions_up_to_1e12_are_resolved_and_singular_matrices_are_named() -> None:
    a = matrix_with_spectrum((100, 50), np.geomspace(1, 1e-12, 50))
    assert abs(float(lh.cond(a)) / 1e12 - 1) < 0.05
    with pytest.warns(NotConvergedWarning, match="singular to working precision"):
        r = lh.cond(np.ones((9, 4)))
    assert r.certificate.upper == np.inf
    assert r.certificate.lower > 1e12
    assert float(lh.cond(np.zeros((3, 2)))) == np.inf


ORDERS = [2, -2, "fro", "nuc", 1, -1, np.inf, -np.inf]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
def test_condition_numbers_in_every_norm_are_numpys(order: Any, dtype: type) -> None:
    a = matrix_with_spectrum((40, 40), np.geomspace(1, 1e-2, 40), dtype=dtype)
    true = np.linalg.cond(widened(a), order)
    r = lh.cond(a, p=order, memory=MEMORY)
    # the least singular value is right to c eps, 1 / 100 of |A|
    assert float(r) == pytest.approx(true, rel=64 * 4000 * float(np.finfo(dtype).eps))
    assert r.certificate.lower <= true <= r.certificate.upper
    assert (r.s is None) == (order in (1, -1, np.inf, -np.inf))
    identity = lh.cond(np.eye(5, dtype=dtype), p=order, memory=MEMORY)
    assert float(identity) == pytest.approx(np.linalg.cond(np.eye(5), order), rel=1e-5)


@pytest.mark.parametrize("order", ORDERS)
def test_condition_numbers_of_singular_matrices_are_named_in_every_norm(order: Any) -> None:
    with pytest.warns(NotConvergedWarning, match="singular to working precision"):
        r = lh.cond(np.ones((6, 6)), p=order, memory=MEMORY)
    if order == -2:
        assert 0 <= float(r) <= r.certificate.upper <= 1e-13
    else:
        assert float(r) >= 1e12
        assert r.certificate.upper == np.inf


def test_condition_numbers_of_stored_matrices_are_made_in_panels(tmp_path: Path) -> None:
    a = np.random.default_rng(0).standard_normal((463, 463))
    x = put(a, tmp_path / "a", chunks=(64, 64))
    for order in (1, np.inf):
        r = lh.cond(x, p=order, memory="180 MB")
        assert float(r) == pytest.approx(np.linalg.cond(a, order), rel=1e-8)
        assert r.report.predicted_peak_nbytes <= 180e6
    plan = lh.plan("cond", x, p=1)
    assert "its inverse" in str(plan)


def test_condition_numbers_that_make_no_sense_are_refused() -> None:
    for order in (3, "spectral", True):
        with pytest.raises(OptionError, match="p is 2, -2"):
            lh.cond(np.eye(3), p=order)
    with pytest.raises(ShapeError, match="square matrix"):
        lh.cond(np.ones((3, 2)), p="fro")


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
def test_the_norm_of_order_minus_two_is_the_smallest_singular_value(dtype: type) -> None:
    a = matrix_with_spectrum((50, 30), np.geomspace(1, 1e-3, 30), dtype=dtype)
    r = lh.norm(a, ord=-2, memory=MEMORY)
    true = np.linalg.norm(widened(a), -2)
    assert abs(float(r) - true) <= r.certificate.relative_error * true
    assert float(lh.norm(np.zeros((3, 2)), ord=-2)) == 0
    with pytest.warns(NotConvergedWarning, match="norm of"):
        assert float(lh.norm(np.ones((3, 2)), ord=-2)) <= 1e-15


@pytest.mark.parametrize("cases", GROUPS, ids=IDS)
def test_the_pseudoinverse_is_numpys_within_the_certificates_bound(
    cases: tuple[Case, ...],
) -> None:
    for case in cases:
        a = case.matrix()
        r = lh.pinv(a, memory=MEMORY)
        c = r.certificate
        x = np.asarray(r)
        assert x.shape == a.shape[::-1]
        assert x.dtype == case.computed
        s = np.linalg.svd(widened(a), compute_uv=False)
        true = np.linalg.pinv(widened(a), rcond=c.cutoff / s[0] if s[0] else 0)
        assert c.converged, case.name
        assert np.linalg.norm(x - true) <= c.bound * (np.linalg.norm(true) or 1), case.name


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(80, 30), (30, 80)])
def test_the_four_conditions_of_penrose_hold(shape: tuple[int, int], dtype: type) -> None:
    a = matrix_with_spectrum(shape, np.r_[np.geomspace(1, 0.1, 20), np.zeros(10)], dtype=dtype)
    r = lh.pinv(a, memory=MEMORY)
    x, b = widened(np.asarray(r)), widened(a)
    allowed = r.certificate.bound
    assert r.certificate.rank == 20
    assert np.linalg.norm(b @ x @ b - b) <= allowed * np.linalg.norm(b)
    assert np.linalg.norm(x @ b @ x - x) <= allowed * np.linalg.norm(x)
    for product in (b @ x, x @ b):
        assert np.linalg.norm(product - product.conj().T) <= allowed * 20**0.5


def test_values_below_rcond_do_not_count() -> None:
    a = np.diag([1.0, 0.5, 1e-3])
    assert np.allclose(lh.pinv(a, rcond=0.1), np.diag([1, 2, 0]), rtol=1e-14)
    assert np.allclose(lh.pinv(a), np.diag([1, 2, 1e3]), rtol=1e-12)


def test_a_pseudoinverse_that_overflows_is_refused() -> None:
    with pytest.raises(NumericRangeError, match="overflows"):
        lh.pinv(np.eye(3) * 1e-309)


@pytest.mark.parametrize("cases", GROUPS, ids=IDS)
def test_polar_factors_multiply_to_the_matrix(cases: tuple[Case, ...]) -> None:
    for case in cases:
        a = case.matrix()
        wide = widened(a)
        for side in ("right", "left"):
            if (a.shape[0] < a.shape[1]) if side == "right" else (a.shape[0] > a.shape[1]):
                continue
            r: Any = lh.polar(a, side=side, memory=MEMORY)  # type: ignore[arg-type]
            u, p = (widened(np.asarray(x)) for x in r)
            c = r.certificate
            found = u @ p if side == "right" else p @ u
            columns = u if side == "right" else u.conj().T
            eye = np.eye(columns.shape[1])
            assert c.converged, case.name
            assert np.linalg.norm(found - wide) <= c.bound * (np.linalg.norm(wide) or 1)
            assert np.linalg.norm(columns.conj().T @ columns - eye) <= c.bound * len(eye) ** 0.5
            assert np.array_equal(p, p.conj().T)
            # as far below zero as rounding takes it
            assert np.linalg.eigvalsh(p).min() >= -c.bound * np.linalg.norm(wide)


@pytest.mark.parametrize("exponent", [-250, -160, 160, 250])
def test_numbers_far_from_one_have_the_same_factors(exponent: int) -> None:
    a = matrix_with_spectrum((50, 20), np.geomspace(1, 0.1, 20))
    plain, scaled = lh.polar(a), lh.polar(a * 10.0**exponent)
    assert scaled.certificate.converged
    allowed = 10 * plain.certificate.bound * 20**0.5  # times the condition
    assert np.linalg.norm(scaled.u - plain.u) <= allowed
    x = np.asarray(lh.pinv(a * 10.0**exponent)) * 10.0**exponent
    assert np.linalg.norm(x - np.linalg.pinv(a)) <= 20 * allowed
    assert int(lh.matrix_rank(a * 10.0**exponent)) == 20
    assert float(lh.cond(a * 10.0**exponent)) == pytest.approx(10, rel=1e-12)


def test_a_square_matrix_has_the_same_u_on_both_sides() -> None:
    a = matrix_with_spectrum((40, 40), np.geomspace(1, 0.1, 40), dtype=np.complex128)
    (u, p), (v, q) = lh.polar(a), lh.polar(a, side="left")
    allowed = 10 * lh.polar(a).certificate.bound * 40**0.5  # times the condition
    assert np.linalg.norm(u - v) <= allowed
    assert np.linalg.norm(q - u @ p @ u.conj().T) <= allowed


def test_the_unpolar_side_is_refused_with_the_other_named() -> None:
    with pytest.raises(ShapeError, match="side='left'"):
        lh.polar(np.ones((3, 5)))
    with pytest.raises(ShapeError, match="side='right'"):
        lh.polar(np.ones((5, 3)), side="left")


@pytest.mark.parametrize("driver", ["matrix_rank", "cond", "pinv", "polar"])
def test_bad_numbers_shapes_and_budgets_are_refused(driver: str) -> None:
    run = getattr(lh, driver)
    bad = np.ones((20, 6))
    bad[11, 4] = np.nan
    with pytest.raises(NonFiniteError, match=r"\(11, 4\)"):
        run(bad, memory=MEMORY)
    for shape in ((3,), (0, 3), (2, 2, 2)):
        with pytest.raises(ShapeError):
            run(np.ones(shape), memory=MEMORY)
    with pytest.raises(MemoryBudgetError, match=r"at least memory='\d+ MB'"):
        run(np.ones((3000, 600)), memory="160 MB")


def test_tolerances_are_numbers_below_one() -> None:
    for tol in (-1, 1, "a", True, np.nan):
        with pytest.raises(OptionError):
            lh.matrix_rank(np.eye(2), tol=tol)
        with pytest.raises(OptionError):
            lh.pinv(np.eye(2), rcond=tol)


@pytest.mark.parametrize("driver", ["pinv", "polar"])
def test_results_beyond_memory_are_stored_within_it(
    driver: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    a = rng.standard_normal((24000, 150)) / 100
    place = put(a, tmp_path / "a.zarr", chunks=(1000, 150))
    r = getattr(lh, driver)(place, memory="176 MB", out=tmp_path / "out")
    assert r.report.predicted_peak_nbytes <= r.report.memory_nbytes
    assert r.report.reads_per_chunk <= 1
    again = lh.load(tmp_path / "out")
    assert again.certificate == r.certificate
    name = next(iter(again.arrays()))
    u, s, vh = np.linalg.svd(a, full_matrices=False)
    true = (vh.T / s) @ u.T if driver == "pinv" else u @ vh
    found = np.asarray(again.arrays()[name])
    assert np.linalg.norm(found - true) <= r.certificate.bound * np.linalg.norm(true) * 2
    left = {p.name for p in (tmp_path / "out").iterdir()}
    assert not left & {"long", "y1", "vh"}  # nothing that only the job needed


def test_every_driver_can_be_planned_and_run_from_its_plan() -> None:
    a = matrix_with_spectrum((30, 12), np.geomspace(1, 0.1, 12))
    for driver, run in itertools.product(["matrix_rank", "cond", "pinv", "polar"], [True]):
        plan = lh.plan(driver, a, memory=MEMORY)  # type: ignore[arg-type]
        assert plan.explanation.driver == driver
        assert plan.run().certificate.converged is run


@pytest.mark.parametrize("p", [-1, -np.inf])
def test_smallest_sums_are_no_norms_and_no_norm_bounds_them(p: float) -> None:
    r = lh.cond(np.diag([1.0, 2.0]), p=p)
    assert r.certificate.lower <= r.value == 0.5 <= r.certificate.upper
    hilbert = [[1 / (i + j + 1) for j in range(12)] for i in range(12)]
    with pytest.warns(NotConvergedWarning):
        r = lh.cond(np.array(hilbert), p=p)
    assert r.certificate.lower <= 8.85e8  # by rational arithmetic, p=-1; the matrix is symmetric


def test_no_condition_number_is_no_converged_one() -> None:
    with pytest.warns(NotConvergedWarning):
        r = lh.cond(np.zeros((6, 6)), p=-2)
    assert np.isnan(r.value)
    assert not r.certificate.converged
