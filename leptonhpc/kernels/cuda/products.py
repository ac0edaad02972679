"""Routines of cuBLAS on row-major arrays, in place: what `leptonhpc.kernels.blas` is on the host.

Row-major arrays are passed as their column-major transposes; leading dimensions let slices of a
panel be used where they lie.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

_PREFIX = {"f": "s", "d": "d", "F": "c", "D": "z"}
_DEFAULT_MATH, _TF32_MATH = 0, 3  # cublas_api.h: CUBLAS_DEFAULT_MATH, CUBLAS_TF32_TENSOR_OP_MATH


@dataclass(frozen=True)
class Products:
    """The level 3 routines that kernels need."""

    cupy: Any
    cublas: Any
    tf32: bool = False
    """Products in single precision round their factors to 11 bits."""

    def begin(self) -> None:
        """Make cuBLAS's handle, which has a workspace."""
        self.cupy.cuda.device.get_cublas_handle()

    def gemm(
        self, c: Any, a: Any, b: Any, *, alpha: float = 1.0, adjoint: bool = False,
        right_adjoint: bool = False,
    ) -> None:  # fmt: skip
        """Add a product in place: C += alpha op(A) op(B); see `leptonhpc.kernels.blas.gemm`."""
        m, n = c.shape
        k = b.shape[1] if right_adjoint else b.shape[0]
        inner, outer = ((k, m) if adjoint else (m, k)), ((n, k) if right_adjoint else (k, n))
        if a.shape != inner or b.shape != outer or not a.dtype == b.dtype == c.dtype:
            message = f"gemm cannot add {a.dtype}{a.shape} {b.dtype}{b.shape} to {c.dtype}{c.shape}"
            raise ValueError(message)
        if not (m and n and k):
            return
        a, b = self._plain(a), self._plain(b)
        factor, one = np.array(alpha, c.dtype), np.ones((), c.dtype)
        handle = self.cupy.cuda.device.get_cublas_handle()
        self.cublas.setMathMode(handle, _TF32_MATH if self.tf32 else _DEFAULT_MATH)
        try:
            # row-major A is A^T to a column-major routine, and C^T = op(B)^T op(A)^T
            getattr(self.cublas, _PREFIX[c.dtype.char] + "gemm")(
                handle, self._op(b, right_adjoint), self._op(a, adjoint), n, m, k,
                factor.ctypes.data, b.data.ptr, leading(b), a.data.ptr, leading(a),
                one.ctypes.data, c.data.ptr, leading(c),
            )  # fmt: skip
        finally:  # the handle is that of all who compute in this thread
            self.cublas.setMathMode(handle, _DEFAULT_MATH)

    def syrk(self, c: Any, a: Any, *, alpha: float = 1.0, right_adjoint: bool = False) -> None:
        """Add a Gram matrix in place: the lower triangle of C += alpha A^H A, or A A^H.

        Complex ones are made by gemm: CuPy brings no herk.
        """
        k, n = a.shape[::-1] if right_adjoint else a.shape
        if c.shape != (n, n) or a.dtype != c.dtype:
            message = f"syrk cannot add the Gram matrix of {a.dtype}{a.shape} to {c.dtype}{c.shape}"
            raise ValueError(message)
        if c.dtype.kind == "c" or self.tf32:
            self.gemm(c, a, a, alpha=alpha, adjoint=not right_adjoint, right_adjoint=right_adjoint)
            return
        if not (k and n):
            return
        a = self._plain(a)
        factor, one = np.array(alpha, c.dtype), np.ones((), c.dtype)
        # column-major sees X = A^T and C^T = X X^T, whose upper triangle is C's lower one
        getattr(self.cublas, _PREFIX[c.dtype.char] + "syrk")(
            self.cupy.cuda.device.get_cublas_handle(), self.cublas.CUBLAS_FILL_MODE_UPPER,
            self.cublas.CUBLAS_OP_T if right_adjoint else self.cublas.CUBLAS_OP_N, n, k,
            factor.ctypes.data, a.data.ptr, leading(a), one.ctypes.data, c.data.ptr, leading(c),
        )  # fmt: skip

    def trsm(
        self, t: Any, b: Any, *, right: bool = False, lower: bool = True, adjoint: bool = False,
        unit: bool = False,
    ) -> None:  # fmt: skip
        """Solve with a triangle in place; see `leptonhpc.kernels.blas.trsm`."""
        m, n = b.shape
        k = n if right else m
        if t.shape != (k, k) or t.dtype != b.dtype:
            message = f"trsm cannot use {t.dtype}{t.shape} on {b.dtype}{b.shape}"
            raise ValueError(message)
        if not (m and n):
            return
        t, lib = self._plain(t), self.cublas
        one = np.ones((), b.dtype)
        # column-major sees T^T and B^T: the sides and the triangles are exchanged
        getattr(lib, _PREFIX[b.dtype.char] + "trsm")(
            self.cupy.cuda.device.get_cublas_handle(),
            lib.CUBLAS_SIDE_LEFT if right else lib.CUBLAS_SIDE_RIGHT,
            lib.CUBLAS_FILL_MODE_UPPER if lower else lib.CUBLAS_FILL_MODE_LOWER,
            self._op(t, adjoint), lib.CUBLAS_DIAG_UNIT if unit else lib.CUBLAS_DIAG_NON_UNIT,
            n, m, one.ctypes.data, t.data.ptr, leading(t), b.data.ptr, leading(b),
        )  # fmt: skip

    def _op(self, a: Any, adjoint: bool) -> int:
        if not adjoint:
            return int(self.cublas.CUBLAS_OP_N)
        return int(self.cublas.CUBLAS_OP_C if a.dtype.kind == "c" else self.cublas.CUBLAS_OP_T)

    def _plain(self, a: Any) -> Any:
        """Give an operand whose rows are contiguous."""
        contiguous = a.shape[1] < 2 or a.strides[1] == a.itemsize
        follow = a.shape[0] < 2 or a.strides[0] >= a.shape[1] * a.itemsize
        return a if contiguous and follow else self.cupy.ascontiguousarray(a)


def leading(a: Any) -> int:
    """Give the leading dimension of an array with contiguous rows.

    Parameters
    ----------
    a : array of the device, of shape (m, n)
        The array.

    Returns
    -------
    int
        Elements from one row to the next.

    Raises
    ------
    ValueError
        If the rows are not contiguous.
    """
    if a.shape[1] > 1 and a.strides[1] != a.itemsize:
        raise ValueError("cuBLAS needs arrays whose rows are contiguous")
    least = max(int(a.shape[1]), 1)
    return least if a.shape[0] < 2 else max(least, int(a.strides[0]) // a.itemsize)
