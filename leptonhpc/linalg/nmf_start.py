"""How a non-negative factorisation begins: at random, or from singular vectors.

NNDSVD takes of each pair of singular vectors the positive parts, or the negative ones, whichever
have the larger product of norms [1]_; "nndsvda" puts the mean of X (of its leading modes) where
that leaves zeros.

References
----------
.. [1] C. Boutsidis, E. Gallopoulos, SVD based initialization: a head start for nonnegative matrix
   factorization, Pattern Recognit. 41, 2008, Algorithm NNDSVD.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.errors import NumericRangeError
from leptonhpc.linalg.jobs import Execute
from leptonhpc.linalg.nmf_passes import REMEDY, Start, Tall
from leptonhpc.linalg.svd_gram import GramSvd
from leptonhpc.linalg.svd_krylov import KrylovSvd
from leptonhpc.planning import Stage, Target

U = "u of start"
"""Scratch array of the left singular vectors."""


@dataclass(frozen=True)
class Spectrum:
    """Leading singular triplets; the long vectors are in scratch."""

    s: NDArray[Any]
    v: NDArray[Any]
    """(n, r)."""
    passes: float

    @property
    def operand(self) -> tuple[str, int]:
        """Where the long vectors are, and how many."""
        return U, len(self.s)


@dataclass(frozen=True)
class SpectrumStages:
    """The truncated SVD as stages of another job, its long factor in scratch."""

    tall: Tall
    algorithm: GramSvd | KrylovSvd

    @property
    def operand(self) -> tuple[str, int]:
        """Where the long vectors will be, and how many."""
        return U, self.algorithm.options.expected_rank(self.tall.shape[1])

    @property
    def stages(self) -> list[Stage]:
        """Give the stages that are expected to run."""
        return [self._renamed(stage) for stage in self.algorithm.stages]

    def run(self, execute: Execute) -> Spectrum:
        """Run them."""
        # what a run finds out stays with the run: the plan can be run again
        algorithm = replace(self.algorithm, operator=self.algorithm.operator.unused())

        def execute_renamed(stage: Stage, small: Mapping[str, Any]) -> dict[str, Any]:
            return execute(self._renamed(stage), {**small, "remedy": REMEDY})

        try:
            outcome = algorithm.run(execute_renamed)
        except NumericRangeError as error:
            advice = "" if "Scale" in str(error) else ". Scale the array first"
            raise NumericRangeError(f"{error}{advice}") from error
        short = outcome.fields["u" if self.tall.transposed else "vh"]
        v = short if self.tall.transposed else short.T
        s = np.asarray(outcome.fields["s"], float)
        return Spectrum(s, np.asarray(v, float), algorithm.operator.passes)

    def _renamed(self, stage: Stage) -> Stage:
        target = stage.target
        if target is not None and not target.scratch:
            width = self.operand[1]
            target = Target(
                U, (self.tall.shape[0], width), target.dtype, (self.tall.layout.height, width),
                scratch=True,
            )  # fmt: skip
        return replace(stage, name=f"start {stage.name}", target=target)


def split_stage(tall: Tall, operand: tuple[str, int]) -> Stage:
    """Plan the pass over left singular vectors that measures their positive and negative parts.

    Parameters
    ----------
    tall : Tall
        X.
    operand : tuple of (str, int)
        The vectors, and how many there are.

    Returns
    -------
    Stage
        A pass over scratch.
    """
    return tall.stage("start split", "split_norms", (operand,), 6.0 * tall.rank)


def from_spectrum(
    tall: Tall, execute: Execute, spectrum: Spectrum, *, fill: bool
) -> tuple[Start, NDArray[Any]]:
    """Give W (as parts of U) and H of NNDSVD.

    Parameters
    ----------
    tall : Tall
        X.
    execute : callable
        The runtime.
    spectrum : Spectrum
        At least `rank` triplets.
    fill : bool
        Whether zeros become the mean of X.

    Returns
    -------
    tuple of (Start, array of shape (k, n))
        How W begins, and H.
    """
    k, (rows, columns) = tall.rank, tall.shape
    sums = execute(split_stage(tall, spectrum.operand), {"width": k})
    s, v = spectrum.s[:k], spectrum.v[:, :k].T
    u_up, u_down = np.sqrt(sums["positive"]), np.sqrt(sums["negative"])
    v_up, v_down = (np.linalg.norm(np.maximum(part, 0), axis=1) for part in (v, -v))
    up = u_up * v_up >= u_down * v_down
    turn = np.where(up, 1.0, -1.0)
    u_norm, v_norm = np.choose(up, [u_down, u_up]), np.choose(up, [v_down, v_up])
    size = np.sqrt(s * u_norm * v_norm)
    h = np.maximum(turn[:, None] * v, 0) * (size / np.where(v_norm > 0, v_norm, 1))[:, None]
    total = float(np.sum(sums["sum"] * s * v.sum(axis=1)))
    mean = max(total / rows / columns, 0.0) if fill else 0.0
    factor = size / np.where(u_norm > 0, u_norm, 1)
    small = {"turn": turn, "factor": factor, "fill": mean}
    return Start("split", spectrum.operand, small), np.where(h > 0, h, mean)


def at_random(tall: Tall, seed: int) -> tuple[Start, NDArray[Any]]:
    """Give W and H of absolute values of normal numbers; W is scaled row by row as it is made.

    Parameters
    ----------
    tall : Tall
        X.
    seed : int
        Names them.

    Returns
    -------
    tuple of (Start, array of shape (k, n))
        How W begins, and H.
    """
    key = np.array([seed, 2**63 + 1], dtype=np.uint64)
    generator = np.random.Generator(np.random.Philox(key=key))
    h = np.abs(generator.standard_normal((tall.shape[1], tall.rank))).T
    return Start("random", None, {"seed": seed}), h
