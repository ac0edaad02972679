"""Results as PLINK writes them: tab-separated text under a common name."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from leptonhpc.errors import OptionError, OutputExistsError
from leptonhpc.genomics.association import VARIABLES
from leptonhpc.genomics.components import eigenvectors, samples_of
from leptonhpc.genomics.tails import log10_two_sided

if TYPE_CHECKING:
    import xarray

Prefix = str | os.PathLike[str]


def write_pca(model: xarray.Dataset, prefix: Prefix, *, overwrite: bool = False) -> list[Path]:
    """Write principal components.

    Parameters
    ----------
    model : xarray.Dataset
        What `pca` gave.
    prefix : str or path
        What the files' names begin with.
    overwrite : bool
        Replace files that are there.

    Returns
    -------
    list of Path
        PREFIX.eigenvec, PREFIX.eigenval.
    """
    vectors, people = eigenvectors(model), samples_of(model)
    names = [f"PC{i + 1}" for i in range(vectors.shape[1])]
    rows = (
        [family, sample, *map(_number, values)]
        for family, sample, values in zip(people.family_id, people.sample_id, vectors, strict=True)
    )
    values = ([_number(v)] for v in np.asarray(model["sample_pca_eigenvalue"]))
    return _write_all(
        prefix,
        {"eigenvec": (["#FID", "IID", *names], rows), "eigenval": (None, values)},
        overwrite=overwrite,
    )


def write_pairs(pairs: xarray.Dataset, prefix: Prefix, *, overwrite: bool = False) -> list[Path]:
    """Write a matrix of pairs: its lower triangle, and the samples' names.

    Parameters
    ----------
    pairs : xarray.Dataset
        What `grm` or `kinship` gave.
    prefix : str or path
        What the files' names begin with.
    overwrite : bool
        Replace files that are there.

    Returns
    -------
    list of Path
        PREFIX.rel (diagonal included) or PREFIX.king (without it), and PREFIX.*.id.
    """
    related = "stat_genomic_relationship" in pairs
    ending, name = (
        ("rel", "stat_genomic_relationship") if related else ("king", "stat_king_kinship")
    )
    matrix, people = np.asarray(pairs[name]), samples_of(pairs)
    first = 0 if related else 1
    lines = (map(_number, matrix[i, : i + 1 - first]) for i in range(first, len(matrix)))
    ids = zip(people.family_id, people.sample_id, strict=True)
    files: dict[str, Any] = {ending: (None, lines), f"{ending}.id": (["#FID", "IID"], ids)}
    return _write_all(prefix, files, overwrite=overwrite)


_SMALL = 1e-290
"""Below it a float loses digits, and then everything."""
_STATISTICS = {"linear": "T_STAT", "logistic": "Z_STAT", "mixed": "T_STAT"}


def write_gwas(result: xarray.Dataset, prefix: Prefix, *, overwrite: bool = False) -> list[Path]:
    """Write associations, one file a trait.

    Parameters
    ----------
    result : xarray.Dataset
        What `gwas` gave.
    prefix : str or path
        What the files' names begin with.
    overwrite : bool
        Replace files that are there.

    Returns
    -------
    list of Path
        PREFIX.TRAIT.glm.linear, .glm.logistic or .mlm. A1 is the alternate allele (all of them,
        with commas between, where there are several), A1_FREQ its frequency among the trait's
        samples.

    Raises
    ------
    OptionError
        If a trait's name cannot be part of a file's.
    OutputExistsError
        If a file is there already.
    """
    model = str(result.attrs["model"])
    traits = [str(trait) for trait in np.asarray(result["trait"])]
    endings = gwas_endings(traits, model)
    contigs = np.asarray(result["contig_id"])[np.asarray(result["variant_contig"])]
    alleles = np.asarray(result["variant_allele"])
    texts = (contigs, result["variant_position"], result["variant_id"], *alleles.T)
    header = ["#CHROM", "POS", "ID", "REF", "ALT", "A1", "A1_FREQ", "OBS_CT", "BETA", "SE"]
    header += [_STATISTICS[model], "P"]
    if model == "logistic":
        header.insert(header.index("OBS_CT"), "FIRTH?")
    files: dict[str, Any] = {}
    for t, ending in enumerate(endings):
        rows = (
            [*map(str, text), str(text[-1]), *numbers]
            for text, numbers in zip(
                zip(*map(np.asarray, texts), strict=True), _numbers(result, model, t), strict=True
            )
        )
        files[ending] = (header, rows)
    return _write_all(prefix, files, overwrite=overwrite)


def gwas_endings(traits: Sequence[str], model: str) -> list[str]:
    """Give what `write_gwas` puts after the prefix, for each trait.

    Parameters
    ----------
    traits : sequence of str
        Their names.
    model : {"linear", "logistic", "mixed"}
        What was fitted.

    Returns
    -------
    list of str
        TRAIT.glm.linear, .glm.logistic or .mlm.

    Raises
    ------
    OptionError
        If a name cannot be part of a file's, or is there twice.
    """
    for number, trait in enumerate(traits):
        if not trait or not trait.isprintable() or set(trait) & set("/\\"):
            message = f"the trait's name {trait!r} cannot be part of a file's name; rename it"
            raise OptionError(message)
        if trait in traits[:number]:
            raise OptionError(f"each trait has its file; {trait!r} is there twice. Rename one")
    kind = "mlm" if model == "mixed" else f"glm.{model}"
    return [f"{trait}.{kind}" for trait in traits]


def _numbers(result: xarray.Dataset, model: str, t: int) -> Iterator[list[str]]:
    """Write what was found of one trait, variant by variant."""
    stem = f"variant_{VARIABLES[model]}"
    names = ("variant_tested_frequency", "variant_n_tested", f"{stem}_beta", f"{stem}_se",
             f"{stem}_t_value", f"{stem}_p_value")  # fmt: skip
    columns = (np.asarray(result[name])[:, t] for name in names)
    logistic = model == "logistic"
    named = f"{stem}_firth" if logistic else f"{stem}_beta"
    firth = np.asarray(result[named])[:, t]
    known = int(np.asarray(result["trait_n_covariates"])[t])
    for penalised, frequency, count, beta, se, statistic, p in zip(firth, *columns, strict=True):
        freedom = None if logistic else int(count) - known - 1
        text = _number(p) if not p < _SMALL else _tiny(float(statistic), freedom)
        how = ["Y" if penalised else "N"] if logistic else []
        yield [
            _number(frequency), *how, str(int(count)), *map(_number, (beta, se, statistic)), text,
        ]  # fmt: skip


def _tiny(statistic: float, freedom: int | None) -> str:
    """Write a p value that a float cannot hold, as PLINK does."""
    if not np.isfinite(statistic):
        return "0"  # there is no error: the trait follows from the variant
    power = log10_two_sided(statistic, freedom)
    exponent = math.floor(power)
    return f"{10 ** (power - exponent):.6g}e{exponent}"


def _write_all(
    prefix: Prefix,
    files: dict[str, tuple[Sequence[str] | None, Iterable[Iterable[str]]]],
    *,
    overwrite: bool,
) -> list[Path]:
    paths = [Path(f"{os.fspath(prefix)}.{ending}") for ending in files]
    for path in paths:
        if path.exists() and not overwrite:
            message = f"{str(path)!r} is there already; pass overwrite=True, or choose another name"
            raise OutputExistsError(message)
    for path, (header, rows) in zip(paths, files.values(), strict=True):
        partial = path.with_name(path.name + ".partial")
        with partial.open("w") as file:
            if header is not None:
                file.write("\t".join(header) + "\n")
            file.writelines("\t".join(row) + "\n" for row in rows)
        partial.replace(path)
    return paths


def _number(value: Any) -> str:
    """Write a number with as many digits as it takes to read it again."""
    return "NA" if np.isnan(value) else f"{float(value):.10g}"
