"""Systems A X = B by Cholesky or LU factors, refined until the backward error is small."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from leptonhpc.blocks import BlockedArray, Source
from leptonhpc.blocks.drawing import format_nbytes
from leptonhpc.blocks.identity import IdentitySource
from leptonhpc.errors import (
    MemoryBudgetError,
    NotPositiveDefiniteError,
    NumericRangeError,
    OptionError,
    ShapeError,
    SingularMatrixError,
)
from leptonhpc.linalg.cholesky import require_square
from leptonhpc.linalg.eigh_stages import Stages
from leptonhpc.linalg.jobs import Counter, Execute, Outcome
from leptonhpc.linalg.scaling import Scaling, plan_scaling
from leptonhpc.linalg.scratch import stored_input
from leptonhpc.linalg.solution import PROBES, Question, Refused, Solution, Step, growth_of
from leptonhpc.linalg.solve_choices import Assume, Factored, factored, factored_mixed
from leptonhpc.linalg.substitution import product_stage
from leptonhpc.planning import Explanation, Resources, Stage, Target
from leptonhpc.planning.costs import LIBRARIES_NBYTES
from leptonhpc.planning.explain import explain
from leptonhpc.planning.layout import compute_dtype

Precision = Literal["full", "mixed"]

_HELD_NBYTES = 1 << 26
"""Solutions up to this size come back whole, and can be refined."""
_NARROW = {"d": "f", "D": "F"}


@dataclass(frozen=True)
class SolveJob:
    """One system, planned."""

    choices: tuple[Factored, ...]
    """The first is tried first; the second if that does not converge."""
    scaling: Scaling | None
    """Tried where the matrix is singular to working precision; None: there is no memory for it."""
    symmetry: Stage | None
    """Compares both triangles of a matrix of which symmetry is said; Cholesky does so itself."""
    question: Question
    sources: Mapping[str, Source]
    parameters: Mapping[str, Any]
    resources: Resources
    explanation: Explanation
    names: tuple[str, str]
    driver: str = "solve"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the solution."""
        return self.question.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of computing."""
        return self.question.dtype

    def run(self, execute: Execute) -> Outcome:
        """Factor, solve, refine; once more in full precision where that did not do."""
        counter = Counter()

        def step(stage: Stage, small: Mapping[str, Any]) -> dict[str, Any]:
            return execute(replace(stage, name=counter.next(stage.name)), small)

        if self.symmetry is not None:
            n, name = self.shape[0], self.names[0]
            y = np.zeros((n, 1), self.dtype)
            told = {"y": y, "check": True, "columns": n, "name": name, "driver": self.driver}
            step(self.symmetry, told)
        for number, choice in enumerate(self.choices):
            for stage in choice.before if number == 0 or choice.mixed else ():
                step(stage, {})
            last = number + 1 == len(self.choices)
            try:
                acc = step(choice.factor, choice.small)
            except (NotPositiveDefiniteError, NumericRangeError):
                if last:
                    raise
                continue  # so it is in single precision, or with grown elements
            if self.question.inverse:
                self._require_range(float(acc["hypot_norm"]))
            # in full precision only grown elements are a reason to factor something else
            narrow = np.dtype(choice.small["dtype"]) != self.dtype
            last = last or (not narrow and growth_of(acc) <= self.shape[0])
            if last:
                self._require_regular(acc, choice)
            elif not np.all(acc["diagonal"]):
                continue
            found = Solution(self.question, choice, acc, step).solved(last=last)
            if isinstance(found, Refused):
                found = self._scaled(step, found)
            if found is not None:
                return found
        raise AssertionError  # the last choice gives an outcome

    def _scaled(self, step: Step, refused: Refused) -> Outcome:
        """Solve with rows and columns scaled, if that is what makes the matrix ill-conditioned."""
        scales = None if self.scaling is None else self.scaling.scales(step)
        if self.scaling is None or scales is None:
            raise self._singular(refused)
        self.scaling.run(step, scales)
        choice = self.scaling.choice
        acc = step(choice.factor, choice.small)
        self._require_regular(acc, choice)
        given = scales.side(refused.sides) if self.question.held else None
        solution = Solution(self.question, choice, acc, step, scales, given)
        found = solution.solved(last=True)
        assert found is not None
        if isinstance(found, Refused):
            raise self._singular(found)
        if not self.scaling.write(step, scales):
            raise self._out_of_range("solution" if not self.question.inverse else "inverse")
        return found

    def _singular(self, refused: Refused) -> SingularMatrixError:
        rounded = self.resources.precision == "tf32"
        hint = "Factors in TF32 have 3 digits: pass precision='float32'. " if rounded else ""
        return SingularMatrixError(
            f"{self.driver} needs a matrix that is regular to working precision, its rows and "
            f"columns scaled or not; the condition number of {self.names[0]} is about "
            f"{refused.condition:.1e}{refused.where}. {hint}For the smallest solution use lstsq"
        )

    def _require_range(self, norm: float) -> None:
        """Refuse an inverse that overflows: an entry of it is no less than 1 / (n |A|)."""
        largest = float(np.finfo(self.dtype).max)
        if 0 < norm * self.shape[0] < 1 / largest:
            raise self._out_of_range("inverse")

    def _out_of_range(self, what: str) -> NumericRangeError:
        hint = ", or use solve" if what == "inverse" else ""
        message = f"the {what} of {self.names[0]} overflows {self.dtype}; scale the array first"
        return NumericRangeError(message + hint)

    def _require_regular(self, acc: Mapping[str, Any], choice: Factored) -> None:
        zeros = np.flatnonzero(acc["diagonal"] == 0)
        if len(zeros):
            message = (
                f"{self.driver} needs a regular matrix; {self.names[0]} is singular: column "
                f"{int(zeros[0])} depends on those before it, in block "
                f"{choice.block_of(int(zeros[0]))}. For the smallest solution use lstsq"
            )
            raise SingularMatrixError(message)


def plan_solve(
    a: BlockedArray,
    b: BlockedArray,
    resources: Resources,
    *,
    assume: Assume = "gen",
    precision: Precision = "full",
    seed: int = 0,
    driver: str = "solve",
    held: bool = True,
) -> SolveJob:
    """Plan A X = B.

    Parameters
    ----------
    a : BlockedArray of shape (n, n)
        The matrix.
    b : BlockedArray of shape (n,) or (n, k)
        Right-hand sides.
    resources : Resources
        Memory, workers, cores and rates.
    assume : {"gen", "sym", "pos"}
        General, Hermitian (LU, and it is checked), positive definite (Cholesky).
    precision : {"full", "mixed"}
        Factor in the dtype of computing, or in single precision and refine.
    seed : int
        Of the vectors that check the factors.
    driver : str
        Who asks, for messages.
    held : bool
        Let X come back whole (and be refined) if it is small.

    Returns
    -------
    SolveJob
        The plan.

    Raises
    ------
    ShapeError, OptionError, MemoryBudgetError
        If the question makes no sense, or does not fit.
    """
    n = _check(a, b, assume, precision, driver)
    dtype = compute_dtype(a.dtype, b.dtype)
    k = 1 if b.ndim == 1 else b.shape[1]
    target = solution_target(n, k, dtype, resources, held=held)
    held = target is None
    dtypes = [dtype]
    if precision == "mixed" and not held:
        nbytes = n * k * dtype.itemsize
        message = (
            f"{driver} refines a solution that is in memory whole; that of {b.name} takes "
            f"{format_nbytes(nbytes)}"
        )
        if nbytes > _HELD_NBYTES:
            message += f", and {format_nbytes(_HELD_NBYTES)} are the most: give fewer columns at a"
            raise OptionError(f"{message} time, or precision='full'")
        least = -(-(8 * nbytes + LIBRARIES_NBYTES) // 10**6)
        message += f" and needs at least memory='{least} MB', fewer columns at a time, or"
        raise MemoryBudgetError(f"{message} precision='full'")
    if precision == "mixed" and dtype.char in _NARROW:
        dtypes.insert(0, np.dtype(_NARROW[dtype.char]))
    choices = tuple(
        factored(a, b.source, resources, d, assume, seed, (n, k), target, driver) for d in dtypes
    )
    sources: dict[str, Source] = {"a": a.source, "b": b.source}
    if assume != "pos":
        mixed, more = factored_mixed(a, b.source, resources, dtype, seed, (n, k), target, driver)
        choices, sources = (*choices, mixed), {**sources, **more}
    residual = product_stage(a.source, resources, dtype, k if held else PROBES, name="residual")
    question = Question(
        residual,
        b.shape,
        dtype,
        held,
        b.name,
        isinstance(b.source, IdentitySource),
        resources.precision,
    )
    scaling: Scaling | None = None
    with contextlib.suppress(MemoryBudgetError):
        scaling = plan_scaling(
            a, b.source, resources, dtype, seed=seed, shape=(n, k), target=target, driver=driver
        )
    symmetry: Stage | None = None
    if assume == "sym":
        matrix = stored_input("a", a.source)
        symmetry = Stages(resources, dtype, driver, a.name).density(matrix, 1, 1, first=True)
        symmetry = replace(symmetry, name="symmetry")
    stages = [*([symmetry] if symmetry else []), *choices[0].stages, residual]
    targets = [s.target for s in stages if s.target is not None]
    explanation = explain(
        driver, [f"{x.name} {x.shape} {x.dtype}" for x in (a, b)], stages, resources,
        method="Cholesky factors" if assume == "pos" else "LU factors with partial pivoting",
        why=f"assume={assume!r}; factored in {dtypes[0].name}"
        + (", refined to " + dtype.name if len(dtypes) > 1 else ""),
        targets=targets,
    )  # fmt: skip
    parameters = {
        "driver": driver, "seed": seed, "assume": assume, "precision": precision,
        "layout": [choices[0].small["edges"], [s.name for s in stages]],
    }  # fmt: skip
    return SolveJob(
        choices, scaling, symmetry, question, sources, parameters, resources, explanation,
        (a.name, b.name), driver=driver,
    )  # fmt: skip


def solution_target(
    n: int, k: int, dtype: np.dtype[Any], resources: Resources, *, held: bool = True
) -> Target | None:
    """Give where X is written.

    Parameters
    ----------
    n, k : int
        Rows and columns of X.
    dtype : dtype
        Of computing.
    resources : Resources
        Memory, workers, cores and rates.
    held : bool
        Let X come back whole if it is small.

    Returns
    -------
    Target or None
        None: it comes back.
    """
    if held and n * k * dtype.itemsize <= min(_HELD_NBYTES, resources.arrays_nbytes // 8):
        return None
    return Target("x", (n, k), dtype.str, (min(n, 1024), min(k, 1024)))


def _check(
    a: BlockedArray, b: BlockedArray, assume: Assume, precision: Precision, driver: str
) -> int:
    n = require_square(a, driver)
    if assume not in ("gen", "sym", "pos"):
        raise OptionError(f"assume is 'gen', 'sym' or 'pos'; found {assume!r}")
    if precision not in ("full", "mixed"):
        raise OptionError(f"precision is 'full' or 'mixed'; found {precision!r}")
    if b.ndim not in (1, 2) or b.shape[0] != n or 0 in b.shape:
        message = (
            f"{driver} needs right-hand sides of length {n}, as {a.name} has shape {a.shape}; "
            f"{b.name} has shape {b.shape}"
        )
        raise ShapeError(message)
    return n
