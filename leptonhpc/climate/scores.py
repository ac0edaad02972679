"""Scores of modes, the field that modes make, and modes of new data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from leptonhpc.api.destinations import Destination
from leptonhpc.api.kept import KeptParts
from leptonhpc.climate.fields import Field, open_fields, other_place
from leptonhpc.climate.formats import keep_one, require_complex_format
from leptonhpc.climate.matrix import FieldMatrix, Removed, digest
from leptonhpc.climate.parts import field_names, one_field, part, require_modes, sample_dim
from leptonhpc.climate.passes import blocks_within, passed
from leptonhpc.climate.prepared import matrix_of
from leptonhpc.climate.removal import Terms
from leptonhpc.errors import OptionError, ShapeError

if TYPE_CHECKING:
    import os

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
    OptionError, ShapeError
        If there are no such modes, or `pcs` have other dimensions.
    """
    import xarray as xr

    name, dim = one_field(modes, field), sample_dim(modes)
    chosen = _numbers(modes, which)
    patterns = part(modes, "eofs", name).sel(mode=chosen)
    weights = part(modes, "weights", name)
    patterns = patterns / weights.where(weights > 0)
    if pcs is not None and set(pcs.dims) != {dim, "mode"}:
        message = f"pcs have the dimensions {dim} and mode, as project gives them"
        raise ShapeError(f"{message}; these have {', '.join(map(str, pcs.dims))}")
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
    out: str | os.PathLike[str] | None = None,
    memory: int | float | str | None = None,
    overwrite: bool = False,
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
    out : str or path, optional
        A Zarr group (.zarr) or netCDF file (.nc; not of complex scores) to be made. A call that was
        stopped goes on, from scores of about a minute ago, when it is made again.
    memory : int, float or str, optional
        Budget of a worker: data are read in blocks of a small part of it.
    overwrite : bool
        Replace what is at `out`.

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
    MemoryBudgetError
        If EOFs and scores leave no room in `memory` for a piece of the field.
    OutputExistsError, JobMismatchError
        If `out` is taken, or ``OUT.blocks`` beside it was left by another call.
    """
    import xarray as xr

    destination = Destination(out, overwrite=overwrite, scratch="blocks")
    require_modes(modes)
    if modes.attrs.get("method") == "hilbert_eof":
        message = "new data are no analytic signal, and these EOFs are of one (hilbert_eof)"
        raise OptionError(f"{message}. Decompose old and new data together")
    dim, names = sample_dim(modes), field_names(modes)
    fields = open_fields(data, dim=dim, variable=names if variable is None else variable)
    if len(fields) != len(names):
        raise ShapeError(f"modes are of {', '.join(names)}; found {len(fields)} fields")
    bases = [_basis_of(modes, name, new) for name, new in zip(names, fields, strict=True)]
    if any("c" in (one.matrix.dtype.kind, one.right.dtype.kind) for one in bases):
        require_complex_format(out)
    inputs = {} if out is None else {
        name: [one.matrix.identity(), digest(one.right)]
        for name, one in zip(names, bases, strict=True)
    }  # fmt: skip
    kept = KeptParts(destination.scratch, inputs, {"question": "project"}, overwrite=overwrite)
    with kept.working():
        products = sum(_project_one(one, kept, i, memory) for i, one in enumerate(bases))
    gram: Any = sum(one.gram for one in bases)
    # X = P E is solved for P by least squares: rotated E are not orthogonal
    found = xr.Variable((dim, "mode"), np.linalg.solve(gram.T, products.T).T, modes.pcs.attrs)
    coords = {**fields[0].dim_coords, "mode": modes["mode"].variable}
    scored = xr.DataArray(found, coords=coords, name="pcs")
    return scored if out is None else keep_one(destination, scored, "project")


@dataclass(frozen=True)
class _Basis:
    """What new data of one field are projected with: D are the weights, E the EOFs."""

    matrix: FieldMatrix
    """X, of the new data."""
    right: NDArray[Any]
    """D E^H, (cells, modes)."""
    mean: NDArray[Any]
    """(cells,): of the old data."""
    gram: NDArray[Any]
    """E E^H, (modes, modes)."""


def _project_one(basis: _Basis, kept: KeptParts, number: int, memory: Any) -> Any:
    """Give (X - mean) D E^H for one field, block by block."""

    def scored(x: Any, _: slice) -> tuple[Any, ...]:
        return (x @ basis.right,)

    def below(upper: NDArray[Any], lower: NDArray[Any]) -> NDArray[Any]:
        return np.concatenate([upper, lower])

    # EOFs as they were given and weighted, and scores as they come and as they are joined
    rows, modes = basis.matrix.shape[0], basis.right.shape[1]
    held = 2 * basis.right.nbytes + 3 * rows * modes * max(8, basis.right.itemsize)
    blocks = blocks_within(basis.matrix, memory, held_nbytes=held, what="a projection")
    (product,) = passed(blocks, scored, below, kept, name=f"field-{number}", memory=memory)
    return product - basis.mean @ basis.right


def _basis_of(modes: xr.Dataset, name: str, new: Field) -> _Basis:
    """Bring old EOFs into the order of the new field."""
    _require_same_grid(part(modes, "eofs", name), new, name)
    patterns = part(modes, "eofs", name).transpose("mode", *new.space)
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
    return _Basis(matrix_of(new, land, removed), right, means, basis @ basis.conj().T)


def _require_same_grid(patterns: xr.DataArray, new: Field, name: str) -> None:
    space = [str(dim) for dim in patterns.dims if dim != "mode"]
    if set(space) != set(new.space):
        message = f"{name} must be on the grid of the modes: {', '.join(space)}"
        raise ShapeError(
            f"{message}; it has {', '.join(new.space)}. x.rename gives dimensions names"
        )
    for dim in new.space:
        old, found = patterns[dim].values, np.asarray(new.array[dim].values)
        if old.shape != found.shape or not np.array_equal(old, found):
            message = (
                f"{name} must be on the grid of the modes; {dim} has {old.size} values there and "
                f"{found.size} here, or others. xarray's interp brings one onto the other, and "
                "reindex what is in another order"
            )
            raise ShapeError(message)
    place = other_place(patterns, new.array)
    if place is not None:
        message = f"{name} must be on the grid of the modes; {place} has other values there"
        raise ShapeError(f"{message}. xarray's interp and regridders bring one onto the other")


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
        chosen = list(which) if np.iterable(which) else [which]
    if not chosen or len(set(chosen)) < len(chosen) or not set(chosen) <= set(there):
        message = f"modes are from {there[0]} to {there[-1]}, each at most once; found {which!r}"
        raise OptionError(message)
    return chosen
