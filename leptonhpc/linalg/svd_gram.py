"""SVD by the Gram matrix of the short side: exact in two passes.

A^H A is summed in double precision, its eigenvectors are V; one more pass writes U = A V / s.
Squaring loses values below 1e-8 s1 (and, on the way back in single precision, the orthogonality of
their u): where such modes are asked for, the second pass keeps Y = A V and a Rayleigh-Ritz step
restores them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.blocks import Source
from leptonhpc.linalg.conditioning import Conditioning
from leptonhpc.linalg.gram_matrix import (
    eigh_descending,
    eigh_descending_numbers,
    eigh_descending_seconds,
    while_summed,
)
from leptonhpc.linalg.jobs import Execute, Outcome
from leptonhpc.linalg.operator import Operator
from leptonhpc.linalg.svd_modes import TooManyModesError, layout_with_room, rank_is_found
from leptonhpc.linalg.svd_ritz import Basis, rayleigh_ritz
from leptonhpc.linalg.svd_shared import (
    SvdOptions,
    deviation,
    long_target,
    outcome,
    rounding_bound,
    scratch_target,
    signs,
)
from leptonhpc.linalg.svd_small import NUMBERS
from leptonhpc.planning import BandLayout, Resources, Stage, Target, choose_bands

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
        n, usual = source.shape[1], options.expected_rank(source.shape[1])
        square = n * n * (16 if source.dtype.kind == "c" else 8)
        adding = while_summed(source, resources, square)

        def plan(modes: int) -> BandLayout:
            work, fixed = GramSvd.demand(source, options, conditioning, modes)
            return choose_bands(
                source, resources, work, fixed_nbytes=fixed, other=adding, passes=2,
                what="svd by Gram matrix",
            )  # fmt: skip

        if not rank_is_found(options):
            return layout_with_room(plan, usual=usual, most=usual)
        # what the eigenvectors of all take is room for half of them later
        return layout_with_room(plan, usual=max(usual, n // 2), most=n)

    @staticmethod
    def demand(
        source: Source, options: SvdOptions, conditioning: Conditioning, modes: int | None = None
    ) -> tuple[Callable[[int], int], int]:
        """Give the bytes that a lane needs beside a band of some rows, and a worker once."""
        n = source.shape[1]
        item = 16 if source.dtype.kind == "c" else 8
        k = options.expected_rank(n) if modes is None else modes

        def work(height: int) -> int:
            tile = min(height, 1024) * n * item * 3
            return n * n * item + tile + height * k * item

        numbers = eigh_descending_numbers(n, options.rank)
        # of small values A^H A V, V, their two factors, and what the SVD of a small matrix needs;
        # where V is not complete, the coefficients of what was written anew
        numbers = max(numbers, 2 * n * k + (1 + (k < n) + NUMBERS) * k * k)
        # V as it was found, turned, over s, lifted and rounded; A^H A V and what it is compared
        # with: in place of a lane's Gram matrix, as that of U is
        numbers = max(numbers, 8 * n * k + 3 * k * k - n * n)
        return work, numbers * item

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
        n, rates = self.operator.columns, self.operator.resources.rates
        return eigh_descending_seconds(n, self.options.rank, rates)

    def run(self, execute: Execute) -> Outcome:
        """Run; see `Job.run`."""
        operator, options = self.operator, self.options
        operator.prepare(execute, late_scale=self._late)
        gram = operator.gram(execute, late_scale=self._late)
        squares, v = eigh_descending(gram, options.rank)
        k = options.choose_rank(squares, operator.square)
        k = len(squares) if k is None else k
        if k > operator.layout.modes > 0:
            raise TooManyModesError(operator.layout.modes, k)
        del gram
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
        target = scratch_target(operator, "projected", k)
        z, offset, _ = operator.normal(execute, v, name="project", target=target, first=False)
        v[...] = v.astype(operator.dtype)
        basis = Basis((("projected", k),), offset, z)
        modes = rayleigh_ritz(
            operator, execute, basis, None, v, seed=self.options.seed,
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
