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
    """(variants, samples, 2): 0 reference, -1 or NaN missing, -2 nothing (a haploid call)."""

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
        """Count the alternate alleles of a region; a call with a missing allele is missing.

        A haploid call (one allele and nothing) counts twice, as PLINK 1 has it.
        """
        (first, last), (left, right) = region
        if out is None:
            out = np.empty((last - first, right - left), np.int8)
        ploidy, width = self.base.shape[2], self.unit[1]
        step = width * max(1, _READ_CELLS // max(1, width * (last - first) * ploidy))
        start = left
        while start < right:
            stop = min((start // step + 1) * step, right)  # ends where a storage unit does
            alleles = self.base.read(((start, stop), (first, last), (0, ploidy)))
            out[:, start - left : stop - left] = self._copies(alleles, start, first).T
            start = stop
        return out

    def _copies(self, alleles: NDArray[Any], variant: int, sample: int) -> NDArray[np.int8]:
        if alleles.dtype.kind == "f":  # xarray makes NaN of missing alleles
            alleles = np.where(np.isnan(alleles), -1, alleles)
        wrong = alleles < -2
        if alleles.dtype.kind == "f":
            wrong |= (alleles != np.floor(alleles)) | np.isinf(alleles)
        if wrong.any():
            v, s, a = np.argwhere(wrong)[0]
            message = (
                f"an allele is a whole number, -1 (missing) or -2 (nothing); {self.name} has "
                f"{alleles[v, s, a]} for sample number {sample + s} at variant number {variant + v}"
            )
            raise ShapeError(message)
        copies: NDArray[np.int8] = np.sum(alleles > 0, axis=2, dtype=np.int8)
        copies *= 1 + np.any(alleles == -2, axis=2).astype(np.int8)
        unknown = np.any(alleles == -1, axis=2) | np.all(alleles < 0, axis=2)
        return np.where(unknown, MISSING, copies).astype(np.int8)

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
        With ``call_genotype`` (variants, samples, ploidy), or ``call_dosage`` (variants, samples),
        in any order of these dimensions.
    name : str
        Of the dataset, for messages.
    calls : BlockedArray, optional
        The same array as the dataset's, opened without xarray.

    Returns
    -------
    Genotypes
        Copies of any alternate allele; where a variant has several, ``alternate`` names all of
        them, with commas between.

    Raises
    ------
    NotAnArrayError
        If there are no calls.
    ShapeError
        If they have other dimensions, or their calls are not of two alleles.
    """
    from leptonhpc.api import open as open_array

    found = calls_variable(dataset)
    if found is None:
        message = (
            f"{name!r} has neither call_genotype nor call_dosage; it has "
            f"{', '.join(map(str, dataset.variables)) or 'nothing'}"
        )
        raise NotAnArrayError(message)
    dims = _require_calls(dataset[found], found, name, stored=calls is not None)
    if calls is None:
        calls = open_array(dataset[found].transpose(*dims))
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


def _require_calls(variable: Any, found: str, name: str, *, stored: bool) -> tuple[str, ...]:
    """Refuse calls of other dimensions or ploidy; give the dimensions in our order."""
    dims = ("variants", "samples", "ploidy")[: 3 if found == "call_genotype" else 2]
    here = tuple(map(str, variable.dims))
    wanted = f"{found} of {name!r} needs dimensions ({', '.join(dims)})"
    if sorted(here) != sorted(dims):
        message = f"{wanted}; found ({', '.join(here)}). Dataset.rename gives others these names"
        raise ShapeError(message)
    if stored and here != dims:
        message = (
            f"{wanted} in this order; found ({', '.join(here)}). Open it with xarray.open_zarr"
        )
        raise ShapeError(f"{message}, and pass the dataset")
    scaled = [key for key in ("scale_factor", "add_offset") if stored and key in variable.attrs]
    if scaled:
        message = f"{found} of {name!r} is stored with {scaled[0]}; open it with xarray.open_zarr"
        raise ShapeError(f"{message}, which decodes it, and pass the dataset")
    if len(dims) == 3 and variable.sizes["ploidy"] != 2:
        message = (
            f"calls are of two alleles; {found} of {name!r} has ploidy {variable.sizes['ploidy']}. "
            "Store a haploid call as the allele and -2, or give copies from 0 to 2 as call_dosage"
        )
        raise ShapeError(message)
    return dims


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
    reference, alternate = (np.full(size, ".", np.str_) for _ in range(2))
    if "variant_allele" in dataset:
        reference, alternate = _alleles(as_strings(dataset["variant_allele"]))
    chosen = contigs[number.astype(np.int64)]
    made = [f"{c}:{p}" for c, p in zip(chosen, position, strict=True)]
    ids = _strings(dataset, "variant_id", made)
    return Variants(chosen, position, ids, reference, alternate)


def _alleles(alleles: NDArray[np.str_]) -> tuple[NDArray[np.str_], NDArray[np.str_]]:
    """Give the first allele, and all others: their copies are counted together."""
    if alleles.shape[1] == 2:
        return alleles[:, 0], alleles[:, 1]
    others = [",".join(a for a in row if a not in ("", ".")) or "." for row in alleles[:, 1:]]
    return alleles[:, 0], np.array(others, np.str_)


def _strings(dataset: Any, name: str, default: list[str]) -> NDArray[np.str_]:
    return as_strings(dataset.get(name, default))
