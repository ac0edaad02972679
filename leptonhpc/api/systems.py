"""The drivers that solve systems, and what follows from factors: inverse and determinant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from leptonhpc.api.budget import Nbytes, chosen_budget, within
from leptonhpc.api.factors import SolveResult
from leptonhpc.api.inputs import open as open_array
from leptonhpc.api.numbers import with_numbers
from leptonhpc.api.precisions import Precision, converted
from leptonhpc.api.results import Array, Result
from leptonhpc.api.running import run
from leptonhpc.blocks import BlockedArray
from leptonhpc.blocks.identity import IdentitySource
from leptonhpc.errors import OptionError
from leptonhpc.linalg import FactorCertificate, Job, SolveCertificate, plan_solve
from leptonhpc.linalg.cholesky import require_square
from leptonhpc.linalg.slogdet import plan_slogdet
from leptonhpc.linalg.solve import Precision as RefiningPrecision
from leptonhpc.linalg.solve_choices import Assume
from leptonhpc.planning.layout import compute_dtype
from leptonhpc.planning.precision import PRECISIONS, require_precision
from leptonhpc.store.locations import Location

SolvePrecision = Literal["full", "mixed", "float64", "float32", "tf32"]


@dataclass(frozen=True, repr=False, kw_only=True)
class InvResult(Result):
    """Inverse of a matrix."""

    FIELDS: ClassVar[tuple[str, ...]] = ("x",)
    SINGLE: ClassVar[str | None] = "x"
    CERTIFICATE: ClassVar[type] = SolveCertificate

    x: Array
    """(n, n)."""
    certificate: SolveCertificate

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Read the inverse into memory."""
        return np.asarray(self.x, dtype=dtype)


@dataclass(frozen=True, repr=False, kw_only=True)
class SlogdetResult(Result):
    """Sign and logarithm of a determinant."""

    FIELDS: ClassVar[tuple[str, ...]] = ("sign", "logabsdet")
    CERTIFICATE: ClassVar[type] = FactorCertificate

    sign: NDArray[Any]
    """(): of modulus one; zero for a singular matrix."""
    logabsdet: NDArray[Any]
    """(): natural logarithm; minus infinity for a singular matrix."""
    certificate: FactorCertificate

    def __iter__(self) -> Any:
        """Unpack as sign, logabsdet."""
        return iter((self.sign, self.logabsdet))

    def det(self) -> Any:
        """Give the determinant, a float or complex; infinite or zero where it is out of range."""
        with np.errstate(over="ignore", under="ignore"):
            size = np.exp(self.logabsdet).item()
        value = self.sign.item()
        if isinstance(value, complex):  # infinity times a complex number has NaN for its zeros
            return complex(*(part * size if part else part for part in (value.real, value.imag)))
        return value * size


def solve(
    a: Any,
    b: Any,
    *,
    assume: Assume = "gen",
    precision: SolvePrecision = "full",
    seed: int = 0,
    out: Location | None = None,
    memory: Nbytes = None,
    resume: bool | None = None,
    overwrite: bool = False,
    progress: bool | None = None,
) -> SolveResult:
    """Solve A X = B.

    Parameters
    ----------
    a : array of shape (n, n), or what `leptonhpc.open` takes
        The matrix.
    b : array of shape (n,) or (n, k), or what `leptonhpc.open` takes
        Right-hand sides.
    assume : {"gen", "sym", "pos"}
        What is known of the matrix, and is checked: nothing (LU with partial pivoting), symmetric
        or, if complex, Hermitian (LU too, after a reading that compares both triangles), or also
        positive definite (Cholesky, half the work).
    precision : {"full", "mixed", "float64", "float32", "tf32"}
        "mixed" factors in single precision and refines the solution to double; where that does not
        converge the matrix is factored again in full. It needs all of x in memory. "full" computes
        in the dtypes of a and b; the others as for `matmul`: with "tf32" the factors are made so,
        and a solution that is in memory is refined to float32.
    seed : int
        Of the random vectors against which the factors are checked.
    out : str or path, optional
        A Zarr group to be made, with array x. A job that was stopped goes on from its last finished
        panel when the same call is made again.
    memory : int, float or str, optional
        Budget of each worker with everything in it.
    resume, overwrite, progress : bool
        See `Plan.run`.

    Returns
    -------
    SolveResult
        x, certificate (backward error, condition number) and report.

    Raises
    ------
    ShapeError, OptionError, DTypeError
        If the question makes no sense.
    MemoryBudgetError
        If no plan fits; the message names the smallest budget that would do.
    NonFiniteError
        If a or b holds NaN or infinity.
    SingularMatrixError
        If a is singular to working precision, also with its rows and columns scaled.
    NotHermitianError, NotPositiveDefiniteError
        If a is not what `assume` says.
    OutputExistsError, JobMismatchError
        If `out` is taken.

    Warns
    -----
    NotConvergedWarning
        If the backward error is larger than rounding explains.

    Examples
    --------
    >>> import leptonhpc as lh
    >>> lh.solve([[0.0, 2.0], [1.0, 1.0]], [2.0, 3.0]).x
    array([2., 1.])
    """
    job = _plan_solve(
        a, b, assume=assume, precision=precision, seed=seed,
        memory=chosen_budget(memory, out, overwrite),
    )  # fmt: skip
    return _run_solve(job, out=out, resume=resume, overwrite=overwrite, progress=progress)


def inv(
    a: Any,
    *,
    assume: Assume = "gen",
    precision: Precision | None = None,
    seed: int = 0,
    out: Location | None = None,
    memory: Nbytes = None,
    resume: bool | None = None,
    overwrite: bool = False,
    progress: bool | None = None,
) -> InvResult:
    """Invert a matrix. To solve systems use `solve`: it is faster and more accurate.

    Parameters
    ----------
    a : array of shape (n, n), or what `leptonhpc.open` takes
        The matrix.
    assume : {"gen", "sym", "pos"}
        As for `solve`.
    precision : {None, "float64", "float32", "tf32"}
        As for `matmul`. The inverse is not refined: with "tf32" it has 3 digits.
    seed : int
        Of the random vectors against which the factors are checked.
    out : str or path, optional
        A Zarr array to be made.
    memory : int, float or str, optional
        Budget of each worker with everything in it.
    resume, overwrite, progress : bool
        See `Plan.run`.

    Returns
    -------
    InvResult
        x, certificate (of A X = I) and report.

    Raises
    ------
    ShapeError, OptionError, DTypeError, MemoryBudgetError, NonFiniteError, SingularMatrixError
        As for `solve`.
    NumericRangeError
        If the inverse would overflow.
    OutputExistsError, JobMismatchError
        If `out` is taken.

    Examples
    --------
    >>> import numpy as np
    >>> import leptonhpc as lh
    >>> np.asarray(lh.inv([[0.0, 2.0], [1.0, 0.0]]))
    array([[0. , 1. ],
           [0.5, 0. ]])
    """
    job = _plan_inv(
        a, assume=assume, precision=precision, seed=seed,
        memory=chosen_budget(memory, out, overwrite),
    )  # fmt: skip
    return _run_inv(job, out=out, resume=resume, overwrite=overwrite, progress=progress)


def slogdet(
    x: Any,
    *,
    seed: int = 0,
    memory: Nbytes = None,
    progress: bool | None = None,
) -> SlogdetResult:
    """Give the sign and the natural logarithm of the absolute value of a determinant.

    Parameters
    ----------
    x : array of shape (n, n), or what `leptonhpc.open` takes
        The matrix.
    seed : int
        Of the random vectors against which the factors are checked.
    memory : int, float or str, optional
        Budget of each worker with everything in it.
    progress : bool, optional
        Show a bar; default: where somebody looks.

    Returns
    -------
    SlogdetResult
        sign, logabsdet, certificate and report.

    Raises
    ------
    ShapeError, OptionError, DTypeError, MemoryBudgetError, NonFiniteError
        As for `lu`.

    Examples
    --------
    >>> import numpy as np
    >>> import leptonhpc as lh
    >>> sign, logabsdet = lh.slogdet([[0.0, 2.0], [1.0, 0.0]])
    >>> float(sign), round(float(np.exp(logabsdet)), 12)
    (-1.0, 2.0)
    """
    return _run_slogdet(_plan_slogdet(x, seed=seed, memory=memory), progress=progress)


def det(
    x: Any,
    *,
    seed: int = 0,
    memory: Nbytes = None,
    progress: bool | None = None,
) -> Any:
    """Give the determinant of a matrix; where it may over- or underflow use `slogdet`.

    Parameters
    ----------
    x : array of shape (n, n), or what `leptonhpc.open` takes
        The matrix.
    seed : int
        Of the random vectors against which the factors are checked.
    memory : int, float or str, optional
        Budget of each worker with everything in it.
    progress : bool, optional
        Show a bar; default: where somebody looks.

    Returns
    -------
    float or complex
        The determinant; infinite or zero where it is out of range.

    Raises
    ------
    ShapeError, OptionError, DTypeError, MemoryBudgetError, NonFiniteError
        As for `lu`.

    Examples
    --------
    >>> import leptonhpc as lh
    >>> round(lh.det([[0.0, 2.0], [1.0, 0.0]]), 12)
    -2.0
    """
    return slogdet(x, seed=seed, memory=memory, progress=progress).det()


@with_numbers
def _plan_solve(
    a: Any,
    b: Any,
    *,
    assume: Assume = "gen",
    precision: SolvePrecision = "full",
    seed: int = 0,
    memory: Nbytes = None,
) -> Job:
    require_precision(precision, ("full", "mixed", *PRECISIONS))
    refining: RefiningPrecision = "mixed" if precision == "mixed" else "full"
    of_all: Precision | None = None
    if precision != "full" and precision != "mixed":
        of_all = precision
    left, right = converted(a, of_all), converted(b, of_all)
    return within(
        lambda resources: plan_solve(
            left, right, resources, assume=assume, precision=refining, seed=seed
        ),
        memory,
        of_all,
        rounds=True,
    )


def _run_solve(
    job: Job, *, out: Any = None, resume: bool | None = None, overwrite: bool = False,
    progress: bool | None = None,
) -> SolveResult:  # fmt: skip
    return run(SolveResult, job, out=out, resume=resume, overwrite=overwrite, progress=progress)


@with_numbers
def _plan_inv(
    a: Any, *, assume: Assume = "gen", precision: Precision | None = None, seed: int = 0,
    memory: Nbytes = None,
) -> Job:  # fmt: skip
    array = converted(a, precision)
    n = require_square(array, "inv")
    identity = BlockedArray(IdentitySource(n, compute_dtype(array.dtype)))
    return within(
        lambda resources: plan_solve(
            array, identity, resources, assume=assume, seed=seed, driver="inv", held=False
        ),
        memory,
        precision,
        rounds=True,
    )


def _run_inv(
    job: Job, *, out: Any = None, resume: bool | None = None, overwrite: bool = False,
    progress: bool | None = None,
) -> InvResult:  # fmt: skip
    return run(InvResult, job, out=out, resume=resume, overwrite=overwrite, progress=progress)


@with_numbers
def _plan_slogdet(x: Any, *, seed: int = 0, memory: Nbytes = None) -> Job:
    array = open_array(x)
    return within(lambda resources: plan_slogdet(array, resources, seed=seed), memory, rounds=True)


def _run_slogdet(
    job: Job, *, out: Any = None, resume: bool | None = None, overwrite: bool = False,
    progress: bool | None = None,
) -> SlogdetResult:  # fmt: skip
    if out is not None:
        raise OptionError("a determinant is one number; it has no out=")
    return run(SlogdetResult, job, out=None, resume=resume, overwrite=overwrite, progress=progress)
