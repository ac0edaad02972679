"""Systems with a triangle that streams by, for a panel of right-hand sides that stays in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.kernels.checks import raise_at
from leptonhpc.kernels.fold import Accumulator, Blas, Region, Small
from leptonhpc.kernels.panels import PROBES, frobenius, panel_of
from leptonhpc.kernels.random import gaussian_rows


@dataclass(frozen=True)
class _OnPanel:
    """What works on the panel that another task loaded."""

    blas: Blas

    def begin(self, small: Small, at: Region) -> Accumulator:
        """Give nothing: the panel is there."""
        return {}

    def factor(self, block: Any, dtype: Any) -> Any:
        """Give a block of the triangle in the dtype of computing."""
        return converted(block, dtype)

    def finish(self, acc: Accumulator, small: Small, at: Region) -> NDArray[Any] | None:
        """Write nothing."""
        return None


@dataclass(frozen=True)
class LoadSides(_OnPanel):
    """A panel of right-hand sides, and beside it random ones that tell how large A^-1 is."""

    def begin(self, small: Small, at: Region) -> Accumulator:
        """Give a panel of zeros, or of the sides that came with the stage."""
        (r0, r1), (c0, c1) = at
        dtype = np.dtype(small["dtype"])
        panel = np.zeros((r1 - r0, c1 - c0 + PROBES), dtype)
        panel[:, c1 - c0 :] = gaussian_rows(small["seed"], r0, r1, PROBES, dtype)
        sides = np.zeros((r1 - r0, c1 - c0), small["wide"])
        if small["sides"] is not None:
            sides[...] = small["sides"][:, c0:c1]
            panel[:, : c1 - c0] = sides
        return {"_panel": panel, "_sides": sides, "_first": c0}

    def step(
        self, acc: Accumulator, blocks: Sequence[NDArray[Any]], small: Small, at: Region
    ) -> None:
        """Take over one block of B."""
        (r0, r1), (c0, c1) = at
        block = blocks[0].reshape(r1 - r0, c1 - c0)
        if not np.isfinite(block).all():
            raise_at(blocks[0], at, small["side"])
        columns = slice(c0 - acc["_first"], c1 - acc["_first"])
        with np.errstate(over="ignore"):  # an infinite solution is noticed
            acc["_panel"][r0:r1, columns] = block
        acc["_sides"][r0:r1, columns] = block  # as they are: the factors may be in single precision


@dataclass(frozen=True)
class Forward(_OnPanel):
    """L X = B with L lower triangular, column by column of L."""

    def step(
        self, acc: Accumulator, blocks: Sequence[NDArray[Any]], small: Small, at: Region
    ) -> None:
        """Solve with the diagonal block, and subtract what follows from it below."""
        x, lower = acc["_panel"], self.factor(blocks[0], acc["_panel"].dtype)
        s0, s1 = at[1]
        if s0 == 0 and small["perm"] is not None:
            x[...] = x[small["perm"]]
        if small["pivots"] is not None:
            first, last = panel_of(s0, small)
            if s0 == first:
                self.blas.permute(x, small["pivots"][first:last] - first, first=first)
        top = x[s0:s1, :]
        self.blas.trsm(lower[: s1 - s0, :], top, unit=small["unit"])
        self.blas.gemm(x[s1:, :], lower[s1 - s0 :, :], top, alpha=-1.0)


@dataclass(frozen=True)
class Backward(_OnPanel):
    """U X = B with U upper triangular, column by column of U from the last."""

    def step(
        self, acc: Accumulator, blocks: Sequence[NDArray[Any]], small: Small, at: Region
    ) -> None:
        """Solve with the diagonal block, and subtract what follows from it above."""
        x, u = acc["_panel"], self.factor(blocks[0], acc["_panel"].dtype)
        s0, s1 = at[1]
        self.blas.trsm(u[s0:s1, :], x[s0:s1, :], lower=False)
        self.blas.gemm(x[:s0, :], u[:s0, :], x[s0:s1, :], alpha=-1.0)


@dataclass(frozen=True)
class Adjoint(_OnPanel):
    """L^H X = B with L lower triangular, column by column of L from the last."""

    def step(
        self, acc: Accumulator, blocks: Sequence[NDArray[Any]], small: Small, at: Region
    ) -> None:
        """Subtract what is known from below, and solve with the diagonal block."""
        x, lower = acc["_panel"], self.factor(blocks[0], acc["_panel"].dtype)
        s0, s1 = at[1]
        self.blas.gemm(x[s0:s1, :], lower[s1 - s0 :, :], x[s1:, :], alpha=-1.0, adjoint=True)
        self.blas.trsm(lower[: s1 - s0, :], x[s0:s1, :], adjoint=True, unit=small["unit"])


@dataclass(frozen=True)
class Solved(_OnPanel):
    """The end of a panel: the solution is written, or kept with the accumulator if it is small."""

    def step(
        self, acc: Accumulator, blocks: Sequence[NDArray[Any]], small: Small, at: Region
    ) -> None:
        """Fold nothing."""

    def finish(self, acc: Accumulator, small: Small, at: Region) -> NDArray[Any]:
        """Give the panel of X; leave X Omega and B Omega for the check."""
        panel: NDArray[Any] = acc.pop("_panel")
        sides: NDArray[Any] = acc.pop("_sides")
        c0, c1 = at[1]
        x = panel[:, : c1 - c0]
        acc["max_probe"] = max(frobenius(p, self.blas) for p in panel[:, c1 - c0 :].T)
        omega = small["omega"]
        if omega is None:  # all of it comes back
            for name, part in (("solution", x), ("sides", sides)):
                acc[name] = np.zeros((len(x), small["width"]), part.dtype)
                acc[name][:, c0:c1] = part
            return x
        with np.errstate(over="ignore", invalid="ignore"):  # what is infinite is noticed
            acc["solution"], acc["sides"] = x @ omega[c0:c1], sides @ omega[c0:c1]
        return x


@dataclass(frozen=True)
class Apply:
    """A times a few vectors, and the Frobenius norm of A."""

    blas: Blas

    def begin(self, small: Small, at: Region) -> Accumulator:
        """Give zeros."""
        y = small["y"]
        return {"product": np.zeros((small["rows"], y.shape[1]), y.dtype)}

    def step(
        self, acc: Accumulator, blocks: Sequence[NDArray[Any]], small: Small, at: Region
    ) -> None:
        """Add one block of A times its part of the vectors."""
        (r0, r1), (c0, c1) = at
        y = small["y"]
        with np.errstate(over="ignore", invalid="ignore"):  # what is infinite is noticed
            acc["product"][r0:r1] += converted(blocks[0], y.dtype) @ y[c0:c1]

    def finish(self, acc: Accumulator, small: Small, at: Region) -> None:
        """Write nothing."""


def converted(block: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Give a block in the dtype of computing, its rows contiguous."""
    return np.ascontiguousarray(block, dtype)
