"""Sweeps over X until W and H are as good as was asked for.

A sweep improves W for a given H and gathers sums; from these H is improved. After a sweep, the loss
and the residual of the optimality conditions are known of the H that went into it and the W that
came out: that pair is what is judged, and what is given.

A sweep all but solves for W, so that what is iterated is H alone; it is carried on along its last
step, further each time the error falls, and not when it has risen [1]_. That takes a third of the
passes.

References
----------
.. [1] A. M. S. Ang, N. Gillis, Accelerating nonnegative matrix factorization algorithms using
   extrapolation, Neural Comput. 31, 2019, Algorithm 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.linalg.nmf_objectives import Objective, Point, Sums

Sweep = Callable[[int, NDArray[Any]], Sums]
"""Makes a pass, given its number and H."""

WINDOW = 5
"""Sweeps over which a decrease is averaged."""


@dataclass(frozen=True)
class Found:
    """Where the iteration ended."""

    h: NDArray[Any]
    """(k, n), in double precision, its numbers those of the dtype of computing."""
    sums: Sums
    point: Point
    sweeps: int
    reason: str
    """Why it ended."""


@dataclass
class Momentum:
    """How far H is carried on along its last step."""

    share: float = 0.5
    most: float = 1.0
    last: float = math.inf
    """Error after the last sweep."""
    h: NDArray[Any] | None = None
    """H before it was improved last."""

    def carry(self, objective: Objective, h: NDArray[Any], error: float) -> NDArray[Any]:
        """Give the H of the next sweep."""
        before, self.h = self.h, h
        risen, self.last = error > self.last, error
        if before is None:
            return h
        if risen:
            self.most, self.share = self.share, self.share / 1.5
            return h
        carried = objective.carried(h, before, self.share)
        self.most = min(1.0, 1.01 * self.most)
        self.share = min(self.most, 1.05 * self.share)
        return carried


@dataclass
class Iteration:
    """Sweeps until a tolerance is met."""

    objective: Objective
    dtype: np.dtype[Any]
    tol: float
    most_sweeps: int
    history: list[float] = field(default_factory=list)
    """Relative error after each sweep."""

    def run(self, sweep: Sweep, h: NDArray[Any]) -> Found:
        """Sweep.

        Parameters
        ----------
        sweep : callable
            Makes a pass.
        h : array of shape (k, n)
            To begin with.

        Returns
        -------
        Found
            The last W and H.
        """
        momentum = Momentum()
        for number in range(1, self.most_sweeps + 1):
            h = h.astype(self.dtype).astype(np.float64)  # as it is computed with, and given
            sums = sweep(number, h)
            point = self.objective.measure(h, sums)
            self.history.append(point.relative)
            reason = self._reason(point)
            if reason or number == self.most_sweeps:
                break
            h = self.objective.improve(h, sums)
            if number + 1 < self.most_sweeps:
                h = momentum.carry(self.objective, h, point.error)
        return Found(h, sums, point, number, reason or "sweeps")

    def _reason(self, point: Point) -> str:
        """Say why no further sweep is made, if none is."""
        power = self.objective.power
        if not math.isfinite(point.kkt):  # zeros that products do not leave
            return ""
        if point.is_rounding:
            return "rounding"
        if point.relative <= self.tol**power:
            return "exact"
        if point.kkt <= self.tol * point.relative ** (1 / power):
            return "optimality"
        last = self.history[-WINDOW - 1 :]
        if len(last) > WINDOW and last[-1] <= min(last):
            fallen = (last[0] - last[-1]) / WINDOW
            if fallen <= self.tol * self.objective.unit(last[-1]):
                return "decrease"
        return ""
