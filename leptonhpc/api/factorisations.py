"""The drivers that factor a matrix: each result solves systems too."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from leptonhpc.api.budget import Nbytes, chosen_budget, within
from leptonhpc.api.factors import CholeskyResult, LuResult
from leptonhpc.api.numbers import with_numbers
from leptonhpc.api.origins import Origin
from leptonhpc.api.precisions import Precision, converted
from leptonhpc.api.running import run
from leptonhpc.linalg import Job
from leptonhpc.linalg.cholesky import plan_cholesky
from leptonhpc.linalg.lu import plan_lu
from leptonhpc.store.locations import Location


def cholesky(
    x: Any,
    *,
    precision: Precision | None = None,
    seed: int = 0,
    out: Location | None = None,
    memory: Nbytes = None,
    resume: bool | None = None,
    overwrite: bool = False,
    progress: bool | None = None,
) -> CholeskyResult:
    """Factor a Hermitian positive definite matrix as L L^H.

    Parameters
    ----------
    x : array of shape (n, n), or what `leptonhpc.open` takes
        The matrix; both triangles are read once, and compared.
    precision : {None, "float64", "float32", "tf32"}
        What is computed with: as the input's dtype; or its numbers are converted as they are read.
        "tf32" rounds the factors of float32 products to 11 bits on GPUs (at least one is needed;
        other workers compute in float32). `plan` and the certificate say what is done in which.
    seed : int
        Of the random vectors against which the factor is checked.
    out : str or path, optional
        A Zarr group to be made, with array l. A job that was stopped goes on from its last finished
        panel when the same call is made again.
    memory : int, float or str, optional
        Budget of each worker with everything in it.
    resume, overwrite, progress : bool
        See `Plan.run`.

    Returns
    -------
    CholeskyResult
        l (lower triangular), certificate and report; `solve` solves systems.

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
    NotPositiveDefiniteError
        If a pivot is not positive; `order` is that of the leading minor, counted from 1.
    OutputExistsError, JobMismatchError
        If `out` is taken.

    Examples
    --------
    >>> import numpy as np
    >>> import leptonhpc as lh
    >>> np.asarray(lh.cholesky([[4.0, 2.0], [2.0, 10.0]]).l)
    array([[2., 0.],
           [1., 3.]])
    """
    job = _plan_cholesky(
        x, precision=precision, seed=seed, memory=chosen_budget(memory, out, overwrite)
    )
    return _run_cholesky(job, out=out, resume=resume, overwrite=overwrite, progress=progress)


def lu(
    x: Any,
    *,
    precision: Precision | None = None,
    seed: int = 0,
    out: Location | None = None,
    memory: Nbytes = None,
    resume: bool | None = None,
    overwrite: bool = False,
    progress: bool | None = None,
) -> LuResult:
    """Factor a matrix as P^T L U, with partial pivoting down whole columns.

    Parameters
    ----------
    x : array of shape (m, n), or what `leptonhpc.open` takes
        The matrix.
    precision : {None, "float64", "float32", "tf32"}
        What is computed with: as the input's dtype; or its numbers are converted as they are read.
        "tf32" rounds the factors of float32 products to 11 bits on GPUs (at least one is needed;
        other workers compute in float32). `plan` and the certificate say what is done in which.
    seed : int
        Of the random vectors against which the factors are checked.
    out : str or path, optional
        A Zarr group to be made, with arrays perm, l, u. A job that was stopped goes on from its
        last finished panel when the same call is made again.
    memory : int, float or str, optional
        Budget of each worker with everything in it.
    resume, overwrite, progress : bool
        See `Plan.run`.

    Returns
    -------
    LuResult
        perm, l, u, certificate (with the growth of the pivots) and report; `solve` solves systems.
        A singular matrix has factors too, with a zero on the diagonal of u.

    Raises
    ------
    ShapeError, OptionError, DTypeError
        If the question makes no sense.
    MemoryBudgetError
        If no plan fits; the message names the smallest budget that would do.
    NonFiniteError
        If x holds NaN or infinity.
    OutputExistsError, JobMismatchError
        If `out` is taken.

    Warns
    -----
    NotConvergedWarning
        If the pivots grew so much that L U is far from A.

    Examples
    --------
    >>> import numpy as np
    >>> import leptonhpc as lh
    >>> perm, l, u = lh.lu([[0.0, 1.0], [2.0, 3.0]])
    >>> perm
    array([1, 0])
    >>> np.asarray(u)
    array([[2., 3.],
           [0., 1.]])
    """
    job = _plan_lu(x, precision=precision, seed=seed, memory=chosen_budget(memory, out, overwrite))
    return _run_lu(job, out=out, resume=resume, overwrite=overwrite, progress=progress)


@with_numbers
def _plan_cholesky(
    x: Any, *, precision: Precision | None = None, seed: int = 0, memory: Nbytes = None
) -> Job:
    array = converted(x, precision)
    return within(
        lambda resources: plan_cholesky(array, resources, seed=seed), memory, precision, rounds=True
    )


def _run_cholesky(
    job: Job, *, out: Any = None, resume: bool | None = None, overwrite: bool = False,
    progress: bool | None = None,
) -> CholeskyResult:  # fmt: skip
    found = run(CholeskyResult, job, out=out, resume=resume, overwrite=overwrite, progress=progress)
    return replace(found, _origin=Origin(job.sources["a"]))


@with_numbers
def _plan_lu(
    x: Any, *, precision: Precision | None = None, seed: int = 0, memory: Nbytes = None
) -> Job:
    array = converted(x, precision)
    return within(
        lambda resources: plan_lu(array, resources, seed=seed), memory, precision, rounds=True
    )


def _run_lu(
    job: Job, *, out: Any = None, resume: bool | None = None, overwrite: bool = False,
    progress: bool | None = None,
) -> LuResult:  # fmt: skip
    found = run(LuResult, job, out=out, resume=resume, overwrite=overwrite, progress=progress)
    return replace(found, _origin=Origin(job.sources["a"]))
