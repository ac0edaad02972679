"""Stacks of matrices, and how near results must be."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from leptonhpc.testing import matrix_with_spectrum, spectrum

DTYPES = ["float32", "float64", "complex64", "complex128"]
few = settings(max_examples=8)
STACKS = st.sampled_from([(), (2,), (1, 2)])


def matrices(stack: tuple[int, ...], shape: tuple[int, int], dtype: str, seed: int) -> np.ndarray:
    """Make a stack of matrices whose singular values go from 1 to 0.1."""
    count = int(np.prod(stack, dtype=int))
    values = spectrum("mild", min(shape))
    made = [matrix_with_spectrum(shape, values, dtype=dtype, seed=seed + i) for i in range(count)]
    return np.stack(made).reshape(stack + shape)


def hermitian(stack: tuple[int, ...], n: int, dtype: str, seed: int) -> np.ndarray:
    """Make positive definite matrices: A^H A + I."""
    a = matrices(stack, (n, n), dtype, seed)
    h = adjoint(a) @ a + np.eye(n, dtype=dtype)
    return (h + adjoint(h)) / 2


def adjoint(a: np.ndarray) -> np.ndarray:
    return np.conj(np.swapaxes(a, -1, -2))


def allowed(n: int, dtype: Any, condition: float = 1.0) -> float:
    """Give 16 n eps times a condition number: norms here are at most 2 (Higham 2002, (3.13))."""
    return 16 * max(n, 2) * float(np.finfo(dtype).eps) * condition


def near(found: Any, true: Any, allowed: float, dtype: Any = None) -> None:
    found, true = np.asarray(found), np.asarray(true)
    assert found.shape == true.shape
    assert found.dtype == (true.dtype if dtype is None else np.dtype(dtype))
    assert np.max(np.abs(found - true), initial=0.0) <= allowed


def real(dtype: str) -> np.dtype[Any]:
    return np.empty(0, dtype).real.dtype


@st.composite
def stacks(draw: st.DrawFn, *, square: bool = False) -> np.ndarray:
    m, n = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    shape = (m, m if square else n)
    return matrices(draw(STACKS), shape, draw(st.sampled_from(DTYPES)), draw(st.integers(0, 99)))


@st.composite
def hermitian_stacks(draw: st.DrawFn) -> np.ndarray:
    n, dtype = draw(st.integers(1, 9)), draw(st.sampled_from(DTYPES))
    return hermitian(draw(STACKS), n, dtype, draw(st.integers(0, 99)))
