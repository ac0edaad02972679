"""What non-negative factorisations X ~ W H lower: squared error, or divergence.

Between passes W is out of reach; what is known of it are the sums that a pass gathered. From these
follow the loss, exactly, the residual of the optimality conditions of H, and a better H.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Sums = dict[str, Any]
"""What a pass gathered."""

REPEATS = 8
"""How often W (of a band) and H are improved between two readings of X: they are small."""


@dataclass(frozen=True)
class Point:
    """How good W and H are."""

    error: float
    """|X - WH|_F, or D(X | WH)."""
    bound: float
    """At most this, with rounding."""
    relative: float
    """Error by |X|_F, or by the sum of X."""
    kkt: float
    """Residual of the optimality conditions, relative in the same way."""

    @property
    def is_rounding(self) -> bool:
        """Whether nothing of the error is certain."""
        return self.bound > 2 * self.error


class Objective(Protocol):
    """A loss."""

    kernel: str
    power: int
    """The error grows as this power of a distance."""

    @property
    def norm(self) -> float:
        """Give |X|_F, or the sum of X, once a pass was made."""

    def small(self, h: NDArray[Any]) -> dict[str, Any]:
        """Give what the kernel is told of H."""

    def measure(self, h: NDArray[Any], sums: Sums) -> Point:
        """Judge H and the W that was summed."""

    def improve(self, h: NDArray[Any], sums: Sums) -> NDArray[Any]:
        """Give a better H for the same W."""

    def unit(self, relative: float) -> float:
        """Give what a decrease of the relative error is compared with."""

    def carried(self, h: NDArray[Any], before: NDArray[Any], share: float) -> NDArray[Any]:
        """Give H carried on by a share of the way that it came from what it was before."""

    def relative_residual(self, residual: float) -> float:
        """Give what a kernel summed of the conditions of W, relative to X."""

    def sizes(self, h: NDArray[Any], sums: Sums) -> tuple[NDArray[Any], NDArray[Any]]:
        """Give how large columns of W and rows of H are, to balance them."""


@dataclass
class SquaredError:
    """|X - WH|_F^2 = |X|_F^2 - 2 <W^T X, H> + <W^T W, H H^T>."""

    dtype: np.dtype[Any]
    """Of computing."""
    right: NDArray[Any] | None = None
    """(r, n): passes are over U of shape (m, r), and X is U times this."""
    square: float = math.nan
    """|X|_F^2, once a pass was made."""
    kernel: str = "hals"
    power: int = 1

    @property
    def norm(self) -> float:
        """Frobenius norm of X."""
        return math.sqrt(self.square)

    def small(self, h: NDArray[Any]) -> dict[str, Any]:
        """Give H^T (or its image) and H H^T."""
        ht = h.T if self.right is None else self.right @ h.T
        return {"ht": np.ascontiguousarray(ht, self.dtype), "p": h @ h.T, "inner": REPEATS}

    def measure(self, h: NDArray[Any], sums: Sums) -> Point:
        """Judge H and the W that was summed."""
        self.square = float(sums.get("square", self.square))
        wx, ww = self._lifted(sums), sums["ww"]
        loss = max(self._value(h, sums), 0.0)
        # W^T X is summed in the dtype of computing within a band: as random walks
        noise = 16 * float(np.finfo(self.dtype).eps) * float(np.linalg.norm(wx * h))
        noise += 64 * float(np.finfo(float).eps) * self.square
        norms = np.sqrt(np.diagonal(ww))[:, None]
        gradient = (ww @ h - wx) / np.where(norms > 0, norms, 1)
        residual = float(np.sum(np.minimum(h * norms, gradient) ** 2)) + float(sums["kkt"])
        return Point(
            math.sqrt(loss), math.sqrt(loss + noise), math.sqrt(loss) / (self.norm or 1.0),
            self.relative_residual(residual),
        )  # fmt: skip

    def relative_residual(self, residual: float) -> float:
        """Give the root of a sum of squares, relative to |X|_F."""
        return math.sqrt(residual) / (self.norm or 1.0)

    def improve(self, h: NDArray[Any], sums: Sums) -> NDArray[Any]:
        """Lower the loss by one row of H after the other."""
        wx, ww, better = self._lifted(sums), sums["ww"], h.copy()
        for _ in range(REPEATS):
            for j in np.flatnonzero(np.diagonal(ww) > 0):
                step = (wx[j] - ww[j] @ better) / ww[j, j]
                better[j] = np.maximum(better[j] + step, 0)
        return better

    def unit(self, relative: float) -> float:
        """Give the error, or where WH holds less of the square of X than is left, as much less."""
        return min(relative, max(1 - relative**2, 0.0) / max(relative, 0.5))

    def carried(self, h: NDArray[Any], before: NDArray[Any], share: float) -> NDArray[Any]:
        """Give H carried on along a line."""
        further: NDArray[Any] = np.maximum(h + share * (h - before), 0)
        return further

    def _value(self, h: NDArray[Any], sums: Sums) -> float:
        cross = float(np.sum(self._lifted(sums) * h))
        return self.square - 2 * cross + float(np.sum(sums["ww"] * (h @ h.T)))

    def sizes(self, h: NDArray[Any], sums: Sums) -> tuple[NDArray[Any], NDArray[Any]]:
        """Give Euclidean norms."""
        return np.sqrt(np.diagonal(sums["ww"])), np.linalg.norm(h, axis=1)

    def _lifted(self, sums: Sums) -> NDArray[Any]:
        wx: NDArray[Any] = sums["wx"] if self.right is None else sums["wx"] @ self.right
        return wx


@dataclass
class Divergence:
    """D(X | WH) = sum x log x - x - x log(WH) + WH, the sum of WH from those of W and H."""

    dtype: np.dtype[Any]
    total: float = math.nan
    """Sum of X, once a pass was made."""
    entropy: float = math.nan
    """Sum of x log x - x."""
    square: float = math.nan
    kernel: str = "kl_update"
    power: int = 2

    @property
    def norm(self) -> float:
        """Sum of X."""
        return self.total

    def small(self, h: NDArray[Any]) -> dict[str, Any]:
        """Give H^T, its sums, and H H^T, which a random start is scaled by."""
        ht = np.ascontiguousarray(h.T, self.dtype)
        return {"ht": ht, "sums": h.sum(axis=1), "p": h @ h.T, "inner": 3}

    def measure(self, h: NDArray[Any], sums: Sums) -> Point:
        """Judge H and the W that was summed."""
        if "total" in sums:
            self.total, self.entropy = float(sums["total"]), float(sums["entropy"])
            self.square = float(sums["square"])
        loss = max(self._value(h, sums), 0.0)
        if not math.isfinite(float(sums["kkt"])):  # WH is zero where X is not
            loss = math.inf
        # each log of WH is off by the rounding of its product
        noise = 16 * float(np.finfo(self.dtype).eps) * math.sqrt(self.square)
        noise += 64 * float(np.finfo(float).eps) * (abs(self.entropy) + self.norm)
        unit = np.where(sums["w_sum"] > 0, sums["w_sum"], 1.0)[:, None]
        share = h * unit
        gradient = (1 - sums["wx"] / unit) * (share.sum(axis=0) / len(h))
        residual = float(np.sum(np.abs(np.minimum(share, gradient)))) + float(sums["kkt"])
        share_of = loss / (self.norm or 1.0)
        return Point(loss, loss + noise, share_of, self.relative_residual(residual))

    def relative_residual(self, residual: float) -> float:
        """Give a sum relative to that of X."""
        return residual / (self.norm or 1.0)

    def improve(self, h: NDArray[Any], sums: Sums) -> NDArray[Any]:
        """Update H by products [1]_.

        References
        ----------
        .. [1] D. D. Lee, H. S. Seung, Algorithms for non-negative matrix factorization, NIPS 13,
           2001, Theorem 2.
        """
        unit = np.where(sums["w_sum"] > 0, sums["w_sum"], 1.0)[:, None]
        better: NDArray[Any] = h * sums["wx"] / unit
        return better

    def unit(self, relative: float) -> float:
        """Give twice the divergence: a share of its root is two of its own."""
        return 2 * relative

    def carried(self, h: NDArray[Any], before: NDArray[Any], share: float) -> NDArray[Any]:
        """Give H times a power of what it was multiplied by, which is at most ten."""
        there = (h > 0) & (before > 0)
        ratio = np.where(there, h, 1.0) / np.where(there, before, 1.0)
        further: NDArray[Any] = h * np.clip(ratio, 0.1, 10) ** share
        return further

    def _value(self, h: NDArray[Any], sums: Sums) -> float:
        return self.entropy - float(sums["cross"]) + float(sums["w_sum"] @ h.sum(axis=1))

    def sizes(self, h: NDArray[Any], sums: Sums) -> tuple[NDArray[Any], NDArray[Any]]:
        """Give sums."""
        return sums["w_sum"], h.sum(axis=1)
