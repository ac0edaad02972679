"""Numbers at both ends of the range of doubles: right within the certificate, or said not to be."""

from functools import partial
from typing import Any

import numpy as np
import pytest

import leptonhpc as lh
from leptonhpc.errors import LeptonError, NumericRangeError
from leptonhpc.linalg.sizes import length

RNG = np.random.default_rng(5)
GAUSSIAN = RNG.standard_normal((40, 12))
# integers times the smallest number of the dtype
WHOLE = RNG.integers(-9, 10, (12, 12))
TINY = {
    "double": WHOLE * np.finfo(np.float64).smallest_subnormal,
    "single": WHOLE.astype(np.float32) * np.finfo(np.float32).smallest_subnormal,
}
pytestmark = pytest.mark.filterwarnings("ignore::leptonhpc.errors.NotConvergedWarning")


def enlarged(a: Any, dtype: str) -> np.ndarray:
    """Give numbers in double precision, in units of the smallest number of a dtype."""
    return np.asarray(a, float) * (2.0**1000 if dtype == "double" else 2.0**149)


@pytest.mark.parametrize("exponent", [-300, 0, 300])
def test_a_gram_matrix_in_single_precision_does_not_lose_all_of_tiny_data(exponent: int) -> None:
    true = np.linalg.svd(GAUSSIAN, compute_uv=False)[:3]
    r = lh.svd(GAUSSIAN * 10.0**exponent, rank=3, method="mixed", memory="1 GB")
    assert r.certificate.converged
    assert np.max(np.abs(r.s / 10.0**exponent - true)) <= 1e-3 * true[0]
    assert r.certificate.norm == pytest.approx(np.linalg.norm(GAUSSIAN) * 10.0**exponent)
    assert lh.svd(np.zeros((5, 3)), rank=1, method="mixed", memory="1 GB").s[0] == 0


@pytest.mark.parametrize("method", ["gram", "mixed"])
def test_data_from_end_to_end_of_the_range_are_done_after_one_look_at_them(method: Any) -> None:
    a = np.diag(np.geomspace(1e-300, 1e300, 20))
    r = lh.svd(a, rank=3, method=method, memory="1 GB")
    assert np.allclose(r.s, np.geomspace(1e-300, 1e300, 20)[:-4:-1], rtol=1e-6)


@pytest.mark.parametrize("dtype", TINY)
def test_values_that_hold_a_few_bits_have_certificates_that_say_so(dtype: str) -> None:
    a, big = TINY[dtype], partial(enlarged, dtype=dtype)
    hermitian = np.tril(a) + np.tril(a, -1).T
    true = np.linalg.svd(big(a), compute_uv=False)
    for method in ("gram", "auto"):
        r = lh.svd(a, method=method, memory="1 GB")
        assert np.all(np.abs(big(r.s) - true) <= big(r.certificate.rounding))
        error = np.linalg.norm(big(a) - (r.u * big(r.s)) @ r.vh)
        assert error <= big(r.certificate.frobenius_bound)
    w = lh.eigh(hermitian, memory="1 GB")
    far = np.abs(big(w.eigenvalues) - np.linalg.eigvalsh(big(hermitian)))
    c = w.certificate
    assert np.all(far <= big(c.eigenvalue_bound) + big(c.rounding))
    condition = lh.cond(a, memory="1 GB").certificate
    assert condition.lower <= true[0] / true[-1] <= condition.upper
    for order in ("fro", 1, np.inf, 2, -2):
        found = lh.norm(a, ord=order, memory="1 GB")
        expected = np.linalg.norm(big(a), order)
        c = found.certificate
        allowed = getattr(c, "relative_error", 0.0) * expected
        allowed += big(getattr(c, "rounding", 0.0))
        assert abs(big(found.value) - expected) <= allowed * 1.01, order


@pytest.mark.parametrize("dtype", TINY)
def test_factors_of_a_few_bits_are_not_said_to_be_right(dtype: str) -> None:
    a, big = TINY[dtype], partial(enlarged, dtype=dtype)
    polar = lh.polar(a, memory="1 GB")
    error = np.linalg.norm(np.asarray(polar.u, float) @ big(polar.p) - big(a))
    size = np.linalg.norm(big(a))
    c = polar.certificate
    assert not c.converged
    assert error <= 4 * c.backward_error * size
    for driver in ("qr", "lu"):
        assert not getattr(lh, driver)(a, memory="1 GB").certificate.converged
    with pytest.raises(LeptonError, match="overflows|regular"):
        lh.pinv(a, memory="1 GB")


SMALLEST = {"f4": 2.0**-149, "f8": 2.0**-1074, "F": 2.0**-149, "D": 2.0**-1074}


@pytest.mark.parametrize("dtype", SMALLEST)
def test_inverses_that_overflow_are_said_to(dtype: str) -> None:
    unit = SMALLEST[dtype] * 2.0**12
    a = ((4 * np.eye(8) + RNG.integers(0, 3, (8, 8))) * unit).astype(dtype)
    one = np.diag([a[0, 0], *np.ones(7)]).astype(dtype)  # as large as the others: only 1 / a does
    for x in (a, one):
        with pytest.raises(NumericRangeError, match="overflows .* first, or use solve"):
            lh.inv(x, memory="1 GB")
    # the solution does not: the system is solved with rows and columns scaled
    r = lh.solve(a, a[:, 0], memory="1 GB")
    assert r.certificate.scaled
    assert np.linalg.norm(r.x - np.eye(8)[0]) <= r.certificate.error
    assert r.certificate.error <= 0.1


@pytest.mark.parametrize("dtype", ["F", "D"])
def test_norms_of_the_smallest_complex_numbers_are_right(dtype: str) -> None:
    unit = SMALLEST[dtype]
    a = np.full((6, 6), unit * (3 + 4j), dtype)
    assert length(a[0, :4]) == 10 * unit
    assert lh.norm(a[:4, :4], memory="1 GB").value == 20 * unit
    r = lh.matmul(a, np.full((6, 2), 1 / 4 + 0j), memory="1 GB")
    assert r.certificate.norm == pytest.approx(np.sqrt(12) * np.hypot(4, 6) * unit, rel=0.1)
