"""The stages of spectral divide and conquer, each of which makes one matrix from others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from leptonhpc.blocks import BlockedArray, Region
from leptonhpc.blocks.drawing import format_nbytes
from leptonhpc.errors import MemoryBudgetError
from leptonhpc.linalg.eigh_gathered import gathered_need, gathered_stage
from leptonhpc.linalg.eigh_krylov import krylov_pass
from leptonhpc.linalg.hermitian import SIDES, hermitian_tile
from leptonhpc.linalg.multiply import Kind, multiply_stage
from leptonhpc.linalg.qr import HouseholderQr, plan_householder
from leptonhpc.linalg.scratch import ScratchSource, made, with_operands
from leptonhpc.planning import Resources, Stage, Step, Target, Task, seconds
from leptonhpc.planning.costs import LIBRARIES_NBYTES

UNIT = 1024
"""Rows and columns of a chunk."""

_Parts = list[tuple[ScratchSource, Region]]
"""What a block is made from: regions of other matrices."""


@dataclass(frozen=True, slots=True)
class BlockSteps:
    """What one block is made from: side by side, one after the other, or all at once."""

    parts: tuple[tuple[ScratchSource, Region], ...]
    at: Region
    """Of the block."""
    together: bool

    @property
    def operands(self) -> tuple[str, ...]:
        """What the steps read."""
        return tuple(dict.fromkeys(s.moved(region).operand for s, region in self.parts))

    def __len__(self) -> int:
        """Count the steps."""
        return 1 if self.together else len(self.parts)

    def __iter__(self) -> Iterator[Step]:
        """Make the steps."""
        reads = [source.moved(region) for source, region in self.parts]
        if self.together:
            yield Step(tuple(reads), self.at)
            return
        rows, (first, _) = self.at
        for read, (_, (_, columns)) in zip(reads, self.parts, strict=True):
            width = columns[1] - columns[0]
            yield Step((read,), (rows, (first, first + width)))
            first += width


@dataclass(frozen=True)
class Stages:
    """Plans the stages of one job; each method gives a stage, and what it makes."""

    resources: Resources
    dtype: np.dtype[Any]
    driver: str
    name: str
    """Of the input, for messages."""

    def product(
        self, a: ScratchSource, b: ScratchSource, into: str | Target, *, kind: Kind = "general"
    ) -> tuple[Stage, ScratchSource]:
        """Multiply A and B; half of it where it is Hermitian."""
        stage = multiply_stage(a, b, self.resources, self.dtype, kind=kind)
        planned = stage.target
        assert planned is not None
        # blocks are of whole units of the operands, whatever these are
        target = (
            replace(planned, name=into, scratch=True) if isinstance(into, str)
            else replace(into, unit=planned.unit)
        )  # fmt: skip
        return with_operands(stage, {"a": a, "b": b}, target), made(target)

    def square(self, x: ScratchSource, into: str | None) -> tuple[Stage, ScratchSource]:
        """Alpha X^H X + beta I; where it is not kept, only how far X^H X is from I."""
        stage, square = self.product(x.H, x, into or "square", kind="gram")
        kernels = {"syrk": "squared_syrk", "gemm": "squared_gemm"}
        tasks = tuple(replace(t, kernel=kernels[t.kernel]) for t in stage.tasks)
        if into is None:
            tasks = tuple(replace(t, write_nbytes=0, mirror=False) for t in tasks)
        return replace(stage, tasks=tasks, target=stage.target if into else None), square

    def shifted(self, x: ScratchSource, into: str | Target) -> tuple[Stage, ScratchSource]:
        """Alpha X + beta I."""
        return self._blocks("shifted", x.shape, into, lambda at: [(x, at)])

    def perturbed(self, x: ScratchSource, into: str) -> tuple[Stage, ScratchSource]:
        """X / alpha + beta G, G Gaussian."""
        return self._blocks("perturbed", x.shape, into, lambda at: [(x, at)])

    def scaled(self, x: ScratchSource, into: str) -> tuple[Stage, ScratchSource]:
        """D_r X D_c."""
        return self._blocks("scaled", x.shape, into, lambda at: [(x, at)])

    def drawn(self, shape: tuple[int, int], into: str) -> tuple[Stage, ScratchSource]:
        """Give a Gaussian matrix."""
        return self._blocks("draw", shape, into, lambda _: [])

    def joined(
        self, x: ScratchSource, y: ScratchSource, into: str | Target, *, first: int = 0,
        last: int | None = None,
    ) -> tuple[Stage, ScratchSource]:  # fmt: skip
        """Columns from the first to the last of [X | Y]."""
        split, total = x.shape[1], x.shape[1] + y.shape[1]
        last = total if last is None else last

        def parts(at: Region) -> _Parts:
            rows, (low, high) = at[0], (c + first for c in at[1])
            found: _Parts = []
            if low < split:
                found.append((x, (rows, (low, min(high, split)))))
            if high > split:
                found.append((y, (rows, (max(low, split) - split, high - split))))
            return found

        return self._blocks("join", (x.shape[0], last - first), into, parts)

    def orthonormal(self, x: ScratchSource, into: str, *, seed: int) -> HouseholderQr:
        """Q of a square X = Q R; only its factorisation and Q are to be run."""
        qr = plan_householder(BlockedArray(x), self.resources, seed=seed, dtype=self.dtype)
        assert qr.form.target is not None
        target = replace(qr.form.target, name=into, scratch=True)
        return replace(
            qr, factor=with_operands(qr.factor, {"a": x}, qr.factor.target),
            form=replace(qr.form, target=target),
        )  # fmt: skip

    def pairs(self, x: ScratchSource, into: str) -> tuple[Stage, ScratchSource]:
        """All eigenvectors of a matrix that one worker holds."""
        n = x.shape[0]
        unit = (min(n, UNIT),) * 2
        target = Target(into, (n, n), self.dtype.str, unit, scratch=True)
        tile, need = self._gathered(n)
        stage = gathered_stage(x, target, self.resources, self.dtype, tile, need)
        return with_operands(stage, {"a": x}, target), made(target)

    def fits(self, n: int) -> bool:
        """Whether one worker holds a matrix of order n with its eigenvectors."""
        return self._gathered(n)[1] <= self.resources.memory_nbytes

    def density(self, x: ScratchSource, width: int, most: int, *, first: bool) -> Stage:
        """X times a few vectors of `most`; the first time both triangles of X are compared."""
        wide = np.result_type(self.dtype, float).itemsize
        for side in SIDES:
            tile = hermitian_tile(x, side)
            tiles = tile * tile * (4 * x.dtype.itemsize + 6 * self.dtype.itemsize)
            need = LIBRARIES_NBYTES + tiles + x.shape[0] * (2 * most + 14 * width) * wide
            if need <= self.resources.memory_nbytes:
                break
        self._require(need)
        stage = krylov_pass(
            "density", x, self.resources, self.dtype, tile, width, need, mirror=first
        )
        return with_operands(stage, {"a": x}, None)

    def residuals(self, product: ScratchSource, vectors: ScratchSource) -> Stage:
        """Give |A v - w v|^2 from A V and V."""
        blocks = self._blocks(
            "pair_residuals", vectors.shape, "", lambda at: [(product, at), (vectors, at)],
            together=True,
        )[0]  # fmt: skip
        return replace(blocks, target=None)

    def require_one(self) -> None:
        """Refuse a budget in which not even a matrix of order 1 is solved."""
        self._require(self._gathered(1)[1])

    def _require(self, need: int) -> None:
        if need > self.resources.memory_nbytes:
            message = (
                f"{self.driver} of {self.name} needs at least memory='{-(-need // 10**6)} MB'; "
                f"found {format_nbytes(self.resources.memory_nbytes)}"
            )
            raise MemoryBudgetError(message)

    def _gathered(self, n: int) -> tuple[int, int]:
        tile = min(n, SIDES[-1])
        return tile, gathered_need(n, tile, self.dtype)

    def _blocks(
        self, kernel: str, shape: tuple[int, ...], into: str | Target,
        parts: Callable[[Region], _Parts], *, together: bool = False,
    ) -> tuple[Stage, ScratchSource]:  # fmt: skip
        """Plan work block by block: each reads some parts, one after the other or together."""
        m, n = shape
        unit = (min(m, UNIT), min(n, UNIT))
        target = (
            Target(into, (m, n), self.dtype.str, unit, scratch=True)
            if isinstance(into, str) else into
        )  # fmt: skip
        lanes, item = self.resources.workers, self.dtype.itemsize
        tasks: list[Task] = []
        previous: dict[int, str] = {}
        columns = [(j, min(j + target.unit[1], n)) for j in range(0, n, target.unit[1])]
        for i in range(0, m, target.unit[0]):
            rows = (i, min(i + target.unit[0], m))
            for j, end in columns:
                at = (rows, (j, end))
                found = parts(at)
                lane, key = len(tasks) % lanes, f"{kernel}-{i}-{j}"
                nbytes = (rows[1] - i) * (end - j) * item
                tasks.append(
                    Task(
                        key, kernel, BlockSteps(tuple(found), at, together), lane,
                        previous.get(lane), at,
                        read_nbytes=nbytes * bool(found) * (1 + together),
                        write_nbytes=nbytes * (not together),
                    )
                )  # fmt: skip
                previous[lane] = key
        need = LIBRARIES_NBYTES + 8 * target.unit[0] * target.unit[1] * item
        self._require(need)
        total = m * n * item
        predicted = seconds(
            "copy", self.dtype, flops=0, read_nbytes=total, write_nbytes=total,
            resources=self.resources,
        )  # fmt: skip
        stage = Stage(
            kernel.replace("_", " "), tuple(tasks), lanes, 1, self.resources.threads, target,
            chained=False, seconds=predicted, prefetch="always",
            peak_nbytes=need,
        )  # fmt: skip
        return stage, made(target)
