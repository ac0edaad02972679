"""Gaps filled by the modes of the field itself: EM, known as DINEOF [1]_ [2]_.

What is missing is first the mean; then, again and again, what the leading modes of the filled field
say. How many modes is found on values that are withheld.

References
----------
.. [1] J.-M. Beckers, M. Rixen, EOF calculations and data filling from incomplete oceanographic
   datasets, J. Atmos. Oceanic Technol. 20, 1839-1856, 2003.
.. [2] A. Alvera-Azcarate et al., Reconstruction of incomplete oceanographic data sets using
   empirical orthogonal functions: application to the Adriatic Sea surface temperature, Ocean
   Modelling 9, 325-346, 2005.
"""

from __future__ import annotations

import json
import os
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import leptonhpc as lh
from leptonhpc.api.destinations import Destination
from leptonhpc.api.kept import KeptParts
from leptonhpc.blocks import BlockedArray
from leptonhpc.climate.fields import Field, open_fields
from leptonhpc.climate.formats import keep_one
from leptonhpc.climate.gappy import Fit, GappyMatrix, Withheld
from leptonhpc.climate.parts import require_whole
from leptonhpc.climate.passes import blocks_of, few_at_once
from leptonhpc.climate.room import room
from leptonhpc.errors import (
    DTypeError,
    NonFiniteError,
    NotConvergedWarning,
    OptionError,
    ShapeError,
)

if TYPE_CHECKING:
    import xarray as xr

_LEAST_WITHHELD, _MOST_WITHHELD = 30, 1_000_000
_PATIENCE = 2
"""So many modes more without a smaller error, and the search ends."""


def fill_gaps(
    data: Any,
    modes: int | None = None,
    *,
    dim: str = "time",
    variable: str | None = None,
    most_modes: int = 10,
    share: float = 0.01,
    tol: float = 1e-4,
    most_iterations: int = 300,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    memory: int | float | str | None = None,
    overwrite: bool = False,
) -> xr.DataArray:
    """Fill scattered gaps of a field with what its leading modes say.

    Parameters
    ----------
    data : as for `eof`
        One field, real, NaN where values are missing.
    modes : int, optional
        How many modes. Default: as many as find withheld values best; none if the mean does.
    dim : str
        The dimension of samples.
    variable : str, optional
        Which variable of a Dataset or file.
    most_modes : int
        The search for `modes` ends here.
    share : float
        Share of the values that are withheld for it; at least 30 values.
    tol : float
        Stop when the modes of the filled field change by less, relative.
    most_iterations : int
        When to give up, with a warning; of each number of modes.
    seed : int
        Of what is withheld.
    out : str or path, optional
        A Zarr group (.zarr) or netCDF file (.nc) to be made. A call that was stopped goes on, from
        its last iteration, when it is made again.
    memory : int, float or str, optional
        Budget of each worker.
    overwrite : bool
        Replace what is at `out`.

    Returns
    -------
    DataArray
        The field, lazily (but from a netCDF file), with its gaps filled; values that were there are
        as they were, cells without any (land) stay missing. Attributes ``filled_modes``, and
        ``filled_errors`` in JSON: root mean square error at withheld values by number of modes,
        from none.

    Raises
    ------
    OptionError, ShapeError, NonFiniteError, DTypeError
        If an option makes no sense, there is one sample or cell, a sample has no values, or the
        field is complex.
    OutputExistsError, JobMismatchError
        If `out` is taken, or ``OUT.blocks`` beside it was left by another call.

    Warns
    -----
    NotConvergedWarning
        If the modes did not settle.

    Notes
    -----
    Each iteration is a decomposition of the filled field, which is never stored: its passes are
    those of `leptonhpc.svd`. Modes are held in memory. Gaps are taken to be where they are by
    chance.
    """
    destination = Destination(out, overwrite=overwrite, scratch="blocks")
    require_whole(modes=modes, most_modes=most_modes, most_iterations=most_iterations)
    if most_iterations < 1:
        raise OptionError(f"most_iterations is at least 1; found {most_iterations}")
    fields = open_fields(data, dim=dim, variable=variable)
    if len(fields) != 1:
        raise OptionError(f"one field is filled at a time; found {len(fields)}")
    field = fields[0]
    asked = {
        "modes": modes, "most_modes": most_modes, "share": share, "tol": tol,
        "most_iterations": most_iterations, "seed": seed,
    }  # fmt: skip
    inputs = {} if out is None else {"field": field.source.identity()}
    kept = KeptParts(destination.scratch, inputs, asked, overwrite=overwrite)
    with kept.working():
        matrix, counts = _survey(field, memory)
        most = min(matrix.shape[0], int((counts > 0).sum())) - 1
        _check(modes, most_modes, most, share)
        settle = _Settle(tol, most_iterations, seed, memory, kept)
        fit, errors = _fitted(matrix, counts, modes, min(most_modes, most), share, settle)
    blocks = blocks_of(replace(matrix, fit=fit), memory)
    filled = _filled(field, matrix, blocks, len(fit.patterns), errors)
    if out is None:
        return filled
    with few_at_once(blocks, memory):
        return keep_one(destination, filled, "fill_gaps")


def _fitted(
    matrix: GappyMatrix, counts: NDArray[np.int64], modes: int | None, most: int, share: float,
    settle: _Settle,
) -> tuple[Fit, list[float]]:  # fmt: skip
    """Find the modes that gaps are filled with, and errors at withheld values."""
    if modes is None:
        withheld = _withhold(matrix, counts > 0, share, settle.seed, settle.memory)
        errors, fit = _search(_without(matrix, counts, withheld), most, settle)
        last = settle(matrix, fit, len(fit.patterns)) if len(fit.patterns) else _start(matrix)
        return last, errors
    fit = _start(matrix)
    for number in range(1, modes + 1):
        # a start from fewer modes: from the mean alone, many settle on a single cell
        fit = settle(matrix, fit, number)
    return fit, []


def _survey(field: Field, memory: Any) -> tuple[GappyMatrix, NDArray[np.int64]]:
    """Find land, the mean of what is present, and how much that is, in one pass."""
    import dask.array as da

    cells = int(np.prod(field.space_shape))
    raw = GappyMatrix(
        field.source, field.axis, np.zeros(cells, bool), None, field.labels,
        str(field.array.name or ""),
    )  # fmt: skip
    if raw.dtype.kind == "c":
        raise DTypeError(f"gaps are filled in real fields; {raw.name} is complex")
    blocks = blocks_of(raw, memory)
    x = blocks.to_dask()
    there = ~da.isnan(x)
    sums = there.sum(axis=0), there.sum(axis=1), da.nansum(x, axis=0, dtype=np.float64)
    with few_at_once(blocks, memory):
        by_cell, by_time, total = da.compute(*sums)
    if not by_time.all():
        first = field.labels[field.dim][int(np.argmin(by_time > 0))]
        message = f"{raw.name} has no value at {field.dim}={first}; leave such samples out"
        raise NonFiniteError(message)
    land = by_cell == 0
    mean = np.where(land, 0.0, total / np.maximum(by_cell, 1))
    samples = raw.shape[0]
    fit = Fit(mean, np.zeros((samples, 0)), np.zeros((0, cells)))
    return replace(raw, land=land, fit=fit), by_cell


def _check(modes: int | None, most_modes: int, most: int, share: float) -> None:
    if most < 1:
        message = "gaps are filled with modes, which two samples and two cells with values have"
        raise ShapeError(f"{message}, or more; found {most + 1}")
    for name, number in (("modes", modes), ("most_modes", most_modes)):
        if number is not None and not 1 <= number <= most:
            if name == "most_modes" and number > most >= 1:
                continue
            raise OptionError(f"{name} is from 1 to {most} for this field; found {number}")
    if not 0 < share < 0.5:
        raise OptionError(f"share is between 0 and 0.5; found {share}")


def _start(matrix: GappyMatrix) -> Fit:
    assert matrix.fit is not None
    return matrix.fit


def _without(matrix: GappyMatrix, counts: NDArray[np.int64], withheld: Withheld) -> GappyMatrix:
    """Withhold values from the mean too."""
    fit = _start(matrix)
    less = np.bincount(withheld.columns, minlength=len(counts))
    sums = fit.mean * counts - np.bincount(withheld.columns, withheld.values, len(counts))
    left = counts - less
    mean = np.where(left > 0, sums / np.maximum(left, 1), fit.mean)
    return replace(matrix, withheld=withheld, fit=replace(fit, mean=mean))


def _search(matrix: GappyMatrix, most: int, settle: _Settle) -> tuple[list[float], Fit]:
    """Give errors at withheld values of no mode, one, ... until they grow, and the best fit."""
    withheld, fit = matrix.withheld, _start(matrix)
    best, errors = fit, list[float]()
    for modes in range(most + 1):
        if modes:
            fit = settle(matrix, fit, modes)
        wrong = fit.at(withheld.rows, withheld.columns) - withheld.values
        errors.append(float(np.sqrt(np.mean(wrong**2))))
        if errors[-1] < min(errors[:-1], default=np.inf):
            best = fit
        elif modes - len(best.patterns) >= _PATIENCE:
            break
    return errors, best


@dataclass(frozen=True)
class _Settle:
    """Fill, decompose, and fill again, until the modes stay as they are."""

    tol: float
    most_iterations: int
    seed: int
    memory: Any
    kept: KeptParts

    def __call__(self, matrix: GappyMatrix, fit: Fit, modes: int) -> Fit:
        name = f"modes-{modes}{'-without-withheld' if len(matrix.withheld.rows) else ''}"
        change, done = np.inf, 0
        earlier = self.kept.load(name)
        if earlier is not None:
            change, done = float(earlier["change"]), int(earlier["iterations"])
            fit = Fit(earlier["mean"], earlier["scores"], earlier["patterns"])
        while change > self.tol and done < self.most_iterations:
            new = self._once(replace(matrix, fit=fit), modes)
            change, fit, done = new.distance(fit), new, done + 1
            self.kept.save(name, {**vars(fit), "change": change, "iterations": done})
        if change <= self.tol:
            return fit
        message = (
            f"the gaps of {matrix.name} did not settle with {modes} modes in "
            f"{self.most_iterations} iterations: the last changed the modes by {change:.1e}. Take "
            "fewer modes, or more iterations"
        )
        warnings.warn(message, NotConvergedWarning, stacklevel=3)
        return fit

    def _once(self, matrix: GappyMatrix, modes: int) -> Fit:
        assert matrix.fit is not None
        with room(self.memory, [matrix.fit]) as rest:
            result = lh.svd(
                BlockedArray(matrix), rank=modes, center=True, accuracy=0.1 * self.tol,
                most_passes=30, seed=self.seed, memory=rest, progress=False,
            )  # fmt: skip
        assert result.mean is not None
        scores = np.asarray(result.u, dtype=np.float64) * result.s
        return Fit(np.asarray(result.mean), scores, np.asarray(result.vh, dtype=np.float64))


def _withhold(
    matrix: GappyMatrix, present: NDArray[np.bool_], share: float, seed: int, memory: Any
) -> Withheld:
    """Choose values by chance, and read them."""
    samples, sea = matrix.shape[0], np.flatnonzero(present)
    count = int(np.clip(share * samples * len(sea), _LEAST_WITHHELD, _MOST_WITHHELD))
    count = min(count, samples * len(sea) // 2)
    generator = np.random.default_rng(seed)
    chosen = np.sort(generator.choice(samples * len(sea), size=count, replace=False))
    rows, columns = chosen // len(sea), sea[chosen % len(sea)]
    values = np.full(count, np.nan)
    array = blocks_of(replace(matrix, fit=None), memory)
    for index in array.grid.indices():
        (top, bottom), (left, right) = array.grid.region(index)
        inside = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
        if inside.any():
            block = array.read(((top, bottom), (left, right)))
            values[inside] = block[rows[inside] - top, columns[inside] - left]
    there = ~np.isnan(values)
    if not there.any():
        raise OptionError("no value could be withheld: give modes=, or a larger share=")
    return Withheld(rows[there], columns[there], values[there])


def _filled(
    field: Field, matrix: GappyMatrix, blocks: BlockedArray, modes: int, errors: list[float]
) -> xr.DataArray:
    """Give the field with its gaps filled, block by block when it is asked for."""
    import dask.array as da
    import xarray as xr

    masked = da.where(matrix.land, matrix.dtype.type(np.nan), blocks.to_dask())
    values = masked.reshape((matrix.shape[0], *field.space_shape))
    made = {"filled_modes": modes, "filled_errors": json.dumps(errors)}
    array = xr.DataArray(
        values, dims=(field.dim, *field.space), coords=field.array.coords, name=field.array.name,
        attrs={**field.array.attrs, **made},
    )  # fmt: skip
    return array.transpose(*field.array.dims)
