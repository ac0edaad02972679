"""The drivers: each checks its input, plans, runs, and returns a result with its certificate."""

from __future__ import annotations

import warnings
from contextlib import suppress
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from leptonhpc.api.budget import Nbytes, chosen_budget, within
from leptonhpc.api.inputs import open as open_array
from leptonhpc.api.numbers import real_numbers, with_numbers
from leptonhpc.api.outputs import is_finished, run_to_output
from leptonhpc.api.precisions import Precision, converted, refuse_rounding
from leptonhpc.api.results import (
    MatmulResult,
    NormResult,
    SvdResult,
    from_outcome,
    load,
    warn_unless_converged,
)
from leptonhpc.api.running import run
from leptonhpc.blocks import BlockedArray
from leptonhpc.errors import MemoryBudgetError, NotConvergedWarning, OptionError
from leptonhpc.linalg import Job, plan_matmul, plan_norm
from leptonhpc.linalg.conditioning import Conditioning
from leptonhpc.linalg.spectra import plan_values
from leptonhpc.linalg.svd import Method
from leptonhpc.linalg.svd_divide import plan_full_svd
from leptonhpc.linalg.svd_shared import SvdOptions
from leptonhpc.planning import Resources
from leptonhpc.planning.layout import compute_dtype
from leptonhpc.planning.precision import products_roundoff
from leptonhpc.store.locations import Location

_MOST_PASSES = (60, 25)
"""Of the iteration for a 2-norm, the first that fits; if none does, what svd makes at most."""


def svd(
    x: Any,
    *,
    rank: int | None = None,
    tol: float | None = None,
    variance: float | None = None,
    method: Method = "auto",
    center: bool = False,
    scale: Literal["std"] | ArrayLike | None = None,
    weights: ArrayLike | None = None,
    missing: Literal["raise", "mean"] = "raise",
    compute_uv: bool = True,
    accuracy: float = 1e-3,
    most_passes: int = 10,
    precision: Precision | None = None,
    seed: int = 0,
    out: Location | None = None,
    memory: Nbytes = None,
    resume: bool | None = None,
    overwrite: bool = False,
    progress: bool | None = None,
) -> SvdResult:
    """Factor a matrix as U diag(s) Vh, truncated or in full.

    Parameters
    ----------
    x : array of shape (m, n), or what `leptonhpc.open` takes
        The matrix; the longer side is streamed.
    rank : int, optional
        Number of modes. Without rank, tol and variance all min(m, n) are given.
    tol : float, optional
        As many modes as bring the Frobenius error below ``tol * |A|_F``.
    variance : float, optional
        As many modes as capture this share of ``|A|_F**2``.
    method : {"auto", "gram", "krylov", "sketch", "mixed", "divide"}
        Gram matrix of the short side (exact, 2 passes), fused block Krylov iteration (stops on the
        residual), one-pass sketch (approximate, error estimated), Gram matrix in single precision
        (2 passes, at twice the speed; residuals near 1e-6 of the largest value, measured),
        polar factor and spectral divide and conquer (all values and vectors of a matrix both of
        whose sides are beyond memory). "auto" takes the faster of the first two, or the last where
        all values are asked for and the first does not fit; `plan` says why.
    center : bool
        Subtract each column's mean.
    scale : "std" or array of shape (n,), optional
        Divide each column by its standard deviation (of the present values, divisor m), or by these
        numbers.
    weights : array of shape (n,), optional
        Multiply each column by its weight, after centring and scaling.
    missing : {"raise", "mean"}
        What NaN means: an error that names its index, or the column's mean of present values.
    compute_uv : bool
        False: values only.
    accuracy : float
        Krylov iteration stops when ``|A^H u - s v| <= accuracy * s`` for all modes. A sketch counts
        as converged when its error is at most ``accuracy * |A|_F``.
    most_passes : int
        Krylov iteration stops after so many passes at the latest, with a warning.
    precision : {None, "float64", "float32", "tf32"}
        What is computed with: as the input's dtype; or its numbers are converted as they are read.
        "tf32" rounds the factors of float32 products to 11 bits on GPUs (at least one is needed;
        other workers compute in float32). `plan` and the certificate say what is done in which.
    seed : int
        Of random starts and sketches: same seed, same numbers on any grid to rounding.
    out : str or path, optional
        A Zarr group to be made, with arrays u, s, vh (and mean, scale). A job that was stopped
        goes on when the same call is made again.
    memory : int, float or str, optional
        Budget of each worker with everything in it, such as "2 GB"; default: the workers' limits,
        or half of the free memory.
    resume, overwrite, progress : bool
        See `Plan.run`.

    Returns
    -------
    SvdResult
        u, s, vh of the dtype of computing (float32, float64, complex64, complex128; integers and
        booleans are widened to float64), certificate and report. Small arrays in memory, large ones
        as BlockedArray.

    Raises
    ------
    ShapeError, OptionError, DTypeError
        If the question makes no sense.
    MemoryBudgetError
        If no plan fits, or `tol` takes more modes than there is room for: it names what would do.
    NonFiniteError
        If x holds NaN or infinity; before any result is written.
    OutputExistsError, JobMismatchError
        If `out` is taken.

    Warns
    -----
    NotConvergedWarning
        If a mode did not reach its accuracy; the certificate says by how much.

    Examples
    --------
    >>> import numpy as np
    >>> import leptonhpc as lh
    >>> r = lh.svd(np.diag([3.0, 2.0, 1.0]), rank=2)
    >>> np.round(r.s, 12)
    array([3., 2.])
    """
    job = _plan_svd(
        x, rank=rank, tol=tol, variance=variance, method=method, center=center, scale=scale,
        weights=weights, missing=missing, compute_uv=compute_uv, accuracy=accuracy,
        most_passes=most_passes, precision=precision, seed=seed,
        memory=chosen_budget(memory, out, overwrite),
    )  # fmt: skip
    return _run_svd(job, out=out, resume=resume, overwrite=overwrite, progress=progress)


def matmul(
    a: Any,
    b: Any,
    *,
    precision: Precision | None = None,
    seed: int = 0,
    out: Location | None = None,
    memory: Nbytes = None,
    resume: bool | None = None,
    overwrite: bool = False,
    progress: bool | None = None,
) -> MatmulResult:
    """Multiply two matrices.

    Parameters
    ----------
    a : array of shape (m, k), or what `leptonhpc.open` takes
        Left factor.
    b : array of shape (k, n), or what `leptonhpc.open` takes
        Right factor. For ``x.H @ x`` and ``x @ x.H`` half the work is done (syrk).
    precision : {None, "float64", "float32", "tf32"}
        What is computed with: as the input's dtype; or its numbers are converted as they are read.
        "tf32" rounds the factors of float32 products to 11 bits on GPUs (at least one is needed;
        other workers compute in float32). `plan` and the certificate say what is done in which.
    seed : int
        Of the random vectors against which each block is checked.
    out : str or path, optional
        A Zarr array to be made. A job that was stopped goes on from its last finished block when
        the same call is made again.
    memory : int, float or str, optional
        Budget of each worker with everything in it.
    resume, overwrite, progress : bool
        See `Plan.run`.

    Returns
    -------
    MatmulResult
        product, certificate and report.

    Raises
    ------
    ShapeError, OptionError, DTypeError
        If the question makes no sense.
    MemoryBudgetError
        If no plan fits; the message names the smallest budget that would do.
    NonFiniteError
        If a factor holds NaN or infinity.
    OutputExistsError, JobMismatchError
        If `out` is taken.

    Examples
    --------
    >>> import numpy as np
    >>> import leptonhpc as lh
    >>> np.asarray(lh.matmul(np.eye(2), np.ones((2, 3))))
    array([[1., 1., 1.],
           [1., 1., 1.]])
    """
    job = _plan_matmul(
        a, b, precision=precision, seed=seed, memory=chosen_budget(memory, out, overwrite)
    )
    return _run_matmul(job, out=out, resume=resume, overwrite=overwrite, progress=progress)


def norm(
    x: Any,
    *,
    ord: Literal["fro", "nuc"] | float = "fro",  # noqa: A002  (the array API's name)
    memory: Nbytes = None,
    seed: int = 0,
    progress: bool | None = None,
) -> NormResult:
    """Give a norm of a matrix.

    Parameters
    ----------
    x : array of shape (m, n), or what `leptonhpc.open` takes
        The matrix.
    ord : {"fro", 1, -1, inf, -inf, 2, -2, "nuc"}
        Frobenius norm, largest and smallest column sum, largest and smallest row sum (one pass
        each); largest and smallest singular value, sum of singular values (by svd).
    memory : int, float or str, optional
        Budget of each worker with everything in it.
    seed : int
        Of the iteration for ``ord=2``.
    progress : bool, optional
        Show a bar; default: where somebody looks.

    Returns
    -------
    NormResult
        value, certificate and report.

    Raises
    ------
    ShapeError, OptionError, DTypeError, NonFiniteError
        As for `svd`.

    Examples
    --------
    >>> import leptonhpc as lh
    >>> float(lh.norm([[3.0, 4.0], [0.0, 0.0]]))
    5.0
    """
    job = _plan_norm(x, ord=ord, memory=memory, seed=seed)
    return _run_norm(job, progress=progress)


@with_numbers
def _plan_svd(
    x: Any,
    *,
    rank: int | None = None,
    tol: float | None = None,
    variance: float | None = None,
    method: Method = "auto",
    center: bool = False,
    scale: Literal["std"] | ArrayLike | None = None,
    weights: ArrayLike | None = None,
    missing: str = "raise",
    compute_uv: bool = True,
    accuracy: float = 1e-3,
    most_passes: int = 10,
    precision: Precision | None = None,
    seed: int = 0,
    memory: Nbytes = None,
) -> Job:
    array = converted(x, precision)
    options = SvdOptions(rank, tol, variance, compute_uv, accuracy, most_passes, seed)
    conditioning = Conditioning(
        center,
        scale if scale is None or isinstance(scale, str) else real_numbers("scale", scale),
        None if weights is None else real_numbers("weights", weights),
        missing,
    )

    def build(resources: Resources) -> Job:
        return plan_full_svd(
            array, resources, options=options, conditioning=conditioning, method=method
        )

    job = within(build, memory, precision, rounds=True)
    rounded = products_roundoff(compute_dtype(array.dtype), job.resources.precision)
    if job.parameters.get("method") == "divide" and rounded:
        why = "by division it iterates until factors are orthonormal to float32"
        refuse_rounding(precision, "svd of all values beyond memory", why)
        return within(build, memory)
    return job


@with_numbers
def _plan_matmul(
    a: Any, b: Any, *, precision: Precision | None = None, seed: int = 0, memory: Nbytes = None
) -> Job:
    left, right = converted(a, precision), converted(b, precision)
    return within(
        lambda resources: plan_matmul(left, right, resources, seed=seed), memory, precision,
        rounds=True,
    )  # fmt: skip


@with_numbers
def _plan_norm(x: Any, *, ord: Any = "fro", memory: Nbytes = None, seed: int = 0) -> Job:
    if ord == "nuc":
        return _plan_svd(x, compute_uv=False, accuracy=1e-6, seed=seed, memory=memory)
    array = open_array(x)
    if ord == 2:
        return within(lambda resources: _plan_largest(array, resources, seed), memory, rounds=True)
    if ord == -2:
        return within(lambda resources: plan_values(array, resources, question="norm"), memory)
    name = {1: "1", -1: "-1", np.inf: "inf", -np.inf: "-inf"}.get(ord, str(ord))
    return within(lambda resources: plan_norm(array, resources, order=name), memory)


def _plan_largest(array: BlockedArray, resources: Resources, seed: int) -> Job:
    """Plan the largest singular value, by as many passes as there is room for: each keeps a block.

    With the fewest of them it takes no more memory than svd does with its own number.
    """

    def planned(most_passes: int) -> Job:
        options = SvdOptions(
            rank=1, compute_uv=False, accuracy=1e-6, most_passes=most_passes, seed=seed
        )
        return plan_full_svd(array, resources, options=options, conditioning=Conditioning())

    fewest = planned(SvdOptions.most_passes)
    for many in _MOST_PASSES:
        with suppress(MemoryBudgetError):
            return planned(many)
    return fewest


def _run_svd(
    job: Job, *, out: Any = None, resume: bool | None = None, overwrite: bool = False,
    progress: bool | None = None,
) -> SvdResult:  # fmt: skip
    if not overwrite and resume is not False and is_finished(job, out):
        found = load(out)
        assert isinstance(found, SvdResult)
        warn_unless_converged(job.explanation.inputs, found.certificate, found.s)
        return found
    outcome, workspace, report, stored = run_to_output(
        job, out=out, resume=resume, overwrite=overwrite, progress=progress
    )
    place = out if stored else None
    fields = {
        name: from_outcome(outcome.fields.get(name), workspace, place, name) for name in ("u", "vh")
    }
    certificate: Any = outcome.certificate
    result = SvdResult(
        **fields, s=outcome.fields["s"], certificate=certificate, report=report,
        mean=outcome.fields.get("mean"), scale=outcome.fields.get("scale"), _workspace=workspace,
    )  # fmt: skip
    warn_unless_converged(job.explanation.inputs, certificate, result.s)
    return result


def _run_matmul(
    job: Job, *, out: Any = None, resume: bool | None = None, overwrite: bool = False,
    progress: bool | None = None,
) -> MatmulResult:  # fmt: skip
    return run(MatmulResult, job, out=out, resume=resume, overwrite=overwrite, progress=progress)


def _run_norm(
    job: Job, *, out: Any = None, resume: bool | None = None, overwrite: bool = False,
    progress: bool | None = None,
) -> NormResult:  # fmt: skip
    if out is not None:
        raise OptionError("a norm is one number; it has no out=")
    outcome, _, report, _ = run_to_output(
        job, out=None, resume=resume, overwrite=overwrite, progress=progress
    )
    certificate: Any = outcome.certificate
    value = outcome.fields.get("value")
    if value is None:  # by singular values: the largest, or their sum
        value = np.sum(outcome.fields["s"], dtype=np.float64)
        warn_unless_converged(job.explanation.inputs, certificate, outcome.fields["s"])
    elif not certificate.converged:
        message = f"norm of {', '.join(job.explanation.inputs)}: {certificate}"
        warnings.warn(message, NotConvergedWarning, stacklevel=3)
    return NormResult(float(value), certificate, report)
