"""Eigenpairs of a Hermitian matrix in one place, its product with a few vectors, factors composed.

The eigensolver is LAPACK's divide and conquer in three calls (sytrd, stedc, ormtr) instead of one
(syevd): the first leaves one triangle of A as it was, so that residuals of all pairs are measured
without a second reading and without a second copy of A.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.errors import LinAlgError, NumericRangeError
from leptonhpc.kernels.blas import address, char, integer, leading, routine
from leptonhpc.kernels.checks import raise_at, require_hermitian
from leptonhpc.kernels.fold import Accumulator, Blas, Region, Small
from leptonhpc.kernels.panels import PROBES, Load, LoadHermitian, frobenius
from leptonhpc.kernels.substitution import converted

_SWEPT = 256
"""Columns that are mirrored or measured at once."""

Solver = Callable[[NDArray[Any]], tuple[NDArray[Any], NDArray[Any]]]


def syevd(a: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Give all eigenpairs of a Hermitian matrix by tridiagonal form, divide and conquer [1]_.

    Parameters
    ----------
    a : array of shape (n, n), row-major, real or complex floating
        All of it; overwritten above its diagonal (with reflectors).

    Returns
    -------
    tuple of arrays of shapes (n,) and (n, n)
        Eigenvalues, ascending, real; V^H, row-major.

    Raises
    ------
    LinAlgError
        If LAPACK does not converge.

    Notes
    -----
    About 9 n^3 flops (4 times that, complex); 2 n^2 numbers beside `a`. Releases the GIL.

    References
    ----------
    .. [1] M. Gu, S. Eisenstat, A divide-and-conquer algorithm for the symmetric tridiagonal
       eigenproblem, SIAM J. Matrix Anal. Appl. 16, 1995.
    """
    n, complex_ = len(a), a.dtype.kind == "c"
    diagonal = a.diagonal().copy()
    real = np.empty(0, a.dtype).real.dtype
    d, e, tau = np.empty(n, real), np.empty(max(1, n - 1), real), np.empty(max(1, n - 1), a.dtype)
    # row-major A is conj(A) to LAPACK, whose lower triangle is the upper one by rows
    work = np.empty(64 * n + 4160, a.dtype)
    _call(
        "hetrd" if complex_ else "sytrd", a.dtype, char(b"L"), integer(n), address(a),
        integer(leading(a)), address(d), address(e), address(tau), address(work),
        integer(work.size),
    )  # fmt: skip
    z = _tridiagonal(d, e).astype(a.dtype, copy=False)
    _call(
        "unmtr" if complex_ else "ormtr", a.dtype, char(b"L"), char(b"L"), char(b"N"), integer(n),
        integer(n), address(a), integer(leading(a)), address(tau), address(z), integer(leading(z)),
        address(work), integer(work.size),
    )  # fmt: skip
    np.fill_diagonal(a, diagonal)
    # columns of z are eigenvectors of conj(A): read by rows they are V^H
    return d, z


def syevd_reference(a: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Give what `syevd` gives, by NumPy."""
    w, v = np.linalg.eigh(a)
    return w, np.ascontiguousarray(v.conj().T)


SOLVERS: dict[str, Solver] = {"host": syevd, "reference": syevd_reference}


@dataclass(frozen=True)
class LoadWhole:
    """All of a Hermitian matrix, each block compared with its mirror image."""

    blas: Blas

    def begin(self, small: Small, at: Region) -> Accumulator:
        """Give a matrix of zeros."""
        return Load(self.blas).begin(small, at)

    def step(
        self, acc: Accumulator, blocks: Sequence[NDArray[Any]], small: Small, at: Region
    ) -> None:
        """Take over one block of the lower triangle; a diagonal block is its own mirror image."""
        mirror = blocks[1] if len(blocks) > 1 else blocks[0].conj().T
        LoadHermitian(self.blas).step(acc, [blocks[0], mirror], small, at)

    def finish(self, acc: Accumulator, small: Small, at: Region) -> None:
        """Write nothing: the matrix goes on to the solver."""


@dataclass(frozen=True)
class Syevd:
    """Eigenpairs of the matrix that was loaded, each with its residual."""

    blas: Blas
    solver: Solver

    def begin(self, small: Small, at: Region) -> Accumulator:
        """Give nothing: the matrix is there."""
        return {}

    def step(
        self, acc: Accumulator, blocks: Sequence[NDArray[Any]], small: Small, at: Region
    ) -> None:
        """Fold nothing."""

    def finish(self, acc: Accumulator, small: Small, at: Region) -> NDArray[Any]:
        """Give the eigenvectors asked for; leave eigenvalues, residuals and |V^H V - I|."""
        a: NDArray[Any] = acc.pop("_panel")
        for name in ("_y", "expected"):
            acc.pop(name)
        unit = _unit(acc["max_entry"], a.dtype)
        if unit != 1:
            a *= unit
        mirror(a)
        w, rows = self.solved(a)
        mirror(a)
        acc["max_size"] = float(np.max(np.abs(w))) / unit
        low, high = small["pairs"]
        w, rows = w[low:high], rows[low:high, :]
        residuals, largest, deviation = self.measured(a, w, rows)
        with np.errstate(over="ignore", under="ignore"):
            acc["eigenvalues"] = w / w.dtype.type(unit)
        if not np.isfinite(acc["eigenvalues"]).all():
            message = f"eigenvalues of {small['name']} overflow {w.dtype}. Scale the matrix first"
            raise NumericRangeError(message)
        acc["residuals"] = residuals / unit
        acc["max_deviation"], acc["hypot_deviation"] = largest, deviation
        vectors = self.brought(rows)
        np.conjugate(vectors, out=vectors)
        return vectors.T

    def solved(self, a: NDArray[Any]) -> tuple[NDArray[Any], Any]:
        """Give eigenvalues and V^H; `a` may be overwritten above its diagonal."""
        return self.solver(a)

    def brought(self, rows: Any) -> NDArray[Any]:
        """Give V^H as an array of the host."""
        vectors: NDArray[Any] = rows
        return vectors

    def measured(
        self, a: NDArray[Any], w: NDArray[Any], rows: NDArray[Any]
    ) -> tuple[NDArray[np.float64], float, float]:
        """Give |A v - w v| of each pair, the largest entry of |V^H V - I|, and its norm."""
        residuals = np.zeros(len(w))
        largest, square = 0.0, 0.0
        for low in range(0, len(w), _SWEPT):
            high = min(low + _SWEPT, len(w))
            part = rows[low:high]
            left = part * -w[low:high, None]
            self.blas.gemm(left, part, a)  # V^H A - W V^H
            residuals[low:high] = np.linalg.norm(left, axis=1)
            gram = np.zeros((high - low, high), a.dtype)
            self.blas.gemm(gram, part, rows[:high], right_adjoint=True)
            gram[:, low:] -= np.eye(high - low, dtype=a.dtype)
            largest = max(largest, float(np.max(np.abs(gram), initial=0.0)))
            # what is left of the diagonal block stands above it too
            square += 2 * float(np.linalg.norm(gram[:, :low])) ** 2
            square += float(np.linalg.norm(gram[:, low:])) ** 2
        return residuals, largest, math.sqrt(square)


@dataclass(frozen=True)
class Hemm:
    """A Y for a Hermitian A of which blocks on and below the diagonal are read."""

    blas: Blas

    def begin(self, small: Small, at: Region) -> Accumulator:
        """Give zeros."""
        return {"product": np.zeros_like(small["y"]), "hypot_norm": 0.0}

    def step(
        self, acc: Accumulator, blocks: Sequence[NDArray[Any]], small: Small, at: Region
    ) -> None:
        """Add what a block and its mirror image contribute; compare them if both were read."""
        y, product = small["y"], acc["product"]
        block = converted(blocks[0], y.dtype)
        (r0, r1), (c0, c1) = at
        below = r0 != c0
        if small["check"]:
            if not np.isfinite(block).all():
                raise_at(block, at, small["name"])
            other = blocks[1].astype(y.dtype, copy=False) if below else block.conj().T
            require_hermitian(block, other, small, at)
            norm = frobenius(block, self.blas) * (math.sqrt(2.0) if below else 1.0)
            acc["hypot_norm"] = math.hypot(acc["hypot_norm"], norm)
        self.blas.gemm(product[r0:r1], block, y[c0:c1])
        if below:
            self.blas.gemm(product[c0:c1], block, y[r0:r1], adjoint=True)

    def finish(self, acc: Accumulator, small: Small, at: Region) -> None:
        """Write nothing."""


@dataclass(frozen=True)
class Compose:
    """Rows of L W, L the long factor of T = L S R^H, checked against T by random vectors."""

    blas: Blas

    def begin(self, small: Small, at: Region) -> Accumulator:
        """Give zeros."""
        shape = (small["w"].shape[1], PROBES)
        wide = np.result_type(small["w"], np.float64)
        return {"projected": np.zeros(shape, wide), "hypot_defect": 0.0}

    def step(
        self, acc: Accumulator, blocks: Sequence[NDArray[Any]], small: Small, at: Region
    ) -> NDArray[Any]:
        """Give one band of B = L W; add B^H T X, or B^H B X and how far B `inner` is from T X."""
        w, omega, inner = small["w"], small["omega"], small["inner"]
        band = np.zeros((len(blocks[0]), w.shape[1]), w.dtype)
        self.blas.gemm(band, converted(blocks[0], w.dtype), w)
        for low in range(0, len(band), _SWEPT):
            b = band[low : low + _SWEPT].astype(omega.dtype)
            image = (blocks[1][low : low + _SWEPT].astype(omega.dtype) * small["unit"]) @ omega
            if inner is not None:
                defect = float(np.linalg.norm(b @ inner - image))
                acc["hypot_defect"] = math.hypot(acc["hypot_defect"], defect)
                image = b @ omega
            acc["projected"] += b.conj().T @ image
        return band

    def finish(self, acc: Accumulator, small: Small, at: Region) -> None:
        """Write nothing more."""


def mirror(a: NDArray[Any]) -> None:
    """Make a matrix Hermitian in place: what is above the diagonal from what is below it."""
    n = len(a)
    if a.dtype.kind == "c":
        a.imag[np.diag_indices(n)] = 0
    for low in range(0, n, _SWEPT):
        high = min(low + _SWEPT, n)
        a[low:high, high:] = a[high:, low:high].conj().T
        block = a[low:high, low:high]
        rows, columns = np.triu_indices(high - low, 1)
        block[rows, columns] = block[columns, rows].conj()


def _unit(largest: float, dtype: np.dtype[Any]) -> float:
    """Give the power of two that brings numbers near the ends of the range to one."""
    most = int(np.finfo(dtype).maxexp)
    exponent = math.frexp(largest)[1] if largest else 0
    return 1.0 if abs(exponent) < most // 4 else math.ldexp(1.0, -max(exponent, 2 - most))


def _tridiagonal(d: NDArray[Any], e: NDArray[Any]) -> NDArray[Any]:
    """Solve the tridiagonal problem: `d` becomes eigenvalues; give their vectors, each a row."""
    n = len(d)
    z = np.empty((n, n), d.dtype)
    work, integers = np.empty(1 + 4 * n + n * n, d.dtype), np.empty(3 + 5 * n, np.intc)
    _call(
        "stedc", d.dtype, char(b"I"), integer(n), address(d), address(e), address(z),
        integer(leading(z)), address(work), integer(work.size), address(integers),
        integer(integers.size),
    )  # fmt: skip
    return z


def _call(name: str, dtype: np.dtype[Any], *arguments: Any) -> None:
    info = ctypes.c_int(0)
    routine(name, dtype, len(arguments) + 1, "lapack")(*arguments, ctypes.byref(info))
    if info.value:
        raise LinAlgError(f"LAPACK's {name} gave info {info.value}")
