"""Q and R of a tall matrix in scratch, both sides beyond memory, and what solves with them.

A few vectors stay in memory; Q, R and the matrix stream by. How small the smallest singular value
of R may be is told by R^-1 g for random g: it is no shorter than |<u, g>| / s_n, u the last left
singular vector. That all of 8 are below a tenth of 1 / s_n happens once in 600 million times: it
is the chance that 8 normal variables are below a tenth [1]_.

References
----------
.. [1] J. D. Dixon, Estimating extremal eigenvalues and condition numbers of matrices, SIAM J.
   Numer. Anal. 20, 1983.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.blocks import BlockedArray, Source
from leptonhpc.linalg.drawn import drawn
from leptonhpc.linalg.jobs import Counter, Execute
from leptonhpc.linalg.qr import HouseholderQr, plan_householder
from leptonhpc.linalg.qr_tall import QrCertificate
from leptonhpc.linalg.scratch import ScratchSource, made, with_operands
from leptonhpc.linalg.sizes import lengths
from leptonhpc.linalg.substitution import product_stage, substitution_stage
from leptonhpc.planning import Resources, Stage, Target
from leptonhpc.planning.tasks import ADJOINT

PROBES = 8
"""Random vectors that tell how small a singular value may be."""
UNSEEN = 10.0
"""The largest of them is at least this part of it."""


class Few:
    """Runs stages that multiply a few vectors, each under a name of its own."""

    def __init__(self, execute: Execute) -> None:
        self.execute, self.counter = execute, Counter()

    def __call__(self, stage: Stage, small: Mapping[str, Any]) -> dict[str, Any]:
        """Run a stage."""
        return self.execute(replace(stage, name=self.counter.next(stage.name)), small)

    def under(self, name: str) -> Execute:
        """Give what runs stages of another job, whose names are told apart."""
        return lambda stage, small: self.execute(replace(stage, name=f"{name} {stage.name}"), small)

    def times(self, stage: Stage, y: NDArray[Any], rows: int) -> NDArray[Any]:
        """Give a matrix times vectors."""
        product: NDArray[Any] = self(stage, {"y": np.ascontiguousarray(y), "rows": rows})["product"]
        return product


@dataclass(frozen=True)
class TiledQr:
    """T = Q R, planned, T = A or A^H tall; operand "a" of the job is T."""

    qr: HouseholderQr
    apply: Stage
    """T times vectors."""
    adjoint: Stage
    """T^H times vectors."""
    of_q: Stage
    """Q^H times vectors, or Q times vectors where A is wide."""
    solve: Stage
    """R X = B, or R^H X = B where A is wide."""
    probe: Stage
    """R X = G."""
    shape: tuple[int, int]
    """Of T."""
    wide: np.dtype[Any]
    """Of vectors: double precision."""
    seed: int

    @property
    def stages(self) -> tuple[Stage, ...]:
        """What runs before the vectors."""
        return (*self.qr.stages, self.probe)

    def factored(self, few: Few) -> tuple[QrCertificate, float]:
        """Factor; give the certificate, and how large |R^-1| is, about."""
        certificate = self.qr.run(few).certificate
        assert isinstance(certificate, QrCertificate)
        g = drawn((self.shape[1], PROBES), self.wide, self.seed)
        with np.errstate(over="ignore", invalid="ignore"):
            y = self.solved(few, self.probe, g)
        return certificate, float(np.max(lengths(y)))

    def solved(self, few: Few, stage: Stage, sides: NDArray[Any]) -> NDArray[Any]:
        """Solve with R or R^H for sides that are here."""
        found: NDArray[Any] = few(stage, self.small(sides, self.wide))["solution"]
        return found

    def small(self, sides: NDArray[Any] | None, dtype: np.dtype[Any]) -> dict[str, Any]:
        """Give what a substitution is run with."""
        n = self.shape[1]
        return {
            "dtype": dtype, "wide": dtype, "seed": self.seed + 1, "side": "Q^H", "sides": sides,
            "omega": None, "perm": None, "pivots": None, "unit": False, "edges": (0, n),
            "width": 0 if sides is None else sides.shape[1],
        }  # fmt: skip


def plan_tiled_qr(
    t: BlockedArray, resources: Resources, *, dtype: np.dtype[Any], columns: int, of_adjoint: bool,
    what: str, seed: int,
) -> TiledQr:  # fmt: skip
    """Plan Q and R in scratch, and products and systems with a few vectors.

    Parameters
    ----------
    t : BlockedArray of shape (m, n)
        Tall; operand "a" of the job.
    resources : Resources
        Memory, workers, cores and rates.
    dtype : dtype
        Of computing.
    columns : int
        Vectors.
    of_adjoint : bool
        The system is T^H X = B, of minimum norm; else T X = B, by least squares.
    what : str
        The driver, for messages.
    seed : int
        Of random vectors.

    Returns
    -------
    TiledQr
        The plan.

    Raises
    ------
    MemoryBudgetError
        If not even a narrow panel, or the vectors, fit.
    """
    (m, n), wide = t.shape, np.result_type(dtype, np.float64)
    qr = plan_householder(t, resources, seed=seed, dtype=dtype)
    assert qr.form.target is not None
    assert qr.unpack.target is not None
    q, r = (replace(stage.target, scratch=True) for stage in (qr.form, qr.unpack) if stage.target)
    qr = replace(qr, form=replace(qr.form, target=q), unpack=replace(qr.unpack, target=r))

    def product(source: Source, name: str, operand: str) -> Stage:
        return product_stage(source, resources, wide, columns, name=name, operand=operand)

    def system(operand: str, count: int, name: str) -> Stage:
        direction: Any = "forward" if operand.endswith(ADJOINT) else "backward"
        return substitution_stage(
            ((direction, operand),), (n, count), resources, wide, what=what, breaks=(0, n),
            sides=None, name=name,
        )  # fmt: skip

    held = made(q) if of_adjoint else made(q).H
    of_q = with_operands(product(held, "times Q", "q"), {"q": held}, None)
    return TiledQr(
        qr, product(t.source, "times A", "a"), product(t.H.source, "times A^H", "a" + ADJOINT),
        of_q, system("r" + ADJOINT * of_adjoint, columns, "substitute"),
        system("r", PROBES, "condition"), (m, n), wide, seed,
    )  # fmt: skip


def scratch_product(
    x: ScratchSource, resources: Resources, wide: np.dtype[Any], columns: int, name: str
) -> Stage:
    """Plan X times a few vectors, X in scratch.

    Parameters
    ----------
    x : ScratchSource of shape (m, n)
        The matrix.
    resources : Resources
        Memory, workers, cores and rates.
    wide : dtype
        Of the vectors.
    columns : int
        How many.
    name : str
        Of the stage.

    Returns
    -------
    Stage
        One reading of X.
    """
    stage = product_stage(x, resources, wide, columns, name=name, operand="x")
    return with_operands(stage, {"x": x}, None)


def scratch_target(name: str, shape: tuple[int, int], dtype: np.dtype[Any], unit: int) -> Target:
    """Give a matrix that is removed with the job.

    Parameters
    ----------
    name : str
        Of the array.
    shape : tuple of int
        Its shape.
    dtype : dtype
        Of its numbers.
    unit : int
        Rows and columns of a chunk.

    Returns
    -------
    Target
        In square chunks.
    """
    return Target(name, shape, dtype.str, tuple(min(k, unit) for k in shape), scratch=True)
