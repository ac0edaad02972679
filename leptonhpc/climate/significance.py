"""Which modes are more than chance, and how well their variances are known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.climate.eofs import Calendar
from leptonhpc.climate.parts import field_names, part, require_modes
from leptonhpc.climate.prepared import prepare
from leptonhpc.climate.reduced import reduce_field
from leptonhpc.climate.weights import Weighting
from leptonhpc.errors import OptionError

if TYPE_CHECKING:
    import xarray as xr

_SEPARATED = "apart from its neighbours by more than the sampling error"


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
    if not 0 < level < 1 or draws < 2:
        raise OptionError(f"level is between 0 and 1, draws at least 2; found {level}, {draws}")
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
    memory: int | float | str | None = None,
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
    memory : int, float or str, optional
        Budget of each worker.

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

    Raises
    ------
    LeptonError
        As for `eof`, and if `block` or `draws` make no sense.

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
    prepared = prepare(
        data, dim=dim, variable=variable, weights=weights, anomalies=anomalies, detrend=detrend,
        memory=memory,
    )  # fmt: skip
    reduced = reduce_field(prepared, eofs, seed=seed, memory=memory)
    samples = len(reduced.u)
    if not (1 <= modes <= len(reduced.s) and 1 <= block <= samples // 2 and draws >= 2):
        message = (
            f"modes is from 1 to {len(reduced.s)}, block from 1 to {samples // 2}, draws at least "
            f"2; found {modes}, {block}, {draws}"
        )
        raise OptionError(message)
    if not 0 < level < 1:
        raise OptionError(f"level is between 0 and 1; found {level}")
    total = reduced.result.certificate.norm**2
    rest = 0.0 if reduced.complete else max(total - float(np.sum(reduced.s**2)), 0.0)
    drawn = _draw(reduced.u * reduced.s, modes, draws, block, rest, np.random.default_rng(seed))
    found = _intervals(reduced.s[:modes] ** 2, total, drawn, samples - ddof, level)
    # samples that are drawn together count as one
    errors = np.asarray(found.eigenvalues) * np.sqrt(2 * block / samples)
    text = {"long_name": _SEPARATED}
    found["separated"] = ("mode", _apart(np.asarray(found.eigenvalues), errors), text)
    return found


def _apart(values: NDArray[Any], errors: NDArray[Any]) -> NDArray[np.bool_]:
    """Say which values are farther from both neighbours than the larger one's error."""
    apart = -np.diff(values) > errors[:-1]
    separated: NDArray[np.bool_] = np.append(True, apart) & np.append(apart, True)
    return separated


def _draw(
    scores: NDArray[Any], modes: int, draws: int, block: int, rest: float,
    generator: np.random.Generator,
) -> tuple[NDArray[Any], ...]:  # fmt: skip
    """Give squared singular values, shares and congruences of modes and spans, of each draw."""
    samples = len(scores)
    squares, shares, cosines, spans = (np.zeros((draws, modes)) for _ in range(4))
    for draw in range(draws):
        starts = generator.integers(0, samples - block + 1, -(-samples // block))
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
    return squares, shares, cosines, spans


def _intervals(
    squares: NDArray[Any], total: float, drawn: Sequence[NDArray[Any]], free: int, level: float
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
    return xr.Dataset(found, {"mode": np.arange(1, len(squares) + 1)}, {"level": level})


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
