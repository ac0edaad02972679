"""SVD by the Gram matrix of the short side: exact in two passes.

A^H A is summed in double precision, its eigenvectors are V; one more pass writes U = A V / s.
Squaring loses values below 1e-8 s1 (and, on the way back in single precision, the orthogonality of
their u): where such modes are asked for, the second pass keeps Y = A V and a Rayleigh-Ritz step
restores them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.blocks import Source
from leptonhpc.linalg.conditioning import Conditioning
from leptonhpc.linalg.jobs import Execute, Outcome
from leptonhpc.linalg.operator import Operator
from leptonhpc.linalg.svd_shared import (
    Basis,
    SvdOptions,
    deviation,
    long_target,
    outcome,
    rayleigh_ritz,
    rounding_bound,
    scratch_target,
    signs,
)
from leptonhpc.planning import BandLayout, Resources, Stage, Target, choose_bands
from leptonhpc.planning.costs import eigh_seconds

_DIRECT = 0.1
"""U = A V / s is orthonormal to about eps (s1 / sk)^2 from V, eps s1 / sk from the product."""


@dataclass
class GramSvd:
    """The method for one operator."""

    operator: Operator
    options: SvdOptions
    name = "gram"
    title = "Gram matrix of the short side, eigh, one back-projection"

    @staticmethod
    def choose_layout(
        source: Source, resources: Resources, options: SvdOptions, conditioning: Conditioning
    ) -> BandLayout:
        """Choose bands so that the Gram matrices of all lanes and its eigenvectors fit."""
        n = source.shape[1]
        item = 16 if source.dtype.kind == "c" else 8
        k = options.expected_rank(n)

        def work(height: int) -> int:
            tile = min(height, 1024) * n * item * 3
            return n * n * item + tile + height * k * item

        return choose_bands(
            source,
            resources,
            work,
            fixed_nbytes=4 * n * n * item,
            passes=2,
            what="svd by Gram matrix",
        )

    @property
    def _late(self) -> bool:
        return self.operator.conditioning.missing == "raise"

    def _exact_values_suffice(self) -> bool:
        return not self.options.compute_uv

    @cached_property
    def stages(self) -> list[Stage]:
        """Give the stages that are expected to run."""
        operator = self.operator
        stages = operator.stages_before(late_scale=self._late)
        stages.append(operator.gram_stage(late_scale=self._late))
        if self.options.compute_uv:
            k = self.options.expected_rank(operator.columns)
            target = long_target(operator, k)
            stages.append(operator.stage("normal", "write", k, target=target, first=False))
        return stages

    def targets(self) -> list[Target]:
        """Give the arrays that are made."""
        k = self.options.expected_rank(self.operator.columns)
        return [long_target(self.operator, k)] if self.options.compute_uv else []

    def host_seconds(self) -> float:
        """Predict the eigenproblem's time."""
        return eigh_seconds(self.operator.columns, self.operator.resources.rates)

    def predicted_seconds(self) -> float:
        """Predict the whole."""
        return sum(s.seconds for s in self.stages) + self.host_seconds()

    def run(self, execute: Execute) -> Outcome:
        """Run; see `Job.run`."""
        operator, options = self.operator, self.options
        operator.prepare(execute, late_scale=self._late)
        gram = operator.gram(execute, late_scale=self._late)
        squares, v = _eigh_descending(gram)
        k = options.choose_rank(squares, operator.square)
        k = len(squares) if k is None else k
        s, v = np.sqrt(squares[:k]), np.ascontiguousarray(v[:, :k])
        top = float(s[0])
        # eigenvalues of the summed matrix are right to c eps s1^2 in double precision
        noise = 32 * np.finfo(float).eps * top
        if options.compute_uv and s[-1] >= _DIRECT * top > 0:
            return self._direct(execute, s, v)
        if top == 0 and not options.compute_uv:
            return self._outcome(s, None, np.zeros(k), 0.0)
        if not options.compute_uv and s[-1] * rounding_bound(operator, top) >= noise * top:
            residuals = np.minimum(noise * top / np.maximum(s, noise), np.sqrt(noise * top))
            return self._outcome(s, None, residuals, 0.0)
        return self._refined(execute, v)

    def _direct(self, execute: Execute, s: NDArray[Any], v: NDArray[Any]) -> Outcome:
        operator = self.operator
        v = v * signs(v)
        target = long_target(operator, len(s))
        z, _, acc = operator.normal(
            execute, v / s, name="write", target=target, first=False, y_gram=True
        )
        lower = np.tril(acc["y_gram"], -1)
        gram = lower + lower.conj().T + np.diag(np.real(np.diagonal(acc["y_gram"])))
        residuals = np.linalg.norm(z - v * s, axis=0)
        return self._outcome(s, v, residuals, deviation(gram))

    def _refined(self, execute: Execute, v: NDArray[Any]) -> Outcome:
        operator, k = self.operator, v.shape[1]
        target = scratch_target(operator, "y1", k)
        z, offset, _ = operator.normal(execute, v, name="project", target=target, first=False)
        rounded = v.astype(operator.dtype).astype(operator.wide_dtype)
        basis = Basis((("y1", k),), offset, z)
        modes = rayleigh_ritz(
            operator, execute, basis, np.eye(k), rounded, seed=self.options.seed,
            write=self.options.compute_uv,
        )  # fmt: skip
        assert modes is not None
        return self._outcome(modes.s, modes.v, modes.residuals, modes.orthogonality)

    def _outcome(
        self, s: NDArray[Any], v: NDArray[Any] | None, residuals: NDArray[Any], orthogonality: float
    ) -> Outcome:
        rounding = rounding_bound(self.operator, float(s[0]))
        return outcome(
            self.operator, self.options, method="Gram matrix", s=s, v=v, residuals=residuals,
            orthogonality=orthogonality, converged=True,  # there is no iteration
            rounding=rounding,
        )  # fmt: skip


def _eigh_descending(gram: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Give eigenvalues (not negative) and vectors; scaled to avoid under- and overflow."""
    largest = float(np.max(np.abs(np.diagonal(gram)), initial=0.0))
    if largest == 0:
        return np.zeros(len(gram)), np.eye(len(gram), dtype=gram.dtype)
    w, v = np.linalg.eigh(gram / largest)
    return np.maximum(w[::-1], 0) * largest, v[:, ::-1]
