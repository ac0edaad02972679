"""The passes of a non-negative factorisation as stages, over X or over what stands for it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.blocks import BlockGrid, Source
from leptonhpc.errors import NumericRangeError
from leptonhpc.linalg.jobs import Execute
from leptonhpc.linalg.nmf_objectives import Objective, Sums
from leptonhpc.planning import BandLayout, Resources, Stage, Target, seconds

REMEDY = "Remove such values first"
GIVEN, SHORT = "start long", "start short"
"""Operands: the W that the user begins with (H^T where X is wide), and H (W^T)."""


@dataclass(frozen=True)
class Tall:
    """X, or X^T where that is taller, and how it is streamed."""

    source: Source
    transposed: bool
    layout: BandLayout
    resources: Resources
    dtype: np.dtype[Any]
    """Of computing."""
    rank: int
    name: str
    grid: BlockGrid
    """As the user sees it, for messages."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the tall matrix."""
        return self.source.shape[0], self.source.shape[1]

    def scratch(self, number: int) -> Target:
        """Give where a sweep writes W: the next one reads it and writes elsewhere."""
        rows, height = self.shape[0], self.layout.height
        name, unit = ("w even", "w odd")[number % 2], (height, self.rank)
        return Target(name, (rows, self.rank), self.dtype.str, unit, scratch=True)

    def target(self) -> Target:
        """Give the user's array for the long factor: w, or h where X is wide."""
        shape, unit = (self.shape[0], self.rank), (self.layout.height, self.rank)
        if self.transposed:
            return Target("h", shape[::-1], self.dtype.str, unit[::-1], transposed=True)
        return Target("w", shape, self.dtype.str, unit)

    def stage(
        self, name: str, kernel: str, operands: tuple[tuple[str, int], ...], flops_per_row: float,
        *, target: Target | None = None, first: bool = False,
    ) -> Stage:  # fmt: skip
        """Plan a pass over arrays side by side; bands of the operand "x" may stay resident."""
        layout, of_x = self.layout, operands[0][0] == "x"
        if not of_x:
            layout = replace(layout, resident=0, itemsize=self.dtype.itemsize)
            layout = replace(layout, columns=sum(columns for _, columns in operands))
        tasks = layout.tasks(
            name, kernel, operands, flops_per_row, first=first or not of_x,
            write_row_nbytes=0 if target is None else self.rank * self.dtype.itemsize,
        )  # fmt: skip
        time = seconds(
            kernel, self.dtype, flops=sum(t.flops for t in tasks),
            read_nbytes=sum(t.read_nbytes for t in tasks),
            write_nbytes=sum(t.write_nbytes for t in tasks), resources=self.resources,
        )  # fmt: skip
        return Stage(
            name, tasks, layout.lanes, layout.lanes_per_worker, layout.blas_threads, target,
            passes=float(of_x), peak_nbytes=self.layout.peak_nbytes, seconds=time,
            resident_nbytes=self.layout.room_nbytes,
        )  # fmt: skip


@dataclass(frozen=True)
class Start:
    """How W begins."""

    kind: str
    """As the kernels know it: "random", "zero", "split" or "previous"."""
    operand: tuple[str, int] | None = None
    """Array that it begins with, and its columns."""
    small: dict[str, Any] = field(default_factory=dict)
    """What is done to it."""


@dataclass
class Sweeps:
    """Passes that improve W, one after another."""

    tall: Tall
    execute: Execute
    objective: Objective
    start: Start
    data: tuple[str, int]
    """What is read: "x", or the U that stands for it, and its columns."""
    seen: bool
    """Whether an earlier pass read the input: resident bands are there."""
    settle: float = 0.0
    """Solve for W to this residual, relative to |X|_F."""
    label: str = "sweep"
    count: int = 0
    written: int = 0
    """Number of the scratch array that holds W."""

    def stage(self, start: Start) -> Stage:
        """Plan the next pass."""
        tall, kernel = self.tall, self.objective.kernel
        operands = (self.data,) if start.operand is None else (self.data, start.operand)
        return tall.stage(
            f"{self.label}-{self.count + 1}", kernel, operands,
            sweep_flops(kernel, self.data[1], tall.rank), target=tall.scratch(self.written + 1),
            first=self.count == 0 and not self.seen,
        )  # fmt: skip

    def __call__(self, number: int, h: NDArray[Any]) -> Sums:
        """Make a pass with this H."""
        tall = self.tall
        start = self.start
        if self.count:
            start = Start("previous", (tall.scratch(self.written).name, tall.rank))
        small = {
            "start": start.kind, "turn": None, "factor": None, "fill": 0.0, "seed": 0,
            **start.small, **self.objective.small(h),
            "first": self.count == 0 and self.data[0] == "x",
            "settle": self.settle, "dtype": tall.dtype, "name": tall.name, "missing": "raise",
            "remedy": REMEDY, "transposed": tall.transposed, "edges": tall.grid.bounds,
        }  # fmt: skip
        sums = self.execute(self.stage(start), small)
        self.count += 1
        self.written += 1
        if "square" in sums:
            self._check_range(float(sums["square"]))
        return sums

    def _check_range(self, square: float) -> None:
        """Refuse numbers whose products have lost digits, or everything."""
        rows, columns = self.tall.shape
        typical = math.sqrt(square / rows / columns)
        low, high = (1e-12, 1e12) if self.tall.dtype.char == "f" else (1e-100, 1e100)
        if square > 0 and not low < typical < high:
            message = (
                f"numbers of {self.tall.name} near {typical:.3g} leave the range of products in "
                f"{self.tall.dtype}. Scale the array first"
            )
            raise NumericRangeError(message)


def write_stage(tall: Tall, written: int) -> Stage:
    """Plan the writing of the long factor as the user gets it.

    Parameters
    ----------
    tall : Tall
        X.
    written : int
        Number of the scratch array that holds it.

    Returns
    -------
    Stage
        A pass over scratch.
    """
    operand = (tall.scratch(written).name, tall.rank)
    return tall.stage("write", "scale_columns", (operand,), float(tall.rank), target=tall.target())


def sweep_flops(kernel: str, columns: int, k: int) -> float:
    """Count what a sweep computes for a row of X.

    Parameters
    ----------
    kernel : str
        "hals" or "kl_update".
    columns, k : int
        Of X, and the rank.

    Returns
    -------
    float
        Flops.
    """
    return 4.0 * columns * k + 20.0 * k * k if kernel == "hals" else 10.0 * columns * k
