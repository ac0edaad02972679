"""A device that runs everywhere: array-api-strict's second device, which refuses to be mixed.

Its arrays lie in the host's memory and can be used neither by NumPy nor with arrays of another
device without being copied: what works with it does not mistake a device's array for a host's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.kernels.accelerators import accelerator
from leptonhpc.kernels.fold import Blas


def primitives() -> Blas:
    """Give what the device brings; needs array-api-strict.

    Returns
    -------
    Blas
        Its primitives.
    """
    import array_api_strict as xp

    there, here = xp.Device("device1"), xp.Device("CPU_DEVICE")

    def put(host: NDArray[Any]) -> Any:
        return xp.asarray(np.array(host), device=there)

    def get(array: Any) -> NDArray[Any]:
        return np.asarray(array.to_device(here))  # which is a copy

    def take(host: NDArray[Any]) -> Any:
        return xp.asarray(host, device=there, copy=False)

    def give(array: Any) -> NDArray[Any]:
        return np.asarray(xp.asarray(array, device=here, copy=False))

    kind = type(put(np.zeros(1)))
    return accelerator(xp, kind, put=put, get=get, take=take, give=give)
