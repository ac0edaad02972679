"""LSMR's bidiagonalisation of tall matrices, and of wide ones; see `lsmr`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.linalg.golub_kahan import Recurrence
from leptonhpc.linalg.krylov_vectors import norm_of, ratio
from leptonhpc.linalg.lsmr_iteration import Iteration, Side


class Tall(Iteration):
    """K = [A; damp I] P^-1/2, from the left: min |K y - [b; 0]|."""

    def _begin(self) -> None:
        """Make the pass that gives A^H b, and the sketch."""
        short = self.job.bands.shape[1]
        b = self._take_sides(short)
        q = self._sketch() if self.job.rank else None
        nil = np.zeros((short, b.shape[1]), b.dtype)
        r, g, y = self.passes.normal(nil, b, q)
        self._precondition(q, y)
        for side, gradient, left in zip(self.sides, g.T, r.T, strict=True):
            self._judge(side, side.x, left, gradient)
            self._restart(side, left, gradient)
        self._note()

    def _restart(self, side: Side, r: NDArray[Any], gradient: NDArray[Any]) -> None:
        """Begin at x, from its residual."""
        side.forget()
        side.base = side.x
        long = np.concatenate([r, -self.job.damp * side.x])
        g = self.preconditioner.root(gradient)
        beta = norm_of(long)
        side.u = long / (beta or 1.0)
        alpha = norm_of(g) / (beta or 1.0)
        v = g / ((beta or 1.0) * (alpha or 1.0))
        side.steps = Recurrence(beta, alpha, v)
        side.kept.add(v)
        if not alpha:
            side.done = True

    def _advance(self, active: list[Side]) -> None:
        steps = [side.steps for side in active if side.steps is not None]
        v = np.stack([s.v for s in steps], axis=1)
        u = np.stack([-s.alphas[-1] * side.u for s, side in zip(steps, active, strict=True)], 1)
        long, g = self._product(v, u)
        for side, s, column, gathered_ in zip(active, steps, long.T, g.T, strict=True):
            beta = self._length(column, s.spread)
            w = side.kept.cleaned(gathered_ / (beta or 1.0) - beta * s.v)
            alpha = self._length(w) if beta else 0.0
            side.u = column / (beta or 1.0)
            s.step(beta, alpha, w / alpha if alpha else np.zeros_like(w))
            side.kept.add(s.v)
            side.stale = True

    def _verify(self, stale: list[Side]) -> None:
        root = self.preconditioner.root
        x = np.stack(
            [self._given(s.base + root(s.steps.x)) for s in stale if s.steps is not None], axis=1
        )
        t, g, _ = self.passes.normal(x, -np.stack([side.b for side in stale], axis=1))
        damp = self.job.damp
        for side, given, left, gathered_ in zip(stale, x.T, t.T, g.T, strict=True):
            gradient = -gathered_ - damp**2 * given
            self._judge(side, given, -left, gradient)
            if side.done:
                continue
            s = side.steps
            assert s is not None
            found = norm_of(self.preconditioner.root(gradient))
            size = math.hypot(norm_of(left), damp * norm_of(side.x))
            agree = found <= 2 * s.gradient and size <= 2 * s.residual
            if not self._go_on(side, agree=agree):
                self._restart(side, -left, gradient)


class Wide(Iteration):
    """K = [A^H; damp I] P^-1/2, from the right: the shortest y with K^H y = P^-1/2 b."""

    RESERVE = 2
    LEAST = 1e-4

    def _begin(self) -> None:
        """Sketch, if that was asked for: the first step needs nothing more."""
        job = self.job
        rows, short = job.bands.shape
        b = self._take_sides(rows + short)
        q, y = None, b[:, :0]
        if job.rank:
            q = self._sketch()
            _, _, y = self.passes.normal(b[:, :0], np.zeros((rows, 0), b.dtype), q)
        self._precondition(q, y)
        for side in self.sides:
            side.x = side.base[:rows]
            self._restart(side, side.b)
        if job.rank:
            self.history.append(1.0)

    def _restart(self, side: Side, left: NDArray[Any]) -> None:
        """Begin at [x; s], from what is left of b."""
        side.forget()
        u = self.preconditioner.root(left)
        side.beta = norm_of(u)
        side.u = u / (side.beta or 1.0)
        side.kept.add(side.u)
        if not side.beta:
            side.residual = side.gradient = side.backward = side.optimality = 0.0
            side.good = side.done = True

    def _estimate(self, side: Side) -> float:
        s = side.steps
        if s is not None and self.job.damp:
            # |A^H (b - A x) - damp^2 x| <= |A| |b - A x - damp s|, to be compared with
            # |A| |(r, damp x)|, the last about damp |(x, s)|
            return ratio(s.residual, self.job.damp * norm_of(s.x + side.base))
        return super()._estimate(side)

    def _advance(self, active: list[Side]) -> None:
        u = np.stack([side.u for side in active], axis=1)
        v = np.stack(
            [-side.beta * side.steps.v if side.steps else 0 * side.base for side in active], axis=1
        )
        long, g = self._product(u, v)
        for side, column, gathered_ in zip(active, long.T, g.T, strict=True):
            alpha = self._length(column, side.steps.spread if side.steps else 1.0)
            vector = column / alpha if alpha else np.zeros_like(column)
            if side.steps is None:
                side.steps = Recurrence(side.beta, alpha, vector)
            else:
                side.steps.step(side.beta, alpha, vector)
            w = side.kept.cleaned(gathered_ / (alpha or 1.0) - alpha * side.u)
            side.beta = self._length(w) if alpha else 0.0
            side.u = w / (side.beta or 1.0)
            side.kept.add(side.u)
            if alpha and not side.beta and not self._settled(side):  # the last step needs no pass
                side.steps.step(0.0, 0.0, np.zeros_like(vector))
            side.stale = True

    def _verify(self, stale: list[Side]) -> None:
        """Compute A x, and then A^H r unless r is nothing but rounding."""
        job, rows = self.job, self.job.bands.shape[0]
        y = [s.base + s.steps.x for s in stale if s.steps is not None]
        x = np.stack([self._given(long[:rows]) for long in y], axis=1)
        b = np.stack([side.b for side in stale], axis=1)
        _, ax, _ = self.passes.normal(np.zeros_like(b), x)
        r = b - ax
        norm = self.passes.norm
        enough = [
            not job.damp and norm_of(left) <= job.tol * (norm * norm_of(given) + norm_of(s.b))
            for s, given, left in zip(stale, x.T, r.T, strict=True)
        ]
        gradients = None
        if not all(enough):
            t, _, _ = self.passes.normal(r, np.zeros_like(x))
            gradients = t - job.damp**2 * x
        for number, side in enumerate(stale):
            gradient = None if gradients is None else gradients[:, number]
            self._judge(side, x[:, number], r[:, number], gradient)
            if not side.done:
                self._correct(side, r[:, number])

    def _correct(self, side: Side, r: NDArray[Any]) -> None:
        """Go on, or begin again with what is left of b."""
        s, rows, damp = side.steps, self.job.bands.shape[0], self.job.damp
        assert s is not None
        y = side.base + s.x
        y[:rows] = side.x
        left = r - damp * y[rows:]
        found = norm_of(self.preconditioner.root(left))
        if not self._go_on(side, agree=found <= 2 * s.residual):
            side.base = y
            self._restart(side, left)
