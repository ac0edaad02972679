"""The primitives of an accelerator from its array namespace: a device kind is one small module.

A module that is named as a device has a function ``primitives()`` that gives what `accelerator`
makes of its namespace. CuPy, PyTorch and array-api-strict have one that follows the array API
standard, as array-api-compat shows it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.kernels import blas, dense
from leptonhpc.kernels.fold import Blas


def accelerator(
    xp: Any, array: type, *, put: Callable[[NDArray[Any]], Any], get: Callable[[Any], NDArray[Any]]
) -> Blas:
    """Make the primitives of a device from its namespace.

    Parameters
    ----------
    xp : namespace
        Of the array API standard, with its linear algebra extension.
    array : type
        Of its arrays; slices of them are views.
    put : callable
        Copies a NumPy array to the device.
    get : callable
        Copies an array of the device to a NumPy array that may be changed.

    Returns
    -------
    Blas
        Products and sums are the device's; factorisations of small blocks are the host's.
    """

    def adjoint_of(a: Any, *, wanted: bool) -> Any:
        if not wanted:
            return a
        turned = xp.matrix_transpose(a)
        return xp.conj(turned) if xp.isdtype(a.dtype, "complex floating") else turned

    def gemm(
        c: Any, a: Any, b: Any, *, alpha: float = 1.0, adjoint: bool = False,
        right_adjoint: bool = False,
    ) -> None:  # fmt: skip
        product = adjoint_of(a, wanted=adjoint) @ adjoint_of(b, wanted=right_adjoint)
        c += product if alpha == 1.0 else product * alpha

    def syrk(c: Any, a: Any, *, alpha: float = 1.0, right_adjoint: bool = False) -> None:
        left = a if right_adjoint else adjoint_of(a, wanted=True)
        gemm(c, left, adjoint_of(left, wanted=True), alpha=alpha)

    def all_finite(a: Any) -> bool:
        return bool(xp.all(xp.isfinite(a)))

    def zeros(shape: tuple[int, ...], dtype: Any) -> Any:
        return put(np.zeros(shape, dtype))

    return Blas(
        gemm, syrk, blas.trsm, blas.trmm, blas.sum_of_squares, dense.potrf, dense.getrf,
        dense.permute, dense.geqrf, dense.reflect, zeros=zeros, put=put, get=get,
        diagonal=xp.linalg.diagonal, all_finite=all_finite, array=array,
    )  # fmt: skip
