"""Fields written in their own EOFs, X = U S V^H: what is left to compute with is small."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import leptonhpc as lh
from leptonhpc.blocks import BlockedArray
from leptonhpc.climate.prepared import Prepared, joined
from leptonhpc.climate.room import room
from leptonhpc.climate.variance import require_variance, rounding_of
from leptonhpc.errors import OptionError


@dataclass(frozen=True)
class Reduced:
    """Fields, and the SVD of their weighted anomalies."""

    prepared: Sequence[Prepared]
    result: lh.SvdResult
    complete: bool
    """Whether all EOFs are kept."""

    @property
    def u(self) -> NDArray[Any]:
        """(samples, eofs): orthonormal columns."""
        return np.asarray(self.result.u)

    @property
    def s(self) -> NDArray[Any]:
        """(eofs,): singular values."""
        return np.asarray(self.result.s)

    @property
    def rank(self) -> int:
        """How many EOFs are more than rounding: s > eps max(m, n) s[0]."""
        one = self.prepared[0].matrix
        cells = sum(int(np.count_nonzero(each.weights)) for each in self.prepared)
        eps = np.finfo(np.result_type(*(each.matrix.dtype for each in self.prepared))).eps
        return int(np.count_nonzero(self.s > eps * max(one.shape[0], cells) * self.s[:1].max()))

    @property
    def mean(self) -> NDArray[Any]:
        """(cells,): what was subtracted."""
        return np.asarray(self.result.mean)

    @property
    def held_nbytes(self) -> int:
        """What is held in memory of the decomposition."""
        arrays = self.result.arrays().values()
        return sum(array.nbytes for array in arrays if isinstance(array, np.ndarray))

    def patterns(self, a: NDArray[Any]) -> Any:
        """Give A^H V^H, patterns as rows.

        Parameters
        ----------
        a : array of shape (eofs, k)
            Coefficients of the EOFs.

        Returns
        -------
        array of shape (k, cells)
            Lazy where V^H is.
        """
        vh: Any = self.result.vh
        return a.conj().T @ (vh.to_dask() if isinstance(vh, BlockedArray) else vh)


def reduce_field(
    prepared: Sequence[Prepared], eofs: int | None, *, seed: int, memory: Any,
    here_nbytes: int = 0, out: str | None = None, overwrite: bool = False,
    progress: bool | None = None,
) -> Reduced:  # fmt: skip
    """Write fields in their leading EOFs, or in all.

    Parameters
    ----------
    prepared : sequence of Prepared
        The fields, taken together.
    eofs : int or None
        How many; None: all, which is exact.
    seed : int
        Of random starts.
    memory : int, float, str or None
        Budget of each worker.
    here_nbytes : int
        What this process holds beside it, or takes to compute with the EOFs.
    out : str, optional
        Where the decomposition is kept: it goes on from there after a stop.
    overwrite : bool
        Replace what is there.
    progress : bool, optional
        Show a bar.

    Returns
    -------
    Reduced
        The fields in their EOFs.

    Raises
    ------
    OptionError
        If there are fewer, or the fields do not vary (`ConstantFieldError`).
    MemoryBudgetError
        If they do not fit into the budget beside `here_nbytes`.
    """
    matrix, most, rank = joined(prepared), most_eofs(prepared), kept_eofs(prepared, eofs)
    with room(memory, prepared, here_nbytes=here_nbytes) as rest:
        result = lh.svd(
            BlockedArray(matrix), rank=rank, center=True,
            weights=np.concatenate([one.weights for one in prepared]),
            method="gram" if eofs is None else "auto", accuracy=1e-6, most_passes=30, seed=seed,
            memory=rest, out=out, overwrite=overwrite, progress=progress,
        )  # fmt: skip
    rounding = rounding_of(prepared, np.asarray(result.mean))
    require_variance(result.certificate.norm, rounding, [one.name for one in prepared])
    return Reduced(prepared, result, rank == most)


def most_eofs(prepared: Sequence[Prepared]) -> int:
    """Give how many EOFs fields have at most, taken together.

    Parameters
    ----------
    prepared : sequence of Prepared
        The fields.

    Returns
    -------
    int
        The samples that are free once mean and terms are removed, or the cells if they are fewer.
    """
    samples, terms = prepared[0].matrix.shape[0], prepared[0].terms
    cells = sum(int(np.count_nonzero(one.weights)) for one in prepared)
    return min(samples - (1 if terms is None else len(terms.names)), cells)


def kept_eofs(prepared: Sequence[Prepared], eofs: int | None) -> int:
    """Give how many EOFs are kept.

    Parameters
    ----------
    prepared : sequence of Prepared
        The fields, taken together.
    eofs : int or None
        As the user said; None: all.

    Returns
    -------
    int
        How many.

    Raises
    ------
    OptionError
        If there are fewer.
    """
    most = most_eofs(prepared)
    if eofs is not None and not 1 <= eofs <= most:
        names = ", ".join(one.name for one in prepared)
        raise OptionError(f"eofs is from 1 to {most} for {names}; found {eofs}")
    return most if eofs is None else eofs


def small_nbytes(
    prepared: Sequence[Prepared], eofs: int | None, *, tall: float, square: float
) -> int:
    """Give the bytes of matrices that are as small as fields in their EOFs.

    Parameters
    ----------
    prepared : sequence of Prepared
        The fields, taken together.
    eofs : int or None
        How many EOFs are kept; None: all.
    tall : float
        How many matrices of samples by EOFs are held at once.
    square : float
        How many of EOFs by EOFs, with the work space of LAPACK.

    Returns
    -------
    int
        In double precision, in which LAPACK is called by NumPy for single precision too.
    """
    kept = kept_eofs(prepared, eofs)
    dtypes = [one.matrix.dtype for one in prepared]
    itemsize = np.result_type(np.float64, *dtypes).itemsize
    return int(itemsize * kept * (tall * prepared[0].matrix.shape[0] + square * kept))


def patterns_nbytes(one: Prepared, eofs: int | None) -> int:
    """Give the bytes of the EOFs of a field, in double precision.

    Parameters
    ----------
    one : Prepared
        The field.
    eofs : int or None
        How many are kept; None: all.

    Returns
    -------
    int
        Of as many maps.
    """
    kept = kept_eofs([one], eofs)
    return kept * one.matrix.shape[1] * np.result_type(np.float64, one.matrix.dtype).itemsize
