"""Which function serves a kernel on which device."""

from __future__ import annotations

from functools import cache

from leptonhpc.errors import OptionError
from leptonhpc.kernels import bands, blas, products, reference
from leptonhpc.kernels.fold import Blas, Fold

DEVICES = {
    "host": Blas(blas.gemm, blas.syrk, blas.sum_of_squares),
    "reference": Blas(reference.gemm, reference.syrk, reference.sum_of_squares),
}


@cache
def table(device: str) -> dict[str, Fold]:
    """Give the kernels of a device by name.

    Parameters
    ----------
    device : str
        One of `DEVICES`.

    Returns
    -------
    dict of str to Fold
        The kernels.
    """
    if device not in DEVICES:
        message = f"there are kernels for {', '.join(DEVICES)}; found {device!r}"
        raise OptionError(message)
    primitives = DEVICES[device]
    return {
        "moments": bands.Moments(primitives),
        "gram": bands.Gram(primitives),
        "normal": bands.Normal(primitives),
        "sketch": bands.Sketch(primitives),
        "rotate": bands.Rotate(primitives),
        "gemm": products.Gemm(primitives),
        "syrk": products.Syrk(primitives),
        "norms": products.Norms(primitives),
        "copy": products.Copy(primitives),
    }
