"""LSMR for min |A x - b|^2 + damp^2 |x|^2: one reading of A an iteration.

A step of the Golub-Kahan bidiagonalisation needs K v and then K^H u, u made from K v:

    u~ = K v_k - alpha_k u_k,   beta_{k+1} = |u~|,   u_{k+1} = u~ / beta_{k+1},
    v~ = K^H u_{k+1} - beta_{k+1} v_k,   alpha_{k+1} = |v~|,   v_{k+1} = v~ / alpha_{k+1}.

Rows of u~ need only the same rows of K, so a band gives its part of u~ and then, while it is in
memory, its part of g = K^H u~. The norm is a scalar that is known after the pass: K^H u_{k+1} =
g / beta_{k+1}. One reading does it, with the very numbers of two. This is for tall A. Where A is
wide, the bands are those of B = A^H; the recurrences are read from the other side, by the identical
pass: v~ = K^H u_k - beta_k v_{k-1} comes by bands, and K v~ is gathered,

    alpha_k = |v~|,   v_k = v~ / alpha_k,   u~ = K v~ / alpha_k - alpha_k u_k.

With T = A (tall) or A^H (wide), always tall, what is iterated on is K = [T; damp I] P^-1/2 where
P is the Nystroem approximation of T^H T + damp^2 I from Y = T^H (T Q), one pass (for tall A it is
the pass that gives A^H b, too). Tall: min |K y - [b; 0]|, x = P^-1/2 y. Wide: the solution x is the
first part of the shortest y with [A, damp I] y = b (its second part is r / damp), which does not
change if both sides are multiplied by P^-1/2. U lies in the range of T^H: so neither does the
solution of smallest norm, damp = 0, nor, for wide A, the smallest residual. Directions of U that
rounding, eps times the largest eigenvalue by theirs, would turn out of that range are left out.
Vectors of the short side are kept orthogonal as far as memory allows: it saves passes.

The last pass (two, where A is wide) computes r = b - A x and A^H r. If these are larger than the
recurrences say, the iteration begins again from r.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from leptonhpc.blocks import BlockedArray, Source
from leptonhpc.errors import OptionError
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
from leptonhpc.linalg.lsmr_shapes import Tall, Wide
from leptonhpc.planning import Explanation, Resources
from leptonhpc.planning.explain import explain
from leptonhpc.planning.layout import compute_dtype


@dataclass(frozen=True)
class LsmrJob:
    """One least-squares solution by LSMR, planned."""

    bands: Bands
    damp: float
    options: Options
    tol: float
    rank: int
    kept: int
    """Short vectors of each side to which later ones are made orthogonal."""
    shape: tuple[int, ...]
    """Of x."""
    dtype: np.dtype[Any]
    """Of x."""
    names: Mapping[str, str]
    sources: Mapping[str, Source]
    parameters: Mapping[str, Any]
    resources: Resources
    explanation: Explanation
    driver: str = "lsmr"

    def run(self, execute: Execute) -> Outcome:
        """Iterate until all are solved, or no pass is left; see `Job.run`."""
        kind = Wide if self.bands.transposed else Tall
        return kind(self, Passes(self.bands, execute)).run()


def plan_lsmr(
    a: BlockedArray, b: BlockedArray, resources: Resources, options: Options, *, damp: float = 0.0
) -> LsmrJob:
    """Plan min |A X - B|^2 + damp^2 |X|^2.

    Parameters
    ----------
    a : BlockedArray of shape (m, n)
        The matrix, tall or wide.
    b : BlockedArray of shape (m,) or (m, k)
        Right-hand sides.
    resources : Resources
        Memory, workers, cores and rates.
    options : Options
        Tolerance, rank, passes and seed.
    damp : float
        Weight of |x|, at least 0.

    Returns
    -------
    LsmrJob
        The plan.

    Raises
    ------
    ShapeError, OptionError, MemoryBudgetError
        If the question makes no sense, or does not fit.
    """
    rows = a.shape[0] if a.ndim else 0
    k = check_sides(a, b, "lsmr", length=rows, what="right-hand sides")
    if not (math.isfinite(damp) and damp >= 0):
        raise OptionError(f"lsmr: damp is a finite number, at least 0; found {damp}")
    order = min(a.shape)
    options.check(order, "lsmr")
    dtype = compute_dtype(a.dtype, b.dtype)
    tol = options.tolerance(dtype, "lsmr")
    width = k * (2 if dtype.kind == "c" and a.dtype.kind != "c" else 1)
    sums = 2 * resources.threads + 2

    def build(rank: int, kept: int) -> Bands:
        return plan_bands(
            a, resources, kernel="normal_bands", long=12 * width,
            short=(14 + sums + kept) * width + (9 + sums) * rank, driver="lsmr",
        )  # fmt: skip

    rank, kept, bands = choose_sizes(options, order, build)
    first = gather_stage(b.source, "b", "gather b")
    stages = [first, *bands.stages(width, rank, options.most_passes)]
    explanation = explain(
        "lsmr", [f"{x.name} {x.shape} {x.dtype}" for x in (a, b)], stages, resources,
        method="LSMR" + (f", Nystroem preconditioner of rank {rank}" if rank else ""),
        why="one reading of A an iteration, by bands of "
        f"{'columns' if bands.transposed else 'rows'}; how many depends on its spectrum",
        resident_nbytes=bands.layout.resident_nbytes,
    )  # fmt: skip
    parameters = {
        "driver": "lsmr", "damp": damp, "tol": tol, "rank": options.rank,
        "most_passes": options.most_passes, "seed": options.seed,
        "layout": [bands.layout.height, rank, kept],
    }  # fmt: skip
    shape = (a.shape[1], *b.shape[1:])
    return LsmrJob(
        bands, damp, options, tol, rank, kept, shape, dtype, {"a": a.name, "b": b.name},
        {"x": bands.source, "b": b.source}, parameters, resources, explanation,
    )  # fmt: skip
