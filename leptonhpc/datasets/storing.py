"""How data sets are laid out in Zarr: chunks, attributes, and blocks in whole storage units."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from leptonhpc.datasets.catalogue import Dataset
from leptonhpc.store import StoredArray

Region = tuple[tuple[int, int], ...]
"""Start and stop along each dimension."""

_BAND_NBYTES = 4 * 2**20


def provenance(dataset: Dataset) -> dict[str, Any]:
    """Give the attributes that say what the data are.

    Parameters
    ----------
    dataset : Dataset
        The entry.

    Returns
    -------
    dict
        JSON-serialisable.
    """
    return {
        "title": dataset.summary,
        "dataset": dataset.name,
        "references": dataset.citation,
        "licence": dataset.licence,
        **({"main": dataset.main} if dataset.main else {}),
    }


def band_chunks(shape: Sequence[int], dtype: DTypeLike) -> tuple[int, ...]:
    """Choose chunks that are whole along all dimensions but the first.

    Parameters
    ----------
    shape : sequence of int
        Of the array.
    dtype : dtype
        Of the array.

    Returns
    -------
    tuple of int
        Of about 4 MiB, at least one index of the first dimension.

    Examples
    --------
    >>> band_chunks((5000, 360, 720), "float32")
    (4, 360, 720)
    """
    row_nbytes = int(np.prod(shape[1:], dtype=np.int64)) * np.dtype(dtype).itemsize
    return (min(max(_BAND_NBYTES // row_nbytes, 1), shape[0]), *shape[1:])


def write_whole(array: StoredArray, values: NDArray[Any]) -> None:
    """Write a small array that is in memory.

    Parameters
    ----------
    array : StoredArray
        Where.
    values : array of the same shape
        What.
    """
    array.write_units((0,) * array.ndim, values)


def unit_regions(array: StoredArray) -> Iterator[tuple[tuple[int, ...], Region]]:
    """Go through the storage units of an array, last dimension fastest.

    Parameters
    ----------
    array : StoredArray
        The array.

    Yields
    ------
    tuple of (index, region)
        The unit's index and its start and stop along each dimension.
    """
    counts = (-(-size // unit) for size, unit in zip(array.shape, array.unit, strict=True))
    for index in itertools.product(*map(range, counts)):
        yield (
            index,
            tuple(
                (i * unit, min((i + 1) * unit, size))
                for i, unit, size in zip(index, array.unit, array.shape, strict=True)
            ),
        )
