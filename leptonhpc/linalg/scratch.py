"""Matrices that stages of a job make for one another, or parts and adjoints of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.blocks import Region, Source
from leptonhpc.planning import Read, Stage, Step, Target
from leptonhpc.planning.tasks import ADJOINT, Steps
from leptonhpc.store import units_touched


@dataclass(frozen=True)
class ScratchSource:
    """A matrix that will be there when the stage that reads it runs; it is planned with."""

    stored: str
    """Operand that holds it."""
    region: Region
    """Part of what is stored."""
    dtype: np.dtype[Any]
    stored_unit: tuple[int, ...]
    adjoint: bool = False
    shareable: bool = True

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the matrix."""
        lengths = tuple(stop - start for start, stop in self.region)
        return lengths[::-1] if self.adjoint else lengths

    @property
    def unit(self) -> tuple[int, ...]:
        """Shape of the piece that is read at once."""
        return self.stored_unit[::-1] if self.adjoint else self.stored_unit

    @property
    def name(self) -> str:
        """The matrix in words."""
        return f"{self.stored}{list(self.region)}" + ADJOINT * self.adjoint

    @property
    def H(self) -> ScratchSource:  # noqa: N802  (the usual letter)
        """The adjoint."""
        return replace(self, adjoint=not self.adjoint)

    def columns(self, first: int, last: int) -> ScratchSource:
        """Give some columns of a matrix that is not an adjoint."""
        rows, (low, _) = self.region
        return replace(self, region=(rows, (low + first, low + last)))

    def moved(self, region: Region, *, adjoint: bool = False) -> Read:
        """Give how a region of this matrix (or of its adjoint) is read from what is stored."""
        if adjoint:
            return self.H.moved(region)
        corner = [start for start, _ in self.region]
        if self.adjoint:
            corner = corner[::-1]
        place = tuple((a + o, b + o) for (a, b), o in zip(region, corner, strict=True))
        return Read(self.operand(), place)

    def operand(self, *, adjoint: bool = False) -> str:
        """Name under which this matrix (or its adjoint) is read."""
        return self.stored + ADJOINT * (self.adjoint != adjoint)

    def read(self, region: Region, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Refuse: the runtime reads what is stored by then."""
        raise NotImplementedError

    def units_in(self, region: Region) -> int:
        """Count the storage units that a region touches."""
        return units_touched(self.moved(region).region, self.unit)

    def identity(self) -> dict[str, Any]:
        """Describe the matrix."""
        return {"scratch": self.stored, "region": self.region, "adjoint": self.adjoint}


def made(target: Target) -> ScratchSource:
    """Give a target as an operand of later stages.

    Parameters
    ----------
    target : Target of shape (m, n)
        What a stage writes.

    Returns
    -------
    ScratchSource
        All of it.
    """
    region = tuple((0, n) for n in target.shape)
    return ScratchSource(target.name, region, np.dtype(target.dtype), target.unit)


def stored_input(name: str, source: Source) -> ScratchSource:
    """Give a job's input as an operand like those that stages make.

    Parameters
    ----------
    name : str
        Under which the job has it.
    source : Source of shape (m, n)
        The input.

    Returns
    -------
    ScratchSource
        All of it.
    """
    return ScratchSource(name, tuple((0, n) for n in source.shape), source.dtype, source.unit)


def with_operands(
    stage: Stage,
    operands: Mapping[str, ScratchSource],
    target: Target | None,
    *,
    inputs: Collection[str] = ("a",),
) -> Stage:
    """Let a stage read other matrices than those that it was planned with, and write another.

    Parameters
    ----------
    stage : Stage
        Planned.
    operands : mapping of str to ScratchSource
        What stands for an operand; those that are not here stay.
    target : Target or None
        What is written.
    inputs : collection of str
        Operands that are the job's inputs: reading others is no pass.

    Returns
    -------
    Stage
        The same work elsewhere.
    """
    tasks = tuple(
        replace(task, steps=_MovedSteps(task.steps, tuple(operands.items())))
        if len(task.steps)
        else task
        for task in stage.tasks
    )
    passes = stage.passes if any(o.stored in inputs for o in operands.values()) else 0.0
    return replace(stage, tasks=tasks, target=target, passes=passes)


@dataclass(frozen=True, slots=True)
class _MovedSteps:
    """Steps whose reads go elsewhere."""

    steps: Steps
    places: tuple[tuple[str, ScratchSource], ...]

    @property
    def operands(self) -> tuple[str, ...]:
        """What the steps read."""
        places = dict(self.places)
        found = []
        for name in self.steps.operands:
            place = places.get(name.removesuffix(ADJOINT))
            found.append(place.operand(adjoint=name.endswith(ADJOINT)) if place else name)
        return tuple(found)

    def __iter__(self) -> Iterator[Step]:
        """Make the steps."""
        for step in self.steps:
            yield Step(tuple(self._moved(read) for read in step.reads), step.at)

    def __len__(self) -> int:
        """Count them."""
        return len(self.steps)

    def _moved(self, read: Read) -> Read:
        for name, place in self.places:
            if read.operand.removesuffix(ADJOINT) == name:
                return place.moved(read.region, adjoint=read.operand.endswith(ADJOINT))
        return read
