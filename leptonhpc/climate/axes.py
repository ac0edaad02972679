"""Where numbers are drawn: coordinates as matplotlib takes them, in order, or on the globe."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.errors import OptionError

if TYPE_CHECKING:
    import xarray as xr

_GLOBE = {
    "latitude": ("lat", "latitude", "degrees_north", "degree_north"),
    "longitude": ("lon", "longitude", "degrees_east", "degree_east"),
}
"""Names and units of coordinates."""
_PRESSURE = ("Pa", "hPa", "mbar", "millibar", "bar")
_ACROSS, _UP = ("lon", "longitude", "x"), ("lat", "latitude", "y")
_HIGH = ("plev", "lev", "level", "pressure", "isobaricinhpa", "depth", "height", "altitude", "z")
_SIGNS = {
    "degrees_north": "°N", "degree_north": "°N", "degrees_east": "°E", "degree_east": "°E",
}  # fmt: skip
_WIDE_DEGREES = 120.0
"""Maps wider than this have coarse coastlines."""


def up_and_across(array: xr.DataArray) -> tuple[str, str]:
    """Say which dimension of a map goes up, and which across.

    Parameters
    ----------
    array : DataArray
        Of two dimensions.

    Returns
    -------
    tuple of (str, str)
        Height, depth or pressure goes up, else latitude, else the first; longitude never does.
    """
    first, second = (str(dim) for dim in array.dims)
    swapped = _upward(array, second) > _upward(array, first)
    return (second, first) if swapped else (first, second)


def goes_down(array: xr.DataArray, dim: str) -> bool:
    """Say whether a coordinate counts downwards, by the CF conventions.

    Parameters
    ----------
    array : DataArray
        The map.
    dim : str
        Its dimension.

    Returns
    -------
    bool
        True of depth and pressure.
    """
    told = array[dim].attrs
    return told.get("positive") == "down" or told.get("units") in _PRESSURE


def in_order(array: xr.DataArray, dim: str) -> tuple[NDArray[Any], xr.DataArray]:
    """Give the coordinate of a dimension as matplotlib takes it, and the array in its order.

    Parameters
    ----------
    array : DataArray
        What is drawn.
    dim : str
        Along which.

    Returns
    -------
    tuple of (array of shape (n,), DataArray)
        Dates of other calendars are years, lengths of time days, and what has neither order nor
        place (several levels of an index) is numbered from 0.
    """
    places = np.asarray(array[dim].values)
    if getattr(array.indexes.get(dim), "nlevels", 1) > 1:
        places = np.arange(array.sizes[dim])
    elif places.dtype == object and hasattr(places[0], "dayofyr"):
        places = np.array([date.year + (date.dayofyr - 1) / 365.25 for date in places])
    elif places.dtype.kind == "m":
        places = places / np.timedelta64(1, "D")
    if places.dtype.kind not in "biufM":
        return places, array
    order = np.argsort(places, kind="stable")
    return places[order], array.isel({dim: order})


def globe(array: xr.DataArray, y: str, x: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Give longitudes and latitudes of a map, in one or two dimensions.

    Parameters
    ----------
    array : DataArray
        The map.
    y, x : str
        Its dimensions.

    Returns
    -------
    tuple of arrays
        Longitude and latitude, along `x` and `y` or both.

    Raises
    ------
    OptionError
        If there are none.
    """
    latitude, longitude = (_find(array, kind) for kind in ("latitude", "longitude"))
    dims = set(latitude.dims) | set(longitude.dims)
    if dims == {y, x} and latitude.ndim == longitude.ndim == 2:
        return longitude.transpose(y, x).values, latitude.transpose(y, x).values
    if (latitude.dims, longitude.dims) != ((y,), (x,)):
        message = f"a projection needs latitude and longitude along {y} and {x}; they are along"
        raise OptionError(f"{message} {', '.join(map(str, latitude.dims + longitude.dims))}")
    return longitude.values, latitude.values


def label_of(array: xr.DataArray, dim: str) -> str:
    """Give what is written along an axis: a dimension and the unit of its coordinate.

    Parameters
    ----------
    array : DataArray
        What is drawn.
    dim : str
        Its dimension.

    Returns
    -------
    str
        Such as ``lat (°N)``.
    """
    units = str(array[dim].attrs.get("units", ""))
    return dim if units in ("", "1") else f"{dim} ({_SIGNS.get(units, units)})"


def draw_coastlines(maps: Sequence[Any], longitude: NDArray[Any]) -> None:
    """Draw coastlines, if they can be had.

    Parameters
    ----------
    maps : sequence of cartopy.mpl.geoaxes.GeoAxes
        Of one grid.
    longitude : array
        What they show.

    Warns
    -----
    UserWarning
        If they are not on this machine, and cannot be fetched.
    """
    scale = "110m" if np.ptp(longitude) > _WIDE_DEGREES else "50m"
    reader: Any = import_module("cartopy.io.shapereader")
    try:
        reader.natural_earth(resolution=scale, category="physical", name="coastline")
    except OSError as error:
        warnings.warn(f"maps have no coastlines: {error}", UserWarning, stacklevel=4)
        return
    for axes in maps:
        axes.coastlines(resolution=scale, linewidth=0.5)


def _find(array: xr.DataArray, kind: str) -> xr.DataArray:
    coordinate: xr.DataArray
    for name, coordinate in array.coords.items():
        told = {str(name).lower(), coordinate.attrs.get("units")}
        if coordinate.ndim and (
            coordinate.attrs.get("standard_name") == kind or told & set(_GLOBE[kind])
        ):
            return coordinate
    message = f"a projection needs latitude and longitude; there is no {kind} among"
    raise OptionError(f"{message} {', '.join(map(str, array.coords)) or 'no coordinates'}")


def _upward(array: xr.DataArray, dim: str) -> int:
    name, told = dim.lower(), array[dim].attrs
    if name in _HIGH or "positive" in told or told.get("units") in _PRESSURE:
        return 2
    return 1 if name in _UP else -1 if name in _ACROSS else 0
