"""Which modes are more than chance, and how well their variances are known."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.api.destinations import Destination
from leptonhpc.api.kept import KeptParts
from leptonhpc.climate.eofs import Calendar
from leptonhpc.climate.matrix import digest
from leptonhpc.climate.parts import field_names, part, require_modes, require_whole
from leptonhpc.climate.passes import Pauses
from leptonhpc.climate.prepared import prepare
from leptonhpc.climate.reduced import kept_eofs, reduce_field, small_nbytes
from leptonhpc.climate.spectra import require_ddof
from leptonhpc.climate.unstacking import mode_index
from leptonhpc.climate.variance import forgetting_constants
from leptonhpc.climate.weights import Weighting
from leptonhpc.errors import OptionError

if TYPE_CHECKING:
    import os

    import xarray as xr

_SEPARATED = "apart from its neighbours by more than the sampling error"
_DRAW = {"tall": 3.5, "square": 5.0}
"""Matrices held at once while a draw is made and decomposed (measured)."""
_NUMBERS = 16
"""Of each mode of a draw: four, and those that quantiles are found with."""


def north_separated(modes: xr.Dataset) -> xr.DataArray:
    """Say which modes stand apart from their neighbours, by North's rule of thumb.

    Parameters
    ----------
    modes : Dataset
        A result of `eof` or `hilbert_eof`, not rotated.

    Returns
    -------
    DataArray of dimension mode, boolean
        True where the distance to both neighbours is larger than the sampling error of the larger
        eigenvalue of the two. Of the last mode only the neighbour before it is seen.
    """
    require_modes(modes)
    if "north_errors" not in modes:
        message = "sampling errors are those of EOFs as eof gives them; these are rotated"
        raise OptionError(f"{message}. Ask before rotating")
    values, errors = modes.eigenvalues.values, modes.north_errors.values
    found = _apart(values, errors)
    separated: xr.DataArray = modes.eigenvalues.copy(data=found).rename("separated")
    separated.attrs = {"long_name": _SEPARATED}
    return separated


def rule_n(
    modes: xr.Dataset, *, draws: int = 1000, level: float = 0.95, cells: int | None = None,
    seed: int = 0,
) -> xr.Dataset:  # fmt: skip
    """Compare variances with those of noise: Rule N.

    Parameters
    ----------
    modes : Dataset
        A result of `eof`, real and not rotated.
    draws : int
        How many fields of noise.
    level : float
        Which share of them a mode must exceed.
    cells : int, optional
        Columns of the noise: cells that vary independently. Default: all cells with data and a
        weight, which is too many where neighbours are alike.
    seed : int
        Of the noise.

    Returns
    -------
    Dataset
        ``threshold`` (mode): the `level` quantile of the variance fraction of noise.
        ``significant`` (mode): whether the mode exceeds it.

    Raises
    ------
    OptionError
        If an option makes no sense, or modes are rotated or complex: the noise has other shares.

    Notes
    -----
    The noise is white and Gaussian, with one sample less for the mean and
    for each term that was removed [1]_. It is not made: the
    squared singular values of a Gaussian matrix are the eigenvalues of a tridiagonal matrix with
    independent chi entries [2]_.

    References
    ----------
    .. [1] R. W. Preisendorfer, Principal Component Analysis in Meteorology and Oceanography,
       Elsevier, 1988, section 5d.
    .. [2] I. Dumitriu, A. Edelman, Matrix models for beta ensembles, J. Math. Phys. 43, 5830-5847,
       2002.
    """
    import xarray as xr

    require_modes(modes)
    if "rotation" in modes.attrs or modes.pcs.dtype.kind == "c":
        kind = "rotated" if "rotation" in modes.attrs else "complex"
        message = f"rule N compares the EOFs of a real field with those of noise; these are {kind}"
        raise OptionError(f"{message}. Give it a result of eof")
    require_whole(draws=draws, cells=cells, seed=seed)
    if not 0 < level < 1 or draws < 2 or seed < 0:
        message = "level is between 0 and 1, draws at least 2, and seed is not negative; found"
        raise OptionError(f"{message} {level}, {draws}, {seed}")
    there = sum(int((part(modes, "weights", n) > 0).sum()) for n in field_names(modes))
    columns = there if cells is None else cells
    samples = int(modes.attrs["samples"]) - modes.sizes.get("term", 1)
    count = modes.sizes["mode"]
    if not 1 <= columns <= there:
        raise OptionError(f"cells is from 1 to {there}; found {cells}")
    generator = np.random.default_rng(seed)
    shares = np.zeros((draws, count))
    for draw in shares:
        values = _noise_spectrum(generator, samples, columns)
        known = min(count, len(values))
        draw[:known] = values[:known] / values.sum()
    threshold = np.quantile(shares, level, axis=0)
    text = {"long_name": f"variance fraction that noise exceeds in {1 - level:.4g} of draws"}
    found = {
        "threshold": ("mode", threshold, text),
        "significant": ("mode", modes.variance_fraction.values > threshold),
    }
    return xr.Dataset(found, {"mode": modes["mode"]})


def bootstrap(
    data: Any,
    modes: int = 10,
    *,
    draws: int = 1000,
    block: int = 1,
    level: float = 0.95,
    dim: str = "time",
    variable: str | Sequence[str] | None = None,
    weights: Weighting | xr.DataArray | Sequence[Any] | None = "coslat",
    anomalies: Calendar | None = None,
    detrend: bool | int = False,
    ddof: int = 1,
    eofs: int | None = None,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    memory: int | float | str | None = None,
    overwrite: bool = False,
    progress: bool | None = None,
) -> xr.Dataset:
    """Find how far variances and EOFs depend on which samples there are, by drawing them anew.

    Parameters
    ----------
    data, modes, dim, variable, weights, anomalies, detrend, ddof : as for `eof`
        The field and what is found of it.
    draws : int
        How often as many samples are drawn with replacement.
    block : int
        So many samples in a row are drawn together: where they depend on one another.
    level : float
        Of the intervals.
    eofs : int, optional
        Write the field in so many EOFs first. Default all: exact. Draws then find their modes in
        these EOFs only, and the variance of the rest is taken to be the same in all draws.
    seed : int
        Of the draws.
    out : str or path, optional
        A Zarr group (.zarr) or netCDF file (.nc) to be made. A call that was stopped goes on, from
        the decomposition or from draws of about a minute ago, when it is made again.
    memory : int, float or str, optional
        Budget of each worker.
    overwrite : bool
        Replace what is at `out`.
    progress : bool, optional
        Show a bar while the field is decomposed.

    Returns
    -------
    Dataset
        ``eigenvalues`` and ``variance_fraction`` (mode) with ``_low`` and ``_high`` of each: the
        basic interval [1]_, twice the estimate less the quantiles of the draws, not below 0 (and
        for fractions not above 1). ``congruence`` (mode): mean absolute cosine between an EOF and
        that of a draw; near 1 it is always found. ``subspace_congruence`` (mode): how much of the
        span of the leading modes, this one included, is in the span of as many of a draw; modes
        that a draw only mixes among themselves do not lower it. ``separated`` (mode): whether the
        mode is apart from its neighbours by North's rule (of the last mode, from the one before).
        Certificate and report of the decomposition are attributes, in JSON.

    Raises
    ------
    LeptonError
        As for `eof` (what a stopped call leaves is ``OUT.blocks``), and if `block` or `draws` make
        no sense.

    Notes
    -----
    The field is read as for one decomposition: draws are made of its scores. Leading eigenvalues
    of a sample are too large where others are near, and those of a draw once more; the interval
    corrects for it, and may then lie below the estimate. It is not to be trusted for modes that
    are not separated: ``separated`` is false there. Of such modes the span is what is known.

    References
    ----------
    .. [1] A. C. Davison, D. V. Hinkley, Bootstrap Methods and their Application, Cambridge
       University Press, 1997, section 2.4.
    """
    destination = Destination(out, overwrite=overwrite, scratch="blocks")
    require_whole(modes=modes, draws=draws, block=block, eofs=eofs, seed=seed)
    prepared = prepare(
        data, dim=dim, variable=variable, weights=weights, anomalies=anomalies, detrend=detrend,
        memory=memory,
    )  # fmt: skip
    samples = prepared[0].matrix.shape[0]
    require_ddof(ddof, prepared)
    _check_draws(modes, kept_eofs(prepared, eofs), samples, block, draws, level)
    inputs = {} if out is None else {
        one.name: [one.matrix.identity(), digest(one.weights)] for one in prepared
    }  # fmt: skip
    asked = {"modes": modes, "draws": draws, "block": block, "eofs": eofs, "seed": seed}
    kept = KeptParts(destination.scratch, inputs, asked, overwrite=overwrite)
    small = small_nbytes(prepared, eofs, **_DRAW) + 8 * _NUMBERS * draws * modes
    with forgetting_constants(destination.scratch), kept.working():
        reduced = reduce_field(
            prepared, eofs, seed=seed, memory=memory, here_nbytes=small, out=kept.at("eofs"),
            progress=progress,
        )  # fmt: skip
        total = reduced.result.certificate.norm**2
        rest = 0.0 if reduced.complete else max(total - float(np.sum(reduced.s**2)), 0.0)
        generator = np.random.default_rng(seed)
        drawn = _draw(reduced.u * reduced.s, modes, draws, block, rest, generator, kept)
    found = _intervals(reduced.s[:modes] ** 2, total, drawn, samples - ddof, level)
    # samples that are drawn together count as one
    errors = np.asarray(found.eigenvalues) * np.sqrt(2 * block / samples)
    text = {"long_name": _SEPARATED}
    found["separated"] = ("mode", _apart(np.asarray(found.eigenvalues), errors), text)
    found = found.assign_attrs(
        Conventions="CF-1.8", method="bootstrap", draws=draws, block=block, level=level,
        certificate=json.dumps(reduced.result.certificate.to_dict()),
        report=json.dumps(reduced.result.report.to_dict()),
    )  # fmt: skip
    return found if out is None else destination.keep(found)


def _check_draws(
    modes: int, most: int, samples: int, block: int, draws: int, level: float
) -> None:  # fmt: skip
    if not (1 <= modes <= most and 1 <= block <= samples // 2 and draws >= 2):
        message = (
            f"modes is from 1 to {most}, block from 1 to {samples // 2}, draws at least "
            f"2; found {modes}, {block}, {draws}"
        )
        raise OptionError(message)
    if not 0 < level < 1:
        raise OptionError(f"level is between 0 and 1; found {level}")


def _apart(values: NDArray[Any], errors: NDArray[Any]) -> NDArray[np.bool_]:
    """Say which values are farther from both neighbours than the larger one's error."""
    apart = -np.diff(values) > errors[:-1]
    separated: NDArray[np.bool_] = np.append(True, apart) & np.append(apart, True)
    return separated


def _draw(
    scores: NDArray[Any], modes: int, draws: int, block: int, rest: float,
    generator: np.random.Generator, kept: KeptParts,
) -> NDArray[np.float64]:  # fmt: skip
    """Give squared singular values, shares and congruences of modes and spans, of each draw."""
    samples = len(scores)
    known = kept.load("draws") or {"found": np.zeros((4, draws, modes)), "done": 0}
    found: NDArray[np.float64] = known["found"]
    squares, shares, cosines, spans = found
    pauses = Pauses()
    for draw in range(draws):
        # also for draws that are known, so that the others are what they would have been
        starts = generator.integers(0, samples - block + 1, -(-samples // block))
        if draw < int(known["done"]):
            continue
        chosen = (starts[:, None] + np.arange(block)).ravel()[:samples]
        some = scores[chosen] - scores[chosen].mean(axis=0)
        values, vectors = np.linalg.eigh(some.conj().T @ some)
        values = np.maximum(values[::-1], 0)
        squares[draw] = values[:modes]
        shares[draw] = values[:modes] / (values.sum() + rest)
        # in the basis of the EOFs themselves, the k-th is the k-th unit vector
        leading = np.abs(vectors[:modes, ::-1][:, :modes])
        cosines[draw] = np.diagonal(leading)
        corners = np.diagonal(np.cumsum(np.cumsum(leading**2, axis=0), axis=1))
        spans[draw] = corners / np.arange(1, modes + 1)
        if pauses.due():
            kept.save("draws", {"found": found, "done": draw + 1})
    return found


def _intervals(
    squares: NDArray[Any], total: float, drawn: NDArray[np.float64], free: int, level: float
) -> xr.Dataset:
    import xarray as xr

    ends = [(1 - level) / 2, (1 + level) / 2]
    found: dict[str, Any] = {}
    for name, value, draws, most in (
        ("eigenvalues", squares / free, drawn[0] / free, np.inf),
        ("variance_fraction", squares / total, drawn[1], 1.0),
    ):
        upper, lower = np.quantile(draws, ends, axis=0)
        low, high = (np.clip(2 * value - end, 0, most) for end in (lower, upper))
        found |= {name: ("mode", value), f"{name}_low": ("mode", low)}
        found |= {f"{name}_high": ("mode", high)}
    text = {"long_name": "mean absolute cosine with the EOF of a draw"}
    found["congruence"] = ("mode", drawn[2].mean(axis=0), text)
    text = {"long_name": "mean share of the leading modes' span in that of a draw", "units": "1"}
    found["subspace_congruence"] = ("mode", drawn[3].mean(axis=0), text)
    return xr.Dataset(found, mode_index(len(squares)))


def _noise_spectrum(generator: np.random.Generator, rows: int, columns: int) -> NDArray[Any]:
    """Give squared singular values of a Gaussian matrix, descending."""
    from scipy.linalg import eigvalsh_tridiagonal

    short, long = sorted((rows, columns))
    d = np.sqrt(generator.chisquare(long - np.arange(short)))
    e = np.sqrt(generator.chisquare(short - 1 - np.arange(short - 1)))
    # B B^T of the bidiagonal B with diagonal d and subdiagonal e
    diagonal = d**2 + np.append(0.0, e**2)
    values: NDArray[Any] = np.maximum(eigvalsh_tridiagonal(diagonal, d[:-1] * e), 0)[::-1]
    return values
