"""VCF-Zarr, the schema of sgkit and bio2zarr: allele numbers in, alternate copies out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.blocks import BlockedArray, Region
from leptonhpc.blocks.sources import Source, TransposedSource
from leptonhpc.errors import NotAnArrayError, ShapeError, StoreError
from leptonhpc.genomics.genotypes import Genotypes, Samples, Variants, as_strings
from leptonhpc.genomics.packed import MISSING

_READ_CELLS = 1 << 22


@dataclass(frozen=True)
class AlleleSource:
    """Copies of alternate alleles, counted in an array of allele numbers."""

    base: Source
    """(variants, samples, ploidy): 0 reference, -1 missing, -2 nothing (a haploid call)."""

    dtype = np.dtype(np.int8)

    @property
    def shape(self) -> tuple[int, int]:
        """Samples and variants."""
        return self.base.shape[1], self.base.shape[0]

    @property
    def unit(self) -> tuple[int, int]:
        """Shape of the piece that is read at once."""
        return self.base.unit[1], self.base.unit[0]

    @property
    def name(self) -> str:
        """The source in words."""
        return self.base.name

    @property
    def shareable(self) -> bool:
        """Whether other processes can read it."""
        return self.base.shareable

    def read(self, region: Region, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Count the alternate alleles of a region; a call with a missing allele is missing."""
        (first, last), (left, right) = region
        if out is None:
            out = np.empty((last - first, right - left), np.int8)
        ploidy, width = self.base.shape[2], self.unit[1]
        step = width * max(1, _READ_CELLS // max(1, width * (last - first) * ploidy))
        start = left
        while start < right:
            stop = min((start // step + 1) * step, right)  # ends where a storage unit does
            alleles = self.base.read(((start, stop), (first, last), (0, ploidy)))
            copies: NDArray[np.int8] = np.sum(alleles > 0, axis=2, dtype=np.int8)
            unknown = np.any(alleles == -1, axis=2) | np.all(alleles < 0, axis=2)
            out[:, start - left : stop - left] = np.where(unknown, MISSING, copies).T
            start = stop
        return out

    def units_in(self, region: Region) -> int:
        """Count the storage units that a region touches."""
        return self.base.units_in((region[1], region[0], (0, self.base.shape[2])))

    def identity(self) -> dict[str, Any]:
        """Describe the source."""
        return {"alternate alleles": self.base.identity()}


def genotypes_of(dataset: Any, *, name: str, calls: Any = None) -> Genotypes:
    """Read a dataset with sgkit's variable names lazily.

    Parameters
    ----------
    dataset : xarray.Dataset
        With ``call_genotype`` (variants, samples, ploidy), or ``call_dosage`` (variants, samples).
    name : str
        Of the dataset, for messages.
    calls : BlockedArray, optional
        The same array as the dataset's, opened without xarray.

    Returns
    -------
    Genotypes
        Copies of any alternate allele.

    Raises
    ------
    NotAnArrayError
        If there are no calls.
    ShapeError
        If they have other dimensions.
    """
    from leptonhpc.api import open as open_array

    found = calls_variable(dataset)
    if found is None:
        message = (
            f"{name!r} has neither call_genotype nor call_dosage; it has "
            f"{', '.join(map(str, dataset.variables)) or 'nothing'}"
        )
        raise NotAnArrayError(message)
    if calls is None:
        calls = open_array(dataset[found])
    if calls.ndim != (3 if found == "call_genotype" else 2):
        dims = "(variants, samples, ploidy)" if found == "call_genotype" else "(variants, samples)"
        message = f"{found} of {name!r} needs dimensions {dims}; found shape {calls.shape}"
        raise ShapeError(message)
    made = AlleleSource if found == "call_genotype" else _transposed
    source: Source = made(calls.source)
    samples, variants = source.shape
    return Genotypes(
        BlockedArray(source), _samples(dataset, samples), _variants(dataset, variants, name)
    )


def calls_variable(dataset: Any) -> str | None:
    """Give the name of the variable that holds the calls.

    Parameters
    ----------
    dataset : mapping
        An xarray.Dataset.

    Returns
    -------
    str or None
        The name.
    """
    return next((v for v in ("call_genotype", "call_dosage") if v in dataset), None)


def _transposed(base: Source) -> Source:
    return TransposedSource(base, False)


def _samples(dataset: Any, size: int) -> Samples:
    ids = _strings(dataset, "sample_id", [str(i + 1) for i in range(size)])
    return Samples(_strings(dataset, "sample_family_id", ["0"] * size), ids)


def _variants(dataset: Any, size: int, name: str) -> Variants:
    number = (
        np.asarray(dataset["variant_contig"]) if "variant_contig" in dataset else np.zeros(size)
    )
    contigs = _strings(dataset, "contig_id", [str(i + 1) for i in range(int(number.max()) + 1)])
    if number.min() < 0 or number.max() >= len(contigs):
        message = f"variant_contig of {name!r} goes to {number.max()}; there are {len(contigs)}"
        raise StoreError(f"{message} names in contig_id")
    position = np.zeros(size, np.int64)
    if "variant_position" in dataset:
        position = np.asarray(dataset["variant_position"]).astype(np.int64)
    alleles = np.full((size, 2), ".", np.str_)
    if "variant_allele" in dataset:
        alleles = as_strings(dataset["variant_allele"])
    chosen = contigs[number.astype(np.int64)]
    made = [f"{c}:{p}" for c, p in zip(chosen, position, strict=True)]
    ids = _strings(dataset, "variant_id", made)
    return Variants(chosen, position, ids, alleles[:, 0], alleles[:, 1])


def _strings(dataset: Any, name: str, default: list[str]) -> NDArray[np.str_]:
    return as_strings(dataset.get(name, default))
