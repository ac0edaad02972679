"""Arrays of an accumulator that move to the device where it is gone on with."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.kernels.fold import Accumulator, Blas


def bring(acc: Accumulator, blas: Blas, name: str) -> Any:
    """Give an array of an accumulator on the device.

    Parameters
    ----------
    acc : dict
        Its entry may be an array of the host: as the host left it, as it came from another worker,
        or as an interrupted job kept it. It is one of the device afterwards, maybe in the same
        memory.
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
        acc[name] = moved_in(blas, acc[name])
    return acc[name]


def moved_in(blas: Blas, array: NDArray[Any]) -> Any:
    """Give what nobody else uses any more as an array of the device, maybe in the same memory."""
    return blas.put(array) if blas.take is None or not array.flags.writeable else blas.take(array)


def moved_out(blas: Blas, array: Any) -> NDArray[Any]:
    """Give what nobody else uses any more as an array of the host, maybe in the same memory."""
    if isinstance(array, np.ndarray):
        return array
    back: NDArray[Any] = blas.get(array) if blas.give is None else blas.give(array)
    return back
