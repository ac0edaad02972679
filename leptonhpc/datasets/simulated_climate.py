"""Monthly temperature with teleconnection modes that are known, on a grid of any size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from leptonhpc import store
from leptonhpc.datasets.catalogue import Dataset
from leptonhpc.datasets.gridded import write_header
from leptonhpc.datasets.netcdf import Variable
from leptonhpc.datasets.planted_modes import plant_modes
from leptonhpc.datasets.storing import band_chunks
from leptonhpc.datasets.streams import stream
from leptonhpc.store import StoredArray
from leptonhpc.store.locations import Location

NOISE_LAG1 = 0.5
"""Correlation of the red noise with itself one month later; its standard deviation is 1 K."""

_CELL_LATS = 16
_NOISE = 2
_FIRST_MONTH = np.datetime64("1700-01", "M")


def write_climate(
    dataset: Dataset,
    location: Location,
    *,
    times: int,
    lats: int,
    lons: int,
    modes: int,
    chunks: Sequence[int] | None,
    seed: int,
) -> None:
    """Simulate a temperature field and write it as a Zarr group.

    Parameters
    ----------
    dataset : Dataset
        The entry.
    location : str, path or zarr store
        Where the group is made.
    times, lats, lons : int
        The grid.
    modes : int
        Planted modes.
    chunks : sequence of int, optional
        Of the main array; default bands of whole fields.
    seed : int
        Not negative.

    Notes
    -----
    The planted modes are arrays of the group: `mode_pattern` in kelvin and `mode_score` without
    unit, whose product is their part of the field. In memory is one storage unit along time and
    latitude, whole along longitude, and the modes.
    """
    coordinates = _coordinates(times, lats, lons)
    patterns, scores = plant_modes(coordinates[1].values, lons, times, modes, seed=seed)
    planted = (
        Variable("mode", ("mode",), np.arange(1, modes + 1), {"long_name": "planted mode"}),
        Variable(
            "mode_pattern",
            ("mode", "lat", "lon"),
            patterns,
            {"units": "K", "long_name": "pattern of a planted mode"},
        ),
        Variable(
            "mode_score",
            ("time", "mode"),
            scores,
            {"units": "1", "long_name": "score of a planted mode"},
        ),
    )
    attributes = {"seed": seed, "noise_lag1": NOISE_LAG1, "noise_standard_deviation": 1.0}
    write_header(location, dataset, (*coordinates, *planted), attributes=attributes)
    shape = (times, lats, lons)
    array = store.create_array(
        store.join(location, dataset.main),
        shape=shape,
        dtype=np.float32,
        chunks=chunks or band_chunks(shape, np.float32),
        dimension_names=dataset.dims,
        attributes={"units": "degC", "long_name": "simulated air temperature"},
        fill_value=np.nan,
        compression="none",  # noise does not get smaller
    )
    _write_field(array, coordinates[1].values, patterns, scores, seed)


def _write_field(
    array: StoredArray,
    latitude: NDArray[np.float64],
    patterns: NDArray[np.float32],
    scores: NDArray[np.float32],
    seed: int,
) -> None:
    times, lats, lons = array.shape
    for j, low in enumerate(range(0, lats, array.unit[1])):
        high = min(low + array.unit[1], lats)
        fields = _fields(latitude[low:high], patterns[:, low:high], scores, low, seed)
        for i, start in enumerate(range(0, times, array.unit[0])):
            block = np.empty((min(array.unit[0], times - start), high - low, lons), np.float32)
            for field in block:
                field[...] = next(fields)
            array.write_units((i, j, 0), block)


def _fields(
    latitude: NDArray[np.float64],
    patterns: NDArray[np.float32],
    scores: NDArray[np.float32],
    first_lat: int,
    seed: int,
) -> Iterator[NDArray[np.float32]]:
    """Yield the field of a band of latitudes, month after month.

    Additions are elementwise and in one order, so that no number depends on the chunks.
    """
    _, lats, lons = patterns.shape
    seasons = _seasonal_cycle(latitude)
    noise = _innovation(0, first_lat, lats, lons, seed)
    for month, score in enumerate(scores):
        field = noise + seasons[month % 12, :, np.newaxis]
        for factor, pattern in zip(score, patterns, strict=True):
            field += factor * pattern
        yield field
        # x[t+1] = r x[t] + sqrt(1 - r^2) e[t+1], which keeps the variance at 1
        noise *= np.float32(NOISE_LAG1)
        fresh = _innovation(month + 1, first_lat, lats, lons, seed)
        fresh *= np.float32(np.sqrt(1 - NOISE_LAG1**2))
        noise += fresh


def _innovation(month: int, first_lat: int, lats: int, lons: int, seed: int) -> NDArray[np.float32]:
    first = first_lat // _CELL_LATS
    cells = [
        stream(seed, _NOISE, month, cell).standard_normal((_CELL_LATS, lons), dtype=np.float32)
        for cell in range(first, -(-(first_lat + lats) // _CELL_LATS))
    ]
    skip = first_lat - first * _CELL_LATS
    return np.concatenate(cells)[skip : skip + lats]


def _seasonal_cycle(latitude: NDArray[np.float64]) -> NDArray[np.float32]:
    """Climatology of shape (12, lats), warmest in July in the north and in January in the south."""
    sine = np.sin(np.deg2rad(latitude))
    phase = np.cos(2 * np.pi * (np.arange(12) - 6) / 12)
    return np.asarray(27 - 45 * sine**2 + 15 * sine * phase[:, np.newaxis], np.float32)


def _coordinates(times: int, lats: int, lons: int) -> tuple[Variable, Variable, Variable]:
    months = (_FIRST_MONTH + np.arange(times)).astype("datetime64[D]")
    days = (months - months[0]).astype(np.float64)
    return (
        Variable(
            "time",
            ("time",),
            days,
            {
                "units": f"days since {months[0]}",
                "calendar": "proleptic_gregorian",
                "standard_name": "time",
                "axis": "T",
            },
        ),
        Variable(
            "lat",
            ("lat",),
            -90 + (np.arange(lats) + 0.5) * 180 / lats,
            {"units": "degrees_north", "standard_name": "latitude", "axis": "Y"},
        ),
        Variable(
            "lon",
            ("lon",),
            np.arange(lons) * 360 / lons,
            {"units": "degrees_east", "standard_name": "longitude", "axis": "X"},
        ),
    )
