"""What factors that exist are good for: systems."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.blocks import BlockedArray, Source
from leptonhpc.errors import MemoryBudgetError, OptionError, ShapeError, SingularMatrixError
from leptonhpc.linalg.certificates import FactorCertificate, SolveCertificate
from leptonhpc.linalg.jobs import Counter, Execute, Outcome
from leptonhpc.linalg.refinement import backward_error, refined
from leptonhpc.linalg.solution import PROBES, Step, combinations
from leptonhpc.linalg.solve import SolveJob, plan_solve, solution_target
from leptonhpc.linalg.substitution import Direction, product_stage, substitution_stage
from leptonhpc.planning import Explanation, Resources, Stage
from leptonhpc.planning.explain import explain
from leptonhpc.planning.layout import compute_dtype

_MOST_REFINEMENTS = 10


@dataclass(frozen=True)
class FactoredSolveJob:
    """One system whose matrix is factored already."""

    substitute: Stage
    again: Stage | None
    """Solves for what is left of the sides; None: X does not come back, and is not refined."""
    residual: Stage | None
    """A X, where A can be reached; for combinations of X where that does not come back."""
    products: tuple[Stage, ...]
    """Their product is the matrix: the last factor first."""
    factors: FactorCertificate
    perm: np.ndarray[Any, Any] | None
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    given: bool
    """A was given for this system."""
    safer: SolveJob | None
    """Factors A in another way; where the factors are far from A, and A can be reached."""
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
            if self.safer is not None:
                return self.safer.run(step)
            raise self._unusable(condition)
        # |b - A x| <= c n eps |L||U||x| (Higham 2002, Theorem 9.4), c as in `Solution.solved`
        bound = 8 * max(len(x), 2) * eps
        measured = self._refined(step, x, sides, bound)
        if measured is None:
            measured = x, self._by_factors(step, x, sides), 0
        x, error, refinements = measured
        if error > bound and self.safer is not None:
            return self.safer.run(step)
        certificate = SolveCertificate(
            converged=error <= bound, backward_error=error, bound=bound, norm=self.factors.norm,
            condition=condition, error=2 * condition * (error + eps), refinements=refinements,
            precision=self.dtype.name, growth=self.factors.growth,
        )  # fmt: skip
        answer: Any = "x" if self.again is None else x.reshape(self.shape)
        return Outcome({"x": answer}, certificate)

    def _unusable(self, condition: float) -> SingularMatrixError:
        found = self.factors
        if found.converged:
            return SingularMatrixError(
                "solve needs a matrix that is regular to working precision; the condition number "
                f"of the one that was factored is about {condition:.1e}. Use leptonhpc.solve, "
                "which scales rows and columns, or lstsq"
            )
        return SingularMatrixError(
            f"solve needs factors near their matrix; the pivots of these grew {found.growth:.1e} "
            f"times: their product is {found.backward_error:.1e} of |A| from it, and singular to "
            "working precision (A need not be). Give the matrix as a=, or use leptonhpc.solve, "
            "which factors it in another way"
        )

    def _refined(
        self, step: Step, x: NDArray[Any], sides: NDArray[Any], bound: float
    ) -> tuple[NDArray[Any], float, int] | None:
        """Measure X against A and refine it; None if there is no A, or another one by now."""
        stage, again = self.residual, self.again
        if stage is None:
            return None
        norm = self.factors.norm

        def measure(x: NDArray[Any]) -> tuple[float, NDArray[Any]]:
            left = sides - step(stage, {"y": x, "rows": len(x)})["product"]
            return backward_error(left, x, sides, norm), left

        def correct(left: NDArray[Any]) -> NDArray[Any]:
            assert again is not None
            more: NDArray[Any] = step(again, {**self.small, "sides": left})["solution"]
            return more

        # |b - A x| <= |A - L U||x| and rounding; the first was estimated from two vectors
        limit = 10 * (self.factors.backward_error + bound)
        best, error, count = refined(
            x, measure, correct, enough=bound, most=_MOST_REFINEMENTS if again else 0, limit=limit
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
        Right-hand sides; X comes back to this process where it is small.
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
    target = solution_target(n, k, dtype, resources)
    substitute, again = (
        substitution_stage(
            (("forward", "l"), second), (n, k), resources, dtype, what="solve", breaks=(0, n),
            sides=sides, target=target, name=name,
        )
        for name, sides in (("substitute", b.source), ("refine", None))
    )  # fmt: skip
    residual: Stage | None = None
    columns = k if target is None else PROBES
    if a is not None:
        residual = product_stage(a.source, resources, dtype, columns, name="residual")
    products = tuple(
        product_stage(x.source, resources, dtype, columns, name=f"product {name}", operand=name)
        for name, x in (("upper", upper), ("l", l))
    )
    sources = {"l": l.source, "upper": upper.source, "b": b.source}
    if u is not None:
        sources["u"] = u.source
    if a is not None:
        sources["a"] = a.source
    safer: SolveJob | None = None
    if a is not None and not factors.converged:
        with contextlib.suppress(MemoryBudgetError):
            planned = plan_solve(a, b, resources, seed=seed)
            safer = replace(planned, choices=planned.choices[-1:])  # that of mixed rows
            sources = {**planned.sources, **sources}
    checks = products if residual is None else (residual,)
    explanation = explain(
        "solve", [f"{x.name} {x.shape} {x.dtype}" for x in (l, b)], [substitute, *checks],
        resources, method="substitution", why="the factors are there",
        targets=[] if target is None else [target],
    )  # fmt: skip
    omega = None if target is None else combinations(k, dtype).astype(dtype)
    small = {
        "dtype": dtype, "wide": dtype, "seed": seed + 1, "side": b.name, "sides": None,
        "omega": omega, "perm": perm, "pivots": None, "unit": u is not None, "edges": (0, n),
        "width": k,
    }  # fmt: skip
    parameters = {"driver": "solve", "seed": seed, "layout": [len(substitute.tasks)]}
    return FactoredSolveJob(
        substitute, again if target is None else None, residual, products, factors, perm, b.shape,
        dtype, given, safer, sources, parameters, resources, explanation, small,
    )  # fmt: skip
