"""The model as its maker gives it, in a temporary file: what a rank does not keep takes no memory.

A model is made as a whole, or its numbers would not be those of one process: what a layer draws
depends on all that was drawn before it, and it may look at what it drew. So each parameter is laid
into a file that has no name as soon as a module takes it, and pages that are not in use go out of
memory. A rank copies its own part; the file goes when nothing refers to it. Where the parts are put
together again, to be stored, the whole lies in such a file too.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from leptonhpc.errors import JobMismatchError, StoreError
from leptonhpc.runtime.memory import return_free_memory

_CHUNK_NBYTES = 64 << 20
_IN_MEMORY_NBYTES = 32 << 20
"""So much is laid down before it is sent out of memory."""
_ALIGNED = 64
_SMALL_NBYTES = 64 << 10
"""What is put together and no larger stays in memory."""
_mapped: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()
"""What this process has of such files."""


class Laid:
    """A file without a name that holds parameters."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="leptonhpc-model-")  # noqa: SIM115
        self._chunks: list[mmap.mmap] = []
        self._places: set[int] = set()
        self._nbytes = self._used = self._since = 0

    def take(self, parameter: nn.Parameter) -> None:
        """Move the numbers of a parameter into the file; what is there already stays.

        Parameters
        ----------
        parameter : torch.nn.Parameter
            The same object as before, with the same numbers.

        Raises
        ------
        StoreError
            If there is no room.
        """
        data = parameter.detach()
        if not (data.device.type == "cpu" and data.numel() and data.is_contiguous()):
            return
        if not self.holds(data):
            parameter.data = self._lay(data)

    def lay(self, tensor: Tensor) -> Tensor:
        """Copy a tensor into the file, unless it is small.

        Parameters
        ----------
        tensor : tensor
            On the host.

        Returns
        -------
        tensor
            The copy, or the tensor itself.

        Raises
        ------
        StoreError
            If there is no room.
        """
        return tensor if tensor.nbytes <= _SMALL_NBYTES else self._lay(tensor)

    def _lay(self, data: Tensor) -> Tensor:
        there: Any = torch.frombuffer(self._room(data.nbytes), dtype=data.dtype)
        there = there.view(data.shape)
        there.copy_(data)
        self._places.add(there.data_ptr())
        self._since += data.nbytes
        if self._since >= _IN_MEMORY_NBYTES:
            self.send_out()
        laid: Tensor = there
        return laid

    def holds(self, tensor: Tensor) -> bool:
        """Say whether a tensor is in the file."""
        return tensor.data_ptr() in self._places

    def send_out(self) -> None:
        """Let the pages go out of memory; who looks at a number again gets it back."""
        self._since = 0
        for chunk in self._chunks:
            chunk.madvise(mmap.MADV_DONTNEED)  # of a shared mapping: the file keeps them
        return_free_memory()  # what was laid down may have left gaps too small for the next

    def close(self) -> None:
        """Take no more; what is in the file stays while something refers to it."""
        self._file.close()

    def _room(self, nbytes: int) -> memoryview:
        begin = -(-self._used // _ALIGNED) * _ALIGNED
        if not self._chunks or begin + nbytes > len(self._chunks[-1]):
            self._grow(nbytes)
            begin = 0
        self._used = begin + nbytes
        return memoryview(self._chunks[-1])[begin : begin + nbytes]

    def _grow(self, nbytes: int) -> None:
        """Map one more piece of the file, as large as all before: few mappings hold any model."""
        unit = mmap.ALLOCATIONGRANULARITY
        length = -(-max(nbytes, self._nbytes, _CHUNK_NBYTES) // unit) * unit
        try:
            # without it a full disk would be a signal that ends the process
            os.posix_fallocate(self._file.fileno(), self._nbytes, length)
            chunk = mmap.mmap(self._file.fileno(), length, offset=self._nbytes)
        except OSError as error:
            message = (
                f"a worker lays the model into a temporary file while it takes its part of it; "
                f"{tempfile.gettempdir()!r} has no room for {length:,} bytes more ({error}). Set "
                "TMPDIR of the workers to a disk with room, or use strategy='data'"
            )
            raise StoreError(message) from error
        self._chunks.append(chunk)
        _mapped.add(chunk)
        self._nbytes += length


def send_all_out() -> None:
    """Let the pages of all files of this process go out of memory."""
    for chunk in list(_mapped):
        chunk.madvise(mmap.MADV_DONTNEED)


def laid_model(
    model_fn: Callable[[], nn.Module], seed: int, state: dict[str, Tensor]
) -> tuple[nn.Module, Laid]:
    """Make a model whose parameters lie in a file.

    Parameters
    ----------
    model_fn : callable
        Makes it.
    seed : int
        Of its parameters.
    state : dict
        Of the model, to go on from; empty: none.

    Returns
    -------
    tuple of (torch.nn.Module, Laid)
        On the host; and the file.
    """
    torch.manual_seed(seed)
    with closing(Laid()) as laid, _each_parameter(laid.take):
        model = model_fn()
    if state:
        load_into(model, state)
    laid.send_out()
    return model, laid


def load_into(model: torch.nn.Module, stored: Mapping[str, Any]) -> None:
    """Give a model the parameters of a checkpoint.

    Parameters
    ----------
    model : torch.nn.Module
        As `model_fn` makes it; changed in place.
    stored : mapping
        State of a model.

    Raises
    ------
    JobMismatchError
        If it is of another model.
    """
    try:
        model.load_state_dict(stored)
    except RuntimeError as error:
        message = (
            "what was stored is of another model than model_fn() makes: "
            f"{' '.join(str(error).split())} Pass overwrite=True, or another out="
        )
        raise JobMismatchError(message) from error


@contextmanager
def _each_parameter(take: Callable[[nn.Parameter], None]) -> Iterator[None]:
    """Call a function with each parameter that a module of this thread is given."""
    thread = threading.get_ident()

    def register(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
        if threading.get_ident() == thread:
            take(parameter)

    handle: Any = register_module_parameter_registration_hook(register)
    try:
        yield
    finally:
        handle.remove()
