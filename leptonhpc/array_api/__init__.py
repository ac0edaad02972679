"""A namespace of the Python array API standard whose linear algebra takes blocked arrays.

Everything else is that of `array_api_compat.numpy`: plain arrays are NumPy's.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

import numpy as np
from array_api_compat.numpy import *  # noqa: F403

from leptonhpc.array_api.choice import in_memory, using_drivers
from leptonhpc.array_api.products import matmul, matrix_transpose, tensordot, vecdot
from leptonhpc.blocks import BlockedArray

_numpy: Any = import_module("array_api_compat.numpy")
linalg = import_module("leptonhpc.array_api.linalg")  # "from" would give that of the line with *

__array_api_version__: Final = "2024.12"
__array_namespace_info__ = _numpy.__array_namespace_info__


def asarray(obj: Any, /, *, dtype: Any = None, device: Any = None, copy: bool | None = None) -> Any:
    """Make an array; a BlockedArray stays as it is unless another dtype or a copy is asked for.

    Parameters
    ----------
    obj : array, number, sequence or BlockedArray
        The values.
    dtype : dtype, optional
        Of the array.
    device : {"cpu"}, optional
        The only one of NumPy arrays.
    copy : bool, optional
        Whether it must be, or must not be, a copy.

    Returns
    -------
    ndarray or BlockedArray
        The array.

    Raises
    ------
    MemoryBudgetError
        If a BlockedArray must be read, and does not fit.

    Examples
    --------
    >>> import leptonhpc as lh
    >>> import leptonhpc.array_api as xp
    >>> x = lh.open([[1.0, 2.0]])
    >>> xp.asarray(x) is x
    True
    """
    if isinstance(obj, BlockedArray):
        if (dtype is None or np.dtype(dtype) == obj.dtype) and not copy:
            return obj
        obj = in_memory(obj, "asarray(dtype=, copy=)", times=2)
    return _numpy.asarray(obj, dtype=dtype, device=device, copy=copy)


__all__ = [
    "__array_api_version__",
    "__array_namespace_info__",
    "asarray",
    "linalg",
    "matmul",
    "matrix_transpose",
    "tensordot",
    "using_drivers",
    "vecdot",
]
__all__ += [name for name in _numpy.__all__ if name not in __all__]


def __dir__() -> list[str]:
    """List public names."""
    return sorted(__all__)
