"""Counts, allele frequencies and call rates of a cohort, all in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.errors import ShapeError
from leptonhpc.genomics.extras import Nbytes
from leptonhpc.genomics.genotypes import Genotypes, Samples, Variants
from leptonhpc.genomics.passes import Keeping, map_variants
from leptonhpc.genomics.standardised import missing_in, require_calls

if TYPE_CHECKING:
    import xarray

_COUNTS = ("called", "copies", "hom_ref", "het", "hom_alt", "sample_called")
"""In the order in which `Counting` gives them."""
_BYTE = 255
_ONES = np.uint64(0x0101010101010101)
_WORDS_NBYTES = 1 << 16
"""Calls that are counted at once: they stay in cache."""


@dataclass(frozen=True)
class Statistics:
    """What one pass over a cohort counts."""

    called: NDArray[np.int64]
    """(m,): samples with a call."""
    copies: NDArray[np.float64]
    """(m,): copies of the alternate allele in them."""
    hom_ref: NDArray[np.int64]
    het: NDArray[np.int64]
    hom_alt: NDArray[np.int64]
    """(m,): samples with 0, 1, 2 copies exactly."""
    sample_called: NDArray[np.int64]
    """(n,): variants with a call, of all that were counted."""
    samples: Samples
    variants: Variants
    """Whose counts they are."""
    counted_variants: int
    """How many variants the samples' calls were counted over."""

    @property
    def frequency(self) -> NDArray[np.float64]:
        """Frequency of the alternate allele; NaN where nothing was called."""
        alleles = np.where(self.called > 0, 2.0 * self.called, np.nan)
        frequency: NDArray[np.float64] = self.copies / alleles
        return frequency

    @property
    def maf(self) -> NDArray[np.float64]:
        """Frequency of the rarer allele."""
        return np.minimum(self.frequency, 1 - self.frequency)

    @property
    def call_rate(self) -> NDArray[np.float64]:
        """Share of the samples with a call, of each variant."""
        return self.called / len(self.sample_called)

    @property
    def sample_call_rate(self) -> NDArray[np.float64]:
        """Share of all counted variants with a call, of each sample."""
        return self.sample_called / self.counted_variants

    @property
    def complete(self) -> bool:
        """Whether no call is missing."""
        return bool(np.all(self.called == len(self.sample_called)))

    @classmethod
    def joined(cls, parts: Sequence[tuple[NDArray[Any], ...]], cohort: Genotypes) -> Statistics:
        """Put the counts of blocks together.

        Parameters
        ----------
        parts : sequence of tuple
            What `Counting` gave, in the variants' order.
        cohort : Genotypes
            What was counted.

        Returns
        -------
        Statistics
            Of the cohort.
        """
        columns = [np.concatenate([part[i] for part in parts]) for i in range(5)]
        columns.append(np.sum([part[5] for part in parts], axis=0))
        named: Any = dict(zip(_COUNTS, columns, strict=True))
        return cls(
            **named, samples=cohort.samples, variants=cohort.variants,
            counted_variants=cohort.shape[1],
        )  # fmt: skip

    def of_variants(self, index: NDArray[np.int64]) -> Statistics:
        """Keep the counts of some variants.

        Parameters
        ----------
        index : array of int
            Which.

        Returns
        -------
        Statistics
            Theirs; the counts of the samples are still of all.
        """
        found = {name: getattr(self, name)[index] for name in _COUNTS[:-1]}
        return replace(self, **found, variants=self.variants.taken(index))

    def require_of(self, cohort: Genotypes) -> None:
        """Refuse a cohort that these are not the statistics of.

        Parameters
        ----------
        cohort : Genotypes
            The cohort.

        Raises
        ------
        ShapeError
            If samples or variants are others; the message names the first that differs.
        """
        pairs: list[tuple[str, Any, Any]] = [
            ("sample", self.samples, cohort.samples),
            ("variant", self.variants, cohort.variants),
        ]
        for what, ours, theirs in pairs:
            way = "Leave statistics= out, or count the selection with genotype_statistics"
            if len(ours) != len(theirs):
                message = f"the statistics are of {len(ours)} {what}s; {cohort.name} has"
                raise ShapeError(f"{message} {len(theirs)}. {way}")
            at = ours.first_difference(theirs)
            if at is not None:
                message = f"the statistics are of other {what}s: number {at} is {ours.label(at)!r}"
                raise ShapeError(f"{message}; {cohort.name} has {theirs.label(at)!r}. {way}")

    def to_xarray(self) -> xarray.Dataset:
        """Give the same with sgkit's variable names.

        Returns
        -------
        xarray.Dataset
            ``variant_call_rate``, ``variant_allele_frequency``, ....
        """
        import xarray as xr

        frequency = np.stack([1 - self.frequency, self.frequency], axis=1)
        return xr.Dataset(
            {
                "variant_n_called": ("variants", self.called),
                "variant_call_rate": ("variants", self.call_rate),
                "variant_n_hom_ref": ("variants", self.hom_ref),
                "variant_n_het": ("variants", self.het),
                "variant_n_hom_alt": ("variants", self.hom_alt),
                "variant_allele_frequency": (("variants", "alleles"), frequency),
                "sample_n_called": ("samples", self.sample_called),
                "sample_call_rate": ("samples", self.sample_call_rate),
            }
        )


def genotype_statistics(genotypes: Genotypes, *, memory: Nbytes = None) -> Statistics:
    """Count calls and alleles in one pass.

    Parameters
    ----------
    genotypes : Genotypes
        The cohort.
    memory : int, float or str, optional
        Budget of each worker, such as "2 GB".

    Returns
    -------
    Statistics
        Counts, frequencies, call rates.

    Raises
    ------
    ShapeError
        If a call is neither missing nor from 0 to 2; the message names sample and variant.
    """
    return _counted(genotypes, memory, None)


def _counted(
    cohort: Genotypes, memory: Nbytes, keeping: Keeping[tuple[NDArray[Any], ...]] | None
) -> Statistics:
    parts = map_variants(
        cohort.calls, Counting(cohort), memory=memory, cell_nbytes=6, keeping=keeping
    )
    return Statistics.joined(list(parts), cohort=cohort)


def statistics_of(
    cohort: Genotypes, given: Statistics | None, *, memory: Nbytes,
    keeping: Keeping[tuple[NDArray[Any], ...]] | None = None,
) -> Statistics:  # fmt: skip
    """Take what the caller has counted, if it is of this cohort, or count.

    Parameters
    ----------
    cohort : Genotypes
        The cohort.
    given : Statistics, optional
        Counted by the caller.
    memory : int, float, str or None
        Budget of a pass.
    keeping : Keeping, optional
        Has the blocks of an earlier call.

    Returns
    -------
    Statistics
        Of the cohort.

    Raises
    ------
    ShapeError
        If `given` is of other samples or variants.
    """
    if given is None:
        return _counted(cohort, memory, keeping)
    given.require_of(cohort)
    return given


class Counting:
    """Counts the calls of a block, and refuses impossible ones.

    Parameters
    ----------
    genotypes : Genotypes
        Whose name is in the message.
    """

    def __init__(self, genotypes: Genotypes) -> None:
        self.name = genotypes.name

    def __call__(self, block: NDArray[Any], start: int) -> tuple[NDArray[Any], ...]:
        """Give called, copies, hom_ref, het, hom_alt of each variant, and called of each sample."""
        require_calls(block, self.name, first_variant=start)
        by_variant = block.T
        if by_variant.dtype == np.int8 and by_variant.flags.c_contiguous:
            absent, het, hom_alt = counted_by_words(by_variant)
            called = len(block) - absent
            kinds = [called - het - hom_alt, het, hom_alt]
        else:
            called = len(block) - true_in_columns(missing_in(block))
            kinds = [true_in_columns(block == copies) for copies in (0, 1, 2)]
        per_sample = np.full(len(block), block.shape[1])
        if np.any(called < len(block)):
            per_sample -= true_in_columns(missing_in(block).T)
        if block.dtype.kind == "f":
            copies = np.nansum(block, axis=0, dtype=np.float64)
        else:
            copies = (kinds[1] + 2 * kinds[2]).astype(np.float64)
        return called, copies, *kinds, per_sample


def counted_by_words(rows: NDArray[np.int8]) -> NDArray[np.int64]:
    """Count missing calls, and those of one and of two copies, in each row, eight at once.

    Parameters
    ----------
    rows : array of shape (m, n), int8
        0, 1, 2, or negative where missing.

    Returns
    -------
    array of shape (3, m), int64
        The counts.
    """
    m, n = rows.shape
    counts = np.zeros((3, m), np.int64)
    width = -(-n // 8) * 8
    step = max(1, _WORDS_NBYTES // width)
    padded = np.zeros((min(step, m), width), np.int8)  # what fills the last word is no copy
    for low in range(0, m, step):
        part = padded[: min(step, m - low)]
        part[:, :n] = rows[low : low + step]
        words = part.view(np.uint64)
        absent = (words >> np.uint64(7)) & _ONES  # the sign of each byte
        there = ~absent
        kinds = absent, words & _ONES & there, (words >> np.uint64(1)) & _ONES & there
        for total, bits in zip(counts, kinds, strict=True):
            np.add.reduce(np.bitwise_count(bits), axis=1, out=total[low : low + step])
    return counts


def true_in_columns(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Count what is true in each column, as fast as memory is read, however the mask lies there.

    Parameters
    ----------
    mask : array of shape (n, m), bool
        Rows or columns contiguous.

    Returns
    -------
    array of shape (m,), int64
        The counts.
    """
    if mask.flags.f_contiguous:
        return np.fromiter(map(np.count_nonzero, mask.T), np.int64, mask.shape[1])
    total, ones = np.zeros(mask.shape[1], np.int64), mask.view(np.uint8)
    for low in range(0, len(mask), _BYTE):  # so many ones are a byte at most
        total += np.add.reduce(ones[low : low + _BYTE], axis=0, dtype=np.uint8)
    return total
