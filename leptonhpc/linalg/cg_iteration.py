"""Conjugate gradients for A + shift I, A Hermitian: one reading of A an iteration.

The method is Hestenes and Stiefel's with a preconditioner, [1]_ section 11.5, on the Hermitian form
P^-1/2 (A + shift I) P^-1/2, where residuals are orthogonal and are kept so as far as memory allows:
it saves passes. All right-hand sides go through each pass together, each with its own scalars, and
one that has converged drops out. The coefficients are those of the Lanczos tridiagonal of the
preconditioned matrix, whose eigenvalues give the condition number ([1]_, section 11.3.5).

The first pass is for the sketch of the preconditioner (or, without one, for the first direction);
it also multiplies random vectors G: G^H (A G) is Hermitian if A is. When the recurrences say that
all have converged, a pass computes b - (A + shift I) x. Where that is larger than it should be, the
iteration begins again from it.

References
----------
.. [1] G. H. Golub, C. F. Van Loan, Matrix Computations, 4th ed., chapter 11.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.errors import NotHermitianError, NotPositiveDefiniteError
from leptonhpc.linalg.certificates import IterationCertificate
from leptonhpc.linalg.iterations import Passes, gathered
from leptonhpc.linalg.jobs import Outcome
from leptonhpc.linalg.krylov_vectors import Kept, norm_of, ratio, unit_of
from leptonhpc.linalg.nystrom import Nystrom, gaussian, nothing, nystrom, orthonormal
from leptonhpc.planning.layout import compute_dtype

if TYPE_CHECKING:
    from leptonhpc.linalg.cg import CgJob

PROBES = 4
"""Random vectors that tell whether A is Hermitian."""


@dataclass
class _Side:
    """One right-hand side: what is known of its solution, scaled by a power of two.

    The iteration is that of P^-1/2 (A + shift I) P^-1/2, whose residuals are orthogonal.
    """

    b: NDArray[Any]
    scale: float
    goal: float
    """|b - (A + shift I) x| that is enough."""
    x: NDArray[Any]
    kept: Kept
    """Residuals of the preconditioned system."""
    residual: NDArray[Any] = field(init=False)
    """P^-1/2 (b - (A + shift I) x), by the recurrence."""
    size: float = field(init=False)
    """|b - (A + shift I) x|, from it."""
    direction: NDArray[Any] = field(init=False)
    """Of y = P^1/2 x."""
    lifted: NDArray[Any] = field(init=False)
    """Of x: what A is multiplied by."""
    stale: bool = False
    """Whether x was changed since its residual was computed from A."""
    before: float = math.inf
    """The residual that was computed from A last."""
    stalled: bool = False
    alphas: list[float] = field(default_factory=list)
    betas: list[float] = field(default_factory=list)
    spans: list[tuple[float, float]] = field(default_factory=list)
    """Least and largest eigenvalue of earlier tridiagonals."""

    @property
    def active(self) -> bool:
        """Whether it needs another iteration."""
        return not self.stalled and self.size > self.goal

    @property
    def relative(self) -> float:
        """The residual relative to b."""
        return ratio(self.size, norm_of(self.b))

    def begin(self, residual: NDArray[Any], preconditioner: Nystrom) -> None:
        """Start from a residual that was computed from A."""
        if self.alphas:
            self.spans.append(_extremes(self.alphas, self.betas))
        self.alphas, self.betas, self.stale = [], [], False
        self.kept.clear()
        self.size = norm_of(residual)
        self.stalled = self.size > 0.5 * self.before
        self.before = self.size
        self.residual = preconditioner.root(residual)
        self._turn(self.residual, preconditioner)

    def advance(self, q: NDArray[Any], preconditioner: Nystrom, what: str, number: int) -> None:
        """Take one step along the direction p, given q = (A + shift I) p."""
        curvature = float(np.vdot(self.lifted, q).real)
        if not curvature > 0:
            message = (
                f"cg needs a positive definite matrix; in iteration {number} p^H A p is "
                f"{curvature:.3e} for {what}. For other matrices use solve or lsmr, or a larger "
                "shift"
            )
            raise NotPositiveDefiniteError(message)
        rho = norm_of(self.residual) ** 2
        alpha = rho / curvature
        self.x = self.x + alpha * self.lifted
        residual = self.residual - alpha * preconditioner.root(q)
        self.residual = self.kept.cleaned(residual)
        self.size, self.stale = norm_of(preconditioner.unroot(self.residual)), True
        beta = norm_of(self.residual) ** 2 / rho
        self.alphas.append(alpha)
        self.betas.append(beta)
        self._turn(self.residual + beta * self.direction, preconditioner)

    def _turn(self, direction: NDArray[Any], preconditioner: Nystrom) -> None:
        self.direction, self.lifted = direction, preconditioner.root(direction)
        length = norm_of(self.residual)
        if length:
            self.kept.add(self.residual / length)

    def extremes(self) -> tuple[float, float]:
        """Give the least and the largest eigenvalue of the preconditioned matrix that were seen."""
        spans = [*self.spans, *([_extremes(self.alphas, self.betas)] if self.alphas else [])]
        if not spans:
            return math.nan, math.nan
        return min(low for low, _ in spans), max(high for _, high in spans)


@dataclass
class CgIteration:
    """The numbers of one run."""

    job: CgJob
    passes: Passes
    sides: list[_Side] = field(default_factory=list)
    preconditioner: Nystrom = field(init=False)
    history: list[float] = field(default_factory=list)
    iterations: int = 0

    def run(self) -> Outcome:
        """Give x and how good it is."""
        self._begin()
        while True:
            active = [side for side in self.sides if side.active]
            left = self.job.options.most_passes - self.passes.count
            if active and left > 1:  # the last pass computes the residual
                self._advance(active, self._apply([side.lifted for side in active]))
                continue
            stale = [side for side in self.sides if side.stale]
            if not stale:
                return self._outcome()
            self._verify(stale)

    def _begin(self) -> None:
        """Make the first pass: sketch or first step, and what is to be checked of A."""
        job, wide = self.job, np.result_type(self.job.dtype, np.float64)
        self._take_sides(wide)
        n = job.shape[0]
        own = job.bands.dtype
        self.preconditioner = nothing(n, own)
        probes = gaussian(n, PROBES, own, job.options.seed)
        if job.rank:
            q = orthonormal(n, job.rank, own, job.options.seed + 1)
            start = np.stack([side.x for side in self.sides], axis=1)
            guessed = start if "x0" in job.sources else start[:, :0]
            y, product = self._first(np.hstack([q, probes]), guessed)
            self._require_hermitian(probes, y[:, job.rank :])
            self.preconditioner = self._sketched(q, y[:, : job.rank])
        elif "x0" in job.sources:
            y, product = self._first(probes, np.stack([side.x for side in self.sides], axis=1))
            self._require_hermitian(probes, y)
        else:
            for side in self.sides:
                side.begin(side.b, self.preconditioner)
            directions = np.stack([side.lifted for side in self.sides], axis=1)
            y, product = self._first(probes, directions)
            self._require_hermitian(probes, y)
            product = product + job.shift * directions
            active = [i for i, side in enumerate(self.sides) if side.active]
            if active:
                self._advance([self.sides[i] for i in active], product[:, active])
            else:
                self._note()
            return
        for i, side in enumerate(self.sides):
            moved = product[:, i] + job.shift * side.x if product.shape[1] else 0
            side.begin(side.b - moved, self.preconditioner)
        self._note()

    def _take_sides(self, wide: np.dtype[Any]) -> None:
        """Read b, and x0 if there is one; each is scaled so that its squares are in range."""
        job, execute = self.job, self.passes.execute
        b = gathered(execute, job.sources["b"], "b", job.names["b"], wide)
        x = np.zeros_like(b)
        if "x0" in job.sources:
            x = gathered(execute, job.sources["x0"], "x0", job.names["x0"], wide)
        for column, start in zip(b.T, x.T, strict=True):
            scale = unit_of(column)
            right = column / scale
            begin = start / scale if right.any() else np.zeros_like(start)
            goal = job.tol * norm_of(right)
            kept = Kept(job.kept, len(right), wide)
            self.sides.append(_Side(right, scale, goal, begin, kept))

    def _first(self, own: NDArray[Any], vectors: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Multiply columns in A's dtype and vectors in that of x, in one pass."""
        joint = np.hstack([own, vectors]) if own.dtype == vectors.dtype else None
        if joint is not None:
            product = self.passes.apply(joint)
            return product[:, : own.shape[1]], product[:, own.shape[1] :]
        columns = np.ascontiguousarray(vectors).view(np.float64)  # A is real, b is complex
        product = self.passes.apply(np.hstack([own, columns]))
        moved = np.ascontiguousarray(product[:, own.shape[1] :])
        return product[:, : own.shape[1]], moved.view(vectors.dtype)

    def _require_hermitian(self, probes: NDArray[Any], products: NDArray[Any]) -> None:
        """Compare y^H (A x) with (A y)^H x for random x and y.

        For K = A - A^H each y^H K x has standard deviation |K|_F; rounding of A's entries alone
        makes K as large as eps |A|_F, and of a Gram matrix of n terms about sqrt(n) times that.
        """
        job = self.job
        core = probes.conj().T @ products
        found = float(np.max(np.abs(core - core.conj().T)))
        eps = float(np.finfo(compute_dtype(job.bands.source.dtype)).eps)
        allowed = 32 * math.sqrt(job.shape[0]) * eps * self.passes.norm
        if found > allowed:
            message = (
                f"cg needs a symmetric (or Hermitian) matrix; for random x and y, y^H A x and "
                f"(A y)^H x of {job.names['a']} differ by {found:.1e}, {found / allowed:.1e} times "
                "what rounding explains. Symmetrise it first, (a + a.H) / 2, or use solve or lsmr"
            )
            raise NotHermitianError(message)

    def _sketched(self, q: NDArray[Any], y: NDArray[Any]) -> Nystrom:
        """Give the preconditioner; a direction with negative curvature is an error."""
        job, shift = self.job, self.job.shift
        core = q.conj().T @ y
        least = float(np.linalg.eigvalsh((core + core.conj().T) / 2)[0])
        noise = 8 * math.sqrt(len(q)) * float(np.finfo(float).eps) * self.passes.norm
        if least + shift < -noise or (least + shift <= 0 and not self.passes.norm):
            message = (
                f"cg needs a positive definite matrix; in iteration 0, the sketch, p^H A p is "
                f"{least + shift:.3e} for {self._what} and a unit vector p. For other matrices use "
                "solve or lsmr, or a larger shift"
            )
            raise NotPositiveDefiniteError(message)
        if least < -noise or shift < 0:  # then A + shift I is sketched
            return nystrom(q, y + shift * q, 0.0)
        return nystrom(q, y, job.shift)

    @property
    def _what(self) -> str:
        name = self.job.names["a"]
        return f"{name} + {self.job.shift:g} I" if self.job.shift else name

    def _apply(self, vectors: list[NDArray[Any]]) -> NDArray[Any]:
        """Give (A + shift I) V."""
        v = np.stack(vectors, axis=1)
        product: NDArray[Any] = self.passes.apply(v) + self.job.shift * v
        return product

    def _advance(self, active: list[_Side], products: NDArray[Any]) -> None:
        self.iterations += 1
        for side, q in zip(active, products.T, strict=True):
            side.advance(q, self.preconditioner, self._what, self.iterations)
        self._note()

    def _verify(self, stale: list[_Side]) -> None:
        """Compute residuals of x as it will be given; those that are too large go on from there."""
        for side in stale:
            side.x = side.x.astype(self.job.dtype).astype(side.x.dtype)
        products = self._apply([side.x for side in stale])
        for side, q in zip(stale, products.T, strict=True):
            side.begin(side.b - q, self.preconditioner)
        self._note()

    def _note(self) -> None:
        self.history.append(max(side.relative for side in self.sides))

    def _outcome(self) -> Outcome:
        job, norm = self.job, self.passes.norm + abs(self.job.shift)
        spans = [side.extremes() for side in self.sides]
        backward, errors = 0.0, [0.0]
        for side, (low, _) in zip(self.sides, spans, strict=True):
            length = norm_of(side.x)
            backward = max(backward, ratio(side.size, norm * length + norm_of(side.b)))
            # |x - x*| <= |r| / (least eigenvalue of A + shift I), and that is at least the one of
            # the preconditioned matrix, for P^-1 <= I
            errors.append(ratio(side.size, max(low, 0.0) * length))
        conditions = [high / low for low, high in spans if low > 0]
        certificate = IterationCertificate(
            converged=all(side.size <= side.goal for side in self.sides),
            residual=max(side.relative for side in self.sides), backward_error=backward,
            optimality=None, tol=job.tol, error=float(np.max(errors)),
            condition=max(conditions, default=math.nan), norm=self.passes.norm,
            iterations=self.iterations, passes=self.passes.count, rank=self.preconditioner.rank,
            history=tuple(self.history),
        )  # fmt: skip
        x = np.stack([side.x * side.scale for side in self.sides], axis=1)
        return Outcome({"x": x.reshape(job.shape).astype(job.dtype)}, certificate)


def _extremes(alphas: list[float], betas: list[float]) -> tuple[float, float]:
    """Give the extreme eigenvalues of the Lanczos tridiagonal of the coefficients."""
    a, b = np.array(alphas), np.array(betas[: len(alphas) - 1])
    diagonal = 1 / a
    diagonal[1:] += b / a[:-1]
    beside = np.sqrt(b) / a[:-1]
    values = np.linalg.eigvalsh(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1))
    return float(values[0]), float(values[-1])
