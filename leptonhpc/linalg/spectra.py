"""Rank, smallest value, pseudoinverse and polar factors, all by the SVD of the short side.

The SVD sums the Gram matrix of the short side and refines its small values (see `svd_gram`): each
singular value is right to c eps s1, as LAPACK's are. Any length of the long side is covered; of the
short side a dozen matrices of its order must fit in one worker. Where they do not, see
`svd_divide`, `pinv_tiled` and `polar_divide`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from leptonhpc.blocks import BlockedArray, Source
from leptonhpc.errors import MemoryBudgetError, NumericRangeError, OptionError, ShapeError
from leptonhpc.linalg.certificates import (
    FactorCertificate,
    NormCertificate,
    PseudoinverseCertificate,
    RankCertificate,
    SvdCertificate,
)
from leptonhpc.linalg.conditioning import Conditioning
from leptonhpc.linalg.jobs import Execute, Outcome
from leptonhpc.linalg.pinv_tiled import TiledPinv, plan_pinv_tiled
from leptonhpc.linalg.polar_divide import PolarDivide, plan_polar_divide
from leptonhpc.linalg.svd import SvdJob, plan_svd
from leptonhpc.linalg.svd_divide import DivideSvd, plan_full_svd
from leptonhpc.linalg.svd_shared import SvdOptions
from leptonhpc.planning import Explanation, Resources, Stage, Target, seconds
from leptonhpc.planning.costs import LIBRARIES_NBYTES
from leptonhpc.planning.explain import explain

Question = Literal["matrix_rank", "norm"]
Side = Literal["right", "left"]

_LONG = "long"
"""The long factor, while it is needed."""
_PROBES = 2
"""Random vectors that check a product of factors; as many as the kernel's."""


@dataclass(frozen=True)
class ValuesJob:
    """A number that singular values tell."""

    svd: SvdJob | DivideSvd
    shape: tuple[int, int]
    tol: float | None
    sources: Mapping[str, Source]
    parameters: Mapping[str, Any]
    resources: Resources
    explanation: Explanation
    driver: Question

    def run(self, execute: Execute) -> Outcome:
        """Find all singular values; see `Job.run`."""
        found = self.svd.run(execute)
        certificate = found.certificate
        assert isinstance(certificate, SvdCertificate)
        s = found.fields["s"].astype(float)
        if self.driver == "norm":
            return _smallest(s, certificate.rounding)
        cutoff = _cutoff(s, self.shape, self.tol, certificate.rounding, found.fields["s"].dtype)
        return _rank(s, cutoff, certificate)


def plan_values(
    x: BlockedArray, resources: Resources, *, question: Question, tol: float | None = None
) -> ValuesJob:
    """Plan the rank, or the smallest singular value as the norm of order -2.

    Parameters
    ----------
    x : BlockedArray of shape (m, n)
        The matrix.
    resources : Resources
        Memory, workers, cores and rates.
    question : {"matrix_rank", "norm"}
        What is asked.
    tol : float, optional
        Relative to the largest singular value: what counts as zero.

    Returns
    -------
    ValuesJob
        The plan.

    Raises
    ------
    ShapeError, OptionError, MemoryBudgetError
        If the question makes no sense, or does not fit.
    """
    _check(x, question, tol)
    svd = plan_full_svd(
        x, resources, options=SvdOptions(compute_uv=False), conditioning=Conditioning()
    )
    explanation = replace(svd.explanation, driver=question)
    parameters = {**svd.parameters, "driver": question, "tol": tol}
    return ValuesJob(
        svd, (x.shape[0], x.shape[1]), tol, svd.sources, parameters, resources, explanation,
        question,
    )  # fmt: skip


@dataclass(frozen=True)
class ComposeJob:
    """A product of the factors of T = L S R^H, T the matrix or, if that is wide, its adjoint."""

    svd: SvdJob
    stage: Stage
    target: Target
    """Where the long factor stays meanwhile."""
    rcond: float | None
    wide: bool
    shape: tuple[int, int]
    seed: int
    sources: Mapping[str, Source]
    parameters: Mapping[str, Any]
    resources: Resources
    explanation: Explanation
    name: str
    driver: Literal["pinv", "polar"]

    def run(self, execute: Execute) -> Outcome:
        """Factor, then combine the factors band by band; see `Job.run`."""

        def kept(stage: Stage, small: Mapping[str, Any]) -> dict[str, Any]:
            final = stage.target is not None and not stage.target.scratch
            return execute(replace(stage, target=self.target) if final else stage, small)

        found = self.svd.run(kept)
        rh = found.fields["u"].conj().T if self.wide else found.fields["vh"]
        rh, certificate = np.ascontiguousarray(rh), found.certificate
        assert isinstance(certificate, SvdCertificate)
        s = found.fields["s"].astype(float)
        if self.driver == "pinv":
            return self._pseudoinverse(execute, s, rh, certificate)
        return self._polar(execute, s, rh, certificate)

    def _pseudoinverse(
        self, execute: Execute, s: NDArray[Any], rh: NDArray[Any], svd: SvdCertificate
    ) -> Outcome:
        real = rh.real.dtype
        cutoff = _cutoff(s, self.shape, self.rcond, svd.rounding, real)
        rank = int(np.count_nonzero(s > cutoff))
        if rank and s[rank - 1] < len(s) / float(np.finfo(real).max):
            message = f"the pseudoinverse of {self.name} overflows {real}; scale the array first"
            raise NumericRangeError(message)
        w = np.zeros_like(rh)
        w[:rank] = rh[:rank] / s[:rank, None].astype(real)
        wide, omega = self._wide(rh), self._omega(rh)
        acc = execute(self.stage, {"w": w, "omega": omega, "inner": None, "unit": 1.0})
        # pinv(T) T = R_r R_r^H
        expected = wide[:rank].conj().T @ (wide[:rank] @ omega)
        error = float(np.linalg.norm(acc["projected"] - expected)) / math.sqrt(_PROBES)
        condition = float(s[0] / s[rank - 1]) if rank else 1.0
        eps = float(np.finfo(real).eps)
        # |L^H T - S R^H| <= c n eps s1, divided by the smallest s
        bound = 8 * max(len(s), 2) * eps * condition
        certificate = PseudoinverseCertificate(
            converged=error <= bound, identity_error=error, bound=bound, rank=rank, cutoff=cutoff,
            condition=condition, norm=svd.norm,
        )  # fmt: skip
        return Outcome({"pinv": "pinv"}, certificate)

    def _polar(
        self, execute: Execute, s: NDArray[Any], rh: NDArray[Any], svd: SvdCertificate
    ) -> Outcome:
        wide, omega = self._wide(rh), self._omega(rh)
        p = (wide.conj().T * s) @ wide
        p = ((p + p.conj().T) / 2).astype(rh.dtype)
        # squares of what is left of |A| must stay in range
        unit = min(1 / svd.norm, 2.0**1000) if svd.norm else 1.0
        inner = (p.astype(wide.dtype) * unit) @ omega
        small = {"w": rh, "omega": omega, "inner": inner, "unit": unit}
        acc = execute(self.stage, small)
        probes = math.sqrt(_PROBES)
        error = float(acc["hypot_defect"]) / probes / (svd.norm * unit or 1.0)
        departure = float(np.linalg.norm(acc["projected"] - omega)) / probes
        bound = 8 * max(len(s), 2) * float(np.finfo(rh.dtype).eps)
        certificate = FactorCertificate(
            converged=error <= bound and departure <= bound * math.sqrt(len(s)),
            backward_error=error, bound=bound, norm=svd.norm, orthogonality=departure,
        )  # fmt: skip
        return Outcome({"u": "u", "p": p}, certificate)

    def _wide(self, rh: NDArray[Any]) -> NDArray[Any]:
        return rh.astype(np.result_type(rh.dtype, np.float64))

    def _omega(self, rh: NDArray[Any]) -> NDArray[Any]:
        generator = np.random.Generator(np.random.Philox(key=self.seed))
        drawn = generator.standard_normal((rh.shape[1], _PROBES))
        if rh.dtype.kind == "c":
            drawn = (drawn + 1j * generator.standard_normal(drawn.shape)) / math.sqrt(2)
        return drawn


def plan_pinv(
    x: BlockedArray, resources: Resources, *, rcond: float | None = None, seed: int = 0
) -> ComposeJob | TiledPinv:
    """Plan the pseudoinverse.

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
    ComposeJob or TiledPinv
        The plan; the second where the Gram matrix of the short side does not fit.

    Raises
    ------
    ShapeError, OptionError, MemoryBudgetError
        If the question makes no sense, or does not fit.
    """
    _check(x, "pinv", rcond, name="rcond")
    wide = x.shape[0] < x.shape[1]
    try:  # the bands are those of pinv(T)^H
        return _plan(x, resources, "pinv", "pinv", transposed=not wide, rcond=rcond, seed=seed)
    except MemoryBudgetError as error:
        try:
            return plan_pinv_tiled(x, resources, rcond=rcond, seed=seed)
        except MemoryBudgetError:  # what takes less memory is more than there is
            raise error from None


def plan_polar(
    x: BlockedArray, resources: Resources, *, side: Side = "right", seed: int = 0
) -> ComposeJob | PolarDivide:
    """Plan the polar factors A = U P, or A = P U.

    Parameters
    ----------
    x : BlockedArray of shape (m, n)
        The matrix: tall (or square) for the right factor, wide (or square) for the left one.
    resources : Resources
        Memory, workers, cores and rates.
    side : {"right", "left"}
        Where P stands.
    seed : int
        Of the vectors that check it.

    Returns
    -------
    ComposeJob or PolarDivide
        The plan; the second where the Gram matrix of the short side does not fit.

    Raises
    ------
    ShapeError, OptionError, MemoryBudgetError
        If the question makes no sense, or does not fit.
    """
    _check(x, "polar", None)
    if side not in ("right", "left"):
        raise OptionError(f"side is 'right' or 'left'; found {side!r}")
    m, n = x.shape
    if (m < n) if side == "right" else (m > n):
        message = (
            f"polar with side={side!r} needs {'m >= n' if side == 'right' else 'm <= n'}; {x.name} "
            f"has shape {x.shape}. Use side={'left' if side == 'right' else 'right'!r}"
        )
        raise ShapeError(message)
    transposed = side == "left"
    # A = P U is A^H = U^H P
    turned = x.H if m == n and transposed else x
    try:
        return _plan(turned, resources, "polar", "u", transposed=transposed, rcond=None, seed=seed)
    except MemoryBudgetError as error:
        try:
            return plan_polar_divide(x, resources, adjoint=transposed, seed=seed)
        except MemoryBudgetError:  # what takes less memory is more than there is
            raise error from None


def _plan(
    x: BlockedArray, resources: Resources, driver: Literal["pinv", "polar"], name: str, *,
    transposed: bool, rcond: float | None, seed: int,
) -> ComposeJob:  # fmt: skip
    # the last stage holds a band of each factor and of the product: a half more than the SVD does
    left = LIBRARIES_NBYTES + max(0, resources.arrays_nbytes) * 2 // 3
    svd = plan_svd(
        x, replace(resources, memory_nbytes=left), options=SvdOptions(seed=seed),
        conditioning=Conditioning(), method="gram",
    )  # fmt: skip
    operator = svd.algorithm.operator
    rows, columns, layout = operator.rows, operator.columns, operator.layout
    long = Target(
        _LONG, (rows, columns), operator.dtype.str, (layout.height, columns), scratch=True
    )
    shape, unit = (rows, columns), (layout.height, columns)
    target = Target(
        name, shape[::-1] if transposed else shape, operator.dtype.str,
        unit[::-1] if transposed else unit, transposed=transposed,
    )  # fmt: skip
    stage = _compose_stage(svd, target, resources)
    stages = [*svd.before, *svd.algorithm.stages]
    targets = [s.target for s in stages if s.target is not None and s.target.scratch]
    explanation = explain(
        driver, list(svd.explanation.inputs), [*stages, stage], resources,
        method=f"SVD ({svd.explanation.method}), its factors multiplied again band by band",
        why=svd.explanation.why, targets=[*targets, long, target],
        extra_seconds=svd.algorithm.host_seconds(), resident_nbytes=layout.resident_nbytes,
    )  # fmt: skip
    parameters = {**svd.parameters, "driver": driver, "rcond": rcond, "transposed": transposed}
    wide = operator.transposed
    return ComposeJob(
        svd, stage, long, rcond, wide, (x.shape[0], x.shape[1]), seed, svd.sources, parameters,
        resources, explanation, x.name, driver,
    )  # fmt: skip


def _compose_stage(svd: SvdJob, target: Target, resources: Resources) -> Stage:
    operator = svd.algorithm.operator
    n, layout = operator.columns, operator.layout
    factor = 4.0 if operator.dtype.kind == "c" else 1.0
    per_row = factor * (2.0 * n * n + 8.0 * n * _PROBES)
    tasks = layout.tasks(
        "compose", "compose", ((_LONG, n), ("x", n)), per_row,
        write_row_nbytes=n * operator.dtype.itemsize,
    )  # fmt: skip
    predicted = seconds(
        "gemm", operator.dtype, flops=sum(t.flops for t in tasks),
        read_nbytes=sum(t.read_nbytes for t in tasks), write_nbytes=target.nbytes,
        resources=resources,
    )  # fmt: skip
    band = layout.lanes_per_worker * layout.height * n * operator.dtype.itemsize
    return Stage(
        "compose", tasks, layout.lanes, layout.lanes_per_worker, layout.blas_threads, target,
        passes=1.0, peak_nbytes=layout.peak_nbytes + band, seconds=predicted,
        dtype=operator.dtype.str, resident_nbytes=layout.room_nbytes,
    )  # fmt: skip


def _cutoff(
    s: NDArray[Any], shape: tuple[int, int], tol: float | None, rounding: float, real: Any
) -> float:
    """Give what counts as zero: NumPy's max(m, n) eps s1, but never within rounding of zero."""
    top = float(s[0])
    if tol is not None:
        return tol * top
    return max(max(shape) * float(np.finfo(real).eps) * top, 2 * rounding)


def _rank(s: NDArray[Any], cutoff: float, svd: SvdCertificate) -> Outcome:
    rank = int(np.count_nonzero(s > cutoff))
    smallest = float(s[rank - 1]) if rank else 0.0
    dropped = float(s[rank]) if rank < len(s) else 0.0
    clear = (not rank or smallest - svd.rounding > cutoff) and (
        rank == len(s) or dropped + svd.rounding <= cutoff
    )
    certificate = RankCertificate(
        converged=bool(clear or s[0] == 0), cutoff=cutoff, smallest=smallest,
        largest_dropped=dropped, rounding=svd.rounding, norm=svd.norm,
    )  # fmt: skip
    return Outcome({"value": rank, "s": s}, certificate)


def _smallest(s: NDArray[Any], rounding: float) -> Outcome:
    least = float(s[-1])
    error = rounding / least if least > 0 else math.inf
    if s[0] == 0:  # a matrix of zeros: nothing was rounded
        error = 0.0
    certificate = NormCertificate(converged=error < 1, relative_error=error)
    return Outcome({"value": least}, certificate)


def _check(x: BlockedArray, driver: str, tol: float | None, *, name: str = "tol") -> None:
    if x.ndim != 2 or 0 in x.shape:
        message = f"{driver} needs a matrix that is not empty; {x.name} has shape {x.shape}"
        raise ShapeError(message)
    if tol is not None and not (
        isinstance(tol, int | float | np.floating) and not isinstance(tol, bool) and 0 <= tol < 1
    ):
        raise OptionError(f"{name} is from 0 to below 1 (times the largest value); found {tol!r}")
