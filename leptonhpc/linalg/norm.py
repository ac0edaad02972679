"""Norms of a matrix by one pass: Frobenius, largest and smallest column and row sums."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from leptonhpc.blocks import BlockedArray, Source
from leptonhpc.errors import OptionError, ShapeError
from leptonhpc.linalg.certificates import NormCertificate
from leptonhpc.linalg.conditioning import Conditioning
from leptonhpc.linalg.jobs import Execute, Outcome
from leptonhpc.linalg.operator import Operator
from leptonhpc.linalg.sizes import grain
from leptonhpc.linalg.strips import Strips, choose_strips, refuse_strips
from leptonhpc.planning import Explanation, Resources, Stage
from leptonhpc.planning.explain import explain

_ENOUGH = 0.9
"""Of the lanes that could be at work."""


@dataclass(frozen=True)
class NormJob:
    """One norm, planned."""

    operator: Operator
    strips: Strips
    order: str
    sources: Mapping[str, Source]
    parameters: Mapping[str, Any]
    resources: Resources
    explanation: Explanation
    driver: str = "norm"

    @property
    def transposed(self) -> bool:
        """Whether the stages read the transpose of the matrix."""
        return self.operator.transposed

    @property
    def stage(self) -> Stage:
        """The pass."""
        bands = self.operator.stage("norms", "norms", 0, target=None, first=True)
        return self.strips.tiled(bands)

    def run(self, execute: Execute) -> Outcome:
        """Run the stage; see `Job.run`."""
        operator, stage = self.operator, self.stage
        acc = execute(stage, operator.small(power=1.0, first=True))
        scale = 1.0
        square = acc["square"]
        if self.order == "fro" and acc["max_row"] > 0 and not 1e-290 < square < math.inf:
            scale = float(acc["max_row"])  # squares over- or underflow: once more, scaled
            stage = replace(stage, name="norms scaled")
            square = execute(stage, operator.small(power=scale, first=True))["square"]
        columns = float(acc["columns"].max()), float(acc["columns"].min())
        rows = float(acc["max_row"]), -float(acc["max_negated_row"])
        if self.transposed:
            columns, rows = rows, columns
        value = {
            "fro": scale * math.sqrt(square), "1": columns[0], "-1": columns[1],
            "inf": rows[0], "-inf": rows[1],
        }[self.order]  # fmt: skip
        error = float(np.finfo(float).eps) * (16 + math.sqrt(_additions(operator)))
        if value:
            error += grain(float, value) / abs(value)
        return Outcome({"value": value}, NormCertificate(converged=True, relative_error=error))


def plan_norm(x: BlockedArray, resources: Resources, *, order: str = "fro") -> NormJob:
    """Plan a norm.

    Parameters
    ----------
    x : BlockedArray of shape (m, n)
        The matrix.
    resources : Resources
        Memory, workers, cores and rates.
    order : {"fro", "1", "-1", "inf", "-inf"}
        Frobenius norm, largest and smallest column sum, largest and smallest row sum.

    Returns
    -------
    NormJob
        The plan.

    Raises
    ------
    ShapeError, OptionError, MemoryBudgetError
        If the question makes no sense, or does not fit.
    """
    if x.ndim != 2 or 0 in x.shape:
        message = f"norm needs a matrix that is not empty; {x.name} has shape {x.shape}"
        raise ShapeError(message)
    if order not in ("fro", "1", "-1", "inf", "-inf"):
        raise OptionError(f"ord is 'fro', 1, -1, inf, -inf, 2, -2 or 'nuc'; found {order!r}")
    transposed, source, strips = _cut(x, resources)
    operator = Operator(
        source, transposed, Conditioning(), strips.layout, resources, x.grid, x.name
    )
    bands = operator.stage("norms", "norms", 0, target=None, first=True)
    explanation = explain(
        "norm", [f"{x.name} {x.shape} {x.dtype}"], [strips.tiled(bands)], resources,
        method="sums of squares and of sizes, in double precision", why="one pass",
    )  # fmt: skip
    parameters = {"driver": "norm", "order": order}
    return NormJob(operator, strips, order, {"x": source}, parameters, resources, explanation)


def _cut(x: BlockedArray, resources: Resources) -> tuple[bool, Source, Strips]:
    """Cut the matrix, or its transpose if storage units are such that more lanes have work then.

    The shorter side is that of the sums which each lane keeps.
    """
    tall = x.shape[0] < x.shape[1]
    ways = [(turned, x.T.source if turned else x.source) for turned in (tall, not tall)]
    cuts = [(*way, choose_strips(way[1], resources)) for way in ways]
    fitting = [(turned, source, strips) for turned, source, strips in cuts if strips is not None]
    if not fitting:
        raise refuse_strips([source for _, source in ways], resources, what=f"norm of {x.name}")
    best = max(strips.busy_lanes for *_, strips in fitting)
    return next(cut for cut in fitting if cut[2].busy_lanes >= _ENOUGH * best)


def _additions(operator: Operator) -> float:
    """Count additions one after another, about, of the sum that has most of them.

    Kernels sum up to 4096 rows, or 2^17 numbers, at once; the rounding of N additions of numbers
    that are not negative is about sqrt(N) / 6 eps.
    """
    m, n = operator.source.shape
    return min(m, 4096) + m / 256 + n / 512 + m * n / 2**17
