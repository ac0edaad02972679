"""Linkage disequilibrium: correlation of nearby variants, and pruning by it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.api.destinations import Destination
from leptonhpc.errors import MemoryBudgetError, OptionError
from leptonhpc.genomics.extras import Nbytes, require_xarray
from leptonhpc.genomics.genotypes import Genotypes, variant_variables
from leptonhpc.genomics.kept import KeptArrays, blocks_kept, digest_of
from leptonhpc.genomics.opening import open_genotypes
from leptonhpc.genomics.passes import map_variants
from leptonhpc.genomics.standardised import missing_in, require_calls
from leptonhpc.genomics.statistics import Statistics, statistics_of
from leptonhpc.planning.amounts import parse_nbytes

if TYPE_CHECKING:
    import xarray

Floats = NDArray[np.float64]

_CELL_NBYTES = 42
"""Bytes for each call: int8, masks, and five float64 matrices at most."""
_PAIR_NBYTES = 24
_CONSTANT = 1e-10
"""Share of the sum of squares of dosages below which their variance is rounding."""


def ld(
    genotypes: Any,
    *,
    window: int = 50,
    threshold: float = 0.2,
    out: str | os.PathLike[str] | None = None,
    memory: Nbytes = None,
    overwrite: bool = False,
) -> xarray.Dataset:
    """Find the pairs of nearby variants that are correlated.

    Parameters
    ----------
    genotypes : Genotypes, or what `open_genotypes` takes
        The cohort.
    window : int
        Each variant is compared with so many variants that follow it on its contig, less one.
    threshold : float
        Least squared correlation of the pairs that are given.
    out : str or path, optional
        A Zarr group (.zarr) or netCDF file (.nc) to be made. A call that was stopped goes on, from
        its last finished block, when it is made again.
    memory : int, float or str, optional
        Budget of each worker, such as "2 GB".
    overwrite : bool
        Replace what is at `out`.

    Returns
    -------
    xarray.Dataset
        ``ld_i``, ``ld_j`` (pairs): numbers of variants, i < j; ``ld_r2``; the variants' names.

    Raises
    ------
    OptionError
        If window or threshold are out of range.
    MemoryBudgetError
        If there are more pairs than a quarter of `memory` holds: they are held until all are found.
    ShapeError
        If a call is neither missing nor from 0 to 2; the message names sample and variant.
    OutputExistsError, JobMismatchError
        If `out` is taken, or ``OUT.blocks`` beside it was left by another call.

    Notes
    -----
    Over samples that have both variants called. A variant that does not vary has no correlation,
    and is in no pair. One pass; each block reads `window` variants of the next once more.
    """
    require_xarray()
    import xarray as xr

    destination = Destination(out, overwrite=overwrite, scratch="blocks")
    cohort = open_genotypes(genotypes)
    asked = {
        "window": window, "threshold": threshold, "contigs": digest_of(cohort.variants.contig),
    }  # fmt: skip
    with blocks_kept(
        destination.scratch, cohort.calls.source, asked, part="pairs", overwrite=overwrite
    ) as keeping:
        i, j, r2 = _pairs(cohort, window, threshold, memory, keeping=keeping)
    found = xr.Dataset(
        {
            "ld_i": ("pairs", i),
            "ld_j": ("pairs", j),
            "ld_r2": ("pairs", r2),
            **variant_variables(cohort.variants),
        },
        attrs={"source": cohort.name, "method": "ld", "window": window, "threshold": threshold},
    )
    return destination.keep(found)


def ld_prune(
    genotypes: Any,
    *,
    window: int = 50,
    threshold: float = 0.2,
    statistics: Statistics | None = None,
    memory: Nbytes = None,
) -> Genotypes:
    """Keep variants of which no two that are near one another are correlated.

    Parameters
    ----------
    genotypes : Genotypes, or what `open_genotypes` takes
        The cohort.
    window : int
        How many variants in a row are compared with one another.
    threshold : float
        Largest squared correlation that two kept variants of a window may have.
    statistics : Statistics, optional
        Of the cohort; default: computed in one more pass.
    memory : int, float or str, optional
        Budget of each worker.

    Returns
    -------
    Genotypes
        Lazy; the other variants are skipped inside each later pass.

    Raises
    ------
    OptionError
        If window or threshold are out of range.

    Notes
    -----
    Variants are taken in the order of their frequency, most common first; each that is still there
    removes those that correlate with it. So of a pair the rarer one goes, as in PLINK; which ones
    are left of a cluster may differ from PLINK's choice.
    """
    cohort = open_genotypes(genotypes)
    i, j, _ = _pairs(cohort, window, threshold, memory, strictly=True)
    counted = statistics_of(cohort, statistics, memory=memory)
    return cohort.select(variants=_independent(i, j, counted.maf))


def _independent(i: NDArray[np.int64], j: NDArray[np.int64], maf: Floats) -> NDArray[np.bool_]:
    ends, others = np.concatenate([i, j]), np.concatenate([j, i])
    order = np.argsort(ends, kind="stable")
    others = others[order]
    starts = np.searchsorted(ends[order], np.arange(len(maf) + 1))
    keep = np.ones(len(maf), bool)
    for variant in np.argsort(-maf, kind="stable"):
        if keep[variant]:
            keep[others[starts[variant] : starts[variant + 1]]] = False
    return keep


def _pairs(
    cohort: Genotypes, window: int, threshold: float, memory: Nbytes, *, strictly: bool = False,
    keeping: KeptArrays | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:  # fmt: skip
    if window < 2:
        raise OptionError(f"window is two variants or more; found {window}")
    if not 0 <= threshold <= 1:
        raise OptionError(f"threshold is a squared correlation, from 0 to 1; found {threshold}")
    contig = np.unique(cohort.variants.contig, return_inverse=True)[1]
    parts = map_variants(
        cohort.calls, _Correlating(cohort, window, threshold, contig, strictly), memory=memory,
        cell_nbytes=_CELL_NBYTES, fixed_nbytes=contig.nbytes, overlap=window - 1, keeping=keeping,
    )  # fmt: skip
    return _each_once(parts, parse_nbytes(memory))


def _each_once(
    parts: Iterable[tuple[NDArray[Any], ...]], budget: int | None
) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """Put blocks together; a pair that begins where the next block does is left to that one."""
    columns: list[list[NDArray[Any]]] = [[], [], []]
    held = 0
    for i, j, r2, start in parts:
        if columns[0]:
            ours = columns[0][-1] < start
            for column in columns:
                column[-1] = column[-1][ours]
        for column, values in zip(columns, (i, j, r2), strict=True):
            column.append(values)
        held += _PAIR_NBYTES * len(i)
        if budget is not None and held > budget / 4:
            message = (
                f"pairs of correlated variants are held in memory, in a quarter of it at most; "
                f"those found so far, up to variant {int(start)}, take {held / 1e6:.0f} MB of "
                f"memory={budget}. Ask for a larger threshold=, a smaller window=, or give more"
            )
            raise MemoryBudgetError(message)
    i, j, r2 = (np.concatenate(column) for column in columns)
    return i, j, r2


class _Correlating:
    """Correlate the variants of a block with those within a window."""

    def __init__(
        self, cohort: Genotypes, window: int, threshold: float, contig: NDArray[np.int64],
        strictly: bool,
    ) -> None:  # fmt: skip
        self.name = cohort.name
        self.window, self.threshold = window, threshold
        self.contig, self.strictly = contig, strictly

    def __call__(
        self, block: NDArray[Any], start: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats, NDArray[np.int64]]:
        """Give pairs, their squared correlation, and where the block begins."""
        require_calls(block, self.name, first_variant=start)
        parts = []
        width = block.shape[1]
        # in strips of the window's width: the products are as long as they must be, no longer
        for left in range(0, width, self.window):
            middle, right = min(left + self.window, width), min(left + 2 * self.window, width)
            r2 = squared_correlation(block[:, left:middle], block[:, left:right])
            a, b = np.indices(r2.shape)
            over = r2 > self.threshold if self.strictly else r2 >= self.threshold
            near = (b > a) & (b - a < self.window)
            same = self.contig[start + left + a] == self.contig[start + left + b]
            rows, columns = np.nonzero(over & near & same)
            parts.append((rows + start + left, columns + start + left, r2[rows, columns]))
        i, j, r = (np.concatenate([part[k] for part in parts]) for k in range(3))
        return i, j, r, np.array(start)


def squared_correlation(a: NDArray[Any], b: NDArray[Any]) -> Floats:
    """Correlate the columns of two blocks of the same samples.

    Parameters
    ----------
    a, b : array of shape (n, p) and (n, q)
        Calls; each pair of columns is compared where both are called.

    Returns
    -------
    array of shape (p, q)
        r^2; NaN where a column does not vary among the common samples.
    """
    x, p = _filled(a)
    y, q = _filled(b)
    n = p.T @ q
    x_sum, y_sum = x.T @ q, p.T @ y
    x_squares, y_squares = n * ((x * x).T @ q), n * (p.T @ (y * y))
    # of calls these are whole numbers: nothing cancels
    covariance = n * (x.T @ y) - x_sum * y_sum
    x_variance, y_variance = x_squares - x_sum**2, y_squares - y_sum**2
    scale = x_variance * y_variance
    r2 = np.full(n.shape, np.nan)
    varies = (x_variance > _CONSTANT * x_squares) & (y_variance > _CONSTANT * y_squares)
    np.divide(covariance**2, scale, out=r2, where=varies)
    return r2


def _filled(calls: NDArray[Any]) -> tuple[Floats, Floats]:
    missing = missing_in(calls)
    return np.where(missing, 0, calls).astype(np.float64), (~missing).astype(np.float64)
