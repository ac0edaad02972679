"""Random systems, and what is required of their solutions."""

import numpy as np
import numpy.typing as npt
import pytest

import leptonhpc as lh


def draw(shape: tuple[int, ...], dtype: str = "float64", seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    a = rng.standard_normal(shape)
    return (a + 1j * rng.standard_normal(shape) if dtype.startswith("c") else a).astype(dtype)


def in_dtype(a: np.ndarray, dtype: str, *, turned: bool = False) -> np.ndarray:
    """Give a matrix or its transpose; complex ones with columns turned by unlike phases."""
    a = a.T if turned else a
    phases = np.exp(1j * np.arange(a.shape[1])) if dtype.startswith("c") else 1.0
    return np.ascontiguousarray((a * phases).astype(dtype))


def widened(a: npt.ArrayLike) -> np.ndarray:
    """Give an array in extended precision."""
    a = np.asarray(a)
    return a.astype(np.clongdouble if np.iscomplexobj(a) else np.longdouble)


def positive(n: int, dtype: str = "float64", condition: float = 10.0) -> np.ndarray:
    q = np.linalg.qr(draw((n, n), "complex128" if dtype.startswith("c") else "float64"))[0]
    a = (q * np.geomspace(1, 1 / condition, n)) @ q.conj().T
    return ((a + a.conj().T) / 2).astype(dtype)


def backward(a: np.ndarray, x: np.ndarray, b: np.ndarray) -> float:
    """Give the largest |b - A x| / (|A|_F |x| + |b|) of the columns, in extended precision."""
    kind = np.clongdouble if np.iscomplexobj(a) or np.iscomplexobj(b) else np.longdouble
    a, x, b = a.astype(kind), x.reshape(len(a), -1).astype(kind), b.reshape(len(a), -1).astype(kind)
    left = np.sqrt(np.sum(np.abs(b - a @ x) ** 2, axis=0))
    sizes = [np.sqrt(np.sum(np.abs(y) ** 2, axis=0)) for y in (a.reshape(-1, 1), x, b)]
    scale = sizes[0] * sizes[1] + sizes[2]
    return float(np.max(left / np.where(scale > 0, scale, 1)))


def require_honest(r: lh.SolveResult, a: np.ndarray, b: np.ndarray) -> None:
    """Check the certificate against the residual in extended precision, and against the error."""
    c, x, n = r.certificate, np.asarray(r.x), len(a)
    eps = float(np.finfo(x.dtype).eps)
    assert x.shape == b.shape
    # the residual was computed in the precision of x: it rounds by about eps (|A||x| + |b|)
    assert backward(a, x, b) <= 10 * c.backward_error + 4 * eps
    assert c.converged == (c.backward_error <= c.bound)
    assert c.bound == 8 * max(n, 2) * eps
    wide = a.astype(np.result_type(a, float))
    size, values = float(np.linalg.norm(wide)), np.linalg.svd(wide, compute_uv=False)
    assert c.norm == pytest.approx(size, rel=4 * n * float(np.finfo(c.precision).eps))
    true = size / values[-1] if values[-1] else np.inf
    # two Gaussian vectors see a tenth of the largest direction of A^-1, 99 %, and no more than all
    if true * eps < 1e-3:
        assert 0.1 * true <= c.condition <= 3 * size * float(np.linalg.norm(1 / values))


def require_accurate(r: lh.SolveResult, a: np.ndarray, x: np.ndarray) -> None:
    """Check that x is as far from the true solution as the certificate says, at most."""
    found, true = (np.asarray(y).reshape(len(a), -1) for y in (r.x, x))
    error = np.linalg.norm(found - true, axis=0) / np.linalg.norm(true, axis=0)
    assert np.max(error) <= r.certificate.error
