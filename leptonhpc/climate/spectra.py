"""Variances of modes and their sampling errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.climate.prepared import Prepared
from leptonhpc.errors import OptionError, ShapeError


def spectrum(s: NDArray[Any], norm: float, *, samples: int, ddof: int) -> dict[str, Any]:
    """Give what singular values say of variance, as variables along modes.

    Parameters
    ----------
    s : array of shape (k,)
        Singular values of the centred, weighted field.
    norm : float
        Its Frobenius norm.
    samples : int
        Its rows.
    ddof : int
        What is taken off them.

    Returns
    -------
    dict of xarray.Variable
        ``singular_values``, ``eigenvalues``, ``variance_fraction``, ``north_errors``,
        ``total_variance``.

    Notes
    -----
    North's rule of thumb: the sampling error of an eigenvalue is ``eigenvalue * sqrt(2 / samples)``
    [1]_, for samples that are independent.

    References
    ----------
    .. [1] G. R. North et al., Mon. Wea. Rev. 110, 699-706, 1982, equation 24.
    """
    import xarray as xr

    values = np.asarray(s, dtype=np.float64)
    eigenvalues = values**2 / (samples - ddof)
    total = norm**2 / (samples - ddof)
    described = {
        "singular_values": (values, "singular values of the weighted field"),
        "eigenvalues": (eigenvalues, "variances of the modes"),
        "variance_fraction": (eigenvalues / total, "share of the total variance"),
        "north_errors": (
            eigenvalues * np.sqrt(2 / samples), "sampling errors of the variances, North's rule",
        ),
    }  # fmt: skip
    found: dict[str, Any] = {
        name: xr.Variable(("mode",), numbers, {"long_name": text})
        for name, (numbers, text) in described.items()
    }
    found["variance_fraction"].attrs["units"] = "1"
    found["total_variance"] = xr.Variable((), total, {"long_name": "variance of all modes"})
    return found


def require_ddof(ddof: int, prepared: Sequence[Prepared]) -> None:
    """Refuse samples, and what is taken off them, that leave no divisor of variances.

    Parameters
    ----------
    ddof : int
        What is taken off the samples.
    prepared : sequence of Prepared
        Fields of the same samples.

    Raises
    ------
    ShapeError
        If there is one sample.
    OptionError
        If `ddof` is not from 0 to one less than the samples.
    """
    first = prepared[0]
    samples = first.matrix.shape[0]
    if samples < 2:
        message = f"variance is that of two samples or more; {first.name} has {samples} along"
        raise ShapeError(f"{message} {first.field.dim}. Name another dimension with dim=")
    if not 0 <= ddof < samples:
        raise OptionError(f"ddof is from 0 to {samples - 1}, less than the samples; found {ddof}")
