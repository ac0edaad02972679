"""Samples read band by band, on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

import leptonhpc as lh
from leptonhpc.decomposition.samples import Samples

_BAND_NBYTES = 32 << 20


def bands(x: Samples) -> Iterator[tuple[int, NDArray[Any]]]:
    """Give a matrix band by band, each of whole chunks.

    Parameters
    ----------
    x : array of shape (m, n)
        In memory or blocked.

    Yields
    ------
    tuple of (int, array of shape (up to m, n))
        First row, and the rows as they are stored; about 32 MB in double precision.
    """
    array = lh.open(x)
    rows, columns = array.shape
    unit = max(1, array.source.unit[0])
    step = unit * max(1, _BAND_NBYTES // (8 * columns * unit))
    for low in range(0, rows, step):
        yield low, array.read(((low, min(low + step, rows)), (0, columns)))
