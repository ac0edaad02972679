"""Right-hand sides that stay on a device while the triangle streams by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from leptonhpc.kernels import substitution
from leptonhpc.kernels.accelerated.moving import bring, moved_out
from leptonhpc.kernels.fold import Accumulator, Region, Small
from leptonhpc.kernels.host import HOST


@dataclass(frozen=True)
class Forward(substitution.Forward):
    """L X = B with L lower triangular, column by column of L."""

    def step(self, acc: Accumulator, blocks: Sequence[Any], small: Small, at: Region) -> None:
        """Solve with the diagonal block, and subtract what follows from it below."""
        if at[1][0] == 0 and small["perm"] is not None:  # rows are exchanged before they leave
            host = moved_out(self.blas, acc.pop("_panel"))
            host[...] = host[small["perm"]]
            acc["_panel"] = host
        bring(acc, self.blas, "_panel")
        super().step(acc, blocks, {**small, "perm": None}, at)

    def factor(self, block: Any, dtype: Any) -> Any:
        """Give a block of the triangle in the dtype of computing."""
        return self.blas.cast(block, dtype)


@dataclass(frozen=True)
class Backward(substitution.Backward):
    """U X = B with U upper triangular, column by column of U from the last."""

    def step(self, acc: Accumulator, blocks: Sequence[Any], small: Small, at: Region) -> None:
        """Solve with the diagonal block, and subtract what follows from it above."""
        bring(acc, self.blas, "_panel")
        super().step(acc, blocks, small, at)

    def factor(self, block: Any, dtype: Any) -> Any:
        """Give a block of the triangle in the dtype of computing."""
        return self.blas.cast(block, dtype)


@dataclass(frozen=True)
class Adjoint(substitution.Adjoint):
    """L^H X = B with L lower triangular, column by column of L from the last."""

    def step(self, acc: Accumulator, blocks: Sequence[Any], small: Small, at: Region) -> None:
        """Subtract what is known from below, and solve with the diagonal block."""
        bring(acc, self.blas, "_panel")
        super().step(acc, blocks, small, at)

    def factor(self, block: Any, dtype: Any) -> Any:
        """Give a block of the triangle in the dtype of computing."""
        return self.blas.cast(block, dtype)


@dataclass(frozen=True)
class Solved(substitution.Solved):
    """The end of a panel: the solution comes back to be measured and written."""

    def finish(self, acc: Accumulator, small: Small, at: Region) -> NDArray[Any]:
        """Give the panel of X; leave X Omega and B Omega for the check."""
        acc["_panel"] = moved_out(self.blas, acc["_panel"])
        return substitution.Solved(HOST).finish(acc, small, at)
