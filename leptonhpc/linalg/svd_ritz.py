"""Rayleigh-Ritz over stored products Y = A K: singular triplets, written, and how far they are off.

A V = Y C is made Q M with orthonormal Q, from Gram matrices in double precision, and M = P S W^H;
then A has the triplets (Q P, S, V W) on the space. A Gram matrix of columns that depend on one
another has lost what tells them apart. Where they do, their combinations are written, in which no
direction is smaller than rounding allows, and the Gram matrix of these is taken: Y C = Q1 M1 holds
to rounding whatever Q1 is like, so that nothing is lost [1]_.

References
----------
.. [1] Y. Yamamoto, Y. Nakatsukasa, Y. Yanagisawa, T. Fukaya, Roundoff error analysis of the
   CholeskyQR2 algorithm, Electron. Trans. Numer. Anal. 44, 2015.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.linalg.drawn import drawn
from leptonhpc.linalg.gram_matrix import mirror_lower
from leptonhpc.linalg.jobs import Execute
from leptonhpc.linalg.operator import Operator
from leptonhpc.linalg.svd_shared import deviation, long_target, scratch_target, signs
from leptonhpc.linalg.svd_small import small_svd
from leptonhpc.planning import Target

_DEPENDENT = 0.01
"""Least eigenvalue of a Gram matrix of unit columns whose noise, k eps, is felt tenfold at most."""
_DRAWS = 8
_LEAST = 0.857
"""A chi-square variable of so many degrees is less once in a thousand times."""


@dataclass(frozen=True)
class Basis:
    """Y = A K for an orthonormal-to-be long factor, and Z = A^H Y, all by pieces."""

    operands: tuple[tuple[str, int], ...]
    """Scratch arrays and their columns."""
    offset: NDArray[Any]
    """Row to be subtracted from [Y1 .. Yt]."""
    z: NDArray[Any]
    """A^H (A K), (n, p)."""


@dataclass(frozen=True)
class Modes:
    """Singular triplets, the long factor still as a combination of Y."""

    s: NDArray[Any]
    v: NDArray[Any]
    residuals: NDArray[Any]
    orthogonality: float


def rayleigh_ritz(
    operator: Operator,
    execute: Execute,
    basis: Basis,
    coefficients: NDArray[Any] | None,
    v: NDArray[Any],
    *,
    seed: int,
    write: bool,
    limit: Callable[[NDArray[Any]], NDArray[Any]] | None = None,
) -> Modes | None:
    """Give singular triplets of A on span(V) by passes over the scratch Y only.

    Parameters
    ----------
    operator : Operator
        A.
    execute : callable
        The runtime.
    basis : Basis
        Y = A K and Z = A^H Y.
    coefficients : array of shape (p, k), optional
        C with V = K C orthonormal; None: the identity.
    v : array of shape (n, k)
        V.
    seed : int
        For directions in which A has nothing.
    write : bool
        Write the long factor; else only the values are refined.
    limit : callable, optional
        Gives the largest residuals allowed for singular values; nothing is written beyond.

    Returns
    -------
    Modes or None
        None if a residual is beyond its limit. Else values come from Gram matrices of the columns
        of A V in double precision, each scaled to one: small values keep the digits that the
        product A V has (cf. one-sided Jacobi [1]_).

    Notes
    -----
    Where more modes are asked for than A has to working precision, but not all, random vectors
    outside of V are multiplied by A, in one more pass: they tell what A has there.

    References
    ----------
    .. [1] J. Demmel, K. Veselic, Jacobi's method is more accurate than QR, SIAM J. Matrix Anal.
       Appl. 13 (1992), Theorem 4.
    """
    k = v.shape[1]
    turned, stored, lost = coefficients, basis, 0.0
    scale, mu, e = _scaled_gram(operator, execute, basis, turned, k, seed=seed)
    if mu[0] < _DEPENDENT and turned is not None:
        # combinations that cancel are kept as they are: those of them would not be the same
        target = scratch_target(operator, "turned", k)
        rotate(operator, execute, basis, turned, seed=seed, target=target)
        stored = Basis((("turned", k),), np.zeros(k), basis.z)
        scale, mu, e = _scaled_gram(operator, execute, stored, None, k, seed=seed)
    if mu[0] >= _DEPENDENT:
        # A V = Q M with Q = A V S^-1 E mu^-1/2, M = mu^1/2 E^H S
        root = np.sqrt(mu)
        m = e.conj().T * root[:, None] * scale
        w = e / root / scale[:, None]
    else:
        stored, turned, m, mu, w, lost = _separated(
            operator, execute, stored, turned, scale, mu, e, seed=seed
        )
    del e
    if k == operator.columns:
        turned = None  # so V is complete; it is of the order of A
    p, s, wh = small_svd(operator, execute, m)
    del m
    # below this A V is rounding: such a u would be noise, so fresh columns take its place
    r = int(np.count_nonzero(s > 8 * operator.eps * s[0]))
    v = v @ wh.conj().T
    del wh
    w = w @ p[: w.shape[1], :r]
    del p
    v, w = _with_signs(v, w)
    outside = _outside(basis, turned, v, w)
    if stored is basis and coefficients is not None:
        w = coefficients @ w
    del turned
    residuals = _residuals(s, outside, np.eye(k)) + lost
    if limit is not None and np.any(residuals > limit(s)):
        return None
    orthogonality = 0.0
    if write:
        orthogonality, inner = write_long(operator, execute, stored, w, k, mu, seed=seed)
        residuals = _residuals(s, outside, inner) + lost
        if r < k < operator.columns:
            residuals[r:] += _unseen(operator, execute, v, seed)
    return Modes(s, v, residuals, orthogonality)


def _scaled_gram(
    operator: Operator, execute: Execute, basis: Basis, turned: NDArray[Any] | None, k: int, *,
    seed: int,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:  # fmt: skip
    """Give the lengths of the columns of Y C, and the Gram matrix of unit ones as E mu E^H."""
    whole = np.eye(k) if turned is None else turned
    gram, _ = rotate(operator, execute, basis, whole, seed=seed)
    del whole  # what is deleted is of the order of the basis, which may be that of A
    length = np.sqrt(np.maximum(np.real(np.diagonal(gram)), 0))
    scale = np.where(length > 0, length, 1.0)
    gram /= scale[:, None]
    gram /= scale
    mu, e = np.linalg.eigh(gram)
    return scale, mu, e


def _separated(
    operator: Operator, execute: Execute, basis: Basis, turned: NDArray[Any] | None,
    scale: NDArray[Any], mu: NDArray[Any], e: NDArray[Any], *, seed: int,
) -> tuple[Basis, NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any], float]:  # fmt: skip
    """Write Q1 = Y S^-1 E mu^-1/2, mu no less than rounding; orthonormalise that instead.

    Gives Q1, its coefficients where those of Y are C, M, mu and W of Q = Q1 W, and |A V - Q M|_F.
    """
    k = len(mu)
    floor = 16 * math.sqrt(k) * float(np.finfo(float).eps)  # as sums of k roundings walk
    root = np.sqrt(np.maximum(mu, floor))
    before = e.conj().T * root[:, None] * scale
    inverse = e / root / scale[:, None]
    turned = inverse if turned is None else turned @ inverse
    target = scratch_target(operator, "q", k)
    gram, _ = rotate(operator, execute, basis, inverse, seed=seed, target=target)
    del inverse
    mu, e = np.linalg.eigh(gram)
    del gram
    live = mu > floor * mu[-1]
    # of A V, what is dropped: of the order of floor at most
    lost = float(np.linalg.norm(np.sqrt(np.maximum(mu, 0)) * ~live * (before.conj().T @ e)))
    mu, e = mu[live], e[:, live]
    root = np.sqrt(mu)
    m = np.zeros((k, k), e.dtype)
    np.matmul(e.conj().T * root[:, None], before, out=m[: len(root)])
    stored = Basis((("q", k),), np.zeros(k), basis.z)
    return stored, turned, m, mu, e / root, lost


def _outside(
    basis: Basis, turned: NDArray[Any] | None, v: NDArray[Any], w: NDArray[Any]
) -> NDArray[Any]:
    """Give |(I - V V^H) A^H u|: nothing where V is complete."""
    if v.shape[0] == v.shape[1]:
        return np.zeros(w.shape[1])
    z = basis.z @ (w if turned is None else turned @ w)
    z -= v @ (v.conj().T @ z)
    found: NDArray[Any] = np.linalg.norm(z, axis=0)
    return found


def _residuals(s: NDArray[Any], outside: NDArray[Any], inner: NDArray[Any]) -> NDArray[Any]:
    """Give the larger of |A^H u - s v| and |A v - s u| of each mode.

    A V = U S holds, U before it was made orthonormal; `inner` is U^H U', U' as it was written.
    """
    r = len(outside)
    size, eye = s[:r], np.eye(len(s))
    left = np.linalg.norm(size[:, None] * (inner - eye)[:r], axis=0)
    right = size * np.linalg.norm((inner - eye)[:r, :r], axis=1)
    # a fresh u has of the first r what is left of them, and of what was dropped s_r at most
    found: NDArray[Any] = s + s[min(r, len(s) - 1)] + left
    found[:r] = np.maximum(np.hypot(outside, left[:r]), right)
    return found


def _unseen(operator: Operator, execute: Execute, v: NDArray[Any], seed: int) -> float:
    """Bound |A (I - V V^H)|_F by random vectors, at 99.9 %."""
    g = drawn((operator.columns, _DRAWS), operator.wide_dtype, seed + 3)
    for _ in range(2):
        g -= v @ (v.conj().T @ g)
    z, _, _ = operator.normal(execute, g, name="unseen", target=None, first=False)
    return float(np.sqrt(abs(np.vdot(g, z)) / _LEAST))


def write_long(
    operator: Operator, execute: Execute, basis: Basis, w: NDArray[Any], k: int, mu: NDArray[Any],
    *, seed: int,
) -> tuple[float, NDArray[Any]]:  # fmt: skip
    """Write Y W as k orthonormal columns; where W has fewer, random ones complete it.

    Gives the largest entry of |U^H U - I|, U as written, and (Y W)^H U.
    """
    fresh, least = k - w.shape[1], float(np.min(mu, initial=1.0))
    random = fresh > 0
    if random:
        rows, columns = w.shape
        wider = np.zeros((rows + fresh, k), w.dtype)
        wider[:rows, :columns] = w
        wider[rows:, columns:] = np.eye(fresh)
        w = wider
    if least < _DEPENDENT:
        basis, w = _kept(operator, execute, basis, w, seed=seed, fresh=fresh)
        fresh = 0
    inner: NDArray[Any] = np.eye(k)
    rounds = 2 * (random or least < 0.5)  # of CholeskyQR, over the scratch arrays
    while rounds:
        gram, _ = rotate(operator, execute, basis, w, seed=seed, fresh=fresh)
        lower, size = np.linalg.cholesky(gram), np.sqrt(np.real(np.diagonal(gram)))
        del gram
        w, inner, rounds = w @ np.linalg.inv(lower.conj().T), inner @ lower, rounds - 1
        if random and np.min(np.real(np.diagonal(lower)) / size) < 0.1:
            basis, w = _kept(operator, execute, basis, w, seed=seed, fresh=fresh)
            fresh, rounds, random = 0, 2, False  # so many that they nearly depend
    target = long_target(operator, k)
    gram, _ = rotate(operator, execute, basis, w, seed=seed, fresh=fresh, target=target)
    return deviation(gram), inner @ gram


def _kept(
    operator: Operator, execute: Execute, basis: Basis, w: NDArray[Any], *, seed: int, fresh: int
) -> tuple[Basis, NDArray[Any]]:
    """Write [Y N] W, which cancels, so that what it gives can be made orthonormal in its turn."""
    k, name = w.shape[1], "again" if basis.operands[0][0] != "again" else "once more"
    target = scratch_target(operator, name, k)
    rotate(operator, execute, basis, w, seed=seed, fresh=fresh, target=target)
    return Basis(((name, k),), np.zeros(k), basis.z), np.eye(k, dtype=w.dtype)


def rotate(
    operator: Operator, execute: Execute, basis: Basis, w: NDArray[Any], *, seed: int,
    fresh: int = 0, target: Target | None = None, psi: int = 0, theta: int = 0,
) -> tuple[NDArray[Any], dict[str, Any]]:  # fmt: skip
    """Give the Gram matrix of [Y1 .. Yt N] W, N fresh random columns, and all other sums."""
    name = operator.counter.next("rotate" if target is None else "write")
    stage = operator.rotate_stage(name, basis.operands, w.shape[1], target)
    p = basis.offset.size
    small = operator.small(
        w=w, offset=basis.offset @ w[:p], fresh=fresh, seed=seed, write=target is not None,
        psi=psi, theta=theta, first=False,
    )  # fmt: skip
    acc = execute(stage, small)
    gram = acc.pop("gram")
    mirror_lower(gram)
    return gram, acc


def _with_signs(v: NDArray[Any], w: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Make the largest entry of each v real and positive, and turn u with it."""
    phase = signs(v)
    return v * phase, w * phase[: w.shape[1]]
