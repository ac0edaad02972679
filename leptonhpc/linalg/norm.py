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
from leptonhpc.planning import Explanation, Resources, choose_bands
from leptonhpc.planning.explain import explain


@dataclass(frozen=True)
class NormJob:
    """One norm, planned."""

    operator: Operator
    order: str
    sources: Mapping[str, Source]
    parameters: Mapping[str, Any]
    resources: Resources
    explanation: Explanation
    driver: str = "norm"

    def run(self, execute: Execute) -> Outcome:
        """Run the stage; see `Job.run`."""
        operator = self.operator
        stage = operator.stage("norms", "norms", 0, target=None, first=True)
        acc = execute(stage, operator.small(power=1.0, first=True))
        scale = 1.0
        square = acc["square"]
        if self.order == "fro" and acc["max_row"] > 0 and not 1e-290 < square < math.inf:
            scale = float(acc["max_row"])  # squares over- or underflow: once more, scaled
            stage = replace(stage, name="norms scaled")
            square = execute(stage, operator.small(power=scale, first=True))["square"]
        columns = float(acc["columns"].max()), float(acc["columns"].min())
        rows = float(acc["max_row"]), -float(acc["max_negated_row"])
        if operator.transposed:
            columns, rows = rows, columns
        value = {
            "fro": scale * math.sqrt(square), "1": columns[0], "-1": columns[1],
            "inf": rows[0], "-inf": rows[1],
        }[self.order]  # fmt: skip
        # sums of n terms, pairwise within a tile of 1024 rows
        error = float(np.finfo(float).eps) * (16 + math.sqrt(operator.layout.bands))
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
        raise OptionError(f"ord is 'fro', 1, -1, inf, -inf, 2 or 'nuc'; found {order!r}")
    transposed = x.shape[0] < x.shape[1]
    source = x.T.source if transposed else x.source
    n = source.shape[1]
    layout = choose_bands(
        source,
        resources,
        lambda height: 5 * min(height, 1024) * n * 16 + n * 8,
        passes=1,
        what="norm",
    )
    operator = Operator(source, transposed, Conditioning(), layout, resources, x.grid, x.name)
    stage = operator.stage("norms", "norms", 0, target=None, first=True)
    explanation = explain(
        "norm", [f"{x.name} {x.shape} {x.dtype}"], [stage], resources,
        method="sums of squares and of sizes, in double precision", why="one pass",
    )  # fmt: skip
    parameters = {"driver": "norm", "order": order}
    return NormJob(operator, order, {"x": source}, parameters, resources, explanation)
