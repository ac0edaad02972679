"""Streams, events and memory of the double: what CUDA orders, and in no better order."""

from __future__ import annotations

import threading
import weakref
import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ROUNDED_NBYTES = 512


class DoubleError(AssertionError):
    """What would be wrong on a GPU, silently."""


class OutOfMemoryError(MemoryError):
    """As CuPy's."""


@dataclass(eq=False)
class Memory:
    """A piece of the device's memory."""

    buffer: NDArray[np.uint8]
    used_at: int = 0
    """The last kernel that used it, by number."""
    pending: int = 0
    """Copies to it that were begun and are not done."""

    @property
    def ptr(self) -> int:
        """Its address."""
        return int(self.buffer.ctypes.data)


@dataclass(eq=False)
class Stream:
    """Copies and events in their order; done when somebody waits for them."""

    device: Device
    waiting: deque[Callable[[], None]] = field(default_factory=deque)
    knows: int = 0
    """Kernels up to this one are done before what comes next."""

    def wait_event(self, event: Event) -> None:
        """Go on only after an event."""

        def wait() -> None:
            event.finish()
            self.knows = max(self.knows, event.knows)

        with self.device.lock:
            self.waiting.append(wait)

    def drain(self) -> None:
        """Do all that was asked of the stream."""
        while self.waiting:
            self.waiting.popleft()()


@dataclass(eq=False)
class Event:
    """A place in a stream."""

    device: Device
    stream: Stream | None = None
    done: bool = False
    knows: int = 0

    def record(self, stream: Stream | None = None) -> None:
        """Take the place after all that was asked of a stream."""
        with self.device.lock:
            self.stream = at = stream or self.device.null
            # kernels are done when they are asked for: those before this are all there are
            asked = self.device.kernels if at is self.device.null else 0

            def reach() -> None:
                self.knows, self.done = max(at.knows, asked), True

            at.waiting.append(reach)

    def finish(self) -> None:
        """Do what comes before it."""
        while not self.done:
            if self.stream is None or not self.stream.waiting:
                raise DoubleError("an event was waited for that nobody recorded")
            self.stream.waiting.popleft()()

    def synchronize(self) -> None:
        """Let the host wait for it."""
        with self.device.lock:
            self.finish()


class Device:
    """A device: its memory, its two streams, and how much was used.

    Parameters
    ----------
    total_nbytes : int
        Its memory.
    """

    def __init__(self, total_nbytes: int) -> None:
        self.total_nbytes, self.limit_nbytes = total_nbytes, total_nbytes
        self.null = Stream(self)
        self.lock = threading.RLock()
        self.kernels = 0
        self.used_nbytes = self.peak_nbytes = self.copied_in_nbytes = self.copied_out_nbytes = 0
        self.calls: dict[str, int] = {}
        """How often each routine of a library was called."""
        self._memory: dict[int, Memory] = {}
        self._free: list[Memory] = []
        self._pinned: list[NDArray[np.uint8]] = []
        self.allocator: Callable[[int], Any] = self._none
        """What gives memory to all who ask for it."""
        self.handles = self.params = 0

    def _none(self, nbytes: int) -> Any:
        raise DoubleError("who gives memory was not said")

    def limit(self, nbytes: int) -> None:
        """Cap the pool."""
        if not self.handles:
            raise DoubleError("the pool was capped before the libraries took their workspaces")
        self.limit_nbytes = nbytes

    def allocate(self, nbytes: int, owner: Any) -> Memory:
        """Give memory, full of rubbish, that is free when its owner is gone."""
        with self.lock:
            size = max(1, -(-nbytes // _ROUNDED_NBYTES)) * _ROUNDED_NBYTES
            memory = next((m for m in self._free if m.buffer.nbytes == size), None)
            if memory is not None:  # kernels of before may still use it: `used_at` stays
                self._free.remove(memory)
            else:
                if self.used_nbytes + size > self.limit_nbytes:
                    self._free.clear()
                    raise OutOfMemoryError(f"{size} bytes beyond {self.limit_nbytes}")
                memory = Memory(np.empty(size, np.uint8))
            memory.buffer[:] = 0xA5
            self._memory[memory.ptr] = memory
            self.used_nbytes += size
            self.peak_nbytes = max(self.peak_nbytes, self.used_nbytes)
            weakref.finalize(owner, self._release, memory).atexit = False
            return memory

    def _release(self, memory: Memory) -> None:
        with self.lock:
            self.used_nbytes -= memory.buffer.nbytes
            self._memory.pop(memory.ptr, None)
            self._free.append(memory)
            del self._free[:-16]

    def memory_at(self, address: int) -> Memory:
        """Find the memory that an address lies in."""
        with self.lock:  # who sends what is held here asks from another thread than the lane's
            for memory in list(self._memory.values()):
                if memory.ptr <= address < memory.ptr + memory.buffer.nbytes:
                    return memory
        raise DoubleError(f"address {address:#x} is not in the device's memory")

    def pinned(self, nbytes: int) -> NDArray[np.uint8]:
        """Give page-locked memory of the host."""
        buffer = np.full(nbytes, 0xEE, np.uint8)
        self._pinned.append(buffer)
        return buffer

    def kernel(self, *memories: Memory) -> None:
        """Note that a kernel uses memory: what its stream waits for is done before."""
        self.null.drain()
        self.kernels += 1
        for memory in memories:
            if memory.pending:
                raise DoubleError("a kernel used memory before its copy was waited for")
            memory.used_at = self.kernels

    def copy(self, stream: Stream, memory: Memory, device: int, host: int, nbytes: int, *,
             inwards: bool) -> None:  # fmt: skip
        """Ask a stream for a copy between device and page-locked memory."""
        with self.lock:
            there = _bytes_at(device, nbytes)
            here = self._page_locked(host, nbytes)
            if not memory.ptr <= device <= device + nbytes <= memory.ptr + memory.buffer.nbytes:
                raise DoubleError("a copy leaves the memory that it begins in")
            before = zlib.crc32(here.tobytes())
            memory.pending += inwards
            if inwards:
                self.copied_in_nbytes += nbytes
            else:
                self.copied_out_nbytes += nbytes
                here[:] = 0xEE

            def do() -> None:
                known = self.kernels if stream is self.null else stream.knows
                if memory.used_at > known:
                    raise DoubleError("a copy does not wait for kernels that use its memory")
                if inwards:
                    if zlib.crc32(here.tobytes()) != before:
                        raise DoubleError("a page-locked buffer was written before it was copied")
                    memory.pending -= 1
                    there[:] = here
                else:
                    here[:] = there

            stream.waiting.append(do)

    def _page_locked(self, address: int, nbytes: int) -> NDArray[np.uint8]:
        for buffer in self._pinned:
            if (
                buffer.ctypes.data
                <= address
                <= address + nbytes
                <= buffer.ctypes.data + buffer.size
            ):
                low = address - buffer.ctypes.data
                return buffer[low : low + nbytes]
        raise DoubleError("an asynchronous copy needs page-locked memory of the host")


def _bytes_at(address: int, nbytes: int) -> NDArray[np.uint8]:
    import ctypes

    return np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(address))
