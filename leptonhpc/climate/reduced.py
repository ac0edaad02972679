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
    out: str | None = None, overwrite: bool = False, progress: bool | None = None,
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
        If there are fewer.
    """
    matrix, most = joined(prepared), most_eofs(prepared)
    if eofs is not None and not 1 <= eofs <= most:
        names = ", ".join(one.name for one in prepared)
        raise OptionError(f"eofs is from 1 to {most} for {names}; found {eofs}")
    with room(memory, prepared) as rest:
        result = lh.svd(
            BlockedArray(matrix), rank=most if eofs is None else eofs, center=True,
            weights=np.concatenate([one.weights for one in prepared]),
            method="gram" if eofs is None else "auto", accuracy=1e-6, most_passes=30, seed=seed,
            memory=rest, out=out, overwrite=overwrite, progress=progress,
        )  # fmt: skip
    return Reduced(prepared, result, eofs in (None, most))


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
