"""From columns of a matrix back to maps with dimensions and coordinates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.blocks import BlockedArray
from leptonhpc.climate.prepared import Prepared


@dataclass(frozen=True)
class Grid:
    """The columns of one field."""

    prepared: Prepared
    begin: int
    end: int
    suffix: str
    """Of names of variables: empty if there is one field."""

    def unstack(self, rows: Any, dims: Sequence[str], attributes: dict[str, Any]) -> Any:
        """Give rows of numbers, one for each cell, as maps; land becomes missing.

        Parameters
        ----------
        rows : array of shape (..., cells), NumPy or Dask
            The numbers.
        dims : sequence of str
            Names of the dimensions before the cells.
        attributes : dict
            Of the variable.

        Returns
        -------
        xarray.Variable
            The maps, as lazy as the rows.
        """
        import dask.array as da
        import xarray as xr

        land = self.prepared.matrix.land
        where = np.where if isinstance(rows, np.ndarray) else da.where
        masked = where(land, rows.dtype.type(np.nan), rows) if land.any() else rows
        shape = self.prepared.field.space_shape
        maps = masked.reshape((*rows.shape[:-1], *shape))
        return xr.Variable((*dims, *self.prepared.field.space), maps, attributes)


def grids(prepared: Sequence[Prepared]) -> Iterator[Grid]:
    """Give each field's columns.

    Parameters
    ----------
    prepared : sequence of Prepared
        The fields, in the order of columns.

    Yields
    ------
    Grid
        One per field.
    """
    begin = 0
    for one in prepared:
        end = begin + one.matrix.shape[1]
        yield Grid(one, begin, end, f"_{one.name}" if len(prepared) > 1 else "")
        begin = end


def on_grid(grid: Grid, vh: Any, mean: NDArray[Any]) -> dict[str, Any]:
    """Give the maps of one field: EOFs, weights, mean, and what was removed.

    Parameters
    ----------
    grid : Grid
        The field.
    vh : array of shape (k, n), NumPy or blocked
        Right singular vectors of all fields.
    mean : array of shape (n,)
        Of all fields.

    Returns
    -------
    dict of xarray.Variable
        By name.
    """
    one, suffix = grid.prepared, grid.suffix
    units = {k: v for k, v in one.field.array.attrs.items() if k == "units"}
    columns = slice(grid.begin, grid.end)
    rows = vh.to_dask()[:, columns] if isinstance(vh, BlockedArray) else vh[:, columns]
    eofs = {"long_name": "empirical orthogonal functions of the weighted field", "units": "1"}
    average = {"long_name": "mean that was subtracted", **units}
    found = {
        f"eofs{suffix}": grid.unstack(rows, ("mode",), eofs),
        f"weights{suffix}": grid.unstack(
            one.weights, (), {"long_name": "what cells were multiplied by", "units": "1"}
        ),
        f"mean{suffix}": grid.unstack(mean[columns], (), average),
    }
    if one.terms is not None and one.matrix.removed is not None:
        removed = {"long_name": "coefficients of what was removed", **units}
        coefficients = one.matrix.removed.coefficients
        found[f"removed{suffix}"] = grid.unstack(coefficients, ("term",), removed)
    return found


def coordinates(prepared: Sequence[Prepared]) -> dict[str, Any]:
    """Give the coordinates of a result: those of all fields, without any that contradict.

    Parameters
    ----------
    prepared : sequence of Prepared
        The fields.

    Returns
    -------
    dict of xarray.Variable
        By name; a height of 2 m of one field and of 10 m of another are left out.
    """
    found = dict(prepared[0].field.dim_coords)
    contradicting = set()
    for one in prepared:
        for name, variable in one.field.space_coords.items():
            if not found.setdefault(name, variable).equals(variable):
                contradicting.add(name)
    return {name: variable for name, variable in found.items() if name not in contradicting}


def mode_index(modes: int) -> dict[str, Any]:
    """Give the coordinate of modes, from 1.

    Parameters
    ----------
    modes : int
        How many.

    Returns
    -------
    dict
        One coordinate.
    """
    return {"mode": ("mode", np.arange(1, modes + 1), {"long_name": "number of the mode"})}
