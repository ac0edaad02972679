"""Genotypes of people from several populations by the Balding-Nichols model, of any size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from leptonhpc import store
from leptonhpc.datasets.catalogue import Dataset
from leptonhpc.datasets.storing import Region, provenance, unit_regions
from leptonhpc.datasets.streams import stream
from leptonhpc.store.locations import Location

FST = 0.05
"""Fixation index: how far the populations have drifted from their common ancestors."""

_CELL_PEOPLE, _CELL_VARIANTS = 256, 1024
_DEFAULT_CHUNK = (1024, 4096)
_FREQUENCIES, _GENOTYPES = 0, 1


def write_genotypes(
    dataset: Dataset,
    location: Location,
    *,
    people: int,
    variants: int,
    populations: int,
    chunks: Sequence[int] | None,
    seed: int,
) -> None:
    """Draw genotypes and write them, one storage unit in memory at a time.

    Parameters
    ----------
    dataset : Dataset
        The entry.
    location : str, path or zarr store
        Where the array is made.
    people, variants, populations : int
        Sizes.
    chunks : sequence of int, optional
        Default up to (1024, 4096).
    seed : int
        Not negative.
    """
    array = store.create_array(
        location,
        shape=(people, variants),
        dtype=np.int8,
        chunks=chunks or (min(people, _DEFAULT_CHUNK[0]), min(variants, _DEFAULT_CHUNK[1])),
        dimension_names=dataset.dims,
        attributes={
            **provenance(dataset),
            "seed": seed,
            "fst": FST,
            "populations": populations,
            "population_of_person": f"person % {populations}",
        },
    )
    for index, region in unit_regions(array):
        array.write_units(index, draw_genotypes(region, populations=populations, seed=seed))


def draw_genotypes(region: Region, *, populations: int, seed: int) -> NDArray[np.int8]:
    """Draw a part of an endless matrix of genotypes.

    Parameters
    ----------
    region : ((first person, past the last), (first variant, past the last))
        The part.
    populations : int
        Person i belongs to population i mod `populations`.
    seed : int
        Names the matrix.

    Returns
    -------
    array of shape (people, variants), int8
        Copies of the alternative allele: 0, 1 or 2. The same numbers however the matrix is cut.

    Notes
    -----
    Ancestral frequency p uniform in [0.1, 0.9]; in each population Beta(p (1-F)/F, (1-p) (1-F)/F)
    with F = 0.05, so that its variance is F p (1-p); genotypes Binomial(2, frequency), drawn by
    inverting the distribution function. As in a real cohort, a variant may not vary in few people.
    """
    (first, last), (left, right) = region
    genotypes = np.empty((last - first, right - left), np.int8)
    for j in range(left // _CELL_VARIANTS, -(-right // _CELL_VARIANTS)):
        at_most_0, at_most_1 = _distribution(j, populations, seed)
        columns, inner_columns = _overlap(j, _CELL_VARIANTS, left, right)
        for i in range(first // _CELL_PEOPLE, -(-last // _CELL_PEOPLE)):
            rows, inner_rows = _overlap(i, _CELL_PEOPLE, first, last)
            population = (i * _CELL_PEOPLE + np.arange(_CELL_PEOPLE)) % populations
            uniform = stream(seed, _GENOTYPES, i, j).random(
                (_CELL_PEOPLE, _CELL_VARIANTS), dtype=np.float32
            )
            cell = (uniform >= at_most_0[population]).view(np.int8)
            cell += (uniform >= at_most_1[population]).view(np.int8)
            genotypes[rows, columns] = cell[inner_rows, inner_columns]
    return genotypes


def _distribution(
    cell: int, populations: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Probabilities of at most 0 and at most 1 copies, each of shape (populations, variants)."""
    generator = stream(seed, _FREQUENCIES, cell)
    ancestral = generator.uniform(0.1, 0.9, _CELL_VARIANTS)
    scale = (1 - FST) / FST
    # One row after another: the first populations do not depend on how many there are.
    p = np.stack(
        [generator.beta(ancestral * scale, (1 - ancestral) * scale) for _ in range(populations)]
    )
    return ((1 - p) ** 2).astype(np.float32), (1 - p**2).astype(np.float32)


def _overlap(cell: int, length: int, start: int, stop: int) -> tuple[slice, slice]:
    """Where a cell and a range meet: as a slice of the range and as a slice of the cell."""
    low, high = max(cell * length, start), min((cell + 1) * length, stop)
    return slice(low - start, high - start), slice(low - cell * length, high - cell * length)
