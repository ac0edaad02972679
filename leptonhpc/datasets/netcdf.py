"""One variable of a small netCDF file, version 3 or 4, read into memory with its coordinates."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.errors import DatasetError

_KEPT_ATTRIBUTES = (
    "units", "calendar", "standard_name", "long_name", "axis", "positive", "cell_methods", "source",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Variable:
    """One named array with named dimensions; missing values are NaN."""

    name: str
    dims: tuple[str, ...]
    values: NDArray[Any]
    attributes: Mapping[str, Any]


def read_netcdf(data: bytes, name: str) -> tuple[Variable, tuple[Variable, ...]]:
    """Read one variable and the coordinates of its dimensions.

    Parameters
    ----------
    data : bytes
        The file, in the classic format (netCDF 3) or in HDF5 (netCDF 4).
    name : str
        The variable.

    Returns
    -------
    tuple of (Variable, tuple of Variable)
        The variable, dtype as stored in native byte order, and one coordinate per dimension.

    Raises
    ------
    DatasetError
        If the file is netCDF 4 and h5netcdf with h5py is not installed.
    """
    if data.startswith(b"CDF"):
        return _read_classic(data, name)
    return _read_hdf5(data, name)


def _read_classic(data: bytes, name: str) -> tuple[Variable, tuple[Variable, ...]]:
    from scipy.io import netcdf_file

    with netcdf_file(io.BytesIO(data), mmap=False) as file:
        found = file.variables
        main = found[name]
        variables = [
            _variable(key, tuple(found[key].dimensions), found[key].data, found[key]._attributes)
            for key in (name, *main.dimensions)
        ]
    return variables[0], tuple(variables[1:])


def _read_hdf5(data: bytes, name: str) -> tuple[Variable, tuple[Variable, ...]]:
    try:
        import h5netcdf  # type: ignore[import-untyped]

        file = h5netcdf.File(io.BytesIO(data), "r")  # imports h5py
    except ImportError as error:
        message = (
            "this data set is a netCDF 4 file and needs h5netcdf with h5py "
            f"({error}); install leptonhpc[xarray]"
        )
        raise DatasetError(message) from error
    with file:
        found = file.variables
        variables = [
            _variable(key, tuple(found[key].dimensions), found[key][...], dict(found[key].attrs))
            for key in (name, *found[name].dimensions)
        ]
    return variables[0], tuple(variables[1:])


def _variable(
    name: str, dims: tuple[str, ...], values: NDArray[Any], attributes: Mapping[str, Any]
) -> Variable:
    native = np.array(values, dtype=values.dtype.newbyteorder("="))
    for key in ("_FillValue", "missing_value"):
        if key in attributes and native.dtype.kind == "f":
            native[native == native.dtype.type(attributes[key])] = np.nan
    kept = {key: _text(attributes[key]) for key in _KEPT_ATTRIBUTES if key in attributes}
    return Variable(name, dims, native, kept)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
