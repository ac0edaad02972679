"""Numbers far from one: right, or a typed error; never silently wrong."""

import itertools

import numpy as np
import pytest

import leptonhpc as lh
from leptonhpc.errors import LeptonError
from leptonhpc.testing import factorization_error, matrix_with_spectrum

# whether an accuracy was reached is not the question here
pytestmark = pytest.mark.filterwarnings("ignore::leptonhpc.errors.NotConvergedWarning")

MEMORY = "1 GB"
METHODS = ["gram", "krylov", "sketch"]
SHAPES = [(200, 80), (80, 200)]
OPTIONS = [{}, {"center": True}, {"center": True, "scale": "std"}]


def scaled(
    shape: tuple[int, int], exponent: int, dtype: type
) -> tuple[np.ndarray, np.ndarray, float]:
    """Give A = 10^exponent B (exactly, a power of two near it), and B."""
    factor = 2.0 ** round(exponent * np.log2(10))
    b = matrix_with_spectrum(shape, 0.5 ** np.arange(80.0), dtype=dtype)
    return (b * np.asarray(factor, b.real.dtype)).astype(dtype), b, factor


def check_right_or_typed(
    a: np.ndarray, b: np.ndarray, factor: float, method: str, options: dict[str, object]
) -> bool:
    """Assert that the answer is that for B times the factor; False if it was refused."""
    if method == "sketch" and "scale" in options:
        return False
    try:
        r = lh.svd(a, rank=3, method=method, memory=MEMORY, accuracy=0.01, **options)
    except LeptonError:
        return False
    reference = lh.svd(b, rank=3, method=method, memory=MEMORY, accuracy=0.01, **options)
    s = r.s.astype(float) if "scale" in options else r.s.astype(float) / factor
    # the same arithmetic but for the exponents: 16 n eps allows other stops and shifts
    eps = np.finfo(b.dtype).eps
    allowed = (0.01 if method == "krylov" else 16 * 80 * eps) * reference.s[0]
    assert np.all(np.abs(s - reference.s) <= allowed), (r.s, reference.s * factor)
    if not options:
        error = factorization_error(b, r.u, s, r.vh)
        best = factorization_error(b, reference.u, reference.s, reference.vh)
        assert error <= 1.01 * best + allowed
        assert r.certificate.norm / factor == pytest.approx(reference.certificate.norm, rel=1e-6)
    return True


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "exponent", [-300, -200, -160, -150, -110, -90, 70, 90, 110, 150, 160, 200, 300]
)
def test_double_precision_far_from_one_is_right_or_refused(method: str, exponent: int) -> None:
    for shape in SHAPES:
        a, b, factor = scaled(shape, exponent, np.float64)
        for options in OPTIONS:
            check_right_or_typed(a, b, factor, method, options)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("exponent", [-70, -40, 40, 70])
def test_double_precision_of_ordinary_exponents_is_never_refused(
    method: str, exponent: int
) -> None:
    for shape in SHAPES:
        a, b, factor = scaled(shape, exponent, np.float64)
        assert check_right_or_typed(a, b, factor, method, {})
        assert check_right_or_typed(a, b, factor, method, {"center": True})


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("exponent", [-25, -20, 20, 25])
def test_single_precision_with_squares_out_of_its_range_is_right(
    method: str, exponent: int
) -> None:
    for shape, dtype in itertools.product(SHAPES, (np.float32, np.complex64)):
        a, b, factor = scaled(shape, exponent, dtype)
        assert check_right_or_typed(a, b, factor, method, {})
        assert check_right_or_typed(a, b, factor, method, {"center": True})


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("exponent", [-36, -33, 33, 36, 37])
def test_single_precision_at_the_ends_of_its_range_is_right_or_refused(
    method: str, exponent: int
) -> None:
    for shape in SHAPES:
        a, b, factor = scaled(shape, exponent, np.float32)
        check_right_or_typed(a, b, factor, method, {})


@pytest.mark.parametrize("method", METHODS)
def test_a_singular_value_beyond_single_precision_is_refused(method: str) -> None:
    a = np.full((400, 100), 3e38, np.float32)  # the value is 6e40
    with pytest.raises(LeptonError):
        lh.svd(a, rank=1, method=method, memory=MEMORY)


@pytest.mark.parametrize("exponent", [-200, -150, 150])
def test_values_alone_far_from_one_are_right_or_refused(exponent: int) -> None:
    a, b, factor = scaled((200, 80), exponent, np.float64)
    for rank in (None, 3):
        try:
            s = lh.svd(a, rank=rank, compute_uv=False, memory=MEMORY).s / factor
        except LeptonError:
            continue
        true = np.linalg.svd(b, compute_uv=False)[: len(s)]
        assert np.all(np.abs(s - true) <= 1e-3 * true[0])


@pytest.mark.parametrize("method", METHODS)
def test_columns_of_very_unlike_size_are_right_once_standardised(method: str) -> None:
    b = matrix_with_spectrum((200, 80), np.geomspace(1, 0.1, 80))
    sizes = np.geomspace(1e-30, 1e30, 80)
    options = {"scale": sizes} if method == "sketch" else {"scale": "std"}
    r = lh.svd(b * sizes, rank=2, method=method, accuracy=0.5, memory=MEMORY, **options)
    standard = b if method == "sketch" else b / b.std(axis=0)
    error = factorization_error(standard, r.u, r.s, r.vh)
    assert error <= r.certificate.frobenius_bound * (1 + 1e-9)
