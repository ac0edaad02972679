"""CuPy of the double: its arrays, and of its namespace what kernels use."""

from __future__ import annotations

import operator
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from leptonhpc.testing.cuda_double.device import Device, Event, Memory, OutOfMemoryError, Stream

_FUNCTIONS = (
    "abs", "all", "any", "conj", "isfinite", "isnan", "log", "max", "sum", "triu", "where",
    "zeros_like",
)  # fmt: skip


class MemoryPointer:
    """A place in memory that is kept while the pointer is.

    Parameters
    ----------
    mem : object
        Has an address, ``ptr``, and keeps the memory.
    offset : int
        Bytes from there.
    """

    def __init__(self, mem: Any, offset: int) -> None:
        self.mem, self.offset = mem, offset
        self.ptr = mem.ptr + offset

    def __add__(self, offset: int) -> MemoryPointer:
        return MemoryPointer(self.mem, self.offset + offset)

    def copy_from_host_async(self, mem: int, size: int, stream: Stream) -> None:
        """Ask for a copy from page-locked memory."""
        device = stream.device
        memory = device.memory_at(self.ptr)
        device.copy(stream, memory, self.ptr, mem, size, inwards=True)

    def copy_to_host_async(self, mem: int, size: int, stream: Stream) -> None:
        """Ask for a copy to page-locked memory."""
        device = stream.device
        memory = device.memory_at(self.ptr)
        device.copy(stream, memory, self.ptr, mem, size, inwards=False)


class _Pooled:
    """Memory of the pool: free when nothing refers to this."""

    def __init__(self, device: Device, nbytes: int) -> None:
        self.memory = device.allocate(nbytes, self)
        self.ptr = self.memory.ptr


class _Unowned:
    """Memory of another, whose owner it keeps."""

    def __init__(self, ptr: int, size: int, owner: Any) -> None:
        self.ptr, self.size, self.owner = ptr, size, owner


class Array:
    """An array of the device: it refuses those of the host.

    Parameters
    ----------
    device : Device
        Where it is.
    values : ndarray
        A view of the device's memory.
    keeper : object
        What keeps that memory.
    memory : Memory
        That memory.
    """

    __array_ufunc__ = None

    def __init__(self, device: Device, values: Any, keeper: Any, memory: Memory) -> None:
        self._device, self._values, self._keeper, self.memory = device, values, keeper, memory

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed")

    @property
    def data(self) -> Any:
        """Where it begins."""
        return MemoryPointer(SimpleNamespace(ptr=self._values.ctypes.data, keeper=self._keeper), 0)

    def _view(self, values: Any) -> Array:
        return Array(self._device, values, self._keeper, self.memory)

    def __getattr__(self, name: str) -> Any:
        if name in ("shape", "dtype", "ndim", "size", "itemsize", "nbytes", "strides", "flags"):
            return getattr(self._values, name)
        if name in ("T", "real", "imag"):
            return self._view(getattr(self._values, name))
        raise AttributeError(name)

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, key: Any) -> Array:
        if any(isinstance(k, Array | np.ndarray) for k in _keys(key)):
            return _give(self._device, lambda a, k: a[k], self, key)
        return self._view(self._values[key])

    def __setitem__(self, key: Any, value: Any) -> None:
        def put(a: Any, k: Any, v: Any) -> None:
            a[k] = v

        _run(self._device, put, self, key, value)

    def __float__(self) -> float:
        return float(_read(self))

    def __int__(self) -> int:
        return int(_read(self))

    def __bool__(self) -> bool:
        return bool(_read(self))

    def astype(self, dtype: Any, copy: bool = True) -> Array:
        """Give it in another dtype."""
        if not copy and np.dtype(dtype) == self.dtype:
            return self
        return _give(self._device, lambda a: a.astype(dtype), self)

    def all(self) -> Array:
        """Say whether all are true."""
        return _give(self._device, np.all, self)


def _operator(function: Callable[..., Any], *, swapped: bool = False) -> Callable[..., Any]:
    def method(self: Array, other: Any) -> Array:
        pair = (other, self) if swapped else (self, other)
        return _give(self._device, function, *pair)

    return method


def _in_place(function: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: Array, other: Any) -> Array:
        def change(a: Any, b: Any) -> None:
            function(a, b)  # which refuses what does not fit its dtype, as CuPy does

        _run(self._device, change, self, other)
        return self

    return method


for _name in ("add", "sub", "mul", "truediv", "matmul", "lt", "le", "gt", "ge", "eq", "ne"):
    setattr(Array, f"__{_name}__", _operator(getattr(operator, _name)))
    if _name in ("add", "sub", "mul", "truediv"):
        setattr(Array, f"__r{_name}__", _operator(getattr(operator, _name), swapped=True))
        setattr(Array, f"__i{_name}__", _in_place(getattr(operator, f"i{_name}")))
setattr(Array, "__neg__", lambda self: _give(self._device, operator.neg, self))  # noqa: B010


class Cupy:
    """The namespace of CuPy.

    Parameters
    ----------
    device : Device
        Where its arrays are.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        device.allocator = lambda nbytes: MemoryPointer(_Pooled(device, nbytes), 0)
        null = device.null
        self.ndarray = _OfArrays("ndarray", (_Made,), {"device": device})
        self.cuda = SimpleNamespace(
            Stream=_StreamOf(device, null), Event=lambda **_: Event(device),
            PinnedMemory=device.pinned, PinnedMemoryPointer=lambda memory, offset: memory[offset:],
            UnownedMemory=_Unowned, MemoryPointer=MemoryPointer,
            alloc=lambda nbytes: device.allocator(nbytes), get_allocator=lambda: device.allocator,
            set_allocator=lambda allocator: setattr(device, "allocator", allocator),
            memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
            runtime=SimpleNamespace(
                memGetInfo=lambda: (device.total_nbytes - device.used_nbytes, device.total_nbytes)
            ),
            device=SimpleNamespace(
                get_cublas_handle=lambda: _handle(device),
                get_cusolver_handle=lambda: _handle(device),
            ),
        )  # fmt: skip
        for name in _FUNCTIONS:
            setattr(self, name, _function(device, getattr(np, name)))

    def get_default_memory_pool(self) -> Any:
        """Give the pool."""
        return SimpleNamespace(set_limit=lambda size: self._device.limit(size))

    def zeros(self, shape: Any, dtype: Any) -> Array:
        """Give zeros."""
        return _give(self._device, lambda: np.zeros(shape, dtype))

    def empty(self, shape: Any, dtype: Any) -> Array:
        """Give rubbish."""
        return _give(self._device, lambda: np.full(shape, 77, dtype))

    def array(self, a: Array, order: str) -> Array:
        """Give a copy."""
        return _give(self._device, lambda x: np.array(x, order=order), a)  # type: ignore[call-overload]

    def ascontiguousarray(self, a: Array) -> Array:
        """Give it in row-major order."""
        return a if a.flags.c_contiguous else self.array(a, "C")

    def diagonal(self, a: Array) -> Array:
        """Give a view of the diagonal."""
        return a._view(np.diagonal(a._values))

    def asnumpy(self, a: Array) -> Any:
        """Give a copy in the host's memory."""
        return np.array(_read(a))


class _OfArrays(type):
    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, Array)


class _Made(metaclass=_OfArrays):
    """The type of arrays; called, it makes one on memory that is there."""

    device: Device

    def __new__(cls, shape: Any = None, dtype: Any = None, memptr: Any = None) -> Any:
        device = cls.device
        memory = device.memory_at(memptr.ptr)
        low = memptr.ptr - memory.ptr
        count = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        values = memory.buffer[low : low + count].view(dtype).reshape(shape)
        return Array(device, values, memptr, memory)


class _StreamOf:
    def __init__(self, device: Device, null: Stream) -> None:
        self._device, self.null = device, null

    def __call__(self, *, non_blocking: bool) -> Stream:
        if not non_blocking:
            raise ValueError("a blocking stream waits for the null stream: nothing overlaps")
        return Stream(self._device)


def _handle(device: Device) -> int:
    device.handles += 1
    return 1


def _function(device: Device, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Array:
        return _give(device, lambda *plain: function(*plain, **options), *arguments)

    return call


def _keys(key: Any) -> tuple[Any, ...]:
    return key if isinstance(key, tuple) else (key,)


def _plain(value: Any, found: list[Memory]) -> Any:
    """Give what NumPy computes with; arrays of the host are refused."""
    if isinstance(value, Array):
        found.append(value.memory)
        return value._values
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {type(value)}")
    if isinstance(value, tuple):
        return tuple(_plain(v, found) for v in value)
    return value


def _give(device: Device, function: Callable[..., Any], *arguments: Any) -> Array:
    """Run a kernel that gives an array."""
    made: Array = _run(device, function, *arguments)
    return made


def _run(device: Device, function: Callable[..., Any], *arguments: Any) -> Any:
    """Run a kernel; what it gives lies in new memory of the device."""
    with device.lock:
        found: list[Memory] = []
        plain = [_plain(a, found) for a in arguments]
        device.kernel(*found)
        with np.errstate(all="ignore"):
            result = function(*plain)
        if result is None:
            return None
        values = np.asarray(result)
        pooled = device.allocator(values.nbytes).mem
        device.kernel(pooled.memory)
        order = "F" if values.flags.f_contiguous and not values.flags.c_contiguous else "C"
        there = pooled.memory.buffer[: values.nbytes].view(values.dtype)
        there = there.reshape(values.shape, order=order)
        there[...] = values
        return Array(device, there, pooled, pooled.memory)


def _read(a: Array) -> Any:
    """Give the values of an array: the host waits for the kernels."""
    with a._device.lock:
        a._device.kernel(a.memory)
        return a._values
