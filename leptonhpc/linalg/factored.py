"""What factors that exist are good for: systems, determinants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.blocks import BlockedArray, Source
from leptonhpc.errors import OptionError, ShapeError, SingularMatrixError
from leptonhpc.linalg.certificates import FactorCertificate, SolveCertificate
from leptonhpc.linalg.cholesky import require_square
from leptonhpc.linalg.jobs import Counter, Execute, Outcome
from leptonhpc.linalg.lu import factor_stage, lu_certificate
from leptonhpc.linalg.refinement import backward_error, refined
from leptonhpc.linalg.solution import Step
from leptonhpc.linalg.substitution import Direction, product_stage, substitution_stage
from leptonhpc.planning import Explanation, Resources, Stage
from leptonhpc.planning.explain import explain
from leptonhpc.planning.layout import compute_dtype

_MOST_REFINEMENTS = 10


@dataclass(frozen=True)
class FactoredSolveJob:
    """One system whose matrix is factored already."""

    substitute: Stage
    again: Stage
    """Solves for what is left of the sides."""
    residual: Stage | None
    """A X, where A can be reached."""
    products: tuple[Stage, ...]
    """Their product is the matrix: the last factor first."""
    factors: FactorCertificate
    perm: np.ndarray[Any, Any] | None
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    given: bool
    """A was given for this system."""
    sources: Mapping[str, Source]
    parameters: Mapping[str, Any]
    resources: Resources
    explanation: Explanation
    small: Mapping[str, Any]
    driver: str = "solve"

    def run(self, execute: Execute) -> Outcome:
        """Substitute and refine, or compare the product of the factors with the sides."""
        counter = Counter()

        def step(stage: Stage, small: Mapping[str, Any]) -> dict[str, Any]:
            return execute(replace(stage, name=counter.next(stage.name)), small)

        found = step(self.substitute, self.small)
        x, sides = found["solution"], found["sides"]
        condition = self.factors.norm * float(found["max_probe"])
        eps = float(np.finfo(self.dtype).eps)
        if not np.isfinite(x).all() or not condition / len(x) ** 0.5 * eps < 1:
            message = (
                "solve needs a matrix that is regular to working precision; the condition number "
                f"of the one that was factored is about {condition:.1e}. Use leptonhpc.solve, "
                "which scales rows and columns, or lstsq"
            )
            raise SingularMatrixError(message)
        bound = 8 * max(len(x), 2) * eps
        measured = self._refined(step, x, sides, bound)
        if measured is None:
            measured = x, self._by_factors(step, x, sides), 0
        x, error, refinements = measured
        certificate = SolveCertificate(
            converged=error <= bound, backward_error=error, bound=bound, norm=self.factors.norm,
            condition=condition, error=2 * condition * (error + eps), refinements=refinements,
            precision=self.dtype.name, growth=self.factors.growth,
        )  # fmt: skip
        return Outcome({"x": x.reshape(self.shape)}, certificate)

    def _refined(
        self, step: Step, x: NDArray[Any], sides: NDArray[Any], bound: float
    ) -> tuple[NDArray[Any], float, int] | None:
        """Measure X against A and refine it; None if there is no A, or another one by now."""
        stage = self.residual
        if stage is None:
            return None
        norm = self.factors.norm

        def measure(x: NDArray[Any]) -> tuple[float, NDArray[Any]]:
            left = sides - step(stage, {"y": x, "rows": len(x)})["product"]
            return backward_error(left, x, sides, norm), left

        def correct(left: NDArray[Any]) -> NDArray[Any]:
            more: NDArray[Any] = step(self.again, {**self.small, "sides": left})["solution"]
            return more

        # |b - A x| <= |A - L U||x| and rounding; the first was estimated from two vectors
        limit = 10 * (self.factors.backward_error + bound)
        best, error, count = refined(
            x, measure, correct, enough=bound, most=_MOST_REFINEMENTS, limit=limit
        )
        if count or error <= limit:
            return best, error, count
        if self.given:
            message = (
                f"a= is not the matrix that was factored: its residual is {error:.1e} of |A||x|, "
                f"where factors that are {self.factors.backward_error:.1e} from it allow "
                f"{limit:.1e}. Give that one, or none"
            )
            raise OptionError(message)
        return None

    def _by_factors(self, step: Step, x: NDArray[Any], sides: NDArray[Any]) -> float:
        """Give the backward error for the product of the factors, and how far that is from A."""
        y = x
        for stage in self.products:
            y = step(stage, {"y": y, "rows": len(x)})["product"]
        left = (sides if self.perm is None else sides[self.perm]) - y
        return backward_error(left, x, sides, self.factors.norm) + self.factors.backward_error


def plan_factored_solve(
    l: BlockedArray,  # noqa: E741
    u: BlockedArray | None,
    b: BlockedArray,
    resources: Resources,
    *,
    perm: np.ndarray[Any, Any] | None,
    factors: FactorCertificate,
    a: BlockedArray | None = None,
    given: bool = False,
    seed: int = 0,
) -> FactoredSolveJob:
    """Plan L L^H X = B, or L U X = P B.

    Parameters
    ----------
    l : BlockedArray of shape (n, n)
        Lower triangle.
    u : BlockedArray of shape (n, n), or None
        Upper triangle; None: L^H.
    b : BlockedArray of shape (n,) or (n, k)
        Right-hand sides; X comes back to this process.
    resources : Resources
        Memory, workers, cores and rates.
    perm : array of shape (n,), or None
        Rows of B in the order of L.
    factors : FactorCertificate
        Of the factorisation.
    a : BlockedArray of shape (n, n), optional
        The matrix: X is refined, and measured against it.
    given : bool
        Refuse an `a` that is not what was factored; else it is left alone.
    seed : int
        Of the vectors from which the condition is estimated.

    Returns
    -------
    FactoredSolveJob
        The plan.

    Raises
    ------
    ShapeError, MemoryBudgetError
        If B or A do not fit the factors, or the memory.
    """
    n = l.shape[0]
    if a is not None and a.shape != (n, n):
        message = f"solve needs the matrix that was factored, of order {n}; {a.name} has shape "
        raise ShapeError(f"{message}{a.shape}")
    if b.ndim not in (1, 2) or b.shape[0] != n or 0 in b.shape:
        message = (
            f"solve needs right-hand sides of length {n}, the order of the factors; {b.name} has "
            f"shape {b.shape}"
        )
        raise ShapeError(message)
    dtype, k = compute_dtype(l.dtype, b.dtype), 1 if b.ndim == 1 else b.shape[1]
    second: tuple[Direction, str] = ("adjoint", "l") if u is None else ("backward", "u")
    upper = l.H if u is None else u
    substitute, again = (
        substitution_stage(
            (("forward", "l"), second), (n, k), resources, dtype, what="solve", breaks=(0, n),
            sides=sides, name=name,
        )
        for name, sides in (("substitute", b.source), ("refine", None))
    )  # fmt: skip
    residual: Stage | None = None
    if a is not None:
        residual = product_stage(a.source, resources, dtype, k, name="residual")
    products = tuple(
        product_stage(x.source, resources, dtype, k, name=f"product {name}", operand=name)
        for name, x in (("upper", upper), ("l", l))
    )
    sources = {"l": l.source, "upper": upper.source, "b": b.source}
    if u is not None:
        sources["u"] = u.source
    if a is not None:
        sources["a"] = a.source
    checks = products if residual is None else (residual,)
    explanation = explain(
        "solve", [f"{x.name} {x.shape} {x.dtype}" for x in (l, b)], [substitute, *checks],
        resources, method="substitution", why="the factors are there",
    )  # fmt: skip
    small = {
        "dtype": dtype, "wide": dtype, "seed": seed + 1, "side": b.name, "sides": None,
        "omega": None, "perm": perm, "pivots": None, "unit": u is not None, "edges": (0, n),
        "width": k,
    }  # fmt: skip
    parameters = {"driver": "solve", "seed": seed, "layout": []}
    return FactoredSolveJob(
        substitute, again, residual, products, factors, perm, b.shape, dtype, given, sources,
        parameters, resources, explanation, small,
    )  # fmt: skip


@dataclass(frozen=True)
class SlogdetJob:
    """One determinant, planned."""

    before: tuple[Stage, ...]
    stage: Stage
    sources: Mapping[str, Source]
    parameters: Mapping[str, Any]
    resources: Resources
    explanation: Explanation
    small: Mapping[str, Any]
    driver: str = "slogdet"

    def run(self, execute: Execute) -> Outcome:
        """Factor; the determinant is the product of U's diagonal."""
        for stage in self.before:
            execute(stage, {})
        acc = execute(self.stage, self.small)
        wide = np.result_type(acc["diagonal"].dtype, np.float64)
        diagonal = acc["diagonal"].astype(wide)
        exchanges = int(np.count_nonzero(acc["pivots"] != np.arange(len(diagonal))))
        sizes = np.abs(diagonal)
        if not sizes.all():
            sign, logabsdet = wide.type(0), -np.inf
        else:
            with np.errstate(invalid="ignore"):  # what overflowed is said by the growth
                sign = wide.type((-1) ** exchanges) * np.prod(diagonal / sizes)
            logabsdet = float(np.sum(np.log(sizes)))
        fields = {"sign": np.asarray(sign), "logabsdet": np.asarray(logabsdet)}
        return Outcome(fields, lu_certificate(acc, self.small))


def plan_slogdet(x: BlockedArray, resources: Resources, *, seed: int = 0) -> SlogdetJob:
    """Plan the sign and the logarithm of the determinant.

    Parameters
    ----------
    x : BlockedArray of shape (n, n)
        The matrix.
    resources : Resources
        Memory, workers, cores and rates.
    seed : int
        Of the vectors that check the factors.

    Returns
    -------
    SlogdetJob
        The plan.

    Raises
    ------
    ShapeError, MemoryBudgetError
        If x is not square, or not even a narrow panel fits.
    """
    require_square(x, "slogdet")
    dtype = compute_dtype(x.dtype)
    before, panels, stage, small = factor_stage(
        x, resources, seed=seed, what="slogdet", dtype=dtype
    )
    explanation = explain(
        "slogdet", [f"{x.name} {x.shape} {x.dtype}"], [*before, stage], resources,
        method="LU factors with partial pivoting", why="the product of U's diagonal",
        targets=[s.target for s in (*before, stage) if s.target is not None],
    )  # fmt: skip
    parameters = {"driver": "slogdet", "seed": seed, "layout": [panels.edges, panels.unit]}
    return SlogdetJob(
        tuple(before), stage, {"a": x.source}, parameters, resources, explanation, small
    )
