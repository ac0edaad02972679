"""All eigenpairs of a Hermitian matrix of any size: spectral divide and conquer by products and QR.

A is shifted so that about half of its eigenvalues are positive; a polynomial iteration takes it to
its sign; the columns of the projector (I + sign) / 2 span the eigenvectors of the upper half, QR
gives them and their complement as V = [V1 V2], and V1^H A V1 and V2^H A V2 are two problems of half
the order [1]_. One worker solves what it can hold. What is far from right would be seen: residuals
of all pairs are measured with the eigenvectors as they are given.

.. [1] Y. Nakatsukasa, N. J. Higham, Stable and efficient spectral divide and conquer algorithms for
   the symmetric eigenvalue decomposition and the SVD, SIAM J. Sci. Comput. 35, 2013.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from leptonhpc.blocks import BlockedArray, Source
from leptonhpc.blocks.drawing import format_nbytes
from leptonhpc.errors import MemoryBudgetError
from leptonhpc.linalg.certificates import spectrum_certificate
from leptonhpc.linalg.eigh_recursion import BLOCKS, WIDTH, Recursion
from leptonhpc.linalg.eigh_stages import UNIT, Stages
from leptonhpc.linalg.jobs import Execute, Outcome
from leptonhpc.linalg.rechunk import in_squares
from leptonhpc.linalg.scratch import ScratchSource, stored_input
from leptonhpc.linalg.sign import iterations
from leptonhpc.linalg.sizes import grain
from leptonhpc.planning import Explanation, Resources, Stage, Target
from leptonhpc.planning.explain import explain
from leptonhpc.planning.layout import compute_dtype


@dataclass(frozen=True)
class DivideEigh:
    """All eigenpairs, or some of them, planned."""

    before: tuple[Stage, ...]
    stages: Stages
    matrix: ScratchSource
    pairs: tuple[int, int]
    """First eigenpair in ascending order, and the one after the last."""
    seed: int
    sources: Mapping[str, Source]
    parameters: Mapping[str, Any]
    resources: Resources
    explanation: Explanation
    driver: str = "eigh"

    def run(self, execute: Execute) -> Outcome:
        """Divide until parts fit; see `Job.run`."""
        for stage in self.before:
            execute(stage, {})
        n, (low, high) = self.matrix.shape[0], self.pairs
        run = Recursion(self.stages, n, self.seed, execute)
        dtype = self.stages.dtype
        unit = (min(n, UNIT), min(high - low, UNIT))
        target = Target("eigenvectors", (n, high - low), dtype.str, unit)
        w, vectors = run.solved(self.matrix, 0, target, (low, high))
        product, image = self.stages.product(self.matrix, vectors, "image")
        run(product, {})
        norm = run.norm or 1.0
        told = {"w": w, "unit": norm}
        squares = run(self.stages.residuals(image, vectors), told)["squares"]
        gram = run(self.stages.square(vectors, None)[0], {"alpha": 1.0, "beta": 0.0})
        rounding = 8 * math.sqrt(n) * float(np.finfo(dtype).eps) * run.top
        rounding += grain(dtype, run.top)
        certificate = spectrum_certificate(
            "divide and conquer", run.passes, run.norm, np.sqrt(squares) * norm, rounding,
            deviation=float(gram["max_defect"]), spread=float(gram["hypot_defect"]),
            allowed=4 * rounding, complete=high - low == n,
        )  # fmt: skip
        return Outcome({"eigenvalues": w, "eigenvectors": "eigenvectors"}, certificate)


def plan_divide(
    x: BlockedArray, resources: Resources, *, k: int | None, which: str, seed: int
) -> DivideEigh:
    """Plan eigenpairs of a matrix that no worker holds.

    Parameters
    ----------
    x : BlockedArray of shape (n, n)
        Hermitian.
    resources : Resources
        Memory, workers, cores and rates.
    k : int, optional
        How many pairs; None: all.
    which : {"largest", "smallest"}
        By algebraic value.
    seed : int
        Of vectors that are drawn.

    Returns
    -------
    DivideEigh
        The plan.

    Raises
    ------
    MemoryBudgetError
        If not even panels fit.
    """
    try:
        return _planned(x, resources, k, which, seed)
    except MemoryBudgetError as error:
        least = re.search(r"memory='\d+ MB'", str(error))
        message = (
            f"eigh of {x.name} needs at least {least[0] if least else 'more memory'} to divide it "
            f"into parts that one worker holds; found {format_nbytes(resources.memory_nbytes)}. "
            "Ask for some eigenpairs with k= to stay within less"
        )
        raise MemoryBudgetError(message) from error


def _planned(
    x: BlockedArray, resources: Resources, k: int | None, which: str, seed: int
) -> DivideEigh:
    n, dtype = x.shape[0], compute_dtype(x.dtype)
    before: list[Stage] = []
    planned = in_squares(x, "a", before, resources)
    stages = Stages(resources, dtype, "eigh", x.name)
    stages.require_one()
    matrix = stored_input("a", planned.source)
    count = n if k is None else k
    pairs = (n - count, n) if which == "largest" else (0, count)
    expected = [*before, *_expected(stages, matrix, pairs)]
    parts = 1
    while not stages.fits(-(-n // parts)):
        parts *= 2
    explanation = explain(
        "eigh", [f"{x.name} {x.shape} {x.dtype}"], expected, resources,
        method="spectral divide and conquer: signs by products, bases by QR",
        why=f"no worker holds the matrix and its eigenvectors; about {max(2, parts)} parts",
        targets=[
            *(s.target for s in expected if s.target is not None),
            Target("eigenvectors", (n, pairs[1] - pairs[0]), dtype.str, (n, n)),
        ],
    )  # fmt: skip
    parameters = {
        "driver": "eigh", "method": "divide", "k": k, "which": which, "seed": seed,
        "layout": [
            resources.memory_nbytes, resources.workers, resources.threads,
            resources.rates.to_dict(),
        ],
    }  # fmt: skip
    return DivideEigh(
        tuple(before), stages, matrix, pairs, seed, {"a": x.source}, parameters, resources,
        explanation,
    )  # fmt: skip


def _expected(stages: Stages, matrix: ScratchSource, pairs: tuple[int, int]) -> list[Stage]:
    """Give the stages that will run if every part is halved, each with how often."""
    found = expected_division(stages, matrix)
    size = (matrix.shape[0], pairs[1] - pairs[0])
    vectors = stages.drawn(size, "eigenvectors")[1]
    found.append(stages.product(matrix, vectors, "image")[0])
    found.append(stages.residuals(vectors, vectors))
    found.append(stages.square(vectors, None)[0])
    return found


def expected_division(stages: Stages, matrix: ScratchSource) -> list[Stage]:
    """Give the stages that take a Hermitian matrix to its pairs, if every part is halved.

    Parameters
    ----------
    stages : Stages
        Plans them.
    matrix : ScratchSource of shape (n, n)
        The matrix.

    Returns
    -------
    list of Stage
        Each with how often it runs.
    """
    found: list[Stage] = []
    n, depth, repeats = matrix.shape[0], 0, 1

    def add(stage: Stage, times: int = 1) -> None:
        found.append(replace(stage, repeats=times * repeats, most_repeats=times * repeats))

    b = matrix
    while depth == 0 or not stages.fits(n):
        k = max(1, n // 2)
        blocks = min(BLOCKS, max(1, n // WIDTH))
        width = min(WIDTH, n)
        add(stages.density(b, width, width * blocks, first=not depth), blocks)
        stage, sign = stages.shifted(b, "s0")
        add(stage, 2)
        times = iterations(1 / (8 * n)) + 1
        add(stages.square(sign, "p0")[0], times)
        add(stages.product(sign, sign, "t0", kind="hermitian")[0], times)
        stage, v = stages.drawn((n, n), "s0")
        add(stage)
        stage, image = stages.product(sign, v.columns(0, k), "t0")
        add(stage, 2)
        stage, both = stages.joined(image, v.columns(k, n), "q0")
        add(stage, 3)
        qr = stages.orthonormal(both, "v0", seed=0)
        add(qr.factor, 2)
        add(qr.form, 2)
        add(stages.product(b, v, "s0")[0])
        stage, part = stages.product(v.columns(0, k).H, v.columns(0, k), "low0", kind="hermitian")
        add(stage, 2)
        add(stages.product(v.columns(0, k), part, "low-lifted0")[0], 2)
        b, n, depth, repeats = part, k, depth + 1, 2 * repeats
    add(stages.pairs(b, "low-pairs0")[0])
    return found
