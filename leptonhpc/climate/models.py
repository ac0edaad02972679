"""EOFs that several models have in common: those of the mean of their covariances."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import leptonhpc as lh
from leptonhpc.api.destinations import Destination
from leptonhpc.blocks import BlockedArray, Region
from leptonhpc.climate.eofs import Calendar
from leptonhpc.climate.fields import other_place
from leptonhpc.climate.fitting import fit_terms
from leptonhpc.climate.formats import require_storable
from leptonhpc.climate.matrix import FieldMatrix, Removed
from leptonhpc.climate.parts import require_whole
from leptonhpc.climate.passes import blocks_of, few_at_once
from leptonhpc.climate.prepared import Prepared, matrix_of, prepare, rest_of
from leptonhpc.climate.room import room
from leptonhpc.climate.unstacking import Grid, mode_index
from leptonhpc.climate.variance import forgetting_constants, require_variance, rounding_of
from leptonhpc.climate.weights import Weighting
from leptonhpc.errors import OptionError, ShapeError

if TYPE_CHECKING:
    import os

    import xarray as xr


def common_eofs(
    models: Mapping[str, Any],
    modes: int = 10,
    *,
    dim: str = "time",
    weights: Weighting | xr.DataArray | None = "coslat",
    anomalies: Calendar | None = None,
    detrend: bool | int = False,
    ddof: int = 1,
    accuracy: float = 1e-6,
    most_passes: int = 30,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    memory: int | float | str | None = None,
    overwrite: bool = False,
    progress: bool | None = None,
) -> xr.Dataset:
    """Find the patterns that explain most variance of several models at once.

    Parameters
    ----------
    models : mapping of names to fields
        Each as `eof` takes it: one field, on the same grid, of any number of samples.
    modes : int
        How many.
    dim, weights, anomalies, detrend, ddof : as for `eof`
        Mean, climatology and trend are each model's own.
    accuracy, most_passes, seed, out, memory, overwrite, progress : as for `eof`
        The same.

    Returns
    -------
    Dataset
        ``eofs`` (mode, ...): orthonormal, of the weighted fields. ``eigenvalues`` (mode): variances
        in the mean over models. ``model_variances`` and ``model_variance_fraction`` (model, mode):
        what a mode explains of each model. ``pcs_NAME`` (DIM_NAME, mode): each model's weighted
        anomalies projected on the EOFs. The certificate is an attribute.

    Raises
    ------
    LeptonError
        As for `eof`, and if there is no model, grids differ, or a model is more than one field.

    Notes
    -----
    The EOFs are eigenvectors of the mean of the models' covariance matrices [1]_, so that a model
    with more samples has no more say. Cells that one model has no data in are left out of all. One
    pass for each model's mean, one for its variance, and those of the svd.

    References
    ----------
    .. [1] T. P. Barnett, Comparison of near-surface air temperature variability in 11 coupled
       global climate models, J. Climate 12, 511-518, 1999.
    """
    destination = Destination(out, overwrite=overwrite)
    require_whole(modes=modes)
    if not models:
        raise OptionError("models is a mapping with at least one field; it is empty")
    each: list[Prepared] = []
    for data in models.values():
        rest = rest_of(memory, each)
        found = prepare(
            data, dim=dim, variable=None, weights=weights, anomalies=anomalies, detrend=detrend,
            memory=rest,
        )  # fmt: skip
        if len(found) != 1:
            raise OptionError(f"each model is one field; found {len(found)}")
        each.append(_without_mean(found[0], rest))
    _require_same_grid(list(models), each)
    require_storable(out, each)
    land = np.any([one.matrix.land for one in each], axis=0)
    factors = np.where(land, 0.0, each[0].weights)
    free = [one.matrix.shape[0] - ddof for one in each]
    _check_modes(modes, dict(zip(models, free, strict=True)), ddof, factors)
    stacked = StackedModels(tuple(one.matrix for one in each), tuple(1 / np.sqrt(free)))
    with destination.explaining(), room(memory, each) as rest:
        result = lh.svd(
            BlockedArray(stacked), rank=modes, weights=factors, accuracy=accuracy,
            most_passes=most_passes, seed=seed, memory=rest,
            out=destination.scratch, overwrite=overwrite, progress=progress,
        )  # fmt: skip
    with forgetting_constants(destination.scratch):
        rounding = [rounding_of([one]) / np.sqrt(n) for one, n in zip(each, free, strict=True)]
        require_variance(result.certificate.norm, float(np.linalg.norm(rounding)), list(models))
    totals = np.array([_sum_of_squares(one.matrix, factors, memory) for one in each]) / free
    grid = Grid(_with_land(each[0], land), 0, land.size, "")
    return destination.keep(_dataset(list(models), each, free, totals, result, grid))


@dataclass(frozen=True)
class StackedModels:
    """Fields on one grid below one another, the rows of each multiplied by a factor."""

    parts: tuple[FieldMatrix, ...]
    factors: tuple[float, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Samples of all models, and cells."""
        return sum(part.shape[0] for part in self.parts), self.parts[0].shape[1]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype that holds all."""
        return np.result_type(*(part.dtype for part in self.parts))

    @property
    def unit(self) -> tuple[int, int]:
        """The largest piece that is read at once."""
        return max(p.unit[0] for p in self.parts), max(p.unit[1] for p in self.parts)

    @property
    def name(self) -> str:
        """The fields in words."""
        return ", ".join(part.name for part in self.parts)

    @property
    def shareable(self) -> bool:
        """Whether other processes can read all of them."""
        return all(part.shareable for part in self.parts)

    def read(self, region: Region, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Read the rows of every model that lie in the region."""
        (first, last), columns = region
        if out is None:
            out = np.empty((last - first, columns[1] - columns[0]), self.dtype)
        for part, factor, (low, high), begin in self._within(first, last):
            into = out[begin + low - first : begin + high - first]
            part.read(((low, high), columns), into)
            into *= factor
        return out

    def units_in(self, region: Region) -> int:
        """Count the storage units that a region touches."""
        found = self._within(*region[0])
        return sum(part.units_in((rows, region[1])) for part, _, rows, _ in found)

    def identity(self) -> dict[str, Any]:
        """Describe the sources."""
        return {"stacked": [p.identity() for p in self.parts], "factors": list(self.factors)}

    def _within(
        self, first: int, last: int
    ) -> list[tuple[FieldMatrix, float, tuple[int, int], int]]:
        """Give parts, their factors, their own rows, and where each begins in the whole."""
        found, begin = [], 0
        for part, factor in zip(self.parts, self.factors, strict=True):
            low, high = max(first - begin, 0), min(last - begin, part.shape[0])
            if low < high:
                found.append((part, factor, (low, high), begin))
            begin += part.shape[0]
        return found


def _without_mean(one: Prepared, memory: Any) -> Prepared:
    """Take the mean off, where no climatology was."""
    if one.terms is not None:
        return one
    design = np.ones((one.matrix.shape[0], 1))
    removed = Removed(design, fit_terms(one.matrix, design, memory))
    return replace(one, matrix=matrix_of(one.field, one.matrix.land, removed))


def _with_land(one: Prepared, land: NDArray[np.bool_]) -> Prepared:
    return replace(one, matrix=replace(one.matrix, land=land))


def _require_same_grid(names: Sequence[str], each: Sequence[Prepared]) -> None:
    first = each[0].field
    for name, one in zip(names[1:], each[1:], strict=True):
        if tuple(one.field.space) != tuple(first.space):
            message = f"{name} has the dimensions {one.field.space}, {names[0]} {first.space}"
            raise ShapeError(f"{message}. Bring all models to one grid")
        for dim in first.space:
            if not np.array_equal(one.field.labels[dim], first.labels[dim]):
                message = (
                    f"{name} and {names[0]} have different {dim}, {one.field.labels[dim].size} and "
                    f"{first.labels[dim].size} long. Bring all models to one grid (x.interp)"
                )
                raise ShapeError(message)
        place = other_place(first.array, one.field.array)
        if place is not None:
            message = f"{name} and {names[0]} have different {place}. Bring all models to one grid"
            raise ShapeError(message)


def _check_modes(modes: int, free: Mapping[str, int], ddof: int, factors: NDArray[Any]) -> None:
    for name, samples in free.items():
        if ddof < 0:
            raise OptionError(f"ddof is 0 or more; found {ddof}")
        if samples < 1:
            message = f"each model needs more samples than ddof={ddof}; {name} has {samples + ddof}"
            raise OptionError(f"{message}. Leave it out, or give a longer one")
    most = min(sum(free.values()), int(np.count_nonzero(factors)))
    if not 1 <= modes <= most:
        message = f"modes is from 1 to {most}, samples or cells of all models; found {modes}"
        raise OptionError(message)


def _sum_of_squares(matrix: FieldMatrix, factors: NDArray[Any], memory: Any) -> float:
    """Give |X W|_F^2 in one pass."""
    blocks = blocks_of(matrix, memory)
    x = blocks.to_dask().astype(np.result_type(matrix.dtype, float))
    with few_at_once(blocks, memory):
        return float((abs(x * factors) ** 2).sum().compute())


def _dataset(
    names: Sequence[str], each: Sequence[Prepared], free: Sequence[int], totals: NDArray[Any],
    result: lh.SvdResult, grid: Grid,
) -> xr.Dataset:  # fmt: skip
    import xarray as xr

    u, s = np.asarray(result.u), np.asarray(result.s, np.float64)
    dim = each[0].field.dim
    found: dict[str, Any] = {}
    coords = {**mode_index(len(s)), **each[0].field.space_coords, "model": ("model", list(names))}
    variances, begin = np.zeros((len(names), len(s))), 0
    for number, (name, one) in enumerate(zip(names, each, strict=True)):
        own = u[begin : begin + one.matrix.shape[0]] * s
        begin += len(own)
        variances[number] = np.sum(np.abs(own) ** 2, axis=0)
        samples = f"{dim}_{name}"
        text = {"long_name": f"principal components of {name}"}
        found[f"pcs_{name}"] = ((samples, "mode"), own * np.sqrt(free[number]), text)
        coords[samples] = (samples, one.field.array[dim].values)
    vh: Any = result.vh
    rows = vh.to_dask() if isinstance(vh, BlockedArray) else np.asarray(vh)
    found["eofs"] = grid.unstack(rows, ("mode",), {"long_name": "common EOFs, weighted"})
    weights = {"long_name": "what cells were multiplied by"}
    found["weights"] = grid.unstack(each[0].weights, (), weights)
    found["eigenvalues"] = ("mode", s**2 / len(names), {"long_name": "variances, model mean"})
    found["variance_fraction"] = ("mode", s**2 / totals.sum())
    found["model_variances"] = (("model", "mode"), variances)
    found["model_variance_fraction"] = (("model", "mode"), variances / totals[:, None])
    found["model_total_variance"] = ("model", totals)
    attributes = {
        "Conventions": "CF-1.8", "method": "common_eofs", "dim": dim,
        "certificate": json.dumps(result.certificate.to_dict()),
        "report": json.dumps(result.report.to_dict()),
    }  # fmt: skip
    return xr.Dataset(found, coords, attributes)
