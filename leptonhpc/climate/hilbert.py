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

from leptonhpc.api.destinations import Destination
from leptonhpc.climate.assembled import assemble
from leptonhpc.climate.eofs import Calendar
from leptonhpc.climate.fields import Field
from leptonhpc.climate.formats import require_complex_format, require_storable
from leptonhpc.climate.parts import require_whole
from leptonhpc.climate.prepared import prepare
from leptonhpc.climate.reduced import Reduced, kept_eofs, reduce_field, small_nbytes
from leptonhpc.climate.removal import numbers
from leptonhpc.climate.spectra import require_ddof
from leptonhpc.climate.variance import forgetting_constants
from leptonhpc.climate.weights import Weighting
from leptonhpc.errors import DTypeError, OptionError

if TYPE_CHECKING:
    import os

    import xarray as xr

_UNEQUAL = 1.12
"""Largest step over the least: calendar months have 28 to 31 days."""
_SIGNAL = {"tall": 11.0, "square": 8.0}
"""Matrices held at once while the signal is made and decomposed (measured); it is complex."""


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
    out: str | os.PathLike[str] | None = None,
    memory: int | float | str | None = None,
    overwrite: bool = False,
    progress: bool | None = None,
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
    out : str or path, optional
        A Zarr group (.zarr) to be made. A decomposition that was stopped goes on when the same
        call is made again.
    memory : int, float or str, optional
        Budget of each worker.
    overwrite : bool
        Replace what is at `out`.
    progress : bool, optional
        Show a bar.

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
        As for `eof`, and if the field is complex, steps of time differ by more than those of
        months do, or `out` is a netCDF file, which holds no complex numbers.

    Notes
    -----
    The transform takes the record as periodic: remove a trend, and mistrust the ends. If `eofs`
    leaves some out, the variance of the rest counts as twice that of the field.
    """
    destination = Destination(out, overwrite=overwrite)
    require_whole(modes=modes, eofs=eofs)
    require_complex_format(out)
    prepared = prepare(
        data, dim=dim, variable=variable, weights=weights, anomalies=anomalies, detrend=detrend,
        memory=memory,
    )  # fmt: skip
    for one in prepared:
        if one.matrix.dtype.kind == "c":
            raise DTypeError(f"an analytic signal is that of a real field; {one.name} is complex")
    require_storable(out, prepared)
    require_ddof(ddof, prepared)
    _require_equal_steps(prepared[0].field)
    most = kept_eofs(prepared, eofs)
    if not 1 <= modes <= most:
        raise OptionError(f"modes is from 1 to {most}, the EOFs kept; found {modes}")
    with destination.explaining(), forgetting_constants(destination.scratch):
        reduced = reduce_field(
            prepared, eofs, seed=seed, memory=memory, out=destination.scratch,
            here_nbytes=small_nbytes(prepared, eofs, **_SIGNAL), overwrite=overwrite,
            progress=progress,
        )  # fmt: skip
    signal = _analytic(reduced.u * reduced.s)
    return destination.keep(_decompose(reduced, signal, modes, ddof))


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


def _analytic(series: NDArray[Any]) -> NDArray[Any]:
    """Take negative frequencies away and positive ones twice, along the samples."""
    samples = len(series)
    spectrum = np.fft.fft(series.astype(np.float64), axis=0)
    factors = np.zeros(samples)
    factors[0] = factors[samples // 2] = 1  # that of alternating samples has no partner
    factors[1 : (samples + 1) // 2] = 2
    return np.asarray(np.fft.ifft(spectrum * factors[:, None], axis=0))


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
