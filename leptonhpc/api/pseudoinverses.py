"""Drivers that multiply the factors of an SVD again: pseudoinverse and polar factors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from leptonhpc.api.budget import Nbytes, chosen_budget, within
from leptonhpc.api.inputs import open as open_array
from leptonhpc.api.numbers import with_numbers
from leptonhpc.api.results import Array, Result
from leptonhpc.api.running import run
from leptonhpc.linalg import FactorCertificate, Job
from leptonhpc.linalg.certificates import PseudoinverseCertificate
from leptonhpc.linalg.spectra import Side, plan_pinv, plan_polar
from leptonhpc.store.locations import Location


@dataclass(frozen=True, repr=False, kw_only=True)
class PinvResult(Result):
    """Moore-Penrose pseudoinverse."""

    FIELDS: ClassVar[tuple[str, ...]] = ("pinv",)
    SINGLE: ClassVar[str | None] = "pinv"
    CERTIFICATE: ClassVar[type] = PseudoinverseCertificate

    pinv: Array
    """(n, m)."""
    certificate: PseudoinverseCertificate

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Read the pseudoinverse into memory."""
        return np.asarray(self.pinv, dtype=dtype)


@dataclass(frozen=True, repr=False, kw_only=True)
class PolarResult(Result):
    """Polar factors A = U P, or A = P U."""

    FIELDS: ClassVar[tuple[str, ...]] = ("u", "p")
    CERTIFICATE: ClassVar[type] = FactorCertificate

    u: Array
    """(m, n): orthonormal columns; orthonormal rows for the left factor of a wide matrix."""
    p: Array
    """Hermitian, positive semidefinite, of the order of the short side."""
    certificate: FactorCertificate

    def __iter__(self) -> Any:
        """Unpack as u, p."""
        return iter((self.u, self.p))


def pinv(
    x: Any,
    *,
    rcond: float | None = None,
    seed: int = 0,
    out: Location | None = None,
    memory: Nbytes = None,
    resume: bool | None = None,
    overwrite: bool = False,
    progress: bool | None = None,
) -> PinvResult:
    """Find the Moore-Penrose pseudoinverse V S^-1 U^H of a matrix.

    Parameters
    ----------
    x : array of shape (m, n), or what `leptonhpc.open` takes
        The matrix. Where a few matrices of the order of its short side fit in memory the long side
        is streamed; else it is factored by panels, and by division where it may be deficient.
    rcond : float, optional
        Singular values up to rcond times the largest count as zero. Default: max(m, n) eps, but
        never within what rounding may have made of a zero.
    seed : int
        Of the random vectors against which the result is checked.
    out : str or path, optional
        A Zarr array to be made. A job that was stopped goes on from its last finished stage when
        the same call is made again.
    memory : int, float or str, optional
        Budget of each worker with everything in it.
    resume, overwrite, progress : bool
        See `Plan.run`.

    Returns
    -------
    PinvResult
        pinv of shape (n, m), certificate (rank, condition, measured error) and report.

    Raises
    ------
    ShapeError, OptionError, DTypeError
        If the question makes no sense.
    MemoryBudgetError
        If no plan fits; the message names the smallest budget that would do.
    NonFiniteError
        If x holds NaN or infinity.
    NumericRangeError
        If the pseudoinverse would overflow.
    OutputExistsError, JobMismatchError
        If `out` is taken.

    Examples
    --------
    >>> import numpy as np
    >>> import leptonhpc as lh
    >>> np.asarray(lh.pinv([[2.0, 0.0], [0.0, 4.0], [0.0, 0.0]])).round(12)
    array([[0.5 , 0.  , 0.  ],
           [0.  , 0.25, 0.  ]])
    """
    job = _plan_pinv(x, rcond=rcond, seed=seed, memory=chosen_budget(memory, out, overwrite))
    return _run_pinv(job, out=out, resume=resume, overwrite=overwrite, progress=progress)


def polar(
    x: Any,
    *,
    side: Side = "right",
    seed: int = 0,
    out: Location | None = None,
    memory: Nbytes = None,
    resume: bool | None = None,
    overwrite: bool = False,
    progress: bool | None = None,
) -> PolarResult:
    """Factor a matrix as U P: U with orthonormal columns, P positive semidefinite.

    Parameters
    ----------
    x : array of shape (m, n), or what `leptonhpc.open` takes
        The matrix. Where a few matrices of the order of its short side fit in memory the long side
        is streamed; else its factors are iterated by products, in scratch, and u and p stored.
    side : {"right", "left"}
        A = U P (m >= n), or A = P U (m <= n).
    seed : int
        Of the random vectors against which the factors are checked.
    out : str or path, optional
        A Zarr group to be made, with arrays u, p. A job that was stopped goes on from its last
        finished stage when the same call is made again.
    memory : int, float or str, optional
        Budget of each worker with everything in it.
    resume, overwrite, progress : bool
        See `Plan.run`.

    Returns
    -------
    PolarResult
        u, p, certificate (backward error, orthogonality) and report. U of a rank-deficient matrix
        is one of many.

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

    Examples
    --------
    >>> import numpy as np
    >>> import leptonhpc as lh
    >>> u, p = lh.polar([[0.0, -2.0], [3.0, 0.0]])
    >>> np.asarray(p).round(12)
    array([[3., 0.],
           [0., 2.]])
    """
    job = _plan_polar(x, side=side, seed=seed, memory=chosen_budget(memory, out, overwrite))
    return _run_polar(job, out=out, resume=resume, overwrite=overwrite, progress=progress)


@with_numbers
def _plan_pinv(x: Any, *, rcond: float | None = None, seed: int = 0, memory: Nbytes = None) -> Job:
    array = open_array(x)
    return within(lambda resources: plan_pinv(array, resources, rcond=rcond, seed=seed), memory)


def _run_pinv(
    job: Job, *, out: Any = None, resume: bool | None = None, overwrite: bool = False,
    progress: bool | None = None,
) -> PinvResult:  # fmt: skip
    return run(PinvResult, job, out=out, resume=resume, overwrite=overwrite, progress=progress)


@with_numbers
def _plan_polar(x: Any, *, side: Side = "right", seed: int = 0, memory: Nbytes = None) -> Job:
    array = open_array(x)
    return within(lambda resources: plan_polar(array, resources, side=side, seed=seed), memory)


def _run_polar(
    job: Job, *, out: Any = None, resume: bool | None = None, overwrite: bool = False,
    progress: bool | None = None,
) -> PolarResult:  # fmt: skip
    return run(PolarResult, job, out=out, resume=resume, overwrite=overwrite, progress=progress)
