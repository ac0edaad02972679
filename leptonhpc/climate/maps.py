"""Maps of what a series has to do with a field, or with the modes of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from leptonhpc.api.destinations import Destination
from leptonhpc.api.kept import KeptParts
from leptonhpc.climate.fields import open_fields
from leptonhpc.climate.formats import keep_one, require_complex_format
from leptonhpc.climate.matrix import digest
from leptonhpc.climate.parts import require_modes, sample_dim
from leptonhpc.climate.passes import blocks_within, passed
from leptonhpc.climate.prepared import find_land, matrix_of
from leptonhpc.errors import NonFiniteError, NotAnArrayError, OptionError, ShapeError

if TYPE_CHECKING:
    import os

    import xarray as xr


def regression_map(
    series: xr.DataArray | xr.Dataset,
    data: Any,
    *,
    dim: str = "time",
    variable: str | Sequence[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    memory: int | float | str | None = None,
    overwrite: bool = False,
) -> xr.DataArray:
    """Regress a field on series, cell by cell and each by itself.

    Parameters
    ----------
    series : DataArray of dimensions (dim,) or (dim, other), or a result of `eof`
        The series; of a result, its principal components.
    data : as for `eof`
        One field at the same samples; not weighted.
    dim : str
        The dimension of samples.
    variable : str, optional
        Which variable of a Dataset or file.
    out : str or path, optional
        A Zarr group (.zarr) or netCDF file (.nc; not of complex numbers) to be made. A call that
        was stopped goes on, from sums of about a minute ago, when it is made again.
    memory : int, float or str, optional
        Budget of a worker: data are read in blocks of a small part of it.
    overwrite : bool
        Replace what is at `out`.

    Returns
    -------
    DataArray
        Change of the field, in its units, that goes with one standard deviation of the series;
        missing on land. One pass.

    Raises
    ------
    ShapeError, OptionError, NonFiniteError, NotAnArrayError
        If series are no DataArray, samples differ, a series is constant or not finite, or data are
        missing here and there or infinite.
    MemoryBudgetError
        If sums of each cell leave no room in `memory` for a piece of the field.
    OutputExistsError, JobMismatchError
        If `out` is taken, or ``OUT.blocks`` beside it was left by another call.
    """
    destination = Destination(out, overwrite=overwrite, scratch="blocks")
    slope, _ = _moments(
        series, data, destination, dim=dim, variable=variable, out=out, memory=memory,
        overwrite=overwrite,
    )  # fmt: skip
    return slope if out is None else keep_one(destination, slope, "regression_map")


def correlation_map(
    series: xr.DataArray | xr.Dataset,
    data: Any,
    *,
    dim: str = "time",
    variable: str | Sequence[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    memory: int | float | str | None = None,
    overwrite: bool = False,
) -> xr.DataArray:
    """Correlate a field with series, cell by cell.

    Parameters
    ----------
    series, data, dim, variable, out, memory, overwrite : as for `regression_map`
        The same.

    Returns
    -------
    DataArray
        Correlations, complex if the field or the series are; missing on land and where the field
        varies by no more than rounding. Two passes.

    Raises
    ------
    LeptonError
        As for `regression_map`.
    """
    destination = Destination(out, overwrite=overwrite, scratch="blocks")
    slope, variance = _moments(
        series, data, destination, dim=dim, variable=variable, out=out, memory=memory,
        overwrite=overwrite, second=True,
    )  # fmt: skip
    found: xr.DataArray = slope / variance.where(variance > 0) ** 0.5
    found = found.assign_attrs(long_name="correlation", units="1").rename("correlation")
    return found if out is None else keep_one(destination, found, "correlation_map")


def _moments(
    series: Any, data: Any, destination: Destination, *, dim: str, variable: Any, out: Any,
    memory: Any, overwrite: bool, second: bool = False,
) -> tuple[xr.DataArray, xr.DataArray]:  # fmt: skip
    """Give covariances with standardised series, and (if asked for) variances of the field."""
    import dask.array as da
    import xarray as xr

    if isinstance(series, xr.Dataset):
        require_modes(series)
        dim, series = sample_dim(series), series.pcs
    if not isinstance(series, xr.DataArray):
        message = "series are an xarray DataArray, or what eof gave; found"
        raise NotAnArrayError(f"{message} {type(series).__name__}")
    (field,) = _one(open_fields(data, dim=dim, variable=variable))
    left, other = _standardised(series, field, dim)
    _require_other_dims(other, field)
    matrix = matrix_of(field, find_land(field))
    factor = left.values.T.conj()
    dtype, n = np.result_type(matrix.dtype, np.float64), len(left)
    if "c" in (dtype.kind, factor.dtype.kind):
        require_complex_format(out)
    inputs = {} if out is None else {"field": matrix.identity(), "series": digest(factor)}
    # products and sums as they come and as they are joined, the map that is made of them
    held = (3 * len(factor) + 4) * matrix.shape[1] * np.result_type(factor, dtype).itemsize
    blocks = blocks_within(matrix, memory, held_nbytes=held, what="a map")
    # less the first sample, a field far from zero keeps its digits and one that is constant is zero
    first = matrix.read(((0, 1), (0, matrix.shape[1])))

    def first_moments(x: Any, rows: slice) -> tuple[Any, ...]:
        less = x.astype(dtype) - first
        return da.from_array(factor[:, rows], chunks=(-1, x.chunks[0])) @ less, less.sum(axis=0)

    def second_moment(x: Any, rows: slice) -> tuple[Any, ...]:
        return ((abs(x.astype(dtype) - first - mean) ** 2).sum(axis=0),)

    kept = KeptParts(destination.scratch, inputs, {"second": second}, overwrite=overwrite)
    with kept.working():
        products, total = passed(
            blocks, first_moments, np.add, kept, name="first-moments", memory=memory
        )
        mean = total / n
        covariance = products / n - factor.mean(axis=1)[:, None] * mean
        variance = np.ones(matrix.shape[1])
        if second:
            (square,) = passed(
                blocks, second_moment, np.add, kept, name="second-moment", memory=memory
            )
            variance = square / n
    if second:
        noise = n * np.finfo(np.float64).eps * np.abs(mean + first[0])
        variance = np.where(variance > noise**2, variance, 0.0)

    def unstack(rows: Any, dims: tuple[str, ...]) -> xr.DataArray:
        masked = np.where(matrix.land, np.nan, rows).reshape((*rows.shape[:-1], *field.space_shape))
        return xr.DataArray(masked, dims=(*dims, *field.space), coords=field.space_coords)

    units = {k: v for k, v in field.array.attrs.items() if k == "units"}
    slope = unstack(covariance, ("series",)).assign_attrs(long_name="regression", **units)
    if other is None:
        slope = slope.isel(series=0)
    else:
        slope = slope.rename(series=other)
        if other in left.coords:
            slope = slope.assign_coords({other: left[other].variable})
    return slope.rename("regression"), unstack(variance, ())


def _one(fields: list[Any]) -> list[Any]:
    if len(fields) != 1:
        raise OptionError(f"one field is needed; found {len(fields)}")
    return fields


def _standardised(series: xr.DataArray, field: Any, dim: str) -> tuple[xr.DataArray, str | None]:
    """Give series as (samples, series) of mean 0 and variance 1, and what numbers them."""
    others = [str(d) for d in series.dims if d != dim]
    if dim not in series.dims or len(others) > 1:
        raise ShapeError(f"series have the dimension {dim} and at most one more; {series.dims}")
    here: Any = series[dim]
    there = field.array[dim]
    if not here.variable.equals(there.variable):
        message = f"series and field must have the same {dim}; they have {here.size}, {there.size}"
        raise ShapeError(f"{message}, or others. xarray.align makes them agree")
    table = series if others else series.expand_dims("series", axis=1)
    table = table.transpose(dim, others[0] if others else "series")
    table = table.astype(np.result_type(table.dtype, np.float64))
    absent = np.argwhere(~np.isfinite(table.values))
    if len(absent):
        place = f"{dim}={here.values[absent[0, 0]]}"
        message = f"series must be finite; {series.name or 'one'} is not at {place}"
        raise NonFiniteError(f"{message}. Leave such samples out of series and field")
    mean = table.mean(dim)
    deviation = table.std(dim)
    if not bool((deviation > here.size * np.finfo(np.float64).eps * abs(mean)).all()):
        raise OptionError("a series does not vary; it explains nothing")
    standard = (table - mean) / deviation
    return standard - standard.mean(dim), (others[0] if others else None)


def _require_other_dims(number: str | None, field: Any) -> None:
    """Refuse a dimension that the field and the series have both: the map would have it twice."""
    if (number or "series") in field.space:
        message = f"the map has a dimension {number or 'series'!r} of the series"
        raise ShapeError(f"{message}; rename that of {field.array.name} (x.rename)")
