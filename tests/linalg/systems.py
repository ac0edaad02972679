"""Random systems, and what is required of their solutions."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import scipy.linalg

import leptonhpc as lh
from leptonhpc.testing.hard import wilkinson


def draw(shape: tuple[int, ...], dtype: str = "float64", seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    a = rng.standard_normal(shape)
    return (a + 1j * rng.standard_normal(shape) if dtype.startswith("c") else a).astype(dtype)


def boundary_value_problem(n: int) -> np.ndarray:
    """Make the matrix of multiple shooting, whose pivots grow like exp(n / 8) [1]_.

    References
    ----------
    .. [1] S. J. Wright, A collection of problems for which Gaussian elimination with partial
       pivoting is unstable, SIAM J. Sci. Comput. 14, 1993.
    """
    step = scipy.linalg.expm(0.3 * np.array([[-1 / 6, 1.0], [1.0, -1 / 6]]))
    a = np.eye(2 * (n // 2)) - np.kron(np.eye(n // 2, k=-1), step)
    a[:2, -2:] += np.eye(2)
    return a


def volterra(n: int) -> np.ndarray:
    """Make the matrix of a quadrature rule, whose pivots grow like exp(40) [1]_.

    References
    ----------
    .. [1] L. V. Foster, Gaussian elimination with partial pivoting can fail in practice, SIAM J.
       Matrix Anal. Appl. 15, 1994.
    """
    h = 40 / n
    a = np.eye(n) - h * np.tri(n, k=-1) - h / 2 * np.eye(n)
    a[1:, 0] += h / 2
    a[0, 0], a[:, -1] = 1, -1
    a[-1, -1] = -h / 2
    return a


def blocks_that_grow(n: int, coupling: float) -> np.ndarray:
    """Make [[W, 0], [c I, W]], W Wilkinson's matrix."""
    w = wilkinson(n // 2)
    return np.kron(np.eye(2), w) + coupling * np.eye(2 * len(w), k=-len(w))


GROWING: dict[str, Callable[[int], np.ndarray]] = {
    "Wilkinson": wilkinson,
    "boundary value problem": boundary_value_problem,
    "Volterra": volterra,
    "blocks": lambda n: blocks_that_grow(n, 0.0),
    "coupled blocks": lambda n: blocks_that_grow(n, 1.0),
}
"""Well-conditioned matrices on which partial pivoting fails, by name, from the order."""


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
