"""LAPACK's unblocked and small factorisations, through the pointers that SciPy exports to Cython.

Called like those of `leptonhpc.kernels.blas`: without the GIL, in place.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.errors import LinAlgError
from leptonhpc.kernels.blas import address, char, integer, leading, routine


def potrf(a: NDArray[Any]) -> int:
    """Factor A = L L^H in place; give the order (from 1) of the first bad pivot, or 0.

    Parameters
    ----------
    a : array of shape (n, n), row-major
        Its lower triangle is overwritten with L; the rest is not touched.

    Returns
    -------
    int
        LAPACK's info.
    """
    info = ctypes.c_int(0)
    # row-major A is conj(A) to LAPACK, whose upper factor of it, read by rows, is L
    routine("potrf", a.dtype, 5, "lapack")(
        char(b"U"), integer(len(a)), address(a), integer(leading(a)), ctypes.byref(info)
    )
    return int(info.value)


def getrf(a: NDArray[Any]) -> NDArray[np.int64]:
    """Factor P A = L U in place with partial pivoting.

    Parameters
    ----------
    a : array of shape (m, n), column-major
        Overwritten with L (unit diagonal not stored) and U.

    Returns
    -------
    array of shape (min(m, n),), int64
        Row i was exchanged with this row, counted from 0.
    """
    m, n = a.shape
    info, pivots = ctypes.c_int(0), np.zeros(min(m, n), np.intc)
    routine("getrf", a.dtype, 6, "lapack")(
        integer(m), integer(n), address(a), integer(leading(a.T)), address(pivots),
        ctypes.byref(info),
    )  # fmt: skip
    return pivots.astype(np.int64) - 1


def geqrf(a: NDArray[Any]) -> NDArray[Any]:
    """Factor A = Q R in place by Householder reflectors H_i = I - tau_i v_i v_i^H.

    Parameters
    ----------
    a : array of shape (m, n), column-major
        Overwritten with R and, below it, the reflectors.

    Returns
    -------
    array of shape (min(m, n),), dtype of `a`
        The factors tau.
    """
    m, n = a.shape
    info, taus = ctypes.c_int(0), np.zeros(min(m, n), a.dtype)
    work = np.empty(64 * max(1, n), a.dtype)
    routine("geqrf", a.dtype, 8, "lapack")(
        integer(m), integer(n), address(a), integer(leading(a.T)), address(taus), address(work),
        integer(work.size), ctypes.byref(info),
    )  # fmt: skip
    if info.value:
        message = f"LAPACK's geqrf gave info {info.value}"
        raise LinAlgError(message)
    return taus
