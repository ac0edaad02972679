"""Matrix products of blocks that are on the device, each checked there as it is made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.kernels import divide, products
from leptonhpc.kernels.accelerated.moving import bring, moved_out
from leptonhpc.kernels.accelerated.pieces import pieces
from leptonhpc.kernels.fold import Accumulator, Blas, Region, Small
from leptonhpc.kernels.host import HOST
from leptonhpc.kernels.panels import frobenius

_TF32_UNITS = 2.0**13
"""Of single precision's rounding, in that of 11 bits."""


@dataclass(frozen=True)
class Gemm(products.Gemm):
    """One block of C = A B that stays on the device while panels of A and B come to it."""

    def begin(self, small: Small, at: Region) -> Accumulator:
        """Give a block of zeros and a random vector for its columns, on the device."""
        acc = super().begin(small, at)
        acc["_x"] = self.blas.put(acc["_x"])
        acc["_expected"] = self.blas.put(acc["_expected"])
        return {**acc, "_depth": None}

    def step(self, acc: Accumulator, blocks: Sequence[Any], small: Small, at: Region) -> None:
        """Add A B for one block of A and one panel of B; `at` is its place within the block."""
        blas, dtype = self.blas, np.dtype(small["dtype"])
        a, panel = (blas.cast(block, dtype) for block in blocks)
        (low, high), depth = at
        c, x, expected = (bring(acc, blas, name) for name in ("_c", "_x", "_expected"))
        if acc["_depth"] != depth:  # the first block of A for this panel
            acc["_depth"] = depth
            acc["_image"] = blas.zeros((panel.shape[0], products.PROBES), dtype)
            blas.gemm(acc["_image"], panel, x)
            norm = self.norm(panel, acc, small, 1, at)
            acc["_norms"][1] = math.hypot(acc["_norms"][1], norm)
        blas.gemm(c[low:high, :], a, panel)
        blas.gemm(expected[low:high, :], a, bring(acc, blas, "_image"))
        acc["_norms"][0] = math.hypot(acc["_norms"][0], self.norm(a, acc, small, 0, at))

    def norm(self, block: Any, acc: Accumulator, small: Small, operand: int, at: Region) -> float:
        """Give |block|_F; a block that is not finite is an error."""
        square = self.blas.sum_of_squares(block)
        if 1e-200 < square < math.inf:
            return math.sqrt(square)
        return products.Gemm(HOST).norm(self.blas.get(block), acc, small, operand, at)

    def finish(self, acc: Accumulator, small: Small, at: Region) -> NDArray[Any]:
        """Give the block; leave how far it is from what the random vectors expect."""
        blas = self.blas
        c, x = bring(acc, blas, "_c"), bring(acc, blas, "_x")
        image = blas.zeros((c.shape[0], products.PROBES), small["dtype"])
        blas.gemm(image, c, x)
        largest, norm = self._measured(c)
        for name in ("_x", "_expected"):
            acc[name] = blas.get(bring(acc, blas, name))
        products.judge(acc, blas.get(image), largest, norm, _allowing(blas, small))
        return moved_out(blas, c)

    def _measured(self, c: Any) -> tuple[float, float]:
        """Give the largest |c| (1 if all are zero), and |c / largest|_F."""
        blas = self.blas
        parts = (
            [c[low:high, :] for low, high in pieces(c.shape, blas.capacity_nbytes)]
            if c.shape[1]
            else []
        )
        sizes = (float(blas.xp.max(blas.xp.abs(part))) for part in parts)
        largest = max(sizes, default=0.0) or 1.0
        norm = 0.0
        for part in parts:
            norm = math.hypot(norm, math.sqrt(blas.sum_of_squares(part / largest)))
        return largest, norm


def _allowing(blas: Blas, small: Small) -> Small:
    """Let products differ by the rounding of their factors, where that was asked for."""
    if "bound" not in small or blas.precision != "tf32" or np.dtype(small["dtype"]).char in "dD":
        return small
    return {**small, "bound": small["bound"] * _TF32_UNITS}


@dataclass(frozen=True)
class GemmHermitian(Gemm):
    """A block on the diagonal of a product that is its own adjoint: made so, rounding included."""

    def finish(self, acc: Accumulator, small: Small, at: Region) -> NDArray[Any]:
        """Give the block, the mean of what was found and its adjoint."""
        return products.hermitian(super().finish(acc, small, at))


@dataclass(frozen=True)
class Syrk(products.Syrk):
    """One diagonal block of A^H A that stays on the device."""

    def begin(self, small: Small, at: Region) -> Accumulator:
        """Give a block of zeros and a random vector."""
        return Gemm(self.blas).begin(small, at)

    def step(self, acc: Accumulator, blocks: Sequence[Any], small: Small, at: Region) -> None:
        """Add P^H P for one panel P of A."""
        blas, dtype = self.blas, np.dtype(small["dtype"])
        panel = blas.cast(blocks[0], dtype)
        blas.syrk(bring(acc, blas, "_c"), panel)
        image = blas.zeros((panel.shape[0], products.PROBES), dtype)
        blas.gemm(image, panel, bring(acc, blas, "_x"))
        blas.gemm(bring(acc, blas, "_expected"), panel, image, adjoint=True)
        norm = Gemm(blas).norm(panel, acc, small, 1, at)
        acc["_norms"] = [math.hypot(old, norm) for old in acc["_norms"]]

    def finish(self, acc: Accumulator, small: Small, at: Region) -> NDArray[Any]:
        """Give the whole block, its upper triangle mirrored."""
        for name in ("_c", "_x", "_expected"):
            acc[name] = moved_out(self.blas, acc[name])
        return super().finish(acc, small, at)


@dataclass(frozen=True)
class Squared(divide.Squared):
    """A block of alpha C + beta I, C = X^H X made on the device."""

    @property
    def _fold(self) -> Any:
        return Syrk(self.blas) if self.diagonal else Gemm(self.blas)

    def _size(self, rows: NDArray[Any]) -> float:
        return frobenius(rows, HOST)  # what is finished is on the host
