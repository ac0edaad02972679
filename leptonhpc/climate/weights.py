"""Weights of grid cells: by latitude, or as given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from leptonhpc.climate.fields import Field
from leptonhpc.errors import OptionError, ShapeError

if TYPE_CHECKING:
    import xarray as xr

Weighting = Literal["coslat", "sqrt_coslat"]

_NORTH = ("degrees_north", "degree_north", "degree_N", "degrees_N", "degreeN", "degreesN")


def cell_weights(
    field: Field, weights: Weighting | xr.DataArray | None, land: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Give what each cell is multiplied by.

    Parameters
    ----------
    field : Field
        The field.
    weights : {"coslat", "sqrt_coslat"}, DataArray or None
        As for `eof`.
    land : array of shape (cells,)
        Cells without data; their weight is of no account and becomes 0.

    Returns
    -------
    array of shape (cells,)
        The factors, not negative.

    Raises
    ------
    OptionError, ShapeError
        If there is no latitude, it is out of range, or weights do not fit.
    """
    if weights is None:
        found = np.ones(len(land))
    elif isinstance(weights, str):
        found = _by_latitude(field, weights)
    else:
        found = _as_given(field, weights)
    found = np.where(land, 0.0, found)
    if not np.all(np.isfinite(found) & (found >= 0)):
        worst = found[~(np.isfinite(found) & (found >= 0))][0]
        message = (
            "weights must be finite and not negative where there are data, and latitude be known; "
            f"found {worst}"
        )
        raise OptionError(message)
    if not found.any():
        raise OptionError("all weights are zero; nothing is left of the field")
    return found


def find_latitude(array: xr.DataArray, dim: str | None = None) -> xr.DataArray:
    """Find the latitude of a field by the CF conventions, else by its name.

    Parameters
    ----------
    array : DataArray
        The field.
    dim : str, optional
        The dimension of samples: what runs along it is no latitude of cells.

    Returns
    -------
    DataArray
        The coordinate, in degrees north (converted, if its units are radians). A single number
        counts only if nothing has a dimension.

    Raises
    ------
    OptionError
        If there is none or more than one, or it is not between -90 and 90.
    """
    named = [coordinate for name, coordinate in array.coords.items() if _is_north(name, coordinate)]
    found = [one for one in named if one.ndim and dim not in one.dims]
    found = found or [one for one in named if not one.ndim]
    if len(found) > 1:
        names = ", ".join(str(one.name) for one in found)
        message = f"{array.name} must have one latitude; {names} all say that they are it"
        raise OptionError(f"{message}. Drop the others (x.drop_vars), or give weights=")
    if not found:
        message = (
            f"{array.name} has no latitude (standard_name, units degrees_north, or a coordinate "
            f"lat or latitude); it has {', '.join(map(str, array.coords)) or 'no coordinates'}. "
            "Give weights= as a DataArray, or None"
        )
        raise OptionError(message)
    latitude: xr.DataArray = found[0]
    if str(latitude.attrs.get("units", "")).lower().startswith("rad"):
        latitude = latitude.astype(float) * (180 / np.pi)
    low, high = float(latitude.min()), float(latitude.max())
    if not (low >= -90.001 and high <= 90.001):
        message = (
            f"latitude is from -90 to 90 degrees north; {latitude.name} of {array.name} is from "
            f"{low:g} to {high:g}"
        )
        raise OptionError(message)
    return latitude


def _is_north(name: Any, coordinate: xr.DataArray) -> bool:
    return (
        coordinate.attrs.get("standard_name") == "latitude"
        or coordinate.attrs.get("units") in _NORTH
        or str(name).lower() in ("lat", "latitude")
    )


def _by_latitude(field: Field, weights: str) -> NDArray[np.float64]:
    if weights not in ("coslat", "sqrt_coslat"):
        message = (
            "weights is 'coslat' (also called 'sqrt_coslat': multiply by the root of the cosine of "
            f"latitude), a DataArray, or None; found {weights!r}"
        )
        raise OptionError(message)
    latitude = find_latitude(field.array, field.dim).astype(float)
    cosine: Any = np.cos(latitude * (np.pi / 180))
    # the cosine of 90 degrees is 6e-17 in doubles: a pole has no area; what is missing stays so
    return _spread(field, np.sqrt(cosine.clip(0, 1).where(~(abs(latitude) > 90 - 1e-6), 0.0)))


def _as_given(field: Field, weights: Any) -> NDArray[np.float64]:
    if not hasattr(weights, "variable") or weights.dtype.kind not in "biuf":
        kind = f"{getattr(weights, 'dtype', '')} {type(weights).__name__}".strip()
        message = f"weights are given as a DataArray of real numbers; found {kind}"
        raise OptionError(message)
    strange = [str(d) for d in weights.dims if d not in field.space]
    if strange:
        message = (
            f"weights have dimensions of the field other than {field.dim}: "
            f"{', '.join(field.space)}; found {', '.join(strange)}"
        )
        raise ShapeError(message)
    return _spread(field, weights)


def _spread(field: Field, values: Any) -> NDArray[np.float64]:
    """Bring weights onto every cell, by the names of dimensions."""
    grid = field.array.isel({field.dim: 0}, drop=True)
    for dim in values.dims:
        if dim in values.coords and dim in grid.coords and values.sizes[dim] == grid.sizes[dim]:
            if not values[dim].variable.equals(grid[dim].variable):
                raise ShapeError(f"weights and {field.array.name} differ in {dim}")
        elif values.sizes[dim] != grid.sizes[dim]:
            message = (
                f"weights have {values.sizes[dim]} of {dim}; {field.array.name} has "
                f"{grid.sizes[dim]}"
            )
            raise ShapeError(message)
    plain = values.variable.set_dims(dict(zip(field.space, field.space_shape, strict=True)))
    spread = np.asarray(plain.transpose(*field.space).values, dtype=np.float64)
    return spread.reshape(-1)
