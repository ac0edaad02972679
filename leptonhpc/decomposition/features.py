"""Nystroem features: rows whose inner products are about a kernel, by landmarks."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics.pairwise import pairwise_kernels

from leptonhpc.blocks import Region, Source
from leptonhpc.errors import LinAlgError, NonFiniteError, OptionError

_SLAB_NBYTES = 4 << 20
"""Rows of samples and their kernels that are held at once, about, beside what is asked for."""
_COPIES = 3
"""Of them: as read, in double precision, and what kernels need on the way."""


@dataclass(frozen=True)
class Kernel:
    """A kernel function with its parameters."""

    name: Any
    """A name of ``sklearn.metrics.pairwise.pairwise_kernels``, or a function of two rows."""
    parameters: tuple[tuple[str, Any], ...]

    def __call__(self, x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.float64]:
        """Give k(x_i, y_j)."""
        keywords = dict(self.parameters)
        both = (np.asarray(x, np.float64), np.asarray(y, np.float64))
        values = pairwise_kernels(
            *both, metric=self.name, filter_params=not callable(self.name), **keywords
        )
        return np.asarray(values, np.float64)


def normalization(kernel: Kernel, landmarks: NDArray[Any]) -> NDArray[np.float64]:
    """Give N with N N^T the pseudoinverse of the landmarks' kernel matrix.

    Parameters
    ----------
    kernel : Kernel
        Positive semidefinite.
    landmarks : array of shape (m, n)
        Chosen samples.

    Returns
    -------
    array of shape (m, r)
        r is the numerical rank; k(x, landmarks) @ N are the features of x [1]_.

    Raises
    ------
    LinAlgError
        If the kernel matrix has an eigenvalue that is clearly negative.
    OptionError
        If it is zero.

    References
    ----------
    .. [1] C. Williams, M. Seeger, Using the Nystroem method to speed up kernel machines, Advances
       in Neural Information Processing Systems 13, 2000.
    """
    matrix = kernel(landmarks, landmarks)
    w, v = np.linalg.eigh((matrix + matrix.T) / 2)
    largest = float(np.max(np.abs(w)))
    if not largest:
        raise OptionError("the kernel of all landmarks is zero; choose another kernel")
    cutoff = len(w) * float(np.finfo(float).eps) * largest
    if w[0] < -max(cutoff, 1e-7 * largest):
        message = (
            f"Nystroem's method needs a positive semidefinite kernel; {kernel.name!r} has an "
            f"eigenvalue {w[0]:.3g} beside {largest:.3g} at the landmarks. Choose other parameters"
        )
        raise LinAlgError(message)
    kept = w > cutoff
    basis: NDArray[np.float64] = np.ascontiguousarray((v[:, kept] / np.sqrt(w[kept]))[:, ::-1])
    return basis


@dataclass(frozen=True)
class FeatureSource:
    """Features of samples, computed when they are read."""

    base: Source
    kernel: Kernel
    landmarks: NDArray[Any]
    normalization: NDArray[np.float64]
    dtype: np.dtype[Any] = np.dtype(np.float64)

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the matrix of features."""
        return self.base.shape[0], self.normalization.shape[1]

    @property
    def unit(self) -> tuple[int, int]:
        """Shape of the piece that is made at once: all features."""
        return self.base.unit[0], self.shape[1]

    @property
    def name(self) -> str:
        """The source in words."""
        return f"Nystroem features of {self.base.name}"

    @property
    def shareable(self) -> bool:
        """Whether other processes can read it."""
        return self.base.shareable

    def read(self, region: Region, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Read samples, some whole chunks at a time, and compute their features."""
        (low, high), (first, last) = region
        block = np.empty((high - low, last - first), self.dtype) if out is None else out
        columns, step = self.base.shape[1], self._slab()
        edges = [low, *range(low - low % step + step, high, step), high]
        for begin, end in zip(edges, edges[1:], strict=False):
            rows = self.base.read(((begin, end), (0, columns)))
            if not np.isfinite(rows).all():
                row, column = np.argwhere(~np.isfinite(rows))[0]
                message = (
                    f"a kernel needs finite numbers; {self.base.name} has {rows[row, column]} at "
                    f"({begin + row}, {column})"
                )
                raise NonFiniteError(message)
            features = self.kernel(rows, self.landmarks) @ self.normalization
            block[begin - low : end - low] = features[:, first:last]
        return block

    def units_in(self, region: Region) -> int:
        """Count the storage units that a region touches."""
        return self.base.units_in((region[0], (0, self.base.shape[1])))

    def overhead_nbytes(self) -> int:
        """Give what one thread needs to compute features, beside them."""
        return _COPIES * min(self._slab(), self.shape[0]) * self._row_nbytes()

    def _slab(self) -> int:
        """Give the rows that are taken at once: whole chunks."""
        unit = max(1, self.base.unit[0])
        return unit * max(1, _SLAB_NBYTES // (self._row_nbytes() * unit))

    def _row_nbytes(self) -> int:
        return 8 * (self.base.shape[1] + len(self.landmarks))

    def identity(self) -> dict[str, Any]:
        """Describe the source."""
        sha = hashlib.sha256(np.ascontiguousarray(self.landmarks).tobytes())
        sha.update(np.ascontiguousarray(self.normalization).tobytes())
        return {
            "kernel": str(self.kernel), "landmarks": sha.hexdigest()[:16],
            "of": self.base.identity(),
        }  # fmt: skip
