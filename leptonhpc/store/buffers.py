"""Memory that a thread reads into again and again: fresh memory costs more than reading into it."""

from __future__ import annotations

import threading
import weakref
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

_local = threading.local()


class _Buffers:
    """One thread's buffers by name."""

    def __init__(self) -> None:
        self.arrays: dict[str, NDArray[np.uint8]] = {}
        _every.add(self)


_every: weakref.WeakSet[_Buffers] = weakref.WeakSet()


def buffer(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Give this thread's buffer of one name, which grows and stays until `drop_buffers`.

    Parameters
    ----------
    name : str
        Of the buffer.
    shape : tuple of int
        Wanted.
    dtype : dtype
        Wanted.

    Returns
    -------
    array
        Of that shape; its values are what was there before.
    """
    nbytes = prod(shape) * dtype.itemsize
    if not hasattr(_local, "buffers"):
        _local.buffers = _Buffers()
    arrays: dict[str, NDArray[np.uint8]] = _local.buffers.arrays
    held = arrays.get(name)
    if held is None or held.nbytes < nbytes:
        held = None
        arrays.pop(name, None)
        held = arrays[name] = np.empty(nbytes, np.uint8)
    return held[:nbytes].view(dtype).reshape(shape)


def drop_buffers() -> None:
    """Let the buffers of all threads go: a worker's threads live on when a job has ended."""
    for buffers in list(_every):
        buffers.arrays.clear()
