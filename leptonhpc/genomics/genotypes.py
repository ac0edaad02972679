"""`Genotypes`: a cohort as a lazy matrix of samples by variants, with names for both."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from leptonhpc.blocks import BlockedArray
from leptonhpc.errors import OptionError, ShapeError
from leptonhpc.genomics.selected import SelectedSource

if TYPE_CHECKING:
    import xarray

Strings = NDArray[np.str_]


@dataclass(frozen=True)
class Samples:
    """The people of a cohort."""

    family_id: Strings
    """(n,): "0" where there are no families."""
    sample_id: Strings
    """(n,): unique together with the family."""

    def __len__(self) -> int:
        """Count them."""
        return len(self.sample_id)

    def label(self, at: int) -> str:
        """Give the name of one, for messages."""
        return f"{self.family_id[at]} {self.sample_id[at]}"

    def first_difference(self, other: Samples) -> int | None:
        """Find the first that another table of the same length does not have in its place."""
        return _first_difference(self, other)


@dataclass(frozen=True)
class Variants:
    """The variants of a cohort."""

    contig: Strings
    """(m,): the chromosome's name."""
    position: NDArray[np.int64]
    """(m,): base pairs, from 1; 0 where it is not known."""
    variant_id: Strings
    reference: Strings
    alternate: Strings
    """(m,): the allele whose copies are counted."""

    def __len__(self) -> int:
        """Count them."""
        return len(self.variant_id)

    def label(self, at: int) -> str:
        """Give the name of one, for messages."""
        return f"{self.variant_id[at]} {self.reference[at]}/{self.alternate[at]}"

    def first_difference(self, other: Variants) -> int | None:
        """Find the first that another table of the same length does not have in its place."""
        return _first_difference(self, other)

    def taken(self, index: NDArray[np.int64]) -> Variants:
        """Choose some of them."""
        chosen: Variants = _taken(self, index)
        return chosen


@dataclass(frozen=True)
class Genotypes:
    """Copies of the alternate allele of every sample at every variant.

    Notes
    -----
    Nothing is read until something is computed; then it is read block by block.
    """

    calls: BlockedArray
    """(samples, variants): int8, negative where missing; or floating dosages, NaN where missing."""
    samples: Samples
    variants: Variants

    def __post_init__(self) -> None:
        """Check that names and matrix agree."""
        expected = (len(self.samples), len(self.variants))
        if self.calls.shape != expected:
            message = (
                f"{self.calls.name} has shape {self.calls.shape}; its names are of {expected[0]} "
                f"samples and {expected[1]} variants"
            )
            raise ShapeError(message)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of samples and of variants."""
        return len(self.samples), len(self.variants)

    @property
    def name(self) -> str:
        """Where the calls come from."""
        return self.calls.name

    def __repr__(self) -> str:
        """Show source and shape."""
        samples, variants = self.shape
        return f"Genotypes({self.name!r}, {samples} samples, {variants} variants)"

    def select(
        self, *, samples: ArrayLike | None = None, variants: ArrayLike | None = None
    ) -> Genotypes:
        """Keep some samples and variants; the others are skipped as blocks are read.

        Parameters
        ----------
        samples, variants : array of bool or int, optional
            A mask, or increasing indices.

        Returns
        -------
        Genotypes
            Lazy too.

        Raises
        ------
        OptionError
            If a mask has another length, an index is out of range or repeated, or nothing is left.
        """
        rows = _indices(samples, self.shape[0], "samples")
        columns = _indices(variants, self.shape[1], "variants")
        calls = BlockedArray(SelectedSource(self.calls.source, rows, columns))
        return Genotypes(calls, _taken(self.samples, rows), _taken(self.variants, columns))

    def to_xarray(self) -> xarray.Dataset:
        """Give the cohort with sgkit's variable names, lazily.

        Returns
        -------
        xarray.Dataset
            ``call_dosage`` (variants, samples) over Dask, of the dtype of the calls and negative or
            NaN where ``call_dosage_mask`` is true; ``sample_id``, ``variant_id``, ....
        """
        import xarray as xr

        dosage = self.calls.to_dask().T
        missing = np.isnan(dosage) if dosage.dtype.kind == "f" else dosage < 0
        return xr.Dataset(
            {
                "call_dosage": (("variants", "samples"), dosage),
                "call_dosage_mask": (("variants", "samples"), missing),
                **sample_variables(self.samples),
                **variant_variables(self.variants),
            }
        )


def as_strings(values: Any) -> Strings:
    """Give text of whatever dtype (objects, bytes, NumPy's variable strings) as one of NumPy's.

    Parameters
    ----------
    values : array
        Text.

    Returns
    -------
    array of str
        Of the same shape.
    """
    array = np.asarray(values)
    if array.dtype.kind == "S":
        return np.char.decode(array, "utf-8")
    return np.array(array.tolist(), np.str_).reshape(array.shape)


def sample_variables(samples: Samples) -> dict[str, Any]:
    """Give the samples' names as variables of a dataset.

    Parameters
    ----------
    samples : Samples
        The people.

    Returns
    -------
    dict
        Of sgkit's variable names.
    """
    return {
        "sample_id": ("samples", samples.sample_id),
        "sample_family_id": ("samples", samples.family_id),
    }


def variant_variables(variants: Variants) -> dict[str, Any]:
    """Give the variants' names as variables of a dataset.

    Parameters
    ----------
    variants : Variants
        The variants.

    Returns
    -------
    dict
        Of sgkit's variable names; ``variant_contig`` is a number, into ``contig_id``.
    """
    names, first, number = np.unique(variants.contig, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")  # contigs in the order of the file
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    alleles = np.stack([variants.reference, variants.alternate], axis=1)
    return {
        "contig_id": ("contigs", names[order]),
        "variant_contig": ("variants", rank[number]),
        "variant_position": ("variants", variants.position),
        "variant_id": ("variants", variants.variant_id),
        "variant_allele": (("variants", "alleles"), alleles),
    }


def _first_difference(table: Any, other: Any) -> int | None:
    if table is other:
        return None
    same = np.ones(len(table), bool)
    for name in table.__annotations__:
        same &= getattr(table, name) == getattr(other, name)
    return None if same.all() else int(np.argmin(same))


def _taken(table: Any, index: NDArray[np.int64]) -> Any:
    return replace(table, **{name: getattr(table, name)[index] for name in table.__annotations__})


def _indices(chosen: ArrayLike | None, size: int, what: str) -> NDArray[np.int64]:
    if chosen is None:
        return np.arange(size)
    values = np.asarray(chosen)
    if values.dtype == bool:
        if values.shape != (size,):
            message = f"a mask of {what} needs shape ({size},); found {values.shape}"
            raise OptionError(message)
        values = np.flatnonzero(values)
    if values.ndim != 1 or (values.size and values.dtype.kind not in "iu"):
        message = f"{what} are chosen by a mask or by indices; found {values.dtype} {values.shape}"
        raise OptionError(message)
    if not values.size:
        raise OptionError(f"no {what} are left of {size}; choose less strictly")
    if values[0] < 0 or values[-1] >= size or np.any(np.diff(values.astype(np.int64)) <= 0):
        message = f"indices of {what} increase from 0 to {size - 1} at most; found {values[:5]}..."
        raise OptionError(message)
    return values.astype(np.int64)
