"""Copies between the host and a device that go on while the device computes.

The host's side is a ring of page-locked buffers; a buffer is written again only when its copy is
done. The device's side is memory that goes from band to band: it is written again only when the
kernels that read it are done. Both are events in the order of two streams, one of copies and one
of kernels; the host waits for neither where it need not.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from leptonhpc.errors import MemoryBudgetError
from leptonhpc.kernels import threads

Stream = Literal["copies", "kernels"]

_SLOT_NBYTES = 32 << 20
"""Of a page-locked buffer, but where a whole block is read into it."""
_SLOTS = 4
_KEPT = 6
"""Pieces of the device's memory that wait for the next block."""
_CLASS_NBYTES = 1 << 16
"""Memory of the device is taken in multiples of this."""


class Engine(Protocol):
    """What a device with streams brings: memory, copies that return at once, and events."""

    def pinned(self, nbytes: int) -> NDArray[np.uint8]:
        """Give page-locked memory of the host."""

    def allocate(self, nbytes: int) -> Any | None:
        """Give memory of the device; None if there is no more."""

    def array(self, memory: Any, shape: tuple[int, ...], dtype: Any, lease: Any) -> Any:
        """Give an array on memory of the device, all views of which keep the lease."""

    def copy_in(self, memory: Any, offset: int, host: NDArray[np.uint8]) -> None:
        """Begin a copy to the device in the stream of copies."""

    def copy_out(self, host: NDArray[np.uint8], array: Any) -> None:
        """Begin a copy of a contiguous array to page-locked memory, in the stream of copies."""

    def mark(self, stream: Stream) -> Any:
        """Give an event: what was asked of a stream until now is done."""

    def follow(self, stream: Stream, event: Any) -> None:
        """Let a stream go on only after an event."""

    def wait(self, event: Any) -> None:
        """Let the host go on only after an event."""


class Lease:
    """Held by an array of the device while it uses a piece of memory."""

    __slots__ = ("__weakref__",)


@dataclass(eq=False)
class _Slot:
    buffer: NDArray[np.uint8]
    event: Any = None
    """When the last copy from it, or to it, is done."""


@dataclass
class Staging:
    """Copies of one device."""

    engine: Engine
    """Of the device."""
    _ring: deque[_Slot] = field(default_factory=deque)
    _blocks: deque[_Slot] = field(default_factory=deque)
    _free: list[tuple[int, Any, Any]] = field(default_factory=list)
    """Memory of the device that nothing uses: bytes, memory, the event that ends its last use."""
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def put(self, host: NDArray[Any]) -> Any:
        """Copy an array to the device, through the ring.

        Parameters
        ----------
        host : array
            It may be changed as soon as this returns.

        Returns
        -------
        array of the device
            In row-major order; kernels wait for the copy, the host does not.
        """
        with self._lock:
            memory, lease = self._lend(host.nbytes)
            offset = 0
            for piece in _rows_within(host, _SLOT_NBYTES):
                slot = self._next(self._ring, piece.nbytes, _SLOTS)
                _fill(slot.buffer[: piece.nbytes], piece)
                self.engine.copy_in(memory, offset, slot.buffer[: piece.nbytes])
                slot.event = self.engine.mark("copies")
                offset += piece.nbytes
            return self._arrived(memory, host.shape, host.dtype, lease)

    def stage(
        self, shape: tuple[int, ...], dtype: np.dtype[Any],
        read: Callable[[NDArray[Any]], NDArray[Any]],
    ) -> Any:  # fmt: skip
        """Read a block into page-locked memory and copy it to the device.

        Parameters
        ----------
        shape : tuple of int
            Of the block.
        dtype : dtype
            As stored: it is widened on the device.
        read : callable
            Fills the array that it is given, or gives another.

        Returns
        -------
        array of the device
            The block; its columns may be contiguous instead of its rows.
        """
        nbytes = math.prod(shape) * dtype.itemsize
        if not dtype.isnative:
            return self.put(read(np.empty(shape, dtype)).astype(dtype.newbyteorder("=")))
        with self._lock:
            slot = self._next(self._blocks, nbytes, 2)
            self._blocks.remove(slot)  # while it is read into, the lock is free
        out = slot.buffer[:nbytes].view(dtype).reshape(shape)
        try:
            block = read(out)
            turned = _lies_turned(block, out)
            if not (turned or _lies_as(block, out)):  # it is somewhere else
                return self.put(block)
            with self._lock:
                memory, lease = self._lend(nbytes)
                self.engine.copy_in(memory, 0, slot.buffer[:nbytes])
                slot.event = self.engine.mark("copies")
                if turned:  # a band of a wide matrix: it is the device that reads across rows
                    return self._arrived(memory, shape[::-1], dtype, lease).T
                return self._arrived(memory, shape, dtype, lease)
        finally:
            with self._lock:
                self._blocks.append(slot)

    def get(self, array: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Copy an array of the device to the host.

        Parameters
        ----------
        array : array of the device
            In row-major order.
        dtype : dtype
            Its own, as NumPy has it.

        Returns
        -------
        ndarray
            It may be changed.
        """
        out = np.empty(array.shape, dtype)
        flying: deque[tuple[_Slot, NDArray[np.uint8], NDArray[Any]]] = deque()
        with self._lock:
            self.engine.follow("copies", self.engine.mark("kernels"))
            begin = 0
            for piece in _rows_within(out, _SLOT_NBYTES):
                if len(flying) == _SLOTS:
                    self._land(*flying.popleft())
                slot = self._next(self._ring, piece.nbytes, _SLOTS)
                there = array if piece is out else array[begin : begin + len(piece)]
                self.engine.copy_out(slot.buffer[: piece.nbytes], there)
                slot.event = self.engine.mark("copies")
                flying.append((slot, slot.buffer[: piece.nbytes], piece))
                begin += len(piece) if piece.ndim else 0
            while flying:
                self._land(*flying.popleft())
        return out

    def release(self) -> bool:
        """Give back the device's memory that waits for the next block.

        Returns
        -------
        bool
            Whether there was any.
        """
        with self._lock:
            had = bool(self._free)
            self._free.clear()
        return had

    def _land(self, slot: _Slot, buffer: NDArray[np.uint8], out: NDArray[Any]) -> None:
        self.engine.wait(slot.event)
        out[...] = buffer.view(out.dtype).reshape(out.shape)

    def _arrived(self, memory: Any, shape: tuple[int, ...], dtype: Any, lease: Lease) -> Any:
        """Give the array that was copied: kernels wait for the copy."""
        self.engine.follow("kernels", self.engine.mark("copies"))
        return self.engine.array(memory, shape, dtype, lease)

    def _next(self, ring: deque[_Slot], nbytes: int, most: int) -> _Slot:
        """Give the page-locked buffer that was used longest ago, its copy done."""
        if len(ring) < most:
            ring.append(_Slot(self.engine.pinned(max(nbytes, 1))))
            return ring[-1]
        slot = ring.popleft()
        ring.append(slot)
        if slot.event is not None:
            self.engine.wait(slot.event)
        if slot.buffer.nbytes < nbytes:
            slot.buffer = np.empty(0, np.uint8)  # the old one goes first
            slot.buffer = self.engine.pinned(nbytes)
        return slot

    def _lend(self, nbytes: int) -> tuple[Any, Lease]:
        """Give memory of the device to which the stream of copies may write."""
        size = max(1, -(-nbytes // _CLASS_NBYTES)) * _CLASS_NBYTES
        fit = [entry for entry in self._free if size <= entry[0] <= 2 * size]
        if fit:
            size, memory, event = chosen = min(fit, key=lambda entry: entry[0])
            self._free = [entry for entry in self._free if entry is not chosen]
        else:
            memory, event = self._new(size)
        self.engine.follow("copies", event)
        lease = Lease()
        weakref.finalize(lease, self._take_back, size, memory).atexit = False
        return memory, lease

    def _new(self, size: int) -> tuple[Any, Any]:
        memory = self.engine.allocate(size)
        if memory is None:  # what nothing uses goes first
            self._free.clear()
            memory = self.engine.allocate(size)
        if memory is None:
            message = (
                f"a block of {size} bytes does not fit into what the device's memory has left. "
                "Pass a smaller memory=, or raise $LEPTONHPC_DEVICE_MEMORY"
            )
            raise MemoryBudgetError(message)
        # the pool may have had it from kernels that still run
        return memory, self.engine.mark("kernels")

    def _take_back(self, size: int, memory: Any) -> None:
        """Note that nothing uses a piece of memory any more but kernels that were asked for."""
        with self._lock:
            self._free.append((size, memory, self.engine.mark("kernels")))
            del self._free[:-_KEPT]  # the rest is for all who ask the device for memory


def _lies_as(block: NDArray[Any], out: NDArray[Any]) -> bool:
    """Say whether a block is what was given to be filled."""
    return block.ctypes.data == out.ctypes.data and block.strides == out.strides


def _lies_turned(block: NDArray[Any], out: NDArray[Any]) -> bool:
    """Say whether a block fills the memory that was given by columns instead of by rows."""
    same = block.ctypes.data == out.ctypes.data
    return same and block.ndim == 2 and min(block.shape) > 1 and block.T.flags.c_contiguous


def _fill(buffer: NDArray[np.uint8], piece: NDArray[Any]) -> None:
    """Copy a piece into page-locked memory, on all cores of the lane."""
    out = buffer.view(piece.dtype).reshape(piece.shape)
    if piece.ndim != 2 or not piece.size:
        out[...] = piece
        return

    def fill(part: NDArray[Any]) -> None:
        low = (part.ctypes.data - out.ctypes.data) // out.strides[0]
        part[...] = piece[low : low + len(part)]

    threads.over_parts(fill, out, axis=0, moved_nbytes=piece.nbytes)


def _rows_within(host: NDArray[Any], nbytes: int) -> list[NDArray[Any]]:
    """Cut an array into pieces of whole rows that are no larger than asked for, where rows are."""
    if host.ndim == 0 or host.nbytes <= nbytes:
        return [host]
    step = max(1, nbytes * len(host) // host.nbytes)
    return [host[low : low + step] for low in range(0, len(host), step)]
