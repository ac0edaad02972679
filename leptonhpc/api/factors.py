"""Factored matrices: results that solve systems, in this process or a later one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from leptonhpc.api.budget import Nbytes, chosen_budget, within
from leptonhpc.api.inputs import open as open_array
from leptonhpc.api.origins import Origin
from leptonhpc.api.results import Array, Result
from leptonhpc.api.running import run
from leptonhpc.errors import ShapeError, SingularMatrixError
from leptonhpc.linalg import FactorCertificate, Job, SolveCertificate
from leptonhpc.linalg.factored import plan_factored_solve
from leptonhpc.store.locations import Location


@dataclass(frozen=True, repr=False, kw_only=True)
class Factors(Result):
    """Factors that know of what matrix they are."""

    _origin: Origin | None = field(default=None, compare=False)

    @classmethod
    def remembered(cls, description: dict[str, Any]) -> dict[str, Any]:
        """Give what a stored result keeps beside its arrays; see `Result.remembered`."""
        return {"_origin": Origin(identity=description["inputs"]["a"])}


@dataclass(frozen=True, repr=False, kw_only=True)
class CholeskyResult(Factors):
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

    def solve(
        self, b: Any, *, a: Any = None, out: Location | None = None, memory: Nbytes = None,
        resume: bool | None = None, overwrite: bool = False, progress: bool | None = None,
    ) -> SolveResult:  # fmt: skip
        """Solve A X = B with the factor.

        Parameters
        ----------
        b : array of shape (n,) or (n, k), or what `leptonhpc.open` takes
            Right-hand sides, which may be larger than memory.
        a : array of shape (n, n), or what `leptonhpc.open` takes, optional
            The matrix that was factored, against which X is measured and refined. Default: that
            one, where it is stored and unchanged, or still in memory; else X is measured against
            the product of the factors, and how far that was from the matrix is added.
        out : str or path, optional
            A Zarr group to be made, with array x. Default: an x of up to 64 MiB, or what the budget
            has room for, comes back to this process, and is refined; a larger one stays blocked.
        memory : int, float or str, optional
            Budget of each worker with everything in it.
        resume, overwrite, progress : bool
            See `Plan.run`.

        Returns
        -------
        SolveResult
            x, certificate and report.

        Raises
        ------
        ShapeError, OptionError
            If B does not fit, or `a` is not the matrix that was factored.
        SingularMatrixError
            If A is singular to working precision.
        OutputExistsError, JobMismatchError
            If `out` is taken.
        """
        job = _plan(self, None, b, a, chosen_budget(memory, out, overwrite))
        return run(SolveResult, job, out=out, resume=resume, overwrite=overwrite, progress=progress)


@dataclass(frozen=True, repr=False, kw_only=True)
class LuResult(Factors):
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

    def solve(
        self, b: Any, *, a: Any = None, out: Location | None = None, memory: Nbytes = None,
        resume: bool | None = None, overwrite: bool = False, progress: bool | None = None,
    ) -> SolveResult:  # fmt: skip
        """Solve A X = B with the factors of a square matrix.

        Parameters
        ----------
        b : array of shape (n,) or (n, k), or what `leptonhpc.open` takes
            Right-hand sides, which may be larger than memory.
        a : array of shape (n, n), or what `leptonhpc.open` takes, optional
            The matrix that was factored, against which X is measured and refined. Default: that
            one, where it is stored and unchanged, or still in memory; else X is measured against
            the product of the factors, and how far that was from the matrix is added.
        out : str or path, optional
            A Zarr group to be made, with array x. Default: an x of up to 64 MiB, or what the budget
            has room for, comes back to this process, and is refined; a larger one stays blocked.
        memory : int, float or str, optional
            Budget of each worker with everything in it.
        resume, overwrite, progress : bool
            See `Plan.run`.

        Returns
        -------
        SolveResult
            x, certificate and report.

        Raises
        ------
        ShapeError, OptionError
            If A is not square, B does not fit, or `a` is not the matrix that was factored.
        SingularMatrixError
            If A is singular to working precision; or the factors are, whose pivots grew, and the
            matrix is not there.
        OutputExistsError, JobMismatchError
            If `out` is taken.

        Notes
        -----
        Where pivots grew so much that refinement does not help, the matrix, if it can be reached,
        is factored again, its rows mixed, as `leptonhpc.solve` does.
        """
        shape = (self.l.shape[0], self.u.shape[1])
        if shape[0] != shape[1]:
            message = f"solve needs a square matrix; the factors are of one of shape {shape}"
            raise ShapeError(message)
        zeros = np.flatnonzero(self.diagonal == 0)
        if len(zeros):
            message = (
                f"solve needs a regular matrix; this one is singular: column {int(zeros[0])} "
                "depends on those before it. For the smallest solution use lstsq"
            )
            raise SingularMatrixError(message)
        job = _plan(self, self.u, b, a, chosen_budget(memory, out, overwrite))
        return run(SolveResult, job, out=out, resume=resume, overwrite=overwrite, progress=progress)


@dataclass(frozen=True, repr=False, kw_only=True)
class SolveResult(Result):
    """Solution of A X = B."""

    FIELDS: ClassVar[tuple[str, ...]] = ("x",)
    CERTIFICATE: ClassVar[type] = SolveCertificate

    x: Array
    """(n,) or (n, k), as the right-hand sides."""
    certificate: SolveCertificate


def _plan(
    factors: CholeskyResult | LuResult, u: Array | None, b: Any, a: Any, memory: Nbytes
) -> Job:
    lower, upper = open_array(factors.l), None if u is None else open_array(u)
    sides, origin = open_array(b), factors._origin
    matrix = open_array(a) if a is not None else origin.matrix() if origin is not None else None
    perm = factors.perm if isinstance(factors, LuResult) else None
    return within(
        lambda resources: plan_factored_solve(
            lower, upper, sides, resources, perm=perm, factors=factors.certificate, a=matrix,
            given=a is not None,
        ),
        memory,
    )  # fmt: skip
