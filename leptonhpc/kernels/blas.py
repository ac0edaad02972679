"""BLAS through the function pointers that SciPy exports to Cython.

Called by ctypes these release the GIL (SciPy's own wrappers hold it) and accumulate in place
(NumPy's matmul makes a temporary and one more trip through memory). Row-major arrays are passed
as their column-major transposes.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.kernels import threads

_WIDENED = 1 << 13
"""Numbers that are widened at once: they stay in the first cache, and on one thread."""

_FEW = 4
"""Columns up to which a product is made by gemv."""

_PREFIX = {"f": "s", "d": "d", "F": "c", "D": "z"}


def gemm(
    c: NDArray[Any],
    a: NDArray[Any],
    b: NDArray[Any],
    *,
    alpha: float = 1.0,
    adjoint: bool = False,
    right_adjoint: bool = False,
) -> None:
    """Add a product in place: C += alpha op(A) op(B), where op takes the adjoint if asked to.

    Parameters
    ----------
    c : array of shape (m, n), row-major
        Overwritten.
    a : array of shape (m, k), or (k, m) if `adjoint`; rows contiguous (or columns, not `adjoint`)
        Same dtype as `c`.
    b : array of shape (k, n), or (n, k) if `right_adjoint`; as for `a`
        Same dtype as `c`.
    alpha : float
        Factor of the product.
    adjoint, right_adjoint : bool
        Use the conjugate transpose of `a`, of `b`.

    Notes
    -----
    2mnk flops (8mnk complex). Releases the GIL.
    """
    m, n = c.shape
    k = b.shape[1] if right_adjoint else b.shape[0]
    inner, outer = ((k, m) if adjoint else (m, k)), ((n, k) if right_adjoint else (k, n))
    if a.shape != inner or b.shape != outer or not a.dtype == b.dtype == c.dtype:
        message = f"gemm cannot add {a.dtype}{a.shape} {b.dtype}{b.shape} to {c.dtype}{c.shape}"
        raise ValueError(message)
    if not (m and n and k):
        return
    # row-major A is A^T to a column-major routine, and C^T = op(B)^T op(A)^T
    a, trans, a_lead = _operand(a, adjoint)
    if n <= _FEW and trans != b"C" and not right_adjoint and _is_plain(b) and _is_plain(c):
        _gemv(c, a, b, alpha, trans)
        return
    b, b_trans, b_lead = _operand(b, right_adjoint)

    def multiply(part: NDArray[Any], left: NDArray[Any], right: NDArray[Any]) -> None:
        """Add to part of C what comes of the same rows of op(A), or columns of op(B)."""
        _gemm(part, left, right, k, alpha, (trans, a_lead), (b_trans, b_lead))

    if m > n:
        pieces = threads.pieces_of(m, 2.0 * m * n * k)
        lefts = [a[s] if trans == b"N" else a[:, s] for s in pieces]
        calls = [partial(multiply, c[s], part, b) for s, part in zip(pieces, lefts, strict=True)]
    else:
        pieces = threads.pieces_of(n, 2.0 * m * n * k)
        rights = [b[:, s] if b_trans == b"N" else b[s] for s in pieces]
        calls = [partial(multiply, c[:, s], a, p) for s, p in zip(pieces, rights, strict=True)]
    _each(calls)


def _gemm(
    c: NDArray[Any], a: NDArray[Any], b: NDArray[Any], k: int, alpha: float,
    how_a: tuple[bytes, int], how_b: tuple[bytes, int],
) -> None:  # fmt: skip
    """Call BLAS; of A and B is known how they are to be taken, and their leading dimension."""
    rows, columns = c.shape
    routine("gemm", c.dtype, 13)(
        char(how_b[0]), char(how_a[0]), integer(columns), integer(rows), integer(k),
        scalar(alpha, c.dtype), address(b), integer(how_b[1]), address(a), integer(how_a[1]),
        scalar(1.0, c.dtype), address(c), integer(leading(c)),
    )  # fmt: skip


def _is_plain(a: NDArray[Any]) -> bool:
    """Say whether a column is numbers at equal distances, one after the other."""
    stride = a.strides[0]
    return len(a) < 2 or (stride >= a.itemsize and stride % a.itemsize == 0)


def _gemv(c: NDArray[Any], a: NDArray[Any], b: NDArray[Any], alpha: float, trans: bytes) -> None:
    """Do `gemm` column by column: for a few columns gemm spends its time copying A."""
    (m, n), k = c.shape, b.shape[0]
    # row-major A is A^T to a column-major routine
    rows, columns, flipped = (k, m, b"T") if trans == b"N" else (m, k, b"N")
    call = routine("gemv", c.dtype, 11)
    for j in range(n):
        x, y = b[:, j], c[:, j]
        call(
            char(flipped), integer(rows), integer(columns), scalar(alpha, c.dtype), address(a),
            integer(leading(a)), address(x), integer(max(1, x.strides[0] // x.itemsize)),
            scalar(1.0, c.dtype), address(y), integer(max(1, y.strides[0] // y.itemsize)),
        )  # fmt: skip


def syrk(
    c: NDArray[Any], a: NDArray[Any], *, alpha: float = 1.0, right_adjoint: bool = False
) -> None:
    """Add a Gram matrix in place: lower triangle of C += alpha A^H A, or C += alpha A A^H.

    Parameters
    ----------
    c : array of shape (n, n), row-major
        Its lower triangle is overwritten; the rest is not touched.
    a : array of shape (k, n), or (n, k) if `right_adjoint`; rows contiguous
        Same dtype as `c`.
    alpha : float
        Factor of the product.
    right_adjoint : bool
        A A^H.

    Notes
    -----
    k n^2 flops (4 k n^2 complex). Releases the GIL.
    """
    k, n = a.shape[::-1] if right_adjoint else a.shape
    if c.shape != (n, n) or a.dtype != c.dtype:
        message = f"syrk cannot add the Gram matrix of {a.dtype}{a.shape} to {c.dtype}{c.shape}"
        raise ValueError(message)
    if not (k and n):
        return
    pieces = threads.pieces_of(n, 1.0 * k * n * n)
    if len(pieces) == 1:
        _syrk(c, a, alpha, right_adjoint)
        return

    turned, plain = (_adjoint_char(c.dtype), leading(a)), (b"N", leading(a))
    hows = (plain, turned) if right_adjoint else (turned, plain)

    def add(piece: slice) -> None:
        """Add to some rows of the triangle: what is left of the diagonal, and the diagonal."""
        here = a[piece] if right_adjoint else a[:, piece]
        if piece.start:
            before = a[: piece.start] if right_adjoint else a[:, : piece.start]
            _gemm(c[piece, : piece.start], here, before, k, alpha, *hows)
        _syrk(c[piece, piece], here, alpha, right_adjoint)

    threads.do_all([partial(add, piece) for piece in reversed(pieces)])


def _syrk(c: NDArray[Any], a: NDArray[Any], alpha: float, right_adjoint: bool) -> None:
    k, n = a.shape[::-1] if right_adjoint else a.shape
    name, real = ("herk", c.dtype.char.lower()) if c.dtype.kind == "c" else ("syrk", c.dtype.char)
    # column-major sees X = A^T and C^T = (A^H A)^T = X X^H, whose upper triangle is C's lower one
    trans = _adjoint_char(c.dtype) if right_adjoint else b"N"
    routine(name, c.dtype, 10)(
        char(b"U"), char(trans), integer(n), integer(k), scalar(alpha, np.dtype(real)), address(a),
        integer(leading(a)), scalar(1.0, np.dtype(real)), address(c), integer(leading(c)),
    )  # fmt: skip


def trsm(
    t: NDArray[Any],
    b: NDArray[Any],
    *,
    right: bool = False,
    lower: bool = True,
    adjoint: bool = False,
    unit: bool = False,
) -> None:
    """Solve with a triangle in place: B becomes op(T)^-1 B, or B op(T)^-1.

    Parameters
    ----------
    t : array of shape (k, k), row-major
        Only the one triangle is read (without its diagonal where that is `unit`).
    b : array of shape (k, n), or (m, k) if `right`; row-major
        Overwritten; same dtype as `t`.
    right : bool
        The triangle stands on the right.
    lower : bool
        The lower triangle; else the upper one.
    adjoint : bool
        Use the conjugate transpose of `t`.
    unit : bool
        The diagonal is one.

    Notes
    -----
    k^2 n flops (4 k^2 n complex). Releases the GIL. A zero on the diagonal gives inf or NaN.
    """
    _triangular("trsm", t, b, right=right, lower=lower, adjoint=adjoint, unit=unit)


def trmm(
    t: NDArray[Any],
    b: NDArray[Any],
    *,
    right: bool = False,
    lower: bool = True,
    adjoint: bool = False,
    unit: bool = False,
) -> None:
    """Multiply with a triangle in place: B becomes op(T) B, or B op(T); see `trsm`."""
    _triangular("trmm", t, b, right=right, lower=lower, adjoint=adjoint, unit=unit)


def _triangular(
    name: str, t: NDArray[Any], b: NDArray[Any], *, right: bool, lower: bool, adjoint: bool,
    unit: bool,
) -> None:  # fmt: skip
    m, n = b.shape
    k = n if right else m
    if t.shape != (k, k) or t.dtype != b.dtype:
        message = f"{name} cannot use {t.dtype}{t.shape} on {b.dtype}{b.shape}"
        raise ValueError(message)
    if not (m and n):
        return
    pieces = threads.pieces_of(m if right else n, float(k * k) * (m if right else n))
    parts = [b[piece] if right else b[:, piece] for piece in pieces]

    def solve(part: NDArray[Any]) -> None:
        """Do some rows, or columns; column-major sees T^T and B^T: all is exchanged."""
        rows, columns = part.shape
        routine(name, b.dtype, 11)(
            char(b"L" if right else b"R"), char(b"U" if lower else b"L"),
            char(_adjoint_char(b.dtype) if adjoint else b"N"), char(b"U" if unit else b"N"),
            integer(columns), integer(rows), scalar(1.0, b.dtype), address(t), integer(leading(t)),
            address(part), integer(leading(b)),
        )  # fmt: skip

    _each([partial(solve, part) for part in parts])


def _each(calls: Sequence[Callable[[], None]]) -> None:
    """Make one call here, or several on the lane's threads."""
    if len(calls) == 1:
        calls[0]()
    else:
        threads.do_all(calls)


def sum_of_squares(a: NDArray[Any]) -> float:
    """Sum |a|^2, accumulated in double precision.

    Parameters
    ----------
    a : contiguous array
        Real or complex floating.

    Returns
    -------
    float
        The sum; inf or NaN if the values overflow or hold such.
    """
    flat = a.reshape(-1)
    if flat.dtype.kind == "c":
        flat = flat.view(flat.real.dtype)
    if flat.dtype == np.float64:
        return float(np.dot(flat, flat))
    total = 0.0
    for low in range(0, flat.size, _WIDENED):  # BLAS's dsdot sums in single precision
        part = flat[low : low + _WIDENED].astype(np.float64)
        total += float(np.dot(part, part))
    return total


def _operand(a: NDArray[Any], adjoint: bool) -> tuple[NDArray[Any], bytes, int]:
    """Give an array with contiguous rows, how gemm is to take it, and its leading dimension."""
    if adjoint:
        return a, _adjoint_char(a.dtype), leading(a)
    if a.shape[0] > 1 and a.strides[0] == a.itemsize and a.strides[1] > a.itemsize:
        return a.T, b"T", leading(a.T)
    return a, b"N", leading(a)


def _adjoint_char(dtype: np.dtype[Any]) -> bytes:
    return b"C" if dtype.kind == "c" else b"T"


def leading(a: NDArray[Any]) -> int:
    """Give the leading dimension of an array with contiguous rows.

    Parameters
    ----------
    a : array of shape (m, n)
        The array.

    Returns
    -------
    int
        Elements from one row to the next.

    Raises
    ------
    ValueError
        If the rows are not contiguous, or do not follow one another.
    """
    if a.strides[1] != a.itemsize and a.shape[1] > 1:
        message = "BLAS needs arrays whose rows are contiguous"
        raise ValueError(message)
    least = max(int(a.shape[1]), 1)
    if a.shape[0] < 2:
        return least
    lead, rest = divmod(int(a.strides[0]), a.itemsize)
    if rest or lead < least:
        message = "BLAS needs rows that follow one another"
        raise ValueError(message)
    return lead


def char(value: bytes) -> Any:
    """Give a pointer to one character."""
    return ctypes.byref(ctypes.c_char(value))


def integer(value: int) -> Any:
    """Give a pointer to an integer."""
    return ctypes.byref(ctypes.c_int(value))


def address(a: NDArray[Any]) -> int:
    """Give the address of an array's first element."""
    return int(a.ctypes.data)


def scalar(value: float, dtype: np.dtype[Any]) -> Any:
    """Give a pointer to a number of a dtype."""
    kind = ctypes.c_float if dtype.char in "fF" else ctypes.c_double
    pair = (kind * 2)(value, 0.0)  # a real routine reads the first number only
    return ctypes.byref(pair)


@cache
def routine(
    name: str, dtype: np.dtype[Any], count: int, library: str = "blas"
) -> Callable[..., None]:
    """Give a routine of BLAS or LAPACK; calling it releases the GIL.

    Parameters
    ----------
    name : str
        Its root, such as "gemm".
    dtype : dtype
        Decides the letter before it.
    count : int
        Number of its arguments, all pointers.
    library : {"blas", "lapack"}
        Where it is.

    Returns
    -------
    callable
        The routine.
    """
    prototype = ctypes.CFUNCTYPE(None, *([ctypes.c_void_p] * count))
    return prototype(_symbol(_PREFIX[dtype.char] + name, library))


def _symbol(name: str, library: str) -> int:
    from importlib import import_module

    capsule = import_module(f"scipy.linalg.cython_{library}").__pyx_capi__[name]
    api = ctypes.pythonapi
    api.PyCapsule_GetName.restype = ctypes.c_char_p
    api.PyCapsule_GetName.argtypes = [ctypes.py_object]
    api.PyCapsule_GetPointer.restype = ctypes.c_void_p
    api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    pointer: int = api.PyCapsule_GetPointer(capsule, api.PyCapsule_GetName(capsule))
    return pointer
