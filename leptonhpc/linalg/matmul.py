"""Matrix product of two blocked arrays; see `multiply` for how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from leptonhpc.blocks import BlockedArray, Source
from leptonhpc.blocks.drawing import format_nbytes
from leptonhpc.errors import ShapeError
from leptonhpc.linalg.certificates import ProductCertificate
from leptonhpc.linalg.jobs import Execute, Outcome
from leptonhpc.linalg.multiply import multiply_stage
from leptonhpc.linalg.partition import elements
from leptonhpc.linalg.rechunk import in_squares
from leptonhpc.planning import Explanation, Resources, Stage, rounding
from leptonhpc.planning.explain import explain
from leptonhpc.planning.layout import compute_dtype


@dataclass(frozen=True)
class MatmulJob:
    """One product, planned."""

    before: tuple[Stage, ...]
    """Copies of factors whose chunks are long strips."""
    stage: Stage
    sources: Mapping[str, Source]
    parameters: Mapping[str, Any]
    resources: Resources
    explanation: Explanation
    small: Mapping[str, Any]
    inner: int
    driver: str = "matmul"

    def run(self, execute: Execute) -> Outcome:
        """Run the stage; see `Job.run`."""
        for stage in self.before:
            execute(stage, {})
        acc = execute(self.stage, self.small)
        dtype, precision = self.small["dtype"], self.resources.precision
        # |fl(C) - AB| <= gamma_k |A||B| (Higham 2002, (3.13)); sums round like random walks, so
        # sqrt(k) would do, and k is never reached; four products are compared
        bound = 4 * rounding(max(self.inner, 1), dtype, precision)
        certificate = ProductCertificate(
            converged=acc["max_error"] <= bound,
            largest_error=float(acc["max_error"]),
            bound=bound,
            blocks=len(self.stage.tasks),
            norm=float(acc["hypot_norm"]),
        )
        return Outcome({"product": "product"}, certificate)


def plan_matmul(
    a: BlockedArray, b: BlockedArray, resources: Resources, *, seed: int = 0
) -> MatmulJob:
    """Plan C = A B.

    Parameters
    ----------
    a : BlockedArray of shape (m, k)
        Left factor.
    b : BlockedArray of shape (k, n)
        Right factor. Where A is B's conjugate transpose, half of C is computed.
    resources : Resources
        Memory, workers, cores and rates.
    seed : int
        Of the vectors that check the blocks.

    Returns
    -------
    MatmulJob
        The plan.

    Raises
    ------
    ShapeError
        If the factors are not matrices that can be multiplied.
    MemoryBudgetError
        If not even one chunk of C fits; the message names the smallest budget.
    """
    _check(a, b)
    dtype = compute_dtype(a.dtype, b.dtype)
    symmetric = a.shape == b.shape[::-1] and a.source.identity() == b.H.source.identity()
    sources = {"a": a.source, "b": b.source}
    before: list[Stage] = []
    if not symmetric:
        a, b = (in_squares(x, name, before, resources) for x, name in ((a, "a"), (b, "b")))
    stage = multiply_stage(
        a.source, b.source, resources, dtype, kind="gram" if symmetric else "general"
    )
    assert stage.target is not None
    target, regions = stage.target, [task.at for task in stage.tasks]
    nbytes = b.nbytes if symmetric else a.nbytes + b.nbytes
    explanation = explain(
        "matmul",
        [f"{x.name} {x.shape} {x.dtype}" for x in (a, b)],
        [*before, stage],
        resources,
        method="syrk and gemm, stationary C"
        if symmetric
        else "gemm, stationary C, streamed panels",
        why=f"{len(regions)} block{'s' * (len(regions) > 1)} of C of up to "
        f"{format_nbytes(max(elements(r) for r in regions) * dtype.itemsize)}: "
        f"{stage.read_nbytes / max(1, nbytes):.3g} readings of the inputs"
        + (", half of C mirrored" if symmetric else "")
        + ("; factors in long strips are copied to squares first" if before else ""),
        targets=[target, *(s.target for s in before if s.target is not None)],
    )
    small = {
        "dtype": dtype, "seed": seed, "names": (a.name, b.name), "missing": "raise",
    }  # fmt: skip
    parameters = {"driver": "matmul", "seed": seed, "layout": [regions, target.unit]}
    return MatmulJob(
        tuple(before), stage, sources, parameters, resources, explanation, small, a.shape[1]
    )


def _check(a: BlockedArray, b: BlockedArray) -> None:
    for x in (a, b):
        if x.ndim != 2 or 0 in x.shape:
            message = (
                "matmul needs two matrices, each of two dimensions and not empty; "
                f"{x.name} has shape {x.shape}"
            )
            raise ShapeError(message)
    if a.shape[1] != b.shape[0]:
        message = (
            f"matmul needs inner lengths that agree; {a.name} has shape {a.shape} and {b.name} "
            f"has shape {b.shape}"
        )
        raise ShapeError(message)
