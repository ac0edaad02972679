"""Complex EOFs of the analytic signal: waves that travel, each in one mode [1]_.

The analytic signal F X, F taken along time, has the SVD of F U S in the EOFs of X = U S V^H: the
field is not touched again.

References
----------
.. [1] J. D. Horel, Complex principal component analysis: theory and examples, J. Climate Appl.
   Meteor. 23, 1660-1673, 1984.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.climate.assembled import assemble
from leptonhpc.climate.eofs import Calendar
from leptonhpc.climate.fields import Field
from leptonhpc.climate.prepared import prepare
from leptonhpc.climate.reduced import Reduced, reduce_field
from leptonhpc.climate.removal import numbers
from leptonhpc.climate.weights import Weighting
from leptonhpc.errors import DTypeError, OptionError

if TYPE_CHECKING:
    import xarray as xr

_UNEQUAL = 1.12
"""Largest step over the least: calendar months have 28 to 31 days."""


def hilbert_eof(
    data: Any,
    modes: int = 10,
    *,
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
    """Find complex EOFs: of a real field and its Hilbert transform in time.

    Parameters
    ----------
    data, modes, dim, variable, weights, anomalies, detrend, ddof : as for `eof`
        The field, real and at equal steps of time.
    eofs : int, optional
        Write the field in so many EOFs first. Default all: exact.
    seed : int
        Of random starts.
    memory : int, float or str, optional
        Budget of each worker.

    Returns
    -------
    Dataset
        As `eof` gives it, with complex ``eofs`` and ``pcs``. Their absolute values are amplitudes,
        their angles phases; the real part of a reconstruction is the field. ``eigenvalues`` are
        variances of the analytic signal: together twice that of the field, but for what alternates
        from one sample to the next in a record of even length, which has no transform and counts
        once.

    Raises
    ------
    LeptonError
        As for `eof`, and if the field is complex or steps of time differ by more than those of
        months do.

    Notes
    -----
    The transform takes the record as periodic: remove a trend, and mistrust the ends. If `eofs`
    leaves some out, the variance of the rest counts as twice that of the field.
    """
    from scipy.signal import hilbert

    prepared = prepare(
        data, dim=dim, variable=variable, weights=weights, anomalies=anomalies, detrend=detrend,
        memory=memory,
    )  # fmt: skip
    for one in prepared:
        if one.matrix.dtype.kind == "c":
            raise DTypeError(f"an analytic signal is that of a real field; {one.name} is complex")
    _require_equal_steps(prepared[0].field)
    reduced = reduce_field(prepared, eofs, seed=seed, memory=memory)
    if not 1 <= modes <= len(reduced.s):
        raise OptionError(f"modes is from 1 to {len(reduced.s)}, the EOFs kept; found {modes}")
    signal = hilbert(reduced.u * reduced.s, axis=0)
    return _decompose(reduced, signal, modes, ddof)


def _require_equal_steps(field: Field) -> None:
    coordinate = field.array[field.dim]
    if coordinate.dtype.kind not in "iufMO" or coordinate.size < 2:
        return
    steps = np.diff(numbers(coordinate))
    low, high = sorted((steps.min(), steps.max()), key=abs)
    if not (low * high > 0 and abs(high) <= _UNEQUAL * abs(low)):
        message = f"a Hilbert transform needs equal steps of {field.dim}; those of"
        finding = f"{field.array.name} are from {steps.min():g} to {steps.max():g}"
        unit = " days" if coordinate.dtype.kind in "MO" else ""
        raise OptionError(f"{message} {finding}{unit}. Sort, or interpolate, the samples first")


def _decompose(reduced: Reduced, signal: NDArray[Any], modes: int, ddof: int) -> xr.Dataset:
    p, sigma, qh = np.linalg.svd(signal, full_matrices=False)
    certificate = reduced.result.certificate
    rest = 0.0 if reduced.complete else certificate.norm**2 - float(np.sum(reduced.s**2))
    vh = reduced.patterns(qh[:modes].conj().T)
    norm = float(np.sqrt(np.sum(sigma**2) + 2 * max(rest, 0.0)))
    return assemble(
        reduced.prepared, scores=p[:, :modes] * sigma[:modes], s=sigma[:modes], vh=vh,
        mean=reduced.mean, norm=norm, ddof=ddof, method="hilbert_eof",
        certificate=certificate, report=reduced.result.report,
    )  # fmt: skip
