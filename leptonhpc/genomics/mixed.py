"""The linear mixed model: relatives share a random effect with the covariance of their genomes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.api import eigh
from leptonhpc.errors import NonFiniteError, OptionError, ShapeError
from leptonhpc.genomics.autosomes import warn_of_other_contigs
from leptonhpc.genomics.designs import Design
from leptonhpc.genomics.extras import Nbytes, beside_tables
from leptonhpc.genomics.genotypes import Genotypes, Samples, as_strings
from leptonhpc.genomics.linear import Fits, centred, fit_whole, known_of
from leptonhpc.genomics.pairs import PairsOutput
from leptonhpc.genomics.relationship import pair_sums, require_pairs
from leptonhpc.genomics.reml import NullModel, Rotated, fit_null
from leptonhpc.genomics.statistics import Statistics

Floats = NDArray[np.float64]

CELL_NBYTES = 50
"""Bytes for each call: int8, masks, and six float64 matrices at most."""


@dataclass(frozen=True)
class Part:
    """Variants that are tested with one relationship matrix."""

    contig: str
    """ "" for all."""
    variants: NDArray[np.int64]
    relationship: Floats


class MixedBlock:
    """Regress traits on the variants of a block by generalised least squares.

    Parameters
    ----------
    designs : list of Design
        The traits.
    relationship : array of shape (samples, samples)
        K.
    memory : int, float or str, optional
        Budget of the eigendecompositions.
    progress : bool, optional
        Show a bar for each.

    Notes
    -----
    With V = W^-1 W^-T of the null model, W y on W C and W g is an ordinary regression; its error's
    scale is estimated anew for each variant. Missing calls are the variant's mean.
    """

    def __init__(
        self,
        designs: list[Design],
        relationship: Floats,
        *,
        memory: Nbytes,
        progress: bool | None = None,
    ) -> None:
        self.rows = [design.rows for design in designs]
        self.nulls: list[NullModel] = []
        self.whitening: list[Floats] = []
        self.known = []
        found: dict[bytes, tuple[Floats, Floats]] = {}
        for design in designs:
            key = design.rows.tobytes()
            if key not in found:
                pairs = relationship[np.ix_(design.rows, design.rows)]
                with beside_tables(memory) as rest:  # its temporary store goes with it
                    spectrum = eigh(pairs, memory=rest, progress=progress)
                vectors = np.asarray(spectrum.eigenvectors, np.float64)
                found[key] = np.asarray(spectrum.eigenvalues, np.float64), vectors
            values, vectors = found[key]
            rotated = Rotated(values, vectors.T @ design.y, vectors.T @ design.covariates)
            null = fit_null(rotated)
            root = np.sqrt(rotated.diagonal(null.heritability))
            self.nulls.append(null)
            self.whitening.append(vectors.T / root[:, None])
            whitened = rotated.covariates / root[:, None], rotated.y / root
            self.known.append(known_of(*whitened))

    @property
    def nbytes(self) -> int:
        """Bytes of the matrices that every block needs."""
        return sum(w.nbytes for w in self.whitening)

    def __call__(self, block: NDArray[Any], start: int) -> list[Fits]:
        """Give the statistics of each trait."""
        fits = []
        for rows, whitening, known in zip(self.rows, self.whitening, self.known, strict=True):
            g, _, mean = centred(block[rows])
            fit = fit_whole(whitening @ g, known, len(rows) - known.q.shape[1] - 1, mean=mean)
            varies = g.any(axis=0)  # of a constant, rotation would leave rounding
            found: dict[str, Any] = {
                name: np.where(varies, getattr(fit, name), np.nan)
                for name in ("beta", "se", "statistic", "p_value")
            }
            fits.append(replace(fit, **found))
        return fits


def relationship_parts(
    cohort: Genotypes,
    relationship: Any,
    *,
    loco: bool,
    counted: Statistics | None,
    memory: Nbytes,
    progress: bool | None,
    place: str | None = None,
) -> Iterator[Part]:
    """Give the relationship matrices, each with the variants that are tested with it.

    Parameters
    ----------
    cohort : Genotypes
        The genotypes.
    relationship : xarray.Dataset, array, or None
        Given by the caller, or computed here.
    loco : bool
        One matrix for each contig, of all others: a variant is not tested against itself.
    counted : Statistics, optional
        Of the cohort; needed where matrices are computed here.
    memory : int, float or str, optional
        Budget of each worker.
    progress : bool, optional
        Show a bar.
    place : str, optional
        A group in which products are kept: a call that was stopped goes on from there.

    Yields
    ------
    Part
        In the order of the contigs.

    Raises
    ------
    OptionError
        If both a matrix and `loco` are given, there is one contig only, or a dataset holds no
        relationship matrix.
    ShapeError
        If the matrix is of other samples.
    """
    everything = np.arange(cohort.shape[1])
    if relationship is not None:
        if loco:
            raise OptionError("loco=True computes its own matrices; leave relationship= out")
        yield Part("", everything, given(relationship, cohort))
        return
    assert counted is not None
    contigs, first = np.unique(cohort.variants.contig, return_index=True)
    if loco and len(contigs) < 2:
        message = f"loco=True needs two contigs or more; all of {cohort.name} is on {contigs[0]}"
        raise OptionError(message)
    warn_of_other_contigs(cohort, "the relationship matrix")
    options: dict[str, Any] = {"memory": memory, "progress": progress}
    sums, counts = pair_sums(cohort, counted, output=_products(place, "all"), **options)
    if not loco:
        yield Part("", everything, sums / require_pairs(cohort, counts))
        return
    for contig in contigs[np.argsort(first)]:
        variants = np.flatnonzero(cohort.variants.contig == contig)
        own, own_counts = pair_sums(
            cohort.select(variants=variants), counted.of_variants(variants),
            output=_products(place, f"from{variants[0]}"), **options,
        )  # fmt: skip
        left = require_pairs(cohort, counts - own_counts)
        yield Part(str(contig), variants, (sums - own) / left)


def _products(place: str | None, part: str) -> PairsOutput | None:
    """Keep products in a group, under a name of their own."""
    if place is None:
        return None
    return PairsOutput(f"{place}/{part}", ("sums", "counts"), overwrite=False)


def given(relationship: Any, cohort: Genotypes) -> Floats:
    """Give the matrix that a caller gave, if it is of these samples.

    Parameters
    ----------
    relationship : xarray.Dataset or array
        As `gwas` takes it.
    cohort : Genotypes
        The genotypes.

    Returns
    -------
    array of shape (samples, samples)
        In memory.

    Raises
    ------
    OptionError
        If it is a path, or a dataset that holds no relationship matrix.
    ShapeError
        If the matrix is of other samples.
    NonFiniteError
        If it is not finite; the message names the pair of samples.
    """
    if isinstance(relationship, str | os.PathLike):
        message = f"relationship= is a matrix or a dataset; open {os.fspath(relationship)!r} first"
        raise OptionError(message)
    if hasattr(relationship, "data_vars"):
        if "stat_genomic_relationship" not in relationship:
            found = ", ".join(map(str, relationship.data_vars)) or "nothing"
            message = "relationship= needs stat_genomic_relationship, as grm gives it"
            raise OptionError(f"{message}; the dataset has {found}")
        _require_same_samples(relationship, cohort)
        relationship = relationship["stat_genomic_relationship"]
    matrix = np.asarray(relationship, np.float64)
    if matrix.shape != (cohort.shape[0],) * 2:
        message = (
            f"the relationship matrix needs {cohort.shape[0]} rows and columns, as {cohort.name} "
            f"has samples; found shape {matrix.shape}"
        )
        raise ShapeError(message)
    if not np.isfinite(matrix).all():
        i, j = np.argwhere(~np.isfinite(matrix))[0]
        message = (
            f"the relationship matrix must be finite; it is {matrix[i, j]} for "
            f"{cohort.samples.label(i)!r} and {cohort.samples.label(j)!r}"
        )
        raise NonFiniteError(message)
    return matrix


def _require_same_samples(relationship: Any, cohort: Genotypes) -> None:
    if "sample_id" not in relationship:
        message = "relationship= as a dataset needs sample_id; an array is in the samples' order"
        raise OptionError(message)
    ids, ours = as_strings(relationship["sample_id"]), cohort.samples
    families = ours.family_id
    if "sample_family_id" in relationship:
        families = as_strings(relationship["sample_family_id"])
    if len(ids) != len(ours):
        return  # the matrix's shape is refused
    at = Samples(families, ids).first_difference(ours)
    if at is not None:
        message = (
            f"the relationship matrix has sample '{families[at]} {ids[at]}' as number {at}; "
            f"{cohort.name} has {ours.label(at)!r}. Put them in the same order"
        )
        raise ShapeError(message)
