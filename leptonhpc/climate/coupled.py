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

from leptonhpc.climate.eofs import Calendar
from leptonhpc.climate.prepared import Prepared, prepare, require_one_grid
from leptonhpc.climate.reduced import Reduced, reduce_field
from leptonhpc.climate.unstacking import Grid, coordinates, mode_index
from leptonhpc.climate.weights import Weighting
from leptonhpc.errors import OptionError, ShapeError

if TYPE_CHECKING:
    import xarray as xr

_SIDES = ("left", "right")


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
    seed: int = 0,
    memory: int | float | str | None = None,
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
        Keep only so many EOFs of each field. Default all: exact.
    seed : int
        Of random starts.
    memory : int, float or str, optional
        Budget of each worker.

    Returns
    -------
    Dataset
        ``patterns_left``, ``patterns_right`` (mode, ...): orthonormal, of the weighted fields.
        ``scores_left``, ``scores_right`` (dim, mode): the fields projected on them. ``covariances``
        of the scores, ``squared_covariance_fraction``, ``correlations`` of the scores. With `eofs`
        the fraction is of the squared covariance between the EOFs kept, not of that between the
        fields, which may be larger: its ``long_name`` says so.

    Raises
    ------
    LeptonError
        As for `eof`, and if samples differ or there are fewer modes.

    Notes
    -----
    All EOFs of a field are as many as it has samples or cells, whichever is less: of long records
    on fine grids give `eofs`.
    """
    return _coupled(
        (left, right), modes, dim=dim, weights=weights, anomalies=anomalies, detrend=detrend,
        ddof=ddof, eofs=eofs, seed=seed, memory=memory, canonical=False,
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
    memory: int | float | str | None = None,
) -> xr.Dataset:
    """Find pairs of patterns of two fields whose scores have the largest correlation.

    Parameters
    ----------
    left, right, modes, dim, weights, anomalies, detrend, ddof, seed, memory : as for `mca`
        The same.
    eofs : int
        In how many EOFs each field is written first. With all, everything correlates with
        everything: many fewer than samples are needed.

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
        ddof=ddof, eofs=eofs, seed=seed, memory=memory, canonical=True,
    )  # fmt: skip


def _coupled(
    fields: tuple[Any, Any], modes: int, *, dim: str, weights: Any, anomalies: Any, detrend: Any,
    ddof: int, eofs: int | None, seed: int, memory: Any, canonical: bool,
) -> xr.Dataset:  # fmt: skip
    each = list(weights) if isinstance(weights, list | tuple) else [weights] * 2
    if len(each) != 2:
        raise ShapeError(f"weights are one for both fields, or a list of 2; found {len(each)}")
    sides = []
    for data, weight in zip(fields, each, strict=True):
        found = prepare(
            data, dim=dim, variable=None, weights=weight, anomalies=anomalies, detrend=detrend,
            memory=memory,
        )  # fmt: skip
        if len(found) != 1:
            raise OptionError(f"each side is one field; found {len(found)}")
        sides += found
    _require_same_samples(sides[0], sides[1])
    require_one_grid([side.field for side in sides])
    decomposed = [reduce_field([side], eofs, seed=seed, memory=memory) for side in sides]
    left, right = decomposed
    if canonical:
        _require_rank(decomposed)
    power = 0 if canonical else 1
    core = (left.s**power)[:, None] * (left.u.conj().T @ right.u) * right.s**power
    most = min(core.shape)
    if not 1 <= modes <= most:
        raise OptionError(f"modes is from 1 to {most}, the EOFs of each field; found {modes}")
    a, sigma, bh = np.linalg.svd(core, full_matrices=False)
    turned = (a[:, :modes], bh[:modes].conj().T)
    return _dataset(decomposed, turned, sigma, ddof=ddof, canonical=canonical)


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
    one, other = (side.field.array[side.field.dim].values for side in (left, right))
    if one.shape != other.shape or not np.array_equal(one, other):
        message = (
            f"both fields must have the same {left.field.dim}; {left.name} has {one.size} and "
            f"{right.name} {other.size}, or others. xarray.align makes them agree"
        )
        raise ShapeError(message)


def _dataset(
    sides: Sequence[Reduced], turned: Sequence[NDArray[Any]], sigma: NDArray[Any], *, ddof: int,
    canonical: bool,
) -> xr.Dataset:  # fmt: skip
    import xarray as xr

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
    if canonical:
        found["correlations"] = ("mode", np.minimum(sigma[:modes], 1.0))
    else:
        found |= _covariances(found, sigma, free, complete=all(side.complete for side in sides))
    attributes = {
        "Conventions": "CF-1.8",
        "method": "cca" if canonical else "mca",
        "dim": sides[0].prepared[0].field.dim,
        "sides": json.dumps([side.prepared[0].name for side in sides]),
        "certificates": json.dumps([side.result.certificate.to_dict() for side in sides]),
        "reports": json.dumps([side.result.report.to_dict() for side in sides]),
    }
    return xr.Dataset(found, coords, attributes)


def _covariances(
    found: dict[str, Any], sigma: NDArray[Any], free: int, *, complete: bool
) -> dict[str, Any]:
    left, right = (found[f"scores_{name}"][1] for name in _SIDES)
    modes = left.shape[1]
    lengths = np.linalg.norm(left, axis=0) * np.linalg.norm(right, axis=0)
    share = sigma[:modes] ** 2 / np.sum(sigma**2)
    of = "" if complete else " that the EOFs kept of each field hold"
    text = {"long_name": f"share of the squared covariance{of}", "units": "1"}
    return {
        "covariances": ("mode", sigma[:modes] / free, {"long_name": "covariances of scores"}),
        "squared_covariance_fraction": ("mode", share, text),
        "correlations": ("mode", np.real(np.sum(left.conj() * right, axis=0)) / lengths),
    }
