"""Variances of modes and their sampling errors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


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
