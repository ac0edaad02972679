"""A GPU that is not there: CuPy, cuBLAS and cuSOLVER in the host's memory, and strict.

``LEPTONHPC_DEVICE=leptonhpc.testing.cuda_double`` runs the code of the kind ``cuda`` on it. Copies
are done as late as their stream allows, so that what does not wait for them sees rubbish; a
page-locked buffer that is written before its copy is done, memory that is copied over while kernels
still read it, arrays of host and device in one operation, and memory over the limit are errors.

It knows nothing of speed, of how a real GPU rounds, or of CUDA's own errors.
"""

from __future__ import annotations

import os

from leptonhpc.kernels.cuda import made_of
from leptonhpc.kernels.fold import Blas
from leptonhpc.testing.cuda_double.arrays import Cupy
from leptonhpc.testing.cuda_double.device import Device, DoubleError
from leptonhpc.testing.cuda_double.libraries import Cublas, Cusolver

__all__ = ["Device", "DoubleError", "double", "primitives"]


def double(total_nbytes: int, *, tf32: bool = False) -> tuple[Blas, Device]:
    """Make a GPU and its primitives.

    Parameters
    ----------
    total_nbytes : int
        Its memory.
    tf32 : bool
        Products in single precision round their factors to 11 bits.

    Returns
    -------
    tuple of (Blas, Device)
        The primitives, and what they did to the device.
    """
    device = Device(total_nbytes)
    return made_of(Cupy(device), Cublas(device), Cusolver(device), tf32=tf32), device


def primitives() -> Blas:
    """Give the primitives of a GPU with ``$LEPTONHPC_DOUBLE_MEMORY`` bytes; default 1 GB.

    Returns
    -------
    Blas
        As `leptonhpc.kernels.cuda.primitives` gives them.
    """
    return double(int(os.environ.get("LEPTONHPC_DOUBLE_MEMORY", "1000000000")))[0]
