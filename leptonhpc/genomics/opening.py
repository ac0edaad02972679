"""From what users have (PLINK files, VCF-Zarr, datasets, bare matrices) to genotypes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from leptonhpc import store
from leptonhpc.api import open as open_array
from leptonhpc.blocks import BlockedArray
from leptonhpc.errors import DTypeError, ShapeError, StoreError
from leptonhpc.genomics.bed import read_bed
from leptonhpc.genomics.extras import require_xarray
from leptonhpc.genomics.genotypes import Genotypes, Samples, Variants
from leptonhpc.genomics.storing import FORMAT, open_stored
from leptonhpc.genomics.vcf_zarr import calls_variable, genotypes_of

_CONVERTED = (".vcf", ".bcf", ".pgen", ".ped", ".bgen")
"""Endings of files that others read."""


def open_genotypes(source: Any) -> Genotypes:
    """Open a cohort lazily.

    Parameters
    ----------
    source : str, path, Genotypes, xarray.Dataset, or what `leptonhpc.open` takes
        A PLINK 1 .bed file (or the name it has in common with .bim and .fam); a VCF-Zarr group with
        ``call_genotype``; a group that `store_genotypes` made; a dataset with sgkit's names; or a
        matrix of samples by variants: copies of an allele (negative where missing) or floating
        dosages (NaN where missing), whose samples are called 1, 2, ... and variants v1, v2, ....

    Returns
    -------
    Genotypes
        Samples by variants, with their names.

    Raises
    ------
    StoreError
        If nothing is there, it is damaged, or of a format that is to be converted first.
    ShapeError
        If a bare array is no matrix.
    DTypeError
        If it holds no real numbers.

    Examples
    --------
    >>> import numpy as np
    >>> open_genotypes(np.array([[0, 1], [2, -1], [1, 1]], "int8")).shape
    (3, 2)
    """
    if isinstance(source, Genotypes):
        return source
    if isinstance(source, str | os.PathLike):
        return _at(source)
    if hasattr(source, "data_vars"):
        return genotypes_of(source, name="the dataset")
    return _bare(open_array(source))


def _at(location: str | os.PathLike[str]) -> Genotypes:
    path = Path(location)
    if path.suffix == ".bed" or Path(f"{path}.bed").is_file():
        return read_bed(path)
    if path.is_file() and path.name.removesuffix(".gz").endswith(_CONVERTED):
        message = f"{str(path)!r} is of a format that is not read here: make a .bed file of it"
        raise StoreError(f"{message} (plink2 --make-bed), or of VCF a VCF-Zarr (bio2zarr)")
    if path.is_file() and path.suffix in (".bim", ".fam"):
        message = f"{str(path)!r} has the names of a PLINK 1 file set; its calls are in"
        raise StoreError(f"{message} {path.with_suffix('.bed').name!r}: give that")
    attributes = store.read_attributes(location) if store.exists(location) else {}
    if attributes.get("format") == FORMAT:
        return open_stored(location)
    if path.is_dir() and _is_group(path):
        return _vcf_zarr(path)
    return _bare(open_array(location))


def _is_group(path: Path) -> bool:
    return any((path / name).is_dir() for name in ("call_genotype", "call_dosage"))


def _vcf_zarr(path: Path) -> Genotypes:
    require_xarray()
    import xarray as xr

    with xr.open_zarr(path, consolidated=False, chunks=None, mask_and_scale=False) as dataset:
        name = calls_variable(dataset)
        calls = open_array(path / str(name))  # read by the engine, not through xarray
        return genotypes_of(dataset, name=str(path), calls=calls)


def _bare(calls: BlockedArray) -> Genotypes:
    if calls.ndim != 2:
        message = f"genotypes are a matrix of samples by variants; {calls.name} has {calls.shape}"
        raise ShapeError(message)
    if calls.dtype.kind not in "biuf":
        raise DTypeError(f"genotypes are real numbers; {calls.name} holds {calls.dtype}")
    samples, variants = calls.shape
    numbers = np.arange(1, variants + 1)
    return Genotypes(
        calls,
        Samples(np.full(samples, "0"), np.arange(1, samples + 1).astype(np.str_)),
        Variants(
            np.full(variants, "1"), numbers, np.char.add("v", numbers.astype(np.str_)),
            np.full(variants, "A"), np.full(variants, "B"),
        ),
    )  # fmt: skip
