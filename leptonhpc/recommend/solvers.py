"""Least squares of one row after another, compiled: conjugate gradients, or Cholesky.

The row x of a user minimises, with the factors z of the items fixed,

    f(x) = x' A x - 2 b' x + c,    A = base + penalty I + sum a_j z_j z_j',    b = sum b_j z_j

where explicit ratings have a = 1, b = t, c = sum t^2 with t = rating - mean - offset of the item,
and implicit ones of confidence w have a = w - 1, b = w, c = sum w and the base Y'Y, which stands
for all items that were not seen.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

F = TypeVar("F", bound=Callable[..., Any])
Array = NDArray[Any]


def _compiled(function: F) -> F:
    """Compile for many threads; what was compiled once is kept on the disk."""
    decorate: Any = numba.njit(nogil=True, fastmath=True, cache=True, error_model="numpy")
    return cast(F, decorate(function))


@_compiled
def _terms(value: Any, offset: Any, scale: Any, centre: Any, implicit: bool, one: Any) -> Any:
    """Give a_j, b_j and what the rating adds to c."""
    if implicit:
        weight = scale * value
        return weight - one, weight, weight
    target = value - centre - offset
    return one, target, target * target


@_compiled
def solve_by_gradients(
    pointers: Array, indices: Array, values: Array, fixed: Array, offsets: Array, base: Array,
    penalties: Array, x: Array, scale: Any, centre: Any, implicit: bool, steps: int,
) -> Array:  # fmt: skip
    """Improve rows by some steps of conjugate gradients, each from where it is [1]_.

    Parameters
    ----------
    pointers : array of shape (rows + 1,), int64
        Where the ratings of each row begin.
    indices : array of shape (ratings,), integers
        Rows of `fixed`.
    values : array of shape (ratings,), dtype of `x`
        The ratings.
    fixed : array of shape (columns, d), dtype of `x`
        Factors of the other side.
    offsets : array of shape (columns,), dtype of `x`
        Biases of the other side; zeros where there are none. Not read if implicit.
    base : array of shape (d, d), dtype of `x`
        The matrix that all rows have in common. Not read if not implicit.
    penalties : array of shape (rows,), dtype of `x`
        Of the squared length of each row.
    x : array of shape (rows, d), float32 or float64
        The rows, overwritten. A row without ratings becomes zero.
    scale : scalar, dtype of `x`
        Confidence of an implicit rating of one.
    centre : scalar, dtype of `x`
        Mean of explicit ratings.
    implicit : bool
        Which of the two problems it is.
    steps : int
        Steps; none: `x` stays and is only measured.

    Returns
    -------
    array of shape (4,), float64
        Sums over rows of f before and after, and of the squared gradient of f before and after.

    Notes
    -----
    About 4 (steps + 1) d flops a rating, and 2 (steps + 1) d^2 a row if implicit. No step raises f:
    its decrease is alpha r'r exactly. `x` is left alone where the residual is zero to rounding.

    References
    ----------
    .. [1] G. Takacs, I. Pilaszy, D. Tikk, Applications of the conjugate gradient method for
       implicit feedback collaborative filtering, RecSys 2011.
    """
    d = fixed.shape[1]
    r, p, q = np.empty(d, x.dtype), np.empty(d, x.dtype), np.empty(d, x.dtype)
    sums = np.zeros(4)
    for row in range(len(pointers) - 1):
        first, last = pointers[row], pointers[row + 1]
        y, penalty = x[row], penalties[row]
        if first == last:
            y[:] = scale - scale
            continue
        these, rated = indices[first:last], values[first:last]
        value = _residual(
            r, y, these, rated, fixed, offsets, base, penalty, scale, centre, implicit
        )
        rs = _dot(r, r)
        p[:] = r
        sums[0] += value
        sums[2] += 4.0 * rs
        for _ in range(steps):
            _multiply(q, p, these, rated, fixed, base, penalty, scale, implicit)
            curvature = _dot(p, q)
            if not curvature > 0:  # the residual is zero
                break
            alpha = rs / curvature
            value -= alpha * rs
            for i in range(d):
                y[i] += alpha * p[i]
                r[i] -= alpha * q[i]
            new = _dot(r, r)
            beta = new / rs
            rs = new
            for i in range(d):
                p[i] = r[i] + beta * p[i]
        sums[1] += value
        sums[3] += 4.0 * rs
    return sums


@_compiled
def _dot(x: Array, y: Array) -> Any:
    s = x[0] - x[0]
    for i in range(len(x)):
        s += x[i] * y[i]
    return s


@_compiled
def _residual(
    r: Array, y: Array, indices: Array, values: Array, fixed: Array, offsets: Array, base: Array,
    penalty: Any, scale: Any, centre: Any, implicit: bool,
) -> Any:  # fmt: skip
    """Write r = b - A y; give f(y)."""
    value, one = 0.0, scale / scale
    for i in range(len(y)):
        s = penalty * y[i]
        if implicit:
            s += _dot(base[i], y)
        value += s * y[i]
        r[i] = -s
    for j in range(len(indices)):
        column = indices[j]
        z = fixed[column]
        a, b, c = _terms(values[j], offsets[column], scale, centre, implicit, one)
        s = _dot(z, y)
        value += s * (a * s - b - b) + c
        s = b - a * s
        for i in range(len(y)):
            r[i] += s * z[i]
    return value


@_compiled
def _multiply(
    q: Array, p: Array, indices: Array, values: Array, fixed: Array, base: Array, penalty: Any,
    scale: Any, implicit: bool,
) -> None:  # fmt: skip
    """Write q = A p."""
    one = scale / scale
    for i in range(len(p)):
        q[i] = penalty * p[i]
        if implicit:
            q[i] += _dot(base[i], p)
    for j in range(len(indices)):
        z = fixed[indices[j]]
        s = _dot(z, p)
        if implicit:
            s *= scale * values[j] - one
        for i in range(len(p)):
            q[i] += s * z[i]


@_compiled
def _factor(a: Array) -> int:
    """Overwrite the lower triangle with L of A = L L'; give the order that fails, or 0."""
    n = len(a)
    for i in range(n):
        for j in range(i + 1):
            s = a[i, j]
            for k in range(j):
                s -= a[i, k] * a[j, k]
            if i > j:
                a[i, j] = s / a[j, j]
            elif s > 0:
                a[i, i] = np.sqrt(s)
            else:
                return i + 1
    return 0


@_compiled
def _measure(a: Array, b: Array, x: Array) -> Any:
    """Give x' A x - 2 b' x, and |2 (A x - b)|^2; A in the upper triangle."""
    n, value, gradient = len(b), 0.0, 0.0
    for i in range(n):
        s = 0.0
        for j in range(n):
            s += (a[i, j] if j >= i else a[j, i]) * x[j]
        value += (s - 2.0 * b[i]) * x[i]
        gradient += 4.0 * (s - b[i]) * (s - b[i])
    return value, gradient


@_compiled
def solve_by_cholesky(
    pointers: Array, indices: Array, values: Array, fixed: Array, offsets: Array, base: Array,
    penalties: Array, x: Array, scale: Any, centre: Any, implicit: bool,
) -> Array:  # fmt: skip
    """Solve for each row exactly, in double precision.

    Parameters
    ----------
    pointers, indices, values, fixed, offsets, base, penalties, x, scale, centre, implicit : arrays
        As for `solve_by_gradients`.

    Returns
    -------
    array of shape (5,), float64
        As for `solve_by_gradients`, and the first row, counted from 1, whose matrix is not positive
        definite; 0: none. Rows from there on are as they were.

    Notes
    -----
    d^2 flops a rating and d^3 / 3 a row.
    """
    d = fixed.shape[1]
    a, l = np.empty((d, d)), np.empty((d, d))  # noqa: E741  (A = L L')
    b = np.empty(d)
    sums = np.zeros(5)
    for row in range(len(pointers) - 1):
        first, last = pointers[row], pointers[row + 1]
        if first == last:
            x[row] = scale - scale
            continue
        constant = _assemble(
            a, b, indices[first:last], values[first:last], fixed, offsets, base, penalties[row],
            scale, centre, implicit,
        )  # fmt: skip
        for i in range(d):
            for j in range(i + 1):
                l[i, j] = a[j, i]
        if _factor(l):
            sums[4] = row + 1
            return sums
        before = _measure(a, b, x[row])
        _substitute(l, b, x[row])
        after = _measure(a, b, x[row])
        sums[0] += before[0] + constant
        sums[1] += after[0] + constant
        sums[2] += before[1]
        sums[3] += after[1]
    return sums


@_compiled
def _assemble(
    a: Array, b: Array, indices: Array, values: Array, fixed: Array, offsets: Array, base: Array,
    penalty: Any, scale: Any, centre: Any, implicit: bool,
) -> float:  # fmt: skip
    """Write A, its upper triangle, and b; give c."""
    constant, one, d = 0.0, scale / scale, len(b)
    for i in range(d):
        b[i] = 0.0
        for j in range(i, d):
            a[i, j] = base[i, j] if implicit else 0.0
        a[i, i] += penalty
    for j in range(len(indices)):
        column = indices[j]
        z = fixed[column]
        u, v, c = _terms(values[j], offsets[column], scale, centre, implicit, one)
        constant += c
        for i in range(d):
            b[i] += v * z[i]
            s = float(u) * z[i]
            for k in range(i, d):
                a[i, k] += s * z[k]
    return constant


@_compiled
def _substitute(l: Array, b: Array, x: Array) -> None:  # noqa: E741
    """Write the solution of L L' x = b."""
    y = np.empty(len(b))
    for i in range(len(b)):
        s = b[i]
        for j in range(i):
            s -= l[i, j] * y[j]
        y[i] = s / l[i, i]
    for i in range(len(b) - 1, -1, -1):
        s = y[i]
        for j in range(i + 1, len(b)):
            s -= l[j, i] * y[j]
        y[i] = s / l[i, i]
    x[:] = y


def is_compiled(solver: str) -> bool:
    """Say whether an earlier process left on the disk what a fit needs compiled.

    Parameters
    ----------
    solver : {"cg", "cholesky"}
        Which rows are solved by.

    Returns
    -------
    bool
        False on a machine where nobody has fitted, or not since the package changed.
    """
    needed: list[Any] = [solve_by_gradients]  # it measures too
    if solver == "cholesky":
        needed.append(solve_by_cholesky)
    written = Path(__file__).stat().st_mtime
    return all(
        any(
            index.stat().st_mtime >= written
            for index in Path(function.stats.cache_path).glob(f"*{function.__name__}-*.nbi")
        )
        for function in needed
    )
