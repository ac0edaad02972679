"""Standardised genotypes and indicators, made of the stored calls as each block is read."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from leptonhpc.blocks import BlockedArray, Region, Source
from leptonhpc.blocks.changed import ChangedSource
from leptonhpc.errors import LinAlgError, ShapeError
from leptonhpc.genomics.genotypes import Genotypes
from leptonhpc.genomics.orientation import by_variant

_STRIP_SIZE = 1 << 17
"""Numbers that are standardised at once: they stay in cache."""


_OF_THREAD = threading.local()
_MOST_KEPT_NBYTES = 1 << 23


def workspace(shape: tuple[int, int], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Give an array of any numbers, the same to each call of a thread.

    What is allocated for each piece anew goes back to the system between, and the kernel clears it
    again: longer than it takes to decode it.

    Parameters
    ----------
    shape : tuple of int
        Of the array.
    dtype : dtype
        Of its numbers.

    Returns
    -------
    array of `shape`, row-major
        Valid until the thread calls again. Large ones are not kept.
    """
    nbytes = shape[0] * shape[1] * dtype.itemsize
    if nbytes > _MOST_KEPT_NBYTES:
        return np.empty(shape, dtype)
    kept: NDArray[Any] | None = getattr(_OF_THREAD, "kept", None)
    if kept is None or kept.size < nbytes:
        kept = _OF_THREAD.kept = np.empty(nbytes, np.uint8)
    return kept[:nbytes].view(dtype).reshape(shape)


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


def some_missing(block: NDArray[Any]) -> bool:
    """Say whether a call is missing, for integers without an array of answers.

    Parameters
    ----------
    block : array
        As for `missing_in`.

    Returns
    -------
    bool
        Whether there is one.
    """
    if block.dtype.kind == "f":
        return bool(missing_in(block).any())
    return bool(np.min(block, initial=0) < 0)


def require_calls(
    calls: NDArray[Any], name: str, *, first_sample: int = 0, first_variant: int = 0
) -> None:
    """Refuse what is neither missing nor from 0 to 2.

    Parameters
    ----------
    calls : array of shape (samples, variants)
        A block.
    name : str
        Of the cohort, for the message.
    first_sample, first_variant : int
        Numbers of the block's first row and column.

    Raises
    ------
    ShapeError
        With the first sample and variant.
    """
    if calls.dtype.kind != "f" and np.max(calls, initial=0) <= 2:
        return
    wrong = (calls > 2) | ((calls < 0) & ~missing_in(calls))
    if wrong.any():
        sample, variant = np.argwhere(wrong)[0]
        message = (
            f"a call is 0, 1 or 2 copies (or a dosage between), negative or NaN where missing; "
            f"{name} has {calls[sample, variant]} for sample number {sample + first_sample} at "
            f"variant number {variant + first_variant}"
        )
        raise ShapeError(message)


@dataclass(frozen=True, eq=False)
class StandardisedRows(ChangedSource):
    """(calls - mean) / scale of variants by samples; zero, the mean, where a call is missing."""

    base: Source
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    dtype: np.dtype[Any]

    @property
    def name(self) -> str:
        """The source in words."""
        return f"{self.base.name} standardised"

    def read(self, region: Region, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Give standardised calls; those that they are made of lie in the thread's workspace."""
        (top, bottom), (first, last) = region
        if out is None:
            out = np.empty((bottom - top, last - first), self.dtype)
        cuts = [
            pairwise([low, *range(low - low % step + step, high, step), high])
            for (low, high), step in zip(region, self._steps(out.shape), strict=True)
        ]
        for rows, columns in product(*cuts):
            place = workspace((rows[1] - rows[0], columns[1] - columns[0]), self.base.dtype)
            part = out[rows[0] - top : rows[1] - top, columns[0] - first : columns[1] - first]
            self.change(self.base.read((rows, columns), place), (rows, columns), part)
        return out

    def change(self, values: NDArray[Any], region: Region, out: NDArray[Any]) -> None:
        """Standardise."""
        (top, bottom), (first, _) = region
        require_calls(values.T, self.base.name, first_sample=first, first_variant=top)
        step = max(1, _STRIP_SIZE // max(1, values.shape[1]))
        for low in range(0, len(values), step):
            part = slice(low, low + step)
            of = slice(top + low, min(top + low + step, bottom))
            self._standardise(values[part], of, out[part])

    def _standardise(self, values: NDArray[Any], of: slice, out: NDArray[Any]) -> None:
        """Standardise some rows, which stay in cache."""
        # converted on its own: arithmetic of unlike dtypes is six times slower
        np.copyto(out, values, casting="unsafe")
        out -= self.mean[of, None].astype(self.dtype)
        out *= (1 / self.scale[of, None]).astype(self.dtype)
        if some_missing(values):
            np.copyto(out, 0, where=missing_in(values))

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
class IndicatorSource(ChangedSource):
    """One where a call is of some kind, zero elsewhere: products of such matrices count pairs."""

    base: Source
    kind: Indicator

    dtype = np.dtype(np.float64)  # counts up to 2^53 are exact

    @property
    def name(self) -> str:
        """The source in words."""
        return f"{self.kind} calls of {self.base.name}"

    def change(self, values: NDArray[Any], region: Region, out: NDArray[Any]) -> None:
        """Say which calls are of the kind."""
        (first_sample, _), (first_variant, _) = region
        require_calls(
            values, self.base.name, first_sample=first_sample, first_variant=first_variant
        )
        out[...] = _INDICATORS[self.kind](values)

    def identity(self) -> dict[str, Any]:
        """Describe the source."""
        return {"indicator": self.kind, "of": self.base.identity()}


def standardised(
    genotypes: Genotypes, frequency: NDArray[np.float64], *, dtype: Any = np.float64
) -> BlockedArray:
    """Give (calls - 2 p) / sqrt(2 p (1 - p)) by variant, with missing calls at their mean.

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
        (variants, samples), lazy; nothing of it is stored.

    Raises
    ------
    LinAlgError
        If a variant does not vary, or was never called; the message names it.
    """
    require_varying(genotypes, frequency)
    return standardised_by(genotypes, frequency, dtype=dtype)


def standardised_by(
    genotypes: Genotypes, frequency: NDArray[np.float64], *, dtype: Any = np.float64
) -> BlockedArray:
    """Give the same with frequencies that vary, whether the calls do or not.

    Parameters
    ----------
    genotypes : Genotypes
        The cohort.
    frequency : array of shape (m,)
        Between zero and one.
    dtype : dtype
        Double or single precision.

    Returns
    -------
    BlockedArray
        (variants, samples), lazy.
    """
    scale = np.sqrt(2 * frequency * (1 - frequency))
    calls = by_variant(genotypes.calls.source)
    return BlockedArray(StandardisedRows(calls, 2 * frequency, scale, np.dtype(dtype)))


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
            f"{what}. Leave them out with filter_variants(genotypes), at a shell with --maf 0.001"
        )
        raise LinAlgError(message)
