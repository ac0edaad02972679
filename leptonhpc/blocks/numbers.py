"""Which arrays are numbers to us, and where they are."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.errors import DTypeError


def require_numbers(dtype: np.dtype[Any], what: str) -> None:
    """Refuse what is neither a number of up to 64 bits (128 if complex) nor a boolean.

    Parameters
    ----------
    dtype : dtype
        Of an array.
    what : str
        The array, for the message.

    Raises
    ------
    DTypeError
        If it is something else.
    """
    if dtype.kind not in "biufc" or dtype.itemsize > 16 or dtype.char in "gG":
        message = f"{what} has dtype {dtype}; numbers of up to 64 bits or booleans are needed"
        raise DTypeError(message)


def on_host(values: Any) -> Any:
    """Give an array that NumPy can read.

    Parameters
    ----------
    values : array
        Numbers.

    Returns
    -------
    array
        The same; a copy of what is in the memory of a GPU (CuPy's arrays refuse NumPy).
    """
    if not (hasattr(values, "__cuda_array_interface__") and hasattr(values, "get")):
        return values
    values.device.synchronize()  # a stream that this thread does not know may compute it still
    return values.get()


def without_mask(values: Any) -> NDArray[Any]:
    """Give values as an array; a mask would be lost.

    Parameters
    ----------
    values : array-like
        From a user.

    Returns
    -------
    array
        They.

    Raises
    ------
    DTypeError
        If some of them are masked.
    """
    if np.ma.is_masked(values):
        count = int(np.ma.getmaskarray(values).sum())
        message = (
            f"{count} values are masked, and an array here has no mask. Fill them: "
            "values.filled(number), or NaN where missing values are allowed"
        )
        raise DTypeError(message)
    return np.asarray(values)
