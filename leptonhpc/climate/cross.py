"""The squared covariance between two whole fields, of which a few EOFs hold a part.

With X = X1 + X2 (the EOFs kept, and the rest) and Y likewise, the four parts of X^H Y are
orthogonal to one another, so that their squares add up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from leptonhpc.blocks import Region
from leptonhpc.climate.fitting import projected
from leptonhpc.climate.matrix import FieldMatrix, JoinedFields, digest
from leptonhpc.climate.prepared import joined, rest_of
from leptonhpc.climate.reduced import Reduced
from leptonhpc.climate.room import XARRAY_NBYTES
from leptonhpc.planning.amounts import parse_nbytes
from leptonhpc.runtime import resources_of

Total = Literal["measured", "bounded"]


@dataclass(frozen=True)
class Weighted:
    """A field less its mean, times the weights of its cells, in double precision."""

    base: FieldMatrix | JoinedFields
    mean: NDArray[Any]
    """(cells,)."""
    weights: NDArray[np.float64]
    """(cells,)."""

    @property
    def shape(self) -> tuple[int, int]:
        """Samples and cells."""
        return self.base.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Double precision."""
        return np.result_type(self.base.dtype, np.float64)

    @property
    def unit(self) -> tuple[int, int]:
        """Shape of the piece that is read at once."""
        return self.base.unit

    @property
    def name(self) -> str:
        """The field in words."""
        return f"{self.base.name}, weighted"

    @property
    def shareable(self) -> bool:
        """Whether other processes can read it."""
        return self.base.shareable

    def read(self, region: Region, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Read a region."""
        columns = slice(*region[1])
        if out is None or out.dtype != self.dtype:
            out = np.empty([last - first for first, last in region], self.dtype)
        self.base.read(region, out)
        out -= self.mean[columns]
        out *= self.weights[columns]
        return out

    def units_in(self, region: Region) -> int:
        """Count the storage units that a region touches."""
        return self.base.units_in(region)

    def identity(self) -> dict[str, Any]:
        """Describe the source, and the numbers by their digest."""
        made = [digest(self.mean), digest(self.weights)]
        return {"weighted": self.base.identity(), "made": made}


def squared_covariance(
    left: Reduced, right: Reduced, total: Total, *, memory: Any
) -> tuple[float, float]:
    """Give |X^H Y|_F^2 of the whole fields, or what it is between.

    Parameters
    ----------
    left, right : Reduced
        The fields X and Y in their EOFs.
    total : {"measured", "bounded"}
        By products of the fields themselves, or from the parts that EOFs have to do with.
    memory : int, float, str or None
        Budget of each worker.

    Returns
    -------
    tuple of float
        The least and the most it can be; equal where it is measured, or all EOFs are kept.

    Notes
    -----
    Measured it is tr(X X^H Y Y^H): samples are taken in as many groups as memory asks for, and each
    group meets all that follow it. That is n^2 (p + q) flops for n samples of p and q cells, and
    half as many passes as there are groups. Bounded it takes one pass over either field, for its
    product with the scores of the other; what is left is the part between the rests, at most the
    largest singular value of one times the norm of the other.
    """
    core = (left.s[:, None] * (left.u.conj().T @ right.u)) * right.s
    inner = float(np.sum(np.abs(core) ** 2))
    if left.complete and right.complete:
        return inner, inner
    rest = rest_of(memory, [*left.prepared, *right.prepared])
    x, y = _weighted(left), _weighted(right)
    if total == "measured":
        found = _measured(x, y, rest)
        return found, found
    outer = [
        np.linalg.norm(projected(other, (side.u * side.s).conj(), rest)) ** 2
        for side, other in ((left, y), (right, x))
    ]
    least = float(outer[0] + outer[1] - inner)
    most = min(_largest(left) * _rest(right), _largest(right) * _rest(left))
    return least, least + most


def _weighted(side: Reduced) -> Weighted:
    weights = np.concatenate([one.weights for one in side.prepared])
    return Weighted(joined(side.prepared), side.mean, weights)


def _measured(x: Weighted, y: Weighted, memory: Any) -> float:
    """Let each group of samples meet itself and those that follow it."""
    from dask.base import compute
    from dask.delayed import delayed

    resources = resources_of(parse_nbytes(memory))
    lanes = resources.threads if resources.distributed else 1  # else threads are BLAS's
    taken = 0 if resources.distributed else XARRAY_NBYTES
    height = _height(x, y, resources.arrays_nbytes - taken, lanes)
    groups = [(top, min(top + height, x.shape[0])) for top in range(0, x.shape[0], height)]
    unit = max(1, min(x.unit[0], y.unit[0], height))
    met = [delayed(_meet, pure=False)(x, y, group, unit) for group in groups]
    at_once = resources.workers * lanes
    some = (met[low : low + at_once] for low in range(0, len(met), at_once))
    return float(sum(sum(compute(*tasks)) for tasks in some))


def _height(x: Weighted, y: Weighted, free: int, lanes: int) -> int:
    """Give how many samples of both fields a group holds: with a third of what there is."""
    row_nbytes = x.dtype.itemsize * x.shape[1] + y.dtype.itemsize * y.shape[1]
    unit = max(x.unit[0], y.unit[0])
    height = max(1, min(x.shape[0], free // (3 * lanes * row_nbytes)))
    return height if height < unit else height - height % unit


def _meet(x: Weighted, y: Weighted, group: tuple[int, int], step: int) -> float:
    """Sum products of covariances between a group of samples and those from it to the end."""
    first, last = group
    mine = [one.read((group, (0, one.shape[1]))) for one in (x, y)]
    found = 0.0
    for top in range(first, x.shape[0], step):
        rows = (top, min(top + step, x.shape[0]))
        pairs = [
            own @ one.read((rows, (0, one.shape[1]))).conj().T
            for own, one in zip(mine, (x, y), strict=True)
        ]
        # beyond the group each pair stands for two
        inside = max(0, min(last, rows[1]) - top)
        products = np.real(pairs[0] * pairs[1].conj()).sum(axis=0)
        found += float(products[:inside].sum() + 2 * products[inside:].sum())
    return found


def _rest(side: Reduced) -> float:
    """Give the sum of squares that the EOFs kept leave, and rounding."""
    square = float(side.result.certificate.norm) ** 2
    if side.complete:
        return 0.0
    kept = float(np.sum(side.s.astype(np.float64) ** 2))
    eps = np.finfo(side.s.dtype).eps
    return max(square - kept, 0.0) + len(side.s) * float(eps) * square


def _largest(side: Reduced) -> float:
    """Give what the square of a singular value of the rest is at most."""
    return 0.0 if side.complete else min(float(side.s[-1]) ** 2, _rest(side))
