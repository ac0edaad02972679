"""The primitives of the host: BLAS and LAPACK without the GIL, in place, on its own arrays."""

from __future__ import annotations

from leptonhpc.kernels import blas, dense
from leptonhpc.kernels.fold import Blas

HOST = Blas(
    blas.gemm, blas.syrk, blas.trsm, blas.trmm, blas.sum_of_squares, dense.potrf, dense.getrf,
    dense.permute, dense.geqrf, dense.reflect,
)  # fmt: skip
"""What accelerators leave to the host is done by these."""
