"""Factorisations and eigenpairs, with the named results of the standard."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from leptonhpc import api
from leptonhpc.api.results import Array
from leptonhpc.array_api.choice import as_array, held, in_memory, memory, numpy_linalg
from leptonhpc.array_api.stacks import over_matrices, require_matrices
from leptonhpc.blocks import BlockedArray
from leptonhpc.errors import OptionError


class EighResult(NamedTuple):
    """Eigenpairs of a Hermitian matrix."""

    eigenvalues: Array
    """(..., n): real, ascending."""
    eigenvectors: Array
    """(..., n, n): orthonormal columns."""


class QRResult(NamedTuple):
    """Orthogonal and triangular factor."""

    Q: Array
    """(..., m, k), k = min(m, n), or (..., m, m) if complete."""
    R: Array
    """(..., k, n), or (..., m, n) if complete."""


class SVDResult(NamedTuple):
    """Singular value decomposition U diag(S) Vh."""

    U: Array
    """(..., m, k), k = min(m, n), or (..., m, m) if full."""
    S: Array
    """(..., k): real, descending."""
    Vh: Array
    """(..., k, n), or (..., n, n) if full."""


def cholesky(x: Any, /, *, upper: bool = False) -> Array:
    """Factor Hermitian positive definite matrices as L L^H or U^H U.

    Parameters
    ----------
    x : array of shape (..., n, n)
        The matrices.
    upper : bool
        Give U instead of L = U^H.

    Returns
    -------
    array of shape (..., n, n)
        The factor.

    Raises
    ------
    LinAlgError
        If a matrix is not positive definite.

    Examples
    --------
    >>> import numpy as np
    >>> import leptonhpc.array_api as xp
    >>> xp.linalg.cholesky(np.asarray([[4.0, 2.0], [2.0, 10.0]]), upper=True)
    array([[2., 1.],
           [0., 3.]])
    """
    array = as_array(x)
    require_matrices(array, "cholesky", square=True)

    def driver(a: Array, _: Any) -> Array:
        result = api.cholesky(a, memory=memory())
        factor = held(result, result.l)
        return _adjoint(factor) if upper else factor

    return over_matrices(array, driver, lambda a: np.asarray(numpy_linalg.cholesky(a, upper=upper)))


def qr(x: Any, /, *, mode: Literal["reduced", "complete"] = "reduced") -> QRResult:
    """Factor matrices as Q R, with orthonormal columns of Q.

    Parameters
    ----------
    x : array of shape (..., m, n)
        The matrices.
    mode : {"reduced", "complete"}
        Whether Q has min(m, n) columns, or m. The complete one of a matrix that has more rows
        than columns is made in memory.

    Returns
    -------
    QRResult
        Q and R; from the drivers, the diagonal of R is real and not negative.

    Raises
    ------
    OptionError
        If there is no such mode.
    MemoryBudgetError
        If a complete Q does not fit in memory.

    Examples
    --------
    >>> import numpy as np
    >>> import leptonhpc.array_api as xp
    >>> q, r = xp.linalg.qr(np.asarray([[3.0], [4.0]]))
    >>> np.abs(r).round(12)
    array([[5.]])
    """
    if mode not in ("reduced", "complete"):
        raise OptionError(f"mode is 'reduced' or 'complete'; found {mode!r}")
    array = as_array(x)
    require_matrices(array, "qr")

    def numpy(a: NDArray[Any]) -> QRResult:
        return QRResult(*numpy_linalg.qr(a, mode=mode))

    def driver(a: Array, _: Any) -> QRResult:
        if mode == "complete" and a.shape[0] > a.shape[1]:
            hint = "With mode='reduced' Q stays blocked"
            return numpy(in_memory(a, "qr(mode='complete')", times=_square(a), instead=hint))
        result = api.qr(a, memory=memory())
        r = held(result, result.r)
        if not isinstance(r, BlockedArray):
            r = np.triu(r)  # rows with their sign changed hold -0
        return QRResult(held(result, result.q), r)

    return over_matrices(array, driver, numpy)


def svd(x: Any, /, *, full_matrices: bool = True) -> SVDResult:
    """Factor matrices as U diag(S) Vh.

    Parameters
    ----------
    x : array of shape (..., m, n)
        The matrices.
    full_matrices : bool
        Whether U and Vh are square. Those of a matrix that is not square are made in memory.

    Returns
    -------
    SVDResult
        U, S and Vh.

    Raises
    ------
    MemoryBudgetError
        If square factors do not fit in memory.

    Examples
    --------
    >>> import numpy as np
    >>> import leptonhpc.array_api as xp
    >>> xp.linalg.svd(np.asarray([[3.0, 0.0], [0.0, 2.0]])).S
    array([3., 2.])
    """
    array = as_array(x)
    require_matrices(array, "svd")

    def numpy(a: NDArray[Any]) -> SVDResult:
        return SVDResult(*numpy_linalg.svd(a, full_matrices=full_matrices))

    def driver(a: Array, _: Any) -> SVDResult:
        if full_matrices and a.shape[0] != a.shape[1]:
            hint = "With full_matrices=False the long factor stays blocked"
            return numpy(in_memory(a, "svd(full_matrices=True)", times=_square(a), instead=hint))
        result = api.svd(a, memory=memory())
        return SVDResult(held(result, result.u), result.s, held(result, result.vh))

    return over_matrices(array, driver, numpy)


def svdvals(x: Any, /) -> Array:
    """Find the singular values of matrices.

    Parameters
    ----------
    x : array of shape (..., m, n)
        The matrices.

    Returns
    -------
    array of shape (..., min(m, n))
        Real, descending.

    Examples
    --------
    >>> import numpy as np
    >>> import leptonhpc.array_api as xp
    >>> xp.linalg.svdvals(np.asarray([[0.0, 2.0], [3.0, 0.0]]))
    array([3., 2.])
    """
    array = as_array(x)
    require_matrices(array, "svdvals")
    return over_matrices(
        array,
        lambda a, _: api.svd(a, compute_uv=False, memory=memory()).s,
        lambda a: np.linalg.svd(a, compute_uv=False),
    )


def eigh(x: Any, /) -> EighResult:
    """Find eigenvalues and eigenvectors of symmetric or Hermitian matrices.

    Parameters
    ----------
    x : array of shape (..., n, n)
        The matrices; the drivers refuse what is not Hermitian, NumPy reads the lower triangle.

    Returns
    -------
    EighResult
        Eigenvalues, ascending, and eigenvectors.

    Examples
    --------
    >>> import numpy as np
    >>> import leptonhpc.array_api as xp
    >>> xp.linalg.eigh(np.asarray([[2.0, 1.0], [1.0, 2.0]])).eigenvalues.round(12)
    array([1., 3.])
    """
    array = as_array(x)
    require_matrices(array, "eigh", square=True)

    def driver(a: Array, _: Any) -> EighResult:
        result = api.eigh(a, memory=memory())
        return EighResult(result.eigenvalues, held(result, result.eigenvectors))

    return over_matrices(array, driver, lambda a: EighResult(*numpy_linalg.eigh(a)))


def eigvalsh(x: Any, /) -> Array:
    """Find the eigenvalues of symmetric or Hermitian matrices.

    Parameters
    ----------
    x : array of shape (..., n, n)
        The matrices, as for `eigh`.

    Returns
    -------
    array of shape (..., n)
        Real, ascending.

    Examples
    --------
    >>> import numpy as np
    >>> import leptonhpc.array_api as xp
    >>> xp.linalg.eigvalsh(np.asarray([[2.0, 1.0], [1.0, 2.0]])).round(12)
    array([1., 3.])
    """
    array = as_array(x)
    require_matrices(array, "eigvalsh", square=True)
    return over_matrices(
        array, lambda a, _: api.eigh(a, memory=memory()).eigenvalues, np.linalg.eigvalsh
    )


def _adjoint(a: Array) -> Array:
    return a.H if isinstance(a, BlockedArray) else np.conj(a.T)


def _square(a: Array) -> int:
    """Give how many times its size a matrix needs with a square factor of its longer side."""
    return 3 + 3 * -(-max(a.shape) // min(a.shape))
