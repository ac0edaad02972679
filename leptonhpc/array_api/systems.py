"""Systems of equations, and what follows from factors: inverses, determinants, ranks."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from leptonhpc import api
from leptonhpc.api.results import Array
from leptonhpc.array_api.choice import (
    as_array,
    held,
    in_memory,
    is_for_drivers,
    memory,
    numpy_linalg,
    require_memory,
    zeros,
)
from leptonhpc.array_api.stacks import (
    Index,
    join,
    matrix,
    over_matrices,
    over_pairs,
    require_matrices,
)
from leptonhpc.blocks import BlockedArray
from leptonhpc.errors import ShapeError
from leptonhpc.planning.layout import compute_dtype


class SlogdetResult(NamedTuple):
    """Sign and logarithm of a determinant."""

    sign: Array
    """(...): of modulus one; zero for a singular matrix."""
    logabsdet: Array
    """(...): natural logarithm; minus infinity for a singular matrix."""


def solve(x1: Any, x2: Any, /) -> Array:
    """Solve systems of equations with square matrices.

    Parameters
    ----------
    x1 : array of shape (..., m, m)
        The matrices.
    x2 : array of shape (m,) or (..., m, k)
        Right-hand sides; the stacks are broadcast. Only what has one dimension is a vector.

    Returns
    -------
    array of shape (..., m) or (..., m, k)
        The solutions.

    Raises
    ------
    ShapeError
        If the shapes do not fit.
    LinAlgError
        If a matrix is singular.

    Examples
    --------
    >>> import numpy as np
    >>> import leptonhpc.array_api as xp
    >>> xp.linalg.solve(np.asarray([[0.0, 2.0], [1.0, 1.0]]), np.asarray([2.0, 3.0]))
    array([2., 1.])
    """
    a, b = as_array(x1), as_array(x2)
    require_matrices(a, "solve", square=True)
    if b.ndim == 0 or a.shape[-1] != b.shape[-min(b.ndim, 2)]:
        message = f"solve needs right-hand sides of length {a.shape[-1]}; found shape {b.shape}"
        raise ShapeError(message)

    def driver(a: Array, b: Array) -> Array:
        result = api.solve(a, b, memory=memory())
        return held(result, result.x)

    stack = a.shape[:-2] if b.ndim == 1 else broadcast("solve", a.shape[:-2], b.shape[:-2])
    if not is_for_drivers(a, b):
        if isinstance(a, BlockedArray) or isinstance(b, BlockedArray):
            empty = zeros(stack + b.shape[-2:], "solve", a, b)
            return empty.astype(compute_dtype(a.dtype, b.dtype), copy=False)
        return np.asarray(numpy_linalg.solve(a, b))
    if b.ndim == 1 and stack:
        return join((driver(matrix(a, i), b) for i in np.ndindex(*stack)), stack)
    return over_pairs(a, b, driver, stack)


def inv(x: Any, /) -> Array:
    """Invert matrices.

    Parameters
    ----------
    x : array of shape (..., n, n)
        The matrices.

    Returns
    -------
    array of shape (..., n, n)
        Their inverses.

    Raises
    ------
    LinAlgError
        If a matrix is singular.

    Examples
    --------
    >>> import numpy as np
    >>> import leptonhpc.array_api as xp
    >>> xp.linalg.inv(np.asarray([[0.0, 2.0], [1.0, 0.0]]))
    array([[0. , 1. ],
           [0.5, 0. ]])
    """
    array = as_array(x)
    require_matrices(array, "inv", square=True)

    def driver(a: Array, _: Index) -> Array:
        result = api.inv(a, memory=memory())
        return held(result, result.x)

    return over_matrices(array, driver, np.linalg.inv)


def det(x: Any, /) -> Array:
    """Give the determinants of matrices.

    Parameters
    ----------
    x : array of shape (..., n, n)
        The matrices.

    Returns
    -------
    array of shape (...)
        The determinants; infinite or zero where they are out of range: see `slogdet`.

    Examples
    --------
    >>> import numpy as np
    >>> import leptonhpc.array_api as xp
    >>> float(xp.linalg.det(np.asarray([[0.0, 2.0], [1.0, 0.0]])))
    -2.0
    """
    array = as_array(x)
    require_matrices(array, "det", square=True)

    def driver(a: Array, _: Index) -> Array:
        value = api.det(a, memory=memory())
        with np.errstate(over="ignore", under="ignore"):
            return np.asarray(value).astype(compute_dtype(a.dtype))

    return over_matrices(array, driver, lambda a: np.asarray(np.linalg.det(a)))


def slogdet(x: Any, /) -> SlogdetResult:
    """Give sign and natural logarithm of the absolute value of determinants.

    Parameters
    ----------
    x : array of shape (..., n, n)
        The matrices.

    Returns
    -------
    SlogdetResult
        The signs, of the dtype of x, and the logarithms, real.

    Examples
    --------
    >>> import numpy as np
    >>> import leptonhpc.array_api as xp
    >>> float(xp.linalg.slogdet(np.asarray([[0.0, 2.0], [1.0, 0.0]])).sign)
    -1.0
    """
    array = as_array(x)
    require_matrices(array, "slogdet", square=True)

    def driver(a: Array, _: Index) -> SlogdetResult:
        sign, logabsdet = api.slogdet(a, memory=memory())
        dtype = compute_dtype(a.dtype)
        real = np.empty(0, dtype).real.dtype
        return SlogdetResult(sign.astype(dtype), logabsdet.astype(real))

    return over_matrices(array, driver, lambda a: SlogdetResult(*map(np.asarray, _slogdet(a))))


def pinv(x: Any, /, *, rtol: Any = None) -> Array:
    """Find the Moore-Penrose pseudoinverses of matrices.

    Parameters
    ----------
    x : array of shape (..., m, n)
        The matrices.
    rtol : float or array of shape (...), optional
        Singular values up to rtol times the largest count as zero; default: max(m, n) eps (from
        the drivers never within what rounding may have made of a zero).

    Returns
    -------
    array of shape (..., n, m)
        The pseudoinverses.

    Examples
    --------
    >>> import numpy as np
    >>> import leptonhpc.array_api as xp
    >>> xp.linalg.pinv(np.asarray([[2.0], [0.0]])).round(12)
    array([[0.5, 0. ]])
    """
    array = as_array(x)
    require_matrices(array, "pinv")

    def driver(a: Array, index: Index) -> Array:
        tol = _tolerance(rtol, array, index)
        if tol is not None and tol >= 1:  # no singular value is larger than the largest
            dtype = compute_dtype(a.dtype)
            require_memory(a.size * dtype.itemsize, "a pseudoinverse of zeros", "Take rtol < 1")
            return np.zeros(a.shape[::-1], dtype)
        result = api.pinv(a, rcond=tol, memory=memory())
        return held(result, result.pinv)

    return over_matrices(array, driver, lambda a: np.asarray(numpy_linalg.pinv(a, rtol=rtol)))


def matrix_rank(x: Any, /, *, rtol: Any = None) -> Array:
    """Find the ranks of matrices.

    Parameters
    ----------
    x : array of shape (..., m, n)
        The matrices.
    rtol : float or array of shape (...), optional
        As for `pinv`.

    Returns
    -------
    array of shape (...), int64
        How many singular values are larger.

    Examples
    --------
    >>> import numpy as np
    >>> import leptonhpc.array_api as xp
    >>> int(xp.linalg.matrix_rank(np.asarray([[1.0, 2.0], [2.0, 4.0]])))
    1
    """
    array = as_array(x)
    require_matrices(array, "matrix_rank")

    def driver(a: Array, index: Index) -> Array:
        tol = _tolerance(rtol, array, index)
        if tol is not None and tol >= 1:
            return np.asarray(0, np.int64)
        return np.asarray(int(api.matrix_rank(a, tol=tol, memory=memory())), np.int64)

    def numpy(a: NDArray[Any]) -> Array:
        if 0 in a.shape[-2:]:
            return np.zeros(a.shape[:-2], np.int64)
        return np.asarray(numpy_linalg.matrix_rank(a, rtol=rtol), np.int64)

    return over_matrices(array, driver, numpy)


def broadcast(what: str, *stacks: tuple[int, ...]) -> tuple[int, ...]:
    """Give the common shape of stacks.

    Raises
    ------
    ShapeError
        If there is none.
    """
    try:
        return np.broadcast_shapes(*stacks)
    except ValueError as error:
        message = f"{what} needs stacks that can be broadcast; found {stacks}"
        raise ShapeError(message) from error


def _slogdet(a: NDArray[Any]) -> tuple[Any, Any]:
    sign, logabsdet = np.linalg.slogdet(a)
    return sign, logabsdet


def _tolerance(rtol: Any, x: Array, index: Index) -> float | None:
    """Give the tolerance of one matrix."""
    if rtol is None:
        return None
    if isinstance(rtol, BlockedArray):
        rtol = in_memory(rtol, "rtol")
    return float(np.broadcast_to(np.asarray(rtol), x.shape[:-2])[index])
