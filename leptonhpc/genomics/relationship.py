"""Who is related to whom: the genomic relationship matrix and KING's robust kinship."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.blocks import BlockedArray
from leptonhpc.errors import LinAlgError, ShapeError
from leptonhpc.genomics.autosomes import warn_of_other_contigs
from leptonhpc.genomics.extras import Nbytes, require_xarray
from leptonhpc.genomics.genotypes import Genotypes
from leptonhpc.genomics.opening import open_genotypes
from leptonhpc.genomics.pairs import PairsOutput, Product
from leptonhpc.genomics.standardised import Indicator, IndicatorSource, standardised
from leptonhpc.genomics.statistics import Statistics, statistics_of
from leptonhpc.store.locations import Location

if TYPE_CHECKING:
    import xarray


def grm(
    genotypes: Any,
    *,
    statistics: Statistics | None = None,
    out: Location | None = None,
    memory: Nbytes = None,
    overwrite: bool = False,
    progress: bool | None = None,
) -> xarray.Dataset:
    """Compute the genomic relationship matrix.

    Parameters
    ----------
    genotypes : Genotypes, or what `open_genotypes` takes
        Calls are standardised as they are read: (g - 2 p) / sqrt(2 p (1 - p)).
    statistics : Statistics, optional
        Of the cohort; default: computed in one more pass.
    out : str or path, optional
        A Zarr array to be made, and then read where it is asked for. A call that was stopped goes
        on, from its last finished block, when it is made again.
    memory : int, float or str, optional
        Budget of each worker, such as "2 GB". Matrices of pairs in the caller's memory are in it:
        without `out` the result is.
    overwrite : bool
        Replace what is at `out`.
    progress : bool, optional
        Show a bar; default: where somebody looks.

    Returns
    -------
    xarray.Dataset
        ``stat_genomic_relationship`` (samples_0, samples_1) and the samples' names.

    Raises
    ------
    LinAlgError
        If a variant does not vary, or two samples have no called variant in common.
    ShapeError
        If `statistics` are of other samples or variants.
    OutputExistsError, JobMismatchError
        If `out` is taken, or ``OUT.partial``, ``OUT.sums`` or ``OUT.counts`` beside it are
        something else.

    Warns
    -----
    UserWarning
        If variants are not on autosomes.

    Notes
    -----
    Each entry is the mean product over the variants that both samples have called [1]_, as
    ``plink2 --make-rel`` has it on autosomes (it leaves other contigs out, which are in it here):
    one product (half of it, syrk), and one more of the indicators of calls if any is missing.

    References
    ----------
    .. [1] J. Yang et al. (2011), GCTA: a tool for genome-wide complex trait analysis, Am. J. Hum.
       Genet. 88, 76-82.
    """
    require_xarray()
    cohort = open_genotypes(genotypes)
    _require_two(cohort)
    output = PairsOutput(out, ("sums", "counts"), overwrite=overwrite)
    warn_of_other_contigs(cohort, "the relationship matrix")
    counted = statistics_of(cohort, statistics, memory=memory)
    products = _pair_products(cohort, counted, output, memory=memory, progress=progress)

    def band(rows: slice) -> NDArray[np.float64]:
        sums, *counts = (np.asarray(product[rows], np.float64) for product in products)
        if not counts:
            return np.asarray(sums / cohort.shape[1])
        return np.asarray(sums / require_pairs(cohort, counts[0], first=rows.start))

    return output.keep(cohort, "stat_genomic_relationship", products, band)


def pair_sums(
    cohort: Genotypes, counted: Statistics, *, memory: Nbytes, progress: bool | None,
    output: PairsOutput | None = None,
) -> tuple[NDArray[np.float64], Any]:  # fmt: skip
    """Sum products of standardised calls over variants, for each pair of samples.

    Parameters
    ----------
    cohort : Genotypes
        The calls.
    counted : Statistics
        Of its variants.
    memory : int, float, str or None
        Budget of each worker.
    progress : bool, optional
        Show a bar.
    output : PairsOutput, optional
        Keeps the products: a call that was stopped goes on from there.

    Returns
    -------
    tuple of (array of shape (samples, samples), array of that shape or int)
        The sums, and how many variants both samples have called.
    """
    output = output or PairsOutput(None, (), overwrite=False)
    products = _pair_products(cohort, counted, output, memory=memory, progress=progress)
    sums, *counts = (np.array(np.asarray(product), np.float64) for product in products)
    return sums, counts[0] if counts else cohort.shape[1]


def _pair_products(
    cohort: Genotypes, counted: Statistics, output: PairsOutput, **options: Any
) -> list[Product]:
    """Give the sums and, where calls are missing, over how many variants they are."""
    x = standardised(cohort, counted.frequency)
    products = [output.product("sums", x.T, x, **options)]
    if not counted.complete:
        present = _indicator(cohort, "present")
        products.append(output.product("counts", present, present.T, **options))
    return products


def kinship(
    genotypes: Any,
    *,
    out: Location | None = None,
    memory: Nbytes = None,
    overwrite: bool = False,
    progress: bool | None = None,
) -> xarray.Dataset:
    """Estimate kinship by KING's robust estimator, which population structure does not bias.

    Parameters
    ----------
    genotypes : Genotypes, or what `open_genotypes` takes
        Whole calls, no dosages. Variants that do not vary do no harm.
    out : str or path, optional
        A Zarr array to be made, and then read where it is asked for. A call that was stopped goes
        on, from its last finished block, when it is made again.
    memory : int, float or str, optional
        Budget of each worker.
    overwrite : bool
        Replace what is at `out`.
    progress : bool, optional
        Show a bar; default: where somebody looks.

    Returns
    -------
    xarray.Dataset
        ``stat_king_kinship`` (samples_0, samples_1): 0.5 for twins, 0.25 for first-degree
        relatives, 0 or less for strangers; NaN for pairs without a heterozygous call in common
        reach. And the samples' names.

    Raises
    ------
    ShapeError
        If there is one sample, or calls are dosages.
    OutputExistsError, JobMismatchError
        If `out` is taken, or ``OUT.both_het``, ``OUT.opposite`` or ``OUT.het_called`` beside it are
        something else.

    Warns
    -----
    UserWarning
        If variants are not on autosomes.

    Notes
    -----
    ``1/2 - sum (x_i - x_j)^2 / (4 min(het_i, het_j))`` over variants that both have called [1]_:
    three products of indicator matrices.

    References
    ----------
    .. [1] A. Manichaikul et al. (2010), Robust relationship inference in genome-wide association
       studies, Bioinformatics 26, 2867-2873, equation 11.
    """
    require_xarray()
    cohort = open_genotypes(genotypes)
    _require_two(cohort)
    if cohort.calls.dtype.kind == "f":
        raise ShapeError(f"kinship needs whole calls; {cohort.name} holds dosages")
    output = PairsOutput(out, ("both_het", "opposite", "het_called"), overwrite=overwrite)
    warn_of_other_contigs(cohort, "kinship")
    het, ref, alt, present = (
        _indicator(cohort, kind) for kind in ("het", "hom_ref", "hom_alt", "present")
    )

    def product(name: str, a: BlockedArray, b: BlockedArray) -> Product:
        return output.product(name, a, b.T, memory=memory, progress=progress)

    both_het = product("both_het", het, het)
    opposite = product("opposite", ref, alt)
    het_called = product("het_called", het, present)

    def band(rows: slice) -> NDArray[np.float64]:
        opposites = np.asarray(opposite[rows]) + np.asarray(opposite[:, rows]).T
        called, theirs = np.asarray(het_called[rows]), np.asarray(het_called[:, rows]).T
        # (x_i - x_j)^2 is 4 for opposite homozygotes, 1 where one of two is heterozygous
        squares = 4 * opposites + called + theirs - 2 * np.asarray(both_het[rows])
        fewer = np.minimum(called, theirs)
        phi = np.full(fewer.shape, np.nan)
        np.divide(squares, 4 * fewer, out=phi, where=fewer > 0)
        return np.asarray(0.5 - phi)

    return output.keep(cohort, "stat_king_kinship", (both_het, opposite, het_called), band)


def _indicator(cohort: Genotypes, kind: Indicator) -> BlockedArray:
    return BlockedArray(IndicatorSource(cohort.calls.source, kind))


def _require_two(cohort: Genotypes) -> None:
    if cohort.shape[0] < 2:
        message = f"relationship needs two samples or more; {cohort.name} has {cohort.shape[0]}"
        raise ShapeError(message)


def require_pairs(cohort: Genotypes, counts: Any, *, first: int = 0) -> Any:
    """Refuse pairs of samples that nothing is known of.

    Parameters
    ----------
    cohort : Genotypes
        Whose samples they are.
    counts : array of shape (some samples, samples) or int
        Variants that both samples have called.
    first : int
        Number of the sample of the first row.

    Returns
    -------
    array or int
        The counts.

    Raises
    ------
    LinAlgError
        If there are none of a pair; the message names it.
    """
    if not np.all(counts):
        i, j = np.argwhere(np.asarray(counts) == 0)[0] + (first, 0)
        ids = cohort.samples.sample_id
        message = (
            f"samples {str(ids[i])!r} and {str(ids[j])!r} of {cohort.name} have no called variant "
            "in common; leave out samples with few calls (genotype_statistics, select)"
        )
        raise LinAlgError(message)
    return counts
