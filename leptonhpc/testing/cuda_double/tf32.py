"""The double of a GPU whose single precision products round their factors to 11 bits."""

from __future__ import annotations

from leptonhpc.kernels.fold import Blas
from leptonhpc.testing.cuda_double import double


def primitives() -> Blas:
    """Give the primitives of a GPU with 1 GB, as `leptonhpc.kernels.cuda.tf32` gives them.

    Returns
    -------
    Blas
        Its `precision` is "tf32".
    """
    return double(10**9, tf32=True)[0]
