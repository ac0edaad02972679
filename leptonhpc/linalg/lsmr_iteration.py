"""What LSMR for tall and for wide matrices shares; see `lsmr`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.linalg.certificates import IterationCertificate
from leptonhpc.linalg.golub_kahan import Recurrence
from leptonhpc.linalg.iterations import Passes, gathered
from leptonhpc.linalg.jobs import Outcome
from leptonhpc.linalg.krylov_vectors import Kept, norm_of, ratio, unit_of
from leptonhpc.linalg.nystrom import Nystrom, nothing, nystrom, orthonormal

if TYPE_CHECKING:
    from leptonhpc.linalg.lsmr import LsmrJob


@dataclass
class Side:
    """One right-hand side and what is known of its solution, scaled by a power of two."""

    b: NDArray[Any]
    scale: float
    inner: float
    """Tolerance of the recurrences: lowered where the residuals ask for it."""
    base: NDArray[Any]
    """Where the recurrences began: x (tall), or [x; s] (wide)."""
    x: NDArray[Any]
    """As it will be given."""
    kept: Kept
    """Short vectors of the recurrences."""
    u: NDArray[Any]
    """Tall: the last long vector; wide: the next short one."""
    beta: float = 0.0
    """Wide: that of u."""
    steps: Recurrence | None = None
    stale: bool = False
    """Whether there were steps since residuals were computed from A."""
    done: bool = False
    good: bool = False
    backward: float = math.inf
    optimality: float | None = math.inf
    residual: float = math.inf
    """|b - A x|."""
    gradient: float = math.inf
    """|A^H r - damp^2 x|."""
    spans: list[tuple[float, float]] = field(default_factory=list)

    def forget(self) -> None:
        """Drop the recurrences, and keep what they saw of the spectrum."""
        if self.steps is not None and self.steps.betas:
            self.spans.append(self.steps.extremes())
        self.steps = None
        self.kept.clear()

    def extremes(self) -> tuple[float, float]:
        """Give the least and the largest singular value that were seen."""
        self.forget()
        if not self.spans:
            return math.nan, math.nan
        return min(low for low, _ in self.spans), max(high for _, high in self.spans)


@dataclass
class Iteration:
    """The numbers of one run."""

    job: LsmrJob
    passes: Passes
    sides: list[Side] = field(default_factory=list)
    preconditioner: Nystrom = field(init=False)
    history: list[float] = field(default_factory=list)
    iterations: int = 0
    RESERVE = 1
    """Passes that residuals take."""
    LEAST = 1e-6
    """Least eigenvalue of the preconditioner, relative to the largest, where damp is zero."""

    def run(self) -> Outcome:
        """Give x and how good it is."""
        self._begin()
        while True:
            left = self.job.options.most_passes - self.passes.count
            active = [s for s in self.sides if not s.done and not self._settled(s)]
            if active and left > self.RESERVE:
                self.iterations += 1
                self._advance(active)
                self._note()
                continue
            stale = [s for s in self.sides if s.stale and not s.done]
            if not stale or left < self.RESERVE:
                return self._outcome()
            self._verify(stale)
            self._note()

    # -- what tall and wide matrices do in their own way

    def _begin(self) -> None:
        raise NotImplementedError

    def _advance(self, active: list[Side]) -> None:
        raise NotImplementedError

    def _verify(self, stale: list[Side]) -> None:
        raise NotImplementedError

    def _settled(self, side: Side) -> bool:
        """Whether the recurrences say that the solution is found."""
        if side.steps is None:
            return False
        return side.steps.ended or self._estimate(side) <= side.inner

    def _estimate(self, side: Side) -> float:
        """Give the backward error by the recurrences, in the preconditioned problem."""
        steps = side.steps
        if steps is None:
            return math.inf
        whole = steps.norm * norm_of(steps.x) + steps.beta
        return min(ratio(steps.gradient, steps.norm * steps.residual), ratio(steps.residual, whole))

    # -- what they share

    def _product(
        self, short: NDArray[Any], long: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Give K S + L, both parts of it below one another, and K^H of that, in one pass."""
        damp, p = self.job.damp, self.preconditioner
        rows = self.job.bands.shape[0]
        lifted = p.root(short)
        t, g, _ = self.passes.normal(lifted, long[:rows])
        tail = damp * lifted + long[rows:]
        return np.concatenate([t, tail]), p.root(g + damp * tail)

    def _take_sides(self, length: int) -> NDArray[Any]:
        """Read b, each column scaled so that its squares are in range."""
        job = self.job
        wide = np.result_type(job.dtype, np.float64)
        b = gathered(self.passes.execute, job.sources["b"], "b", job.names["b"], wide)
        for column in b.T:
            scale = unit_of(column)
            nil = np.zeros(length, wide)
            kept = Kept(job.kept, job.bands.shape[1], wide)
            self.sides.append(Side(column / scale, scale, job.tol, nil, nil, kept, nil))
        return np.stack([side.b for side in self.sides], axis=1)

    def _sketch(self) -> NDArray[Any]:
        short, own = self.job.bands.shape[1], self.job.bands.dtype
        return orthonormal(short, self.job.rank, own, self.job.options.seed)

    def _precondition(self, q: NDArray[Any] | None, y: NDArray[Any]) -> None:
        short, own = self.job.bands.shape[1], self.job.bands.dtype
        self.preconditioner = nothing(short, own)
        if q is not None:
            # with damp the solution is the only one, and nothing need stay in the range of T^H;
            # else rounding may turn x (tall) or the smallest residual (wide) by about eps / least
            least = 0.0 if self.job.damp else self.LEAST
            self.preconditioner = nystrom(q, y, self.job.damp**2, least=least)

    def _judge(
        self, side: Side, x: NDArray[Any], r: NDArray[Any], gradient: NDArray[Any] | None
    ) -> None:
        """Take b - A x and A^H r - damp^2 x (None: r is rounding), computed from A.

        If these are larger than the last ones, x stays what it was.
        """
        damp, norm, tol = self.job.damp, self.passes.norm + self.job.damp, self.job.tol
        size, length = math.hypot(norm_of(r), damp * norm_of(x)), norm_of(x)
        before, side.stale = side.backward, False
        backward, optimality = ratio(size, norm * length + norm_of(side.b)), None
        if gradient is not None:
            optimality = ratio(norm_of(gradient), norm * size)
            backward = min(backward, optimality)
        if backward < before:
            side.x, side.residual, side.backward, side.optimality = (
                x,
                norm_of(r),
                backward,
                optimality,
            )
            side.gradient = math.inf if gradient is None else norm_of(gradient)
        side.good = side.backward <= tol
        side.done = side.good or backward > 0.5 * before or self._is_rounding(side)

    def _is_rounding(self, side: Side) -> bool:
        """Whether what is left of the gradient may be rounding: nothing more is to be gained."""
        whole = self.floor * (self.passes.norm * norm_of(side.x) + norm_of(side.b))
        return side.optimality is not None and side.gradient <= whole

    def _length(self, v: NDArray[Any], spread: float = 1.0) -> float:
        """Give |v|; zero if that may be rounding.

        Short vectors are kept orthogonal; long ones are as far as the condition number of the
        bidiagonal, `spread`, lets them be (Simon and Zha 2000, section 3), and P^-1/2 keeps in the
        range of T^H as far as the least eigenvalue of the preconditioner lets it.
        """
        length = norm_of(v)
        factors = self.preconditioner.factors
        if self.preconditioner.rank and not self.job.damp:
            spread = max(spread, math.sqrt(np.max(factors) / np.min(factors)))
        return length if length > self.floor * spread else 0.0

    @property
    def floor(self) -> float:
        """Coefficients as small as this are rounding: the Krylov space is invariant."""
        eps = float(np.finfo(float).eps)
        return 4 * eps * (self.passes.norm + self.job.damp)

    def _go_on(self, side: Side, *, agree: bool) -> bool:
        """Say whether recurrences that agree with the residuals go on, with a smaller tolerance."""
        steps = side.steps
        assert steps is not None
        if not agree or steps.ended:
            return False
        side.inner = min(side.inner, self._estimate(side)) * max(
            1e-3, 0.3 * self.job.tol / side.backward
        )
        return True

    def _note(self) -> None:
        found = [
            side.backward if side.done or not side.stale else self._estimate(side)
            for side in self.sides
        ]
        self.history.append(max(found))

    def _outcome(self) -> Outcome:
        job = self.job
        spans = [side.extremes() for side in self.sides]
        errors = [
            self._error(side, max(low, 0.0))
            for side, (low, _) in zip(self.sides, spans, strict=True)
        ]
        conditions = [high / low for low, high in spans if low > 0]
        optimal = [side.optimality for side in self.sides if side.optimality is not None]
        certificate = IterationCertificate(
            # a value that is rounding: x may have got what it should not have
            converged=all(side.good for side in self.sides)
            and not any(low <= 4 * self.floor for low, _ in spans),
            residual=max(ratio(side.residual, norm_of(side.b)) for side in self.sides),
            backward_error=max(side.backward for side in self.sides),
            optimality=max(optimal) if optimal else None, tol=job.tol,
            error=float(np.max(errors)), condition=max(conditions, default=math.nan),
            norm=self.passes.norm, iterations=self.iterations, passes=self.passes.count,
            rank=self.preconditioner.rank, history=tuple(self.history),
        )  # fmt: skip
        x = np.stack([side.x * side.scale for side in self.sides], axis=1)
        return Outcome({"x": x.reshape(job.shape).astype(job.dtype)}, certificate)

    def _error(self, side: Side, low: float) -> float:
        """Bound |x - x*| / |x|: T^H T + damp^2 I times the error is the gradient.

        Singular values of K are at most those of [T; damp I], for P^-1 <= I.
        """
        length = norm_of(side.x)
        if side.optimality is None:  # x lies in the range of A^H, and A times the error is r
            return ratio(side.residual, low * length)
        least = max(low, self.job.damp)
        return ratio(side.gradient, least**2 * length)

    def _given(self, x: NDArray[Any]) -> NDArray[Any]:
        """Round x as it will be given."""
        return x.astype(self.job.dtype).astype(x.dtype)
