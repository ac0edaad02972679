"""Factorisations of one block in place, row-major, by recursion: nearly all flops are in gemm.

LAPACK's own routines run at half of gemm's speed on several cores, for their panels are not
parallel. Here a block is halved until it is narrow, the narrow part is left to LAPACK, and what
follows from it is one trsm and one gemm (or syrk) of half the width.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.errors import NotPositiveDefiniteError
from leptonhpc.kernels import lapack, threads
from leptonhpc.kernels.blas import gemm, syrk, trmm, trsm

_DIAGONAL = 256
"""Order of the diagonal blocks that LAPACK factors in a Cholesky factorisation."""
_COLUMNS = 32
"""Columns that LAPACK factors at once in LU and QR: they stay in the second cache."""
REFLECTORS = 256
"""Householder reflectors that are applied at once."""
_SWAPPED = 1 << 20
"""Bytes of a row's part that are exchanged at once."""


def potrf(a: NDArray[Any]) -> None:
    """Factor A = L L^H in place [1]_.

    Parameters
    ----------
    a : array of shape (n, n), row-major, real or complex floating
        Hermitian positive definite: only the lower triangle is read, and overwritten with L.

    Raises
    ------
    NotPositiveDefiniteError
        If a pivot is not positive (or NaN); `order` counts from 1 within the block.

    Notes
    -----
    n^3/3 flops (4 times that, complex). |A - L L^H| <= (n + 1) eps |L||L^H|.

    References
    ----------
    .. [1] N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., Theorem 10.3.
    """
    n = len(a)
    if n <= _DIAGONAL:
        order = lapack.potrf(a)
        # LAPACK compares with <= 0, which NaN passes
        bad = np.flatnonzero(~(a.diagonal().real > 0)) if order == 0 else [order - 1]
        if len(bad):
            raise NotPositiveDefiniteError("a pivot is not positive", order=int(bad[0]) + 1)
        return
    half = _half(n, _DIAGONAL)
    potrf(a[:half, :half])
    trsm(a[:half, :half], a[half:, :half], right=True, adjoint=True)
    syrk(a[half:, half:], a[half:, :half], alpha=-1.0, right_adjoint=True)
    try:
        potrf(a[half:, half:])
    except NotPositiveDefiniteError as error:
        raise NotPositiveDefiniteError(str(error), order=error.order + half) from None


def getrf(a: NDArray[Any]) -> NDArray[np.int64]:
    """Factor P A = L U in place with partial pivoting [1]_.

    Parameters
    ----------
    a : array of shape (m, n), row-major, real or complex floating
        Overwritten with L (unit diagonal not stored) and U. A column without a pivot leaves a zero
        on the diagonal of U.

    Returns
    -------
    array of shape (min(m, n),), int64
        Row i was exchanged with this row, one after the other.

    Notes
    -----
    n^2 (m - n/3) flops for m >= n.

    References
    ----------
    .. [1] S. Toledo, Locality of reference in LU decomposition with partial pivoting, SIAM J.
       Matrix Anal. Appl. 18, 1997.
    """
    m, n = a.shape
    if n > m:
        pivots = getrf(a[:, :m])
        permute(a[:, m:], pivots)
        trsm(a[:, :m], a[:, m:], unit=True)
        return pivots
    if n <= _COLUMNS:
        narrow = np.asfortranarray(a)
        pivots = lapack.getrf(narrow)
        a[...] = narrow
        return pivots
    half = _half(n, _COLUMNS)
    left = getrf(a[:, :half])
    permute(a[:, half:], left)
    trsm(a[:half, :half], a[:half, half:], unit=True)
    gemm(a[half:, half:], a[half:, :half], a[:half, half:], alpha=-1.0)
    right = getrf(a[half:, half:])
    permute(a[half:, :half], right)
    return np.concatenate([left, right + half])


def permute(a: NDArray[Any], pivots: NDArray[np.int64], *, first: int = 0) -> None:
    """Exchange rows in place, as `getrf` did.

    Parameters
    ----------
    a : array of shape (m, n)
        Overwritten.
    pivots : array of int64
        Row ``first + i`` is exchanged with row ``first + pivots[i]``, one after the other.
    first : int
        Where the rows of the pivots begin.
    """
    rows, origins = _moved(pivots)
    if not len(rows):
        return
    rows, origins = rows + first, origins + first
    step = max(64, _SWAPPED // max(1, a.itemsize * len(rows)))

    def move(columns: NDArray[Any]) -> None:
        for low in range(0, columns.shape[1], step):
            part = columns[:, low : low + step]
            part[rows] = part[origins]

    moved = len(rows) * a.shape[1] * a.itemsize
    threads.over_parts(move, a, axis=1, moved_nbytes=moved)


def permutation(pivots: NDArray[np.int64], m: int) -> NDArray[np.int64]:
    """Give the rows of A in the order of P A.

    Parameters
    ----------
    pivots : array of int64
        From `getrf`.
    m : int
        Number of rows.

    Returns
    -------
    array of shape (m,), int64
        Row i of P A is this row of A.
    """
    order = np.arange(m)
    rows, origins = _moved(pivots)
    order[rows] = origins
    return order


def _moved(pivots: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give the rows that change, and where each comes from."""
    origin: dict[int, int] = {}
    for row, other in enumerate(pivots.tolist()):
        if row != other:
            origin[row], origin[other] = origin.get(other, other), origin.get(row, row)
    moved = {row: come for row, come in origin.items() if row != come}
    return np.array(list(moved), np.int64), np.array(list(moved.values()), np.int64)


def geqrf(a: NDArray[Any]) -> NDArray[Any]:
    """Factor A = Q R in place by Householder reflectors H_i = I - tau_i v_i v_i^H [1]_.

    Parameters
    ----------
    a : array of shape (m, n), row-major, real or complex floating
        Overwritten with R and, below its diagonal, the reflectors (their leading 1 not stored).

    Returns
    -------
    array of shape (min(m, n),), dtype of `a`
        The factors tau; Q = H_0 H_1 ...

    Notes
    -----
    2 n^2 (m - n/3) flops for m >= n.

    References
    ----------
    .. [1] R. Schreiber, C. Van Loan, A storage-efficient WY representation for products of
       Householder transformations, SIAM J. Sci. Stat. Comput. 10, 1989.
    """
    k, n = min(a.shape), a.shape[1]
    taus = np.zeros(k, a.dtype)
    for low in range(0, k, REFLECTORS):
        high = min(low + REFLECTORS, k)
        taus[low:high] = _narrow_qr(a[low:, low:high])
        if high < n:
            reflect(a[low:, low:high], taus[low:high], a[low:, high:], adjoint=True)
    return taus


def reflect(v: NDArray[Any], taus: NDArray[Any], c: NDArray[Any], *, adjoint: bool = False) -> None:
    """Apply the reflectors of a panel in place: C becomes Q C, or Q^H C.

    Parameters
    ----------
    v : array of shape (m, k), k <= m
        The panel as `geqrf` left it.
    taus : array of shape (k,)
        Its factors.
    c : array of shape (m, n), row-major
        Overwritten.
    adjoint : bool
        Apply Q^H.

    Notes
    -----
    Q = I - V T V^H, where T^-1 is the upper triangle of V^H V with 1 / tau on the diagonal [1]_: T
    is never formed. 4mnk flops, and m k^2 for V^H V.

    References
    ----------
    .. [1] C. Puglisi, Modification of the Householder method based on the compact WY
       representation, SIAM J. Sci. Stat. Comput. 13, 1992.
    """
    for low, high in _ranges(len(taus), forward=adjoint):
        _reflect_at_once(v[low:, low:high], taus[low:high], c[low:], adjoint=adjoint)


def _reflect_at_once(
    v: NDArray[Any], taus: NDArray[Any], c: NDArray[Any], *, adjoint: bool
) -> None:  # fmt: skip
    k = len(taus)
    top = np.tril(v[:k], -1)
    np.fill_diagonal(top, 1)
    gram = np.tril(top.conj().T @ top)
    syrk(gram, v[k:])
    # a reflector that does nothing has tau = 0, and T^-1 an infinite diagonal: the root of the
    # largest number does as well
    largest = np.sqrt(np.finfo(v.dtype).max)
    safe = np.where(taus == 0, 1, taus)
    np.fill_diagonal(gram, np.where(taus == 0, largest, 1 / safe.conj()))  # gram is (T^-1)^H
    w = c[:k].copy()
    trmm(top, w, adjoint=True, unit=True)
    gemm(w, v[k:], c[k:], adjoint=True)  # W = V^H C
    trsm(gram, w, adjoint=not adjoint)  # W = T W for Q, T^H W for Q^H
    gemm(c[k:], v[k:], w, alpha=-1.0)
    trmm(top, w, unit=True)
    c[:k] -= w


def _narrow_qr(a: NDArray[Any]) -> NDArray[Any]:
    n = a.shape[1]
    if n <= _COLUMNS:
        narrow = np.asfortranarray(a)
        taus = lapack.geqrf(narrow)
        a[...] = narrow
        return taus
    half = _half(n, _COLUMNS)
    left = _narrow_qr(a[:, :half])
    _reflect_at_once(a[:, :half], left, a[:, half:], adjoint=True)
    return np.concatenate([left, _narrow_qr(a[half:, half:])])


def _ranges(count: int, *, forward: bool) -> Iterator[tuple[int, int]]:
    lows = range(0, count, REFLECTORS)
    for low in lows if forward else reversed(lows):
        yield low, min(low + REFLECTORS, count)


def _half(n: int, unit: int) -> int:
    """Halve n at a multiple of the unit."""
    return max(1, round(n / 2 / unit)) * unit
