"""The singular value decomposition of a small square matrix, in memory that is known beforehand."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.errors import LinAlgError
from leptonhpc.kernels.blas import address, char, integer, leading, routine
from leptonhpc.kernels.fold import Accumulator, Blas, Region, Small

Factors = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]


def gesdd(a: NDArray[Any]) -> Factors:
    """Factor A = U diag(s) V^H by bidiagonal form, divide and conquer [1]_.

    Parameters
    ----------
    a : array of shape (n, n), row-major, real or complex floating
        Overwritten.

    Returns
    -------
    tuple of arrays of shapes (n, n), (n,) and (n, n)
        U, s (descending, real) and V^H.

    Raises
    ------
    LinAlgError
        If LAPACK does not converge.

    Notes
    -----
    About 22 n^3 flops (4 times that, complex); 5 n^2 numbers beside `a`. Releases the GIL.

    References
    ----------
    .. [1] M. Gu, S. Eisenstat, A divide-and-conquer algorithm for the bidiagonal SVD, SIAM J.
       Matrix Anal. Appl. 16, 1995.
    """
    n, complex_ = len(a), a.dtype.kind == "c"
    real = np.empty(0, a.dtype).real.dtype
    s, integers = np.empty(n, real), np.empty(8 * n, np.intc)
    # row-major A is A^T = conj(V) S U^T to LAPACK: what it calls U is V^H by rows, and VT is U
    u, vh = np.empty_like(a), np.empty_like(a)
    # the least that LAPACK asks for, and blocks of 64 columns
    size = 2 * n + 130 * n if complex_ else 3 * n * n + 7 * n + 130 * n
    work = np.empty(size, a.dtype)
    more = np.empty((5 * n * n + 7 * n) * complex_, real)
    info = ctypes.c_int(0)
    routine("gesdd", a.dtype, 14 + complex_, "lapack")(
        char(b"A"), integer(n), integer(n), address(a), integer(leading(a)), address(s),
        address(vh), integer(n), address(u), integer(n), address(work), integer(work.size),
        *[address(more)] * complex_, address(integers), ctypes.byref(info),
    )  # fmt: skip
    if info.value:
        raise LinAlgError(f"LAPACK's gesdd gave info {info.value}")
    return u, s, vh


def gesdd_reference(a: NDArray[Any]) -> Factors:
    """Give what `gesdd` gives, by NumPy."""
    u, s, vh = np.linalg.svd(a)
    return u, s, vh


SOLVERS: dict[str, Callable[[NDArray[Any]], Factors]] = {
    "host": gesdd, "reference": gesdd_reference,
}  # fmt: skip


@dataclass(frozen=True)
class Gesdd:
    """Singular values and vectors of a matrix that comes with the stage."""

    blas: Blas
    solver: Callable[[NDArray[Any]], Factors]

    def begin(self, small: Small, at: Region) -> Accumulator:
        """Give nothing: there is nothing to be summed."""
        return {}

    def step(
        self, acc: Accumulator, blocks: Sequence[NDArray[Any]], small: Small, at: Region
    ) -> None:
        """Fold nothing."""

    def finish(self, acc: Accumulator, small: Small, at: Region) -> None:
        """Leave s, V^H and, if ``left`` is set, U; the matrix stays as it is."""
        u, acc["s"], acc["vh"] = self.solver(np.array(small["matrix"], order="C"))
        if small["left"]:
            acc["u"] = u
