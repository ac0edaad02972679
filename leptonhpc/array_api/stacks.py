"""Stacks of matrices: one matrix after the other goes to a driver."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from leptonhpc.api.results import Array
from leptonhpc.array_api.choice import is_for_drivers, require_memory
from leptonhpc.blocks import BlockedArray, Region, Source
from leptonhpc.errors import ShapeError

Index = tuple[int, ...]
T = TypeVar("T")


@dataclass(frozen=True)
class MatrixOfStackSource:
    """One matrix of a stack: the last two axes at one index of the others.

    A chunk that reaches over several matrices is read once for each.
    """

    base: Source
    index: Index

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the matrix."""
        return self.base.shape[-2:]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the stored values."""
        return self.base.dtype

    @property
    def unit(self) -> tuple[int, ...]:
        """Shape of the piece of the matrix that is read at once."""
        return self.base.unit[-2:]

    @property
    def name(self) -> str:
        """The source in words."""
        return f"{self.base.name}{list(self.index)}"

    @property
    def shareable(self) -> bool:
        """Whether other processes can read it."""
        return self.base.shareable

    def _whole(self, region: Region) -> Region:
        return (*((i, i + 1) for i in self.index), *region)

    def read(self, region: Region, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Give the values of a region of the matrix."""
        if out is not None and out.flags.c_contiguous:
            self.base.read(self._whole(region), out.reshape((1,) * len(self.index) + out.shape))
            return out
        return self.base.read(self._whole(region)).reshape([high - low for low, high in region])

    def units_in(self, region: Region) -> int:
        """Count the storage units that a region touches."""
        return self.base.units_in(self._whole(region))

    def identity(self) -> dict[str, Any]:
        """Describe the source."""
        return {"matrix": list(self.index), "of": self.base.identity()}


def require_matrices(x: Array, what: str, *, square: bool = False) -> None:
    """Refuse what is no matrix and no stack of them.

    Raises
    ------
    ShapeError
        If there are fewer than two dimensions, or the last two are unequal and must not be.
    """
    if x.ndim < 2 or (square and x.shape[-1] != x.shape[-2]):
        message = (
            f"{what} needs a {'square ' * square}matrix or a stack of them; found an array of "
            f"shape {x.shape}"
        )
        raise ShapeError(message)


def over_matrices(
    x: Array, driver: Callable[[Array, Index], T], numpy: Callable[[NDArray[Any]], T]
) -> T:
    """Answer a question on each matrix of a stack.

    Parameters
    ----------
    x : array of shape (..., m, n)
        The stack.
    driver : callable
        Answers for one matrix, given that and its index; with an array or a tuple of arrays.
    numpy : callable
        Answers for the whole stack where it does not go to the drivers.

    Returns
    -------
    as the callables
        One answer, or the answers stacked.
    """
    if not is_for_drivers(x):
        return numpy(np.asarray(x))
    if x.ndim == 2:
        return driver(x, ())
    stack = x.shape[:-2]
    return join((driver(matrix(x, i), i) for i in np.ndindex(stack)), stack)


def over_pairs(
    a: Array, b: Array, driver: Callable[[Array, Array], Array], stack: Sequence[int]
) -> Array:
    """Answer a question on each pair of matrices of two stacks that are broadcast.

    Parameters
    ----------
    a : array of shape (..., m, n)
        One stack.
    b : array of shape (..., k, l)
        The other.
    driver : callable
        Answers for two matrices.
    stack : tuple of int
        The broadcast shape of the stacks.

    Returns
    -------
    array
        The answers, stacked.
    """
    if not stack:
        return driver(a, b)
    pairs = ((_at(a, i), _at(b, i)) for i in np.ndindex(*stack))
    return join((driver(*pair) for pair in pairs), tuple(stack))


def matrix(x: Array, index: Index) -> Array:
    """Give one matrix of a stack, lazily if it is blocked."""
    if not index:
        return x
    if not isinstance(x, BlockedArray):
        return np.asarray(x[index])
    return BlockedArray(MatrixOfStackSource(x.source, index))


def join(answers: Iterator[T], stack: Index) -> T:
    """Stack answers in memory.

    Raises
    ------
    MemoryBudgetError
        If they do not fit.
    """
    first = next(answers)
    fields = _fields(first)
    each = sum(f.size * f.dtype.itemsize for f in fields)
    require_memory(
        2 * each * prod(stack), "the results of a stack",
        "Call the function on its matrices one by one",
    )  # fmt: skip
    gathered: list[list[NDArray[Any]]] = [[np.asarray(f)] for f in fields]
    for answer in answers:
        for kept, field in zip(gathered, _fields(answer), strict=True):
            kept.append(np.asarray(field))
    joined = [np.stack(kept).reshape(stack + kept[0].shape) for kept in gathered]
    kind: Any = type(first)
    whole: Any = kind(*joined) if isinstance(first, tuple) else joined[0]
    return whole  # type: ignore[no-any-return]


def _fields(answer: Any) -> tuple[Any, ...]:
    return answer if isinstance(answer, tuple) else (answer,)


def _at(x: Array, index: Index) -> Array:
    """Give the matrix that meets an index of the broadcast stack."""
    own = x.shape[:-2]
    tail = index[len(index) - len(own) :]
    return matrix(x, tuple(0 if n == 1 else i for i, n in zip(tail, own, strict=True)))
