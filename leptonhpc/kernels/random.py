"""Gaussian rows that depend on their number and the seed only, not on any grid."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

_ROWS = 1024


def gaussian_rows(seed: int, start: int, stop: int, width: int, dtype: DTypeLike) -> NDArray[Any]:
    """Draw rows `start` to `stop` of an endless Gaussian matrix with `width` columns.

    Parameters
    ----------
    seed : int
        Names the matrix.
    start, stop : int
        The rows.
    width : int
        Columns.
    dtype : dtype
        Real or complex floating; complex entries have unit variance in total.

    Returns
    -------
    array of shape (stop - start, width)
        From Philox counters keyed by (seed, block of 1024 rows).
    """
    kind = np.dtype(dtype)
    complex_ = kind.kind == "c"
    parts = []
    for block in range(start // _ROWS, -(-stop // _ROWS)):
        key = np.array([seed, block], dtype=np.uint64)
        generator = np.random.Generator(np.random.Philox(key=key))
        rows = generator.standard_normal((_ROWS, width * (1 + complex_)))
        if complex_:
            rows = rows.view(np.complex128) / np.sqrt(2)
        low, high = max(start - block * _ROWS, 0), min(stop - block * _ROWS, _ROWS)
        parts.append(rows[low:high])
    return np.concatenate(parts).astype(kind) if parts else np.empty((0, width), kind)
