"""All singular triplets of a matrix both of whose sides are beyond memory, by its polar factor.

A = U_p H with U_p orthonormal and H Hermitian, positive semi-definite; H = V S V^H by spectral
divide and conquer; U = U_p V [1]_. U_p is the limit of the cubics that make a sign (see `sign`),
X (a I - b X^H X), which take all singular values to one: products alone, in scratch.

Singular values of zero would stay there. So the iteration begins with A + E, E Gaussian of norm
eps |A|: its smallest singular value is no less than eps |A| / n, about [2]_, which cubics take to
one like any other; H is made of A itself.

References
----------
.. [1] Y. Nakatsukasa, N. J. Higham, Stable and efficient spectral divide and conquer algorithms for
   the symmetric eigenvalue decomposition and the SVD, SIAM J. Sci. Comput. 35, 2013.
.. [2] A. Sankar, D. A. Spielman, S.-H. Teng, Smoothed analysis of the condition numbers and growth
   factors of matrices, SIAM J. Matrix Anal. Appl. 28, 2006, Theorem 3.3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.blocks import BlockedArray, Source
from leptonhpc.errors import LinAlgError, MemoryBudgetError, OptionError
from leptonhpc.linalg.certificates import SvdCertificate
from leptonhpc.linalg.conditioning import Conditioning
from leptonhpc.linalg.eigh_divide import expected_division
from leptonhpc.linalg.eigh_recursion import Recursion
from leptonhpc.linalg.eigh_stages import UNIT, Stages
from leptonhpc.linalg.jobs import Execute, Outcome
from leptonhpc.linalg.norm import NormJob, plan_norm
from leptonhpc.linalg.rechunk import in_squares
from leptonhpc.linalg.scratch import ScratchSource, stored_input, with_operands
from leptonhpc.linalg.sign import cubic, iterations
from leptonhpc.linalg.sizes import grain
from leptonhpc.linalg.svd import Method, SvdJob, check_svd, plan_svd
from leptonhpc.linalg.svd_shared import SvdOptions
from leptonhpc.planning import Explanation, Resources, Stage, Target
from leptonhpc.planning.explain import explain
from leptonhpc.planning.layout import compute_dtype

_MOST_CUBICS = 150


@dataclass(frozen=True)
class Triplets:
    """All of them, T = U S V^H, T the matrix or its adjoint."""

    s: NDArray[Any]
    u: ScratchSource
    v: ScratchSource
    certificate: SvdCertificate


@dataclass(frozen=True)
class DivideSvd:
    """All singular triplets, planned."""

    before: tuple[Stage, ...]
    stages: Stages
    norm: NormJob
    stored: ScratchSource
    """A."""
    matrix: ScratchSource
    """A, or A^H where A is wide."""
    wanted: bool
    """Whether vectors are asked for."""
    seed: int
    sources: Mapping[str, Source]
    parameters: Mapping[str, Any]
    resources: Resources
    explanation: Explanation
    driver: str = "svd"

    def run(self, execute: Execute) -> Outcome:
        """Run; see `Job.run`."""
        run = self.begun(execute)
        found = self.factored(run)
        names = ("vh", "u") if self.matrix.adjoint else ("u", "vh")
        fields: dict[str, Any] = {"s": found.s}
        if self.wanted:
            self._written(run, found.u, names[0])
            self._adjoint(run, found.v, names)
            fields |= {"u": "u", "vh": "vh"}
        return Outcome(fields, found.certificate)

    def begun(self, execute: Execute) -> Recursion:
        """Copy the input where it must be; give what runs the rest."""
        for stage in self.before:
            execute(stage, {})
        return Recursion(self.stages, self.matrix.shape[1], self.seed, execute)

    def factored(self, run: Recursion) -> Triplets:
        """Find all triplets; where vectors are not asked for, they are scratch."""
        n = self.matrix.shape[1]
        size = self.size(run)
        run.require_range(size)
        x = self.polar(run, size)
        stage, h = self.stages.product(x.H, self.matrix, "h", kind="hermitian")
        run(stage, {})
        stage, h = self.stages.shifted(h, "minus h")  # ascending eigenvalues are descending values
        run(stage, {"alpha": -1.0, "beta": 0.0})
        run.top = size
        w, v = run.solved(h, int(self.stages.fits(n)), "v", (0, n))
        s = np.maximum(-w, 0)
        u = self._long(run, x, v, "vh" if self.matrix.adjoint else "u")
        return Triplets(s, u, v, self._certified(run, s, u, v, size))

    def size(self, run: Recursion) -> float:
        """Give |A|_F, by one pass that also finds what is not finite."""

        def passed(stage: Stage, small: Mapping[str, Any]) -> dict[str, Any]:
            return run(with_operands(stage, {"x": self._streamed}, None), small)

        return float(self.norm.run(passed).fields["value"])

    @property
    def _streamed(self) -> ScratchSource:
        """The matrix as the norm was planned with it."""
        return replace(self.stored, adjoint=self.norm.transposed)

    def polar(self, run: Recursion, size: float) -> ScratchSource:
        """Give U_p by cubics, from (A + E) / |A|_F."""
        stages, (m, n) = self.stages, self.matrix.shape
        eps = float(np.finfo(stages.dtype).eps)
        stage, x = stages.perturbed(self.matrix, "x0")
        # |G|_2 is sqrt(m) + sqrt(n), about; any isometry is a polar factor of zeros
        run(stage, {"alpha": size or 1.0, "beta": (eps if size else 1.0) / (m**0.5 + n**0.5)})
        lower, since = 1 / (8 * n), 0
        for _ in range(_MOST_CUBICS):
            alpha, beta, lower = cubic(lower)
            stage, p = stages.square(x, "p0")
            defect = run(stage, {"alpha": -beta, "beta": alpha})["hypot_defect"]
            stage, x = stages.product(x, p, "x1" if x.stored == "x0" else "x0")
            run(stage, {})
            # quadratic from here: the next defect is rounding
            if alpha == 1.5 and defect <= math.sqrt(eps):
                return x
            since = since + 1 if alpha == 1.5 else 0
            if since > 6 and defect > 0.5:  # a singular value was smaller than assumed
                lower = eps / (8 * n)
        message = (
            f"{stages.driver} of {stages.name}: its polar factor was not found in {_MOST_CUBICS} "
            "iterations. Give another seed="
        )
        raise LinAlgError(message)

    def _long(self, run: Recursion, x: ScratchSource, v: ScratchSource, name: str) -> ScratchSource:
        """Give U = U_p V; where it is stored as an adjoint, a copy is made of it later."""
        into: str | Target = "long"
        if self.wanted and not self.matrix.adjoint:
            into = self._target(name, (x.shape[0], v.shape[1]))
        stage, u = self.stages.product(x, v, into)
        run(stage, {})
        return u

    def _written(self, run: Recursion, u: ScratchSource, name: str) -> None:
        if self.matrix.adjoint:
            stage, _ = self.stages.shifted(u.H, self._target(name, u.shape[::-1]))
            run(stage, {"alpha": 1.0, "beta": 0.0})

    def _adjoint(self, run: Recursion, v: ScratchSource, names: tuple[str, str]) -> None:
        """Write V^H, or V where A is wide."""
        source = v if self.matrix.adjoint else v.H
        stage, _ = self.stages.shifted(source, self._target(names[1], source.shape))
        run(stage, {"alpha": 1.0, "beta": 0.0})

    def _target(self, name: str, shape: tuple[int, ...]) -> Target:
        unit = tuple(min(k, UNIT) for k in shape)
        return Target(name, shape, self.stages.dtype.str, unit)

    def _certified(
        self, run: Recursion, s: NDArray[Any], u: ScratchSource, v: ScratchSource, size: float
    ) -> SvdCertificate:
        """Measure |A v - s u| and |A^H u - s v| of each triplet, and both orthogonalities."""
        stages, unit = self.stages, size or 1.0
        squares = np.zeros(len(s))
        for number, (a, y, z) in enumerate(((self.matrix, v, u), (self.matrix.H, u, v))):
            stage, image = stages.product(a, y, f"image{number}")
            run(stage, {})
            acc = run(stages.residuals(image, z), {"w": s, "unit": unit})
            squares = np.maximum(squares, acc["squares"])
        deviation, spread = 0.0, 0.0
        for y in (u, v):
            gram = run(stages.square(y, None)[0], {"alpha": 1.0, "beta": 0.0})
            deviation = max(deviation, float(gram["max_defect"]))
            spread = max(spread, float(gram["hypot_defect"]))
        residuals = np.sqrt(squares) * unit
        eps = float(np.finfo(stages.dtype).eps)
        top = float(s[0])
        # cubics and the recursion round like products of order n, as random walks; E is eps |A|_F
        rounding = 8 * math.sqrt(self.matrix.shape[0]) * eps * top + eps * size
        rounding += grain(stages.dtype, size)
        share = (s.astype(float) / unit) ** 2
        # what is not in the triplets is rounding of each of them
        error = math.hypot(*residuals.tolist())
        return SvdCertificate(
            converged=bool(np.max(residuals) <= 4 * rounding and spread < 0.5),
            method="polar factor, divide and conquer", passes=run.passes, norm=size,
            residuals=tuple(float(r) for r in residuals), rounding=rounding,
            captured=min(float(np.sum(share)), 1.0) if size else 1.0,
            captured_each=tuple(float(c) for c in share), frobenius_error=error,
            frobenius_bound=error + len(s) ** 0.5 * rounding, orthogonality=deviation,
        )  # fmt: skip


def plan_full_svd(
    x: BlockedArray, resources: Resources, *, options: SvdOptions, conditioning: Conditioning,
    method: Method = "auto",
) -> SvdJob | DivideSvd:  # fmt: skip
    """Plan the SVD; where all of it is asked for and no worker holds its short side, by parts.

    Parameters
    ----------
    x, resources, options, conditioning : see `plan_svd`
        The question.
    method : {"auto", "gram", "krylov", "sketch", "mixed", "divide"}
        As there, or by parts.

    Returns
    -------
    SvdJob or DivideSvd
        The plan.

    Raises
    ------
    ShapeError, OptionError, MemoryBudgetError
        If the question makes no sense, or does not fit.
    """
    check_svd(x, options, conditioning, method)
    plain = conditioning.missing == "raise" and not conditioning.center
    plain &= conditioning.scale is None and conditioning.weights is None
    everything = options.wants_all(min(x.shape)) and plain
    if method == "divide":
        if not everything:
            message = "method='divide' gives all singular values of the matrix as it is: leave out "
            raise OptionError(
                f"{message}rank=, tol=, variance=, center=, scale=, weights=, missing="
            )
        return plan_divided(x, resources, options=options)
    try:
        return plan_svd(x, resources, options=options, conditioning=conditioning, method=method)
    except MemoryBudgetError as error:
        if method != "auto" or not everything:
            raise
        try:
            return plan_divided(x, resources, options=options)
        except MemoryBudgetError:  # what takes less memory is more than there is
            raise error from None


def plan_divided(
    x: BlockedArray, resources: Resources, *, options: SvdOptions, driver: str = "svd",
    adjoint: bool | None = None, dtype: np.dtype[Any] | None = None,
) -> DivideSvd:  # fmt: skip
    """Plan all triplets by parts.

    Parameters
    ----------
    x : BlockedArray of shape (m, n)
        The matrix.
    resources : Resources
        Memory, workers, cores and rates.
    options : SvdOptions
        Seed, and whether vectors are wanted.
    driver : str
        Who asks, for messages.
    adjoint : bool, optional
        Whether the adjoint is factored; default: where the matrix is wide.
    dtype : dtype, optional
        Of computing; default: that of the matrix.

    Returns
    -------
    DivideSvd
        The plan.

    Raises
    ------
    MemoryBudgetError
        If not even blocks and panels fit.
    """
    dtype = compute_dtype(x.dtype) if dtype is None else dtype
    before: list[Stage] = []
    planned = in_squares(x, "a", before, resources)
    stages = Stages(resources, dtype, driver, x.name)
    stages.require_one()
    stored = stored_input("a", planned.source)
    adjoint = x.shape[0] < x.shape[1] if adjoint is None else adjoint
    matrix = stored.H if adjoint else stored
    norm = plan_norm(planned, resources)
    expected = [*before, *_expected(stages, matrix, norm)]
    m, n = matrix.shape
    targets = [
        Target("u", (x.shape[0], n), dtype.str, (m, n)),
        Target("vh", (n, x.shape[1]), dtype.str, (n, n)),
    ]
    explanation = explain(
        driver, [f"{x.name} {x.shape} {x.dtype}"], expected, resources,
        method="polar factor by products, its Hermitian factor by spectral divide and conquer",
        why=f"all singular values, and no worker holds matrices of order {n}",
        targets=[
            *(s.target for s in expected if s.target is not None),
            *(targets if options.compute_uv else ()),
        ],
    )  # fmt: skip
    parameters = {"driver": driver, "method": "divide", **options.to_dict(),
                  "layout": layout_of(resources)}  # fmt: skip
    return DivideSvd(
        tuple(before), stages, norm, stored, matrix, options.compute_uv, options.seed,
        {"a": x.source}, parameters, resources, explanation, driver,
    )  # fmt: skip


def layout_of(resources: Resources) -> list[Any]:
    """Give what the stages of a division are cut by.

    Parameters
    ----------
    resources : Resources
        Memory, workers, cores and rates.

    Returns
    -------
    list
        For the parameters of a job.
    """
    return [
        resources.memory_nbytes, resources.workers, resources.threads, resources.rates.to_dict(),
    ]  # fmt: skip


def expected_polar(stages: Stages, matrix: ScratchSource, norm: NormJob) -> list[Stage]:
    """Give the stages that make a polar factor of a matrix that is not ill-conditioned.

    Parameters
    ----------
    stages : Stages
        Plans them.
    matrix : ScratchSource of shape (m, n)
        Tall.
    norm : NormJob
        Measures it.

    Returns
    -------
    list of Stage
        Each with how often it runs; the last makes U^H A.
    """
    times = iterations(1 / (8 * matrix.shape[1])) + 1
    found = [*norm.explanation.planned]
    stage, x = stages.perturbed(matrix, "x0")
    found.append(stage)
    stage, p = stages.square(x, "p0")
    found.append(replace(stage, repeats=times, most_repeats=_MOST_CUBICS))
    stage, _ = stages.product(x, p, "x1")
    found.append(replace(stage, repeats=times, most_repeats=_MOST_CUBICS))
    found.append(stages.product(x.H, matrix, "h", kind="hermitian")[0])
    return found


def _expected(stages: Stages, matrix: ScratchSource, norm: NormJob) -> list[Stage]:
    """Give the stages that will run for a matrix that is not ill-conditioned."""
    n = matrix.shape[1]
    found = expected_polar(stages, matrix, norm)
    stage, x = stages.perturbed(matrix, "x0")
    found += expected_division(stages, stages.product(x.H, matrix, "h", kind="hermitian")[1])
    stage, v = stages.drawn((n, n), "v")
    stage, u = stages.product(x, v, "long")
    found.append(stage)
    for number, (a, y, z) in enumerate(((matrix, v, u), (matrix.H, u, v))):
        stage, image = stages.product(a, y, f"image{number}")
        found += [stage, stages.residuals(image, z), stages.square(y, None)[0]]
    return found
