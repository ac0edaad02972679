"""The primitives of an accelerator from its array namespace: a device kind is one small module.

A module that is named as a device has a function ``primitives()`` that gives what `accelerator`
makes of its namespace. PyTorch and array-api-strict have one that follows the array API standard,
as array-api-compat shows it. A library that has better than what follows from gemm replaces it:
``dataclasses.replace(accelerator(...), potrf=...)``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.kernels.accelerated.hybrid import Hybrid
from leptonhpc.kernels.accelerated.pieces import cells, piece_size
from leptonhpc.kernels.fold import Blas

_LEAST_ROWS = 128
_PIECES_OF_PRODUCT = 4
"""A product may be as large, before it is added: smaller ones are slower."""


def accelerator(
    xp: Any,
    array: type,
    *,
    put: Callable[[NDArray[Any]], Any],
    get: Callable[[Any], NDArray[Any]],
    take: Callable[[NDArray[Any]], Any] | None = None,
    give: Callable[[Any], NDArray[Any]] | None = None,
    capacity_nbytes: int | None = None,
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
    take : callable, optional
        Gives an array of the device in the memory of a NumPy array that nobody else has; default:
        `put`.
    give : callable, optional
        The reverse; default: `get`.
    capacity_nbytes : int, optional
        Memory of the device that a job may use; default: the host's memory is what there is, and
        bands are cut as small and read as late as for the host.

    Returns
    -------
    Blas
        Products and sums are the device's; factorisations are made of its gemm, and of the host's
        for panels of some columns.

    Raises
    ------
    ValueError
        If `put` or `get` gives no copy or another dtype, or slices of its arrays are no views:
        kernels would give wrong numbers.
    """
    _require_copies_and_views(put, get)

    def adjoint_of(a: Any, *, wanted: bool) -> Any:
        if not wanted:
            return a
        turned = xp.matrix_transpose(a)
        return xp.conj(turned) if xp.isdtype(a.dtype, "complex floating") else turned

    def gemm(
        c: Any, a: Any, b: Any, *, alpha: float = 1.0, adjoint: bool = False,
        right_adjoint: bool = False,
    ) -> None:  # fmt: skip
        if 0 in c.shape or 0 in a.shape:
            return
        left, right = adjoint_of(a, wanted=adjoint), adjoint_of(b, wanted=right_adjoint)
        step = max(_LEAST_ROWS, _PIECES_OF_PRODUCT * piece_size(capacity_nbytes) // c.shape[1])
        for low in range(0, c.shape[0], step):  # products are made before they are added
            high = min(low + step, c.shape[0])
            product = left[low:high, :] @ right
            part = c[low:high, :]
            part += product if alpha == 1.0 else product * alpha

    def syrk(c: Any, a: Any, *, alpha: float = 1.0, right_adjoint: bool = False) -> None:
        gemm(c, a, a, alpha=alpha, adjoint=not right_adjoint, right_adjoint=right_adjoint)

    def cast(a: Any, dtype: Any) -> Any:
        return xp.astype(a, getattr(xp, _name_of(dtype)), copy=False)

    def stage(shape: tuple[int, ...], dtype: np.dtype[Any], read: Callable[[Any], Any]) -> Any:
        out = np.empty(shape, dtype)
        host = read(out)
        own = host.ctypes.data == out.ctypes.data
        if not (hasattr(xp, dtype.name) and dtype.isnative):  # a dtype that only the host has
            host, own = host.astype(np.result_type(dtype.newbyteorder("="), np.float32)), True
        return take(host) if own and take is not None else put(host)

    made = Hybrid(gemm, put, get, take or put, give or get)
    return Blas(
        gemm, syrk, made.trsm, made.trmm, sum_of_squares_by(xp, cast, capacity_nbytes), made.potrf,
        made.getrf, made.permute, made.geqrf, made.reflect,
        zeros=lambda shape, dtype: put(np.zeros(shape, dtype)), put=put, get=get,
        diagonal=xp.linalg.diagonal, all_finite=lambda a: bool(xp.all(xp.isfinite(a))),
        array=array, xp=xp, cast=cast, stage=stage, take=take, give=give,
        syevd=made.syevd, capacity_nbytes=capacity_nbytes,
    )  # fmt: skip


def _require_copies_and_views(
    put: Callable[[NDArray[Any]], Any], get: Callable[[Any], NDArray[Any]]
) -> None:
    """Try on a small array what kernels rely on."""
    host = np.zeros((2, 2))
    there = put(host)
    host += 1
    back = get(there)
    if back.dtype != host.dtype:
        raise ValueError(f"float64 comes back from the device as {back.dtype}: it needs float64")
    if back.any():
        raise ValueError("put= is a copy; found the array's own memory: put np.array(host) there")
    if not back.flags.writeable:
        raise ValueError("get= gives an array that may be changed; found one that may not")
    back += 1
    part = there[1:, :]
    part += put(np.full((1, 2), 2.0))
    if get(there)[0, 0]:
        raise ValueError("get= is a copy; found the device's own memory: give np.array of it")
    if get(there)[1, 0] != 2:
        raise ValueError("slices of the device's arrays are views on which += works; found copies")


def sum_of_squares_by(
    xp: Any, cast: Callable[[Any, Any], Any], capacity_nbytes: int | None
) -> Callable[[Any], float]:
    """Make the sum of squares of a matrix from a namespace.

    Parameters
    ----------
    xp : namespace
        Of the device.
    cast : callable
        Gives an array in another dtype.
    capacity_nbytes : int or None
        Memory of the device; None: that of the host.

    Returns
    -------
    callable
        Gives the sum of |a|^2, accumulated in double precision whatever the dtype.
    """

    def sum_of_squares(a: Any) -> float:
        total = 0.0
        for rows, columns in cells(a.shape, capacity_nbytes):
            part = xp.abs(cast(a[rows, columns], np.result_type(_name_of(a.dtype), "f8")))
            total += float(xp.sum(part * part))
        return total

    return sum_of_squares


def _name_of(dtype: Any) -> str:
    """Give the name of a dtype, of NumPy or of a device's library."""
    if isinstance(dtype, str | type | np.dtype):
        return np.dtype(dtype).name
    return str(dtype).rpartition(".")[2]
