"""The drivers that solve systems, and what follows from factors: inverse and determinant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from leptonhpc.api.budget import Nbytes, chosen_budget, within
from leptonhpc.api.inputs import open as open_array
from leptonhpc.api.results import Array, Result
from leptonhpc.api.running import run
from leptonhpc.linalg import Job, SolveCertificate, plan_solve
from leptonhpc.linalg.solve import Assume, Precision
from leptonhpc.store.locations import Location


@dataclass(frozen=True, repr=False, kw_only=True)
class SolveResult(Result):
    """Solution of A X = B."""

    FIELDS: ClassVar[tuple[str, ...]] = ("x",)
    CERTIFICATE: ClassVar[type] = SolveCertificate

    x: Array
    """(n,) or (n, k), as the right-hand sides."""
    certificate: SolveCertificate


def solve(
    a: Any,
    b: Any,
    *,
    assume: Assume = "gen",
    precision: Precision = "full",
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
        What is known of the matrix: nothing (LU with partial pivoting), symmetric or Hermitian (LU
        too), or also positive definite (Cholesky, half the work; it is checked).
    precision : {"full", "mixed"}
        "mixed" factors in single precision and refines the solution to double; where that does not
        converge the matrix is factored again in full. It needs all of x in memory.
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
        If a is singular to working precision.
    NotHermitianError, NotPositiveDefiniteError
        If a is not what ``assume="pos"`` says.
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


def _plan_solve(
    a: Any,
    b: Any,
    *,
    assume: Assume = "gen",
    precision: Precision = "full",
    seed: int = 0,
    memory: Nbytes = None,
) -> Job:
    left, right = open_array(a), open_array(b)
    return within(
        lambda resources: plan_solve(
            left, right, resources, assume=assume, precision=precision, seed=seed
        ),
        memory,
    )


def _run_solve(
    job: Job, *, out: Any = None, resume: bool | None = None, overwrite: bool = False,
    progress: bool | None = None,
) -> SolveResult:  # fmt: skip
    return run(SolveResult, job, out=out, resume=resume, overwrite=overwrite, progress=progress)
