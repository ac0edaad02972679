"""What reads the entries of matrices and vectors: diagonals and norms."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc import api
from leptonhpc.api.results import Array
from leptonhpc.array_api.choice import as_array, in_memory, is_for_drivers, memory, numpy_linalg
from leptonhpc.array_api.decompositions import svdvals
from leptonhpc.array_api.stacks import join, matrix, over_matrices, require_matrices
from leptonhpc.blocks import BlockedArray
from leptonhpc.planning.layout import compute_dtype

_PIECE = 1024
"""Order of the squares that are read along a diagonal."""


def diagonal(x: Any, /, *, offset: int = 0) -> Array:
    """Give the diagonals of matrices.

    Parameters
    ----------
    x : array of shape (..., m, n)
        The matrices; of a blocked one only what is along the diagonal is read.
    offset : int
        How far above the main diagonal; below it if negative.

    Returns
    -------
    array of shape (..., k)
        The diagonals, in memory; empty where the offset leaves the matrix.

    Examples
    --------
    >>> import numpy as np
    >>> import leptonhpc.array_api as xp
    >>> xp.linalg.diagonal(np.asarray([[1, 2], [3, 4]]), offset=1)
    array([2])
    """
    array = as_array(x)
    require_matrices(array, "diagonal")
    if not isinstance(array, BlockedArray) or 0 in array.shape:
        return np.asarray(numpy_linalg.diagonal(np.asarray(array), offset=offset))
    stack = array.shape[:-2]
    parts = (_diagonal(matrix(array, i), offset) for i in np.ndindex(*stack))
    return join(parts, stack) if stack else next(parts)


def trace(x: Any, /, *, offset: int = 0, dtype: Any = None) -> Array:
    """Sum the diagonals of matrices.

    Parameters
    ----------
    x : array of shape (..., m, n)
        The matrices, as for `diagonal`.
    offset : int
        Which diagonal, as for `diagonal`.
    dtype : dtype, optional
        Of the sums; default: that of x, integers widened to the default one.

    Returns
    -------
    array of shape (...)
        The sums.

    Examples
    --------
    >>> import numpy as np
    >>> import leptonhpc.array_api as xp
    >>> int(xp.linalg.trace(np.asarray([[1, 2], [3, 4]])))
    5
    """
    return np.asarray(np.sum(np.asarray(diagonal(x, offset=offset)), axis=-1, dtype=dtype))


def matrix_norm(x: Any, /, *, keepdims: bool = False, ord: Any = "fro") -> Array:  # noqa: A002
    """Give norms of matrices.

    Parameters
    ----------
    x : array of shape (..., m, n)
        The matrices.
    keepdims : bool
        Keep the last two axes, with length one.
    ord : {"fro", "nuc", 1, -1, 2, -2, inf, -inf}
        Frobenius or nuclear norm; largest or smallest column sum, singular value, row sum.

    Returns
    -------
    array of shape (...) or (..., 1, 1)
        The norms, real.

    Raises
    ------
    OptionError
        If the drivers have no such norm.

    Examples
    --------
    >>> import numpy as np
    >>> import leptonhpc.array_api as xp
    >>> float(xp.linalg.matrix_norm(np.asarray([[3.0, 4.0]])))
    5.0
    """
    array = as_array(x)
    require_matrices(array, "matrix_norm")
    order = "fro" if ord is None else ord

    def driver(a: Array, _: Any) -> Array:
        value: Any = svdvals(a)[-1] if order == -2 else _norm(a, order)
        return np.asarray(value).reshape((1, 1) if keepdims else ())

    def numpy(a: NDArray[Any]) -> Array:
        return np.asarray(numpy_linalg.matrix_norm(a, keepdims=keepdims, ord=order))

    return over_matrices(array, driver, numpy)


def vector_norm(
    x: Any,
    /,
    *,
    axis: int | tuple[int, ...] | None = None,
    keepdims: bool = False,
    ord: float = 2,  # noqa: A002
) -> Array:
    """Give norms of vectors along axes.

    Parameters
    ----------
    x : array
        The vectors. The 2-norm of a whole blocked array, and the norms of order 1, inf and -inf
        of a blocked vector, are found by the drivers; else it is read into memory.
    axis : int or tuple of int, optional
        Along which axes; default: all.
    keepdims : bool
        Keep those axes, with length one.
    ord : float
        The order p of ``(sum |x|^p)^(1/p)``; inf and -inf: largest and smallest size; 0: how many
        are not zero.

    Returns
    -------
    array
        The norms, real.

    Raises
    ------
    MemoryBudgetError
        If what must be read into memory does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> import leptonhpc.array_api as xp
    >>> float(xp.linalg.vector_norm(np.asarray([3.0, 4.0])))
    5.0
    """
    array = as_array(x)
    axes = (axis,) if isinstance(axis, int) else axis
    whole = axes is None or sorted(i % array.ndim for i in axes) == list(range(array.ndim))
    orders = {2: "fro", 1: 1, np.inf: np.inf, -np.inf: -np.inf}
    usable = ord == 2 or (array.ndim == 1 and ord in orders)
    if isinstance(array, BlockedArray) and whole and usable and is_for_drivers(array):
        value = _norm(array.as_matrix(), orders[ord])
        return value.reshape((1,) * array.ndim) if keepdims else value
    values = in_memory(array, f"vector_norm(axis={axis}, ord={ord})")
    found = numpy_linalg.vector_norm(values, axis=axis, keepdims=keepdims, ord=ord)
    return np.asarray(found)


def _norm(a: Array, order: Any) -> NDArray[Any]:
    value = float(api.norm(a, ord=order, memory=memory()))
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray(value).astype(np.empty(0, compute_dtype(a.dtype)).real.dtype)


def _diagonal(x: Array, offset: int) -> Array:
    assert isinstance(x, BlockedArray)
    (m, n), down, right = x.shape, max(-offset, 0), max(offset, 0)
    length = max(0, min(m - down, n - right))
    values = np.empty(length, x.dtype)
    for low in range(0, length, _PIECE):
        high = min(low + _PIECE, length)
        square = x.read(((low + down, high + down), (low + right, high + right)))
        values[low:high] = np.diagonal(square)
    return values
