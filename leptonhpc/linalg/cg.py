"""Planning conjugate gradients for (A + shift I) X = B; see `cg_iteration`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from leptonhpc.blocks import BlockedArray, Source
from leptonhpc.errors import OptionError, ShapeError
from leptonhpc.linalg.cg_iteration import PROBES, CgIteration
from leptonhpc.linalg.cholesky import require_square
from leptonhpc.linalg.iterations import (
    Bands,
    Options,
    Passes,
    check_sides,
    choose_sizes,
    gather_stage,
    plan_bands,
)
from leptonhpc.linalg.jobs import Execute, Outcome
from leptonhpc.planning import Explanation, Resources
from leptonhpc.planning.explain import explain
from leptonhpc.planning.layout import compute_dtype


@dataclass(frozen=True)
class CgJob:
    """One solution by conjugate gradients, planned."""

    bands: Bands
    shift: float
    options: Options
    tol: float
    rank: int
    kept: int
    """Vectors of each side to which later ones are made orthogonal."""
    shape: tuple[int, ...]
    """Of b."""
    dtype: np.dtype[Any]
    """Of x."""
    names: Mapping[str, str]
    sources: Mapping[str, Source]
    parameters: Mapping[str, Any]
    resources: Resources
    explanation: Explanation
    driver: str = "cg"

    def run(self, execute: Execute) -> Outcome:
        """Iterate until all residuals are small, or no pass is left; see `Job.run`."""
        return CgIteration(self, Passes(self.bands, execute)).run()


def plan_cg(
    a: BlockedArray, b: BlockedArray, resources: Resources, options: Options, *,
    shift: float = 0.0, x0: BlockedArray | None = None,
) -> CgJob:  # fmt: skip
    """Plan the solution of (A + shift I) X = B.

    Parameters
    ----------
    a : BlockedArray of shape (n, n)
        Hermitian; A + shift I positive definite.
    b : BlockedArray of shape (n,) or (n, k)
        Right-hand sides.
    resources : Resources
        Memory, workers, cores and rates.
    options : Options
        Tolerance, rank, passes and seed.
    shift : float
        What is added to the diagonal.
    x0 : BlockedArray, optional
        First guess, of the shape of b.

    Returns
    -------
    CgJob
        The plan.

    Raises
    ------
    ShapeError, OptionError, MemoryBudgetError
        If the question makes no sense, or does not fit.
    """
    n = require_square(a, "cg")
    k = check_sides(a, b, "cg", length=n, what="right-hand sides")
    if x0 is not None and x0.shape != b.shape:
        raise ShapeError(f"cg: x0 has the shape of b, {b.shape}; found {x0.shape}")
    if not math.isfinite(shift):
        raise OptionError(f"cg: shift is a finite number; found {shift}")
    options.check(n, "cg")
    arrays = {"a": a, "b": b, **({} if x0 is None else {"x0": x0})}
    dtype = compute_dtype(*(x.dtype for x in arrays.values()))
    tol = options.tolerance(dtype, "cg")
    width = k * (2 if dtype.kind == "c" and a.dtype.kind != "c" else 1)

    def build(rank: int, kept: int) -> Bands:
        return plan_bands(
            a, resources, kernel="apply_bands", short=0, driver="cg",
            long=(14 + kept) * width + 9 * rank + 4 * PROBES,
        )  # fmt: skip

    rank, kept, bands = choose_sizes(options, n, build)
    first = [gather_stage(arrays[name].source, name, f"gather {name}") for name in arrays][1:]
    stages = [*first, *bands.stages(width, rank + PROBES, options.most_passes)]
    resident = bands.layout.resident_nbytes
    explanation = explain(
        "cg", [f"{x.name} {x.shape} {x.dtype}" for x in arrays.values()], stages, resources,
        method="conjugate gradients" + (f", Nystroem preconditioner, rank {rank}" if rank else ""),
        why="one reading of A an iteration; how many there are depends on its spectrum",
        resident_nbytes=resident,
    )  # fmt: skip
    parameters = {
        "driver": "cg", "shift": shift, "tol": tol, "rank": options.rank,
        "most_passes": options.most_passes, "seed": options.seed,
        "layout": [bands.layout.height, rank, kept],
    }  # fmt: skip
    sources = {"x": bands.source, **{name: arrays[name].source for name in arrays if name != "a"}}
    return CgJob(
        bands, shift, options, tol, rank, kept, b.shape, dtype,
        {name: x.name for name, x in arrays.items()}, sources, parameters, resources, explanation,
    )  # fmt: skip
