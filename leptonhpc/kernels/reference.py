"""The primitives in plain NumPy: slow, right, and the oracle of every device."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def gemm(c: NDArray[Any], a: NDArray[Any], b: NDArray[Any], *, adjoint: bool = False) -> None:
    """Add a product in place: C += A B, or C += A^H B."""
    c += (a.conj().T if adjoint else a) @ b


def syrk(c: NDArray[Any], a: NDArray[Any]) -> None:
    """Add a Gram matrix in place: lower triangle of C += A^H A."""
    gram = np.tril(a.conj().T @ a)
    np.fill_diagonal(gram, gram.diagonal().real)
    c += gram


def sum_of_squares(a: NDArray[Any]) -> float:
    """Sum |a|^2, accumulated in double precision."""
    return float(np.sum(np.abs(a.astype(np.result_type(a, np.float64))) ** 2))
