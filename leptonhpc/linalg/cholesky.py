"""Cholesky factorisation A = L L^H by panels; A may be far larger than memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from leptonhpc.blocks import BlockedArray, Source
from leptonhpc.errors import ShapeError
from leptonhpc.linalg.certificates import FactorCertificate
from leptonhpc.linalg.jobs import Execute, Outcome
from leptonhpc.linalg.panels import Panels, choose_panels, panel_stage
from leptonhpc.linalg.rechunk import in_squares
from leptonhpc.linalg.sizes import length
from leptonhpc.planning import Explanation, Resources, Stage, Target, rounding
from leptonhpc.planning.explain import explain
from leptonhpc.planning.layout import compute_dtype


@dataclass(frozen=True)
class CholeskyJob:
    """One Cholesky factorisation, planned."""

    before: tuple[Stage, ...]
    stage: Stage
    sources: Mapping[str, Source]
    parameters: Mapping[str, Any]
    resources: Resources
    explanation: Explanation
    small: Mapping[str, Any]
    driver: str = "cholesky"

    def run(self, execute: Execute) -> Outcome:
        """Run the stage; see `Job.run`."""
        for stage in self.before:
            execute(stage, {})
        acc = execute(self.stage, self.small)
        n = self.small["columns"]
        norm = float(acc["hypot_norm"])
        probes = acc["expected"].shape[1]
        error = length(acc["found"] - acc["expected"]) / (norm or 1.0)
        # |A - L L^H| <= (n + 1) eps |L||L^H| (Higham 2002, Theorem 10.3), and the norm of the last
        # is at most trace(A) <= sqrt(n) |A|_F; sums round like random walks, so sqrt(n) for n + 1
        bound = 8 * rounding(max(n, 2), self.small["dtype"], self.resources.precision)
        certificate = FactorCertificate(
            converged=error / probes**0.5 <= bound,
            backward_error=error / probes**0.5,
            bound=bound,
            norm=norm,
        )
        return Outcome({"l": "l", "diagonal": acc["diagonal"]}, certificate)


def plan_cholesky(x: BlockedArray, resources: Resources, *, seed: int = 0) -> CholeskyJob:
    """Plan A = L L^H.

    Parameters
    ----------
    x : BlockedArray of shape (n, n)
        Hermitian positive definite.
    resources : Resources
        Memory, workers, cores and rates.
    seed : int
        Of the vectors that check the factor.

    Returns
    -------
    CholeskyJob
        The plan.

    Raises
    ------
    ShapeError
        If x is not a square matrix.
    MemoryBudgetError
        If not even a narrow panel fits.
    """
    require_square(x, "cholesky")
    dtype = compute_dtype(x.dtype)
    before, panels, stage, small = factor_cholesky(
        x, resources, seed=seed, what="cholesky", dtype=dtype
    )
    explanation = explain(
        "cholesky", [f"{x.name} {x.shape} {x.dtype}"], [*before, stage], resources,
        method="left-looking panels, recursive potrf", why=reason(panels, bool(before)),
        targets=[s.target for s in (*before, stage) if s.target is not None],
    )  # fmt: skip
    parameters = {"driver": "cholesky", "seed": seed, "layout": [panels.edges, panels.unit]}
    return CholeskyJob(
        tuple(before), stage, {"a": x.source}, parameters, resources, explanation, small
    )


def factor_cholesky(
    x: BlockedArray, resources: Resources, *, seed: int, what: str, dtype: np.dtype[Any],
    scratch: bool = False,
) -> tuple[list[Stage], Panels, Stage, dict[str, Any]]:  # fmt: skip
    """Plan the factor as array "l".

    Parameters
    ----------
    x : BlockedArray of shape (n, n)
        The matrix.
    resources : Resources
        Memory, workers, cores and rates.
    seed : int
        Of the vectors that check the factor.
    what : str
        The driver, for messages.
    dtype : dtype
        Of computing.
    scratch : bool
        The factor is removed with the job.

    Returns
    -------
    tuple of (list of Stage, Panels, Stage, dict)
        Copies to other chunks, the cut, the factorisation, and the arrays it is run with.
    """
    n = x.shape[0]
    before: list[Stage] = []
    a = in_squares(x, "a", before, resources)
    factor = 4.0 if dtype.kind == "c" else 1.0
    panels = choose_panels(
        a.source, resources, dtype, what=what, triangular=True, flops=factor * n**3 / 3
    )
    unit = (panels.unit, panels.unit)
    target = Target("l", (n, n), dtype.str, unit, scratch, triangle="lower")
    stage = panel_stage(
        "factor", panels, resources, dtype, target,
        load=("load_hermitian", lambda j: panels.load_steps(j, hermitian=True)),
        update=("update_potrf", lambda j, k: panels.sweeps("l", k, panels.edges[j])),
        factor="potrf", source=a.source,
        flops=lambda rows, width, done: factor * width * (
            (2.0 * rows - width) * done + width**2 / 3 + width * (rows - width)
        ),
    )  # fmt: skip
    small = {
        "dtype": dtype, "seed": seed, "name": x.name, "driver": what, "columns": n,
        "edges": panels.edges,
    }  # fmt: skip
    return before, panels, stage, small


def require_square(x: BlockedArray, driver: str) -> int:
    """Give the order of a square matrix.

    Parameters
    ----------
    x : BlockedArray
        The matrix.
    driver : str
        Who asks.

    Returns
    -------
    int
        Its order.

    Raises
    ------
    ShapeError
        If it is not square, or empty.
    """
    if x.ndim != 2 or x.shape[0] != x.shape[1] or 0 in x.shape:
        hint = "" if x.ndim != 2 or 0 in x.shape else ". For a least-squares problem use lstsq"
        what = "square matrix" + " that is not empty" * (0 in x.shape)
        message = f"{driver} needs a {what}; {x.name} has shape {x.shape}{hint}"
        raise ShapeError(message)
    return int(x.shape[0])


def reason(panels: Panels, copied: bool) -> str:
    """Say how the matrix is cut, and why.

    Parameters
    ----------
    panels : Panels
        The cut.
    copied : bool
        Whether it is copied to other chunks first.

    Returns
    -------
    str
        For `explain`.
    """
    widths = [b - a for a, b in zip(panels.edges, panels.edges[1:], strict=False)]
    text = (
        "one panel: all of it fits in memory"
        if len(widths) == 1
        else f"{len(widths)} panels of up to {max(widths)} columns; each is written once"
    )
    return text + ("; chunks in long strips are copied to squares first" if copied else "")
