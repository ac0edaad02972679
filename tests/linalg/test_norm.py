"""Norms equal NumPy's, for all orders, shapes, dtypes and sizes."""

import itertools

import numpy as np
import pytest

import leptonhpc as lh
from leptonhpc.errors import LeptonError, OptionError
from leptonhpc.testing import CASES, Case, matrix_with_spectrum

MEMORY = "1 GB"
ORDERS = ["fro", 1, -1, np.inf, -np.inf, 2, "nuc"]
GROUPS = [CASES[i : i + 6] for i in range(0, len(CASES), 6)]


@pytest.mark.parametrize("order", ["fro", 1, -1, np.inf, -np.inf])
@pytest.mark.parametrize("cases", GROUPS, ids=[f"{g[0].name} .." for g in GROUPS])
def test_sums_are_right_to_double_precision_whatever_the_dtype(
    cases: tuple[Case, ...], order: object
) -> None:
    for case in cases:
        a = case.matrix()
        true = np.linalg.norm(a.astype(np.result_type(a, float)), order)
        r = lh.norm(a, ord=order, memory=MEMORY)
        assert abs(r.value - true) <= 2 * r.certificate.relative_error * true, case.name
        assert r.certificate.relative_error <= max(a.shape) * 64 * np.finfo(float).eps


@pytest.mark.parametrize("order", [2, "nuc"])
@pytest.mark.parametrize("cases", GROUPS, ids=[f"{g[0].name} .." for g in GROUPS])
def test_spectral_and_nuclear_norms_are_those_of_numpy(
    cases: tuple[Case, ...], order: object
) -> None:
    for case in cases:
        a = case.matrix()
        s = np.linalg.svd(a.astype(np.result_type(a, float)), compute_uv=False)
        true = float(s[0] if order == 2 else s.sum())
        r = lh.norm(a, ord=order, memory=MEMORY)
        # each value is right to c n eps s1
        count = 1 if order == 2 else len(s)
        allowed = 8 * case.short * np.finfo(case.computed).eps * s[0] * count
        assert abs(float(r) - true) <= allowed + 1e-6 * (order == 2) * true, case.name


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("exponent", [-250, -200, -150, 150, 200, 250])
def test_norms_of_numbers_far_from_one_are_right_or_refused(order: object, exponent: int) -> None:
    for shape, dtype in itertools.product([(60, 20), (20, 60), (1, 1)], ["float64", "complex128"]):
        b = matrix_with_spectrum(shape, np.ones(min(shape)), dtype=dtype)
        try:
            r = lh.norm(b * 10.0**exponent, ord=order, memory=MEMORY)
        except LeptonError:
            assert order in (2, "nuc")  # sums of sizes need no squares
            continue
        assert float(r) / 10.0**exponent == pytest.approx(np.linalg.norm(b, order), rel=1e-12)


@pytest.mark.parametrize("order", ORDERS)
def test_single_precision_is_summed_in_double(order: object) -> None:
    b = matrix_with_spectrum((3000, 40), np.ones(40), dtype="float32")
    for factor in (np.float32(2.0**-80), np.float32(2.0**80)):
        true = np.linalg.norm((b * factor).astype(float), order)
        eps = np.finfo(np.float32).eps if order in (2, "nuc") else 16 * np.finfo(float).eps
        assert float(lh.norm(b * factor, ord=order)) == pytest.approx(true, rel=float(8 * 40 * eps))


@pytest.mark.parametrize("order", ORDERS)
def test_the_norm_of_zeros_is_zero(order: object) -> None:
    assert float(lh.norm(np.zeros((30, 8)), ord=order)) == 0
    assert float(lh.norm(np.zeros((8, 30), np.complex64), ord=order)) == 0


def test_orders_are_numbers_not_types() -> None:
    a = np.arange(12.0).reshape(4, 3)
    assert float(lh.norm(a, ord=1.0)) == np.linalg.norm(a, 1)
    assert float(lh.norm(a, ord=2.0)) == pytest.approx(np.linalg.norm(a, 2), rel=1e-12)
    assert float(lh.norm(a, ord=float("inf"))) == np.linalg.norm(a, np.inf)


@pytest.mark.parametrize("order", ["max", 3, -3, 0])
def test_other_orders_are_refused(order: object) -> None:
    with pytest.raises(OptionError, match="ord"):
        lh.norm(np.ones((4, 3)), ord=order)


def test_norms_by_svd_can_be_planned() -> None:
    assert float(lh.plan("norm", np.eye(5), ord=2).run()) == pytest.approx(1, rel=1e-12)
