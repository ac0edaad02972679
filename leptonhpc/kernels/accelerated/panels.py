"""Panels that are updated and factored on a device: they come to it once and go back once.

The host loads a panel and looks at its numbers; the device takes it over with the first update,
keeps it while earlier panels stream by, and gives it back factored, to be checked and written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.kernels import orthogonal, panels
from leptonhpc.kernels.accelerated.moving import bring, moved_out
from leptonhpc.kernels.fold import Accumulator, Region, Small
from leptonhpc.kernels.host import HOST


@dataclass(frozen=True)
class UpdateCholesky(panels.UpdateCholesky):
    """A panel of A, less what earlier panels of L contribute."""

    def step(self, acc: Accumulator, blocks: Sequence[Any], small: Small, at: Region) -> None:
        """Subtract L[I, K] L[J, K]^H, the lower triangle only at the top."""
        dtype = bring(acc, self.blas, "_panel").dtype
        super().step(acc, [self.blas.cast(blocks[0], dtype)], small, at)


@dataclass(frozen=True)
class FactorCholesky(panels.FactorCholesky):
    """The last task of a panel: factored on the device, checked on the host."""

    def finish(self, acc: Accumulator, small: Small, at: Region) -> NDArray[Any]:
        """Give the panel of L; leave its part of L (L^H y)."""
        panel = bring(acc, self.blas, "_panel")
        self.factored(panel, small, at)
        del acc["_panel"]
        return panels.FactorCholesky(HOST).judged(acc, moved_out(self.blas, panel), small, at)


@dataclass(frozen=True)
class UpdateLu(panels.UpdateLu):
    """A panel of A, with the row exchanges and the elimination of an earlier panel."""

    def step(self, acc: Accumulator, blocks: Sequence[Any], small: Small, at: Region) -> None:
        """Make the rows of U that belong to columns `at` of L, and subtract L U below them."""
        blas, panel = self.blas, bring(acc, self.blas, "_panel")
        (_, _), (s0, s1) = at
        factor = blas.cast(blocks[0], panel.dtype)
        first, last = panels.panel_of(s0, small)
        earlier = panels.earlier_panel(s0, small)
        if s0 == first:
            pivots = earlier["pivots"][first:last] - first
            blas.permute(panel, pivots, first=first)
            HOST.permute(acc["_y"], pivots, first=first)
        width = min(s1, panel.shape[0]) - s0
        top = panel[s0 : s0 + width, :]
        blas.trsm(factor[:width, :width], top, unit=True)
        blas.gemm(panel[s0 + width :, :], factor[width:, :width], top, alpha=-1.0)
        left = earlier["left"][s0 : s0 + width]
        part = blas.zeros((panel.shape[1], panels.PROBES), left.dtype)
        blas.gemm(part, top, blas.put(np.ascontiguousarray(left)), adjoint=True)
        found = acc.setdefault("_found", np.zeros(tuple(part.shape), left.dtype))
        with np.errstate(over="ignore", invalid="ignore"):  # what has grown is said at the end
            found += blas.get(part)
        largest = float(blas.xp.max(blas.xp.abs(top)))
        acc["max_pivoted"] = panels.larger(acc.get("max_pivoted", 0.0), largest)


@dataclass(frozen=True)
class FactorLu(panels.FactorLu):
    """The last task of a panel: factored on the device, checked on the host."""

    def finish(self, acc: Accumulator, small: Small, at: Region) -> NDArray[Any]:
        """Give the panel, L below U; leave its exchanges and how far L U is from A."""
        panel = bring(acc, self.blas, "_panel")
        below = panel[at[1][0] :, :]
        pivots = self.blas.getrf(below) if below.shape[0] else np.zeros(0, np.int64)
        del acc["_panel"]
        return panels.FactorLu(HOST).judged(acc, moved_out(self.blas, panel), pivots, small, at)


@dataclass(frozen=True)
class UpdateQr(orthogonal.UpdateQr):
    """A panel of A, with the reflectors of an earlier panel applied: 4mnk flops."""

    def step(self, acc: Accumulator, blocks: Sequence[Any], small: Small, at: Region) -> None:
        """Apply the adjoint of the reflectors of columns `at`, from their diagonal downwards."""
        dtype = bring(acc, self.blas, "_panel").dtype
        super().step(acc, [self.blas.cast(blocks[0], dtype)], small, at)


@dataclass(frozen=True)
class FactorQr(orthogonal.FactorQr):
    """The last task of a panel: factored on the device."""

    def finish(self, acc: Accumulator, small: Small, at: Region) -> NDArray[Any]:
        """Give the panel, R above the reflectors; leave their factors and the diagonal of R."""
        c0, panel = at[1][0], bring(acc, self.blas, "_panel")
        done = self.blas.geqrf(panel[c0:, :]) if c0 < panel.shape[0] else None
        del acc["_panel"]
        back = moved_out(self.blas, panel)
        taus = np.zeros(0, back.dtype) if done is None else done
        return self.noted(acc, back, taus, small, at)


@dataclass(frozen=True)
class FormQ(orthogonal.FormQ):
    """A panel of Q: columns of the identity, with all reflectors applied on the device."""

    def step(self, acc: Accumulator, blocks: Sequence[Any], small: Small, at: Region) -> None:
        """Apply the reflectors of columns `at`; columns before them are still zero there."""
        dtype = bring(acc, self.blas, "_panel").dtype
        super().step(acc, [self.blas.cast(blocks[0], dtype)], small, at)

    def finish(self, acc: Accumulator, small: Small, at: Region) -> NDArray[Any]:
        """Give the panel; leave its part of Q^H y."""
        acc["_panel"] = moved_out(self.blas, acc["_panel"])
        return super().finish(acc, small, at)
