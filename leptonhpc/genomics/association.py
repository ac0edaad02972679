"""Genome-wide association: each variant tested against each trait, in one pass."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from leptonhpc.api.destinations import Destination
from leptonhpc.errors import NotConvergedWarning, OptionError, ShapeError
from leptonhpc.genomics import linear, logistic, mixed
from leptonhpc.genomics.autosomes import warn_of_other_contigs
from leptonhpc.genomics.designs import Design, make_designs
from leptonhpc.genomics.extras import Nbytes, require_xarray
from leptonhpc.genomics.genotypes import Genotypes, sample_variables, variant_variables
from leptonhpc.genomics.kept import KeptBlocks, digest_of
from leptonhpc.genomics.linear import Fits
from leptonhpc.genomics.logistic import Firth
from leptonhpc.genomics.opening import open_genotypes
from leptonhpc.genomics.passes import Columns, Keeping, map_variants
from leptonhpc.genomics.phenotypes import Unmatched, aligned
from leptonhpc.genomics.statistics import Counting, Statistics, genotype_statistics

if TYPE_CHECKING:
    import xarray

Model = Literal["linear", "logistic", "mixed"]
Missing = Literal["drop", "mean"]

Found = tuple[list[Fits], tuple[NDArray[Any], ...]]
"""What is found of a block: fits of each trait, and counts."""

_RESULT_NBYTES = 250
"""For each variant and trait, in blocks and put together."""

VARIABLES: dict[str, str] = {"linear": "linreg", "logistic": "logreg", "mixed": "lmm"}
"""What the variables of each model are called, after ``variant_``."""


def gwas(
    genotypes: Any,
    phenotypes: Any,
    *,
    covariates: Any = None,
    model: Model = "linear",
    missing: Missing = "drop",
    firth: Firth = "fallback",
    unmatched: Unmatched = "raise",
    relationship: Any = None,
    loco: bool = False,
    out: str | os.PathLike[str] | None = None,
    memory: Nbytes = None,
    overwrite: bool = False,
    progress: bool | None = None,
) -> xarray.Dataset:
    """Test every variant for association with every trait.

    Parameters
    ----------
    genotypes : Genotypes, or what `open_genotypes` takes
        The cohort.
    phenotypes : path, Table, array of shape (n,) or (n, t), or mapping of names to arrays
        The traits: a table with FID and IID, a pandas object whose index holds sample ids or
        (family, sample), or numbers in the samples' order. NaN (NA and -9 in a table) is missing;
        a sample without a trait or a covariate is left out for that trait.
    covariates : as phenotypes, optional
        An intercept is added.
    model : {"linear", "logistic", "mixed"}
        Least squares; Newton's method for traits of 0 and 1 (or 1 and 2); least squares with a
        random effect of relationship, whose variance is found by REML without the variants.
    missing : {"drop", "mean"}
        A sample without a call is left out of that variant's fit, or has the variant's mean. The
        mixed model takes the mean always.
    firth : {"fallback", "never", "always"}
        For the logistic model: Firth's penalty where cases and controls separate or Newton's method
        does not converge; nowhere (no statistics there); or at every variant.
    unmatched : {"raise", "drop"}
        Whether all samples must be in both genotypes and tables.
    relationship : xarray.Dataset or array of shape (n, n), optional
        For the mixed model; default: computed, in two more passes.
    loco : bool
        For the mixed model: leave the contig of the tested variant out of the relationship.
    out : str or path, optional
        A Zarr group (.zarr) or netCDF file (.nc) to be made. A call that was stopped goes on when
        it is made again: variants that are done are not tested anew.
    memory : int, float or str, optional
        Budget of each worker, such as "2 GB".
    overwrite : bool
        Replace what is at `out`.
    progress : bool, optional
        Of the relationship matrices and their spectra: show a bar.

    Returns
    -------
    xarray.Dataset
        ``variant_linreg_beta``, ``_se``, ``_t_value``, ``_p_value`` (variants, traits), or
        ``logreg`` (z as ``t_value``) or ``lmm``; ``variant_n_tested`` and
        ``variant_tested_frequency`` (of the alternate allele among each trait's samples);
        ``trait_n_covariates`` (intercept included), frequencies in the cohort and names. Of the
        logistic model also ``variant_logreg_firth``: whether the penalty was needed. Of the mixed
        model also ``null_heritability`` and the variances (contigs tested, traits).

    Raises
    ------
    ShapeError
        If samples do not match, or there are too few.
    DTypeError, NonFiniteError
        If traits or covariates are no numbers, or infinite.
    LinAlgError
        If a trait does not vary or follows from covariates, or covariates depend on one another.
    OptionError
        If keywords do not go together, or two traits have the same name.
    OutputExistsError, JobMismatchError
        If `out` is taken, or ``OUT.blocks`` beside it was left by another call.

    Warns
    -----
    UserWarning
        If variants have no statistics (NaN): they do not vary among the analysed samples, follow
        from covariates, or (with ``firth="never"``) separate cases from controls. If logistic fits
        did not converge. If variants are not on autosomes. If -9 stands far below all other numbers
        of an array.

    Notes
    -----
    One pass over the genotypes, in blocks of variants. Effects are per copy of the alternate
    allele.
    """
    require_xarray()
    destination = Destination(out, overwrite=overwrite, scratch="blocks")
    cohort = open_genotypes(genotypes)
    _check(cohort, model, missing, firth, relationship, loco)
    traits, names = aligned(phenotypes, cohort, what="phenotypes", unmatched=unmatched)
    known, labels = (None, ()) if covariates is None else aligned(
        covariates, cohort, what="covariates", unmatched=unmatched
    )  # fmt: skip
    _require_names(names)
    if model != "mixed" or relationship is not None:  # else the matrix warns
        warn_of_other_contigs(cohort, "association without sex as a covariate")
    designs = make_designs(traits, names, known, labels)
    kept = None
    if destination.scratch is not None:
        asked: dict[str, Any] = {
            "model": model, "missing": missing, "firth": firth, "loco": loco,
            "designs": _digests(designs),
        }  # fmt: skip
        if relationship is not None:
            asked["relationship"] = digest_of(np.asarray(mixed.given(relationship, cohort)))
        calls = cohort.calls.source
        kept = KeptBlocks(destination.scratch, calls, asked, overwrite=overwrite)
    with nullcontext() if kept is None else kept.working():
        if model == "mixed":
            found = _mixed(cohort, designs, relationship, loco, memory, progress, kept)
        else:
            found = _fixed(cohort, designs, model, missing == "mean", firth, memory, kept)
    return destination.keep(found)


def _fixed(
    cohort: Genotypes, designs: list[Design], model: Model, impute: bool, firth: Firth,
    memory: Nbytes, kept: KeptBlocks | None,
) -> xarray.Dataset:  # fmt: skip
    block: Any = (
        linear.LinearBlock(designs, impute=impute)
        if model == "linear"
        else logistic.LogisticBlock(designs, impute=impute, firth=firth)
    )
    cell = (linear if model == "linear" else logistic).CELL_NBYTES
    squares = designs[0].covariates.shape[1] ** 2 * 8 * cohort.shape[0]
    fixed = sum(design.nbytes + squares for design in designs)
    fits, counted = _pass(cohort, block, memory, cell, fixed, _keeping(kept, model))
    return _dataset(cohort, model, designs, fits, counted)


def _digests(designs: list[Design]) -> list[str]:
    return [f"{d.trait} {digest_of(d.rows, d.y, d.covariates)}" for d in designs]


def _check(
    cohort: Genotypes, model: str, missing: str, firth: str, relationship: Any, loco: bool
) -> None:
    if model not in VARIABLES:
        raise OptionError(f"model is one of {', '.join(VARIABLES)}; found {model!r}")
    if missing not in ("drop", "mean"):
        raise OptionError(f"missing is 'drop' or 'mean'; found {missing!r}")
    if firth not in ("fallback", "never", "always"):
        raise OptionError(f"firth is one of fallback, never, always; found {firth!r}")
    if model != "mixed" and (relationship is not None or loco):
        raise OptionError("relationship= and loco=True are for model='mixed'")
    if cohort.shape[0] < 3:
        message = f"association needs three samples or more; {cohort.name} has {cohort.shape[0]}"
        raise ShapeError(message)


def _require_names(traits: Sequence[str]) -> None:
    twice = [name for name, count in Counter(traits).items() if count > 1]
    if twice:
        raise OptionError(f"traits are told apart by their names; {twice[0]!r} is there twice")


def _pass(
    cohort: Genotypes, block: Any, memory: Nbytes, cell_nbytes: int, fixed_nbytes: int,
    keeping: Keeping[Found] | None,
) -> tuple[list[Fits], Statistics]:  # fmt: skip
    """Fit all traits at all variants, and count them, in one pass."""
    fixed_nbytes += _RESULT_NBYTES * cohort.shape[1] * len(block.rows)
    parts = list(
        map_variants(
            cohort.calls, _Tested(block, Counting(cohort)), memory=memory,
            cell_nbytes=cell_nbytes, fixed_nbytes=fixed_nbytes, keeping=keeping,
        )
    )  # fmt: skip
    traits = range(len(parts[0][0]))
    fits = [joined([fit[t] for fit, _ in parts]) for t in traits]
    return fits, Statistics.joined([counts for _, counts in parts], cohort)


class _Tested:
    """Fit and count one block."""

    def __init__(self, block: Any, counting: Counting) -> None:
        self.block = block
        self.counting = counting

    def __call__(self, block: NDArray[Any], start: int) -> Found:
        counts = self.counting(block, start)  # first: it refuses impossible calls
        return self.block(block, start), counts


class _KeptFits:
    """Fits and counts of blocks, as arrays with names."""

    def __init__(self, kept: KeptBlocks, part: str) -> None:
        self.kept, self.part = kept, part

    def get(self, columns: Columns) -> Found | None:
        arrays = self.kept.get(self.part, columns)
        if arrays is None:
            return None
        names = [field.name for field in fields(Fits)]
        traits = [
            Fits(*(row[t] for row in (arrays[name] for name in names)))
            for t in range(len(arrays["beta"]))
        ]
        return traits, tuple(arrays[f"count{i}"] for i in range(len(arrays) - len(names)))

    def put(self, columns: Columns, result: Found) -> None:
        fits, counts = result
        arrays = {f.name: np.stack([getattr(fit, f.name) for fit in fits]) for f in fields(Fits)}
        arrays |= {f"count{i}": values for i, values in enumerate(counts)}
        self.kept.put(self.part, columns, arrays)


def _keeping(kept: KeptBlocks | None, part: str) -> _KeptFits | None:
    return None if kept is None else _KeptFits(kept, part)


def joined(parts: list[Fits]) -> Fits:
    """Put the statistics of blocks one after another.

    Parameters
    ----------
    parts : list of Fits
        In the variants' order.

    Returns
    -------
    Fits
        Of all.
    """
    names = [field.name for field in fields(Fits)]
    return Fits(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _mixed(
    cohort: Genotypes, designs: list[Design], relationship: Any, loco: bool,
    memory: Nbytes, progress: bool | None, kept: KeptBlocks | None,
) -> xarray.Dataset:  # fmt: skip
    counted = None if relationship is not None else genotype_statistics(cohort, memory=memory)
    tested: list[tuple[list[Fits], Statistics]] = []
    order, contigs, nulls = [], [], []
    for part in mixed.relationship_parts(
        cohort, relationship, loco=loco, counted=counted, memory=memory, progress=progress,
        place=None if kept is None else kept.place,
    ):  # fmt: skip
        if kept is not None:
            kept.is_empty = False  # products are
        block = mixed.MixedBlock(designs, part.relationship, memory=memory, progress=progress)
        chosen = cohort.select(variants=part.variants) if part.contig else cohort
        keeping = _keeping(kept, f"mixed{len(tested)}")
        tested.append(_pass(chosen, block, memory, mixed.CELL_NBYTES, block.nbytes, keeping))
        order.append(part.variants)
        contigs.append(part.contig or "all")
        nulls.append(block.nulls)
    back = np.argsort(np.concatenate(order))
    fits = [joined([fits[t] for fits, _ in tested]).taken(back) for t in range(len(designs))]
    if counted is None:
        counted = tested[0][1]
    found = _dataset(cohort, "mixed", designs, fits, counted)
    found["null_contig"] = ("nulls", np.array(contigs))
    for name, field in (
        ("null_heritability", "heritability"), ("null_genetic_variance", "genetic"),
        ("null_residual_variance", "residual"), ("null_log_likelihood", "log_likelihood"),
    ):  # fmt: skip
        values = [[getattr(null, field) for null in row] for row in nulls]
        found[name] = (("nulls", "traits"), np.array(values))
    return found


def _dataset(
    cohort: Genotypes, model: Model, designs: list[Design], fits: list[Fits], counted: Statistics
) -> xarray.Dataset:
    import xarray as xr

    stem = f"variant_{VARIABLES[model]}"
    _warn_of_gaps(cohort, designs, fits)
    columns: dict[str, list[Any]] = {
        f"{stem}_beta": [f.beta for f in fits],
        f"{stem}_se": [f.se for f in fits],
        f"{stem}_t_value": [f.statistic for f in fits],
        f"{stem}_p_value": [f.p_value for f in fits],
        "variant_n_tested": [f.tested for f in fits],
        "variant_tested_frequency": [f.frequency for f in fits],
    }
    if model == "logistic":
        columns[f"{stem}_firth"] = [f.penalised for f in fits]
    frequency = np.stack([1 - counted.frequency, counted.frequency], axis=1)
    return xr.Dataset(
        {
            **{name: (("variants", "traits"), np.stack(v, 1)) for name, v in columns.items()},
            "trait": ("traits", np.array([d.trait for d in designs])),
            "trait_n_samples": ("traits", np.array([len(d.rows) for d in designs])),
            "trait_n_covariates": ("traits", np.array([d.covariates.shape[1] for d in designs])),
            "variant_allele_frequency": (("variants", "alleles"), frequency),
            **sample_variables(cohort.samples),
            **variant_variables(cohort.variants),
        },
        attrs={"model": model, "source": cohort.name},
    )


def _warn_of_gaps(cohort: Genotypes, designs: list[Design], fits: list[Fits]) -> None:
    for design, fit in zip(designs, fits, strict=True):
        given_up = np.flatnonzero(~fit.converged)
        if given_up.size:
            message = (
                f"the logistic fits of {given_up.size} of {cohort.shape[1]} variants of "
                f"{cohort.name} did not converge for trait {design.trait!r} (the first: "
                f"{str(cohort.variants.variant_id[given_up[0]])!r}, number {given_up[0]})"
            )
            warnings.warn(message, NotConvergedWarning, stacklevel=4)
        gaps = np.flatnonzero(np.isnan(fit.beta) & fit.converged)
        if gaps.size:
            message = (
                f"{gaps.size} of {cohort.shape[1]} variants of {cohort.name} have no statistics "
                f"for trait {design.trait!r} (the first: "
                f"{str(cohort.variants.variant_id[gaps[0]])!r}, number {gaps[0]}): they do not "
                "vary among the analysed samples, follow from covariates, or separate cases from "
                "controls. filter_variants (at a shell: --maf 0.01) leaves rare ones out"
            )
            warnings.warn(message, UserWarning, stacklevel=4)
