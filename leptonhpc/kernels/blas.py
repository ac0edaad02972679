"""BLAS through the function pointers that SciPy exports to Cython.

Called by ctypes these release the GIL (SciPy's own wrappers hold it) and accumulate in place
(NumPy's matmul makes a temporary and one more trip through memory). Row-major arrays are passed
as their column-major transposes.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

_WIDENED = 1 << 13
"""Numbers that are widened at once: they stay in the first cache, and on one thread."""

_PREFIX = {"f": "s", "d": "d", "F": "c", "D": "z"}


def gemm(c: NDArray[Any], a: NDArray[Any], b: NDArray[Any], *, adjoint: bool = False) -> None:
    """Add a product in place: C += A B, or C += A^H B.

    Parameters
    ----------
    c : array of shape (m, n), row-major
        Overwritten.
    a : array of shape (m, k), or (k, m) if `adjoint`; rows contiguous (or columns, not `adjoint`)
        Same dtype as `c`.
    b : array of shape (k, n); rows or columns contiguous
        Same dtype as `c`.
    adjoint : bool
        Use the conjugate transpose of `a`.

    Notes
    -----
    2mnk flops (8mnk complex). Releases the GIL.
    """
    m, n = c.shape
    k = b.shape[0]
    inner = (k, m) if adjoint else (m, k)
    if a.shape != inner or b.shape[1] != n or not a.dtype == b.dtype == c.dtype:
        message = f"gemm cannot add {a.dtype}{a.shape} {b.dtype}{b.shape} to {c.dtype}{c.shape}"
        raise ValueError(message)
    if not (m and n and k):
        return
    if adjoint:  # row-major A is A^T to a column-major routine, and C^T = B^T (A^T)^H...
        trans = b"C" if c.dtype.kind == "c" else b"T"  # ... for the adjoint
        a_lead = _lead(a)
    else:
        a, trans, a_lead = _rows_or_columns(a)
    b, b_trans, b_lead = _rows_or_columns(b)
    one = _scalar(1.0, c.dtype)
    _call("gemm", c.dtype, 13)(
        _char(b_trans), _char(trans), _int(n), _int(m), _int(k), one,
        _data(b), _int(b_lead), _data(a), _int(a_lead), one, _data(c), _int(_lead(c)),
    )  # fmt: skip


def syrk(c: NDArray[Any], a: NDArray[Any]) -> None:
    """Add a Gram matrix in place: lower triangle of C += A^H A.

    Parameters
    ----------
    c : array of shape (n, n), row-major
        Its lower triangle is overwritten; the rest is not touched.
    a : array of shape (k, n); rows contiguous
        Same dtype as `c`.

    Notes
    -----
    k n^2 flops (4 k n^2 complex). Releases the GIL.
    """
    k, n = a.shape
    if c.shape != (n, n) or a.dtype != c.dtype:
        message = f"syrk cannot add the Gram matrix of {a.dtype}{a.shape} to {c.dtype}{c.shape}"
        raise ValueError(message)
    if not (k and n):
        return
    name, real = ("herk", c.dtype.char.lower()) if c.dtype.kind == "c" else ("syrk", c.dtype.char)
    one = _scalar(1.0, np.dtype(real))
    # column-major sees X = A^T and C^T = (A^H A)^T = X X^H, whose upper triangle is C's lower one
    _call(name, c.dtype, 10)(
        _char(b"U"), _char(b"N"), _int(n), _int(k), one, _data(a), _int(_lead(a)),
        one, _data(c), _int(_lead(c)),
    )  # fmt: skip


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


def _rows_or_columns(a: NDArray[Any]) -> tuple[NDArray[Any], bytes, int]:
    """Give a row-contiguous array, whether it is to be transposed, and its leading dimension."""
    if a.shape[0] > 1 and a.strides[0] == a.itemsize and a.strides[1] > a.itemsize:
        return a.T, b"T", _lead(a.T)
    return a, b"N", _lead(a)


def _lead(a: NDArray[Any]) -> int:
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


def _char(value: bytes) -> Any:
    return ctypes.byref(ctypes.c_char(value))


def _int(value: int) -> Any:
    return ctypes.byref(ctypes.c_int(value))


def _data(a: NDArray[Any]) -> int:
    return int(a.ctypes.data)


def _scalar(value: float, dtype: np.dtype[Any]) -> Any:
    kind = ctypes.c_float if dtype.char in "fF" else ctypes.c_double
    pair = (kind * 2)(value, 0.0)  # a real routine reads the first number only
    return ctypes.byref(pair)


@cache
def _call(name: str, dtype: np.dtype[Any], count: int) -> Callable[..., None]:
    prototype = ctypes.CFUNCTYPE(None, *([ctypes.c_void_p] * count))
    return prototype(_address(_PREFIX[dtype.char] + name))


def _address(name: str) -> int:
    from scipy.linalg import cython_blas

    capsule = cython_blas.__pyx_capi__[name]
    api = ctypes.pythonapi
    api.PyCapsule_GetName.restype = ctypes.c_char_p
    api.PyCapsule_GetName.argtypes = [ctypes.py_object]
    api.PyCapsule_GetPointer.restype = ctypes.c_void_p
    api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    address: int = api.PyCapsule_GetPointer(capsule, api.PyCapsule_GetName(capsule))
    return address
