"""Truncated SVD from one pass: for data that stream by, with errors measured beside.

Y = A Omega, W = Psi^H A and, by independent draws, E = Theta^H A and F = A Xi are all that is kept.
Then A ~ Q (Psi^H Q)^+ W with Q = orth(Y) [1]_, and |Theta^H (A - Q C)|_F^2 / theta estimates the
squared error without bias [2]_; its chi-square law gives the bound at 99.9 %. Both residuals of a
mode are measured in the same way, since neither depends on these draws:

    Theta^H (A v - s u) = E v - s Theta^H u,    Xi^H (A^H u - s v) = F^H u - s Xi^H v.

References
----------
.. [1] J. A. Tropp, A. Yurtsever, M. Udell, V. Cevher, Practical sketching algorithms for low-rank
   matrix approximation, SIAM J. Matrix Anal. Appl. 38 (2017), Algorithm 4.
.. [2] J. A. Tropp, A. Yurtsever, M. Udell, V. Cevher, Streaming low-rank matrix approximation with
   an application to scientific simulation, SIAM J. Sci. Comput. 41 (2019), section 6.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.blocks import Source
from leptonhpc.linalg.conditioning import Conditioning
from leptonhpc.linalg.drawn import drawn
from leptonhpc.linalg.jobs import Execute, Outcome
from leptonhpc.linalg.operator import Operator
from leptonhpc.linalg.svd_krylov import _random_block
from leptonhpc.linalg.svd_ritz import Basis, rotate, write_long
from leptonhpc.linalg.svd_shared import (
    SvdOptions,
    long_target,
    outcome,
    rounding_bound,
    scratch_target,
    signs,
)
from leptonhpc.planning import BandLayout, Resources, Stage, Target, choose_bands
from leptonhpc.planning.layout import compute_dtype

THETA = 16
"""Rows of the independent sketch that measures the error."""
XI = 16
"""Columns of that which measures A^H u - s v."""
_DOUBT = 1e-3
"""How often a bound may be too small."""


@dataclass
class SketchSvd:
    """The method for one operator."""

    operator: Operator
    options: SvdOptions
    name = "sketch"
    title = "two-sided random sketch, one pass, error estimated a posteriori"

    @staticmethod
    def _sizes(options: SvdOptions, rows: int, columns: int) -> tuple[int, int]:
        width = min(columns, 2 * (options.rank or 1) + 8)
        return width, min(rows, 2 * width + 1)

    @staticmethod
    def choose_layout(
        source: Source, resources: Resources, options: SvdOptions, conditioning: Conditioning
    ) -> BandLayout:
        """Choose bands so that the sketches of all lanes fit."""
        rows, n = source.shape
        width, psi = SketchSvd._sizes(options, rows, n)
        width += XI
        dtype = compute_dtype(source.dtype)
        wide = 16 if dtype.kind == "c" else 8

        def work(height: int) -> int:
            tile = 2 * min(height, 1024) * n * wide
            return height * (2 * width + psi + THETA) * wide + 2 * n * (psi + THETA) * wide + tile

        return choose_bands(
            source, resources, work, fixed_nbytes=4 * n * (psi + THETA) * wide, passes=1,
            what="svd by sketch",
        )  # fmt: skip

    @cached_property
    def stages(self) -> list[Stage]:
        """Give the stages."""
        operator = self.operator
        width, psi = self._sizes(self.options, operator.rows, operator.columns)
        k = self.options.rank or 1
        total = width + XI
        target = scratch_target(operator, "y1", total)
        stage = operator.stage("sketch", "sketch", total + psi + THETA, target=target, first=True)
        stages = [*operator.stages_before(), stage]
        operands = (("y1", total),)
        stages += [operator.rotate_stage(n, operands, total, None) for n in ("rotate", "rotate-2")]
        if self.options.compute_uv:
            stages.append(operator.rotate_stage("write", operands, k, long_target(operator, k)))
        return stages

    def targets(self) -> list[Target]:
        """Give the arrays that are made."""
        width, _ = self._sizes(self.options, self.operator.rows, self.operator.columns)
        scratch = [scratch_target(self.operator, "y1", width + XI)]
        if not self.options.compute_uv:
            return scratch
        return [long_target(self.operator, self.options.rank or 1), *scratch]

    def host_seconds(self) -> float:
        """Predict the time of the small problems."""
        return 0.0

    def run(self, execute: Execute) -> Outcome:
        """Run; see `Job.run`."""
        operator, options = self.operator, self.options
        operator.prepare(execute)
        width, psi = self._sizes(options, operator.rows, operator.columns)
        k = options.rank or 1
        omega = _random_block(operator, width, options.seed)
        # rows of Psi and Theta, and Xi, are drawn from streams of their own
        seed = options.seed ^ (1 << 62)
        xi = drawn((operator.columns, XI), operator.wide_dtype, seed).astype(operator.dtype)
        target = scratch_target(operator, "y1", width + XI)
        core, offset = operator.sketch(
            execute, np.hstack([omega, xi]), psi=psi, theta=THETA, seed=seed, target=target
        )
        basis = Basis(
            (("y1", width + XI),), offset, np.zeros((operator.columns, width + XI))
        )  # fmt: skip
        w, image, cross = self._orthonormal(execute, basis, width, psi, seed)
        c = np.zeros((0, operator.columns))
        if image.shape[1]:
            c = np.linalg.lstsq(image[:psi], core[:psi], rcond=None)[0]
        p, s, vh = np.linalg.svd(c, full_matrices=False)
        r = min(k, len(s))
        p, v = p[:, :r], vh[:r].conj().T
        # Theta^H (A V - U S), and Xi^H (A^H U - V S), of the modes that there are
        right = core[psi:] @ v - (image[psi:] @ p) * s[:r]
        left = cross.conj().T @ p - (xi.conj().T @ v) * s[:r]
        difference = core[psi:] - (image[psi:] @ (p * s[:r])) @ vh[:r]
        square = float(np.linalg.norm(difference)) ** 2
        error = math.sqrt(square) * self._factor(THETA, _DOUBT)
        residuals = self._residuals(right, left, k, error)
        s, v = np.concatenate([s[:r], np.zeros(k - r)]), _completed(v, k, omega)
        phase = signs(v)
        orthogonality = 0.0
        if options.compute_uv:
            rotated = w @ p * phase[:r]
            orthogonality, _ = write_long(
                operator, execute, basis, rotated, k, np.ones(1), seed=seed
            )
        rounding = rounding_bound(operator, float(s[0]))
        return outcome(
            operator, options, method="one-pass sketch", s=s, v=v * phase, residuals=residuals,
            orthogonality=orthogonality, rounding=rounding,
            converged=bool(np.all(residuals <= options.accuracy * s + 8 * rounding)),
            frobenius=(math.sqrt(square / THETA), error + rounding),
        )  # fmt: skip

    def _residuals(
        self, right: NDArray[Any], left: NDArray[Any], k: int, error: float
    ) -> NDArray[Any]:
        """Bound the larger residual of each mode; all hold at once but once in a thousand."""
        found = np.full(k, error)  # of a fresh u or v, in which Q C has nothing
        r, doubt = right.shape[1], _DOUBT / (2 * max(k, 1))
        found[:r] = np.maximum(
            np.linalg.norm(right, axis=0) * self._factor(THETA, doubt),
            np.linalg.norm(left, axis=0) * self._factor(XI, doubt),
        )
        return found

    def _factor(self, draws: int, doubt: float) -> float:
        """Give f with |d| <= f |G^H d|, G of so many random columns, but for so much doubt."""
        from scipy.special import chdtri

        parts = 2 if self.operator.dtype.kind == "c" else 1  # of variance 1 / 2 each
        return math.sqrt(parts / float(chdtri(draws * parts, 1 - doubt)))

    def _orthonormal(
        self, execute: Execute, basis: Basis, width: int, psi: int, seed: int
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Give W with Q = [Y F] W orthonormal, [Psi Theta]^H Q and Q^H F."""
        operator, total = self.operator, width + XI
        w: NDArray[Any] = np.eye(total, width)
        rest = np.eye(total, XI, -width)
        image, cross = np.empty((psi + THETA, 0)), np.empty((0, XI))
        for _ in range(2):
            both, n = np.hstack([w, rest]), w.shape[1]
            gram, acc = rotate(operator, execute, basis, both, seed=seed, psi=psi, theta=THETA)
            mu, e = np.linalg.eigh(gram[:n, :n])
            live = mu > max(float(mu[-1]), 0.0) * 1e-12  # empty directions are dropped
            turn = e[:, live] / np.sqrt(mu[live])
            w, image = w @ turn, acc["core"][:, :n] @ turn
            cross = turn.conj().T @ gram[:n, n:]
            if not live.any():
                break
        return w, image, cross


def _completed(v: NDArray[Any], k: int, omega: NDArray[Any]) -> NDArray[Any]:
    """Give k orthonormal columns, the first those of v."""
    rest = omega[:, : k - v.shape[1]]
    for _ in range(2):
        rest = np.linalg.qr(rest - v @ (v.conj().T @ rest))[0]
    return np.hstack([v, rest])
