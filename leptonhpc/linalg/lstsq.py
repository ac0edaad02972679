"""Least squares, rank-revealing: one pass for a triangle, an SVD of it, one pass to check.

A tall matrix is factored with its right-hand sides, [A | B] = Q R, keeping R only; that holds Q^H B
and the norms of what no X explains. A wide one is factored transposed, A^H = Q R, and X = A^H Z
with Z from the singular values of R: the seminormal equations, refined until they are backward
stable [1]_. Singular values below rcond are dropped, so that X has minimum norm. Where no worker
holds the triangle, see `lstsq_tiled`.

References
----------
.. [1] J. Demmel, N. J. Higham, Improved error bounds for underdetermined system solvers, SIAM J.
   Matrix Anal. Appl. 14, 1993, section 3; A. Bjorck, Numerical Methods for Least Squares Problems,
   SIAM, 1996, sections 2.9.3 and 6.6.5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.blocks import BlockedArray, Source
from leptonhpc.blocks.sources import ReshapedSource
from leptonhpc.errors import MemoryBudgetError, OptionError, ShapeError
from leptonhpc.linalg.bands import BandPasses, streamable
from leptonhpc.linalg.jobs import Counter, Execute, Outcome
from leptonhpc.linalg.lstsq_certificate import judged
from leptonhpc.linalg.lstsq_tiled import TiledLstsq, plan_lstsq_tiled
from leptonhpc.linalg.svd_small import NUMBERS, small_svd_stage
from leptonhpc.planning import (
    BandLayout,
    Explanation,
    Read,
    Resources,
    Stage,
    Step,
    Target,
    Task,
    choose_bands,
)
from leptonhpc.planning.costs import LIBRARIES_NBYTES
from leptonhpc.planning.explain import explain
from leptonhpc.planning.layout import compute_dtype
from leptonhpc.planning.tasks import StepList

_HELD_NBYTES = 1 << 26
"""Solutions of several right-hand sides come back whole up to this size."""
_MOST_REFINEMENTS = 3
_NOISE = 8
"""Roundings of |A||x| in a residual, computed in double precision, that refinement leaves alone."""


@dataclass(frozen=True)
class LstsqJob:
    """One least-squares problem, planned."""

    before: tuple[Stage, ...]
    stack: Stage
    svd: Stage
    gather: Stage | None
    """Right-hand sides, where the matrix is wide."""
    check: Stage
    shape: tuple[int, int]
    side_shape: tuple[int, ...]
    rcond: float
    held: bool
    small: Mapping[str, Any]
    sources: Mapping[str, Source]
    parameters: Mapping[str, Any]
    resources: Resources
    explanation: Explanation
    driver: str = "lstsq"

    def run(self, execute: Execute) -> Outcome:
        """Run the stages; see `Job.run`."""
        for stage in self.before:
            execute(stage, {})
        stacked = execute(self.stack, self.small).pop("stacked")
        tall = self.shape[0] >= self.shape[1]
        solver = _Tall(self, stacked) if tall else _Wide(self, stacked)
        del stacked  # it is as large as what follows
        solver.factor(execute)
        return solver.outcome(execute)


class _Solver:
    """The small problem: singular values of the triangle, scaled so that squares stay in range."""

    def __init__(self, job: LstsqJob, stacked: NDArray[Any]) -> None:
        self.job, n = job, min(job.shape)
        self.sides = stacked[:, n:].copy()
        self.triangle: NDArray[Any] | None = stacked[:n, :n]
        self.scale = _power(self.triangle)

    def factor(self, execute: Execute) -> None:
        """Find singular values and vectors of the triangle, which is dropped."""
        job, left = self.job, isinstance(self, _Tall)
        assert self.triangle is not None
        small = {**job.small, "matrix": self.triangle * self.scale, "left": left}
        self.triangle = None
        acc = execute(job.svd, small)
        self.u, self.s, self.vh = acc.get("u"), acc["s"], acc["vh"]
        top = float(self.s[0])
        self.rank = int(np.count_nonzero(self.s > job.rcond * top)) if top > 0 else 0
        self.norm = float(np.linalg.norm(self.s))

    def certified(
        self, x: Any, sizes: NDArray[Any], normal: NDArray[Any], left: NDArray[Any],
        sides: NDArray[Any], side_scale: float, refinements: int = 0,
    ) -> Outcome:  # fmt: skip
        """Judge X by norms of its columns, of A^H R, of R and of B, all in the scaled units."""
        job, kept = self.job, self.s[: self.rank]
        certificate, residuals = judged(
            job.shape, job.small["dtype"], sizes=sizes, normal=normal, left=left, sides=sides,
            norm=self.norm, rank=self.rank, rcond=job.rcond,
            condition=float(kept[0] / kept[-1]) if self.rank else 1.0, refinements=refinements,
            units=(self.scale, side_scale),
        )  # fmt: skip
        real = residuals.dtype
        s = (self.s / self.scale).astype(real)
        return Outcome({"x": x, "residuals": residuals, "s": s}, certificate)


class _Tall(_Solver):
    """[A | B] = Q R: X = R_11^+ R_12, and |R_22| is what is left."""

    def outcome(self, execute: Execute) -> Outcome:
        """Solve, and check by one more pass."""
        job, n, r = self.job, self.job.shape[1], self.rank
        side_scale = _power(self.sides)
        assert self.u is not None
        projected = self.u[:, :r].conj().T @ (self.sides[:n] * side_scale)
        # scaled: (scale A) (x side_scale / scale) = side_scale b
        scaled = self.vh[:r].conj().T @ (projected / self.s[:r, None])
        x = (scaled * self.scale * (1 / side_scale)).astype(job.small["dtype"])
        scaled = x.astype(job.small["wide"]) * side_scale * (1 / self.scale)
        small = {**job.small, "x": scaled, "scales": (self.scale, side_scale)}
        acc = execute(job.check, small)
        return self.certified(
            x.reshape(n, *job.side_shape[1:]), np.linalg.norm(scaled, axis=0),
            np.linalg.norm(acc["normal"], axis=0), np.sqrt(acc["squares"]),
            np.linalg.norm(self.sides * side_scale, axis=0), side_scale,
        )  # fmt: skip


class _Wide(_Solver):
    """A^H = Q R, R = U S V^H: X = A^H Z with Z = V S^-2 V^H B."""

    def outcome(self, execute: Execute) -> Outcome:
        """Solve, refine, and check by one more pass."""
        job, counter = self.job, Counter()
        assert job.gather is not None
        shape = (job.shape[0], int(np.prod(job.side_shape[1:])))
        sides = execute(job.gather, {**job.small, "shape": shape})["whole"]
        side_scale = _power(sides)
        sides *= side_scale
        parts: list[NDArray[Any]] = []

        def passed(left: NDArray[Any], *, check: bool) -> dict[str, Any]:
            stage = replace(job.check, name=counter.next("check" if check else "solve"))
            stage = replace(stage, target=None) if check else stage
            small = {
                **job.small, "parts": [] if check else parts, "left": left,
                "scales": (self.scale, side_scale), "held": job.held and not check,
                "write": not (job.held or check),
            }  # fmt: skip
            return execute(stage, small)

        left, best, sizes = sides, np.inf, np.zeros(shape[1])
        while True:
            parts.append(self._dual(left, sizes))
            acc = passed(np.zeros_like(left), check=False)
            left, sizes = sides - acc["product"], np.sqrt(acc["squares"])
            now = self._departure(left, sizes)
            done = now <= 4 * float(np.finfo(job.small["dtype"]).eps) or now > 0.5 * best
            if done or len(parts) > _MOST_REFINEMENTS:
                break
            best = now
        normal = np.sqrt(passed(left, check=True)["normal_squares"])
        x: Any = "x"
        if job.held:
            x = acc["solution"].reshape(job.shape[1], *job.side_shape[1:])
        return self.certified(
            x, sizes, normal, np.linalg.norm(left, axis=0), np.linalg.norm(sides, axis=0),
            side_scale, len(parts) - 1,
        )  # fmt: skip

    def _dual(self, left: NDArray[Any], sizes: NDArray[Any]) -> NDArray[Any]:
        """Give V S^-2 V^H r, but for what in r is rounding of A x.

        Divided by small s^2 it would come back, in all of X, as (eps |A| / s)^2.
        """
        v, s = self.vh[: self.rank].conj().T, self.s[: self.rank, None]
        inner = v.conj().T @ left
        noise = _NOISE * np.finfo(float).eps * self.norm * sizes
        inner[np.abs(inner) <= noise] = 0
        z: NDArray[Any] = v @ (inner / s / s)
        return z

    def _departure(self, left: NDArray[Any], sizes: NDArray[Any]) -> float:
        """Give |A^H r| / (|A| (|r| + |A||x|)), by the triangle."""
        v, s = self.vh[: self.rank].conj().T, self.s[: self.rank, None]
        normal = np.linalg.norm(s * (v.conj().T @ left), axis=0)
        total = self.norm * (np.linalg.norm(left, axis=0) + self.norm * sizes)
        return float(np.max(normal / np.where(total > 0, total, 1)))


def _power(a: NDArray[Any]) -> float:
    """Give the power of two that brings the largest number near one."""
    largest = float(np.max(np.abs(a), initial=0.0))
    exponent = -round(np.log2(largest)) if largest > 0 else 0
    # numbers near one stay as they are; the power itself is a normal number
    return 1.0 if abs(exponent) < 100 else float(2.0 ** max(-1000, min(1000, exponent)))


def plan_lstsq(
    a: BlockedArray, b: BlockedArray, resources: Resources, *, rcond: float | None = None
) -> LstsqJob | TiledLstsq:
    """Plan min |B - A X| with X of minimum norm.

    Parameters
    ----------
    a : BlockedArray of shape (m, n)
        The matrix; its longer side is streamed.
    b : BlockedArray of shape (m,) or (m, k)
        Right-hand sides.
    resources : Resources
        Memory, workers, cores and rates.
    rcond : float, optional
        Singular values up to rcond times the largest count as zero; default eps max(m, n).

    Returns
    -------
    LstsqJob or TiledLstsq
        The plan; the second where a triangle of the short side does not fit.

    Raises
    ------
    ShapeError, OptionError
        If the question makes no sense.
    MemoryBudgetError
        If no plan fits; the message names the smallest budget.
    """
    _check(a, b, rcond)
    try:
        return _plan_stacked(a, b, resources, rcond)
    except MemoryBudgetError as error:
        sides = _sides(b)
        wide = np.result_type(compute_dtype(a.dtype, b.dtype), np.float64)
        try:
            return plan_lstsq_tiled(a, b, sides, _gather_stage(sides, wide), resources, rcond=rcond)
        except MemoryBudgetError:  # what takes less memory is more than there is
            raise error from None


def _sides(b: BlockedArray) -> Source:
    return b.source if b.ndim == 2 else ReshapedSource(b.source)


def _plan_stacked(
    a: BlockedArray, b: BlockedArray, resources: Resources, rcond: float | None
) -> LstsqJob:
    (m, n), dtype = a.shape, compute_dtype(a.dtype, b.dtype)
    k = 1 if b.ndim == 1 else b.shape[1]
    if rcond is None:
        rcond = float(np.finfo(dtype).eps) * max(m, n)
    is_tall, wide = m >= n, np.result_type(dtype, np.float64)
    columns = a if is_tall else a.H
    sides = _sides(b)
    held = is_tall or b.ndim == 1 or n * k * dtype.itemsize <= _HELD_NBYTES
    short, gather, target = min(m, n), None, None
    total = short + k * is_tall
    tile = max(512, 2 * total, (1 << 19) // total)
    layout, operand, before = streamable(
        columns.source, "a" if is_tall else "rows", resources,
        lambda source: _layout(source, sides, resources, wide, tile, held=held),
    )  # fmt: skip
    flops = (4.0 if dtype.kind == "c" else 1.0) * 2
    bands = BandPasses(layout, resources, ((operand, short), *([("b", k)] if is_tall else [])))
    stack = bands.stage("stack", "stack", 2 * flops * total**2, first=True)
    svd = small_svd_stage(short, layout, resources, wide)
    if is_tall:
        check = bands.stage("check", "residual", 2 * flops * n * k)
    else:
        gather = _gather_stage(sides, wide)
        target = None if held else Target("x", (n, k), dtype.str, (layout.height, min(k, 1024)))
        check = bands.stage("solve", "shortest", 3 * flops * m * k, target=target)
    small = {
        "dtype": dtype, "wide": wide, "columns": short, "sides": k * is_tall, "tile": tile,
        "rows": max(m, n), "names": (a.name, b.name)[: 1 + is_tall], "name": b.name,
        "transposed": not is_tall, "vector": b.ndim == 1,
    }  # fmt: skip
    repeats = () if is_tall else (replace(check, name="check", target=None),)
    stages = [*before, stack, svd, *([gather] if gather else []), check, *repeats]
    explanation = explain(
        "lstsq", [f"{x.name} {x.shape} {x.dtype}" for x in (a, b)], stages, resources,
        method="QR of [A | B] in one pass (TSQR), SVD of its triangle" if is_tall
        else "QR of A^H in one pass (TSQR), SVD of its triangle, X = A^H Z refined",
        why=f"singular values up to {rcond:.2g} of the largest count as zero",
        targets=[s.target for s in stages if s.target is not None],
        resident_nbytes=layout.resident_nbytes,
    )  # fmt: skip
    parameters = {"driver": "lstsq", "rcond": rcond, "layout": [layout.height, layout.lanes]}
    return LstsqJob(
        before, stack, svd, gather, check, (m, n), b.shape, rcond, held, small,
        {"a" if is_tall else "rows": columns.source, "b": sides}, parameters, resources,
        explanation,
    )  # fmt: skip


def _layout(
    source: Source, sides: Source, resources: Resources, wide: np.dtype[Any], tile: int, *,
    held: bool,
) -> BandLayout:  # fmt: skip
    """Choose bands so that all lanes' triangles, and what is stacked on them, fit."""
    (m, n), k, item = source.shape, sides.shape[1], wide.itemsize
    is_tall = sides.shape[0] == m
    total = n + k * is_tall
    unit = min(sides.unit[0], sides.shape[0]) * min(sides.unit[1], k)

    here = 2 * unit if is_tall else n * k + (m * k if held else 0)

    def stacked(height: int) -> int:
        # the triangle, what is stacked below it, and another one that it is joined with
        stack = (total + min(height, tile)) * (total + 512) + 2 * total**2
        return int(item * (stack + height * k * is_tall + here))

    def streamed(height: int) -> int:
        tiles = 2 * min(height, tile) * (n + 3 * k) + height * 3 * k
        return int(item * (tiles + height * k * is_tall + here + 2 * n * k))

    order = NUMBERS * n**2 + k * is_tall * total + 8 * n * k
    fixed = item * (order + (0 if is_tall or not held else 2 * m * k))
    return choose_bands(
        source, resources, streamed, fixed_nbytes=fixed, other=stacked, passes=2, what="lstsq"
    )


def _gather_stage(sides: Source, wide: np.dtype[Any]) -> Stage:
    """Plan the reading of all right-hand sides."""
    m, k = sides.shape
    height = max(1, min(sides.unit[0], m), (1 << 20) // max(1, k))
    steps = []
    for low in range(0, m, height):
        at = ((low, min(low + height, m)), (0, k))
        steps.append(Step((Read("b", at),), at))
    nbytes = m * k * sides.dtype.itemsize
    task = Task("gather", "gather", StepList(tuple(steps)), 0, read_nbytes=nbytes)
    peak = LIBRARIES_NBYTES + m * k * wide.itemsize + 3 * nbytes
    return Stage("gather", (task,), 1, 1, 1, passes=0.0, peak_nbytes=peak)


def _check(a: BlockedArray, b: BlockedArray, rcond: float | None) -> None:
    if a.ndim != 2 or 0 in a.shape:
        message = f"lstsq needs a matrix that is not empty; {a.name} has shape {a.shape}"
        raise ShapeError(message)
    if b.ndim not in (1, 2) or b.shape[0] != a.shape[0] or 0 in b.shape:
        message = (
            f"lstsq needs right-hand sides of length {a.shape[0]}, as {a.name} has shape "
            f"{a.shape}; {b.name} has shape {b.shape}"
        )
        raise ShapeError(message)
    if rcond is not None and not 0 <= rcond < 1:
        raise OptionError(f"rcond is at least 0 and less than 1; found {rcond}")
