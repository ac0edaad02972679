"""NVIDIA GPUs, by CuPy: its arrays, and the routines of cuBLAS and cuSOLVER that it brings.

What was run of this was run on a double of CuPy (`leptonhpc.testing.cuda_double`), not on a GPU;
`benchmarks/gpu_check.py` is what to run on one first. Probes and certificates tell how fast and
how right it is.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.kernels.accelerated.hybrid import Hybrid
from leptonhpc.kernels.accelerators import sum_of_squares_by
from leptonhpc.kernels.cuda.factorisations import Factorisations
from leptonhpc.kernels.cuda.memory import CupyEngine, capacity_of
from leptonhpc.kernels.cuda.products import Products
from leptonhpc.kernels.fold import Blas
from leptonhpc.kernels.staging import Staging

_PLANNED = 0.75
"""What jobs are planned within: the rest is for blocks that are copied ahead, widened, or copied
column by column, and for workspaces."""


def primitives() -> Blas:
    """Give what a GPU brings.

    Returns
    -------
    Blas
        Products and factorisations on the GPU, in the dtype of computing: TF32 is not used for
        float32 but where a job asks for it (the kind ``cuda-tf32`` does unless a job asks not to).

    Raises
    ------
    ImportError
        If CuPy is not installed, or finds no CUDA libraries: the extras are ``leptonhpc[cuda12]``
        and ``[cuda13]``.
    RuntimeError
        If no GPU is visible to this process.
    """
    import cupy

    if not cupy.is_available():
        raise RuntimeError("no CUDA device is visible to this process")
    return made_of(cupy, cupy.cuda.cublas, cupy.cuda.cusolver)


def made_of(cupy: Any, cublas: Any, cusolver: Any, *, tf32: bool = False) -> Blas:
    """Make the primitives of a GPU from CuPy and its libraries.

    Parameters
    ----------
    cupy, cublas, cusolver : modules
        CuPy, and its bindings of the two libraries (or doubles of them).
    tf32 : bool
        Products in single precision round their factors to 11 bits.

    Returns
    -------
    Blas
        The primitives. Its memory is ``$LEPTONHPC_DEVICE_MEMORY`` bytes, or that part of what is
        free if it is no larger than 1; default: 0.8.
    """
    Products(
        cupy, cublas
    ).begin()  # handles and their workspaces are not in the pool: they come before its cap
    cupy.cuda.device.get_cusolver_handle()
    capacity = capacity_of(cupy, os.environ.get("LEPTONHPC_DEVICE_MEMORY"))
    planned, engine = int(_PLANNED * capacity), CupyEngine(cupy, capacity)
    staging = Staging(engine)
    engine.give_up_first(staging.release)

    def put(host: NDArray[Any]) -> Any:
        array = np.asarray(host)
        return staging.put(array if array.dtype.isnative else array.astype(array.dtype.name))

    def get(array: Any) -> NDArray[Any]:
        return staging.get(cupy.ascontiguousarray(array), np.dtype(array.dtype.str))

    def cast(a: Any, dtype: Any) -> Any:
        return a.astype(dtype, copy=False)

    def computing(rounded: bool) -> Blas:
        products = Products(cupy, cublas, rounded)
        hybrid = Hybrid(products.gemm, put, get, put, get)
        factorisations = Factorisations(cupy, cublas, cusolver, products, hybrid)
        return Blas(
            products.gemm, products.syrk, products.trsm, hybrid.trmm,
            sum_of_squares_by(cupy, cast, planned), factorisations.potrf, factorisations.getrf,
            factorisations.permute,
            factorisations.geqrf, hybrid.reflect, zeros=cupy.zeros, put=put, get=get,
            diagonal=cupy.diagonal, all_finite=lambda a: bool(cupy.isfinite(a).all()),
            array=cupy.ndarray, xp=cupy, cast=cast, stage=staging.stage, syevd=factorisations.syevd,
            capacity_nbytes=planned, precision="tf32" if rounded else "full",
            turned=lambda: both[not rounded],
        )  # fmt: skip

    both = {rounded: computing(rounded) for rounded in (False, True)}  # of one memory
    return both[tf32]
