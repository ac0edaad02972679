"""Empirical orthogonal functions of fields in xarray, by the certified svd."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

import leptonhpc as lh
from leptonhpc.api.destinations import Destination
from leptonhpc.blocks import BlockedArray
from leptonhpc.climate.assembled import assemble
from leptonhpc.climate.fields import open_fields
from leptonhpc.climate.formats import require_complex_format, require_storable
from leptonhpc.climate.gaps import fill_gaps
from leptonhpc.climate.parts import require_whole
from leptonhpc.climate.prepared import Prepared, joined, prepare
from leptonhpc.climate.room import room
from leptonhpc.climate.spectra import require_ddof
from leptonhpc.climate.variance import forgetting_constants, require_variance, rounding_of
from leptonhpc.climate.weights import Weighting
from leptonhpc.errors import OptionError

if TYPE_CHECKING:
    import os

    import xarray as xr

Calendar = Literal["season", "month", "dayofyear", "hour"]


def eof(
    data: Any,
    modes: int = 10,
    *,
    dim: str = "time",
    variable: str | Sequence[str] | None = None,
    weights: Weighting | xr.DataArray | Sequence[Any] | None = "coslat",
    anomalies: Calendar | None = None,
    detrend: bool | int = False,
    gaps: Literal["refuse", "em"] = "refuse",
    ddof: int = 1,
    accuracy: float = 1e-6,
    most_passes: int = 30,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    memory: int | float | str | None = None,
    overwrite: bool = False,
    progress: bool | None = None,
) -> xr.Dataset:
    """Find the empirical orthogonal functions (EOFs) of one field or of several.

    Parameters
    ----------
    data : DataArray, Dataset, path, list of paths, or list of these
        A field with the dimension `dim` and any others, in memory, in files or larger than
        memory, in any chunks: xarray with or without Dask, the path of a Zarr group, netCDF or GRIB
        file, or many files. Several variables are taken together.
    modes : int
        How many.
    dim : str
        The dimension of samples.
    variable : str or list of str, optional
        Which variables of a Dataset or file; not needed if there is one.
    weights : {"coslat", "sqrt_coslat"}, DataArray, list or None
        What cells are multiplied by. "coslat", also called "sqrt_coslat": the root of the cosine of
        latitude, so that variance counts by area; or numbers; or a list with one for each variable.
    anomalies : {"season", "month", "dayofyear", "hour"}, optional
        Take departures from the mean of each season, month, ..., not only from the mean. Days of
        the year are dates: 29 February is taken with 28 February.
    detrend : bool or int
        Remove a polynomial in `dim` of this degree; True is a straight line.
    gaps : {"refuse", "em"}
        What scattered missing values are: an error, or first filled by `fill_gaps`.
    ddof : int
        Variances are sums of squares over samples less this.
    accuracy : float
        As for `leptonhpc.svd`: residual of each mode, relative, if it is found by iteration.
    most_passes : int
        When an iteration gives up.
    seed : int
        Of random starts.
    out : str or path, optional
        A Zarr group (.zarr) or netCDF file (.nc) to be made. A decomposition that was stopped goes
        on when the same call is made again.
    memory : int, float or str, optional
        Budget of each worker, as for `leptonhpc.svd`.
    overwrite : bool
        Replace what is at `out`.
    progress : bool, optional
        Show a bar.

    Returns
    -------
    Dataset
        ``eofs`` (mode, ...): orthonormal, of the weighted field; missing on land. ``pcs`` (dim,
        mode): the weighted field projected on them. ``singular_values``, ``eigenvalues``
        (variances), ``variance_fraction``, ``north_errors`` (of eigenvalues), ``total_variance``,
        ``weights``, ``mean``. Of several variables, one of ``eofs_NAME``, ``weights_NAME``,
        ``mean_NAME`` each. Certificate and report of the svd are attributes, in JSON.

    Raises
    ------
    OptionError, ShapeError, DTypeError
        If there is no such dimension, variable or latitude, latitude is out of range, there are
        fewer than `modes` modes, or the field does not vary.
    NonFiniteError
        If a cell has values at some samples and not at others, and `gaps` is "refuse"; the message
        names cell and sample.
    OutputExistsError
        If `out` is taken, or holds an unfinished call with other data or options, or something else
        is where it would be made (``OUT.partial``, ``OUT.svd``): that is never removed.
    MemoryBudgetError
        If what is removed (a coefficient of each term for each cell) leaves no room in `memory`.

    Notes
    -----
    Land costs no special treatment: its cells are zero while they are read. `anomalies` and
    `detrend` take one pass more. The field, less its mean, times the weights, is the sum of ``pcs``
    times ``eofs`` over all modes [1]_; errors of eigenvalues are by North's rule of thumb [2]_.

    References
    ----------
    .. [1] A. Hannachi, I. T. Jolliffe, D. B. Stephenson, Empirical orthogonal functions and related
       techniques in atmospheric science: a review, Int. J. Climatol. 27, 1119-1152, 2007.
    .. [2] G. R. North et al., Sampling errors in the estimation of empirical orthogonal functions,
       Mon. Wea. Rev. 110, 699-706, 1982, equation 24.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> t, x = np.arange(40.0), np.arange(6.0)
    >>> wave = xr.DataArray(np.outer(np.sin(t), x - 2), dims=("time", "x"), name="wave")
    >>> float(eof(wave, modes=1, weights=None).variance_fraction.round(6)[0])
    1.0
    """
    destination = Destination(out, overwrite=overwrite)
    require_whole(modes=modes)
    if gaps not in ("refuse", "em"):
        raise OptionError(f"gaps is 'refuse' or 'em'; found {gaps!r}")
    if gaps == "em":
        fields = open_fields(data, dim=dim, variable=variable)
        data = [fill_gaps(f.array, dim=dim, seed=seed, memory=memory) for f in fields]
    prepared = prepare(
        data, dim=dim, variable=variable, weights=weights, anomalies=anomalies, detrend=detrend,
        memory=memory,
    )  # fmt: skip
    matrix = joined(prepared)
    if matrix.dtype.kind == "c":
        require_complex_format(out)
    require_storable(out, prepared)
    require_ddof(ddof, prepared)
    _check_modes(prepared, modes)
    with destination.explaining(), room(memory, prepared) as rest:
        result = lh.svd(
            BlockedArray(matrix), rank=modes, center=True,
            weights=np.concatenate([one.weights for one in prepared]), accuracy=accuracy,
            most_passes=most_passes, seed=seed, memory=rest,
            out=destination.scratch, overwrite=overwrite, progress=progress,
        )  # fmt: skip
    with forgetting_constants(destination.scratch):
        rounding = rounding_of(prepared, np.asarray(result.mean))
        require_variance(result.certificate.norm, rounding, [one.name for one in prepared])
    dataset = assemble(
        prepared, scores=np.asarray(result.u) * result.s, s=result.s, vh=result.vh,
        mean=result.mean, norm=result.certificate.norm, ddof=ddof, method="eof",
        certificate=result.certificate, report=result.report,
    )  # fmt: skip
    return destination.keep(dataset)


def _check_modes(prepared: Sequence[Prepared], modes: int) -> None:
    samples = prepared[0].matrix.shape[0]
    terms = prepared[0].terms
    free = samples - (1 if terms is None else len(terms.names))
    cells = sum(int(np.count_nonzero(one.weights)) for one in prepared)
    most = min(free, cells)
    if not 1 <= modes <= most:
        message = (
            f"modes is from 1 to {most}: there are {samples} samples, {free} of them free once the "
            f"mean and what else is fitted are removed, and {cells} cells; found {modes}"
        )
        raise OptionError(message)
