"""The pseudoinverse of a matrix both of whose sides are beyond memory.

T is the matrix, or its adjoint where it is wide. T = Q R by panels in scratch, and R^-1 Q^H is its
pseudoinverse if its rank is full, of which random vectors must leave no doubt (see
`tiled_factors`). Else all singular triplets are found by division, and it is V_r S_r^-1 U_r^H.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.blocks import BlockedArray, Source
from leptonhpc.errors import NumericRangeError
from leptonhpc.linalg.certificates import PseudoinverseCertificate
from leptonhpc.linalg.drawn import drawn
from leptonhpc.linalg.eigh_stages import UNIT, Stages
from leptonhpc.linalg.jobs import Execute, Outcome
from leptonhpc.linalg.scratch import ScratchSource, made, with_operands
from leptonhpc.linalg.substitution import substitution_stage
from leptonhpc.linalg.svd_divide import DivideSvd, layout_of, plan_divided
from leptonhpc.linalg.svd_shared import SvdOptions
from leptonhpc.linalg.tiled_factors import (
    PROBES,
    UNSEEN,
    Few,
    TiledQr,
    plan_tiled_qr,
    scratch_product,
    scratch_target,
)
from leptonhpc.planning import Alternative, Explanation, Resources, Stage, Target
from leptonhpc.planning.explain import explain
from leptonhpc.planning.layout import compute_dtype

_DIVIDED = "all singular triplets by spectral divide and conquer, and their product"


@dataclass(frozen=True)
class TiledPinv:
    """One pseudoinverse, planned; operand "a" of the job is T."""

    tiled: TiledQr
    invert: Stage
    """R X = Q^H, X in scratch."""
    copied: Stage
    """X, or X^H, where it belongs."""
    svd: DivideSvd
    """Where the rank is in doubt."""
    target: Target
    rcond: float | None
    wide: bool
    """T is the adjoint of the matrix."""
    seed: int
    name: str
    sources: Mapping[str, Source]
    parameters: Mapping[str, Any]
    resources: Resources
    explanation: Explanation
    driver: str = "pinv"

    def run(self, execute: Execute) -> Outcome:
        """Factor, invert, check with random vectors; see `Job.run`."""
        few, tiled = Few(execute), self.tiled
        (m, n), dtype = tiled.shape, self.svd.stages.dtype
        qr, inverse = tiled.factored(few)
        eps = float(np.finfo(dtype).eps)
        rcond = max(m, n) * eps if self.rcond is None else self.rcond
        # s_n is at least 1 / (10 inverse), s_1 at most |A|_F
        if not (qr.converged and qr.norm and rcond * qr.norm * UNSEEN * inverse < 1):
            return self._divided(few)
        self._require_range(1 / inverse, n)
        omega = drawn((n, PROBES), tiled.wide, self.seed + 2)
        sides = few.times(tiled.apply, omega, m)
        told = {**tiled.small(None, dtype), "omega": sides.astype(dtype), "width": m}
        found = few(self.invert, told)["solution"]
        few(self.copied, {"dtype": dtype, "alpha": 1.0, "beta": 0.0})
        error = float(np.linalg.norm(found - omega)) / math.sqrt(PROBES)
        return self._judged(error, n, rcond * qr.norm, qr.norm * inverse, qr.norm)

    def _divided(self, few: Few) -> Outcome:
        """Give V_r S_r^-1 U_r^H."""
        stages, (m, n) = self.svd.stages, self.tiled.shape
        run = self.svd.begun(few.under("svd"))
        found = self.svd.factored(run)
        s, rounding = found.s.astype(float), found.certificate.rounding
        top = float(s[0])
        eps = float(np.finfo(stages.dtype).eps)
        cutoff = max(m * eps * top, 2 * rounding) if self.rcond is None else self.rcond * top
        rank = int(np.count_nonzero(s > cutoff))
        factors = np.zeros(n)
        if rank:
            self._require_range(float(s[rank - 1]), n)
            factors[:rank] = 1 / s[:rank]
        stage, scaled = stages.scaled(found.v, "scaled")
        run(stage, {"row_factors": np.ones(n), "column_factors": factors})
        left, right = (found.u, scaled.H) if self.wide else (scaled, found.u.H)
        stage, x = stages.product(left, right, self.target)
        run(stage, {})
        omega = drawn((n, PROBES), self.tiled.wide, self.seed + 2)
        image = few.times(self.tiled.apply, omega, m)
        error = self._times(few, x.H if self.wide else x, image)
        inner = self._times(few, found.v.H, omega)
        inner[rank:] = 0  # T^+ T = V_r V_r^H
        error -= self._times(few, found.v, inner)
        condition = top / float(s[rank - 1]) if rank else 1.0
        size = float(np.linalg.norm(error)) / math.sqrt(PROBES)
        return self._judged(size, rank, cutoff, condition, found.certificate.norm)

    def _times(self, few: Few, x: ScratchSource, y: NDArray[Any]) -> NDArray[Any]:
        stage = scratch_product(x, self.resources, self.tiled.wide, y.shape[1], "times vectors")
        return few.times(stage, y, x.shape[0])

    def _require_range(self, least: float, n: int) -> None:
        """Refuse what overflows: the least singular value is that of the matrix, about."""
        dtype = self.svd.stages.dtype
        if least < n / float(np.finfo(dtype).max):
            real = np.empty(0, dtype).real.dtype
            message = f"the pseudoinverse of {self.name} overflows {real}; scale the array first"
            raise NumericRangeError(message)

    def _judged(
        self, error: float, rank: int, cutoff: float, condition: float, norm: float
    ) -> Outcome:
        n, dtype = self.tiled.shape[1], self.svd.stages.dtype
        # |Q R - T| <= c n eps |T|, divided by the smallest singular value that is kept
        bound = 8 * max(n, 2) * float(np.finfo(dtype).eps) * condition
        certificate = PseudoinverseCertificate(
            converged=error <= bound, identity_error=error, bound=bound, rank=rank, cutoff=cutoff,
            condition=condition, norm=norm,
        )  # fmt: skip
        return Outcome({"pinv": "pinv"}, certificate)


def plan_pinv_tiled(
    x: BlockedArray, resources: Resources, *, rcond: float | None, seed: int
) -> TiledPinv:
    """Plan the pseudoinverse of a matrix of any size.

    Parameters
    ----------
    x : BlockedArray of shape (m, n)
        The matrix.
    resources : Resources
        Memory, workers, cores and rates.
    rcond : float, optional
        Relative to the largest singular value: what counts as zero.
    seed : int
        Of the vectors that check it.

    Returns
    -------
    TiledPinv
        The plan.

    Raises
    ------
    MemoryBudgetError
        If not even a narrow panel fits.
    """
    wide, dtype = x.shape[0] < x.shape[1], compute_dtype(x.dtype)
    t = x.H if wide else x
    m, n = t.shape
    tiled = plan_tiled_qr(
        t, resources, dtype=dtype, columns=PROBES, of_adjoint=False, what="pinv", seed=seed
    )
    options = SvdOptions(compute_uv=False, seed=seed)
    svd = plan_divided(t, resources, options=options, driver="pinv", adjoint=False, dtype=dtype)
    invert, inverse = _invert(tiled, resources, dtype)
    shape = x.shape[::-1]
    target = Target("pinv", shape, dtype.str, tuple(min(k, UNIT) for k in shape))
    stages = Stages(resources, dtype, "pinv", x.name)
    copied, _ = stages.shifted(inverse.H if wide else inverse, target)
    expected = [*tiled.stages, tiled.apply, invert, copied]
    text = "only where the rank is in doubt"
    explanation = explain(
        "pinv", [f"{x.name} {x.shape} {x.dtype}"], expected, resources,
        method=f"QR of {'A^H' if wide else 'A'} in panels, R^-1 Q^H",
        why=f"no worker holds matrices of order {n}",
        targets=[s.target for s in expected if s.target is not None],
        alternatives=[Alternative(_DIVIDED, svd.explanation.seconds, text)],
    )  # fmt: skip
    parameters = {
        "driver": "pinv", "method": "tiled", "rcond": rcond, "seed": seed,
        "layout": layout_of(resources),
    }  # fmt: skip
    return TiledPinv(
        tiled, invert, copied, svd, target, rcond, wide, seed, x.name, {"a": t.source}, parameters,
        resources, explanation,
    )  # fmt: skip


def _invert(
    tiled: TiledQr, resources: Resources, dtype: np.dtype[Any]
) -> tuple[Stage, ScratchSource]:
    """Plan R X = Q^H, some columns after the other."""
    m, n = tiled.shape
    form = tiled.qr.form.target
    assert form is not None
    q = made(form)
    target = scratch_target("inverse", (n, m), dtype, UNIT)
    stage = substitution_stage(
        (("backward", "r"),), (n, m), resources, dtype, what="pinv", breaks=(0, n), sides=q.H,
        target=target, unit=target.unit[1], name="invert",
    )  # fmt: skip
    return replace(with_operands(stage, {"b": q.H}, target), passes=0.0), made(target)
