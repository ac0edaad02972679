"""Kernels for matrix products of a grid of blocks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from leptonhpc.errors import LinAlgError, NonFiniteError
from leptonhpc.kernels.checks import block_in_words, parts_of
from leptonhpc.kernels.fold import Accumulator, Blas, Region, Small
from leptonhpc.kernels.random import gaussian_rows

PROBES = 2
_MIRRORED = 512
"""Rows that are mirrored at once."""


def _converted(block: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Give the block in the dtype of computing, with contiguous rows or columns."""
    if block.dtype != dtype:
        return block.astype(dtype)
    contiguous = any(s == block.itemsize for s in block.strides)
    return block if contiguous or block.size < 2 else np.ascontiguousarray(block)


@dataclass(frozen=True)
class Gemm:
    """One block of C = A B, stationary while panels of A and B stream by.

    Each block is checked against random vectors x as it is made (Freivalds): C x and A (B x) are
    formed by different sums, so their difference is rounding, or it is a fault.
    """

    blas: Blas
    cuts_products: ClassVar[bool] = True
    """Its work is large products, beside which readers decode: they are cut for threads."""

    def begin(self, small: Small, at: Region) -> Accumulator:
        """Give a block of zeros and a random vector for its columns."""
        (r0, r1), (c0, c1) = at
        dtype = np.dtype(small["dtype"])
        return {
            "_c": self.blas.zeros((r1 - r0, c1 - c0), dtype),
            "_x": gaussian_rows(small["seed"], c0, c1, PROBES, dtype),
            "_expected": np.zeros((r1 - r0, PROBES), dtype),
            "_image": None,
            "_origin": (r0, c0),
            "_norms": [0.0, 0.0],  # |A|_F and |B|_F of what was folded
        }

    def step(
        self, acc: Accumulator, blocks: Sequence[NDArray[Any]], small: Small, at: Region
    ) -> None:
        """Add A B for one block of A and one panel of B; `at` is its place within the block."""
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            self._fold(acc, blocks, small, at)

    def _fold(
        self, acc: Accumulator, blocks: Sequence[NDArray[Any]], small: Small, at: Region
    ) -> None:
        dtype = np.dtype(small["dtype"])
        a, panel = (_converted(block, dtype) for block in blocks)
        (low, high), depth = at
        if (
            acc["_image"] is None or acc["_image"][0] != depth
        ):  # the first block of A for this panel
            acc["_image"] = (depth, panel @ acc["_x"])
            acc["_norms"][1] = math.hypot(acc["_norms"][1], self.norm(panel, acc, small, 1, at))
        self.blas.gemm(acc["_c"][low:high, :], a, panel)
        acc["_expected"][low:high] += a @ acc["_image"][1]
        acc["_norms"][0] = math.hypot(acc["_norms"][0], self.norm(a, acc, small, 0, at))

    def norm(
        self, block: NDArray[Any], acc: Accumulator, small: Small, operand: int, at: Region
    ) -> float:
        """Give |block|_F; a block that is not finite is an error."""
        plain = np.ascontiguousarray(block if block.flags.c_contiguous else block.T)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            square = self.blas.sum_of_squares(plain)
        if 1e-200 < square < math.inf:
            return math.sqrt(square)
        finite = np.isfinite(block)
        if not finite.all():
            raise_in_product(block, finite, acc["_origin"], small["names"], operand, at)
        largest = float(np.max(np.abs(block), initial=0.0))
        return largest * float(np.linalg.norm(parts_of(plain) / largest)) if largest else 0.0

    def finish(self, acc: Accumulator, small: Small, at: Region) -> NDArray[Any]:
        """Give the block; leave how far it is from what the random vectors expect."""
        return _checked(acc, acc.pop("_c"), small)


@dataclass(frozen=True)
class GemmHermitian(Gemm):
    """A block on the diagonal of a product that is its own adjoint: made so, rounding included."""

    def finish(self, acc: Accumulator, small: Small, at: Region) -> NDArray[Any]:
        """Give the block, the mean of what was found and its adjoint."""
        return hermitian(super().finish(acc, small, at))


@dataclass(frozen=True)
class Syrk:
    """One diagonal block of A^H A, by half the flops."""

    blas: Blas
    cuts_products: ClassVar[bool] = True

    def begin(self, small: Small, at: Region) -> Accumulator:
        """Give a block of zeros and a random vector."""
        return Gemm(self.blas).begin(small, at)

    def step(
        self, acc: Accumulator, blocks: Sequence[NDArray[Any]], small: Small, at: Region
    ) -> None:
        """Add P^H P for one panel P of A."""
        panel = np.ascontiguousarray(_converted(blocks[0], np.dtype(small["dtype"])))
        self.blas.syrk(acc["_c"], panel)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            acc["_expected"] += panel.conj().T @ (panel @ acc["_x"])
        norm = Gemm(self.blas).norm(panel, acc, small, 1, at)
        acc["_norms"] = [math.hypot(old, norm) for old in acc["_norms"]]

    def finish(self, acc: Accumulator, small: Small, at: Region) -> NDArray[Any]:
        """Give the whole block, its upper triangle mirrored."""
        return _checked(acc, mirrored(acc.pop("_c")), small)


def hermitian(c: NDArray[Any]) -> NDArray[Any]:
    """Give the mean of a block and its adjoint, in place."""
    n = len(c)
    for low in range(0, n, _MIRRORED):
        rows = slice(low, low + _MIRRORED)
        mean = (c[rows, : low + _MIRRORED] + c[: low + _MIRRORED, rows].conj().T) / 2
        c[rows, : low + _MIRRORED] = mean
    return mirrored(c)


def mirrored(lower: NDArray[Any]) -> NDArray[Any]:
    """Fill the upper triangle from the lower one, in place, block by block."""
    n = len(lower)
    for low in range(0, n, _MIRRORED):
        high = min(low + _MIRRORED, n)
        block = lower[low:high, low:high]
        upper = np.triu_indices(high - low, 1)
        block[upper] = block.conj().T[upper]
        lower[low:high, high:] = lower[high:, low:high].conj().T
    return lower


def raise_in_product(
    block: NDArray[Any],
    finite: NDArray[Any],
    origin: tuple[int, int],
    names: Sequence[str],
    operand: int,
    at: Region,
) -> None:
    """Raise the typed error; `at` has the rows within C's block and the place along k."""
    row, column = (int(i) for i in np.argwhere(~finite)[0])
    if operand == 0:
        index = (row + at[0][0] + origin[0], column + at[1][0])
    else:
        index = (row + at[1][0], column + origin[1])
    words = block_in_words(index[0] - row, index[1] - column, block.shape)
    message = (
        f"{names[operand]} has {block[row, column]} at index {index}, in block {words}. Remove "
        "such values first"
    )
    raise NonFiniteError(message)


def _checked(acc: Accumulator, c: NDArray[Any], small: Small) -> NDArray[Any]:
    """Leave the relative difference of C x and A (B x), per |A|_F |B|_F |x|, and |C|_F."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        image = c @ acc["_x"]
        largest = float(max((np.max(np.abs(rows)) for rows in c), default=0.0)) or 1.0
        norm = 0.0
        for low in range(0, len(c), 256):
            norm = math.hypot(norm, float(np.linalg.norm(parts_of(c[low : low + 256]) / largest)))
    judge(acc, image, largest, norm, small)
    return c


def judge(acc: Accumulator, image: NDArray[Any], largest: float, norm: float, small: Small) -> None:
    """Compare C x with A (B x), and leave how far they are apart.

    Parameters
    ----------
    acc : dict
        Of a product that is done; what begins with _ goes.
    image : array of shape (m, PROBES)
        C x.
    largest, norm : float
        The largest entry of C, and |C / largest|_F.
    small : mapping
        With ``bound``, a larger difference is an error.

    Raises
    ------
    LinAlgError
        If the product is wrong.
    """
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        # one factor at a time: the product of the norms may leave the range
        difference = image / (acc["_norms"][0] or 1.0) / (acc["_norms"][1] or 1.0)
        difference -= acc["_expected"] / (acc["_norms"][0] or 1.0) / (acc["_norms"][1] or 1.0)
        error = float(np.linalg.norm(difference) / (np.linalg.norm(acc["_x"]) or 1.0))
    for key in [k for k in acc if k.startswith("_")]:
        del acc[key]
    fault = not (np.isfinite(error) and np.isfinite(largest))
    if "bound" in small and (fault or error > small["bound"]):  # before anything is kept of it
        message = (
            f"{small['driver']} of {small['name']}: a product is wrong by {error:.1e} of |A||B|, "
            f"rounding allows {small['bound']:.1e}. The same call computes it again; if it "
            "is wrong again, give another seed="
        )
        raise LinAlgError(message)
    acc.update({"max_error": np.inf if fault else error, "hypot_norm": norm * largest})


@dataclass(frozen=True)
class Copy:
    """Values as they are, from one grid to another."""

    blas: Blas

    def begin(self, small: Small, at: Region) -> Accumulator:
        """Give nothing."""
        return {}

    def step(
        self, acc: Accumulator, blocks: Sequence[NDArray[Any]], small: Small, at: Region
    ) -> None:
        """Hold the block."""
        acc["_block"] = blocks[0]

    def finish(self, acc: Accumulator, small: Small, at: Region) -> NDArray[Any]:
        """Give the block itself."""
        block: NDArray[Any] = acc.pop("_block")
        return block
