"""Arrays of an accumulator that move to the device where it is gone on with."""

from __future__ import annotations

from typing import Any

import numpy as np

from leptonhpc.kernels.fold import Accumulator, Blas


def bring(acc: Accumulator, blas: Blas, name: str) -> Any:
    """Give an array of an accumulator on the device.

    Parameters
    ----------
    acc : dict
        Its entry may be an array of the host: as the host left it, as it came from another worker,
        or as an interrupted job kept it. It is one of the device afterwards.
    blas : Blas
        Of the device.
    name : str
        The entry.

    Returns
    -------
    array of the device
        The entry.
    """
    if isinstance(acc[name], np.ndarray):
        acc[name] = blas.put(acc[name])
    return acc[name]
