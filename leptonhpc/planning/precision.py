"""What numbers are computed with, and what that adds to rounding."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, get_args

import numpy as np

from leptonhpc.errors import OptionError

Precision = Literal["float64", "float32", "tf32"]
PRECISIONS: tuple[str, ...] = get_args(Precision)

TF32_ROUNDOFF = 2.0**-11
"""Unit roundoff of a factor that is rounded to 11 bits, to nearest."""

_WIDE = (
    "gram", "moments", "rotate", "norms", "solved_gram", "stack", "residual", "shortest", "gather",
    "apply_bands", "normal_bands", "gather_rows", "isometry", "hemm",
)  # fmt: skip
"""Kernels that compute in double precision whatever the dtype of the data."""
_BANDED = ("normal", "sketch", "gram_narrow")
"""Kernels that sum in the dtype of computing within a band, or some rows, and then in double."""


def require_precision(value: Any, known: Iterable[str] = PRECISIONS) -> None:
    """Refuse a precision that there is not.

    Parameters
    ----------
    value : object
        What was given; None is as the input's dtype.
    known : iterable of str
        What there is.

    Raises
    ------
    OptionError
        If it is something else.
    """
    if value is not None and value not in known:
        names = ", ".join(map(repr, known))
        raise OptionError(f"precision is None (as the input's dtype), {names}; found {value!r}")


def computing_dtype(dtype: np.dtype[Any], precision: Precision | None) -> np.dtype[Any]:
    """Give the dtype in which an input is computed with.

    Parameters
    ----------
    dtype : dtype
        Of the input.
    precision : {None, "float64", "float32", "tf32"}
        What was asked for.

    Returns
    -------
    dtype
        Real or complex as the input; its own for None.
    """
    if precision is None:
        return dtype
    wide = precision == "float64"
    if dtype.kind == "c":
        return np.dtype(np.complex128 if wide else np.complex64)
    return np.dtype(np.float64 if wide else np.float32)


def products_roundoff(dtype: Any, precision: str | None) -> float:
    """Give what rounding the factors of a product adds to its relative error.

    Parameters
    ----------
    dtype : dtype
        Of computing.
    precision : str or None
        Of the job.

    Returns
    -------
    float
        2^-10 for TF32, each factor being rounded to 2^-11; zero for all else, and for double
        precision, which TF32 leaves as it is.
    """
    rounded = precision == "tf32" and np.dtype(dtype).char in "fF"
    return 2 * TF32_ROUNDOFF if rounded else 0.0


def rounding(terms: float, dtype: Any, precision: str | None) -> float:
    """Give the relative error of sums of products: ``terms`` eps, and that of rounded factors.

    Parameters
    ----------
    terms : float
        What the sums' rounding grows with.
    dtype : dtype
        Of computing, in which sums are accumulated.
    precision : str or None
        Of the job.

    Returns
    -------
    float
        |fl(x^H y) - x^H y| is at most this part of |x|^H |y| [1]_: with TF32 products are exact in
        single precision, so what is lost is in the factors, once, and in the sum.

    References
    ----------
    .. [1] P. Blanchard, N. J. Higham, F. Lopez, T. Mary, S. Pranesh, Mixed precision block fused
       multiply-add: error analysis and application to GPU tensor cores, SIAM J. Sci. Comput. 42,
       2020, Theorem 3.2.
    """
    return terms * float(np.finfo(dtype).eps) + products_roundoff(dtype, precision)


def arithmetic_of(kernel: str, dtype: Any, precision: str | None) -> tuple[str, str]:
    """Say what a kernel computes with, and what it sums in.

    Parameters
    ----------
    kernel : str
        Its name in the table.
    dtype : dtype
        Of computing.
    precision : str or None
        Of the job.

    Returns
    -------
    tuple of (str, str)
        Of products and of sums: names of dtypes, or "tf32".
    """
    found = np.dtype(dtype)
    wide = np.result_type(found, np.float64).name
    if kernel in _WIDE:
        return wide, wide
    if kernel == "gram_narrow":
        found = np.dtype(np.complex64 if found.kind == "c" else np.float32)
    products = "tf32" if products_roundoff(found, precision) else found.name
    return products, wide if kernel in _BANDED else found.name
