"""The primitives in plain NumPy: slow, right, and the oracle of every device."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.errors import NotPositiveDefiniteError


def gemm(
    c: NDArray[Any],
    a: NDArray[Any],
    b: NDArray[Any],
    *,
    alpha: float = 1.0,
    adjoint: bool = False,
    right_adjoint: bool = False,
) -> None:
    """Add a product in place: C += alpha op(A) op(B)."""
    left, right = (a.conj().T if adjoint else a), (b.conj().T if right_adjoint else b)
    c += c.dtype.type(alpha) * (left @ right)


def syrk(
    c: NDArray[Any], a: NDArray[Any], *, alpha: float = 1.0, right_adjoint: bool = False
) -> None:
    """Add a Gram matrix in place: lower triangle of C += alpha A^H A, or alpha A A^H."""
    gram = np.tril(a @ a.conj().T if right_adjoint else a.conj().T @ a)
    np.fill_diagonal(gram, gram.diagonal().real)
    c += c.dtype.type(alpha) * gram


def trsm(
    t: NDArray[Any],
    b: NDArray[Any],
    *,
    right: bool = False,
    lower: bool = True,
    adjoint: bool = False,
    unit: bool = False,
) -> None:
    """Solve with a triangle in place: B becomes op(T)^-1 B, or B op(T)^-1."""
    triangle = _triangle(t, lower=lower, adjoint=adjoint, unit=unit)
    b[...] = np.linalg.solve(triangle.T, b.T).T if right else np.linalg.solve(triangle, b)


def trmm(
    t: NDArray[Any],
    b: NDArray[Any],
    *,
    right: bool = False,
    lower: bool = True,
    adjoint: bool = False,
    unit: bool = False,
) -> None:
    """Multiply with a triangle in place: B becomes op(T) B, or B op(T)."""
    triangle = _triangle(t, lower=lower, adjoint=adjoint, unit=unit)
    b[...] = b @ triangle if right else triangle @ b


def sum_of_squares(a: NDArray[Any]) -> float:
    """Sum |a|^2, accumulated in double precision."""
    return float(np.sum(np.abs(a.astype(np.result_type(a, np.float64))) ** 2))


def potrf(a: NDArray[Any]) -> None:
    """Factor A = L L^H in place, column by column; the lower triangle."""
    for j in range(len(a)):
        pivot = float(a[j, j].real)
        if not pivot > 0:  # catches NaN too
            raise NotPositiveDefiniteError("a pivot is not positive", order=j + 1)
        a[j, j] = np.sqrt(pivot)
        a[j + 1 :, j] /= a[j, j]
        a[j + 1 :, j + 1 :] -= np.tril(np.outer(a[j + 1 :, j], a[j + 1 :, j].conj()))


def getrf(a: NDArray[Any]) -> NDArray[np.int64]:
    """Factor P A = L U in place with partial pivoting, column by column."""
    pivots = np.arange(min(a.shape))
    for j in range(len(pivots)):
        pivots[j] = row = j + int(np.argmax(np.abs(a[j:, j])))
        a[[j, row]] = a[[row, j]]
        if a[j, j] != 0:
            a[j + 1 :, j] /= a[j, j]
        a[j + 1 :, j + 1 :] -= np.outer(a[j + 1 :, j], a[j, j + 1 :])
    return pivots


def permute(a: NDArray[Any], pivots: NDArray[np.int64], *, first: int = 0) -> None:
    """Exchange row ``first + i`` with row ``first + pivots[i]``, one after the other."""
    for row, other in enumerate(pivots.tolist()):
        a[[first + row, first + other]] = a[[first + other, first + row]]


def geqrf(a: NDArray[Any]) -> NDArray[Any]:
    """Factor A = Q R in place by Householder reflectors, column by column."""
    taus = np.zeros(min(a.shape), a.dtype)
    for j in range(len(taus)):
        x = a[j:, j]
        norm = np.linalg.norm(x)
        if not np.any(x[1:]) and x[0].imag == 0:
            continue
        beta = -np.copysign(norm, x[0].real).astype(norm.dtype)
        taus[j] = (beta - x[0]) / beta
        a[j + 1 :, j] = x[1:] / (x[0] - beta)
        v = np.concatenate([np.ones(1, a.dtype), a[j + 1 :, j]])
        a[j:, j + 1 :] -= np.conj(taus[j]) * np.outer(v, v.conj() @ a[j:, j + 1 :])
        a[j, j] = beta
    return taus


def reflect(v: NDArray[Any], taus: NDArray[Any], c: NDArray[Any], *, adjoint: bool = False) -> None:
    """Apply the reflectors of a panel in place, one by one: C becomes Q C, or Q^H C."""
    k = len(taus)
    for j in range(k) if adjoint else reversed(range(k)):
        vector = np.concatenate([np.ones(1, v.dtype), v[j + 1 :, j]])
        tau = np.conj(taus[j]) if adjoint else taus[j]
        c[j:] -= tau * np.outer(vector, vector.conj() @ c[j:])


def _triangle(t: NDArray[Any], *, lower: bool, adjoint: bool, unit: bool) -> NDArray[Any]:
    triangle = np.tril(t) if lower else np.triu(t)
    if unit:
        np.fill_diagonal(triangle, 1)
    return triangle.conj().T if adjoint else triangle
