"""Truncated SVD from one pass: for data that stream by, with an error measured beside.

Y = A Omega, W = Psi^H A and, by independent draws, E = Theta^H A are all that is kept. Then
A ~ Q (Psi^H Q)^+ W with Q = orth(Y) [1]_, and |Theta^H (A - Q C)|_F^2 / theta estimates the squared
error without bias [2]_; its chi-square law gives the bound at 99.9 %.

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
from leptonhpc.linalg.jobs import Execute, Outcome
from leptonhpc.linalg.operator import Operator
from leptonhpc.linalg.svd_krylov import _random_block
from leptonhpc.linalg.svd_shared import (
    Basis,
    SvdOptions,
    long_target,
    outcome,
    rotate,
    rounding_bound,
    scratch_target,
    signs,
    write_long,
)
from leptonhpc.planning import BandLayout, Resources, Stage, Target, choose_bands
from leptonhpc.planning.layout import compute_dtype

THETA = 16
"""Rows of the independent sketch that measures the error."""


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
        target = scratch_target(operator, "y1", width)
        stage = operator.stage("sketch", "sketch", width + psi + THETA, target=target, first=True)
        stages = [*operator.stages_before(), stage]
        operands = (("y1", width),)
        stages += [operator.rotate_stage(n, operands, width, None) for n in ("rotate", "rotate-2")]
        if self.options.compute_uv:
            stages.append(operator.rotate_stage("write", operands, k, long_target(operator, k)))
        return stages

    def targets(self) -> list[Target]:
        """Give the arrays that are made."""
        width, _ = self._sizes(self.options, self.operator.rows, self.operator.columns)
        scratch = [scratch_target(self.operator, "y1", width)]
        if not self.options.compute_uv:
            return scratch
        return [long_target(self.operator, self.options.rank or 1), *scratch]

    def host_seconds(self) -> float:
        """Predict the time of the small problems."""
        return 0.0

    def predicted_seconds(self) -> float:
        """Predict the whole."""
        return sum(s.seconds for s in self.stages)

    def run(self, execute: Execute) -> Outcome:
        """Run; see `Job.run`."""
        operator, options = self.operator, self.options
        operator.prepare(execute)
        width, psi = self._sizes(options, operator.rows, operator.columns)
        k = options.rank or 1
        omega = _random_block(operator, width, options.seed)
        target = scratch_target(operator, "y1", width)
        # rows of Psi and Theta are drawn from a stream of their own
        seed = options.seed ^ (1 << 62)
        core, offset = operator.sketch(
            execute, omega, psi=psi, theta=THETA, seed=seed, target=target
        )
        basis = Basis((("y1", width),), offset, np.zeros((operator.columns, width)))
        w, image = self._orthonormal(execute, basis, width, psi, seed)
        c = np.zeros((0, operator.columns))
        if image.shape[1]:
            c = np.linalg.lstsq(image[:psi], core[:psi], rcond=None)[0]
        p, s, vh = np.linalg.svd(c, full_matrices=False)
        r = min(k, len(s))
        left, v = w @ p[:, :r], _completed(vh[:r].conj().T, k, omega)
        s = np.concatenate([s[:r], np.zeros(k - r)])
        phase = signs(v)
        left, v = left * phase[:r], v * phase
        difference = core[psi:] - (image[psi:] @ (p[:, :r] * s[:r])) @ vh[:r]
        square = float(np.linalg.norm(difference)) ** 2
        bound = square / _chi_square_low(THETA * (2 if operator.dtype.kind == "c" else 1))
        bound *= 2 if operator.dtype.kind == "c" else 1
        orthogonality = 0.0
        if options.compute_uv:
            orthogonality = write_long(operator, execute, basis, left, k, np.ones(1), seed=seed)
        error = math.sqrt(bound)
        rounding = rounding_bound(operator, float(s[0]))
        return outcome(
            operator, options, method="one-pass sketch", s=s, v=v,
            residuals=np.full(k, error), orthogonality=orthogonality,
            converged=error <= options.accuracy * math.sqrt(operator.square), rounding=rounding,
            frobenius=(math.sqrt(square / THETA), error + rounding),
        )  # fmt: skip

    def _orthonormal(
        self, execute: Execute, basis: Basis, width: int, psi: int, seed: int
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Give W with Q = Y W orthonormal, and [Psi Theta]^H Q; empty directions are dropped."""
        operator = self.operator
        w: NDArray[Any] = np.eye(width)
        image = np.empty((0, 0))
        for _ in range(2):
            gram, acc = rotate(operator, execute, basis, w, seed=seed, psi=psi, theta=THETA)
            mu, e = np.linalg.eigh(gram)
            live = mu > max(float(mu[-1]), 0.0) * 1e-12
            if not live.any():
                return w[:, :0], acc["core"][:, :0]
            turn = e[:, live] / np.sqrt(mu[live])
            w, image = w @ turn, acc["core"] @ turn
        return w, image


def _completed(v: NDArray[Any], k: int, omega: NDArray[Any]) -> NDArray[Any]:
    """Give k orthonormal columns, the first those of v."""
    rest = omega[:, : k - v.shape[1]]
    for _ in range(2):
        rest = np.linalg.qr(rest - v @ (v.conj().T @ rest))[0]
    return np.hstack([v, rest])


def _chi_square_low(freedom: int) -> float:
    """Give the value that a chi-square variable undercuts once in a thousand."""
    from scipy.special import chdtri

    return float(chdtri(freedom, 0.999))
