"""Vectors of a Krylov space, and norms that neither over- nor underflow."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Kept:
    """Orthonormal vectors of a Krylov space: those to come are made orthogonal to them.

    In exact arithmetic they are; in floating point a direction that has converged comes back [1]_,
    and every time it does costs a few passes.

    Parameters
    ----------
    most, length : int
        How many are kept (the first), and how long they are.
    dtype : dtype
        Of the vectors.

    References
    ----------
    .. [1] C. C. Paige, The computation of eigenvalues and eigenvectors of very large sparse
       matrices, thesis, University of London, 1971. For the bidiagonalisation one side does: H. D.
       Simon, H. Zha, Low-rank matrix approximation using the Lanczos bidiagonalization process with
       applications, SIAM J. Sci. Comput. 21, 2000.
    """

    def __init__(self, most: int, length: int, dtype: np.dtype[Any]) -> None:
        self._rows = np.empty((most, length), dtype)  # memory is taken when it is written
        self._count = 0

    def clear(self) -> None:
        """Forget all."""
        self._count = 0

    def add(self, v: NDArray[Any]) -> None:
        """Keep one more, of norm one, if there is room."""
        if self._count < len(self._rows):
            self._rows[self._count] = v
            self._count += 1

    def cleaned(self, v: NDArray[Any]) -> NDArray[Any]:
        """Give a vector without its part in the space."""
        rows = self._rows[: self._count]
        for _ in range(2 if self._count else 0):
            v = v - (rows @ v.conj()).conj() @ rows
        return v


def norm_of(v: NDArray[Any]) -> float:
    """Give |v|, also where squares would leave the range."""
    largest = float(np.max(np.abs(v), initial=0.0))
    return largest * float(np.linalg.norm(v / largest)) if largest else 0.0


def unit_of(v: NDArray[Any]) -> float:
    """Give the power of two next to the largest number of v; 1 for zero."""
    largest = float(np.max(np.abs(v), initial=0.0))
    return float(2.0 ** np.clip(np.floor(np.log2(largest)), -1000, 1000)) if largest else 1.0


def ratio(part: float, whole: float) -> float:
    """Divide; nothing by anything is nothing."""
    if not part:
        return 0.0
    return part / whole if whole else math.inf
