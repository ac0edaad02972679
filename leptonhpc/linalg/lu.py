"""LU factorisation P A = L U by panels, with partial pivoting down whole columns.

A panel holds all rows of its columns, so that pivots are the largest of the column, as in LAPACK:
there is no need for tournaments, which choose less well. Rows of the panels before are exchanged
at the end, in one pass over L.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from leptonhpc.blocks import BlockedArray, Source
from leptonhpc.blocks.triangles import TriangleView
from leptonhpc.errors import ShapeError
from leptonhpc.linalg.certificates import FactorCertificate
from leptonhpc.linalg.cholesky import reason
from leptonhpc.linalg.jobs import Execute, Outcome
from leptonhpc.linalg.panels import Panels, choose_panels, panel_stage
from leptonhpc.linalg.rechunk import in_squares
from leptonhpc.planning import (
    Explanation,
    Read,
    Resources,
    Stage,
    Step,
    Target,
    Task,
    rounding,
    seconds,
)
from leptonhpc.planning.costs import LIBRARIES_NBYTES
from leptonhpc.planning.explain import explain
from leptonhpc.planning.layout import compute_dtype
from leptonhpc.planning.tasks import StepList

PACKED = "packed"
"""Scratch array that holds L below U, each panel's rows in the order of its own exchanges."""


@dataclass(frozen=True)
class LuJob:
    """One LU factorisation, planned."""

    before: tuple[Stage, ...]
    stage: Stage
    panels: Panels
    after: tuple[Stage, ...]
    sources: Mapping[str, Source]
    parameters: Mapping[str, Any]
    resources: Resources
    explanation: Explanation
    small: Mapping[str, Any]
    driver: str = "lu"

    def run(self, execute: Execute) -> Outcome:
        """Run the stages; see `Job.run`."""
        for stage in self.before:
            execute(stage, {})
        acc = execute(self.stage, self.small)
        m = self.panels.shape[0]
        for stage, part in zip(self.after, ("lower", "upper"), strict=True):
            execute(stage, {**self.small, "part": part, "pivots": acc["pivots"]})
        fields = {
            "perm": permutation(acc["pivots"], m), "l": "l", "u": "u", "diagonal": acc["diagonal"],
        }  # fmt: skip
        return Outcome(fields, lu_certificate(acc, self.small))


def lu_certificate(acc: Mapping[str, Any], small: Mapping[str, Any]) -> FactorCertificate:
    """Judge the factors by what their panels found.

    Parameters
    ----------
    acc : mapping
        The summed accumulator of the factorisation.
    small : mapping
        What its stage was run with.

    Returns
    -------
    FactorCertificate
        Backward error and growth.
    """
    norm, probes = float(acc["hypot_norm"]), acc["left"].shape[1]
    error = float(acc["hypot_defect"]) / (norm or 1.0) / probes**0.5
    # |A - L U| <= n eps |L||U| (Higham 2002, Theorem 9.3): as small as for a stable method unless
    # the pivots grew; y^H A sums the rows, which rounds like a random walk
    terms = max(small["columns"], small["rows"] ** 0.5, 2)
    bound = 8 * rounding(terms, small["dtype"], small["precision"])
    largest = float(acc["max_entry"])
    growth = float(acc["max_pivoted"]) / largest if largest else 1.0
    return FactorCertificate(
        converged=error <= bound, backward_error=error, bound=bound, norm=norm, growth=growth
    )


def permutation(pivots: np.ndarray[Any, Any], m: int) -> np.ndarray[Any, Any]:
    """Give the rows of A in the order of P A.

    Parameters
    ----------
    pivots : array of int64
        Row i was exchanged with this row, one after the other.
    m : int
        Number of rows.

    Returns
    -------
    array of shape (m,), int64
        Row i of P A is this row of A.
    """
    order = np.arange(m)
    for row, other in enumerate(np.asarray(pivots).tolist()):
        if row != other:
            order[row], order[other] = order[other], order[row]
    return order


def factor_stage(
    x: BlockedArray, resources: Resources, *, seed: int, what: str, dtype: np.dtype[Any]
) -> tuple[list[Stage], Panels, Stage, dict[str, Any]]:
    """Plan the packed factors.

    Parameters
    ----------
    x : BlockedArray of shape (m, n)
        The matrix.
    resources : Resources
        Memory, workers, cores and rates.
    seed : int
        Of the vectors that check the factors.
    what : str
        The driver, for messages.
    dtype : dtype
        Of computing.

    Returns
    -------
    tuple of (list of Stage, Panels, Stage, dict)
        Copies to other chunks, the cut, the factorisation, and the arrays it is run with.
    """
    m, n = x.shape
    before: list[Stage] = []
    a = in_squares(x, "a", before, resources)
    factor, k = (4.0 if dtype.kind == "c" else 1.0), min(m, n)
    panels = choose_panels(
        a.source, resources, dtype, what=what, flops=factor * float(k) ** 2 * (max(m, n) - k / 3)
    )
    target = Target(PACKED, (m, n), dtype.str, (panels.unit, panels.unit), scratch=True)
    stage = panel_stage(
        "factor", panels, resources, dtype, target,
        load=("load", panels.load_steps),
        update=("update_getrf", lambda _, k: panels.sweeps(PACKED, k)),
        factor="getrf", source=a.source,
        flops=lambda rows, width, done: factor * width * (
            (2.0 * rows - done) * min(done, rows) + width * max(0.0, rows - done - width / 3)
        ),
    )  # fmt: skip
    small = {
        "dtype": dtype, "seed": seed, "name": x.name, "driver": what, "columns": n, "rows": m,
        "edges": panels.edges, "precision": resources.precision,
    }  # fmt: skip
    return before, panels, stage, small


def plan_lu(x: BlockedArray, resources: Resources, *, seed: int = 0) -> LuJob:
    """Plan P A = L U.

    Parameters
    ----------
    x : BlockedArray of shape (m, n)
        The matrix.
    resources : Resources
        Memory, workers, cores and rates.
    seed : int
        Of the vectors that check the factors.

    Returns
    -------
    LuJob
        The plan.

    Raises
    ------
    ShapeError
        If x is not a matrix, or empty.
    MemoryBudgetError
        If not even a narrow panel fits.
    """
    require_matrix(x, "lu")
    dtype = compute_dtype(x.dtype)
    before, panels, stage, small = factor_stage(x, resources, seed=seed, what="lu", dtype=dtype)
    k = min(x.shape)
    targets = [
        Target("l", (x.shape[0], k), dtype.str, (panels.unit, panels.unit), triangle="lower"),
        Target("u", (k, x.shape[1]), dtype.str, (panels.unit, panels.unit), triangle="upper"),
    ]
    after = (
        replace(
            unpack_stage("lower", panels, targets[0], resources, PACKED),
            view=TriangleView(PACKED, "lower", panels.edges),
        ),
        replace(
            unpack_stage("upper", panels, targets[1], resources, PACKED),
            view=TriangleView(PACKED, "upper", panels.edges),
        ),
    )
    scratch = [s.target for s in (*before, stage) if s.target is not None]
    explanation = explain(
        "lu", [f"{x.name} {x.shape} {x.dtype}"], [*before, stage, *after], resources,
        method="left-looking panels, partial pivoting, recursive getrf",
        why=reason(panels, bool(before)), targets=[*targets, *scratch],
    )  # fmt: skip
    parameters = {"driver": "lu", "seed": seed, "layout": [panels.edges, panels.unit]}
    return LuJob(
        tuple(before), stage, panels, after, {"a": x.source}, parameters, resources, explanation,
        small,
    )  # fmt: skip


def require_matrix(x: BlockedArray, driver: str) -> None:
    """Refuse what is not a matrix.

    Parameters
    ----------
    x : BlockedArray
        The array.
    driver : str
        Who asks.

    Raises
    ------
    ShapeError
        If it has not two dimensions, or is empty.
    """
    if x.ndim != 2 or 0 in x.shape:
        message = f"{driver} needs a matrix that is not empty; {x.name} has shape {x.shape}"
        raise ShapeError(message)


def unpack_stage(
    part: str, panels: Panels, target: Target, resources: Resources, packed: str
) -> Stage:
    """Plan one triangle of packed factors as an array of its own.

    Parameters
    ----------
    part : {"lower", "upper"}
        Which.
    panels : Panels
        The cut of the packed factors.
    target : Target
        What is written.
    resources : Resources
        Workers, cores and rates.
    packed : str
        Name of the packed factors.

    Returns
    -------
    Stage
        One task per column of chunks.
    """
    k, m = min(panels.shape), panels.shape[0]
    itemsize, most = np.dtype(target.dtype).itemsize, m if part == "lower" else k
    # nothing but numbers that move: in narrow pieces, as many at once as cores and memory allow
    unit = min(panels.unit, panels.shape[1])
    own = itemsize * (most * (unit + 2 * min(panels.sweep, unit)) + 8 * unit**2)
    lanes = max(1, min(resources.threads, resources.arrays_nbytes // own))
    tasks: list[Task] = []
    previous: dict[int, str] = {}
    last = k if part == "lower" else panels.shape[1]
    for c0 in range(0, last, panels.unit):
        c1 = min(c0 + panels.unit, last)
        rows = (c0, m) if part == "lower" else (0, min(c1, k))
        lane, key = len(tasks) % (lanes * resources.workers), f"{part}-{c0}"
        nbytes = (rows[1] - rows[0]) * (c1 - c0) * itemsize
        steps = StepList(tuple(_columns(packed, rows, (c0, c1), panels.sweep)))
        tasks.append(
            Task(
                key, "unpack", steps, lane, previous.get(lane), (rows, (c0, c1)),
                read_nbytes=nbytes, write_nbytes=nbytes,
            )
        )  # fmt: skip
        previous[lane] = key
    nbytes = sum(t.write_nbytes for t in tasks)
    predicted = seconds(
        "copy", target.dtype, flops=0, read_nbytes=nbytes, write_nbytes=nbytes, resources=resources
    )
    return Stage(
        part, tuple(tasks), lanes * resources.workers, lanes,
        max(1, resources.threads // lanes), target, chained=False,
        peak_nbytes=LIBRARIES_NBYTES + lanes * own, seconds=predicted,
    )  # fmt: skip


def _columns(
    packed: str, rows: tuple[int, int], columns: tuple[int, int], width: int
) -> Iterator[Step]:
    for s in range(columns[0], columns[1], width):
        span = (s, min(s + width, columns[1]))
        at = ((0, rows[1] - rows[0]), (s - columns[0], span[1] - columns[0]))
        yield Step((Read(packed, (rows, span)),), at)
