"""The Dataset of a decomposition: maps, scores, variances, certificate."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from leptonhpc.climate.prepared import Prepared
from leptonhpc.climate.spectra import spectrum
from leptonhpc.climate.unstacking import coordinates, grids, mode_index, on_grid

if TYPE_CHECKING:
    import xarray as xr

_TITLES = {
    "eof": "empirical orthogonal functions",
    "hilbert_eof": "complex empirical orthogonal functions",
}


def assemble(
    prepared: Sequence[Prepared],
    *,
    scores: NDArray[Any],
    s: NDArray[Any],
    vh: Any,
    mean: Any,
    norm: float,
    ddof: int,
    method: str,
    certificate: Any,
    report: Any,
) -> xr.Dataset:
    """Give a decomposition as `eof` returns it.

    Parameters
    ----------
    prepared : sequence of Prepared
        The fields.
    scores : array of shape (m, k)
        Principal components.
    s : array of shape (k,)
        Singular values.
    vh : array of shape (k, n), NumPy or blocked
        EOFs as rows.
    mean : array of shape (n,)
        What was subtracted.
    norm : float
        Frobenius norm of what was decomposed.
    ddof : int
        Taken off the samples.
    method : {"eof", "hilbert_eof"}
        What was done.
    certificate, report : Certificate, Report
        Of the svd.

    Returns
    -------
    Dataset
        Lazy where `vh` is.
    """
    import xarray as xr

    first = prepared[0].field
    samples = prepared[0].matrix.shape[0]
    found: dict[str, Any] = {}
    for grid in grids(prepared):
        found |= on_grid(grid, vh, mean)
    described = {"long_name": "principal components", **_units(prepared)}
    found["pcs"] = xr.Variable((first.dim, "mode"), scores, described)
    found |= spectrum(s, norm, samples=samples, ddof=ddof)
    coords = {**mode_index(len(s)), **coordinates(prepared)}
    attributes = {
        "Conventions": "CF-1.8",
        "title": f"{_TITLES[method]} of {', '.join(one.name for one in prepared)}",
        "method": method,
        "dim": first.dim,
        "fields": json.dumps([one.name for one in prepared]),
        "samples": samples,
        "ddof": ddof,
        "certificate": json.dumps(certificate.to_dict()),
        "report": json.dumps(report.to_dict()),
    }
    terms = prepared[0].terms
    if terms is not None:
        attributes["removed"] = terms.to_json()
    return xr.Dataset(found, coords, attributes)


def _units(prepared: Sequence[Prepared]) -> dict[str, str]:
    units = {one.field.array.attrs.get("units") for one in prepared}
    only = units.pop() if len(units) == 1 else None
    return {} if only is None else {"units": str(only)}
