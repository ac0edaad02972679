"""Variants that have both alleles and are called often enough."""

from __future__ import annotations

from leptonhpc.errors import OptionError
from leptonhpc.genomics.extras import Nbytes
from leptonhpc.genomics.genotypes import Genotypes
from leptonhpc.genomics.statistics import Statistics, statistics_of


def filter_variants(
    genotypes: Genotypes,
    *,
    min_maf: float = 0.0,
    min_call_rate: float = 0.0,
    statistics: Statistics | None = None,
    memory: Nbytes = None,
) -> Genotypes:
    """Keep the variants that have both alleles and are called often enough.

    Parameters
    ----------
    genotypes : Genotypes
        The cohort.
    min_maf : float
        Least frequency of the rarer allele; variants of one allele only always go.
    min_call_rate : float
        Least share of samples with a call.
    statistics : Statistics, optional
        Of the cohort; default: computed in one pass.
    memory : int, float or str, optional
        Budget of that pass.

    Returns
    -------
    Genotypes
        Lazy; the others are skipped inside each later pass.

    Raises
    ------
    OptionError
        If a threshold is out of range, or no variant is left.
    ShapeError
        If `statistics` are of other samples or variants.
    """
    if not 0 <= min_maf <= 0.5:
        raise OptionError(f"min_maf is from 0 to 0.5; found {min_maf}")
    if not 0 <= min_call_rate <= 1:
        raise OptionError(f"min_call_rate is from 0 to 1; found {min_call_rate}")
    found = statistics_of(genotypes, statistics, memory=memory)
    keep = (found.maf > 0) & (found.maf >= min_maf) & (found.call_rate >= min_call_rate)
    if keep.all():
        return genotypes
    return genotypes.select(variants=keep)
