"""From what users have (xarray, Zarr, netCDF, GRIB) to fields with named dimensions, lazily."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from glob import glob
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import leptonhpc as lh
from leptonhpc.blocks import Region, Source
from leptonhpc.climate.accessor import register
from leptonhpc.errors import DTypeError, NotAnArrayError, OptionError, ShapeError, StoreError

if TYPE_CHECKING:
    import xarray as xr

_GRIB, _MESSAGE = "GRIB_paramId", {"latitude", "longitude", "y", "x", "values"}
"""What cfgrib calls a variable's kind, and the dimensions of a message, which is decoded whole."""
_PLACES = ("lat", "latitude", "lon", "longitude")
_GRIB_FILES = (".grib", ".grb")
TAKEN = frozenset({
    "mode", "term", "eofs", "pcs", "weights", "mean", "removed", "singular_values", "eigenvalues",
    "variance_fraction", "north_errors", "total_variance",
})  # fmt: skip
"""Names in results: no dimension of a field is called so, and coordinates that are do not come
along."""
_PIECE_NBYTES = 4 << 20
"""Of many files that have no chunks of their own, so much is read at once."""
_DECODED = ("scale_factor", "add_offset", "missing_value", "_Unsigned")


@dataclass(frozen=True)
class Field:
    """One variable on a grid: values that stay where they are, and coordinates in memory."""

    array: xr.DataArray
    """With coordinates and attributes; its values are not touched."""
    source: Source
    dim: str
    """The dimension of samples."""

    @property
    def axis(self) -> int:
        """Which dimension of the source holds samples."""
        return self.array.dims.index(self.dim)

    @property
    def space(self) -> tuple[str, ...]:
        """Names of the other dimensions."""
        return tuple(str(d) for d in self.array.dims if d != self.dim)

    @property
    def space_shape(self) -> tuple[int, ...]:
        """Lengths of the other dimensions."""
        return tuple(int(self.array.sizes[d]) for d in self.space)

    @property
    def labels(self) -> dict[str, NDArray[Any]]:
        """Coordinates by dimension, samples first; numbers from 0 where there are none."""
        return {name: np.asarray(self.array[name].values) for name in (self.dim, *self.space)}

    @property
    def space_coords(self) -> dict[str, Any]:
        """Coordinates that do not run along the samples, but those whose names are taken."""
        kept = self.array.coords.items()
        return {str(k): c.variable for k, c in kept if self.dim not in c.dims and k not in TAKEN}

    @property
    def dim_coords(self) -> dict[str, Any]:
        """Coordinates that run along the samples only."""
        kept = self.array.coords.items()
        return {str(k): c.variable for k, c in kept if c.dims == (self.dim,) and k not in TAKEN}


class LazySource:
    """An xarray variable whose values are in a file, read piece by piece.

    Parameters
    ----------
    variable : xarray.Variable
        The variable, as `xarray.open_dataset` gives it.
    name : str
        For messages.
    """

    shareable = True

    def __init__(self, variable: Any, name: str) -> None:
        self.variable = variable
        self.shape = tuple(int(n) for n in variable.shape)
        self.dtype = np.dtype(variable.dtype)
        self.name = name
        stored = variable.encoding.get("preferred_chunks") or {}
        if _GRIB in variable.attrs:
            stored = {dim: n for dim, n in variable.sizes.items() if dim in _MESSAGE} | stored
        lengths = [stored.get(dim, 1) for dim in variable.dims]
        self.unit = tuple(n if isinstance(n, int) else max(n) for n in lengths)

    def read(self, region: Region, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Give the values of a region."""
        values = np.asarray(self.variable[tuple(slice(*pair) for pair in region)].values)
        if out is None:
            return np.array(values, order="C")
        out[...] = values
        return out

    def units_in(self, region: Region) -> int:
        """Count nothing: what a file reads is its own affair."""
        return 0

    def identity(self) -> dict[str, Any]:
        """Describe the variable by Dask's token."""
        from dask.base import tokenize

        return {"xarray": tokenize(self.variable)}


def open_fields(data: Any, *, dim: str, variable: str | Sequence[str] | None = None) -> list[Field]:
    """Open one field or several of the same samples.

    Parameters
    ----------
    data : DataArray, Dataset, path, list of paths, or list of DataArrays
        Zarr groups, netCDF and GRIB files by path; several files are joined by their coordinates.
    dim : str
        The dimension of samples.
    variable : str or list of str, optional
        Which variables of a Dataset or file; not needed if there is one.

    Returns
    -------
    list of Field
        One per variable.

    Raises
    ------
    OptionError, ShapeError, DTypeError, StoreError
        If there is no such variable or dimension, or samples do not agree.
    """
    _require_xarray()
    if isinstance(data, list | tuple) and not data:
        raise OptionError("a field is needed; the list of fields or files is empty")
    if isinstance(data, list | tuple) and not _are_paths(data):
        found = [one for item in data for one in _arrays(item, variable)]
    else:
        found = _arrays(data, variable)
    fields = [_field(array, dim, group) for array, group in found]
    first: Any = fields[0].array[dim]
    for field in fields[1:]:
        other = field.array[dim]
        if not first.variable.equals(other.variable):
            message = (
                f"fields must have the same {dim}; {fields[0].array.name} has {first.size} and "
                f"{field.array.name} {other.size}, or others. xarray.align makes them agree"
            )
            raise ShapeError(message)
    return fields


def other_place(one: xr.DataArray, other: xr.DataArray) -> str | None:
    """Name the latitude or longitude in two dimensions in which curved grids differ.

    Parameters
    ----------
    one, other : DataArray
        On dimensions of the same names and lengths.

    Returns
    -------
    str or None
        None if both have the same, or only one of them has any.
    """
    for name, place in one.coords.items():
        there = other.coords.get(name)
        if there is None or place.ndim < 2 or not _is_place(str(name), place.attrs):
            continue
        values, others = place.values, there.transpose(*place.dims, missing_dims="ignore").values
        if values.shape != others.shape or not np.array_equal(values, others, equal_nan=True):
            return str(name)
    return None


def _is_place(name: str, told: Mapping[str, Any]) -> bool:
    units = str(told.get("units", "")).lower()
    return name.lower() in _PLACES or told.get("standard_name") in _PLACES or "degree" in units


def _require_xarray() -> None:
    try:
        import_module("xarray")
    except ImportError as error:
        message = f"fields are read with xarray ({error}); install leptonhpc[xarray]"
        raise StoreError(message) from error
    register()


def _are_paths(items: Sequence[Any]) -> bool:
    return bool(items) and all(isinstance(item, str | os.PathLike) for item in items)


def _arrays(
    data: Any, variable: str | Sequence[str] | None
) -> list[tuple[xr.DataArray, str | None]]:
    """Give variables, and the Zarr group that this function opened them in."""
    import xarray as xr

    if isinstance(data, xr.DataArray):
        return [(data, None)]
    given = isinstance(data, xr.Dataset)
    dataset = data if given else _open_dataset(data)
    group = None if given or not _is_zarr(data) else os.fspath(data).rstrip("/")
    found = [str(name) for name in dataset.data_vars if str(name) not in _described_by(dataset)]
    names = [variable] if isinstance(variable, str) else list(variable or found)
    if variable is None and len(found) != 1:
        message = f"variable= says which is meant; there are {', '.join(found) or 'none'}"
        raise OptionError(message)
    for name in names:
        if name not in dataset.data_vars:
            message = f"there is no variable {name!r}; there are {', '.join(found) or 'none'}"
            raise OptionError(message)
    return [(dataset[name], group) for name in names]


def _described_by(dataset: xr.Dataset) -> set[str]:
    """Name the variables that only describe others, by the CF conventions: edges of cells, maps."""
    told = [{**v.encoding, **v.attrs} for v in dataset.variables.values()]
    words = ("bounds", "climatology", "grid_mapping")
    return {str(notes[word]) for notes in told for word in words if word in notes}


def _open_dataset(data: Any) -> xr.Dataset:
    import xarray as xr

    if not isinstance(data, str | os.PathLike | list | tuple):
        message = (
            "a field is an xarray DataArray or Dataset, or the path of a Zarr group, netCDF or "
            f"GRIB file; found {type(data).__name__}"
        )
        raise NotAnArrayError(message)
    paths: Any = data if isinstance(data, list | tuple) else os.fspath(data)
    try:
        if not isinstance(paths, str) or _names_many(paths):
            with warnings.catch_warnings():  # where some files have chunks and the first has none
                warnings.filterwarnings(
                    "ignore", message="The specified chunks separate the stored"
                )
                opened = xr.open_mfdataset(paths, chunks=_pieces(paths))
        elif _is_zarr(paths):
            opened = xr.open_zarr(paths, chunks=None, consolidated=False)
        else:
            opened = xr.open_dataset(paths, chunks=None)
    except FileNotFoundError as error:
        raise StoreError(f"nothing is stored at {data!r}") from error
    except (OSError, ValueError) as error:
        message = f"{data!r} cannot be opened as a Zarr group, netCDF or GRIB file: {error}"
        if any(end in str(data) for end in _GRIB_FILES) and find_spec("cfgrib") is None:
            message += "\nGRIB is read with cfgrib: pip install 'leptonhpc[climate,grib]'"
        raise StoreError(message) from error
    except TypeError as error:  # dates of several calendars
        message = f"{data!r} cannot be joined: {error} x.convert_calendar brings dates to one"
        raise StoreError(f"{message} calendar") from error
    return opened


def _pieces(paths: str | Sequence[Any]) -> dict[Any, int]:
    """Give the chunks of files that have none, such as of netCDF 3 and GRIB: else each is one."""
    import xarray as xr

    first = next(iter(sorted(glob(paths)) if isinstance(paths, str) else paths), None)
    if first is None or _is_zarr(first):
        return {}
    lengths: dict[Any, int] = {}
    with xr.open_dataset(first, chunks=None) as one:
        for variable in one.data_vars.values():
            stored = variable.encoding.get("preferred_chunks") or {}
            if variable.nbytes <= _PIECE_NBYTES or any(
                stored.get(dim, n) != n for dim, n in variable.sizes.items()
            ):
                continue
            dim = variable.dims[0]
            rows = max(1, _PIECE_NBYTES * variable.sizes[dim] // variable.nbytes)
            lengths[dim] = min(rows, lengths.get(dim, rows))
    return lengths


def _names_many(path: str) -> bool:
    """Say whether a path has wildcards; there may be a file whose name looks like it."""
    return "*" in path or (any(mark in path for mark in "?[") and not os.path.exists(path))


def _is_zarr(data: Any) -> bool:
    if not isinstance(data, str | os.PathLike):
        return False
    return os.fspath(data).rstrip("/").endswith(".zarr") or Path(data).is_dir()


def _field(array: xr.DataArray, dim: str, group: str | None) -> Field:
    named: Any = dim
    if isinstance(named, list | tuple):
        message = "dim is the name of one dimension; x.stack(sample=('member', 'time')) makes one"
        raise OptionError(f"{message} of several; found {named!r}")
    if dim not in array.dims:
        message = f"{array.name} has no dimension {dim!r}; it has {', '.join(map(str, array.dims))}"
        raise OptionError(f"{message}. Name the one of samples with dim=")
    if any(length != length for length in array.shape):
        message = f"{array.name} has chunks of unknown sizes, and coordinates need to know them"
        raise ShapeError(f"{message}. x.data.compute_chunk_sizes() finds them, before x is made")
    if array.ndim < 2 or 0 in array.shape:
        message = (
            f"a field needs {dim} and at least one more dimension, none of length 0; "
            f"{array.name} has {dict(array.sizes)}"
        )
        raise ShapeError(message)
    if array.dtype.kind not in "biufc":
        raise DTypeError(f"a field holds numbers; {array.name} has dtype {array.dtype}")
    return Field(array, _source(array, group), dim)


def _source(array: xr.DataArray, group: str | None) -> Source:
    variable: Any = array.variable
    if array.chunks is not None or variable._in_memory:
        return lh.open(array).source
    # what is stored as it is meant is read in whole storage units, without xarray
    fill = array.encoding.get("_FillValue", np.nan)
    if group is not None and fill != fill and not any(key in array.encoding for key in _DECODED):
        raw = lh.open(f"{group}/{array.name}").source
        if raw.dtype == array.dtype:
            return raw
    return LazySource(variable, str(array.name or "the field"))
