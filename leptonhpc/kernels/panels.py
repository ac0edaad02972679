"""Panels of a factorisation: loaded, updated by the panels before them, factored, written once.

A panel is a block column that stays in memory while earlier panels stream by (left-looking). Each
of these kernels does one of those things to the accumulator's ``_panel``; a panel's tasks pass it
on. Beside it go vectors y that check the factors: y^H A is summed as A is read, y^H L U as L and U
are made, and what lies between them is rounding, or a fault (Freivalds 1979).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from leptonhpc.errors import NotPositiveDefiniteError
from leptonhpc.kernels import threads
from leptonhpc.kernels.checks import (
    block_in_words,
    largest_of,
    parts_of,
    raise_out_of_range,
    require_hermitian,
)
from leptonhpc.kernels.fold import Accumulator, Blas, Region, Small
from leptonhpc.kernels.random import gaussian_rows

PROBES = 2
"""Vectors that check a factorisation."""
_SWEPT = 512
"""Columns that are cleared or summed at once."""
_IN_CACHE = 64
"""Rows that are copied and looked at while they are in cache."""


@dataclass(frozen=True)
class Load:
    """The panel's part of A, read block by block."""

    blas: Blas

    def begin(self, small: Small, at: Region) -> Accumulator:
        """Give a panel of zeros, in the place where it will be written if that is in memory."""
        (r0, r1), (c0, c1) = at
        dtype = np.dtype(small["dtype"])
        return {
            "_panel": cleared_panel(small, at),
            "_origin": (r0, c0),
            "_y": gaussian_rows(small["seed"], r0, r1, PROBES, dtype),
            "expected": np.zeros((small["columns"], PROBES), dtype),
            "hypot_norm": 0.0,
            "max_entry": 0.0,
        }

    def step(
        self, acc: Accumulator, blocks: Sequence[NDArray[Any]], small: Small, at: Region
    ) -> None:
        """Take over one block of A, and check that its numbers are finite."""
        block, norm = self.taken(acc, blocks[0], small, at)
        (r0, r1), (c0, c1) = at
        y = gaussian_rows(small["seed"], r0, r1, PROBES, block.dtype)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            acc["expected"][c0:c1] += block.conj().T @ y
        acc["hypot_norm"] = math.hypot(acc["hypot_norm"], norm)

    def taken(
        self, acc: Accumulator, block: NDArray[Any], small: Small, at: Region
    ) -> tuple[NDArray[Any], float]:
        """Put a block at its place in the panel; give what is there now, and its norm."""
        (r0, r1), (c0, c1) = at
        top, left = acc["_origin"]
        part: NDArray[Any] = acc["_panel"][r0 - top : r1 - top, c0 - left : c1 - left]
        for low in range(0, r1 - r0, _IN_CACHE):
            rows = part[low : low + _IN_CACHE]
            with np.errstate(over="ignore"):  # said below
                rows[...] = block[low : low + _IN_CACHE]
            largest = largest_of(rows)
            if not math.isfinite(largest):
                raise_out_of_range(block, part.dtype, at, small)
            acc["max_entry"] = max(acc["max_entry"], largest)
        return part, frobenius(block if block.dtype == part.dtype else part, self.blas)

    def finish(self, acc: Accumulator, small: Small, at: Region) -> None:
        """Write nothing: the panel goes on to other tasks."""


@dataclass(frozen=True)
class LoadHermitian:
    """The lower part of a panel of A, and its mirror image beside it to be compared."""

    blas: Blas

    def begin(self, small: Small, at: Region) -> Accumulator:
        """Give a panel of zeros."""
        return Load(self.blas).begin(small, at)

    def step(
        self, acc: Accumulator, blocks: Sequence[NDArray[Any]], small: Small, at: Region
    ) -> None:
        """Take over one block of the lower triangle; `blocks` has its mirror image too."""
        load = Load(self.blas)
        block, norm = load.taken(acc, blocks[0], small, at)
        # a block on the diagonal is its own mirror image
        mirror = blocks[1] if len(blocks) > 1 else block.conj().T
        (r0, r1), (c0, c1) = at
        require_hermitian(block, mirror, small, at, largest=acc["max_entry"])
        y = gaussian_rows(small["seed"], 0, small["columns"], PROBES, block.dtype)
        acc["expected"][c0:c1] += block.conj().T @ y[r0:r1]
        weight = 1.0
        if r0 != c0:  # the mirror image stands above the panel
            acc["expected"][r0:r1] += block @ y[c0:c1]
            weight = math.sqrt(2.0)
        acc["hypot_norm"] = math.hypot(acc["hypot_norm"], weight * norm)

    def finish(self, acc: Accumulator, small: Small, at: Region) -> None:
        """Write nothing."""


@dataclass(frozen=True)
class GoesOn:
    """A task that goes on with the panel of the one before: what it does not do, it leaves."""

    blas: Blas

    def begin(self, small: Small, at: Region) -> Accumulator:
        """Give nothing: the panel is there."""
        return {}

    def step(
        self, acc: Accumulator, blocks: Sequence[NDArray[Any]], small: Small, at: Region
    ) -> None:
        """Fold nothing."""

    def finish(self, acc: Accumulator, small: Small, at: Region) -> NDArray[Any] | None:
        """Write nothing."""
        return None


@dataclass(frozen=True)
class UpdateCholesky(GoesOn):
    """A panel of A, less what earlier panels of L contribute."""

    cuts_products: ClassVar[bool] = True

    def step(
        self, acc: Accumulator, blocks: Sequence[NDArray[Any]], small: Small, at: Region
    ) -> None:
        """Subtract L[I, K] L[J, K]^H, the lower triangle only at the top."""
        panel, factor = acc["_panel"], blocks[0]
        width = panel.shape[1]
        self.blas.syrk(panel[:width, :], factor[:width, :], alpha=-1.0, right_adjoint=True)
        self.blas.gemm(
            panel[width:, :], factor[width:, :], factor[:width, :], alpha=-1.0, right_adjoint=True
        )


@dataclass(frozen=True)
class FactorCholesky(GoesOn):
    """The last task of a panel: its diagonal block is factored, what is below is solved."""

    def finish(self, acc: Accumulator, small: Small, at: Region) -> NDArray[Any]:
        """Give the panel of L; leave its part of L (L^H y)."""
        panel: NDArray[Any] = acc.pop("_panel")
        self.factored(panel, small, at)
        return self.judged(acc, panel, small, at)

    def factored(self, panel: Any, small: Small, at: Region) -> None:
        """Factor the diagonal block of a panel and solve with it below, in place."""
        _, (c0, c1) = at
        width = c1 - c0
        try:
            self.blas.potrf(panel[:width, :])
        except NotPositiveDefiniteError as error:
            order = error.order + c0
            message = (
                f"{small['driver']} needs a positive definite matrix; the leading minor of order "
                f"{order} of {small['name']} is not: its pivot is at index {(order - 1,) * 2}, in "
                f"block {block_in_words(c0, c0, (width, width))}. Use lu for a general matrix"
            )
            raise NotPositiveDefiniteError(message, order=order) from None
        self.blas.trsm(panel[:width, :], panel[width:, :], right=True, adjoint=True)

    def judged(
        self, acc: Accumulator, panel: NDArray[Any], small: Small, at: Region
    ) -> NDArray[Any]:
        """Give the factored panel; leave its part of L (L^H y)."""
        (r0, _), (c0, c1) = at
        y, width = acc.pop("_y"), c1 - c0
        clear_upper(panel[:width])
        acc["diagonal"] = placed(panel.diagonal().real.astype(np.float64), c0, small["columns"])
        inner = np.zeros((width, y.shape[1]), panel.dtype)
        self.blas.gemm(inner, panel, y, adjoint=True)
        acc["found"] = np.zeros_like(acc["expected"])
        self.blas.gemm(acc["found"][r0:], panel, inner)
        return panel


@dataclass(frozen=True)
class UpdateLu(GoesOn):
    """A panel of A, with the row exchanges and the elimination of an earlier panel."""

    cuts_products: ClassVar[bool] = True

    def step(
        self, acc: Accumulator, blocks: Sequence[NDArray[Any]], small: Small, at: Region
    ) -> None:
        """Make the rows of U that belong to columns `at` of L, and subtract L U below them."""
        panel, factor = acc["_panel"], blocks[0]
        (_, _), (s0, s1) = at
        first, last = panel_of(s0, small)
        earlier = earlier_panel(s0, small)
        if s0 == first:
            pivots = earlier["pivots"][first:last] - first
            for rows in (panel, acc["_y"]):
                self.blas.permute(rows, pivots, first=first)
        width = min(s1, panel.shape[0]) - s0
        top = panel[s0 : s0 + width]
        self.blas.trsm(factor[:width, :width], top, unit=True)
        self.blas.gemm(panel[s0 + width :], factor[width:, :width], top, alpha=-1.0)
        acc.setdefault("_found", np.zeros((panel.shape[1], PROBES), panel.dtype))
        with np.errstate(over="ignore", invalid="ignore"):  # what has grown is said at the end
            acc["_found"] += top.conj().T @ earlier["left"][s0 : s0 + width]
        acc["max_pivoted"] = larger(acc.get("max_pivoted", 0.0), float(np.max(np.abs(top))))


@dataclass(frozen=True)
class FactorLu(GoesOn):
    """The last task of a panel: what is left of it is factored with partial pivoting."""

    def finish(self, acc: Accumulator, small: Small, at: Region) -> NDArray[Any]:
        """Give the panel, L below U; leave its exchanges and how far L U is from A."""
        panel: NDArray[Any] = acc.pop("_panel")
        below = panel[at[1][0] :]
        pivots = self.blas.getrf(below) if len(below) else np.zeros(0, np.int64)
        return self.judged(acc, panel, pivots, small, at)

    def judged(
        self, acc: Accumulator, panel: NDArray[Any], pivots: NDArray[np.int64], small: Small,
        at: Region,
    ) -> NDArray[Any]:  # fmt: skip
        """Give the factored panel; leave its exchanges and how far L U is from A."""
        (_, rows), (c0, c1) = at
        y = acc.pop("_y")
        rank = max(0, min(c1, rows) - c0)
        order = min(rows, small["columns"])
        found = acc.pop("_found", np.zeros((c1 - c0, PROBES), panel.dtype))
        diagonal = np.zeros(0, panel.dtype)
        left = np.zeros((0, PROBES), panel.dtype)
        if rank:
            below = panel[c0:]
            self.blas.permute(y, pivots, first=c0)
            left, largest = _through(self.blas, below, rank, y[c0:], found)
            acc["max_pivoted"] = larger(acc.get("max_pivoted", 0.0), largest)
            diagonal = below.diagonal()
        acc.update(
            pivots=placed(pivots + c0, c0, order), left=placed(left, c0, order),
            diagonal=placed(diagonal, c0, order),
            hypot_defect=frobenius(found - acc.pop("expected")[c0:c1], self.blas),
        )  # fmt: skip
        return panel


def larger(one: float, other: float) -> float:
    """Give the larger entry of U; NaN, of elements that overflowed, counts as infinite."""
    return math.inf if math.isnan(one + other) else max(one, other)


def _through(
    blas: Blas, packed: NDArray[Any], rank: int, y: NDArray[Any], found: NDArray[Any]
) -> tuple[NDArray[Any], float]:
    """Give L^H y and the largest entry of U, and add (L^H y)^H U to found, block by block."""
    left = np.zeros((rank, y.shape[1]), packed.dtype)
    largest = 0.0
    for low in range(0, rank, _SWEPT):
        high = min(low + _SWEPT, rank)
        corner = np.tril(packed[low:high, low:high], -1)
        left[low:high] = corner.conj().T @ y[low:high] + y[low:high]
        blas.gemm(left[low:high], packed[high:, low:high], y[high:], adjoint=True)
    for low in range(0, rank, _SWEPT):
        high = min(low + _SWEPT, rank)
        corner, right = np.triu(packed[low:high, low:high]), packed[low:high, high:]
        with np.errstate(over="ignore", invalid="ignore"):
            found[low:high] += corner.conj().T @ left[low:high]
        blas.gemm(found[high:], right, left[low:high], adjoint=True)
        for first in range(low, high, _IN_CACHE):
            rows = packed[first : first + _IN_CACHE, high:]
            largest = larger(largest, largest_of(rows))
        largest = larger(largest, largest_of(corner))
    return left, largest


@dataclass(frozen=True)
class Unpack:
    """One of the triangles of a factored panel: L with a unit diagonal, or U (or R)."""

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
        """Give the triangle; rows of L in the order of all exchanges."""
        panel: NDArray[Any] = acc.pop("_panel")
        (r0, _), (c0, c1) = at
        if small["part"] == "upper":
            clear_lower(panel[c0:])
            return panel
        width, end = c1 - c0, panel_of(c0, small)[1]
        clear_upper(panel[:width])
        np.fill_diagonal(panel, 1)
        self.blas.permute(panel, small["pivots"][end:] - end, first=end - r0)
        return panel


def cleared_panel(small: Small, at: Region) -> NDArray[Any]:
    """Give a panel of zeros, in the place where it will be written if that is in memory."""
    panel = panel_in_place(small, at)
    threads.clear(panel)
    return panel


def panel_in_place(small: Small, at: Region) -> NDArray[Any]:
    """Give a panel of any numbers, in the place where it will be written if that is in memory."""
    shape, dtype, place = tuple(b - a for a, b in at), np.dtype(small["dtype"]), small["place"]
    usable = place is not None and place.dtype == dtype and place.shape == shape
    panel: NDArray[Any] = place if usable else np.empty(shape, dtype)
    return panel


def panel_of(column: int, small: Small) -> tuple[int, int]:
    """Give the first column and the end of the panel that holds a column."""
    edges = small["edges"]
    k = bisect_right(edges, column)
    return edges[k - 1], edges[k]


def earlier_panel(column: int, small: Small) -> Accumulator:
    """Give what the panel of a column left, of the panels that the task needs: one, or all."""
    needed: Sequence[Accumulator] = small["needed"]
    return needed[0 if len(needed) == 1 else bisect_right(small["edges"], column) - 1]


def placed(part: NDArray[Any], first: int, length: int) -> NDArray[Any]:
    """Give a part of a vector at its place among zeros: panels' vectors are added up."""
    whole = np.zeros((length, *part.shape[1:]), part.dtype)
    whole[first : first + len(part)] = part
    return whole


def clear_upper(a: NDArray[Any]) -> None:
    """Write zeros above the diagonal of a square block, in place."""
    n = len(a)
    for low in range(0, n, _SWEPT):
        high = min(low + _SWEPT, n)
        a[low:high, high:] = 0
        block = a[low:high, low:high]
        block[np.triu_indices(high - low, 1)] = 0


def clear_lower(a: NDArray[Any]) -> None:
    """Write zeros below the diagonal, in place."""
    for low in range(0, len(a), _SWEPT):
        high = min(low + _SWEPT, len(a))
        a[low:high, :low] = 0
        block = a[low:high, low:high]
        rows, columns = np.tril_indices(high - low, -1)
        inside = columns < block.shape[1]
        block[rows[inside], columns[inside]] = 0


def frobenius(block: NDArray[Any], blas: Blas) -> float:
    """Give |block|_F, also where squares over- or underflow; infinite if the numbers are not."""
    plain = np.ascontiguousarray(block.T if block.flags.f_contiguous else block)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        square = blas.sum_of_squares(plain)
        if 1e-200 < square < math.inf:
            return math.sqrt(square)
        largest = float(np.max(np.abs(plain), initial=0.0))
    if not math.isfinite(largest):
        return math.inf
    return largest * float(np.linalg.norm(parts_of(plain) / largest)) if largest else 0.0
