"""Condition numbers |A|_p |A^-1|_p: of singular values, or of an inverse that is made for it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from leptonhpc.blocks import BlockedArray, Source
from leptonhpc.blocks.identity import IdentitySource
from leptonhpc.errors import OptionError, ShapeError, SingularMatrixError
from leptonhpc.linalg.certificates import ConditionCertificate, SolveCertificate, SvdCertificate
from leptonhpc.linalg.conditioning import Conditioning
from leptonhpc.linalg.jobs import Execute, Outcome
from leptonhpc.linalg.norm import NormJob, plan_norm
from leptonhpc.linalg.scratch import ScratchSource, made, stored_input, with_operands
from leptonhpc.linalg.solve import SolveJob, plan_solve
from leptonhpc.linalg.svd import SvdJob
from leptonhpc.linalg.svd_divide import DivideSvd, plan_full_svd
from leptonhpc.linalg.svd_shared import SvdOptions
from leptonhpc.planning import Explanation, Resources, Stage, Target
from leptonhpc.planning.explain import explain
from leptonhpc.planning.layout import compute_dtype

Order = Literal[1, -1, 2, -2, "fro", "nuc"] | float
"""Also inf and -inf."""

_SUMS: dict[Any, str] = {1: "1", -1: "-1", np.inf: "inf", -np.inf: "-inf"}
_INVERSE = "inverse"


@dataclass(frozen=True)
class SpectralCondition:
    """By all singular values."""

    svd: SvdJob | DivideSvd
    order: Any
    sources: Mapping[str, Source]
    parameters: Mapping[str, Any]
    resources: Resources
    explanation: Explanation
    driver: str = "cond"

    def run(self, execute: Execute) -> Outcome:
        """Find them; see `Job.run`."""
        found = self.svd.run(execute)
        assert isinstance(found.certificate, SvdCertificate)
        s, rounding = found.fields["s"].astype(float), found.certificate.rounding
        value = _of_values(s, s, self.order)
        near, far = np.maximum(s - rounding, 0), s + rounding
        # sums grow with s, those of 1 / s shrink; of the smallest by the largest it is the reverse
        lower, upper = _of_values(near, far, self.order), _of_values(far, near, self.order)
        if self.order == -2:
            lower, upper = max(0.0, lower), min(1.0, upper)
        else:
            lower = max(1.0, lower) if s[0] > 0 else math.inf
        certificate = ConditionCertificate(
            converged=bool(s[-1] > rounding or s[0] == 0) and not math.isnan(value),
            lower=lower, upper=upper, rounding=rounding,
        )  # fmt: skip
        return Outcome({"value": value, "s": found.fields["s"]}, certificate)


@dataclass(frozen=True)
class InverseCondition:
    """By column or row sums of A and of its inverse, which is scratch."""

    inverse: SolveJob
    norms: tuple[NormJob, NormJob]
    """Of A and of its inverse."""
    matrices: tuple[ScratchSource, ScratchSource]
    target: Target
    sources: Mapping[str, Source]
    parameters: Mapping[str, Any]
    resources: Resources
    explanation: Explanation
    driver: str = "cond"

    def run(self, execute: Execute) -> Outcome:
        """Invert, and sum; see `Job.run`."""

        def kept(stage: Stage, small: Mapping[str, Any]) -> dict[str, Any]:
            final = stage.target is not None and not stage.target.scratch
            return execute(replace(stage, target=self.target) if final else stage, small)

        try:
            certificate = self.inverse.run(kept).certificate
        except SingularMatrixError:
            return self._judged(math.inf, math.inf)
        assert isinstance(certificate, SolveCertificate)
        value = 1.0
        for number, (norm, matrix) in enumerate(zip(self.norms, self.matrices, strict=True)):

            def summed(
                stage: Stage, small: Mapping[str, Any], number: int = number,
                matrix: ScratchSource = matrix.H if norm.transposed else matrix,
            ) -> dict[str, Any]:  # fmt: skip
                stage = replace(stage, name=f"{stage.name} of {('A', 'its inverse')[number]}")
                return execute(with_operands(stage, {"x": matrix}, None), small)

            value *= float(norm.run(summed).fields["value"])
        # columns of the inverse are off by so much of their lengths; sums by sqrt(n) of it
        error = math.inf if certificate.scaled else certificate.error * self.target.shape[0] ** 0.5
        return self._judged(value, error)

    def _judged(self, value: float, error: float) -> Outcome:
        least = 1.0 if math.isfinite(value) else 1 / float(np.finfo(self.inverse.dtype).eps)
        if self.parameters["order"].startswith("-"):  # no norms: nothing bounds them below
            least = 0.0
        certificate = ConditionCertificate(
            converged=error < 1, lower=max(least, value / (1 + error)) if error < 1 else least,
            upper=value / (1 - error) if error < 1 else math.inf,
            rounding=error,
        )  # fmt: skip
        return Outcome({"value": value, "s": None}, certificate)


def plan_condition(
    x: BlockedArray, resources: Resources, *, order: Any = 2
) -> SpectralCondition | InverseCondition:
    """Plan a condition number.

    Parameters
    ----------
    x : BlockedArray of shape (m, n)
        The matrix; square unless the order is 2 or -2.
    resources : Resources
        Memory, workers, cores and rates.
    order : {2, -2, "fro", "nuc", 1, -1, inf, -inf}
        The norm: the first four by singular values, the others by the inverse.

    Returns
    -------
    SpectralCondition or InverseCondition
        The plan.

    Raises
    ------
    ShapeError, OptionError, MemoryBudgetError
        If the question makes no sense, or does not fit.
    """
    _check(x, order)
    if order in _SUMS:
        return _by_inverse(x, resources, order)
    svd = plan_full_svd(
        x, resources, options=SvdOptions(compute_uv=False), conditioning=Conditioning()
    )
    parameters = {**svd.parameters, "driver": "cond", "order": order}
    explanation = replace(svd.explanation, driver="cond")
    return SpectralCondition(svd, order, svd.sources, parameters, resources, explanation)


def _by_inverse(x: BlockedArray, resources: Resources, order: Any) -> InverseCondition:
    n, dtype = x.shape[0], compute_dtype(x.dtype)
    inverse = plan_solve(
        x, BlockedArray(IdentitySource(n, dtype)), resources, driver="cond", held=False
    )
    planned = next(
        s.target for s in inverse.choices[0].stages if s.target is not None and not s.target.scratch
    )
    target = replace(planned, name=_INVERSE, scratch=True)
    matrices = stored_input("a", x.source), made(target)
    norms = (
        plan_norm(x, resources, order=_SUMS[order]),
        plan_norm(BlockedArray(matrices[1]), resources, order=_SUMS[order]),
    )
    sums = [
        with_operands(stage, {"x": matrix.H if job.transposed else matrix}, None)
        for job, matrix in zip(norms, matrices, strict=True)
        for stage in job.explanation.planned
    ]
    stages = [*inverse.choices[0].stages, inverse.question.residual, *sums]
    explanation = explain(
        "cond", inverse.explanation.inputs[:1], stages, resources,
        method="sums of the matrix and of its inverse", why=f"p={order!r} is no matter of "
        "singular values",
        targets=[target, *(s.target for s in stages if s.target and s.target.scratch)],
    )  # fmt: skip
    parameters = {**inverse.parameters, "driver": "cond", "order": str(order)}
    return InverseCondition(
        inverse, norms, matrices, target, inverse.sources, parameters, resources, explanation
    )


def _of_values(s: NDArray[Any], for_inverse: NDArray[Any], order: Any) -> float:
    """Give |s| |1 / s| in the norm that an order is of singular values."""
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        if order == -2:
            return float(s[-1] / for_inverse[0]) if s[0] > 0 else math.nan
        if order == 2:
            value = s[0] / for_inverse[-1]
        else:
            power = 2 if order == "fro" else 1
            top, bottom = s[0] or 1.0, for_inverse[-1]
            # near one, so that squares stay in range
            sizes = np.sum((s / top) ** power), np.sum((bottom / for_inverse) ** power)
            value = (top / bottom) * (sizes[0] * sizes[1]) ** (1 / power)
    return math.inf if math.isnan(value) else float(value)


def _check(x: BlockedArray, order: Any) -> None:
    if x.ndim != 2 or 0 in x.shape:
        message = f"cond needs a matrix that is not empty; {x.name} has shape {x.shape}"
        raise ShapeError(message)
    if isinstance(order, bool) or order not in (2, -2, "fro", "nuc", *_SUMS):
        message = f"p is 2, -2, 'fro', 'nuc', 1, -1, inf or -inf; found {order!r}"
        raise OptionError(message)
    if order not in (2, -2) and x.shape[0] != x.shape[1]:
        message = (
            f"cond with p={order!r} needs a square matrix; {x.name} has shape {x.shape}. Use p=2 "
            "or -2"
        )
        raise ShapeError(message)
