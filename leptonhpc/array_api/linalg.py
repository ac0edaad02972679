"""The `linalg` extension of the array API standard, over blocked arrays and NumPy's."""

from leptonhpc.array_api.decompositions import (
    EighResult,
    QRResult,
    SVDResult,
    cholesky,
    eigh,
    eigvalsh,
    qr,
    svd,
    svdvals,
)
from leptonhpc.array_api.entries import diagonal, matrix_norm, trace, vector_norm
from leptonhpc.array_api.products import (
    cross,
    matmul,
    matrix_power,
    matrix_transpose,
    outer,
    tensordot,
    vecdot,
)
from leptonhpc.array_api.systems import SlogdetResult, det, inv, matrix_rank, pinv, slogdet, solve

__all__ = [
    "EighResult",
    "QRResult",
    "SVDResult",
    "SlogdetResult",
    "cholesky",
    "cross",
    "det",
    "diagonal",
    "eigh",
    "eigvalsh",
    "inv",
    "matmul",
    "matrix_norm",
    "matrix_power",
    "matrix_rank",
    "matrix_transpose",
    "outer",
    "pinv",
    "qr",
    "slogdet",
    "solve",
    "svd",
    "svdvals",
    "tensordot",
    "trace",
    "vecdot",
    "vector_norm",
]
