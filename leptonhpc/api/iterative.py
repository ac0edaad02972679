"""The drivers for systems too large to factor: one reading of the matrix an iteration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from numpy.typing import NDArray

from leptonhpc.api.budget import Nbytes, chosen_budget, within
from leptonhpc.api.inputs import open as open_array
from leptonhpc.api.numbers import with_numbers
from leptonhpc.api.results import Result
from leptonhpc.api.running import run
from leptonhpc.linalg import Job
from leptonhpc.linalg.certificates import IterationCertificate
from leptonhpc.linalg.cg import plan_cg
from leptonhpc.linalg.iterations import Options
from leptonhpc.linalg.lsmr import plan_lsmr
from leptonhpc.store.locations import Location


@dataclass(frozen=True, repr=False, kw_only=True)
class CgResult(Result):
    """Solution of (A + shift I) X = B."""

    FIELDS: ClassVar[tuple[str, ...]] = ("x",)
    CERTIFICATE: ClassVar[type] = IterationCertificate

    x: NDArray[Any]
    """(n,) or (n, k), as the right-hand sides."""
    certificate: IterationCertificate


@dataclass(frozen=True, repr=False, kw_only=True)
class LsmrResult(Result):
    """Solution of min |A X - B|^2 + damp^2 |X|^2."""

    FIELDS: ClassVar[tuple[str, ...]] = ("x",)
    CERTIFICATE: ClassVar[type] = IterationCertificate

    x: NDArray[Any]
    """(n,) or (n, k)."""
    certificate: IterationCertificate


def cg(
    a: Any,
    b: Any,
    *,
    shift: float = 0.0,
    x0: Any = None,
    tol: float | None = None,
    rank: int | None = None,
    most_passes: int = 300,
    seed: int = 0,
    out: Location | None = None,
    memory: Nbytes = None,
    resume: bool | None = None,
    overwrite: bool = False,
    progress: bool | None = None,
) -> CgResult:
    """Solve (A + shift I) X = B by preconditioned conjugate gradients.

    Parameters
    ----------
    a : array of shape (n, n), or what `leptonhpc.open` takes
        Symmetric or Hermitian, such that A + shift I is positive definite; both are checked.
    b : array of shape (n,) or (n, k), or what `leptonhpc.open` takes
        A few right-hand sides: they go through each pass together.
    shift : float
        What is added to the diagonal: the nugget of a kriging system, the weight of a ridge.
    x0 : array of the shape of b, optional
        First guess; default zero.
    tol : float, optional
        Largest |b - (A + shift I) x| / |b| of a column; default 1e-8, in single precision 1e-5.
    rank : int, optional
        Of the Nystroem preconditioner, for which the first pass multiplies so many vectors; 0 for
        none; default: 50, or what memory allows.
    most_passes : int
        Largest number of multiplications with A, at least 4.
    seed : int
        Of the sketch, and of the vectors that tell whether A is Hermitian.
    out : str or path, optional
        A Zarr group to be made, with array x. A job that was stopped goes on from its last finished
        pass when the same call is made again.
    memory : int, float or str, optional
        Budget of each worker with everything in it: a few vectors and one band of A at least; what
        else of A fits stays in memory from pass to pass.
    resume, overwrite, progress : bool
        See `Plan.run`.

    Returns
    -------
    CgResult
        x, certificate (residuals, condition number) and report.

    Raises
    ------
    ShapeError, OptionError, DTypeError
        If the question makes no sense.
    MemoryBudgetError
        If no plan fits; the message names the smallest budget that would do.
    NonFiniteError
        If a, b or x0 holds NaN or infinity.
    NotHermitianError
        If a differs from its conjugate transpose by more than rounding.
    NotPositiveDefiniteError
        If p^H (A + shift I) p is not positive for a direction p; the message names the iteration.
    OutputExistsError, JobMismatchError
        If `out` is taken.

    Warns
    -----
    NotConvergedWarning
        If the residual is larger than `tol` asks for.

    Examples
    --------
    >>> import leptonhpc as lh
    >>> lh.cg([[4.0, 2.0], [2.0, 10.0]], [8.0, 22.0]).x.round(6)
    array([1., 2.])
    """
    job = _plan_cg(
        a, b, shift=shift, x0=x0, tol=tol, rank=rank, most_passes=most_passes, seed=seed,
        memory=chosen_budget(memory, out, overwrite),
    )  # fmt: skip
    return _run_cg(job, out=out, resume=resume, overwrite=overwrite, progress=progress)


def lsmr(
    a: Any,
    b: Any,
    *,
    damp: float = 0.0,
    tol: float | None = None,
    rank: int | None = None,
    most_passes: int = 300,
    seed: int = 0,
    out: Location | None = None,
    memory: Nbytes = None,
    resume: bool | None = None,
    overwrite: bool = False,
    progress: bool | None = None,
) -> LsmrResult:
    """Minimise |A X - B|^2 + damp^2 |X|^2 by preconditioned LSMR.

    Parameters
    ----------
    a : array of shape (m, n), or what `leptonhpc.open` takes
        Tall or wide, of any rank.
    b : array of shape (m,) or (m, k), or what `leptonhpc.open` takes
        A few right-hand sides: they go through each pass together.
    damp : float
        Weight of |x|: the square root of a ridge parameter. With 0, x is the solution of smallest
        norm.
    tol : float, optional
        Largest |A^H r - damp^2 x| / (|A| |(r, damp x)|) with r = b - A x, or, where r vanishes, of
        |r| / (|A| |x| + |b|); norms of A are Frobenius. Default 1e-8, in single precision 1e-5. The
        error of x is this times about the square of the condition number of [A; damp I]: see the
        certificate.
    rank : int, optional
        Of the Nystroem preconditioner of A^H A (A A^H where A is wide), for which the first pass
        multiplies so many vectors; 0: none; default: 50, or what memory allows.
    most_passes : int
        Largest number of readings of A, at least 4; each multiplies with A and with A^H.
    seed : int
        Of the sketch.
    out : str or path, optional
        A Zarr group to be made, with array x. A job that was stopped goes on from its last finished
        pass when the same call is made again.
    memory : int, float or str, optional
        Budget of each worker with everything in it: a few vectors and one band of A at least; what
        else of A fits stays in memory from pass to pass.
    resume, overwrite, progress : bool
        See `Plan.run`.

    Returns
    -------
    LsmrResult
        x, certificate (residuals, condition number) and report.

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
        If the residuals are larger than `tol` asks for.

    Examples
    --------
    >>> import leptonhpc as lh
    >>> lh.lsmr([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]], [1.0, 3.0, 5.0]).x.round(6)
    array([1., 2.])
    """
    job = _plan_lsmr(
        a, b, damp=damp, tol=tol, rank=rank, most_passes=most_passes, seed=seed,
        memory=chosen_budget(memory, out, overwrite),
    )  # fmt: skip
    return _run_lsmr(job, out=out, resume=resume, overwrite=overwrite, progress=progress)


@with_numbers
def _plan_cg(
    a: Any,
    b: Any,
    *,
    shift: float = 0.0,
    x0: Any = None,
    tol: float | None = None,
    rank: int | None = None,
    most_passes: int = 300,
    seed: int = 0,
    memory: Nbytes = None,
) -> Job:
    left, right = open_array(a), open_array(b)
    start = None if x0 is None else open_array(x0)
    options = Options(tol, rank, most_passes, seed)
    return within(
        lambda resources: plan_cg(left, right, resources, options, shift=shift, x0=start), memory
    )


@with_numbers
def _plan_lsmr(
    a: Any,
    b: Any,
    *,
    damp: float = 0.0,
    tol: float | None = None,
    rank: int | None = None,
    most_passes: int = 300,
    seed: int = 0,
    memory: Nbytes = None,
) -> Job:
    left, right = open_array(a), open_array(b)
    options = Options(tol, rank, most_passes, seed)
    return within(lambda resources: plan_lsmr(left, right, resources, options, damp=damp), memory)


def _run_cg(
    job: Job, *, out: Any = None, resume: bool | None = None, overwrite: bool = False,
    progress: bool | None = None,
) -> CgResult:  # fmt: skip
    return run(CgResult, job, out=out, resume=resume, overwrite=overwrite, progress=progress)


def _run_lsmr(
    job: Job, *, out: Any = None, resume: bool | None = None, overwrite: bool = False,
    progress: bool | None = None,
) -> LsmrResult:  # fmt: skip
    return run(LsmrResult, job, out=out, resume=resume, overwrite=overwrite, progress=progress)
