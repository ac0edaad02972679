"""NVIDIA GPUs, by CuPy. It was run on doubles of a GPU only; `probe` and certificates will tell."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.kernels.accelerators import accelerator
from leptonhpc.kernels.fold import Blas


def primitives() -> Blas:
    """Give what a GPU brings.

    Returns
    -------
    Blas
        Products on the GPU in the dtype of computing; TF32 is never used for float32.

    Raises
    ------
    ImportError
        If CuPy is not installed: the extras are ``leptonhpc[cuda12]`` and ``[cuda13]``.
    RuntimeError
        If no GPU is visible to this process.
    """
    import cupy
    from array_api_compat import cupy as xp

    if not cupy.is_available():
        raise RuntimeError("no CUDA device is visible to this process")

    def put(host: NDArray[Any]) -> Any:
        return cupy.asarray(host)

    def get(array: Any) -> NDArray[Any]:
        return np.array(cupy.asnumpy(array))

    return accelerator(xp, cupy.ndarray, put=put, get=get)
