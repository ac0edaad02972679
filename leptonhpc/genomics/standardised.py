"""Standardised genotypes and indicators, made of the stored calls as each block is read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from leptonhpc.blocks import BlockedArray, Region
from leptonhpc.blocks.sources import Source
from leptonhpc.errors import LinAlgError
from leptonhpc.genomics.genotypes import Genotypes

_STRIP_CELLS = 1 << 20


def missing_in(block: NDArray[Any]) -> NDArray[np.bool_]:
    """Say where calls are missing.

    Parameters
    ----------
    block : array
        Integers, negative where missing; or floating, NaN where missing.

    Returns
    -------
    array of bool
        Of the same shape.
    """
    found: NDArray[np.bool_] = np.isnan(block) if block.dtype.kind == "f" else block < 0
    return found


@dataclass(frozen=True, eq=False)
class StandardisedSource:
    """(calls - mean) / scale for each variant; zero, the mean, where a call is missing."""

    base: Source
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    dtype: np.dtype[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """Samples and variants."""
        return self.base.shape

    @property
    def unit(self) -> tuple[int, ...]:
        """Shape of the piece that is read at once."""
        return self.base.unit

    @property
    def name(self) -> str:
        """The source in words."""
        return f"{self.base.name} standardised"

    @property
    def shareable(self) -> bool:
        """Whether other processes can read it."""
        return self.base.shareable

    def read(self, region: Region, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Give a region, made strip by strip of whole storage units."""
        rows, (left, right) = region
        if out is None:
            out = np.empty((rows[1] - rows[0], right - left), self.dtype)
        mean = self.mean[left:right].astype(self.dtype)
        factor = (1 / self.scale[left:right]).astype(self.dtype)
        for first, last in _strips(rows, self.base.unit[0], right - left):
            calls = self.base.read(((first, last), (left, right)))
            part = out[first - rows[0] : last - rows[0]]
            np.subtract(calls, mean, out=part, casting="unsafe")
            part *= factor
            part[missing_in(calls)] = 0
        return out

    def units_in(self, region: Region) -> int:
        """Count the storage units that a region touches."""
        return self.base.units_in(region)

    def identity(self) -> dict[str, Any]:
        """Describe the source and the numbers by their digest."""
        sha = hashlib.sha256(self.mean.tobytes() + self.scale.tobytes()).hexdigest()
        return {"standardised": sha[:16], "dtype": str(self.dtype), "of": self.base.identity()}


Indicator = Literal["present", "het", "hom_ref", "hom_alt"]
_INDICATORS: dict[Indicator, Callable[[NDArray[Any]], NDArray[np.bool_]]] = {
    "present": lambda calls: ~missing_in(calls),
    "het": lambda calls: calls == 1,
    "hom_ref": lambda calls: calls == 0,
    "hom_alt": lambda calls: calls == 2,
}


@dataclass(frozen=True)
class IndicatorSource:
    """One where a call is of some kind, zero elsewhere: products of such matrices count pairs."""

    base: Source
    kind: Indicator

    dtype = np.dtype(np.float64)  # counts up to 2^53 are exact

    @property
    def shape(self) -> tuple[int, ...]:
        """Samples and variants."""
        return self.base.shape

    @property
    def unit(self) -> tuple[int, ...]:
        """Shape of the piece that is read at once."""
        return self.base.unit

    @property
    def name(self) -> str:
        """The source in words."""
        return f"{self.kind} calls of {self.base.name}"

    @property
    def shareable(self) -> bool:
        """Whether other processes can read it."""
        return self.base.shareable

    def read(self, region: Region, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Give a region, made strip by strip of whole storage units."""
        rows, columns = region
        if out is None:
            out = np.empty((rows[1] - rows[0], columns[1] - columns[0]), self.dtype)
        for first, last in _strips(rows, self.base.unit[0], columns[1] - columns[0]):
            calls = self.base.read(((first, last), columns))
            out[first - rows[0] : last - rows[0]] = _INDICATORS[self.kind](calls)
        return out

    def units_in(self, region: Region) -> int:
        """Count the storage units that a region touches."""
        return self.base.units_in(region)

    def identity(self) -> dict[str, Any]:
        """Describe the source."""
        return {"indicator": self.kind, "of": self.base.identity()}


def standardised(
    genotypes: Genotypes, frequency: NDArray[np.float64], *, dtype: Any = np.float64
) -> BlockedArray:
    """Give (calls - 2 p) / sqrt(2 p (1 - p)), with missing calls at their mean.

    Parameters
    ----------
    genotypes : Genotypes
        The cohort.
    frequency : array of shape (m,)
        The alternate allele's frequency p.
    dtype : dtype
        Double or single precision.

    Returns
    -------
    BlockedArray
        (samples, variants), lazy; nothing of it is stored.

    Raises
    ------
    LinAlgError
        If a variant does not vary, or was never called; the message names it.
    """
    require_varying(genotypes, frequency)
    scale = np.sqrt(2 * frequency * (1 - frequency))
    source = StandardisedSource(genotypes.calls.source, 2 * frequency, scale, np.dtype(dtype))
    return BlockedArray(source)


def require_varying(genotypes: Genotypes, frequency: NDArray[np.float64]) -> None:
    """Refuse variants that cannot be standardised.

    Parameters
    ----------
    genotypes : Genotypes
        The cohort.
    frequency : array of shape (m,)
        Allele frequencies, NaN where nothing was called.

    Raises
    ------
    LinAlgError
        With the number of such variants and the first of them.
    """
    bad = np.flatnonzero(~((frequency > 0) & (frequency < 1)))  # catches NaN too
    if bad.size:
        first = bad[0]
        what = "was never called" if np.isnan(frequency[first]) else "does not vary"
        message = (
            f"{bad.size} of {len(frequency)} variants of {genotypes.name} cannot be standardised; "
            f"the first is {str(genotypes.variants.variant_id[first])!r} (number {first}), which "
            f"{what}. Leave them out with filter_variants(genotypes, min_maf=...)"
        )
        raise LinAlgError(message)


def _strips(rows: tuple[int, int], unit: int, width: int) -> list[tuple[int, int]]:
    """Cut rows where storage units end, into strips of a bounded number of cells."""
    step = max(1, unit) * max(1, _STRIP_CELLS // max(1, unit * width))
    edges = [rows[0], *range((rows[0] // step + 1) * step, rows[1], step), rows[1]]
    return list(zip(edges, edges[1:], strict=False))
