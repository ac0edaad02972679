"""Products of matrices and vectors, and transposes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from leptonhpc import api
from leptonhpc.api.results import Array
from leptonhpc.array_api.choice import (
    as_array,
    held,
    in_memory,
    is_for_drivers,
    memory,
    numpy_linalg,
    zeros,
)
from leptonhpc.array_api.stacks import over_pairs, require_matrices
from leptonhpc.array_api.systems import broadcast, inv
from leptonhpc.blocks import BlockedArray, MemorySource
from leptonhpc.blocks.identity import IdentitySource
from leptonhpc.errors import OptionError, ShapeError

Axes = int | tuple[Sequence[int], Sequence[int]]


def matmul(x1: Any, x2: Any, /) -> Array:
    """Multiply matrices.

    Parameters
    ----------
    x1 : array of shape (..., m, k) or (k,)
        Left factors; a vector is one row.
    x2 : array of shape (..., k, n) or (k,)
        Right factors; a vector is one column. Stacks are broadcast.

    Returns
    -------
    array of shape (..., m, n), without the axes of vectors
        The products; of integers in a blocked array lazily, in their own dtype.

    Raises
    ------
    ShapeError
        If the shapes do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> import leptonhpc.array_api as xp
    >>> xp.matmul(np.asarray([[1.0, 2.0]]), np.asarray([3.0, 4.0]))
    array([11.])
    """
    a, b = as_array(x1), as_array(x2)
    if not a.ndim or not b.ndim or a.shape[-1] != b.shape[-min(b.ndim, 2)]:
        message = f"matmul needs inner lengths that agree; found shapes {a.shape} and {b.shape}"
        raise ShapeError(message)
    stack = broadcast("matmul", a.shape[:-2], b.shape[:-2])
    shape = stack + a.shape[-2:-1] * (a.ndim > 1) + b.shape[-1:] * (b.ndim > 1)
    if not is_for_drivers(a, b):
        if isinstance(a, BlockedArray) or isinstance(b, BlockedArray):
            return zeros(shape, "matmul", a, b)
        return np.asarray(np.matmul(a, b))
    left = column(a, "matmul").T if a.ndim == 1 else a
    right = column(b, "matmul") if b.ndim == 1 else b
    product = over_pairs(left, right, _product, stack)
    if shape == product.shape:
        return product
    return in_memory(product, "matmul, a vector", times=1).reshape(shape)


def matrix_power(x: Any, n: int, /) -> Array:
    """Multiply matrices with themselves.

    Parameters
    ----------
    x : array of shape (..., m, m)
        The matrices.
    n : int
        How often; inverses for negative n, identities for 0.

    Returns
    -------
    array of shape (..., m, m)
        The powers, by repeated squares: at most 2 log2(n) products.

    Raises
    ------
    OptionError
        If n is not a whole number.
    LinAlgError
        If n is negative and a matrix is singular.

    Examples
    --------
    >>> import numpy as np
    >>> import leptonhpc.array_api as xp
    >>> xp.linalg.matrix_power(np.asarray([[1.0, 1.0], [0.0, 1.0]]), 5)
    array([[1., 5.],
           [0., 1.]])
    """
    array = as_array(x)
    require_matrices(array, "matrix_power", square=True)
    if not isinstance(n, int | np.integer):
        raise OptionError(f"a matrix is raised to a whole power; found {n!r}")
    if not is_for_drivers(array):
        return np.asarray(np.linalg.matrix_power(np.asarray(array), n))
    if n == 0:
        if array.ndim == 2 and isinstance(array, BlockedArray):
            return BlockedArray(IdentitySource(array.shape[0], array.dtype), array.grid)
        values = in_memory(array, "matrix_power of a stack", times=2)
        return np.asarray(np.linalg.matrix_power(values, 0))
    square, power = (inv(array), -n) if n < 0 else (array, n)
    result: Array | None = None
    while True:  # n = sum of 2^i b_i: A^n is the product of the A^(2^i) with b_i = 1
        if power & 1:
            result = square if result is None else matmul(result, square)
        power >>= 1
        if not power:
            assert result is not None
            return result
        square = matmul(square, square)


def matrix_transpose(x: Any, /) -> Array:
    """Exchange rows and columns of matrices.

    Parameters
    ----------
    x : array of shape (..., m, n)
        The matrices.

    Returns
    -------
    array of shape (..., n, m)
        A view; of a blocked matrix a blocked one.

    Examples
    --------
    >>> import numpy as np
    >>> import leptonhpc.array_api as xp
    >>> xp.matrix_transpose(np.asarray([[1, 2]]))
    array([[1],
           [2]])
    """
    array = as_array(x)
    require_matrices(array, "matrix_transpose")
    if isinstance(array, BlockedArray) and array.ndim == 2:
        return array.T
    values = in_memory(array, "matrix_transpose of a stack", times=1)
    return np.asarray(np.swapaxes(values, -1, -2))


def tensordot(x1: Any, x2: Any, /, *, axes: Axes = 2) -> Array:
    """Sum products over axes of two arrays.

    Parameters
    ----------
    x1 : array
        The first array.
    x2 : array
        The second array. Blocked arrays of up to two dimensions with one axis summed are
        multiplied as matrices; others are read into memory.
    axes : int or pair of sequences of int
        How many last axes of x1 and first of x2, or which of x1 and which of x2.

    Returns
    -------
    array
        The axes of x1 that are left, then those of x2.

    Raises
    ------
    MemoryBudgetError
        If what must be read into memory does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> import leptonhpc.array_api as xp
    >>> xp.tensordot(np.asarray([[1, 2]]), np.asarray([[3, 4]]), axes=((1,), (1,)))
    array([[11]])
    """
    a, b = as_array(x1), as_array(x2)
    blocked = isinstance(a, BlockedArray) or isinstance(b, BlockedArray)
    pair = ((-1,), (0,)) if isinstance(axes, int) and axes == 1 else axes
    if (
        blocked and max(a.ndim, b.ndim) <= 2 and not isinstance(pair, int)
        and len(pair[0]) == len(pair[1]) == 1
    ):  # fmt: skip
        (i,), (j,) = pair
        if i % a.ndim == 0 and a.ndim == 2:
            a = matrix_transpose(a)
        if j % b.ndim == 1:
            b = matrix_transpose(b)
        return matmul(a, b)
    left, right = in_memory(a, "tensordot"), in_memory(b, "tensordot")
    return np.asarray(np.tensordot(left, right, axes=axes))


def vecdot(x1: Any, x2: Any, /, *, axis: int = -1) -> Array:
    """Sum conj(x1) x2 along an axis.

    Parameters
    ----------
    x1 : array of shape (..., n)
        The vectors that are conjugated.
    x2 : array of shape (..., n)
        The others. The arrays are broadcast; two blocked vectors are multiplied by the driver,
        stacks are read into memory.
    axis : int
        The axis, from the end.

    Returns
    -------
    array of shape (...)
        The sums.

    Raises
    ------
    ShapeError
        If the lengths along the axis differ.
    MemoryBudgetError
        If what must be read into memory does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> import leptonhpc.array_api as xp
    >>> complex(xp.vecdot(np.asarray([1j, 2.0]), np.asarray([1j, 1.0])))
    (3+0j)
    """
    a, b = as_array(x1), as_array(x2)
    if a.ndim == b.ndim == 1 and a.shape == b.shape and is_for_drivers(a, b):
        left = column(a, "vecdot")
        left = left.H if isinstance(left, BlockedArray) else np.conj(left.T)
        return in_memory(_product(left, column(b, "vecdot")), "vecdot").reshape(())
    left, right = in_memory(a, "vecdot"), in_memory(b, "vecdot")
    try:
        return np.asarray(numpy_linalg.vecdot(left, right, axis=axis))
    except ValueError as error:
        message = f"vecdot cannot sum {a.shape} and {b.shape} along axis {axis}: {error}"
        raise ShapeError(message) from error


def outer(x1: Any, x2: Any, /) -> Array:
    """Multiply every entry of one vector by every entry of another.

    Parameters
    ----------
    x1 : array of shape (m,)
        The vector of the rows.
    x2 : array of shape (n,)
        The vector of the columns; neither is conjugated.

    Returns
    -------
    array of shape (m, n)
        The products; lazily, if a vector is blocked.

    Raises
    ------
    ShapeError
        If one is not a vector.

    Examples
    --------
    >>> import numpy as np
    >>> import leptonhpc.array_api as xp
    >>> xp.linalg.outer(np.asarray([1, 2]), np.asarray([3, 4]))
    array([[3, 4],
           [6, 8]])
    """
    a, b = as_array(x1), as_array(x2)
    if a.ndim != 1 or b.ndim != 1:
        message = f"outer needs two vectors; found shapes {a.shape} and {b.shape}"
        raise ShapeError(message)
    if 0 in (*a.shape, *b.shape):
        return zeros((*a.shape, *b.shape), "outer", a, b)
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return np.outer(a, b)
    return _blocked(column(a, "outer")) @ _blocked(column(b, "outer")).T


def cross(x1: Any, x2: Any, /, *, axis: int = -1) -> Array:
    """Give the cross products of vectors of three entries.

    Parameters
    ----------
    x1 : array
        The left vectors.
    x2 : array
        The right ones. The arrays are broadcast; blocked ones are read into memory.
    axis : int
        The axis of length three, from the end.

    Returns
    -------
    array
        The products.

    Raises
    ------
    ShapeError
        If the axis has another length.
    MemoryBudgetError
        If what must be read into memory does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> import leptonhpc.array_api as xp
    >>> xp.linalg.cross(np.asarray([1, 0, 0]), np.asarray([0, 1, 0]))
    array([0, 0, 1])
    """
    a, b = as_array(x1), as_array(x2)
    for x in (a, b):
        if not -x.ndim <= axis < x.ndim or x.shape[axis] != 3:
            message = f"cross needs an axis {axis} of length 3; found shape {x.shape}"
            raise ShapeError(message)
    return np.asarray(np.cross(in_memory(a, "cross"), in_memory(b, "cross"), axis=axis))


def column(x: Array, what: str) -> Array:
    """See a vector as a matrix of one column."""
    if not isinstance(x, BlockedArray):
        return x[:, None]
    assert x.ndim == 1, what
    return x.as_matrix()


def _product(a: Array, b: Array) -> Array:
    """Multiply two matrices by the driver; integers lazily, since it would widen them."""
    if np.result_type(a.dtype, b.dtype).kind in "biu":
        return _blocked(a) @ _blocked(b)
    result = api.matmul(a, b, memory=memory())
    return held(result, result.product)


def _blocked(x: Array) -> BlockedArray:
    return x if isinstance(x, BlockedArray) else BlockedArray(MemorySource(x))
