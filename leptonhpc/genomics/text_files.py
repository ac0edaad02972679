"""Results as PLINK writes them: tab-separated text under a common name."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from leptonhpc.errors import OutputExistsError
from leptonhpc.genomics.association import VARIABLES
from leptonhpc.genomics.components import eigenvectors, samples_of

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
        PREFIX.TRAIT.glm.linear, .glm.logistic or .mlm.
    """
    model = str(result.attrs["model"])
    kind = VARIABLES[model]
    ending = "mlm" if model == "mixed" else f"glm.{model}"
    contigs = np.asarray(result["contig_id"])[np.asarray(result["variant_contig"])]
    alleles = np.asarray(result["variant_allele"])
    texts = (contigs, result["variant_position"], result["variant_id"], *alleles.T)
    header = ["#CHROM", "POS", "ID", "REF", "ALT", "A1", "A1_FREQ", "OBS_CT", "BETA", "SE"]
    header += [_STATISTICS[model], "P"]
    files: dict[str, Any] = {}
    for t, trait in enumerate(np.asarray(result["trait"]).astype(str)):
        numbers = [
            np.asarray(result[f"variant_{kind}_{name}"])[:, t]
            for name in ("beta", "se", "t_value", "p_value")
        ]
        counts = np.asarray(result["variant_n_tested"])[:, t]
        frequency = np.asarray(result["variant_allele_frequency"])[:, 1]
        rows = (
            [*map(str, text), str(text[-1]), _number(p), str(int(n)), *map(_number, found)]
            for text, p, n, *found in zip(
                zip(*map(np.asarray, texts), strict=True), frequency, counts, *numbers, strict=True
            )
        )
        files[f"{trait}.{ending}"] = (header, rows)
    return _write_all(prefix, files, overwrite=overwrite)


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
