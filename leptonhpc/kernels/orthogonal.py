"""QR by panels of Householder reflectors, left-looking; Q and R are made from the packed panels.

The reflectors H_i = I - tau_i v_i v_i^H of a panel stay below its diagonal row, their factors tau
travel in the accumulator of the task that factored it. Beside the panels go vectors y that check
the factors: y^H A is summed as A is read, y^H Q as Q is made, (y^H Q) R as R is unpacked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.kernels.fold import Accumulator, Blas, Region, Small
from leptonhpc.kernels.panels import (
    PROBES,
    GoesOn,
    clear_lower,
    cleared_panel,
    earlier_panel,
    frobenius,
    panel_in_place,
    placed,
)
from leptonhpc.kernels.random import gaussian_rows


@dataclass(frozen=True)
class UpdateQr(GoesOn):
    """A panel of A, with the reflectors of an earlier panel applied: 4mnk flops."""

    def step(
        self, acc: Accumulator, blocks: Sequence[NDArray[Any]], small: Small, at: Region
    ) -> None:
        """Apply the adjoint of the reflectors of columns `at`, from their diagonal downwards."""
        s0, s1 = at[1]
        taus = earlier_panel(s0, small)["taus"][s0:s1]
        self.blas.reflect(blocks[0], taus, acc["_panel"][s0:, :], adjoint=True)


@dataclass(frozen=True)
class FactorQr(GoesOn):
    """The last task of a panel: what is left of it below the earlier rows of R is factored."""

    def finish(self, acc: Accumulator, small: Small, at: Region) -> NDArray[Any]:
        """Give the panel, R above the reflectors; leave their factors and the diagonal of R."""
        c0, panel = at[1][0], acc.pop("_panel")
        taus = self.blas.geqrf(panel[c0:]) if c0 < len(panel) else np.zeros(0, panel.dtype)
        return self.noted(acc, panel, taus, small, at)

    def noted(
        self, acc: Accumulator, panel: NDArray[Any], taus: NDArray[Any], small: Small, at: Region
    ) -> NDArray[Any]:
        """Give the factored panel; leave the factors of its reflectors and the diagonal of R."""
        (_, rows), (c0, _) = at
        del acc["_y"], acc["_origin"]
        order = min(rows, small["columns"])
        diagonal = panel[c0:].diagonal() if c0 < rows else np.zeros(0, panel.dtype)
        first = min(c0, order)
        acc["taus"] = placed(taus, first, order)
        acc["diagonal"] = placed(diagonal, first, order)
        return panel


@dataclass(frozen=True)
class FormQ:
    """A panel of Q: columns of the identity, with all reflectors applied, the last one first.

    Columns take the signs that make the diagonal of R positive.
    """

    blas: Blas

    def begin(self, small: Small, at: Region) -> Accumulator:
        """Give a panel of the identity, in the place where it will be written if it is there."""
        panel = cleared_panel(small, at)
        np.fill_diagonal(panel[at[1][0] :], 1)
        return {"_panel": panel, "_origin": at[1][0]}

    def step(
        self, acc: Accumulator, blocks: Sequence[NDArray[Any]], small: Small, at: Region
    ) -> None:
        """Apply the reflectors of columns `at`; columns before them are still zero there."""
        s0, s1 = at[1]
        part = acc["_panel"][s0:, max(0, s0 - acc["_origin"]) :]
        self.blas.reflect(blocks[0], small["taus"][s0:s1], part)

    def finish(self, acc: Accumulator, small: Small, at: Region) -> NDArray[Any]:
        """Give the panel; leave its part of Q^H y."""
        (r0, r1), (c0, c1) = at
        del acc["_origin"]
        panel: NDArray[Any] = acc.pop("_panel")
        for column in np.flatnonzero(small["signs"][c0:c1] < 0):
            panel[:, column] *= -1
        y = gaussian_rows(small["seed"], r0, r1, PROBES, panel.dtype)
        acc["left"] = placed(panel.conj().T @ y, c0, len(small["signs"]))
        return panel


@dataclass(frozen=True)
class UnpackR:
    """A panel of R, its diagonal made positive; and how far (Q^H y)^H R is from y^H A."""

    blas: Blas

    def begin(self, small: Small, at: Region) -> Accumulator:
        """Give a panel."""
        return {"_panel": panel_in_place(small, at)}

    def step(
        self, acc: Accumulator, blocks: Sequence[NDArray[Any]], small: Small, at: Region
    ) -> None:
        """Take over some columns; `at` is their place within the panel."""
        (r0, r1), (c0, c1) = at
        acc["_panel"][r0:r1, c0:c1] = blocks[0]

    def finish(self, acc: Accumulator, small: Small, at: Region) -> NDArray[Any]:
        """Give the rows of R above and on the diagonal, with their signs."""
        (_, rows), (c0, c1) = at
        panel: NDArray[Any] = acc.pop("_panel")
        panel *= small["signs"][:rows, None].astype(panel.real.dtype)
        clear_lower(panel[c0:])  # last: a sign would make a zero negative
        found = panel.conj().T @ small["left"][:rows]
        acc["hypot_defect"] = frobenius(found - small["expected"][c0:c1], self.blas)
        return panel


@dataclass(frozen=True)
class Isometry:
    """Q^H (Q W) for a few vectors W, band by band in double precision."""

    blas: Blas

    def begin(self, small: Small, at: Region) -> Accumulator:
        """Give zeros."""
        return {"twice": np.zeros_like(small["w"])}

    def step(
        self, acc: Accumulator, blocks: Sequence[NDArray[Any]], small: Small, at: Region
    ) -> None:
        """Add one band of whole rows of Q."""
        w: NDArray[Any] = small["w"]
        for low in range(0, len(blocks[0]), small["tile"]):
            tile = np.asarray(blocks[0][low : low + small["tile"]], w.dtype)
            acc["twice"] += tile.conj().T @ (tile @ w)

    def finish(self, acc: Accumulator, small: Small, at: Region) -> None:
        """Write nothing."""
