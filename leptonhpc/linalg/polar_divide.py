"""Polar factors of a matrix whose short side is beyond memory: cubics, all of it in scratch.

U is the limit of the cubics that make all singular values one (see `svd_divide`), P = U^H A. The
certificate measures A - U P and U^H U - I whole; P is positive semidefinite but for rounding since
no cubic changes the sign of a singular value [1]_.

References
----------
.. [1] Y. Nakatsukasa, N. J. Higham, Backward stability of iterations for computing the polar
   decomposition, SIAM J. Matrix Anal. Appl. 33, 2012, Theorem 4.1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from leptonhpc.blocks import BlockedArray, Source
from leptonhpc.linalg.certificates import FactorCertificate
from leptonhpc.linalg.eigh_recursion import Recursion
from leptonhpc.linalg.eigh_stages import UNIT, Stages
from leptonhpc.linalg.jobs import Execute, Outcome
from leptonhpc.linalg.scratch import ScratchSource
from leptonhpc.linalg.svd_divide import DivideSvd, expected_polar, layout_of, plan_divided
from leptonhpc.linalg.svd_shared import SvdOptions
from leptonhpc.planning import Explanation, Resources, Stage, Target
from leptonhpc.planning.explain import explain


@dataclass(frozen=True)
class PolarDivide:
    """Polar factors, planned: those of T = U P, T the matrix or its adjoint."""

    svd: DivideSvd
    """Whose first half this is."""
    sources: Mapping[str, Source]
    parameters: Mapping[str, Any]
    resources: Resources
    explanation: Explanation
    driver: str = "polar"

    def run(self, execute: Execute) -> Outcome:
        """Iterate, then measure; see `Job.run`."""
        svd, stages = self.svd, self.svd.stages
        matrix = svd.matrix
        run = svd.begun(execute)
        size = svd.size(run)
        x = svd.polar(run, size)
        stage, p = stages.product(x.H, matrix, self._target("p", (x.shape[1],) * 2),
                                  kind="hermitian")  # fmt: skip
        run(stage, {})
        u = x.H if matrix.adjoint else x
        stage, _ = stages.shifted(u, self._target("u", u.shape))
        run(stage, {"alpha": 1.0, "beta": 0.0})
        return Outcome({"u": "u", "p": "p"}, self._certified(run, x, p, size))

    def _certified(
        self, run: Recursion, x: ScratchSource, p: ScratchSource, size: float
    ) -> FactorCertificate:
        """Measure |A - U P| and |U^H U - I|."""
        stages, n = self.svd.stages, x.shape[1]
        stage, image = stages.product(x, p, "image")
        run(stage, {})
        told = {"w": np.ones(n), "unit": size or 1.0}
        squares = run(stages.residuals(image, self.svd.matrix), told)["squares"]
        error = math.sqrt(float(np.sum(squares)))
        gram = run(stages.square(x, None)[0], {"alpha": 1.0, "beta": 0.0})
        departure = float(gram["hypot_defect"])
        bound = 8 * max(n, 2) * float(np.finfo(stages.dtype).eps)
        return FactorCertificate(
            converged=error <= bound and departure <= bound * math.sqrt(n),
            backward_error=error, bound=bound, norm=size, orthogonality=departure,
        )  # fmt: skip

    def _target(self, name: str, shape: tuple[int, ...]) -> Target:
        return Target(name, shape, self.svd.stages.dtype.str, tuple(min(k, UNIT) for k in shape))


def plan_polar_divide(
    x: BlockedArray, resources: Resources, *, adjoint: bool, seed: int
) -> PolarDivide:
    """Plan the polar factors of a matrix of any size.

    Parameters
    ----------
    x : BlockedArray of shape (m, n)
        The matrix.
    resources : Resources
        Memory, workers, cores and rates.
    adjoint : bool
        Factor A^H = U P, so that A = P U^H.
    seed : int
        Of the perturbation.

    Returns
    -------
    PolarDivide
        The plan.

    Raises
    ------
    MemoryBudgetError
        If not even blocks fit.
    """
    options = SvdOptions(compute_uv=False, seed=seed)
    svd = plan_divided(x, resources, options=options, driver="polar", adjoint=adjoint)
    stages, matrix = svd.stages, svd.matrix
    expected = [*svd.before, *expected_polar(stages, matrix, svd.norm), *_checks(stages, matrix)]
    n = matrix.shape[1]
    explanation = explain(
        "polar", list(svd.explanation.inputs), expected, resources,
        method="cubic iterations by products",
        why=f"no worker holds matrices of order {n}",
        targets=[
            *(s.target for s in expected if s.target is not None),
            Target("p", (n, n), stages.dtype.str, (n, n)),
        ],
    )  # fmt: skip
    parameters = {"driver": "polar", "method": "divide", "adjoint": adjoint, "seed": seed,
                  "layout": layout_of(resources)}  # fmt: skip
    return PolarDivide(svd, svd.sources, parameters, resources, explanation)


def _checks(stages: Stages, matrix: ScratchSource) -> list[Stage]:
    """Give the stages that copy U and measure."""
    stage, x = stages.shifted(matrix, "u")
    _, p = stages.product(x.H, matrix, "h", kind="hermitian")
    product, image = stages.product(x, p, "image")
    last = stages.square(x, None)[0]
    return [replace(stage, passes=0.0), product, stages.residuals(image, matrix), last]
