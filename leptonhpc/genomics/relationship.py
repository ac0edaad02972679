"""Who is related to whom: the genomic relationship matrix and KING's robust kinship."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc import store
from leptonhpc.api import matmul
from leptonhpc.blocks import BlockedArray
from leptonhpc.errors import LinAlgError, ShapeError
from leptonhpc.genomics.autosomes import warn_of_other_contigs
from leptonhpc.genomics.extras import require_xarray
from leptonhpc.genomics.genotypes import Genotypes, sample_variables
from leptonhpc.genomics.opening import open_genotypes
from leptonhpc.genomics.passes import Nbytes
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
        A Zarr array to be made. The matrix of pairs is in the caller's memory too.
    memory : int, float or str, optional
        Budget of each worker, such as "2 GB".
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
    if out is not None:
        store.require_free(out, overwrite=overwrite)
    warn_of_other_contigs(cohort, "the relationship matrix")
    counted = statistics_of(cohort, statistics, memory=memory)
    sums, counts = pair_sums(cohort, counted, memory=memory, progress=progress)
    sums /= require_pairs(cohort, counts)
    return _pairs_dataset(cohort, "stat_genomic_relationship", sums, out, overwrite)


def pair_sums(
    cohort: Genotypes, counted: Statistics, *, memory: Nbytes, progress: bool | None
) -> tuple[NDArray[np.float64], Any]:
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

    Returns
    -------
    tuple of (array of shape (samples, samples), array of that shape or int)
        The sums, and how many variants both samples have called.
    """
    x = standardised(cohort, counted.frequency)
    sums = _gathered(matmul(x, x.T, memory=memory, progress=progress))
    if counted.complete:
        return sums, cohort.shape[1]
    present = _indicator(cohort, "present")
    counts = _gathered(matmul(present, present.T, memory=memory, progress=progress))
    return sums, counts


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
        A Zarr array to be made.
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
    if out is not None:
        store.require_free(out, overwrite=overwrite)
    warn_of_other_contigs(cohort, "kinship")
    het, ref, alt, present = (
        _indicator(cohort, kind) for kind in ("het", "hom_ref", "hom_alt", "present")
    )

    def product(a: BlockedArray, b: BlockedArray) -> NDArray[Any]:
        return _gathered(matmul(a, b.T, memory=memory, progress=progress))

    both_het, opposite, het_called = product(het, het), product(ref, alt), product(het, present)
    opposite = opposite + opposite.T
    # (x_i - x_j)^2 is 4 for opposite homozygotes, 1 where one of two is heterozygous
    squares = 4 * opposite + het_called + het_called.T - 2 * both_het
    fewer = np.minimum(het_called, het_called.T)
    phi = np.full(fewer.shape, np.nan)
    np.divide(squares, 4 * fewer, out=phi, where=fewer > 0)
    np.subtract(0.5, phi, out=phi)
    return _pairs_dataset(cohort, "stat_king_kinship", phi, out, overwrite)


def _indicator(cohort: Genotypes, kind: Indicator) -> BlockedArray:
    return BlockedArray(IndicatorSource(cohort.calls.source, kind))


def _gathered(result: Any) -> NDArray[Any]:
    """Take a product into memory: matrices of pairs are as large as what is done with them."""
    return np.array(np.asarray(result), np.float64)


def _require_two(cohort: Genotypes) -> None:
    if cohort.shape[0] < 2:
        message = f"relationship needs two samples or more; {cohort.name} has {cohort.shape[0]}"
        raise ShapeError(message)


def require_pairs(cohort: Genotypes, counts: Any) -> Any:
    """Refuse pairs of samples that nothing is known of.

    Parameters
    ----------
    cohort : Genotypes
        Whose samples they are.
    counts : array of shape (samples, samples) or int
        Variants that both samples have called.

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
        i, j = np.argwhere(np.asarray(counts) == 0)[0]
        ids = cohort.samples.sample_id
        message = (
            f"samples {str(ids[i])!r} and {str(ids[j])!r} of {cohort.name} have no called variant "
            "in common; leave out samples with few calls (genotype_statistics, select)"
        )
        raise LinAlgError(message)
    return counts


def _pairs_dataset(
    cohort: Genotypes, name: str, values: NDArray[Any], out: Location | None, overwrite: bool
) -> xarray.Dataset:
    import xarray as xr

    if out is not None:
        _write(out, values, overwrite)
    return xr.Dataset(
        {name: (("samples_0", "samples_1"), values), **sample_variables(cohort.samples)},
        attrs={"source": cohort.name, "variants": cohort.shape[1]},
    )


def _write(out: Location, values: NDArray[Any], overwrite: bool) -> None:
    rows = max(1, min(len(values), (1 << 22) // (8 * len(values))))
    partial = store.partial_location(out)
    array = store.create_array(
        partial, shape=values.shape, dtype=values.dtype, chunks=(rows, len(values)),
        dimension_names=("samples_0", "samples_1"), overwrite=True,
    )  # fmt: skip
    for number, begin in enumerate(range(0, len(values), rows)):
        array.write_units((number, 0), values[begin : begin + rows])
    store.publish(partial, out, overwrite=overwrite)
