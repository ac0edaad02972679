"""A few of the largest eigenpairs of a large Gram matrix in memory, by block Lanczos.

LAPACK brings all of the matrix to tridiagonal form, half of it by products with one vector, for as
few pairs as are asked for. Block Lanczos with full reorthogonalisation [1]_ takes some dozen
products with a block of vectors, in single precision. A block is wider than the number of pairs, so
that equal values are all found. Residuals are measured with the matrix itself; who asks takes
LAPACK where they stay large.

References
----------
.. [1] G. H. Golub, C. F. Van Loan, Matrix Computations, 4th ed., section 10.3.6.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_SEED = 20
_LEAST_ORDER = 2048
"""Below it LAPACK takes less than half a second."""
_LEAST_SHARE = 64
"""So many times as many rows as pairs: else the basis would be full before they are found."""
_MOST_SHARE = 4
_MOST_LEAST = 1200
"""The basis has up to a fourth of the order as vectors, of small matrices up to a half but not more
than so many: beyond, LAPACK is faster."""
_FIRST_STEPS = 4
_BETWEEN = 1.15
"""Pairs are taken out when the basis has grown by so much."""
TOLERANCE = 2.0**-26
"""A fourth of the unit of single precision, which the sums of the matrix have rounded by."""


def is_for_lanczos(n: int, pairs: int) -> bool:
    """Say whether pairs are few enough, and the matrix large enough.

    Parameters
    ----------
    n : int
        Order of the matrix.
    pairs : int
        How many.

    Returns
    -------
    bool
        Whether `leading_pairs` is likely to be faster than LAPACK.
    """
    return n >= _LEAST_ORDER and _LEAST_SHARE * pairs <= n


def lanczos_numbers(n: int) -> int:
    """Give the numbers that `leading_pairs` takes beside the matrix and its copy in single.

    Parameters
    ----------
    n : int
        Order of the matrix.

    Returns
    -------
    int
        Numbers: the basis, and small matrices of the order that it has vectors.
    """
    most = _most(n)
    return most * n + 4 * most * most


def _most(n: int) -> int:
    return max(n // _MOST_SHARE, min(n // 2, _MOST_LEAST))


def leading_pairs(
    gram: NDArray[Any], pairs: int, *, wanted: int
) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """Give the largest eigenvalues, descending, and their eigenvectors, to single precision.

    Parameters
    ----------
    gram : array of shape (n, n), float64 or complex128
        Hermitian, both triangles; not changed. Its numbers are near one at most.
    pairs : int
        How many are given: the width of a block.
    wanted : int
        How many of them, from the largest, have small residuals; the others come close.

    Returns
    -------
    tuple of arrays of shapes (pairs,) and (n, pairs), or None
        Values of a Rayleigh-Ritz step in double precision, right to the square of the vectors'
        error. None where a residual |G v - w v| stayed above rounding in single precision.

    Notes
    -----
    2 n^2 flops a vector of the basis, and 4 n m^2 for its m vectors. The start is drawn from a
    fixed seed: the same matrix has the same answer.
    """
    n = len(gram)
    narrow = gram.astype(np.complex64 if gram.dtype.kind == "c" else np.float32)
    v = _ritz_vectors(narrow, pairs, wanted, gram.dtype)
    del narrow
    if v is None:
        return None
    image = gram @ v
    w, turn = np.linalg.eigh(v.conj().T @ image)
    w, turn = w[::-1], turn[:, ::-1]
    v, image = v @ turn, image @ turn
    residuals = np.linalg.norm(image[:, :wanted] - v[:, :wanted] * w[:wanted], axis=0)
    # sums of n terms round like random walks; columns are rounded to single precision first
    allowed = 4 * TOLERANCE + float(np.finfo(np.float32).eps) * n**0.25
    return (w, v) if np.all(residuals <= allowed * w[0]) else None


def _ritz_vectors(
    matrix: NDArray[Any], pairs: int, wanted: int, wide: np.dtype[Any]
) -> NDArray[Any] | None:
    """Give an orthonormal basis of the leading Ritz vectors; None if they do not converge."""
    n, most = len(matrix), _most(len(matrix)) // pairs
    rng = np.random.default_rng(_SEED)
    block = np.linalg.qr(rng.standard_normal((n, pairs)).astype(wide))[0]
    basis = np.empty((n, most * pairs), wide, order="F")
    projected = np.zeros((most * pairs, most * pairs), wide)
    due = _FIRST_STEPS
    for step in range(1, most + 1):
        old, new = (step - 1) * pairs, step * pairs
        basis[:, old:new] = block
        known = basis[:, :new]
        image = (matrix @ block.astype(matrix.dtype)).astype(wide)
        column = _orthogonalise(image, known, max(0, old - pairs))
        projected[:new, old:new], projected[old:new, :new] = column, column.conj().T
        size = float(np.max(np.abs(np.diagonal(projected)[:new])))
        block, rest = _orthonormal(image, known, size, rng)
        if step < due and step < most:
            continue
        due = max(step + 1, round(step * _BETWEEN))
        w, s = np.linalg.eigh(projected[:new, :new])
        residual = float(np.max(np.linalg.norm(rest @ s[old:, -wanted:], axis=0)))
        if residual <= TOLERANCE * w[-1]:
            vectors: NDArray[Any] = np.linalg.qr(known @ s[:, -pairs:])[0]
            return vectors
        if 2 * step > most and residual > TOLERANCE**0.5 * w[-1]:
            return None  # not halfway: it will not arrive
    return None


def _orthogonalise(image: NDArray[Any], known: NDArray[Any], near: int) -> NDArray[Any]:
    """Take the part in a basis out of vectors, in place; give its coefficients.

    What is in the two blocks before, from column `near`, is most of it: without that the rest is
    taken out as exactly by once as by twice.
    """
    first = known[:, near:].conj().T @ image
    image -= known[:, near:] @ first
    coefficients: NDArray[Any] = known.conj().T @ image
    image -= known @ coefficients
    coefficients[near:] += first
    return coefficients


def _orthonormal(
    image: NDArray[Any], known: NDArray[Any], size: float, rng: np.random.Generator
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Give the next block and how the image is made of it, also where little or nothing is left."""
    block, rest = np.linalg.qr(image)
    left = np.abs(np.diagonal(rest))
    if left.min() > 1e-6 * size:
        return block, rest
    spent = left <= 1e-15 * size  # the basis has all that the matrix makes of the start
    block[:, spent] = rng.standard_normal((len(block), int(spent.sum())))
    for _ in range(2):
        block -= known @ (known.conj().T @ block)
        block = np.linalg.qr(block)[0]
    return block, rest
