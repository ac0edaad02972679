"""Truncated SVD by a Gram matrix in single precision: two passes, at twice the speed.

The Gram matrix is summed in single precision a segment of rows at a time, the segments in double;
its leading eigenvectors, and some more, span a space that is right to single precision. A second
pass gives Y = A V and A^H Y on it, and Rayleigh-Ritz takes the modes out: singular values are then
right to the square of what the vectors are [1]_, and residuals are measured, not assumed.

References
----------
.. [1] G. W. Stewart, J. Sun, Matrix Perturbation Theory, Academic Press, 1990, corollary IV.4.13.
"""

from __future__ import annotations

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
from leptonhpc.linalg.svd_ritz import Basis, rayleigh_ritz
from leptonhpc.linalg.svd_shared import (
    SvdOptions,
    long_target,
    outcome,
    rounding_bound,
    scratch_target,
)
from leptonhpc.planning import BandLayout, Resources, Stage, Target, choose_bands


@dataclass
class MixedSvd:
    """The method for one operator."""

    operator: Operator
    options: SvdOptions
    name = "mixed"
    title = "Gram matrix in single precision, Rayleigh-Ritz on its eigenvectors"

    @staticmethod
    def choose_layout(
        source: Source, resources: Resources, options: SvdOptions, conditioning: Conditioning
    ) -> BandLayout:
        """Choose bands so that the Gram matrices of all lanes, single and double, fit."""
        n = source.shape[1]
        item = 16 if source.dtype.kind == "c" else 8
        width = options.width(n)
        solving = eigh_descending_numbers(n, width, single=True)

        square = n * n * item
        adding = while_summed(source, resources, (square * 3) // 2)

        def work(height: int) -> int:
            tile = min(height, 1024) * n * item
            return (square * 3) // 2 + tile + 2 * (height + n) * width * item

        return choose_bands(
            source, resources, work, fixed_nbytes=solving * item, other=adding, passes=2,
            what="svd by Gram matrix",
        )  # fmt: skip

    @property
    def _width(self) -> int:
        return self.options.width(self.operator.columns)

    @cached_property
    def stages(self) -> list[Stage]:
        """Give the stages that are expected to run."""
        operator, k, width = self.operator, self._rank, self._width
        stages = operator.stages_before()
        stages.append(operator.gram_stage(late_scale=False, kernel="gram_narrow"))
        target = scratch_target(operator, "y1", width)
        stages.append(operator.stage("normal", "project", width, target=target, first=False))
        operands = (("y1", width),)
        stages.append(operator.rotate_stage("rotate", operands, k, None))
        if self.options.compute_uv:
            stages.append(operator.rotate_stage("write", operands, k, long_target(operator, k)))
        return stages

    @property
    def _rank(self) -> int:
        return self.options.expected_rank(self.operator.columns)

    def targets(self) -> list[Target]:
        """Give the arrays that are made."""
        scratch = scratch_target(self.operator, "y1", self._width)
        written = [long_target(self.operator, self._rank)] if self.options.compute_uv else []
        return [*written, scratch]

    def host_seconds(self) -> float:
        """Predict the eigenproblem's time."""
        operator = self.operator
        rates = operator.resources.rates
        return eigh_descending_seconds(operator.columns, self._width, rates, single=True)

    def run(self, execute: Execute) -> Outcome:
        """Run; see `Job.run`."""
        operator, options, k = self.operator, self.options, self._rank
        operator.prepare(execute)
        gram = operator.gram(execute, late_scale=False, kernel="gram_narrow")
        _, v = eigh_descending(gram, self._width, wanted=k)
        v = v.astype(operator.dtype).astype(operator.wide_dtype)
        target = scratch_target(operator, "y1", v.shape[1])
        z, offset, _ = operator.normal(execute, v, name="project", target=target, first=False)
        c = _ritz(v, z)[:, :k]
        modes = rayleigh_ritz(
            operator, execute, Basis((("y1", v.shape[1]),), offset, z), c, v @ c,
            seed=options.seed, write=options.compute_uv,
        )  # fmt: skip
        assert modes is not None
        rounding = rounding_bound(operator, float(modes.s[0]))
        allowed = options.accuracy * modes.s + 8 * rounding
        # the total, from which errors are what is left, is a sum in single precision
        single = max(1.0, float(np.finfo(np.float32).eps) / operator.eps)
        return outcome(
            operator, options, method="Gram matrix in single precision", s=modes.s, v=modes.v,
            residuals=modes.residuals, orthogonality=modes.orthogonality,
            converged=bool(np.all(modes.residuals <= allowed)), rounding=single * rounding,
        )  # fmt: skip


def _ritz(v: NDArray[Any], z: NDArray[Any]) -> NDArray[Any]:
    """Solve (V^H Z) c = w (V^H V) c; descending. V is orthonormal to the rounding of its dtype."""
    inverse = np.linalg.inv(np.linalg.cholesky(v.conj().T @ v))
    projected = inverse @ (v.conj().T @ z) @ inverse.conj().T
    projected = (projected + projected.conj().T) / 2
    size = float(np.max(np.abs(projected), initial=0.0)) or 1.0
    c = np.linalg.eigh(projected / size)[1][:, ::-1]
    coefficients: NDArray[Any] = inverse.conj().T @ c
    return coefficients
