"""The SVD of a small matrix: right on every device, and in the memory that plans count."""

import numpy as np
import pytest

from leptonhpc.kernels import singular, table
from leptonhpc.testing.hard import HARD

DTYPES = ["float32", "float64", "complex64", "complex128"]


def require_factors(a: np.ndarray, u: np.ndarray, s: np.ndarray, vh: np.ndarray) -> None:
    """Require A = U S V^H with orthonormal U and V, all to rounding."""
    n, eps = len(a), float(np.finfo(a.dtype).eps)
    assert s.dtype == a.real.dtype
    assert np.all(np.diff(s) <= 0)
    assert s[-1] >= 0
    # bidiagonalisation errs by gamma_n |A|_F (Higham 2002, Lemma 19.3), as a random walk sqrt(n)
    allowed = 16 * n * eps
    assert np.linalg.norm((u * s) @ vh - a) <= allowed * np.linalg.norm(a)
    for q in (u, vh):
        assert np.linalg.norm(q.conj().T @ q - np.eye(n)) <= allowed * n**0.5


@pytest.mark.parametrize("device", ["host", "reference"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 2, 3, 31, 130])
def test_factors_multiply_to_the_matrix_which_stays_as_it_was(
    device: str, dtype: str, n: int
) -> None:
    rng = np.random.default_rng(n)
    a = rng.standard_normal((n, n)) + 1j * rng.standard_normal((n, n)) * dtype.startswith("c")
    a = (a if dtype.startswith("c") else a.real).astype(dtype)
    before, kernel = a.copy(), table(device)["gesdd"]
    for left in (True, False):
        acc = kernel.begin({}, ())
        kernel.finish(acc, {"matrix": a, "left": left}, ())
        assert ("u" in acc) == left
        if left:
            require_factors(a, acc["u"], acc["s"], acc["vh"])
    assert np.array_equal(a, before)


@pytest.mark.parametrize("name", HARD)
def test_hard_matrices_have_the_singular_values_that_numpy_finds(name: str) -> None:
    a = HARD[name](40)
    u, s, vh = singular.gesdd(a.copy())
    require_factors(a, u, s, vh)
    expected = np.linalg.svd(a, compute_uv=False)
    assert np.max(np.abs(s - expected)) <= 16 * 40 * np.finfo(float).eps * expected[0]


def test_what_is_not_finite_is_an_error() -> None:
    with pytest.raises(np.linalg.LinAlgError, match="gesdd gave info"):
        singular.gesdd(np.full((3, 3), np.nan))
