"""Running a non-negative factorisation: start, sweeps, balance, certificate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.errors import NegativeValueError, OptionError
from leptonhpc.linalg.iterations import gathered
from leptonhpc.linalg.jobs import Execute, Outcome
from leptonhpc.linalg.nmf_certificate import NmfCertificate
from leptonhpc.linalg.nmf_iteration import Found, Iteration, Sweep
from leptonhpc.linalg.nmf_objectives import Divergence, Objective, Point, SquaredError, Sums
from leptonhpc.linalg.nmf_passes import GIVEN, SHORT, Start, Sweeps, write_stage
from leptonhpc.linalg.nmf_start import Spectrum, at_random, from_spectrum

if TYPE_CHECKING:
    from leptonhpc.linalg.nmf import NmfJob

_METHODS = {
    "frobenius": "HALS",
    "kullback-leibler": "multiplicative updates",
    "compressed": "HALS on the leading modes",
}


@dataclass
class NmfRun:
    """One factorisation while it runs."""

    job: NmfJob
    execute: Execute

    def run(self) -> Outcome:
        """Give W, H and how good they are."""
        options = self.job.options
        spectrum = None if self.job.spectrum is None else self.job.spectrum.run(self.execute)
        start, h = self._begin(spectrum)
        if not options.update_h:
            found, sweeps = self._solve(start, h)
            history: tuple[float, ...] = (found.point.relative,)
        elif options.method == "compressed":
            assert spectrum is not None
            found, sweeps, history = self._compressed(spectrum, start, h)
        else:
            sweeps = self._sweeps(self._objective(), start)
            found, history = self._iterate(sweeps, h)
        return self._outcome(found, sweeps, spectrum, history)

    def _begin(self, spectrum: Spectrum | None) -> tuple[Start, NDArray[Any]]:
        job, kind = self.job, self.job.start
        if kind == "given":
            source, name = job.sources[SHORT], "the start of nmf"
            h = gathered(self.execute, source, SHORT, name, np.dtype(float))
            if h.min() < 0:
                row, column = (int(i) for i in np.argwhere(h < 0)[0])
                message = (
                    "the start of nmf needs numbers that are not negative; its short factor has "
                    f"{h[row, column]} in component {row}, place {column}"
                )
                raise NegativeValueError(message)
            if job.options.loss == "kullback-leibler":
                _require_nonzero(h.sum(axis=1), job.tall.name)
            known = GIVEN in job.sources
            return Start("given", (GIVEN, job.tall.rank)) if known else Start("zero"), h
        if kind == "random":
            return at_random(job.tall, job.options.seed)
        assert spectrum is not None
        return from_spectrum(job.tall, self.execute, spectrum, fill=kind == "nndsvda")

    def _objective(self) -> Objective:
        dtype = self.job.tall.dtype
        return SquaredError(dtype) if self.job.options.loss == "frobenius" else Divergence(dtype)

    def _sweeps(self, objective: Objective, start: Start, **more: Any) -> Sweeps:
        tall = self.job.tall
        data = ("x", tall.shape[1])
        seen = self.job.spectrum is not None
        return Sweeps(tall, self.execute, objective, start, data, seen=seen, **more)

    def _iterate(self, sweeps: Sweeps, h: NDArray[Any]) -> tuple[Found, tuple[float, ...]]:
        options = self.job.options
        iteration = Iteration(
            sweeps.objective, self.job.tall.dtype, options.tol, options.most_sweeps
        )
        found = iteration.run(self._living(sweeps), h)
        return found, tuple(iteration.history)

    def _living(self, sweeps: Sweeps) -> Sweep:
        """Refuse a given start with components that no sweep makes anything of."""
        if self.job.start != "given":
            return sweeps

        def sweep(number: int, h: NDArray[Any]) -> Sums:
            sums = sweeps(number, h)
            point = sweeps.objective.measure(h, sums)
            if number == 1 and not point.relative <= self.job.options.tol:
                w_size, h_size = sweeps.objective.sizes(h, sums)
                # HALS finds either from the other; products leave no zero
                both = np.maximum if self.job.options.loss == "frobenius" else np.minimum
                _require_nonzero(both(w_size, h_size), self.job.tall.name)
            return sums

        return sweep

    def _solve(self, start: Start, h: NDArray[Any]) -> tuple[Found, Sweeps]:
        """Solve for W only: the residual is that of W."""
        objective, dtype = self._objective(), self.job.tall.dtype
        settle = max(self.job.options.tol, 16 * float(np.finfo(dtype).eps))  # no finer than that
        sweeps = self._sweeps(objective, start, settle=settle)
        h = h.astype(dtype).astype(float)
        sums = sweeps(1, h)
        point = objective.measure(h, sums)
        residual = objective.relative_residual(float(sums["kkt"]))
        point = Point(point.error, point.bound, point.relative, residual)
        reason = "solved" if residual <= settle else "sweeps"
        return Found(h, sums, point, 1, reason), sweeps

    def _compressed(
        self, spectrum: Spectrum, start: Start, h: NDArray[Any]
    ) -> tuple[Found, Sweeps, tuple[float, ...]]:
        """Factor U S V^T in place of X [1]_; one last pass is over X, and measures.

        References
        ----------
        .. [1] G. Zhou, A. Cichocki, S. Xie, Fast nonnegative matrix/tensor factorization based on
           low-rank approximation, IEEE Trans. Signal Process. 60, 2012, section III.
        """
        tall = self.job.tall
        square = float(np.sum(spectrum.s**2))
        small = SquaredError(tall.dtype, spectrum.s[:, None] * spectrum.v.T, square)
        over = Sweeps(tall, self.execute, small, start, spectrum.operand, seen=True)
        compressed, history = self._iterate(over, h)
        last = Start("previous", (tall.scratch(over.written).name, tall.rank))
        objective = self._objective()
        sweeps = self._sweeps(objective, last, written=over.written, label="measure")
        sums = sweeps(1, compressed.h)
        point = objective.measure(compressed.h, sums)
        found = Found(compressed.h, sums, point, compressed.sweeps + 1, compressed.reason)
        return found, sweeps, history

    def _outcome(
        self, found: Found, sweeps: Sweeps, spectrum: Spectrum | None, history: tuple[float, ...]
    ) -> Outcome:
        tall, options, point = self.job.tall, self.job.options, found.point
        factor = np.ones(tall.rank)
        if options.update_h:
            factor = _balance(*sweeps.objective.sizes(found.h, found.sums))
        written = self.execute(write_stage(tall, sweeps.written), {"factor": factor})
        short = (found.h / factor[:, None]).astype(tall.dtype)
        names = ("h", "w") if tall.transposed else ("w", "h")
        fields = {names[0]: names[0], names[1]: short.T.copy() if tall.transposed else short}
        method = _METHODS[options.method if options.method == "compressed" else options.loss]
        certificate = NmfCertificate(
            converged=found.reason != "sweeps", loss=options.loss,
            method=method if options.update_h else f"{method} with H given", sweeps=found.sweeps,
            passes=sweeps.count + (0.0 if spectrum is None else spectrum.passes),
            norm=sweeps.objective.norm, error=point.error, error_bound=point.bound,
            relative_error=point.relative, kkt=point.kkt, tol=options.tol,
            least=min(-float(written["max_below"]), float(short.min())), reason=found.reason,
            history=history,
        )  # fmt: skip
        return Outcome(fields, certificate)


def _require_nonzero(sizes: NDArray[Any], name: str) -> None:
    """Refuse components of a start that are zero, and stay so: a saddle looks converged."""
    dead = np.flatnonzero(sizes == 0)
    if len(dead):
        message = (
            f"the start of nmf of {name} is zero in component {dead[0]} ({len(dead)} of "
            f"{len(sizes)} are), which no sweep would change: it would stop there as if it had "
            "converged. Give w0= and h0= positive numbers there, leave such components out, or "
            "leave w0= and h0= out and choose init="
        )
        raise OptionError(message)


def _balance(w: NDArray[Any], h: NDArray[Any]) -> NDArray[Any]:
    """Give powers of two that make columns of W about as large as rows of H: they round nothing."""
    there = (w > 0) & (h > 0)
    ratio = np.where(there, h, 1.0) / np.where(there, w, 1.0)
    balanced: NDArray[Any] = 2.0 ** np.round(np.log2(ratio) / 2)
    return balanced
