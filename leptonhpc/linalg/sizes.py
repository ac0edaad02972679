"""Sizes of numbers, also of those at the ends of the range."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


def length(values: NDArray[Any]) -> float:
    """Give the Frobenius norm of a small array, also where squares over- or underflow.

    Parameters
    ----------
    values : array
        Real or complex.

    Returns
    -------
    float
        The norm; infinite if a value is not finite.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        largest = float(np.max(np.abs(values), initial=0.0))
    if not math.isfinite(largest):
        return math.inf
    wide = np.ascontiguousarray(values, np.result_type(values.dtype, np.float64))
    # part by part: complex numbers cannot be divided by the smallest
    return largest * float(np.linalg.norm(wide.view(np.float64) / largest)) if largest else 0.0


def grain(dtype: Any, size: float) -> float:
    """Give what storing numbers that are too small for their precision may add to an error.

    Parameters
    ----------
    dtype : dtype
        Real or complex.
    size : float
        Of the largest; zero is stored as it is.

    Returns
    -------
    float
        Two of the smallest numbers of the dtype: beside any of ordinary size nothing.
    """
    return 2.0 * float(np.finfo(dtype).smallest_subnormal) * bool(size)


def lengths(vectors: NDArray[Any]) -> NDArray[np.float64]:
    """Give the Euclidean norms of columns, as `length` does.

    Parameters
    ----------
    vectors : array of shape (n, k)
        Real or complex.

    Returns
    -------
    array of shape (k,)
        The norms.
    """
    return np.array([length(column) for column in vectors.T])
