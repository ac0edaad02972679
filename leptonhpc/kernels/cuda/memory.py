"""Memory, copies and streams of a GPU, by CuPy.

Kernels run in CuPy's null stream, copies in a stream of their own that does not wait for it: what
must wait for what is said by events (`leptonhpc.kernels.staging`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.kernels.staging import Stream

_OF_FREE = 0.8


def capacity_of(cupy: Any, wanted: str | None) -> int:
    """Say how much of a GPU's memory may be used.

    Parameters
    ----------
    cupy : module
        CuPy.
    wanted : str or None
        Bytes, or a part of what is free if no larger than 1; None: four fifths.

    Returns
    -------
    int
        Bytes.

    Raises
    ------
    ValueError
        If it is no positive number.
    """
    free = int(cupy.cuda.runtime.memGetInfo()[0]) + _pool_of_rmm(cupy)
    try:
        amount = _OF_FREE if wanted is None else float(wanted)
    except ValueError:
        amount = math.nan
    if not 0 < amount < math.inf:
        message = f"LEPTONHPC_DEVICE_MEMORY is bytes, or a part from 0 to 1; found {wanted!r}"
        raise ValueError(message)
    return min(free, int(amount * free) if amount <= 1 else int(amount))


def _pool_of_rmm(cupy: Any) -> int:
    """Give the bytes of the pool that RMM serves CuPy from, if it does: they are not free."""
    serving = getattr(cupy.cuda.get_allocator(), "__module__", None) or ""
    if serving.partition(".")[0] != "rmm":
        return 0
    resource = import_module("rmm.mr").get_current_device_resource()
    while resource is not None and not hasattr(resource, "pool_size"):
        resource = getattr(resource, "upstream_mr", None)
    return 0 if resource is None else int(resource.pool_size())


class CupyEngine:
    """What `leptonhpc.kernels.staging` needs of a GPU.

    Parameters
    ----------
    cupy : module
        CuPy.
    capacity_nbytes : int
        Most that CuPy's pool takes of the device. Where another allocator serves CuPy (RMM, as
        dask-cuda sets it up), that one has its own limit.
    """

    def __init__(self, cupy: Any, capacity_nbytes: int) -> None:
        self._cupy, self._cuda = cupy, cupy.cuda
        self._full = (cupy.cuda.memory.OutOfMemoryError, MemoryError)  # the second is RMM's
        self._copies = cupy.cuda.Stream(non_blocking=True)
        self._kernels = cupy.cuda.Stream.null
        cupy.get_default_memory_pool().set_limit(size=capacity_nbytes)

    def pinned(self, nbytes: int) -> NDArray[np.uint8]:
        """Give page-locked memory of the host: not of CuPy's pool, which rounds up and keeps."""
        memory = self._cuda.PinnedMemoryPointer(self._cuda.PinnedMemory(nbytes), 0)
        return np.frombuffer(memory, np.uint8, nbytes)

    def allocate(self, nbytes: int) -> Any | None:
        """Give memory of the device; None if there is no more."""
        try:
            return self._cuda.alloc(nbytes)
        except self._full:
            return None

    def give_up_first(self, release: Callable[[], bool]) -> None:
        """Let kernels that find no memory have what waits for the next block.

        Parameters
        ----------
        release : callable
            Gives memory back; says whether there was any.
        """
        allocate = self._cuda.get_allocator()

        def served(nbytes: int) -> Any:
            try:
                return allocate(nbytes)
            except self._full:
                if not release():
                    raise
            return allocate(nbytes)

        self._cuda.set_allocator(served)

    def array(self, memory: Any, shape: tuple[int, ...], dtype: Any, lease: Any) -> Any:
        """Give an array on memory of the device, all views of which keep the lease."""
        nbytes = math.prod(shape) * np.dtype(dtype).itemsize
        owned = self._cuda.UnownedMemory(memory.ptr, nbytes, lease)
        return self._cupy.ndarray(shape, dtype, memptr=self._cuda.MemoryPointer(owned, 0))

    def copy_in(self, memory: Any, offset: int, host: NDArray[np.uint8]) -> None:
        """Begin a copy to the device in the stream of copies."""
        if host.nbytes:
            place = memory + offset
            place.copy_from_host_async(host.ctypes.data, host.nbytes, self._copies)

    def copy_out(self, host: NDArray[np.uint8], array: Any) -> None:
        """Begin a copy of a contiguous array to page-locked memory, in the stream of copies."""
        if host.nbytes:
            array.data.copy_to_host_async(host.ctypes.data, host.nbytes, self._copies)

    def mark(self, stream: Stream) -> Any:
        """Give an event: what was asked of a stream until now is done."""
        event = self._cuda.Event(disable_timing=True)
        event.record(self._stream(stream))
        return event

    def follow(self, stream: Stream, event: Any) -> None:
        """Let a stream go on only after an event."""
        self._stream(stream).wait_event(event)

    def wait(self, event: Any) -> None:
        """Let the host go on only after an event."""
        event.synchronize()

    def _stream(self, stream: Stream) -> Any:
        return self._copies if stream == "copies" else self._kernels
