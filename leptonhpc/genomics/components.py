"""Principal components of a cohort, exact or truncated, and projection of new samples."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from leptonhpc.api import SvdResult, matmul, plan, svd
from leptonhpc.api.destinations import Destination
from leptonhpc.blocks import BlockedArray
from leptonhpc.errors import MemoryBudgetError, OptionError, ShapeError
from leptonhpc.genomics.autosomes import warn_of_other_contigs
from leptonhpc.genomics.extras import Nbytes, beside_tables, require_xarray
from leptonhpc.genomics.genotypes import (
    Genotypes,
    Samples,
    as_strings,
    sample_variables,
    variant_variables,
)
from leptonhpc.genomics.kept import refused_leaves_nothing
from leptonhpc.genomics.opening import open_genotypes
from leptonhpc.genomics.standardised import standardised, standardised_by
from leptonhpc.genomics.statistics import Statistics, statistics_of

if TYPE_CHECKING:
    import xarray

Method = Literal["auto", "exact", "truncated"]
Precision = Literal["double", "single"]
_PASSES = 24
"""That an iteration took for ten components of 5,000 people: all but the first are in the bulk."""
_EXACT: dict[Precision, Literal["gram", "mixed"]] = {"double": "gram", "single": "mixed"}


def pca(
    genotypes: Any,
    *,
    components: int = 10,
    method: Method = "auto",
    precision: Precision = "single",
    accuracy: float = 1e-3,
    most_passes: int = 30,
    statistics: Statistics | None = None,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    memory: Nbytes = None,
    overwrite: bool = False,
    progress: bool | None = None,
) -> xarray.Dataset:
    """Find the principal components of a cohort.

    Parameters
    ----------
    genotypes : Genotypes, or what `open_genotypes` takes
        Calls are standardised as they are read: (g - 2 p) / sqrt(2 p (1 - p)), missing ones are at
        their mean.
    components : int
        How many.
    method : {"auto", "exact", "truncated"}
        By the relationship matrix of the samples (or its counterpart of the variants, if they are
        fewer): two passes. By block Krylov iteration, until each component's residual is below
        `accuracy`. "auto" takes the one that is predicted to be faster.
    precision : {"single", "double"}
        Of products; sums over variants are in double precision always. In single precision
        residuals are near 1e-6 of the first singular value, which the certificate says.
    accuracy, most_passes : float, int
        When the iteration stops.
    statistics : Statistics, optional
        Of the cohort; default: computed in one more pass.
    seed : int
        Of the iteration's start.
    out : str or path, optional
        A Zarr group (.zarr) or netCDF file (.nc) to be made. A decomposition that was stopped goes
        on when the same call is made again.
    memory : int, float or str, optional
        Budget of each worker, such as "2 GB".
    overwrite : bool
        Replace what is at `out`.
    progress : bool, optional
        Show a bar; default: where somebody looks.

    Returns
    -------
    xarray.Dataset
        ``sample_pca_projection`` (samples, components), ``sample_pca_component`` and
        ``sample_pca_loading`` (variants, components), ``sample_pca_explained_variance`` and
        ``_ratio``, ``sample_pca_eigenvalue`` (of the relationship matrix with
        missing calls at their mean; PLINK's, where no call is missing), the
        frequencies, and the names of samples and variants. The certificate is in the attributes.

    Raises
    ------
    OptionError
        If there are not so many components, or a keyword is unknown.
    LinAlgError
        If a variant does not vary.
    ShapeError
        If `statistics` are of other samples or variants.
    OutputExistsError
        If `out` is taken, or ``OUT.svd`` beside it was left by another call.

    Warns
    -----
    NotConvergedWarning
        If a component did not reach its accuracy.
    UserWarning
        If variants are not on autosomes.
    """
    require_xarray()
    destination = Destination(out, overwrite=overwrite)
    cohort = open_genotypes(genotypes)
    _check(cohort, components, method, precision)
    warn_of_other_contigs(cohort, "principal component analysis")
    counted = statistics_of(cohort, statistics, memory=memory)
    dtype = np.float64 if precision == "double" else np.float32
    x = standardised(cohort, counted.frequency, dtype=dtype)
    with beside_tables(memory) as rest:
        options: Any = {
            "rank": components, "accuracy": accuracy, "most_passes": most_passes, "seed": seed,
            "memory": rest,
        }  # fmt: skip
        chosen = _svd_method(x, method, precision, options)
        with destination.explaining():
            found = svd(
                x, method=chosen, out=destination.scratch, overwrite=overwrite, progress=progress,
                **options,
            )  # fmt: skip
    return destination.keep(_dataset(cohort, counted, found))


def project(
    model: xarray.Dataset,
    genotypes: Any,
    *,
    out: str | os.PathLike[str] | None = None,
    memory: Nbytes = None,
    overwrite: bool = False,
    progress: bool | None = None,
) -> xarray.Dataset:
    """Place new samples among the principal components of others.

    Parameters
    ----------
    model : xarray.Dataset
        What `pca` gave.
    genotypes : Genotypes, or what `open_genotypes` takes
        New samples at the same variants, in the same order. They are standardised with the
        model's frequencies.
    out : str or path, optional
        A Zarr group (.zarr) or netCDF file (.nc) to be made. A product that was stopped goes on
        when the same call is made again.
    memory : int, float or str, optional
        Budget of each worker.
    overwrite : bool
        Replace what is at `out`.
    progress : bool, optional
        Show a bar; default: where somebody looks.

    Returns
    -------
    xarray.Dataset
        ``sample_pca_projection`` (samples, components).

    Raises
    ------
    ShapeError
        If the variants are others; the message names the first that differs.
    OutputExistsError
        If `out` is taken, or ``OUT.product`` beside it was left by another call.

    Notes
    -----
    Projections of samples that were not in the model shrink towards zero where there are many more
    variants than samples.
    """
    require_xarray()
    import xarray as xr

    destination = Destination(out, overwrite=overwrite, scratch="product")
    cohort = open_genotypes(genotypes)
    _require_same_variants(model, cohort)
    frequency = np.asarray(model["variant_allele_frequency"])[:, 1]
    x = standardised_by(cohort, frequency)
    axes = np.asarray(model["sample_pca_component"], np.float64)
    with (
        refused_leaves_nothing([destination.scratch]),
        beside_tables(memory) as rest,
        destination.explaining(),
    ):
        placed = matmul(
            x.T, axes, out=destination.scratch, overwrite=overwrite, memory=rest,
            progress=progress,
        )  # fmt: skip
    found = xr.Dataset(
        {
            "sample_pca_projection": (("samples", "components"), np.asarray(placed)),
            **sample_variables(cohort.samples),
        },
        attrs={"source": cohort.name, "method": "project"},
    )
    return destination.keep(found)


def _svd_method(
    x: BlockedArray, method: Method, precision: Precision, options: dict[str, Any]
) -> Literal["gram", "mixed", "krylov"]:
    """Give the driver's method: of two that fit the one that is predicted to be faster."""
    exact = _EXACT[precision]
    if method != "auto":
        return exact if method == "exact" else "krylov"
    try:
        iteration = plan("svd", x, method="krylov", **options).explanation
        more = min(_PASSES, options["most_passes"]) - iteration.passes
        again = sum(s.seconds for s in iteration.planned if s.most_repeats > 1)
        iterated = iteration.seconds + max(0, more) * again
        at_once = plan("svd", x, method=exact, **options).explanation.seconds
    except OptionError:  # so many components that an iteration would not end sooner
        return exact
    except MemoryBudgetError:  # there is no room for the matrix of all pairs
        return "krylov"
    return exact if at_once <= iterated else "krylov"


def _check(cohort: Genotypes, components: int, method: str, precision: str) -> None:
    if method not in ("auto", "exact", "truncated"):
        raise OptionError(f"method is one of auto, exact, truncated; found {method!r}")
    if precision not in _EXACT:
        raise OptionError(f"precision is 'double' or 'single'; found {precision!r}")
    if cohort.shape[0] < 2:
        message = f"principal components need two samples or more; {cohort.name} has 1"
        raise ShapeError(message)
    # standardised columns have mean zero: one dimension less than there are samples
    most = min(cohort.shape[0] - 1, cohort.shape[1])
    if not 1 <= components <= most:
        message = (
            f"{cohort.name} with {cohort.shape[0]} samples and {cohort.shape[1]} variants has from "
            f"1 to {most} components; found components={components}"
        )
        raise OptionError(message)


def _dataset(cohort: Genotypes, counted: Statistics, found: SvdResult) -> xarray.Dataset:
    import xarray as xr

    samples, variants = cohort.shape
    s = np.asarray(found.s, np.float64)
    axes, u = np.asarray(found.u), np.asarray(found.vh).T
    deviation = s / np.sqrt(samples - 1)
    frequency = np.stack([1 - counted.frequency, counted.frequency], axis=1)
    certificate: Any = found.certificate
    return xr.Dataset(
        {
            "sample_pca_projection": (("samples", "components"), u * s),
            "sample_pca_component": (("variants", "components"), axes),
            "sample_pca_loading": (("variants", "components"), axes * deviation),
            "sample_pca_explained_variance": ("components", deviation**2),
            "sample_pca_explained_variance_ratio": (
                "components",
                np.asarray(certificate.captured_each),
            ),
            "sample_pca_eigenvalue": ("components", s**2 / variants),
            "variant_allele_frequency": (("variants", "alleles"), frequency),
            **sample_variables(cohort.samples),
            **variant_variables(cohort.variants),
        },
        attrs={
            "source": cohort.name,
            "certificate": json.dumps(certificate.to_dict(), default=_plain),
            "converged": int(certificate.converged),
            "passes": 1 + int(certificate.passes),
        },
    )


def _plain(value: Any) -> Any:
    return value.tolist()


def _require_same_variants(model: xarray.Dataset, cohort: Genotypes) -> None:
    contigs = as_strings(model["contig_id"])[np.asarray(model["variant_contig"])]
    expected = _names(as_strings(model["variant_id"]), contigs, model["variant_position"])
    alleles = as_strings(model["variant_allele"])
    variants = cohort.variants
    ours = _names(variants.variant_id, variants.contig, variants.position)
    if len(expected) != len(variants):
        message = f"the model has {len(expected)} variants; {cohort.name} has {len(variants)}"
        raise ShapeError(f"{message}. Select the model's variants, in its order")
    found = (ours, variants.reference, variants.alternate)
    for names, wanted in zip(found, (expected, *alleles.T), strict=True):
        different = np.flatnonzero(names != wanted)
        if different.size:
            at = different[0]
            message = (
                f"variant number {at} of {cohort.name} is {ours[at]} "
                f"{variants.reference[at]}/{variants.alternate[at]}; the model has {expected[at]} "
                f"{alleles[at, 0]}/{alleles[at, 1]} there. Select the model's variants, in its "
                "order and with its alleles"
            )
            raise ShapeError(message)


def _names(ids: Any, contigs: Any, positions: Any) -> NDArray[np.str_]:
    """Give ids, and the place of a variant that has none: "." in VCF."""
    places = [f"{c}:{p}" for c, p in zip(contigs, np.asarray(positions), strict=True)]
    return np.where(ids == ".", np.array(places, np.str_), ids)


def eigenvectors(model: xarray.Dataset) -> NDArray[np.float64]:
    """Give the components of the samples with length one, as PLINK prints them.

    Parameters
    ----------
    model : xarray.Dataset
        What `pca` gave.

    Returns
    -------
    array of shape (samples, components)
        Eigenvectors of the relationship matrix.
    """
    scores = np.asarray(model["sample_pca_projection"], np.float64)
    vectors: NDArray[np.float64] = scores / np.linalg.norm(scores, axis=0)
    return vectors


def samples_of(dataset: xarray.Dataset) -> Samples:
    """Give the people that a dataset is of.

    Parameters
    ----------
    dataset : xarray.Dataset
        What `pca`, `grm` or `project` gave.

    Returns
    -------
    Samples
        Their names.
    """
    return Samples(as_strings(dataset["sample_family_id"]), as_strings(dataset["sample_id"]))
