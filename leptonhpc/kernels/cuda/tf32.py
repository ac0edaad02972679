"""NVIDIA GPUs whose single precision products round their factors to 11 bits, by choice.

Double precision is what it is. What cuSOLVER factors at once keeps all bits of single precision.
"""

from __future__ import annotations

from leptonhpc.kernels.cuda import made_of
from leptonhpc.kernels.fold import Blas


def primitives() -> Blas:
    """Give what a GPU brings; see `leptonhpc.kernels.cuda.primitives`.

    Returns
    -------
    Blas
        Its `precision` is "tf32".

    Raises
    ------
    ImportError
        If CuPy is not installed, or finds no CUDA libraries.
    RuntimeError
        If no GPU is visible to this process.
    """
    import cupy

    if not cupy.is_available():
        raise RuntimeError("no CUDA device is visible to this process")
    return made_of(cupy, cupy.cuda.cublas, cupy.cuda.cusolver, tf32=True)
