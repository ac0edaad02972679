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


@dataclass(frozen=True)
class Blas:
    """The primitives that a device must bring; folds are written on them.

    Each works in place: ``gemm: c += alpha op(a) @ op(b)``, ``syrk: c += alpha a^H a`` (lower
    triangle), ``trsm`` and ``trmm`` with a triangle; ``potrf``, ``getrf`` and ``geqrf`` factor a
    block, ``permute`` and ``reflect`` apply what the last two did.
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
            a[key] += value
    return a
