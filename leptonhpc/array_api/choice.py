"""Who computes: the drivers, or NumPy; and with how much memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from importlib import import_module
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.api.budget import Nbytes
from leptonhpc.api.results import Array, Result
from leptonhpc.blocks import BlockedArray, StoredSource
from leptonhpc.blocks.drawing import format_nbytes
from leptonhpc.errors import MemoryBudgetError, NotAnArrayError
from leptonhpc.planning.amounts import parse_nbytes
from leptonhpc.runtime.memory import free_nbytes

numpy_linalg: Any = import_module("array_api_compat.numpy.linalg")
"""NumPy's functions under the names, and with the keywords, of the standard."""

_FROM_NBYTES = 64 << 20
"""A matrix for which LAPACK takes seconds: planning and checking are no longer felt."""


@dataclass(frozen=True, slots=True)
class _Choice:
    memory: Nbytes = None
    from_nbytes: int = _FROM_NBYTES


_CHOICE: ContextVar[_Choice] = ContextVar("leptonhpc.array_api", default=_Choice())  # noqa: B039


@contextmanager
def using_drivers(*, memory: Nbytes = None, from_nbytes: int = _FROM_NBYTES) -> Iterator[None]:
    """Say how the functions of `linalg` run inside a ``with`` block.

    Parameters
    ----------
    memory : int, float or str, optional
        Budget of each worker, as the drivers take it, and of what is read into this process.
        Default: the workers' limits, or half of the free memory.
    from_nbytes : int
        NumPy matrices of so many bytes or more go to the drivers; those of a BlockedArray always
        do.

    Yields
    ------
    None
        The functions of `linalg` run so, in this thread or task.

    Raises
    ------
    OptionError
        If memory cannot be read.

    Examples
    --------
    >>> import numpy as np
    >>> import leptonhpc.array_api as xp
    >>> with xp.using_drivers(memory="1 GB", from_nbytes=0):
    ...     xp.linalg.cholesky(np.asarray([[4.0, 2.0], [2.0, 10.0]]))
    array([[2., 0.],
           [1., 3.]])
    """
    parse_nbytes(memory)
    token = _CHOICE.set(_Choice(memory, from_nbytes))
    try:
        yield
    finally:
        _CHOICE.reset(token)


def memory() -> Nbytes:
    """Give the budget that the drivers get."""
    return _CHOICE.get().memory


def as_array(x: Any) -> Array:
    """Take a NumPy array (or scalar) or a BlockedArray; refuse everything else.

    Raises
    ------
    NotAnArrayError
        If it is neither.
    """
    if isinstance(x, BlockedArray | np.ndarray):
        return x
    if isinstance(x, np.generic):
        return np.asarray(x)
    message = (
        "leptonhpc.array_api works on BlockedArray and NumPy arrays; found "
        f"{type(x).__name__}. leptonhpc.open makes a BlockedArray of a path and of other arrays"
    )
    raise NotAnArrayError(message)


def is_for_drivers(*arrays: Array) -> bool:
    """Whether matrices, or stacks of them, go to the drivers.

    Those of a BlockedArray do; those of NumPy if they are large, of numbers and all finite. An
    empty matrix has nothing to read, and goes to NumPy.
    """
    if any(0 in x.shape for x in arrays):
        return False
    if any(isinstance(x, BlockedArray) for x in arrays):
        return True
    least = _CHOICE.get().from_nbytes
    large = any(x.dtype.itemsize * prod(x.shape[-2:]) >= least for x in arrays)
    return large and all(x.dtype.kind in "fc" and bool(np.isfinite(x).all()) for x in arrays)


def require_memory(nbytes: int, what: str, instead: str) -> None:
    """Make sure that so much may be held in this process.

    Parameters
    ----------
    nbytes : int
        The bytes.
    what : str
        The function and its reason, for the message.
    instead : str
        What to do.

    Raises
    ------
    MemoryBudgetError
        If it is more than the budget.
    """
    chosen = parse_nbytes(memory())
    budget = free_nbytes() // 2 if chosen is None else chosen
    if nbytes > budget:
        message = (
            f"{what} needs {format_nbytes(nbytes)} in this process; found a budget of "
            f"{format_nbytes(budget)}. {instead}"
        )
        raise MemoryBudgetError(message)


def zeros(shape: tuple[int, ...], what: str, *arrays: Array) -> NDArray[Any]:
    """Give what empty arrays give, without reading those that are not empty.

    Raises
    ------
    MemoryBudgetError
        If that is too large.
    """
    dtype = np.result_type(*(x.dtype for x in arrays))
    require_memory(prod(shape) * dtype.itemsize, f"{what} of nothing", "Leave the zeros out")
    return np.zeros(shape, dtype)


def in_memory(x: Array, what: str, *, times: int = 3, instead: str | None = None) -> NDArray[Any]:
    """Read an array whole if it fits, with room for results; never silently if it is large.

    Raises
    ------
    MemoryBudgetError
        If `times` its size is more than the budget.
    """
    if isinstance(x, BlockedArray):
        hint = "Call it on parts of the array, or say using_drivers(memory=...)"
        require_memory(
            times * x.nbytes, f"{what} of {x.name}, which is read whole,", instead or hint
        )
    return np.asarray(x)


def held(result: Result, array: Array | None) -> Array:
    """Give an array of a result; a large one keeps the result's temporary folder alive."""
    assert array is not None
    if not isinstance(array, BlockedArray) or not isinstance(array.source, StoredSource):
        return array
    source: Any = StoredSource(array.source.array)  # of its own: no cycle with the result's
    source.result = result
    return BlockedArray(source, array.grid)
