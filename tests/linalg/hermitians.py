"""Hermitian matrices that are hard, and what is required of their eigenpairs."""

import numpy as np

import leptonhpc as lh
from leptonhpc.testing import orthogonality


def hermitian(values: np.ndarray, dtype: type = np.float64, seed: int = 0) -> np.ndarray:
    """Make Q diag(values) Q^H, Hermitian to the last bit."""
    generator = np.random.default_rng(seed)
    q = generator.standard_normal((len(values),) * 2)
    if np.dtype(dtype).kind == "c":
        q = q + 1j * generator.standard_normal(q.shape)
    q = np.linalg.qr(q)[0]
    a = (q * values) @ q.conj().T
    return np.asarray(((a + a.conj().T) / 2).astype(dtype))


def wilkinson(n: int) -> np.ndarray:
    """Make W_n^+, whose large eigenvalues come in pairs that differ by less than eps."""
    off = np.diag(np.ones(n - 1), 1)
    return np.diag(np.abs(np.arange(n) - n // 2).astype(float)) + off + off.T


def graded(n: int) -> np.ndarray:
    return np.asarray(10.0 ** (-np.maximum.outer(np.arange(n), np.arange(n)) / 4.0))


MATRICES = {
    "spread": hermitian(np.linspace(-1, 3, 90)),
    "complex": hermitian(np.linspace(-1, 3, 70), np.complex128),
    "multiple": hermitian(np.repeat([3.0, 1.0, -2.0], 20)),
    "clustered": hermitian(np.r_[1 + 1e-10 * np.arange(40), np.zeros(20)]),
    "Wilkinson": wilkinson(21),
    "graded": graded(60),
    "diagonal graded": np.diag(np.logspace(0, -15, 40)),
    "rank-deficient": hermitian(np.r_[np.zeros(50), np.arange(1.0, 21)]),
    "zero": np.zeros((30, 30)),
    "identity": np.eye(50),
    "one by one": np.array([[-3.0]]),
    "two by two": np.array([[0.0, 1.0], [1.0, 0.0]]),
    "integers": np.array([[2, 1, 0], [1, 2, 1], [0, 1, 2]]),
    "near the top of the range": hermitian(np.linspace(-1, 1, 40)) * 1e300,
    "near its bottom": hermitian(np.linspace(-1, 1, 40)) * 1e-290,
}


def check(a: np.ndarray, r: lh.EighResult, expected: np.ndarray) -> None:
    """Errors are within the certificate, and that is within what rounding and tol allow."""
    w, v = r.eigenvalues, np.asarray(r.eigenvectors)
    c = r.certificate
    wide = a.astype(np.result_type(a, float))
    assert np.all(np.diff(w) >= 0)
    assert np.max(np.abs(w.astype(float) - expected)) <= c.eigenvalue_bound
    scale = float(np.max(np.abs(expected), initial=0.0)) or 1.0
    residuals = scale * np.linalg.norm((wide / scale) @ v - v * (w / scale), axis=0)
    # each was measured in the dtype of computing, to c eps |A|
    assert np.all(np.abs(residuals - np.array(c.residuals)) <= c.rounding + 1e-300)
    assert orthogonality(v) <= 8 * len(a) * np.finfo(v.dtype).eps
    assert c.orthogonality <= 8 * len(a) * np.finfo(v.dtype).eps
