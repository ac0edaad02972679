"""Sizes of rows, and a matrix with its rows and columns scaled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.kernels.fold import Accumulator, Blas, Region, Small


@dataclass(frozen=True)
class Extents:
    """The largest |a_ij| d_j of each row, d the factors of the columns that come with the stage.

    Of a complex number the larger of both parts counts, which does not overflow. Tasks have rows
    of their own, so that their sums are those of all.
    """

    blas: Blas

    def begin(self, small: Small, at: Region) -> Accumulator:
        """Give zeros."""
        return {"extents": np.zeros(small["rows"])}

    def step(
        self, acc: Accumulator, blocks: Sequence[NDArray[Any]], small: Small, at: Region
    ) -> None:
        """Look at one block."""
        (r0, r1), (c0, c1) = at
        found: NDArray[np.float64] = acc["extents"][r0:r1]
        factors = small["factors"][c0:c1]
        for part in _real_parts(blocks[0]):
            sizes = np.abs(part).astype(np.float64)
            sizes *= factors
            np.maximum(found, sizes.max(axis=1), out=found)

    def finish(self, acc: Accumulator, small: Small, at: Region) -> None:
        """Write nothing."""


@dataclass(frozen=True)
class Scaled:
    """Blocks of D_r A D_c: the factors are powers of two, so that nothing is rounded."""

    blas: Blas

    def begin(self, small: Small, at: Region) -> Accumulator:
        """Give what says that numbers left the range: they did not."""
        return {"max_overflow": 0.0}

    def step(
        self, acc: Accumulator, blocks: Sequence[NDArray[Any]], small: Small, at: Region
    ) -> None:
        """Scale the block."""
        (r0, r1), (c0, c1) = at
        block = blocks[0].astype(small["dtype"])
        real = block.real.dtype
        # one after the other: their product may be out of range
        with np.errstate(over="ignore", invalid="ignore"):  # it is said
            block *= small["row_factors"][r0:r1, None].astype(real)
            block *= small["column_factors"][c0:c1].astype(real)
        if not np.isfinite(block).all():
            acc["max_overflow"] = 1.0
        acc["_block"] = block

    def finish(self, acc: Accumulator, small: Small, at: Region) -> NDArray[Any]:
        """Give the block."""
        block: NDArray[Any] = acc.pop("_block")
        return block


def _real_parts(block: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    return (block.real, block.imag) if block.dtype.kind == "c" else (block,)
