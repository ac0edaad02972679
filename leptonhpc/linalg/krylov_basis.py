"""The basis of block Lanczos with thick restart, kept orthonormal on the host."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


def unit_of(norm: float) -> float:
    """Give the power of two that brings numbers near one, where their squares leave the range.

    Parameters
    ----------
    norm : float
        Frobenius norm of a matrix.

    Returns
    -------
    float
        1 where squares are in range.
    """
    exponent = math.frexp(norm)[1]
    return math.ldexp(1.0, -max(exponent, -1000)) if abs(exponent) > 256 else 1.0


@dataclass
class Basis:
    """Orthonormal Q, W = A Q, and the Ritz pairs of A on its span."""

    order: int
    pairs: int
    most: int
    """Columns that there is room for."""
    largest: bool
    dtype: np.dtype[Any]
    filled: int = 0
    top: float = 0.0
    """Largest |Ritz value| seen: |A|_2, from below."""
    width: int = 0
    """Columns of the last block."""
    residuals: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        self.q = np.zeros((self.order, self.most), self.dtype, order="F")
        self.w = np.zeros((self.order, self.most), self.dtype, order="F")
        self.h = np.zeros((self.most, self.most), self.dtype)

    def add(self, block: NDArray[Any], product: NDArray[Any]) -> None:
        """Take a block and A times it; find Ritz pairs and their residuals."""
        low, high = self.filled, self.filled + block.shape[1]
        self.q[:, low:high], self.w[:, low:high] = block, product
        self.h[:high, low:high] = self.q[:, :high].conj().T @ product
        self.h[low:high, :high] = self.h[:high, low:high].conj().T
        corner = self.h[low:high, low:high]
        corner[...] = (corner + corner.conj().T) / 2
        self.filled, self.width = high, block.shape[1]
        theta, y = np.linalg.eigh(self.h[:high, :high])
        # the wanted end comes first
        self.theta, self.y = (theta[::-1], y[:, ::-1]) if self.largest else (theta, y)
        self.top = max(self.top, float(np.max(np.abs(theta))))
        k = min(self.pairs, high)
        left = self.w[:, :high] @ self.y[:, :k]
        left -= self.q[:, :high] @ (self.y[:, :k] * self.theta[:k])
        lengths = np.linalg.norm(left, axis=0)
        missing = self.pairs - k
        self.residuals = tuple(map(float, lengths)) + (math.inf,) * missing

    def following(self, width: int, generator: np.random.Generator) -> NDArray[Any]:
        """Give the next block; restart if there is no room for it."""
        low = self.filled - self.width
        block = self.completed(self.w[:, low : self.filled], width, generator)
        if self.filled + block.shape[1] > self.most:
            # two thirds, but room for two blocks at least: one alone would be steepest descent
            keep = min((self.most - width) * 2 // 3, self.most - 2 * width)
            keep = max(self.pairs, keep)
            y, high = self.y[:, : min(keep, self.most - width)], self.filled
            self.filled = y.shape[1]
            for whole in (self.q, self.w):
                whole[:, : self.filled] = whole[:, :high] @ y
            self.h[: self.filled, : self.filled] = np.diag(self.theta[: self.filled])
        return block

    def completed(
        self, candidates: NDArray[Any], width: int, generator: np.random.Generator
    ) -> NDArray[Any]:
        """Orthonormalise against the basis; random vectors stand in for what is dependent."""
        width = min(width, self.order - self.filled)
        q = self.q[:, : self.filled]
        block = np.zeros((self.order, width), self.dtype)
        found = min(width, candidates.shape[1])
        block[:, :found] = candidates[:, :found]
        block[:, found:] = self._drawn(width - found, generator)
        lengths = np.linalg.norm(block, axis=0)
        for _ in range(4):
            block -= q @ (q.conj().T @ block)
            block, r = np.linalg.qr(block)
            # what cancelled to rounding has no direction of its own
            lost = np.abs(np.diagonal(r)) <= 1e-10 * lengths
            lengths = np.ones(width)
            if lost.any():
                block[:, lost] = self._drawn(int(lost.sum()), generator)
                lengths[lost] = math.sqrt(self.order)
                continue
            block -= q @ (q.conj().T @ block)
            orthonormal: NDArray[Any] = np.linalg.qr(block)[0]
            return orthonormal
        return block

    def vectors(self) -> NDArray[Any]:
        """Give the wanted Ritz vectors."""
        found: NDArray[Any] = self.q[:, : self.filled] @ self.y[:, : self.pairs]
        return found

    def _drawn(self, columns: int, generator: np.random.Generator) -> NDArray[Any]:
        drawn = generator.standard_normal((self.order, columns))
        if self.dtype.kind == "c":
            return drawn + 1j * generator.standard_normal((self.order, columns))
        return drawn
