"""Sweep after sweep: users with the items fixed, items with the users fixed [1]_.

Each half sweep minimises the loss over one side, so that it never rises.

References
----------
.. [1] Y. Hu, Y. Koren, C. Volinsky, Collaborative filtering for implicit feedback datasets,
   ICDM 2008; Y. Zhou et al., Large-scale parallel collaborative filtering for the Netflix prize,
   AAIM 2008.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.errors import NumericRangeError
from leptonhpc.recommend.certificates import AlsCertificate
from leptonhpc.recommend.checkpoints import Checkpoints, HalfSweep, Who, side_of
from leptonhpc.recommend.half_sweeps import Problem, Team, half_sweep, measuring
from leptonhpc.recommend.ratings import Ratings
from leptonhpc.runtime.progress import Progress

_CELL = 4096
"""Rows that are drawn together."""
_SPREAD = 0.1
"""Standard deviation of the factors that items start from."""


@dataclass
class State:
    """Factors while they are sought."""

    users: NDArray[Any]
    items: NDArray[Any]
    done: list[HalfSweep]

    def pair(self, side: Who) -> tuple[NDArray[Any], NDArray[Any]]:
        """Give the factors of a side, and those of the other."""
        both = self.users, self.items
        return both if side == "users" else both[::-1]


def start(ratings: Ratings, width: int, dtype: Any, *, seed: int, biases: bool) -> State:
    """Give the factors to start from: users zero, items drawn.

    Parameters
    ----------
    ratings : Ratings
        What is factored.
    width : int
        Columns, with that of the bias.
    dtype : dtype
        Single or double precision.
    seed : int
        Not negative.
    biases : bool
        The first column is the bias, which starts from zero.

    Returns
    -------
    State
        The factors.
    """
    users, items = ratings.shape
    drawn = draw(items, width, dtype, seed=seed)
    if biases:
        drawn[:, 0] = 0
    return State(np.zeros((users, width), dtype), drawn, [])


def draw(rows: int, width: int, dtype: Any, *, seed: int) -> NDArray[Any]:
    """Draw factors by Philox, keyed by seed and rows: the first do not depend on how many follow.

    Parameters
    ----------
    rows, width : int
        Their shape.
    dtype : dtype
        Single or double precision.
    seed : int
        Not negative.

    Returns
    -------
    array of shape (rows, width)
        Normal, of standard deviation 0.1.
    """
    drawn = np.empty((rows, width), dtype)
    for cell, begin in enumerate(range(0, rows, _CELL)):
        stream = np.random.Philox(np.random.SeedSequence(seed, spawn_key=(cell,)))
        part = drawn[begin : begin + _CELL]
        part[:] = _SPREAD * np.random.Generator(stream).standard_normal((_CELL, width))[: len(part)]
    return drawn


def sweep(
    ratings: Ratings, state: State, problem: Problem, team: Team, *, most: int, tol: float,
    checkpoints: Checkpoints | None, progress: Progress, tell: Callable[[], None],
) -> AlsCertificate:  # fmt: skip
    """Sweep until the loss falls no more.

    Parameters
    ----------
    ratings : Ratings
        What is factored.
    state : State
        Where to begin, or to go on; changed.
    problem : Problem
        What is minimised.
    team : Team
        Who computes.
    most : int
        Whole sweeps at most, those that are done with them.
    tol : float
        Stop when a sweep takes away no larger share of the loss; zero: never.
    checkpoints : Checkpoints, optional
        Keeps each half sweep.
    progress : Progress
        Is told.
    tell : callable
        Called after each half sweep.

    Returns
    -------
    AlsCertificate
        Of the factors as they are then.

    Raises
    ------
    NumericRangeError
        If the loss is not finite.
    """
    progress.begin("half sweeps", 2 * most - len(state.done))
    while len(state.done) < 2 * most and not _has_ended(state.done, tol):
        number = len(state.done)
        half = _half(ratings, state, problem, team, number)
        state.done.append(half)
        if checkpoints is not None:
            checkpoints.keep(number, state.pair(side_of(number))[0], half)
        progress.advance()
        tell()
    return certify(ratings, state, problem, team, tol)


def certify(
    ratings: Ratings, state: State, problem: Problem, team: Team, tol: float
) -> AlsCertificate:  # fmt: skip
    """Measure loss and gradient of the factors as they are, by one reading of both sides.

    Parameters
    ----------
    ratings, state, problem, team, tol : see `sweep`
        As there; nothing is changed.

    Returns
    -------
    AlsCertificate
        What was found.
    """
    losses, squares = [], 0.0
    for side in ("users", "items"):
        loss, sums = _run(ratings, state, measuring(problem), team, side)
        losses.append(loss)
        squares += sums.gradient_before
    first = math.sqrt(state.done[0].gradient) if state.done else 0.0
    norm, change = math.sqrt(squares), _change(state.done)
    return AlsCertificate(
        tuple(half.loss for half in state.done), losses[-1], norm,
        norm / first if first else 0.0, change, tol, change <= tol,
    )  # fmt: skip


def _half(
    ratings: Ratings, state: State, problem: Problem, team: Team, number: int
) -> HalfSweep:  # fmt: skip
    began, side = time.perf_counter(), side_of(number)
    loss, sums = _run(ratings, state, problem, team, side)
    if not math.isfinite(loss):
        message = (
            f"the loss is {loss} after sweep {number // 2 + 1} of the {side}: the ratings are too "
            "large for the dtype of the factors. Scale them, or pass dtype='float64'"
        )
        raise NumericRangeError(message)
    return HalfSweep(loss, sums.gradient_before, time.perf_counter() - began)


def _run(
    ratings: Ratings, state: State, problem: Problem, team: Team, side: Who
) -> tuple[float, Any]:
    """Run over one side; give the loss of all, and the sums."""
    rows, others = ratings.by_user, ratings.by_item
    if side == "items":
        rows, others = others, rows
    x, fixed = state.pair(side)
    sums = half_sweep(side, rows, x, fixed, problem, team)
    penalties = problem.penalties(np.diff(others.pointers))
    squares = np.einsum("ij,ij->i", fixed, fixed, dtype=np.float64)
    return sums.after + float(penalties @ squares), sums


def _change(done: list[HalfSweep]) -> float:
    """Give the share of the loss that the last whole sweep took away."""
    whole = [half.loss for half in done[1::2]]
    if len(whole) < 2:
        return math.inf
    return (whole[-2] - whole[-1]) / whole[-2] if whole[-2] else 0.0


def _has_ended(done: list[HalfSweep], tol: float) -> bool:
    return tol > 0 and len(done) % 2 == 0 and _change(done) <= tol
