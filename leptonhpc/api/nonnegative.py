"""The driver of non-negative factorisations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from leptonhpc.api.budget import Nbytes, chosen_budget, within
from leptonhpc.api.numbers import with_numbers
from leptonhpc.api.precisions import DtypePrecision, converted, refuse_rounding
from leptonhpc.api.results import Array, Result
from leptonhpc.api.running import run
from leptonhpc.errors import OptionError
from leptonhpc.linalg import Job, NmfCertificate, plan_nmf
from leptonhpc.linalg.nmf_options import Init, Loss, Method, NmfOptions
from leptonhpc.store.locations import Location


@dataclass(frozen=True, repr=False, kw_only=True)
class NmfResult(Result):
    """Non-negative factorisation X ~ W H."""

    FIELDS: ClassVar[tuple[str, ...]] = ("w", "h")
    CERTIFICATE: ClassVar[type] = NmfCertificate

    w: Array
    """(m, k): how much of each component is in each row; nothing is negative."""
    h: Array
    """(k, n): the components; nothing is negative. Columns of w and rows of h are about equally
    large."""
    certificate: NmfCertificate

    def __iter__(self) -> Any:
        """Unpack as w, h."""
        return iter((self.w, self.h))


def nmf(
    x: Any,
    *,
    rank: int | None = None,
    loss: Loss = "frobenius",
    method: Method = "sweeps",
    init: Init = "auto",
    w0: Any = None,
    h0: Any = None,
    update_h: bool = True,
    tol: float = 1e-4,
    most_sweeps: int = 200,
    precision: DtypePrecision | None = None,
    seed: int = 0,
    out: Location | None = None,
    memory: Nbytes = None,
    resume: bool | None = None,
    overwrite: bool = False,
    progress: bool | None = None,
) -> NmfResult:
    """Factor a matrix as W H, all three without negative numbers.

    Parameters
    ----------
    x : array of shape (m, n), or what `leptonhpc.open` takes
        The matrix; the longer side is streamed.
    rank : int, optional
        Number of components k; needed unless `h0` is given.
    loss : {"frobenius", "kullback-leibler"}
        What is lowered: |X - WH|_F by hierarchical alternating least squares, or D(X | WH) =
        sum x log(x / (WH)) - x + WH by multiplicative updates; both are extrapolated, and each
        sweep reads X once.
    method : {"sweeps", "compressed"}
        "compressed" sweeps over the leading singular modes of X in its place, and reads X a last
        time to improve W and to measure: for what is too large to be read often.
    init : {"auto", "nndsvd", "nndsvda", "random"}
        How W and H begin: from singular vectors, with zeros or with the mean in their place (2 to
        6 passes); at random (no pass). "auto" is "nndsvd", for the divergence "nndsvda", and
        "random" where k > min(m, n).
    w0, h0 : arrays of shapes (m, k) and (k, n), optional
        To begin with instead. A component that is zero in both (with the divergence: in either) is
        refused: no sweep would change it.
    update_h : bool
        False: find the W that is best for the `h0` given, in one pass.
    tol : float
        Stop where the error falls by less than ``tol`` of itself a sweep, five sweeps on average
        (where WH holds little of X, also by less than ``tol`` of what it holds); where the residual
        of the optimality conditions is at most ``tol`` times the error; or where the error is at
        most ``tol * |X|_F``. For the divergence the error is its root.
    most_sweeps : int
        Largest number of sweeps.
    precision : {None, "float64", "float32"}
        What is computed with; None: what `x` has. Single precision halves memory and time where
        numbers of the input have few digits; TF32 is refused.
    seed : int
        Of random starts: same seed, same numbers on any grid to rounding.
    out : str or path, optional
        A Zarr group to be made, with arrays w and h. A job that was stopped goes on from its last
        finished sweep when the same call is made again.
    memory : int, float or str, optional
        Budget of each worker with everything in it; what fits of X stays in memory from sweep to
        sweep.
    resume, overwrite, progress : bool
        See `Plan.run`.

    Returns
    -------
    NmfResult
        w, h of the dtype of computing (float32 or float64; integers and booleans are widened to
        float64), certificate and report. Small arrays in memory, large ones as BlockedArray.

    Raises
    ------
    ShapeError, OptionError, DTypeError
        If the question makes no sense.
    MemoryBudgetError
        If no plan fits; the message names the smallest budget that would do.
    NegativeValueError, NonFiniteError
        If x holds a negative number, NaN or infinity; the message names block and index.
    NumericRangeError
        If products of its numbers leave the range of the dtype.
    OutputExistsError, JobMismatchError
        If `out` is taken.

    Warns
    -----
    NotConvergedWarning
        If no sweep was left; the certificate says how good W and H are.

    Examples
    --------
    >>> import numpy as np
    >>> import leptonhpc as lh
    >>> w, h = lh.nmf(np.outer([1.0, 2.0], [1.0, 0.0, 3.0]), rank=1)
    >>> np.round(w @ h, 6)
    array([[1., 0., 3.],
           [2., 0., 6.]])
    """
    job = _plan_nmf(
        x, rank=rank, loss=loss, method=method, init=init, w0=w0, h0=h0, update_h=update_h,
        tol=tol, most_sweeps=most_sweeps, precision=precision, seed=seed,
        memory=chosen_budget(memory, out, overwrite),
    )  # fmt: skip
    return _run_nmf(job, out=out, resume=resume, overwrite=overwrite, progress=progress)


@with_numbers
def _plan_nmf(
    x: Any,
    *,
    rank: int | None = None,
    loss: Loss = "frobenius",
    method: Method = "sweeps",
    init: Init = "auto",
    w0: Any = None,
    h0: Any = None,
    update_h: bool = True,
    tol: float = 1e-4,
    most_sweeps: int = 200,
    precision: DtypePrecision | None = None,
    seed: int = 0,
    memory: Nbytes = None,
) -> Job:
    refuse_rounding(precision, "nmf", "sweeps improve rows on the host")
    array = converted(x, precision)
    first_w, first_h = (
        None if start is None else converted(start, precision) for start in (w0, h0)
    )
    if rank is None and first_h is None:
        raise OptionError("nmf: rank= is needed, the number of components")
    count: Any = rank
    if rank is None and first_h is not None:
        count = first_h.shape[0] if first_h.ndim else 1  # a number is refused with its shape
    options = NmfOptions(count, loss, method, init, update_h, tol, most_sweeps, seed)
    return within(
        lambda resources: plan_nmf(array, resources, options=options, w0=first_w, h0=first_h),
        memory, precision,
    )  # fmt: skip


def _run_nmf(
    job: Job, *, out: Any = None, resume: bool | None = None, overwrite: bool = False,
    progress: bool | None = None,
) -> NmfResult:  # fmt: skip
    return run(NmfResult, job, out=out, resume=resume, overwrite=overwrite, progress=progress)
