"""What factors that exist are good for: systems, determinants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from leptonhpc.blocks import BlockedArray, Source
from leptonhpc.errors import ShapeError, SingularMatrixError
from leptonhpc.linalg.certificates import FactorCertificate, SolveCertificate
from leptonhpc.linalg.cholesky import require_square
from leptonhpc.linalg.jobs import Execute, Outcome
from leptonhpc.linalg.lu import factor_stage, lu_certificate
from leptonhpc.linalg.solve import backward_error
from leptonhpc.linalg.substitution import Direction, product_stage, substitution_stage
from leptonhpc.planning import Explanation, Resources, Stage
from leptonhpc.planning.explain import explain
from leptonhpc.planning.layout import compute_dtype


@dataclass(frozen=True)
class FactoredSolveJob:
    """One system whose matrix is factored already."""

    substitute: Stage
    products: tuple[Stage, ...]
    """Their product is the matrix: the last factor first."""
    factors: FactorCertificate
    perm: np.ndarray[Any, Any] | None
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    sources: Mapping[str, Source]
    parameters: Mapping[str, Any]
    resources: Resources
    explanation: Explanation
    small: Mapping[str, Any]
    driver: str = "solve"

    def run(self, execute: Execute) -> Outcome:
        """Substitute, and compare the product of the factors with the right-hand sides."""
        found = execute(self.substitute, self.small)
        x, sides = found["solution"], found["sides"]
        norm, n = self.factors.norm, len(x)
        condition, eps = norm * float(found["max_probe"]), float(np.finfo(self.dtype).eps)
        if not np.isfinite(x).all() or not condition / n**0.5 * eps < 1:
            message = (
                "solve needs a matrix that is regular to working precision; the condition number "
                f"of the one that was factored is about {condition:.1e}. Scale its rows and "
                "columns, or use lstsq"
            )
            raise SingularMatrixError(message)
        y = x
        for stage in self.products:
            y = execute(stage, {"y": y, "rows": n})["product"]
        left = (sides if self.perm is None else sides[self.perm]) - y
        error = backward_error(left, x, sides, norm) + self.factors.backward_error
        bound = 8 * max(n, 2) * eps
        certificate = SolveCertificate(
            converged=error <= bound, backward_error=error, bound=bound, norm=norm,
            condition=condition, error=2 * condition * (error + eps), refinements=0,
            precision=self.dtype.name, growth=self.factors.growth,
        )  # fmt: skip
        return Outcome({"x": x.reshape(self.shape)}, certificate)


def plan_factored_solve(
    l: BlockedArray,  # noqa: E741
    u: BlockedArray | None,
    b: BlockedArray,
    resources: Resources,
    *,
    perm: np.ndarray[Any, Any] | None,
    factors: FactorCertificate,
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
    seed : int
        Of the vectors from which the condition is estimated.

    Returns
    -------
    FactoredSolveJob
        The plan.

    Raises
    ------
    ShapeError, MemoryBudgetError
        If B does not fit the factors, or the memory.
    """
    n = l.shape[0]
    if b.ndim not in (1, 2) or b.shape[0] != n or 0 in b.shape:
        message = (
            f"solve needs right-hand sides of length {n}, the order of the factors; {b.name} has "
            f"shape {b.shape}"
        )
        raise ShapeError(message)
    dtype, k = compute_dtype(l.dtype, b.dtype), 1 if b.ndim == 1 else b.shape[1]
    second: tuple[Direction, str] = ("adjoint", "l") if u is None else ("backward", "u")
    upper = l.H if u is None else u
    substitute = substitution_stage(
        (("forward", "l"), second), (n, k), resources, dtype, what="solve", breaks=(0, n),
        sides=b.source,
    )  # fmt: skip
    products = tuple(
        product_stage(x.source, resources, dtype, k, name=f"product {name}", operand=name)
        for name, x in (("upper", upper), ("l", l))
    )
    sources = {"l": l.source, "upper": upper.source, "b": b.source}
    if u is not None:
        sources["u"] = u.source
    explanation = explain(
        "solve", [f"{x.name} {x.shape} {x.dtype}" for x in (l, b)], [substitute, *products],
        resources, method="substitution", why="the factors are there",
    )  # fmt: skip
    small = {
        "dtype": dtype, "wide": dtype, "seed": seed + 1, "side": b.name, "sides": None,
        "omega": None, "perm": perm, "pivots": None, "unit": u is not None, "edges": (0, n),
        "width": k,
    }  # fmt: skip
    parameters = {"driver": "solve", "seed": seed, "layout": []}
    return FactoredSolveJob(
        substitute, products, factors, perm, b.shape, dtype, sources, parameters, resources,
        explanation, small,
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
