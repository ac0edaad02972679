"""Spectral divide and conquer: shift, sign, bases of its halves, two problems of half the order."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.errors import LinAlgError, NumericRangeError
from leptonhpc.linalg.eigh_stages import Stages
from leptonhpc.linalg.jobs import Counter, Execute
from leptonhpc.linalg.krylov_basis import Basis, unit_of
from leptonhpc.linalg.scratch import ScratchSource
from leptonhpc.linalg.sign import cubic
from leptonhpc.planning import Stage, Target

WIDTH = 6
"""Vectors of the Lanczos block that shows where eigenvalues are."""
BLOCKS = 12
"""Products with it."""
_MOST_CUBICS = 150
_MOST_SHIFTS = 4
"""Shifts that are tried: one that leaves nothing on one side divides nothing."""


@dataclass(frozen=True)
class _Spectrum:
    """Where eigenvalues are, about."""

    theta: NDArray[Any]
    """Ritz values, ascending."""
    weights: NDArray[Any]
    """What share of all eigenvalues each stands for."""
    error: float
    """Of the first and the last."""

    @property
    def radius(self) -> float:
        """Half of the length of the interval that holds them."""
        return float(self.theta[-1] - self.theta[0]) / 2 + self.error

    def distance(self, shift: float) -> float:
        """Give how far the farthest is from a shift, or a little more: one may not be seen."""
        far = max(float(self.theta[-1]) - shift, shift - float(self.theta[0]))
        return 1.01 * (far + self.error)


@dataclass
class Recursion:
    """Divides a problem until its parts fit, and puts their eigenvectors together."""

    stages: Stages
    order: int
    """Of A."""
    seed: int
    execute: Execute
    counter: Counter = field(default_factory=Counter)
    passes: float = 0.0
    norm: float = 0.0
    """Frobenius norm of A."""
    top: float = 0.0
    """|A|_2, about."""

    def __call__(self, stage: Stage, small: Mapping[str, Any]) -> dict[str, Any]:
        """Run a stage; products that are wrong are errors."""
        told = {
            "dtype": self.stages.dtype, "seed": self.seed, "names": (self.stages.name,) * 2,
            "name": self.stages.name, "driver": self.stages.driver, "missing": "raise",
            # as for matmul: |fl(C) - A B| <= gamma_n |A||B|
            "bound": 4 * self.order * self._eps, **small,
        }  # fmt: skip
        acc = self.execute(replace(stage, name=self.counter.next(stage.name)), told)
        self.passes += stage.passes
        return acc

    def solved(
        self, b: ScratchSource, depth: int, into: str | Target, pairs: tuple[int, int]
    ) -> tuple[NDArray[Any], ScratchSource]:
        """Give some eigenvalues of B, ascending, and their vectors as a new matrix."""
        n, stages = b.shape[0], self.stages
        if depth and stages.fits(n):
            stage, z = stages.pairs(b, str(into))
            acc = self(stage, {"columns": n, "pairs": (0, n)})
            return acc["eigenvalues"], z
        spectrum = self._spectrum(b, depth)
        if spectrum.radius <= 8 * math.sqrt(n) * self._eps * self.top:  # a multiple of I
            stage, z = stages.shifted(b.columns(0, pairs[1] - pairs[0]), into)
            self(stage, {"alpha": 0.0, "beta": 1.0})
            w = np.full(n, spectrum.theta.mean(), np.empty(0, stages.dtype).real.dtype)
            return w[slice(*pairs)], z
        v, k = self._divided(b, depth, spectrum)
        sides = {"low": v.columns(k, n), "high": v.columns(0, k)}
        parts = {}
        stage, image = stages.product(b, v, f"s{depth}")
        self(stage, {})
        images = {"low": image.columns(k, n), "high": image.columns(0, k)}
        small = {}
        for side, basis in sides.items():
            stage, small[side] = stages.product(
                basis.H, images[side], f"{side}{depth}", kind="hermitian"
            )
            self(stage, {})
        for side in sides:
            whole = (0, small[side].shape[0])
            parts[side] = self.solved(small[side], depth + 1, f"{side}-pairs{depth}", whole)
        overlap = float(np.max(parts["low"][0]) - np.min(parts["high"][0]))
        if overlap > 32 * math.sqrt(n) * self._eps * self.top:
            message = (
                f"{stages.driver} of {stages.name}: an eigenvalue far from the others was not seen "
                "when the spectrum was divided. Give another seed="
            )
            raise LinAlgError(message)
        lifted = []
        for side, basis in sides.items():
            stage, part = stages.product(basis, parts[side][1], f"{side}-lifted{depth}")
            self(stage, {})
            lifted.append(part)
        first, last = pairs
        stage, z = stages.joined(lifted[0], lifted[1], into, first=first, last=last)
        self(stage, {})
        # halves meet in order, but for rounding
        w = np.maximum.accumulate(np.concatenate([parts["low"][0], parts["high"][0]]))
        return w[first:last], z

    @property
    def _eps(self) -> float:
        return float(np.finfo(self.stages.dtype).eps)

    def _divided(
        self, b: ScratchSource, depth: int, spectrum: _Spectrum
    ) -> tuple[ScratchSource, int]:
        """Give V = [V1 V2], V1 for the k eigenvalues above a shift."""
        n = b.shape[0]
        closest = 8 * math.sqrt(n) * self._eps * self.top
        for shift in split_points(spectrum.theta, spectrum.weights, _MOST_SHIFTS, closest):
            sign = self._sign(b, shift, spectrum.distance(shift), depth)
            if sign is None:
                continue
            found = self._bases(sign, depth)
            if 0 < found[1] < n:
                return found
        message = (
            f"{self.stages.driver} of {self.stages.name}: no shift divides its spectrum. Ask for "
            "some eigenpairs with k=, or give memory for all of it"
        )
        raise LinAlgError(message)

    def _spectrum(self, b: ScratchSource, depth: int) -> _Spectrum:
        """Find roughly where the eigenvalues are, by block Lanczos."""
        n, dtype = b.shape[0], self.stages.dtype
        width = min(WIDTH, n)
        blocks = min(BLOCKS, n // width)
        basis = Basis(n, 1, width * blocks, True, np.result_type(dtype, float))
        generator = np.random.Generator(np.random.Philox(key=self.seed))
        block = basis.completed(basis.q[:, :0], width, generator)
        for number in range(blocks):
            first = not depth and not number
            stage = self.stages.density(b, width, width * blocks, first=first)
            small = {"y": np.ascontiguousarray(block, dtype), "check": first, "columns": n}
            acc = self(stage, small)
            if first:
                self.norm = float(acc["hypot_norm"])
                self.require_range(self.norm)
            unit = unit_of(self.norm)
            basis.add(block, acc["product"].astype(block.dtype) * unit)
            if number + 1 < blocks:
                block = basis.following(width, generator)
        high = basis.filled
        order = np.argsort(basis.theta)
        theta, y = basis.theta[order], basis.y[:, order]
        ends = y[:, [0, -1]]
        left = basis.w[:, :high] @ ends - basis.q[:, :high] @ (ends * theta[[0, -1]])
        weights = np.sum(np.abs(y[:width]) ** 2, axis=0)
        error = float(np.max(np.linalg.norm(left, axis=0))) / unit
        if not depth:
            self.top = float(np.max(np.abs(theta))) / unit
        return _Spectrum(theta / unit, weights / weights.sum(), error)

    def _sign(
        self, b: ScratchSource, shift: float, radius: float, depth: int
    ) -> ScratchSource | None:
        """Give the sign of B - shift I; None if an eigenvalue is too near the shift."""
        stages, n = self.stages, b.shape[0]
        self.require_range(radius)
        stage, x = stages.shifted(b, f"s{depth}")
        self(stage, {"alpha": 1 / radius, "beta": -shift / radius})
        lower, since = 1 / (8 * n), 0
        for _ in range(_MOST_CUBICS):
            alpha, beta, lower = cubic(lower)
            stage, p = stages.square(x, f"p{depth}")
            defect = self(stage, {"alpha": -beta, "beta": alpha})["hypot_defect"]
            stage, x = stages.product(x, p, "ts"[x.stored[0] == "t"] + str(depth), kind="hermitian")
            self(stage, {})
            # quadratic from here: the next defect is rounding
            if alpha == 1.5 and defect <= math.sqrt(self._eps):
                return x
            since = since + 1 if alpha == 1.5 else 0
            if since > 6 and defect > 0.5:  # an eigenvalue was smaller than assumed
                lower = self._eps
        return None

    def require_range(self, size: float) -> None:
        """Refuse a matrix whose norm cannot be squared."""
        largest = float(np.finfo(self.stages.dtype).max)
        if size and not 4 / largest < size < largest / 4:
            message = (
                f"{self.stages.driver} of {self.stages.name} multiplies it with itself, which its "
                f"size of {size:.1e} does not allow in {self.stages.dtype}. Scale it first"
            )
            raise NumericRangeError(message)

    def _bases(self, sign: ScratchSource, depth: int) -> tuple[ScratchSource, int]:
        """Give [V1 V2] from a sign, and the columns of V1."""
        stages, n = self.stages, sign.shape[0]
        stage, projector = stages.shifted(sign, f"p{depth}")
        k = round(float(self(stage, {"alpha": 0.5, "beta": 0.5})["trace"]))
        if not 0 < k < n:
            return projector, k
        stage, v = stages.drawn((n, n), f"s{depth}")
        self(stage, {})
        for _ in range(2):  # what the first leaves of the other half, the second takes away
            stage, image = stages.product(projector, v.columns(0, k), f"t{depth}")
            self(stage, {})
            stage, both = stages.joined(image, v.columns(k, n), f"q{depth}")
            self(stage, {})
            v = self._orthonormal(both, f"v{depth}")
        return v, k

    def _orthonormal(self, x: ScratchSource, into: str) -> ScratchSource:
        qr = self.stages.orthonormal(x, into, seed=self.seed)
        acc = self(qr.factor, qr.small)
        signs = np.ones(x.shape[1], np.int64)
        self(qr.form, {**qr.small, "taus": acc["taus"], "signs": signs})
        assert qr.form.target is not None
        return ScratchSource(
            into, tuple((0, n) for n in x.shape), self.stages.dtype, qr.form.target.unit
        )


def split_points(
    theta: NDArray[Any], weights: NDArray[Any], count: int, closest: float = 0.0
) -> list[float]:
    """Choose where to divide a spectrum: in a wide gap not far from its middle.

    Parameters
    ----------
    theta : array of shape (m,)
        Ritz values, ascending.
    weights : array of shape (m,)
        What share of the eigenvalues each stands for.
    count : int
        Most places that are given.
    closest : float
        Ritz values no farther apart count as one: between them is rounding.

    Returns
    -------
    list of float
        The best first.
    """
    below = np.cumsum(weights)[:-1]
    balance = np.minimum(below, 1 - below)
    gaps = np.diff(theta)
    if np.any(gaps > closest):
        gaps[gaps <= closest] = 0
    widest = float(np.max(gaps, initial=0.0)) or 1.0
    # a part of a quarter is as good as a half if the gap is wider
    score = np.minimum(balance, 0.25) * (0.1 + gaps / widest) * (gaps > 0)
    best = np.argsort(-score)[:count]
    return [float(theta[i] + 0.4857 * gaps[i]) for i in best if gaps[i] > 0]
