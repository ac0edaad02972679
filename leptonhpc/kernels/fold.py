"""The shape of a kernel: begin an accumulator, fold blocks into it, finish.

A fold is what a streamed algorithm does to one block after another. Its accumulator is a dict of
arrays; two accumulators of the same fold are joined by adding them (`combine`), so that lanes
need not know of each other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from leptonhpc.errors import CoverageError

Region = tuple[tuple[int, int], ...]
Small = Mapping[str, Any]
"""Small host arrays and scalars that every task of a stage gets."""

Accumulator = dict[str, Any]


class Fold(Protocol):
    """One kernel."""

    @property
    def blas(self) -> Blas:
        """What it is written on: blocks come as arrays of that device."""

    def begin(self, small: Small, at: Region) -> Accumulator:
        """Give an accumulator of zeros; `at` is the region of the task's block (of C, say)."""

    def step(
        self, acc: Accumulator, blocks: Sequence[NDArray[Any]], small: Small, at: Region
    ) -> NDArray[Any] | None:
        """Fold blocks into `acc` in place; give the block to be written for this step, if any.

        The blocks may be overwritten.
        """

    def finish(self, acc: Accumulator, small: Small, at: Region) -> NDArray[Any] | None:
        """Give the block to be written when all steps are folded, if any, and drop it from acc."""


def _itself(array: Any) -> Any:
    """Give what needs no copy: the host works in the host's memory."""
    return array


def _cast(array: NDArray[Any], dtype: Any) -> NDArray[Any]:
    return array.astype(dtype, copy=False)


def _all_finite(array: NDArray[Any]) -> bool:
    return bool(np.isfinite(array).all())


_ROUNDED = {"tf32": "tf32"}


@dataclass(frozen=True)
class Blas:
    """The primitives that a device must bring; folds are written on them.

    Each works in place: ``gemm: c += alpha op(a) @ op(b)``, ``syrk: c += alpha a^H a`` (lower
    triangle), ``trsm`` and ``trmm`` with a triangle; ``potrf``, ``getrf`` and ``geqrf`` factor a
    block, ``permute`` and ``reflect`` apply what the last two did.

    A device with memory of its own also brings ``zeros`` (an array there), ``put`` (copy in) and
    ``get`` (copy out, a NumPy array that may be changed), ``diagonal``, ``all_finite``, the type
    of its ``array``, and its namespace ``xp`` of the array API standard. Slices of its arrays are
    views, on which ``+=``, ``-=`` and ``@`` work. ``stage(shape, dtype, read)`` gives an array of
    the device with what ``read(out)`` puts into ``out``, or gives instead, in the host's memory:
    the copy may still be under way. ``cast(a, dtype)`` copies only where the dtype is another.
    ``syevd`` gives eigenvalues and V^H of a Hermitian block, which may be overwritten. ``take``
    and ``give`` are ``put`` and ``get`` of what nobody uses any more but who gets it: in the host's
    memory they need not copy.
    """

    gemm: Any
    syrk: Any
    trsm: Any
    trmm: Any
    sum_of_squares: Any
    potrf: Any
    getrf: Any
    permute: Any
    geqrf: Any
    reflect: Any
    zeros: Any = np.zeros
    put: Any = _itself
    get: Any = _itself
    diagonal: Any = np.diagonal
    all_finite: Any = _all_finite
    array: type | None = None
    xp: Any = np
    cast: Any = _cast
    stage: Any = None
    take: Any = None
    give: Any = None
    syevd: Any = None
    capacity_nbytes: int | None = None
    """Memory of the device that a job may use; None: that of the host."""
    precision: str = "full"
    """"tf32": products of single precision round their factors to 11 bits."""
    turned: Any = None
    """Gives the primitives of the same device in the other precision; None: it has but one."""

    def computing(self, precision: str | None) -> Blas:
        """Give the device's primitives for a precision.

        Parameters
        ----------
        precision : {None, "float64", "float32", "tf32"}
            What was asked for; None: as the device's kind says.

        Returns
        -------
        Blas
            Those that round their factors only where that was asked for. A device without TF32 has
            single precision in its place.
        """
        wanted = self.precision if precision is None else _ROUNDED.get(precision, "full")
        return self if wanted == self.precision or self.turned is None else self.turned()

    @property
    def has_tf32(self) -> bool:
        """Whether products of single precision can round their factors to 11 bits."""
        return self.precision == "tf32" or self.turned is not None

    @property
    def is_host(self) -> bool:
        """Whether it works in the host's memory."""
        return self.array is None


class Held:
    """An array of a device between two tasks: to whom it is sent it comes as a NumPy array.

    Raw device arrays are never what a task gives: a worker without such a device could not read
    them.

    Parameters
    ----------
    array : array of the device
        The array.
    get : callable
        Copies it out.
    """

    __slots__ = ("array", "get")

    def __init__(self, array: Any, get: Any) -> None:
        self.array, self.get = array, get

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """Travel as what was copied out."""
        return Landed, (self.get(self.array),)


class Landed:
    """What was held by a device and came to another process, or back from its disk.

    Parameters
    ----------
    array : ndarray
        Its numbers.
    """

    __slots__ = ("array",)

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array


def held(acc: Accumulator, blas: Blas) -> Accumulator:
    """Wrap the arrays of a device, in place, when a task ends."""
    if blas.array is not None:  # the host's arrays are what they are
        for key, value in acc.items():
            if isinstance(value, blas.array):
                acc[key] = Held(value, blas.get)
    return acc


def taken(acc: Accumulator, blas: Blas) -> Accumulator:
    """Give an accumulator as a task of the same lane goes on with it."""
    if blas.is_host:
        return settled(acc)
    result = {k: v.array if isinstance(v, Held) else v for k, v in acc.items()}
    return {k: blas.put(v.array) if isinstance(v, Landed) else v for k, v in result.items()}


def settled(acc: Accumulator) -> Accumulator:
    """Give an accumulator with all arrays on the host."""
    result = {k: v.get(v.array) if isinstance(v, Held) else v for k, v in acc.items()}
    return {k: v.array if isinstance(v, Landed) else v for k, v in result.items()}


def combine(a: Accumulator, b: Accumulator) -> Accumulator:
    """Add accumulator `b` to `a` in place and give `a`; keys named max... take the larger.

    Keys named hypot... are joined as norms, and keys named stacked... as triangles of a QR
    factorisation: by that of one on top of the other.
    """
    for key, value in b.items():
        if key not in a:
            a[key] = value
        elif isinstance(value, frozenset):
            if a[key] & value:
                message = f"bands {sorted(a[key] & value)[:5]} were counted twice"
                raise CoverageError(message)
            a[key] = a[key] | value
        elif key.startswith("hypot"):
            a[key] = math.hypot(a[key], value)
        elif key.startswith("max"):
            a[key] = max(a[key], value)
        elif key.startswith("stacked"):
            a[key] = np.triu(np.linalg.qr(np.vstack([a[key], value]), mode="r"))
        else:
            with np.errstate(over="ignore", invalid="ignore"):  # who asked for the sum says it
                a[key] += value
    return a
