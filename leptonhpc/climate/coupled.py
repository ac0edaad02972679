"""Modes of two fields together: maximum covariance [1]_ and canonical correlation [2]_.

Each field is first written in its own EOFs, X = U S V^H, so that what is left to decompose is
small: the covariance matrix is V1 (S1 U1^H U2 S2) V2^H, whose core has as many rows and columns as
there are EOFs; canonical correlations are the singular values of U1^H U2.

References
----------
.. [1] C. S. Bretherton, C. Smith, J. M. Wallace, An intercomparison of methods for finding coupled
   patterns in climate data, J. Climate 5, 541-560, 1992.
.. [2] T. P. Barnett, R. Preisendorfer, Origins and levels of monthly and seasonal forecast skill
   for United States surface air temperatures determined by canonical correlation analysis, Mon.
   Wea. Rev. 115, 1825-1850, 1987.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.api.destinations import Destination
from leptonhpc.api.kept import KeptParts
from leptonhpc.climate.cross import Total, squared_covariance
from leptonhpc.climate.eofs import Calendar
from leptonhpc.climate.formats import require_complex_format, require_storable
from leptonhpc.climate.matrix import digest
from leptonhpc.climate.parts import require_whole
from leptonhpc.climate.prepared import Prepared, prepare, require_one_grid, rest_of
from leptonhpc.climate.reduced import (
    Reduced,
    kept_eofs,
    patterns_nbytes,
    reduce_field,
    small_nbytes,
)
from leptonhpc.climate.spectra import require_ddof
from leptonhpc.climate.unstacking import Grid, coordinates, mode_index
from leptonhpc.climate.variance import forgetting_constants
from leptonhpc.climate.weights import Weighting
from leptonhpc.errors import OptionError, ShapeError
from leptonhpc.planning.amounts import parse_nbytes
from leptonhpc.runtime import connected_client
from leptonhpc.runtime.temporary import TemporaryFolder

if TYPE_CHECKING:
    import os

    import xarray as xr

_SIDES = ("left", "right")
_CORE = {"tall": 1.0, "square": 10.0}
"""Matrices held at once while the core is made and decomposed (measured)."""
_EOFS_SHARE = 1 / 16
"""Of a budget: EOFs that take more are not held in memory."""


def mca(
    left: Any,
    right: Any,
    modes: int = 10,
    *,
    dim: str = "time",
    weights: Weighting | xr.DataArray | Sequence[Any] | None = "coslat",
    anomalies: Calendar | None = None,
    detrend: bool | int = False,
    ddof: int = 1,
    eofs: int | None = None,
    total: Total = "bounded",
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    memory: int | float | str | None = None,
    overwrite: bool = False,
    progress: bool | None = None,
) -> xr.Dataset:
    """Find pairs of patterns of two fields whose scores have the largest covariance.

    Parameters
    ----------
    left, right : DataArray or path
        Two fields with the same samples, on any grids with dimensions of their own names.
    modes : int
        How many pairs.
    dim : str
        The dimension of samples.
    weights : as for `eof`
        Of both, or a list with one for each.
    anomalies, detrend, ddof : as for `eof`
        Of both.
    eofs : int, optional
        Seek the pairs among so many EOFs of each field. Default all: exact.
    total : {"bounded", "measured"}
        With `eofs`: how the squared covariance between the whole fields is found, of which the
        fractions are. From products with the EOFs, which bound it in one pass more; or from the
        fields themselves, which is exact and takes many.
    seed : int
        Of random starts.
    out : str or path, optional
        A Zarr group (.zarr) or netCDF file (.nc; not of complex fields) to be made. A call that was
        stopped goes on, from its last finished part, when it is made again.
    memory : int, float or str, optional
        Budget of each worker.
    overwrite : bool
        Replace what is at `out`.
    progress : bool, optional
        Show a bar.

    Returns
    -------
    Dataset
        ``patterns_left``, ``patterns_right`` (mode, ...): orthonormal, of the weighted fields.
        ``scores_left``, ``scores_right`` (dim, mode): the fields projected on them. ``covariances``
        and ``correlations`` of the scores. ``squared_covariance_fraction``: what the pair holds of
        the squared covariance between all cells of the whole fields, and
        ``total_squared_covariance``, that sum. If they are bounded, the fraction is at least that,
        and the sum at most; ``squared_covariance_fraction_most`` and
        ``total_squared_covariance_least`` are the other bounds.

    Raises
    ------
    LeptonError
        As for `eof`, and if samples differ or there are fewer modes.

    Notes
    -----
    All EOFs of a field are as many as it has samples or cells, whichever is less: of long records
    on fine grids give `eofs`. The squared covariance that they leave out is then bounded: all is
    measured but for that between what the EOFs leave of both fields, which is at most the last
    singular value kept of one times the norm of what is left of the other. ``total="measured"``
    takes n^2 (p + q) flops for n samples of p and q cells, and a pass for every two groups of
    samples of which memory holds one.
    """
    if total not in ("measured", "bounded"):
        raise OptionError(f"total is 'measured' or 'bounded'; found {total!r}")
    return _coupled(
        (left, right), modes, dim=dim, weights=weights, anomalies=anomalies, detrend=detrend,
        ddof=ddof, eofs=eofs, seed=seed, out=out, memory=memory, overwrite=overwrite,
        progress=progress, total=total,
    )  # fmt: skip


def cca(
    left: Any,
    right: Any,
    modes: int = 10,
    *,
    eofs: int,
    dim: str = "time",
    weights: Weighting | xr.DataArray | Sequence[Any] | None = "coslat",
    anomalies: Calendar | None = None,
    detrend: bool | int = False,
    ddof: int = 1,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    memory: int | float | str | None = None,
    overwrite: bool = False,
    progress: bool | None = None,
) -> xr.Dataset:
    """Find pairs of patterns of two fields whose scores have the largest correlation.

    Parameters
    ----------
    left, right, modes, dim, weights, anomalies, detrend, ddof, seed : as for `mca`
        The same.
    eofs : int
        In how many EOFs each field is written first. With all, everything correlates with
        everything: many fewer than samples are needed.
    out, memory, overwrite, progress : as for `mca`
        The same.

    Returns
    -------
    Dataset
        ``scores_left``, ``scores_right`` (dim, mode): canonical variates, uncorrelated, of variance
        one. ``correlations`` between them. ``patterns_left``, ``patterns_right``: covariances of
        the weighted fields with them.

    Raises
    ------
    LeptonError
        As for `mca`, and if a field has fewer EOFs than `eofs` that are more than rounding.
    """
    return _coupled(
        (left, right), modes, dim=dim, weights=weights, anomalies=anomalies, detrend=detrend,
        ddof=ddof, eofs=eofs, seed=seed, out=out, memory=memory, overwrite=overwrite,
        progress=progress, total=None,
    )  # fmt: skip


def _coupled(
    fields: tuple[Any, Any], modes: int, *, dim: str, weights: Any, anomalies: Any, detrend: Any,
    ddof: int, eofs: int | None, seed: int, out: Any, memory: Any, overwrite: bool,
    progress: bool | None, total: Total | None,
) -> xr.Dataset:  # fmt: skip
    destination = Destination(out, overwrite=overwrite, scratch="blocks")
    require_whole(modes=modes, eofs=eofs)
    sides = _sides(fields, weights, dim, anomalies, detrend, memory)
    if any(side.matrix.dtype.kind == "c" for side in sides):
        require_complex_format(out)
    require_storable(out, sides)
    require_ddof(ddof, sides)
    most = min(kept_eofs([side], eofs) for side in sides)
    if not 1 <= modes <= most:
        raise OptionError(f"modes is from 1 to {most}, the EOFs of each field; found {modes}")
    kept = _kept(destination.scratch, sides, overwrite, eofs=eofs, seed=seed, total=total)
    small = _small_nbytes(sides, eofs, total)
    aside = _set_aside(sides, eofs, memory) if out is None else None
    decomposed: list[Reduced] = []
    with forgetting_constants(destination.scratch), kept.working():
        for name, side in zip(_SIDES, sides, strict=True):
            beside: list[Reduced | Prepared] = [*decomposed]
            beside += [other for other in sides if other is not side]
            place = kept.at(name) if aside is None else str(aside.path / name)
            reduced = reduce_field(
                [side], eofs, seed=seed, memory=memory, out=place, progress=progress,
                here_nbytes=small + sum(one.held_nbytes for one in beside),
            )  # fmt: skip
            decomposed.append(reduced)
        left, right = decomposed
        if total is None:
            _require_rank(decomposed)
            bounds = None
        else:
            bounds = squared_covariance(left, right, total, memory=memory)
    power = 0 if total is None else 1
    core = (left.s**power)[:, None] * (left.u.conj().T @ right.u) * right.s**power
    a, sigma, bh = np.linalg.svd(core, full_matrices=False)
    turned = (a[:, :modes], bh[:modes].conj().T)
    return destination.keep(_dataset(decomposed, turned, sigma, ddof=ddof, bounds=bounds))


def _sides(
    fields: tuple[Any, Any], weights: Any, dim: str, anomalies: Any, detrend: Any, memory: Any
) -> list[Prepared]:
    """Make both fields ready, each beside what is held of the other."""
    each = list(weights) if isinstance(weights, list | tuple) else [weights] * 2
    if len(each) != 2:
        raise ShapeError(f"weights are one for both fields, or a list of 2; found {len(each)}")
    sides: list[Prepared] = []
    for data, weight in zip(fields, each, strict=True):
        found = prepare(
            data, dim=dim, variable=None, weights=weight, anomalies=anomalies, detrend=detrend,
            memory=rest_of(memory, sides),
        )  # fmt: skip
        if len(found) != 1:
            raise OptionError(f"each side is one field; found {len(found)}")
        sides += found
    _require_same_samples(sides[0], sides[1])
    require_one_grid([side.field for side in sides])
    return sides


def _kept(
    place: str | None, sides: Sequence[Prepared], overwrite: bool, **question: Any
) -> KeptParts:
    inputs: dict[str, Any] = {}
    if place is not None:
        for name, side in zip(_SIDES, sides, strict=True):
            inputs[name] = [side.matrix.identity(), digest(side.weights)]
    return KeptParts(place, inputs, question, overwrite=overwrite)


def _small_nbytes(sides: Sequence[Prepared], eofs: int | None, total: Total | None) -> int:
    """Give the bytes of what is computed once both fields are written in their EOFs."""
    core = max(small_nbytes([side], eofs, **_CORE) for side in sides)
    if total != "bounded" or eofs is None:
        return core
    # the scores of one field, and its product with the other
    products = (
        small_nbytes([side], eofs, tall=2, square=0) + patterns_nbytes(side, eofs) for side in sides
    )
    return max(core, *products)


def _set_aside(sides: Sequence[Prepared], eofs: int | None, memory: Any) -> TemporaryFolder | None:
    """Have large EOFs stored: in memory those of one field would take the room of the other."""
    budget = parse_nbytes(memory)
    if budget is None or connected_client() is not None:
        return None
    large = any(patterns_nbytes(side, eofs) > _EOFS_SHARE * budget for side in sides)
    return TemporaryFolder() if large else None


def _require_rank(sides: Sequence[Reduced]) -> None:
    """Refuse EOFs that are rounding: scaled to variance one, they correlate with anything."""
    for side in sides:
        if side.rank < len(side.s):
            message = (
                f"cca needs EOFs that vary; {side.prepared[0].name} has the numerical rank "
                f"{side.rank}, and eofs is {len(side.s)}. Pass eofs={max(side.rank, 1)} or less"
            )
            raise OptionError(message)


def _require_same_samples(left: Prepared, right: Prepared) -> None:
    samples: list[Any] = [side.field.array[side.field.dim] for side in (left, right)]
    one, other = samples
    if not one.variable.equals(other.variable):
        message = (
            f"both fields must have the same {left.field.dim}; {left.name} has {one.size} and "
            f"{right.name} {other.size}, or others. xarray.align makes them agree"
        )
        raise ShapeError(message)


def _dataset(
    sides: Sequence[Reduced], turned: Sequence[NDArray[Any]], sigma: NDArray[Any], *, ddof: int,
    bounds: tuple[float, float] | None,
) -> xr.Dataset:  # fmt: skip
    import xarray as xr

    canonical = bounds is None
    modes = turned[0].shape[1]
    free = len(sides[0].u) - ddof
    found: dict[str, Any] = {}
    coords = {**mode_index(modes), **coordinates([side.prepared[0] for side in sides])}
    for name, side, a in zip(_SIDES, sides, turned, strict=True):
        grid = Grid(side.prepared[0], 0, side.prepared[0].matrix.shape[1], "")
        scores = side.u @ a * np.sqrt(free) if canonical else side.u @ (side.s[:, None] * a)
        factors = side.s[:, None] * a / np.sqrt(free) if canonical else a
        text = {"long_name": f"{name} patterns of {side.prepared[0].name}, weighted"}
        found[f"patterns_{name}"] = grid.unstack(side.patterns(factors), ("mode",), text)
        found[f"scores_{name}"] = ((side.prepared[0].field.dim, "mode"), scores)
    if bounds is None:
        found["correlations"] = ("mode", np.minimum(sigma[:modes], 1.0))
    else:
        found |= _covariances(found, sigma, free) | _fractions(sigma[:modes], bounds, free)
    attributes = {
        "Conventions": "CF-1.8",
        "method": "cca" if canonical else "mca",
        "dim": sides[0].prepared[0].field.dim,
        "sides": json.dumps([side.prepared[0].name for side in sides]),
        "certificates": json.dumps([side.result.certificate.to_dict() for side in sides]),
        "reports": json.dumps([side.result.report.to_dict() for side in sides]),
    }
    return xr.Dataset(found, coords, attributes)


def _covariances(found: dict[str, Any], sigma: NDArray[Any], free: int) -> dict[str, Any]:
    left, right = (found[f"scores_{name}"][1] for name in _SIDES)
    modes = left.shape[1]
    lengths = np.linalg.norm(left, axis=0) * np.linalg.norm(right, axis=0)
    return {
        "covariances": ("mode", sigma[:modes] / free, {"long_name": "covariances of scores"}),
        "correlations": ("mode", np.real(np.sum(left.conj() * right, axis=0)) / lengths),
    }


def _fractions(sigma: NDArray[Any], bounds: tuple[float, float], free: int) -> dict[str, Any]:
    """Give shares of the squared covariance of the whole fields; where bounded, both bounds."""
    least, most = bounds
    exact = least == most
    of = "the squared covariance of the fields"
    share = {"long_name": f"share of {of}{'' if exact else ', at least'}", "units": "1"}
    whole = {"long_name": f"{of}{'' if exact else ', at most'}"}
    found: dict[str, Any] = {
        "squared_covariance_fraction": ("mode", sigma**2 / most, share),
        "total_squared_covariance": ((), most / free**2, whole),
    }
    if not exact:
        share = {"long_name": f"share of {of}, at most", "units": "1"}
        found["squared_covariance_fraction_most"] = ("mode", sigma**2 / least, share)
        whole = {"long_name": f"{of}, at least"}
        found["total_squared_covariance_least"] = ((), least / free**2, whole)
    return found
