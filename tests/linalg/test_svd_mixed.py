"""SVD by a Gram matrix in single precision: values right to its square, residuals measured."""

from typing import Any

import numpy as np
import pytest

import leptonhpc as lh
from leptonhpc.errors import NotConvergedWarning, OptionError
from leptonhpc.testing import matrix_with_spectrum

MEMORY = "1 GB"
SINGLE = float(np.finfo(np.float32).eps)
SHAPES = [(3000, 90), (90, 3000), (5000, 70)]  # the last is more than one segment


def spectrum(count: int) -> np.ndarray:
    return np.asarray(0.8 ** np.arange(float(count)))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["f4", "f8", "c16"])
def test_values_and_vectors_are_those_of_numpy(shape: tuple[int, int], dtype: str) -> None:
    a = matrix_with_spectrum(shape, 5 * spectrum(min(shape)), dtype=dtype)
    r = lh.svd(a, rank=4, method="mixed", memory=MEMORY)
    wide = a.astype(np.result_type(a, np.float64))
    true = np.linalg.svd(wide, compute_uv=False)
    assert r.certificate.converged
    # sums of the short side's length round like random walks (Higham and Mary 2019)
    noise = 8 * np.sqrt(min(shape)) * SINGLE * true[0]
    np.testing.assert_allclose(r.s, true[:4], atol=noise)
    residual = np.linalg.norm(wide.conj().T @ np.asarray(r.u) - np.asarray(r.vh).conj().T * r.s)
    assert residual < 2 * noise
    for q in (np.asarray(r.u), np.asarray(r.vh).conj().T):
        np.testing.assert_allclose(q.conj().T @ q, np.eye(4), atol=noise / true[0])
    np.testing.assert_allclose(r.certificate.norm, np.linalg.norm(wide), rtol=70 * SINGLE)


def test_in_double_precision_values_are_right_to_the_square_of_the_error() -> None:
    a = matrix_with_spectrum((4000, 80), 5 * spectrum(80))
    single, mixed = (
        lh.svd(x, rank=3, method="mixed", memory=MEMORY) for x in (a.astype("f4"), a)
    )  # fmt: skip
    true = np.linalg.svd(a, compute_uv=False)[:3]
    gap = 1 - 0.8**2
    np.testing.assert_allclose(mixed.s, true, rtol=(16 * 9 * SINGLE / gap) ** 2)
    assert np.abs(mixed.s / true - 1).max() < np.abs(single.s / true - 1).max()


@pytest.mark.parametrize("options", [{"center": True}, {"center": True, "scale": "std"}])
@pytest.mark.parametrize("wide", [False, True])
def test_centring_and_scaling_happen_inside(options: dict[str, Any], wide: bool) -> None:
    a = matrix_with_spectrum((900, 60), spectrum(60)) + 1
    a = np.ascontiguousarray(a.T) if wide else a
    found, exact = (
        lh.svd(a, rank=3, method=m, memory=MEMORY, **options) for m in ("mixed", "gram")
    )
    assert found.mean is not None
    assert exact.mean is not None
    np.testing.assert_allclose(found.mean, exact.mean, atol=1000 * SINGLE)
    np.testing.assert_allclose(found.s, exact.s, atol=64 * SINGLE * exact.s[0])


@pytest.mark.parametrize("exponent", [-30, -22, 22, 30])
def test_squares_out_of_the_range_of_single_precision_are_right(exponent: int) -> None:
    factor = 2.0 ** round(exponent * np.log2(10))
    a = matrix_with_spectrum((500, 60), spectrum(60))
    s = lh.svd(a * factor, rank=2, method="mixed", memory=MEMORY).s
    np.testing.assert_allclose(s / factor, spectrum(60)[:2], rtol=64 * SINGLE)


def test_zeros_and_one_row_have_an_answer() -> None:
    r = lh.svd(np.zeros((50, 8)), rank=2, method="mixed", memory=MEMORY)
    np.testing.assert_array_equal(r.s, 0)
    np.testing.assert_allclose(lh.svd([[3.0, 4.0]], rank=1, method="mixed").s, 5)


def test_modes_lost_in_single_precision_are_said_to_be() -> None:
    a = matrix_with_spectrum((900, 200), 10.0 ** -np.linspace(0, 12, 200))
    with pytest.warns(NotConvergedWarning):
        r = lh.svd(a, rank=100, method="mixed", memory=MEMORY)
    assert not r.certificate.converged


def test_all_modes_are_refused() -> None:
    with pytest.raises(OptionError, match="give rank="):
        lh.svd(np.eye(5), method="mixed")
