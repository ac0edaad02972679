"""A Gram matrix in memory: its other triangle, and its eigenpairs, all or the largest."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.blocks import Source
from leptonhpc.linalg.gram_lanczos import is_for_lanczos, lanczos_numbers, leading_pairs
from leptonhpc.planning import Rates, Resources
from leptonhpc.planning.costs import eigh_seconds

_STRIP = 256
"""Rows that are mirrored at once."""
_MOST_LOCKED = 8192
"""Order up to which pairs are found by SciPy, which holds the interpreter's lock: half a minute."""
_PART = 0.25
"""Of the time for all pairs that a few of them take: what remains is the tridiagonal form."""
_PART_LANCZOS = 0.08
"""The same where single precision will do, of order 5000."""


def mirror_lower(gram: NDArray[Any]) -> None:
    """Make a lower triangle a Hermitian matrix, in place.

    Parameters
    ----------
    gram : array of shape (n, n)
        What is above the diagonal is overwritten.
    """
    for low in range(0, len(gram), _STRIP):
        high = low + _STRIP
        block = gram[low:high, low:high]
        block[...] = np.tril(block, -1) + np.tril(block).conj().T
        np.fill_diagonal(block, np.real(np.diagonal(block)))
        gram[low:high, high:] = gram[high:, low:high].conj().T


def while_summed(
    source: Source, resources: Resources, held_nbytes: int
) -> Callable[[int], int] | None:
    """Give what a lane needs in place of a band while workers add their Gram matrices.

    Parameters
    ----------
    source : Source
        Whose bands are summed.
    resources : Resources
        Of the machine: only workers of a cluster keep what they add, for another try.
    held_nbytes : int
        What a lane has: its Gram matrix, and what is summed beside it.

    Returns
    -------
    callable or None
        `other` of `choose_bands`: what a lane has, what came from another one, and their sum.
    """
    if not resources.distributed:
        return None
    band = source.shape[1] * source.dtype.itemsize
    return lambda height: max(0, 3 * held_nbytes - height * band)


def eigh_descending(
    gram: NDArray[Any], pairs: int | None = None, *, wanted: int | None = None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Give eigenvalues (not negative), descending, and eigenvectors.

    Parameters
    ----------
    gram : array of shape (n, n), row-major
        Hermitian, positive semi-definite; overwritten.
    pairs : int, optional
        How many of the largest; None: all.
    wanted : int, optional
        Single precision will do, and beyond the first so many pairs less than that.

    Returns
    -------
    tuple of arrays of shapes (k,) and (n, k)
        Few pairs by bisection and inverse iteration, 4/3 n^3 flops; many by divide and conquer,
        about 9 n^3. Values are right to eps times the largest. With `wanted`, few pairs of a large
        matrix by `leading_pairs`, if it finds them.
    """
    n = len(gram)
    largest = float(np.max(np.abs(np.diagonal(gram)), initial=0.0))
    if largest == 0:
        return np.zeros(n if pairs is None else pairs), np.eye(n, pairs, dtype=gram.dtype)
    unit = 2.0 ** -math.frexp(largest)[1]
    gram *= unit  # against under- and overflow
    found = None
    if wanted is not None and pairs is not None and is_for_lanczos(n, pairs):
        found = leading_pairs(gram, pairs, wanted=wanted)
    if found is not None:
        return np.maximum(found[0], 0) / unit, found[1]
    if _are_few(n, pairs):
        w, v = _some(gram, pairs or n)
    else:
        w, v = np.linalg.eigh(gram)
    return np.maximum(w[::-1][:pairs], 0) / unit, v[:, ::-1][:, :pairs]


def eigh_descending_seconds(
    n: int, pairs: int | None, rates: Rates, *, single: bool = False
) -> float:
    """Predict the seconds of `eigh_descending`.

    Parameters
    ----------
    n : int
        Order of the matrix.
    pairs : int, optional
        How many.
    rates : Rates
        Of the machine.
    single : bool
        Whether single precision will do.

    Returns
    -------
    float
        Seconds.
    """
    if single and pairs is not None and is_for_lanczos(n, pairs):
        return eigh_seconds(n, rates) * _PART_LANCZOS
    return eigh_seconds(n, rates) * (_PART if _are_few(n, pairs) else 1.0)


def eigh_descending_numbers(n: int, pairs: int | None, *, single: bool = False) -> int:
    """Give the numbers that `eigh_descending` takes beside the matrix.

    Parameters
    ----------
    n : int
        Order of the matrix.
    pairs : int, optional
        How many.
    single : bool
        Whether single precision will do.

    Returns
    -------
    int
        Numbers: of a few pairs the vectors, twice, and workspace; of all three matrices more. Of
        `leading_pairs` the basis; the matrix in single precision lies where it was summed so.
    """
    few = 2 * n * (pairs or n) + 96 * n
    if single and pairs is not None and is_for_lanczos(n, pairs):
        return few + lanczos_numbers(n)
    return few if _are_few(n, pairs) else 4 * n * n


def _are_few(n: int, pairs: int | None) -> bool:
    return pairs is not None and 4 * pairs <= n <= _MOST_LOCKED


def _some(gram: NDArray[Any], pairs: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Give the largest pairs, ascending; where LAPACK loses some of equal values, all, in place.

    Bisection by index cannot separate values that are equal to rounding: it gives fewer than asked.
    """
    from scipy.linalg import LinAlgError, eigh

    n, diagonal = len(gram), np.diagonal(gram).copy()
    # row-major A is conj(A) to LAPACK: so it is overwritten, and not copied
    matrix, w = gram.T, np.zeros(0)
    with contextlib.suppress(LinAlgError):  # inverse iteration did not converge
        w, v = eigh(
            matrix, subset_by_index=(n - pairs, n - 1), driver="evr", overwrite_a=True,
            check_finite=False,
        )  # fmt: skip
    if len(w) < pairs:
        np.fill_diagonal(gram, diagonal)
        mirror_lower(gram)  # what LAPACK used up; it left the other triangle
        w, v = eigh(matrix, driver="ev", overwrite_a=True, check_finite=False)
    return w, v[:, len(w) - pairs :].conj()
