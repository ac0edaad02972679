"""Factored matrices: results that solve systems, in this process or a later one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from leptonhpc.api.results import Array, Result
from leptonhpc.linalg import FactorCertificate


@dataclass(frozen=True, repr=False, kw_only=True)
class CholeskyResult(Result):
    """Cholesky factorisation A = L L^H."""

    FIELDS: ClassVar[tuple[str, ...]] = ("l", "diagonal")
    CERTIFICATE: ClassVar[type] = FactorCertificate

    l: Array  # noqa: E741  (the field's name for it)
    """(n, n): lower triangular, positive diagonal."""
    diagonal: NDArray[Any]
    """(n,): the diagonal of L."""
    certificate: FactorCertificate

    def logdet(self) -> float:
        """Give the logarithm of the determinant of A."""
        return float(2 * np.sum(np.log(self.diagonal)))


@dataclass(frozen=True, repr=False, kw_only=True)
class LuResult(Result):
    """LU factorisation A[perm] = L U."""

    FIELDS: ClassVar[tuple[str, ...]] = ("perm", "l", "u", "diagonal")
    CERTIFICATE: ClassVar[type] = FactorCertificate

    perm: NDArray[Any]
    """(m,) int64: row i of L U is row perm[i] of A."""
    l: Array  # noqa: E741
    """(m, k), k = min(m, n): lower triangular (or trapezoidal), ones on the diagonal."""
    u: Array
    """(k, n): upper triangular (or trapezoidal)."""
    diagonal: NDArray[Any]
    """(k,): the diagonal of U; a zero there means that A is singular."""
    certificate: FactorCertificate

    def __iter__(self) -> Any:
        """Unpack as perm, l, u."""
        return iter((self.perm, self.l, self.u))
