"""Maps of what a series has to do with a field, or with the modes of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from leptonhpc.climate.fields import open_fields
from leptonhpc.climate.parts import require_modes, sample_dim
from leptonhpc.climate.passes import blocks_of, few_at_once
from leptonhpc.climate.prepared import find_land, matrix_of
from leptonhpc.errors import NonFiniteError, OptionError, ShapeError

if TYPE_CHECKING:
    import xarray as xr


def regression_map(
    series: xr.DataArray | xr.Dataset,
    data: Any,
    *,
    dim: str = "time",
    variable: str | Sequence[str] | None = None,
    memory: int | float | str | None = None,
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
    memory : int, float or str, optional
        Budget of a worker: data are read in blocks of a small part of it.

    Returns
    -------
    DataArray
        Change of the field, in its units, that goes with one standard deviation of the series;
        missing on land. One pass.

    Raises
    ------
    ShapeError, OptionError, NonFiniteError
        If samples differ, a series is constant or not finite, or data are missing here and there
        or infinite.
    """
    return _moments(series, data, dim=dim, variable=variable, memory=memory)[0]


def correlation_map(
    series: xr.DataArray | xr.Dataset,
    data: Any,
    *,
    dim: str = "time",
    variable: str | Sequence[str] | None = None,
    memory: int | float | str | None = None,
) -> xr.DataArray:
    """Correlate a field with series, cell by cell.

    Parameters
    ----------
    series, data, dim, variable, memory : as for `regression_map`
        The same.

    Returns
    -------
    DataArray
        Correlations, complex if the field or the series are; missing on land and where the field
        varies by no more than rounding. Two passes.

    Raises
    ------
    ShapeError, OptionError, NonFiniteError
        As for `regression_map`.
    """
    slope, variance = _moments(series, data, dim=dim, variable=variable, memory=memory, second=True)
    found: xr.DataArray = slope / variance.where(variance > 0) ** 0.5
    return found.assign_attrs(long_name="correlation", units="1").rename("correlation")


def _moments(
    series: Any, data: Any, *, dim: str, variable: Any, memory: Any, second: bool = False
) -> tuple[xr.DataArray, xr.DataArray]:
    """Give covariances with standardised series, and (if asked for) variances of the field."""
    import dask.array as da
    import xarray as xr

    if isinstance(series, xr.Dataset):
        require_modes(series)
        dim, series = sample_dim(series), series.pcs
    (field,) = _one(open_fields(data, dim=dim, variable=variable))
    left, other = _standardised(series, field, dim)
    matrix = matrix_of(field, find_land(field))
    blocks = blocks_of(matrix, memory)
    # less the first sample, a field far from zero keeps its digits and one that is constant is zero
    first = matrix.read(((0, 1), (0, matrix.shape[1])))
    x = blocks.to_dask().astype(np.result_type(matrix.dtype, np.float64)) - first
    factor = left.values.T.conj()
    n = len(left)
    rows = da.from_array(factor, chunks=(-1, blocks.chunks[0]))
    with few_at_once(blocks, memory):
        products, mean = da.compute(rows @ x / n, x.mean(axis=0))
    covariance = products - factor.mean(axis=1)[:, None] * mean
    variance = np.ones(matrix.shape[1])
    if second:
        with few_at_once(blocks, memory):
            variance = (abs(x - mean) ** 2).mean(axis=0).compute()
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
    here, there = series[dim], field.array[dim]
    if here.size != there.size or not np.array_equal(here.values, there.values):
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
