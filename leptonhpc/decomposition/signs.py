"""Signs of singular vectors, fixed as scikit-learn fixes them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from leptonhpc.decomposition.bands import bands
from leptonhpc.decomposition.samples import Samples


def signs_of_rows(vh: NDArray[np.floating]) -> NDArray[np.floating]:
    """Give the sign of the largest entry of each row.

    Parameters
    ----------
    vh : array of shape (k, n)
        Right singular vectors.

    Returns
    -------
    array of shape (k,)
        1 or -1.
    """
    largest = vh[np.arange(len(vh)), np.argmax(np.abs(vh), axis=1)]
    return np.where(largest < 0, -1.0, 1.0).astype(vh.dtype)


def signs_of_columns(u: Samples) -> NDArray[np.floating]:
    """Give the sign of the largest entry of each column; a blocked array is read in row bands.

    Parameters
    ----------
    u : array of shape (m, k)
        Left singular vectors.

    Returns
    -------
    array of shape (k,)
        1 or -1.
    """
    columns = u.shape[1]
    found = np.zeros(columns, u.dtype)
    for _, band in bands(u):
        largest = band[np.argmax(np.abs(band), axis=0), np.arange(columns)]
        found = np.where(np.abs(largest) > np.abs(found), largest, found)
    return np.where(found < 0, -1.0, 1.0).astype(u.dtype)
