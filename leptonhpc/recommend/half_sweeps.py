"""Half a sweep: all rows of one side, with the factors of the other side fixed."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from leptonhpc.errors import NotPositiveDefiniteError
from leptonhpc.recommend.blocks import RatingsBlock, Side
from leptonhpc.recommend.crews import Crew
from leptonhpc.recommend.memory_sides import packed
from leptonhpc.recommend.stored_sides import StoredSide

Solver = Literal["cg", "cholesky"]


@dataclass(frozen=True, slots=True)
class Problem:
    """What is minimised."""

    implicit: bool
    biases: bool
    """The first column of factors is the bias; the other side sees a one there."""
    regularization: float
    weighted: bool
    """The penalty of a row counts once for each of its ratings."""
    alpha: float
    """Confidence of an implicit rating of one."""
    mean: float
    """What explicit ratings are counted from."""
    solver: Solver
    steps: int
    """Of conjugate gradients; none: rows are measured only."""

    def penalties(self, counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Give the factor of the squared length of each row.

        Parameters
        ----------
        counts : array of shape (rows,), int64
            Its ratings.

        Returns
        -------
        array of shape (rows,), float64
            Penalties.
        """
        ones = counts if self.weighted else np.ones(len(counts))
        return self.regularization * ones.astype(np.float64)


@dataclass(frozen=True, slots=True)
class Sums:
    """What a half sweep found, summed over its rows."""

    before: float = 0.0
    """Loss of its rows, their penalty in it, before they were solved."""
    after: float = 0.0
    gradient_before: float = 0.0
    """Squared length of the gradient with respect to its rows."""
    gradient_after: float = 0.0

    def __add__(self, other: Sums) -> Sums:
        """Add those of other rows."""
        return Sums(
            self.before + other.before, self.after + other.after,
            self.gradient_before + other.gradient_before,
            self.gradient_after + other.gradient_after,
        )  # fmt: skip


@dataclass(frozen=True)
class BlockTask:
    """One block with all that its rows need."""

    ratings: RatingsBlock | StoredSide
    number: int
    """Of the block, where it is stored."""
    fixed: NDArray[Any]
    """(columns of the block, d): factors of the other side."""
    base: NDArray[Any]
    """(d, d): Y'Y of all columns, or empty."""
    x: NDArray[Any]
    """(rows, d): where they start from."""
    problem: Problem
    job: str
    kept_nbytes: int
    """What a process may keep of the ratings of this job."""


def solve_block(task: BlockTask) -> tuple[NDArray[Any], Sums]:
    """Solve for the rows of one block.

    Parameters
    ----------
    task : BlockTask
        The block.

    Returns
    -------
    tuple of (array of shape (rows, d), Sums)
        The rows, and what they add to loss and gradient.

    Raises
    ------
    NotPositiveDefiniteError
        If a row has no unique solution: nothing is regularised, and it has few ratings.
    """
    from leptonhpc.recommend.solvers import solve_by_cholesky, solve_by_gradients

    block = _block_of(task)
    problem, dtype = task.problem, task.x.dtype.type
    fixed, offsets = task.fixed, np.zeros(len(task.fixed), dtype)
    if problem.biases:
        offsets = np.ascontiguousarray(fixed[:, 0])
        fixed = np.array(fixed)
        fixed[:, 0] = 1
    x = np.array(task.x)
    penalties = problem.penalties(np.diff(block.pointers)).astype(dtype)
    arguments = (
        block.pointers, block.indices, block.values.astype(dtype, copy=False), fixed, offsets,
        task.base, penalties, x, dtype(problem.alpha), dtype(problem.mean), problem.implicit,
    )  # fmt: skip
    if problem.solver == "cg" or problem.steps == 0:
        sums = solve_by_gradients(*arguments, problem.steps)
        return x, Sums(*map(float, sums))
    sums = solve_by_cholesky(*arguments)
    if sums[4]:
        row = block.first + int(sums[4]) - 1
        message = (
            f"row {row} has no unique solution: its matrix of order {x.shape[1]} is not positive "
            "definite. Raise regularization, or ask for fewer factors"
        )
        raise NotPositiveDefiniteError(message)
    return x, Sums(*map(float, sums[:4]))


class Kept:
    """Blocks that a process keeps from sweep to sweep as long as there is room, of one job."""

    def __init__(self) -> None:
        self._job = ""
        self._blocks: dict[tuple[str, int], RatingsBlock] = {}
        self._lock = threading.Lock()

    def read(self, job: str, side: StoredSide, number: int, room_nbytes: int) -> RatingsBlock:
        """Give a block from memory, or read it, and keep it if there is room.

        Parameters
        ----------
        job : str
            Whose blocks they are; those of another job go.
        side : StoredSide
            Where it is stored.
        number : int
            Its number.
        room_nbytes : int
            What the job may keep here.

        Returns
        -------
        RatingsBlock
            The block.
        """
        key = (str(side.location), number)
        with self._lock:
            if job != self._job:
                self._job, self._blocks = job, {}
            if key in self._blocks:
                return self._blocks[key]
        block = side.read(number)
        with self._lock:
            held = sum(other.nbytes for other in self._blocks.values())
            if job == self._job and held + block.nbytes <= room_nbytes:
                self._blocks[key] = block
        return block

    def forget(self, job: str) -> None:
        """Drop what a job kept."""
        with self._lock:
            if job == self._job:
                self._job, self._blocks = "", {}


kept = Kept()


def forget(job: str) -> None:
    """Drop what a job kept in this process."""
    kept.forget(job)


def gram(factors: NDArray[Any]) -> NDArray[Any]:
    """Give Y'Y, summed in double precision.

    Parameters
    ----------
    factors : array of shape (rows, d)
        Y.

    Returns
    -------
    array of shape (d, d), dtype of `factors`
        The product. 2 rows d^2 flops.
    """
    total = np.zeros((factors.shape[1],) * 2)
    for begin in range(0, len(factors), 1 << 16):
        part = factors[begin : begin + (1 << 16)].astype(np.float64)
        total += part.T @ part
    return total.astype(factors.dtype)


def measuring(problem: Problem) -> Problem:
    """Give the problem whose half sweeps change nothing and only measure."""
    return replace(problem, steps=0)


@dataclass(frozen=True)
class Team:
    """Who computes, and what it may keep."""

    crew: Crew
    job: str
    kept_nbytes: int
    """What each process may keep of the ratings."""
    distributed: bool


def half_sweep(
    what: str, side: Side, x: NDArray[Any], fixed: NDArray[Any], problem: Problem, team: Team
) -> Sums:  # fmt: skip
    """Solve for all rows of one side, block by block.

    Parameters
    ----------
    what : str
        "users" or "items".
    side : Side
        The ratings by these rows.
    x : array of shape (rows, d), float32 or float64
        Factors of these rows, overwritten.
    fixed : array of shape (columns, d), dtype of `x`
        Factors of the others.
    problem : Problem
        What is minimised.
    team : Team
        Who computes.

    Returns
    -------
    Sums
        Loss and gradient of the rows; added in the order of blocks, whoever was first.
    """
    base = gram(fixed) if problem.implicit else np.zeros((0, 0), x.dtype)
    edges = side.edges
    found: dict[int, Sums] = {}

    def make(number: int) -> BlockTask:
        ratings, needed = _needed(side, number, team)
        part = fixed if needed is None else fixed[needed]
        rows = x[edges[number] : edges[number + 1]]
        return BlockTask(ratings, number, part, base, rows, problem, team.job, team.kept_nbytes)

    def take(number: int, given: tuple[NDArray[Any], Sums]) -> None:
        x[edges[number] : edges[number + 1]], found[number] = given

    ratings = np.diff(side.pointers[edges])
    weights = [int(r) + int(n) for r, n in zip(ratings, np.diff(edges), strict=True)]
    team.crew.each(what, weights, make, take)
    return sum((found[number] for number in sorted(found)), Sums())


def _needed(side: Side, number: int, team: Team) -> tuple[RatingsBlock | StoredSide, Any]:
    """Give what the call gets of the ratings, and the columns that they have."""
    if isinstance(side, StoredSide) and team.distributed:
        return side, side.read_columns(number)
    if isinstance(side, StoredSide):
        block = kept.read(team.job, side, number, team.kept_nbytes)
    else:
        block = packed(side.read(number)) if team.distributed else side.read(number)
    return block, block.columns


def _block_of(task: BlockTask) -> RatingsBlock:
    if isinstance(task.ratings, RatingsBlock):
        return task.ratings
    return kept.read(task.job, task.ratings, task.number, task.kept_nbytes)
