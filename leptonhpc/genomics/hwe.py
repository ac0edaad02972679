"""Hardy-Weinberg equilibrium: the exact test of each variant."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.api.destinations import Destination
from leptonhpc.errors import ShapeError
from leptonhpc.genomics.autosomes import warn_of_other_contigs
from leptonhpc.genomics.extras import Nbytes, require_xarray
from leptonhpc.genomics.genotypes import variant_variables
from leptonhpc.genomics.kept import blocks_kept
from leptonhpc.genomics.opening import open_genotypes
from leptonhpc.genomics.statistics import Statistics, statistics_of

if TYPE_CHECKING:
    import xarray

_TIE = 1 + 1e-8
"""Outcomes so little more likely than the one seen count as being as likely."""


def hwe(
    genotypes: Any,
    *,
    statistics: Statistics | None = None,
    out: str | os.PathLike[str] | None = None,
    memory: Nbytes = None,
    overwrite: bool = False,
) -> xarray.Dataset:
    """Test every variant for Hardy-Weinberg equilibrium.

    Parameters
    ----------
    genotypes : Genotypes, or what `open_genotypes` takes
        Whole calls, no dosages.
    statistics : Statistics, optional
        Of the cohort; default: computed in one pass.
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
        ``variant_hwe_p_value`` (variants), 1 where a variant does not vary, NaN where it was never
        called; the counts, and the variants' names.

    Raises
    ------
    ShapeError
        If the genotypes are dosages, or `statistics` are of other samples or variants.
    OutputExistsError, JobMismatchError
        If `out` is taken, or ``OUT.blocks`` beside it was left by another call.

    Warns
    -----
    UserWarning
        If variants are not on autosomes.

    Notes
    -----
    The probability, given the allele counts, of all numbers of heterozygotes that are not more
    likely than the one seen [1]_.

    References
    ----------
    .. [1] J. E. Wigginton, D. J. Cutler and G. R. Abecasis (2005), A note on exact tests of
       Hardy-Weinberg equilibrium, Am. J. Hum. Genet. 76, 887-893.
    """
    require_xarray()
    import xarray as xr

    destination = Destination(out, overwrite=overwrite, scratch="blocks")
    cohort = open_genotypes(genotypes)
    if cohort.calls.dtype.kind == "f":
        raise ShapeError(f"the exact test needs whole calls; {cohort.name} holds dosages")
    warn_of_other_contigs(cohort, "the exact test")
    with blocks_kept(
        destination.scratch, cohort.calls.source, {"question": "hwe"}, part="counts",
        overwrite=overwrite,
    ) as keeping:  # fmt: skip
        counted = statistics_of(cohort, statistics, memory=memory, keeping=keeping)
    p = exact_p_values(counted.het, counted.hom_ref, counted.hom_alt)
    found = xr.Dataset(
        {
            "variant_hwe_p_value": ("variants", p),
            "variant_n_hom_ref": ("variants", counted.hom_ref),
            "variant_n_het": ("variants", counted.het),
            "variant_n_hom_alt": ("variants", counted.hom_alt),
            **variant_variables(cohort.variants),
        },
        attrs={"source": cohort.name, "method": "hwe"},
    )
    return destination.keep(found)


def exact_p_values(
    het: NDArray[np.int64], first: NDArray[np.int64], second: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Give the exact test's p value for counts of genotypes.

    Parameters
    ----------
    het, first, second : array of shape (m,)
        Heterozygotes, and homozygotes of either allele.

    Returns
    -------
    array of shape (m,)
        NaN where there are none.

    Examples
    --------
    >>> exact_p_values(np.array([2]), np.array([1]), np.array([1])).round(12)
    array([1.])
    """
    counts = np.stack([het, np.minimum(first, second), np.maximum(first, second)], axis=1)
    distinct, back = np.unique(counts, axis=0, return_inverse=True)
    p: NDArray[np.float64] = np.array([_p_value(*map(int, row)) for row in distinct])[back]
    return p


def _p_value(het: int, rare: int, common: int) -> float:
    people = het + rare + common
    if people == 0:
        return np.nan
    copies = 2 * rare + het
    outcomes = np.arange(copies % 2, copies + 1, 2)
    if len(outcomes) == 1:
        return 1.0
    homozygous = (copies - outcomes) / 2
    others = people - outcomes - homozygous
    # P(h + 2) / P(h) = 4 * rare * common / ((h + 1) (h + 2))
    up = 4 * homozygous[:-1] * others[:-1] / ((outcomes[:-1] + 1.0) * (outcomes[:-1] + 2.0))
    mode = int(np.count_nonzero(up >= 1))
    # from the mode outwards, so that nothing overflows and small ones keep their digits
    above = np.cumprod(up[mode:])
    below = np.cumprod(1 / up[:mode][::-1])[::-1]
    likely = np.concatenate([below, [1.0], above])
    seen = likely[(het - copies % 2) // 2]
    return float(min(1.0, likely[likely <= seen * _TIE].sum() / likely.sum()))
