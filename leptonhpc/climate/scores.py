"""Scores of modes, the field that modes make, and modes of new data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from leptonhpc.climate.fields import Field, open_fields
from leptonhpc.climate.matrix import Removed
from leptonhpc.climate.parts import field_names, one_field, part, require_modes, sample_dim
from leptonhpc.climate.passes import blocks_of, few_at_once
from leptonhpc.climate.prepared import matrix_of
from leptonhpc.climate.removal import Terms
from leptonhpc.errors import OptionError, ShapeError

if TYPE_CHECKING:
    import xarray as xr

Scaling = Literal["none", "unit", "variance"]

_BLOCK_NBYTES = 32 << 20


def scores(modes: xr.Dataset, *, scaling: Scaling = "none") -> xr.DataArray:
    """Give the principal components of a decomposition, scaled.

    Parameters
    ----------
    modes : Dataset
        A result of `eof` or `rotate`.
    scaling : {"none", "unit", "variance"}
        As they are; divided by their standard deviation; multiplied by it.

    Returns
    -------
    DataArray of dimensions (dim, mode)
        The scores.

    Raises
    ------
    OptionError
        If `modes` or `scaling` is something else.
    """
    require_modes(modes)
    deviation = np.sqrt(modes.eigenvalues)
    pcs: xr.DataArray = modes.pcs
    if scaling == "none":
        return pcs.copy()
    if scaling == "unit":
        text = {"long_name": "standardised principal components", "units": "1"}
        scaled: xr.DataArray = (pcs / deviation).assign_attrs(text)
        return scaled
    if scaling == "variance":
        text = {"long_name": "principal components times their standard deviation"}
        longer: xr.DataArray = (pcs * deviation).assign_attrs(text)
        return longer
    raise OptionError(f"scaling is 'none', 'unit' or 'variance'; found {scaling!r}")


def reconstruct(
    modes: xr.Dataset,
    *,
    which: int | Sequence[int] | None = None,
    field: str | None = None,
    mean: bool = True,
    pcs: xr.DataArray | None = None,
) -> xr.DataArray:
    """Make the field that some modes hold.

    Parameters
    ----------
    modes : Dataset
        A result of `eof` or `rotate`.
    which : int or sequence of int, optional
        Numbers of modes, from 1; one number: as many from the first. Default: all there are.
    field : str, optional
        Which, if there are several.
    mean : bool
        Add what was subtracted: mean, climatology, trend.
    pcs : DataArray, optional
        Other scores, as `project` gives them.

    Returns
    -------
    DataArray
        The field in its own units, lazily, in blocks along the samples; missing on land and where
        the weight is zero.

    Raises
    ------
    OptionError
        If there are no such modes.
    """
    import xarray as xr

    name, dim = one_field(modes, field), sample_dim(modes)
    chosen = _numbers(modes, which)
    patterns = part(modes, "eofs", name).sel(mode=chosen)
    weights = part(modes, "weights", name)
    patterns = patterns / weights.where(weights > 0)
    series = (modes.pcs if pcs is None else pcs).sel(mode=chosen)
    row_nbytes = max(1, 8 * patterns.size // len(chosen))
    series = series.chunk({dim: max(1, _BLOCK_NBYTES // row_nbytes), "mode": -1})
    made: xr.DataArray = xr.dot(series, patterns.chunk({"mode": -1}), dim="mode")
    if mean:
        made = made + part(modes, "mean", name)
        if "removed" in modes.attrs:
            made = made + _fitted(modes, name, series)
    attributes = part(modes, "mean", name).attrs
    units = {k: v for k, v in attributes.items() if k == "units"}
    made.attrs = {"long_name": f"{name} of {len(chosen)} modes", **units}
    order = (dim, *(d for d in patterns.dims if d != "mode"))
    return made.transpose(*order).rename(name)


def project(
    modes: xr.Dataset,
    data: Any,
    *,
    variable: str | Sequence[str] | None = None,
    memory: int | float | str | None = None,
) -> xr.DataArray:
    """Find the scores of new data on the modes of old.

    Parameters
    ----------
    modes : Dataset
        A result of `eof` or `rotate`.
    data : as for `eof`
        New samples on the same grid, with values wherever the old ones have them.
    variable : str or list of str, optional
        Which variables of a Dataset or file.
    memory : int, float or str, optional
        Budget of a worker: data are read in blocks of a small part of it.

    Returns
    -------
    DataArray of dimensions (dim, mode)
        What `eof` calls ``pcs``: the mean (climatology, trend) of the old data is subtracted.
        Rotated modes get theirs by least squares.

    Raises
    ------
    ShapeError
        If the grids differ.
    OptionError
        If modes are of `hilbert_eof`: the transform of new data depends on the old.
    NonFiniteError
        If data are missing where the old ones are not; the message names the place.
    """
    import xarray as xr

    require_modes(modes)
    if modes.attrs.get("method") == "hilbert_eof":
        message = "new data are no analytic signal, and these EOFs are of one (hilbert_eof)"
        raise OptionError(f"{message}. Decompose old and new data together")
    dim, names = sample_dim(modes), field_names(modes)
    fields = open_fields(data, dim=dim, variable=names if variable is None else variable)
    if len(fields) != len(names):
        raise ShapeError(f"modes are of {', '.join(names)}; found {len(fields)} fields")
    products: Any = 0
    gram: Any = 0
    for name, new in zip(names, fields, strict=True):
        product, own = _project_one(modes, name, new, memory)
        products, gram = products + product, gram + own
    # X = P E is solved for P by least squares: rotated E are not orthogonal
    found = xr.Variable((dim, "mode"), np.linalg.solve(gram.T, products.T).T, modes.pcs.attrs)
    return xr.DataArray(
        found, coords={**fields[0].dim_coords, "mode": modes["mode"].variable}, name="pcs"
    )


def _project_one(modes: xr.Dataset, name: str, new: Field, memory: Any) -> tuple[Any, Any]:
    """Give X D E^H for one field, block by block, and E E^H: D are the weights, E the EOFs."""
    patterns = part(modes, "eofs", name).transpose("mode", *new.space)
    _require_same_grid(patterns, new, name)
    flat = patterns.values.reshape(patterns.sizes["mode"], -1)
    land = np.isnan(flat[0])
    removed = None
    if "removed" in modes.attrs:
        terms = Terms.from_json(modes.attrs["removed"])
        kept = part(modes, "removed", name).transpose("term", *new.space)
        coefficients = np.nan_to_num(kept.values.reshape(kept.sizes["term"], -1))
        removed = Removed(terms.evaluate(new.array[new.dim]), coefficients)
    spatial = part(modes, "weights", name).transpose(*new.space)
    factors = np.where(land, 0, spatial.values.reshape(-1))
    means = np.where(land, 0, part(modes, "mean", name).transpose(*new.space).values.reshape(-1))
    basis = np.where(land, 0, flat)
    right = (basis.conj() * factors).T
    matrix = matrix_of(new, land, removed)
    blocks = blocks_of(matrix, memory)
    with few_at_once(blocks, memory):
        product = np.asarray((blocks.to_dask() @ right).compute())
    return product - means @ right, basis @ basis.conj().T


def _require_same_grid(patterns: xr.DataArray, new: Field, name: str) -> None:
    for dim in new.space:
        old, found = patterns[dim].values, np.asarray(new.array[dim].values)
        if old.shape != found.shape or not np.array_equal(old, found):
            message = (
                f"{name} must be on the grid of the modes; {dim} has {old.size} values there and "
                f"{found.size} here, or others. xarray's interp brings one onto the other"
            )
            raise ShapeError(message)


def _fitted(modes: xr.Dataset, name: str, series: xr.DataArray) -> xr.DataArray:
    import xarray as xr

    dim = sample_dim(modes)
    terms = Terms.from_json(modes.attrs["removed"])
    design = xr.DataArray(terms.evaluate(series[dim]), dims=(dim, "term"))
    design = design.assign_coords({dim: series[dim]}).chunk({dim: series.chunksizes[dim]})
    fitted: xr.DataArray = xr.dot(design, part(modes, "removed", name), dim="term")
    return fitted


def _numbers(modes: xr.Dataset, which: int | Sequence[int] | None) -> list[int]:
    there = [int(number) for number in modes["mode"].values]
    if which is None:
        return there
    if isinstance(which, int | np.integer):
        chosen = list(range(1, int(which) + 1))
    else:
        chosen = [int(number) for number in which]
    if not chosen or not set(chosen) <= set(there):
        raise OptionError(f"modes are from {there[0]} to {there[-1]}; found {which}")
    return chosen
