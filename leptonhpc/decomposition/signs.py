"""Signs of singular vectors, fixed as scikit-learn fixes them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

import leptonhpc as lh
from leptonhpc.decomposition.samples import Samples

_ROWS_NBYTES = 32 << 20


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
    array = lh.open(u)
    rows, columns = array.shape
    unit = max(1, array.source.unit[0])
    step = unit * max(1, _ROWS_NBYTES // (8 * columns * unit))
    found = np.zeros(columns, array.dtype)
    for low in range(0, rows, step):
        band = array.read(((low, min(low + step, rows)), (0, columns)))
        largest = band[np.argmax(np.abs(band), axis=0), np.arange(columns)]
        found = np.where(np.abs(largest) > np.abs(found), largest, found)
    return np.where(found < 0, -1.0, 1.0).astype(array.dtype)
