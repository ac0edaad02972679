"""Formats of files, and what they can hold."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from leptonhpc.api.destinations import Destination
from leptonhpc.errors import OptionError

if TYPE_CHECKING:
    import xarray as xr

    from leptonhpc.climate.prepared import Prepared


def require_complex_format(out: str | os.PathLike[str] | None) -> None:
    """Refuse a format that holds no complex numbers.

    Parameters
    ----------
    out : str, path or None
        Where complex numbers would go.

    Raises
    ------
    OptionError
        If it is a netCDF file.
    """
    if out is not None and os.fspath(out).endswith((".nc", ".nc4")):
        message = f"complex modes go to a Zarr group; netCDF has no complex numbers: {out!s}"
        raise OptionError(f"{message}. Give out= a name that ends in .zarr")


def require_storable(out: str | os.PathLike[str] | None, prepared: Sequence[Prepared]) -> None:
    """Refuse coordinates that no format holds, before anything is computed.

    Parameters
    ----------
    out : str, path or None
        Where a result with them would go.
    prepared : sequence of Prepared
        The fields.

    Raises
    ------
    OptionError
        If a dimension has an index of several levels, as ``x.stack`` makes it.
    """
    for one in () if out is None else prepared:
        array = one.field.array
        for dim in array.dims:
            if getattr(array.indexes.get(dim), "nlevels", 1) > 1:
                message = f"{dim} of {one.name} has a MultiIndex, which no file holds"
                raise OptionError(f"{message}; x.reset_index({str(dim)!r}) keeps its levels")


def keep_one(destination: Destination, array: xr.DataArray, method: str) -> xr.DataArray:
    """Write one array, and give it as it is stored.

    Parameters
    ----------
    destination : Destination
        A place: not memory.
    array : DataArray
        What is written, under its name or as ``field``.
    method : str
        What made it: an attribute of the group or file.

    Returns
    -------
    DataArray
        The same; from a Zarr group lazily.
    """
    name = str(array.name or "field")
    attributes = {"Conventions": "CF-1.8", "method": method}
    dataset = array.to_dataset(name=name).assign_attrs(attributes)
    return destination.keep(dataset)[name].rename(array.name)
