"""Least squares whose matrix has both sides beyond memory.

A tall matrix is factored by panels, A = Q R, both in scratch, and X = R^-1 Q^H B; a wide one as
A^H = Q R, and X = Q R^-H B, which has minimum norm [1]_. That is for full rank, of which random
vectors must leave no doubt (see `tiled_factors`). Else all singular triplets are found by division
(see `svd_divide`), and X = V_r S_r^-1 U_r^H B.

References
----------
.. [1] N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., SIAM, 2002, Theorems
   20.3 and 21.4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.blocks import BlockedArray, Source
from leptonhpc.errors import NumericRangeError
from leptonhpc.linalg.jobs import Execute, Outcome
from leptonhpc.linalg.lstsq_certificate import judged
from leptonhpc.linalg.scratch import ScratchSource
from leptonhpc.linalg.sizes import lengths
from leptonhpc.linalg.svd_divide import DivideSvd, layout_of, plan_divided
from leptonhpc.linalg.svd_shared import SvdOptions
from leptonhpc.linalg.tiled_factors import UNSEEN, Few, TiledQr, plan_tiled_qr, scratch_product
from leptonhpc.planning import Alternative, Explanation, Resources, Stage
from leptonhpc.planning.explain import explain
from leptonhpc.planning.layout import compute_dtype

_DIVIDED = "all singular triplets by spectral divide and conquer"


@dataclass(frozen=True)
class _Solution:
    """X, and what is known of the rank."""

    x: NDArray[Any]
    s: NDArray[Any]
    """All singular values, or none."""
    rank: int
    rcond: float
    condition: float


@dataclass(frozen=True)
class TiledLstsq:
    """One least-squares problem, planned."""

    tiled: TiledQr
    svd: DivideSvd
    """Where the rank is in doubt."""
    gather: Stage
    shape: tuple[int, int]
    side_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    rcond: float
    chosen: bool
    """The user gave it."""
    name: str
    side: str
    sources: Mapping[str, Source]
    parameters: Mapping[str, Any]
    resources: Resources
    explanation: Explanation
    driver: str = "lstsq"

    def run(self, execute: Execute) -> Outcome:
        """Factor, solve, measure; see `Job.run`."""
        few, tiled = Few(execute), self.tiled
        k = int(np.prod(self.side_shape[1:]))
        told = {
            "wide": tiled.wide, "shape": (self.shape[0], k), "name": self.side,
            "vector": len(self.side_shape) == 1,
        }  # fmt: skip
        sides = few(self.gather, told)["whole"]
        qr, inverse = tiled.factored(few)
        norm = qr.norm
        if norm and not 1e-140 < norm < 1e140:
            message = f"lstsq of {self.name} beyond memory squares its norm, {norm:.1e}"
            message += ". Scale the array first"
            raise NumericRangeError(message)
        if not norm:
            none = np.zeros((self.shape[1], k), tiled.wide)
            found = _Solution(none, np.zeros(min(self.shape)), 0, self.rcond, 1.0)
        # s_n is at least 1 / (10 inverse), s_1 at most |A|_F
        elif qr.converged and self.rcond * norm * UNSEEN * inverse < 1:
            x = self._by_qr(few, sides)
            found = _Solution(x, np.zeros(0), min(self.shape), self.rcond, norm * inverse)
        else:
            found = self._by_svd(few, sides)
        return self._judged(few, found, sides, norm)

    def _by_qr(self, few: Few, sides: NDArray[Any]) -> NDArray[Any]:
        tiled, (m, n) = self.tiled, self.shape
        if m >= n:
            projected = few.times(tiled.of_q, sides, n)
            return tiled.solved(few, tiled.solve, projected)
        return few.times(tiled.of_q, tiled.solved(few, tiled.solve, sides), n)

    def _by_svd(self, few: Few, sides: NDArray[Any]) -> _Solution:
        """Drop singular values that are zero, or that rounding may have made of a zero."""
        found = self.svd.factored(self.svd.begun(few.under("svd")))
        s = found.s.astype(float)
        top, rounding = float(s[0]), found.certificate.rounding
        cutoff = self.rcond * top
        if not self.chosen:
            cutoff = max(cutoff, 2 * rounding)
        rank = int(np.count_nonzero(s > cutoff))
        left, right = (found.u, found.v) if self.shape[0] >= self.shape[1] else (found.v, found.u)
        inner = self._times(few, left.H, sides)
        inner[:rank] /= s[:rank, None]
        inner[rank:] = 0
        x = self._times(few, right, inner)
        condition = top / float(s[rank - 1]) if rank else 1.0
        return _Solution(x, s, rank, cutoff / top if top else self.rcond, condition)

    def _times(self, few: Few, x: ScratchSource, y: NDArray[Any]) -> NDArray[Any]:
        stage = scratch_product(x, self.resources, self.tiled.wide, y.shape[1], "times vectors")
        return few.times(stage, y, x.shape[0])

    def _judged(self, few: Few, found: _Solution, sides: NDArray[Any], norm: float) -> Outcome:
        """Measure r = B - A X and A^H r, X as it is given."""
        (m, n), tiled = self.shape, self.tiled
        x = found.x.astype(self.dtype)
        forward, back = (tiled.apply, tiled.adjoint) if m >= n else (tiled.adjoint, tiled.apply)
        left = sides - few.times(forward, x.astype(tiled.wide), m)
        normal = few.times(back, left, n)
        x_size, normal_size, left_size, side_size = map(lengths, (x, normal, left, sides))
        certificate, residuals = judged(
            self.shape, self.dtype, sizes=x_size, normal=normal_size, left=left_size,
            sides=side_size, norm=norm, rank=found.rank, rcond=found.rcond,
            condition=found.condition,
        )  # fmt: skip
        fields = {
            "x": x.reshape(n, *self.side_shape[1:]), "residuals": residuals,
            "s": found.s.astype(residuals.dtype),
        }  # fmt: skip
        return Outcome(fields, certificate)


def plan_lstsq_tiled(
    a: BlockedArray, b: BlockedArray, sides: Source, gather: Stage, resources: Resources, *,
    rcond: float | None,
) -> TiledLstsq:  # fmt: skip
    """Plan min |B - A X| for a matrix of any size; B and X stay in memory.

    Parameters
    ----------
    a : BlockedArray of shape (m, n)
        The matrix.
    b : BlockedArray of shape (m,) or (m, k)
        Right-hand sides.
    sides : Source of shape (m, k)
        The same.
    gather : Stage
        Reads them.
    resources : Resources
        Memory, workers, cores and rates.
    rcond : float, optional
        Relative to the largest singular value: what counts as zero.

    Returns
    -------
    TiledLstsq
        The plan.

    Raises
    ------
    MemoryBudgetError
        If not even a narrow panel, or the vectors, fit.
    """
    (m, n), dtype = a.shape, compute_dtype(a.dtype, b.dtype)
    wide, t = m < n, a if m >= n else a.H
    tiled = plan_tiled_qr(
        t, resources, dtype=dtype, columns=sides.shape[1], of_adjoint=wide, what="lstsq", seed=0
    )
    options = SvdOptions(compute_uv=False)
    svd = plan_divided(t, resources, options=options, driver="lstsq", adjoint=False, dtype=dtype)
    last = [tiled.of_q, tiled.solve, tiled.apply, tiled.adjoint]
    stages = [gather, *tiled.stages, *last]
    least = float(np.finfo(dtype).eps) * max(m, n) if rcond is None else rcond
    text = "only where the rank is in doubt; it gives the singular values, which are left out else"
    explanation = explain(
        "lstsq", [f"{x.name} {x.shape} {x.dtype}" for x in (a, b)], stages, resources,
        method=f"QR of {'A^H' if wide else 'A'} in panels, both factors in scratch",
        why=f"no worker holds matrices of order {min(m, n)}",
        targets=[s.target for s in stages if s.target is not None],
        alternatives=[Alternative(_DIVIDED, svd.explanation.seconds, text)],
    )  # fmt: skip
    parameters = {
        "driver": "lstsq", "method": "tiled", "rcond": rcond, "layout": layout_of(resources),
    }  # fmt: skip
    return TiledLstsq(
        tiled, svd, gather, (m, n), b.shape, dtype, least, rcond is not None, a.name, b.name,
        {"a": t.source, "b": sides}, parameters, resources, explanation,
    )  # fmt: skip
