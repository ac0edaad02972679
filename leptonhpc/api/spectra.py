"""Drivers for eigenpairs, and for numbers that the spectrum tells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from numpy.typing import NDArray

from leptonhpc.api.budget import Nbytes, chosen_budget, within
from leptonhpc.api.inputs import open as open_array
from leptonhpc.api.numbers import with_numbers
from leptonhpc.api.outputs import run_to_output
from leptonhpc.api.precisions import (
    DtypePrecision,
    converted,
    refuse_rounding,
    require_precision,
)
from leptonhpc.api.results import Array, Result
from leptonhpc.api.running import run, warn_unless_converged
from leptonhpc.errors import OptionError
from leptonhpc.linalg import Job
from leptonhpc.linalg.certificates import (
    ConditionCertificate,
    RankCertificate,
    SpectrumCertificate,
)
from leptonhpc.linalg.condition import plan_condition
from leptonhpc.linalg.eigh import EighMethod, EighOptions, Which, plan_eigh
from leptonhpc.linalg.spectra import plan_values
from leptonhpc.runtime import Report
from leptonhpc.store.locations import Location


@dataclass(frozen=True, repr=False, kw_only=True)
class EighResult(Result):
    """Eigenpairs A V = V diag(w) of a Hermitian matrix."""

    FIELDS: ClassVar[tuple[str, ...]] = ("eigenvalues", "eigenvectors")
    CERTIFICATE: ClassVar[type] = SpectrumCertificate

    eigenvalues: NDArray[Any]
    """(k,): ascending, real."""
    eigenvectors: Array
    """(n, k): orthonormal columns."""
    certificate: SpectrumCertificate

    def __iter__(self) -> Any:
        """Unpack as eigenvalues, eigenvectors."""
        return iter((self.eigenvalues, self.eigenvectors))


@dataclass(frozen=True)
class MatrixRankResult:
    """Rank of a matrix."""

    value: int
    s: NDArray[Any]
    """All singular values, descending."""
    certificate: RankCertificate
    report: Report

    def __index__(self) -> int:
        """Give the rank."""
        return self.value

    def __int__(self) -> int:
        """Give the rank."""
        return self.value


@dataclass(frozen=True)
class CondResult:
    """Condition number of a matrix."""

    value: float
    s: NDArray[Any] | None
    """All singular values, descending; None where another norm needs the inverse."""
    certificate: ConditionCertificate
    report: Report

    def __float__(self) -> float:
        """Give the value."""
        return self.value


def eigh(
    x: Any,
    *,
    k: int | None = None,
    which: Which = "largest",
    tol: float | None = None,
    method: EighMethod = "auto",
    most_passes: int = 60,
    precision: DtypePrecision | None = None,
    seed: int = 0,
    out: Location | None = None,
    memory: Nbytes = None,
    resume: bool | None = None,
    overwrite: bool = False,
    progress: bool | None = None,
) -> EighResult:
    """Find eigenvalues and eigenvectors of a symmetric or Hermitian matrix.

    Parameters
    ----------
    x : array of shape (n, n), or what `leptonhpc.open` takes
        The matrix; both triangles are read, and compared.
    k : int, optional
        Only so many pairs. Default: all.
    which : {"largest", "smallest"}
        Which k, by algebraic value.
    tol : float, optional
        The Krylov method goes on until |A v - w v| <= tol |A|; default 1e-8, in single precision
        1e-4. Eigenvalues are then right to about the square of it over their distance from the
        rest.
    method : {"auto", "gathered", "divide", "krylov"}
        All of the matrix in one worker, with its eigenvectors and as much again (LAPACK); or
        spectral divide and conquer, matrices in scratch and parts in memory; or, for some pairs,
        block Lanczos, a few vectors in memory and one triangle of the matrix read in every pass.
        "auto" takes what fits, and of gathered and krylov the faster.
    most_passes : int
        When the Krylov method gives up.
    precision : {None, "float64", "float32"}
        What is computed with: as the input's dtype; or its numbers are converted as they are read.
    seed : int
        Of its first vectors.
    out : str or path, optional
        A Zarr group to be made, with arrays eigenvalues, eigenvectors. A job that was stopped goes
        on from its last finished stage when the same call is made again.
    memory : int, float or str, optional
        Budget of each worker with everything in it.
    resume, overwrite, progress : bool
        See `Plan.run`.

    Returns
    -------
    EighResult
        eigenvalues (ascending), eigenvectors, certificate (measured residuals) and report.

    Raises
    ------
    ShapeError, OptionError, DTypeError
        If the question makes no sense.
    MemoryBudgetError
        If no plan fits; the message names the smallest budget that would do.
    NonFiniteError
        If x holds NaN or infinity.
    NotHermitianError
        If x differs from its conjugate transpose by more than rounding.
    OutputExistsError, JobMismatchError
        If `out` is taken.

    Warns
    -----
    NotConvergedWarning
        If residuals are larger than asked for.

    Examples
    --------
    >>> import leptonhpc as lh
    >>> w, v = lh.eigh([[2.0, 1.0], [1.0, 2.0]])
    >>> w.round(12)
    array([1., 3.])
    """
    job = _plan_eigh(
        x, k=k, which=which, tol=tol, method=method, most_passes=most_passes,
        precision=precision, seed=seed, memory=chosen_budget(memory, out, overwrite),
    )  # fmt: skip
    return _run_eigh(job, out=out, resume=resume, overwrite=overwrite, progress=progress)


def matrix_rank(
    x: Any,
    *,
    tol: float | None = None,
    memory: Nbytes = None,
    progress: bool | None = None,
) -> MatrixRankResult:
    """Find the rank of a matrix from its singular values.

    Parameters
    ----------
    x : array of shape (m, n), or what `leptonhpc.open` takes
        The matrix; a dozen of the order of its short side must fit in memory.
    tol : float, optional
        Singular values up to tol times the largest count as zero. Default: max(m, n) eps as NumPy
        has it, but never within what rounding may have made of a zero.
    memory : int, float or str, optional
        Budget of each worker with everything in it.
    progress : bool, optional
        Show a bar; default: where somebody looks.

    Returns
    -------
    MatrixRankResult
        value, singular values, certificate and report.

    Raises
    ------
    ShapeError, OptionError, DTypeError
        If the question makes no sense.
    MemoryBudgetError
        If no plan fits; the message names the smallest budget that would do.
    NonFiniteError
        If x holds NaN or infinity.

    Warns
    -----
    NotConvergedWarning
        If a singular value is so near `tol` that rounding may have put it on the wrong side.

    Examples
    --------
    >>> import leptonhpc as lh
    >>> int(lh.matrix_rank([[1.0, 2.0], [2.0, 4.0]]))
    1
    """
    return _run_matrix_rank(_plan_matrix_rank(x, tol=tol, memory=memory), progress=progress)


def cond(
    x: Any,
    *,
    p: Any = 2,
    memory: Nbytes = None,
    progress: bool | None = None,
) -> CondResult:
    """Find a condition number of a matrix: its norm times that of its inverse.

    Parameters
    ----------
    x : array of shape (m, n), or what `leptonhpc.open` takes
        The matrix, square unless p is 2 or -2. Where singular values are needed, a dozen matrices
        of the order of its short side must fit in memory; else its inverse is made in scratch.
    p : {2, -2, "fro", "nuc", 1, -1, inf, -inf}
        The norm, as NumPy has it. By singular values: largest by smallest (2), smallest by largest
        (-2), Frobenius and nuclear norm. By the inverse: largest and smallest sums of columns (1,
        -1) and of rows (inf, -inf).
    memory : int, float or str, optional
        Budget of each worker with everything in it.
    progress : bool, optional
        Show a bar; default: where somebody looks.

    Returns
    -------
    CondResult
        value, singular values, certificate (between which numbers it lies) and report.

    Raises
    ------
    ShapeError, OptionError, DTypeError
        If the question makes no sense.
    MemoryBudgetError
        If no plan fits; the message names the smallest budget that would do.
    NonFiniteError
        If x holds NaN or infinity.

    Warns
    -----
    NotConvergedWarning
        If x is singular to working precision: the value is then only a lower bound's order, or
        infinite.

    Examples
    --------
    >>> import leptonhpc as lh
    >>> round(float(lh.cond([[4.0, 0.0], [0.0, 2.0]])), 12)
    2.0
    """
    return _run_cond(_plan_cond(x, p=p, memory=memory), progress=progress)


@with_numbers
def _plan_eigh(
    x: Any,
    *,
    k: int | None = None,
    which: Which = "largest",
    tol: float | None = None,
    method: EighMethod = "auto",
    most_passes: int = 60,
    precision: DtypePrecision | None = None,
    seed: int = 0,
    memory: Nbytes = None,
) -> Job:
    require_precision(precision)
    why = "eigenvectors would be orthonormal to 3 digits"
    refuse_rounding(precision, "eigh", why)
    array = converted(x, precision)
    options = EighOptions(k, which, tol, method, most_passes, seed)
    return within(lambda resources: plan_eigh(array, resources, options=options), memory, precision)


def _run_eigh(
    job: Job, *, out: Any = None, resume: bool | None = None, overwrite: bool = False,
    progress: bool | None = None,
) -> EighResult:  # fmt: skip
    return run(EighResult, job, out=out, resume=resume, overwrite=overwrite, progress=progress)


@with_numbers
def _plan_matrix_rank(x: Any, *, tol: float | None = None, memory: Nbytes = None) -> Job:
    array = open_array(x)
    return within(
        lambda resources: plan_values(array, resources, question="matrix_rank", tol=tol), memory
    )


def _run_matrix_rank(
    job: Job, *, out: Any = None, resume: bool | None = None, overwrite: bool = False,
    progress: bool | None = None,
) -> MatrixRankResult:  # fmt: skip
    fields, certificate, report = _number(job, out, resume, overwrite, progress)
    return MatrixRankResult(int(fields["value"]), fields["s"], certificate, report)


@with_numbers
def _plan_cond(x: Any, *, p: Any = 2, memory: Nbytes = None) -> Job:
    array = open_array(x)
    return within(lambda resources: plan_condition(array, resources, order=p), memory)


def _run_cond(
    job: Job, *, out: Any = None, resume: bool | None = None, overwrite: bool = False,
    progress: bool | None = None,
) -> CondResult:  # fmt: skip
    fields, certificate, report = _number(job, out, resume, overwrite, progress)
    return CondResult(float(fields["value"]), fields["s"], certificate, report)


def _number(
    job: Job, out: Any, resume: bool | None, overwrite: bool, progress: bool | None
) -> tuple[dict[str, Any], Any, Report]:
    if out is not None:
        raise OptionError(f"{job.driver} gives one number; it has no out=")
    outcome, _, report, _ = run_to_output(
        job, out=None, resume=resume, overwrite=overwrite, progress=progress
    )
    warn_unless_converged(job, outcome.certificate)
    return outcome.fields, outcome.certificate, report
