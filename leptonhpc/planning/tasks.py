"""The parts of a plan: reads, steps, tasks, stages.

A task folds a sequence of steps into one accumulator with one kernel. Tasks of a lane form a
chain: each takes over the accumulator of the one before, so that a lane holds one band and one
accumulator at a time, whatever the number of bands. That chain is also the back-pressure: no
load runs ahead of its lane.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol

from leptonhpc.blocks import Region
from leptonhpc.blocks.triangles import TriangleView

ADJOINT = "^H"
"""Ends the name of an operand that is the adjoint of another, as which it counts when read."""
MIRROR = "a" + ADJOINT

Prefetch = Literal["within", "always"]


@dataclass(frozen=True, slots=True)
class Read:
    """One region of one operand."""

    operand: str
    """Name of the source in the job."""
    region: Region
    keep: bool = False
    """Stay in memory for the stages to come."""


@dataclass(frozen=True, slots=True)
class Step:
    """What is folded at once."""

    reads: tuple[Read, ...]
    at: Region
    """Where the blocks belong, in the kernel's own coordinates."""


class Steps(Protocol):
    """Steps in their order, made when they are needed: a plan may have millions."""

    @property
    def operands(self) -> tuple[str, ...]:
        """What the steps read."""

    def __iter__(self) -> Iterator[Step]:
        """Make the steps."""

    def __len__(self) -> int:
        """Count them without making them."""


@dataclass(frozen=True, slots=True)
class StepList:
    """A few steps, or none."""

    steps: tuple[Step, ...] = ()

    @property
    def operands(self) -> tuple[str, ...]:
        """What the steps read."""
        return tuple(dict.fromkeys(read.operand for step in self.steps for read in step.reads))

    def __iter__(self) -> Iterator[Step]:
        """Give the steps."""
        return iter(self.steps)

    def __len__(self) -> int:
        """Count them."""
        return len(self.steps)


@dataclass(frozen=True, slots=True)
class Target:
    """An array that tasks of a stage write, created before the stage runs."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    unit: tuple[int, ...]
    """Storage units in whole numbers of which blocks are written."""
    scratch: bool = False
    """Removed with the job."""
    transposed: bool = False
    """Blocks are written transposed and conjugated (the user's matrix is wide)."""
    triangle: Literal["", "lower", "upper"] = ""
    """Which triangle it is, if blocks of the zeros beside it are not written."""

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        import numpy as np

        size = np.dtype(self.dtype).itemsize
        for length in self.shape:
            size *= length
        return size


@dataclass(frozen=True, slots=True)
class Task:
    """Steps folded one after another on one lane."""

    key: str
    kernel: str
    steps: Steps
    lane: int
    after: str | None = None
    """The task of the same lane after which this one begins."""
    at: Region = ()
    """The region that the task writes when it ends, if it writes then."""
    mirror: bool = False
    """Also write the conjugate transpose at the mirrored place."""
    needs: tuple[str, ...] = ()
    """Tasks of the stage whose blocks this one reads, and whose accumulators its kernel sees."""
    part_of: str | None = None
    """The task that goes on with this one's accumulator and ends it; None: this one ends it."""
    continues: bool = False
    """Take over the accumulator of `after` (where a stage is chained, every task does)."""
    flops: float = 0.0
    read_nbytes: int = 0
    write_nbytes: int = 0

    @property
    def affinity(self) -> Read | None:
        """What the task finds in memory where a task of an earlier stage kept it, if that may be.

        The first of its reads stands for all: tasks of later stages are cut alike.
        """
        for step in self.steps:
            return next((read for read in step.reads if read.keep), None)
        return None


@dataclass(frozen=True)
class Stage:
    """Tasks that run together; only their summed accumulator comes back."""

    name: str
    tasks: tuple[Task, ...]
    lanes: int
    """Lanes in all."""
    lanes_per_worker: int
    blas_threads: int
    """BLAS threads of each lane."""
    target: Target | None = None
    """What the steps (or, where tasks have ``at``, the tasks) write."""
    chained: bool = True
    """Whether tasks pass their accumulator on; else only a token that one may begin."""
    passes: float = 0.0
    """Readings of the whole input."""
    peak_nbytes: int = 0
    """Largest memory of a worker for arrays of this stage."""
    seconds: float = 0.0
    """Predicted, from the machine's rates."""
    repeats: int = 1
    """How often the stage is expected to run, with other small arrays."""
    most_repeats: int = 1
    prefetch: Prefetch | None = None
    """Read the next step while this one is folded: while they share a block, or always."""
    view: TriangleView | None = None
    """How the target is seen in an operand that is in memory: then nothing is run."""
    dtype: str = "f8"
    """Of computing."""
    resident_nbytes: int = 0
    """What a worker may keep of what tasks read, from stage to stage."""
    width: float | None = None
    """Columns of skinny products."""
    sum_nbytes: int | None = None
    """Of what a task adds to, where the stage only sums; None: it may be large."""

    @cached_property
    def kept_share(self) -> float:
        """Of what tasks read, the part that stays in memory for later stages, at most."""
        first = next(iter(self.tasks), None)
        if first is None or not first.read_nbytes or first.affinity is None:
            return 0.0  # or it stays there already
        kept = self.resident_nbytes * self.lanes / self.lanes_per_worker
        return min(1.0, kept / self.read_nbytes)

    @property
    def operands(self) -> frozenset[str]:
        """What the tasks read."""
        return frozenset(name for task in self.tasks for name in task.steps.operands)

    @property
    def flops(self) -> float:
        """Of all tasks."""
        return sum(task.flops for task in self.tasks)

    @property
    def read_nbytes(self) -> int:
        """Of all tasks; what is resident from an earlier stage is not read again."""
        return sum(task.read_nbytes for task in self.tasks)

    @property
    def write_nbytes(self) -> int:
        """Of all tasks."""
        return sum(task.write_nbytes for task in self.tasks)


Small = dict[str, Any]
"""Small host arrays and scalars that a stage is run with."""
