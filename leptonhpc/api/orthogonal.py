"""The drivers that work by orthogonal factors: QR and least squares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from numpy.typing import NDArray

from leptonhpc.api.budget import Nbytes, chosen_budget, within
from leptonhpc.api.numbers import with_numbers
from leptonhpc.api.precisions import (
    DtypePrecision,
    Precision,
    converted,
    refuse_rounding,
    require_precision,
)
from leptonhpc.api.results import Array, Result
from leptonhpc.api.running import run
from leptonhpc.linalg import Job
from leptonhpc.linalg.lstsq import plan_lstsq
from leptonhpc.linalg.lstsq_certificate import LstsqCertificate
from leptonhpc.linalg.qr import QrMethod, plan_qr
from leptonhpc.linalg.qr_tall import QrCertificate
from leptonhpc.store.locations import Location


@dataclass(frozen=True, repr=False, kw_only=True)
class QrResult(Result):
    """QR factorisation A = Q R, reduced: k = min(m, n)."""

    FIELDS: ClassVar[tuple[str, ...]] = ("q", "r")
    CERTIFICATE: ClassVar[type] = QrCertificate

    q: Array
    """(m, k): orthonormal columns."""
    r: Array
    """(k, n): upper triangular (or trapezoidal), its diagonal real and not negative."""
    certificate: QrCertificate

    def __iter__(self) -> Any:
        """Unpack as q, r."""
        return iter((self.q, self.r))


@dataclass(frozen=True, repr=False, kw_only=True)
class LstsqResult(Result):
    """Least-squares solution of minimum norm."""

    FIELDS: ClassVar[tuple[str, ...]] = ("x", "residuals", "s")
    CERTIFICATE: ClassVar[type] = LstsqCertificate

    x: Array
    """(n,) or (n, k), as the right-hand sides."""
    residuals: NDArray[Any]
    """(k,): squared norms of the columns of B - A X, measured; empty, as NumPy's, where A has no
    more rows than columns or is rank-deficient."""
    s: NDArray[Any]
    """(min(m, n),): singular values of A, descending; empty where no triangle fits in memory and
    the rank is full beyond doubt: they are not needed then, and cost many times the solution.
    ``svd(a, compute_uv=False).s`` gives them."""
    certificate: LstsqCertificate

    @property
    def rank(self) -> int:
        """Give the number of singular values above rcond times the largest."""
        return self.certificate.rank

    def __iter__(self) -> Any:
        """Unpack as x, residuals, rank, s: as NumPy's."""
        return iter((self.x, self.residuals, self.rank, self.s))


def qr(
    x: Any,
    *,
    method: QrMethod = "auto",
    precision: Precision | None = None,
    seed: int = 0,
    out: Location | None = None,
    memory: Nbytes = None,
    resume: bool | None = None,
    overwrite: bool = False,
    progress: bool | None = None,
) -> QrResult:
    """Factor a matrix as Q R with orthonormal columns of Q, reduced.

    Parameters
    ----------
    x : array of shape (m, n), or what `leptonhpc.open` takes
        The matrix.
    method : {"auto", "cholesky", "householder"}
        "cholesky": Cholesky factors of Gram matrices (CholeskyQR2, shifted CholeskyQR3), for m >= n
        and columns that are independent to working precision; "householder": panels of reflectors,
        for any matrix. "auto" takes the first where m >= 2n and n x n fits in memory, for dependent
        columns with a basis that TSQR finds: the certificate says how it was done, and why.
    precision : {None, "float64", "float32", "tf32"}
        What is computed with: as the input's dtype; or its numbers are converted as they are read.
        "tf32" rounds the factors of float32 products to 11 bits on GPUs (at least one is needed;
        other workers compute in float32). `plan` and the certificate say what is done in which.
    seed : int
        Of the random vectors against which the factors are checked.
    out : str or path, optional
        A Zarr group to be made, with arrays q, r. A job that was stopped goes on from its last
        finished panel or pass when the same call is made again.
    memory : int, float or str, optional
        Budget of each worker with everything in it.
    resume, overwrite, progress : bool
        See `Plan.run`.

    Returns
    -------
    QrResult
        q, r (its diagonal real and not negative), certificate (backward error and orthogonality,
        both measured) and report.

    Raises
    ------
    ShapeError, OptionError, DTypeError
        If the question makes no sense.
    MemoryBudgetError
        If no plan fits; the message names the smallest budget that would do.
    NonFiniteError
        If x holds NaN or infinity.
    NumericRangeError
        If the length of a column overflows double precision.
    LinAlgError
        If ``method="cholesky"`` is asked for and gives up.
    OutputExistsError, JobMismatchError
        If `out` is taken.

    Warns
    -----
    NotConvergedWarning
        If an error is larger than rounding explains.

    Examples
    --------
    >>> import numpy as np
    >>> import leptonhpc as lh
    >>> q, r = lh.qr([[3.0, 1.0], [4.0, 7.0]])
    >>> np.asarray(r).round(12)
    array([[5. , 6.2],
           [0. , 3.4]])
    """
    job = _plan_qr(
        x,
        method=method,
        precision=precision,
        seed=seed,
        memory=chosen_budget(memory, out, overwrite),
    )
    return _run_qr(job, out=out, resume=resume, overwrite=overwrite, progress=progress)


def lstsq(
    a: Any,
    b: Any,
    *,
    rcond: float | None = None,
    precision: DtypePrecision | None = None,
    out: Location | None = None,
    memory: Nbytes = None,
    resume: bool | None = None,
    overwrite: bool = False,
    progress: bool | None = None,
) -> LstsqResult:
    """Find X of minimum norm that makes B - A X as small as possible.

    Parameters
    ----------
    a : array of shape (m, n), or what `leptonhpc.open` takes
        The matrix. Where a triangle of its shorter side fits in memory the longer one is streamed;
        else it is factored by panels, and by division where it may be deficient.
    b : array of shape (m,) or (m, k), or what `leptonhpc.open` takes
        Right-hand sides.
    rcond : float, optional
        Singular values up to rcond times the largest count as zero; default eps max(m, n), eps of
        the dtype of computing (NumPy takes that of float64 for float32 too).
    precision : {None, "float64", "float32"}
        The dtype of a, b and x: that of the input; or its numbers are converted as they are read.
        Where a triangle fits in memory sums are in double precision in any case.
    out : str or path, optional
        A Zarr group to be made, with arrays x, residuals, s. A job that was stopped goes on from
        its last finished pass when the same call is made again.
    memory : int, float or str, optional
        Budget of each worker with everything in it.
    resume, overwrite, progress : bool
        See `Plan.run`.

    Returns
    -------
    LstsqResult
        x, residuals, s (empty where the matrix was factored by panels), rank, certificate
        (optimality) and report.

    Raises
    ------
    ShapeError, OptionError, DTypeError
        If the question makes no sense.
    MemoryBudgetError
        If no plan fits; the message names the smallest budget that would do.
    NonFiniteError
        If a or b holds NaN or infinity.
    OutputExistsError, JobMismatchError
        If `out` is taken.

    Warns
    -----
    NotConvergedWarning
        If x is further from optimal than rounding explains.

    Examples
    --------
    >>> import leptonhpc as lh
    >>> lh.lstsq([[1.0, 1.0], [1.0, 1.0], [0.0, 0.0]], [2.0, 4.0, 1.0]).x.round(12)
    array([1.5, 1.5])
    """
    job = _plan_lstsq(
        a, b, rcond=rcond, precision=precision, memory=chosen_budget(memory, out, overwrite)
    )
    return _run_lstsq(job, out=out, resume=resume, overwrite=overwrite, progress=progress)


@with_numbers
def _plan_qr(
    x: Any,
    *,
    method: QrMethod = "auto",
    precision: Precision | None = None,
    seed: int = 0,
    memory: Nbytes = None,
) -> Job:
    array = converted(x, precision)
    return within(
        lambda resources: plan_qr(array, resources, method=method, seed=seed), memory, precision,
        rounds=True,
    )  # fmt: skip


def _run_qr(
    job: Job, *, out: Any = None, resume: bool | None = None, overwrite: bool = False,
    progress: bool | None = None,
) -> QrResult:  # fmt: skip
    return run(QrResult, job, out=out, resume=resume, overwrite=overwrite, progress=progress)


@with_numbers
def _plan_lstsq(
    a: Any, b: Any, *, rcond: float | None = None, precision: DtypePrecision | None = None,
    memory: Nbytes = None,
) -> Job:  # fmt: skip
    require_precision(precision)
    why = "in memory nothing is done in it, and beyond memory it would leave the rank in doubt"
    refuse_rounding(precision, "lstsq", why)
    left, right = converted(a, precision), converted(b, precision)
    return within(
        lambda resources: plan_lstsq(left, right, resources, rcond=rcond), memory, precision
    )


def _run_lstsq(
    job: Job, *, out: Any = None, resume: bool | None = None, overwrite: bool = False,
    progress: bool | None = None,
) -> LstsqResult:  # fmt: skip
    return run(LstsqResult, job, out=out, resume=resume, overwrite=overwrite, progress=progress)
