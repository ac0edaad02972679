"""Logistic regression on one variant after another: Newton's method, a block at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfc, expit

from leptonhpc.errors import LinAlgError
from leptonhpc.genomics.designs import Design
from leptonhpc.genomics.linear import Fits, centred

Floats = NDArray[np.float64]

CELL_NBYTES = 66
"""Bytes for each call: int8, masks, and eight float64 matrices at most."""
_MOST_STEPS = 30
_STEP = 1e-11
"""Newton's method squares the error: one step after this there is only rounding left."""
_FARTHEST = 30.0
"""Log odds beyond which a fit is running away: the variant separates cases from controls."""


class LogisticBlock:
    """Regress traits of 0 and 1 on the variants of a block, each with the covariates.

    Parameters
    ----------
    designs : list of Design
        The traits, 0 and 1 (or 1 and 2, as PLINK has them).
    impute : bool
        Missing calls are the variant's mean; otherwise their samples are left out.

    Raises
    ------
    LinAlgError
        If a trait has other values, or covariates alone separate cases from controls.
    """

    def __init__(self, designs: list[Design], *, impute: bool) -> None:
        self.impute = impute
        self.rows = [design.rows for design in designs]
        self.known = [_Known.of(design) for design in designs]

    def __call__(self, block: NDArray[Any], start: int) -> list[Fits]:
        """Give the statistics of each trait."""
        return [
            self._fit(block if len(rows) == len(block) else block[rows], known)
            for rows, known in zip(self.rows, self.known, strict=True)
        ]

    def _fit(self, calls: NDArray[Any], known: _Known) -> Fits:
        g, missing = centred(calls)
        weights = np.ones(g.shape) if self.impute else (~missing).astype(np.float64)
        tested = weights.sum(axis=0).astype(np.int64)
        varies = np.flatnonzero(np.ptp(g, axis=0) > 0)
        beta, se = np.full(g.shape[1], np.nan), np.full(g.shape[1], np.nan)
        if varies.size:
            beta[varies], se[varies] = _newton(g[:, varies], weights[:, varies], known)
        z = beta / se
        return Fits(beta, se, z, erfc(np.abs(z) / np.sqrt(2)), tested)


@dataclass(frozen=True)
class _Known:
    """Covariates on an orthonormal basis, and the fit without a variant."""

    q: Floats
    outer: Floats
    """(n, k^2): q q^T of each sample."""
    y: Floats
    start: Floats

    @classmethod
    def of(cls, design: Design) -> _Known:
        y = _zero_one(design)
        q = np.linalg.qr(design.covariates)[0] * np.sqrt(len(y))
        outer = (q[:, :, None] * q[:, None, :]).reshape(len(q), -1)
        start = np.zeros(q.shape[1])
        for _ in range(_MOST_STEPS):
            mu = expit(q @ start)
            hessian = ((mu * (1 - mu)) @ outer).reshape(q.shape[1], -1)
            if np.linalg.cond(hessian) > 1e14:
                break
            step = np.linalg.solve(hessian, q.T @ (y - mu))
            start += step
            if np.abs(step).max() < _STEP:
                return cls(q, outer, y, start)
        message = f"covariates separate the cases of {design.trait!r} from its controls; use fewer"
        raise LinAlgError(message)


def _zero_one(design: Design) -> Floats:
    values = np.unique(design.y)
    for pair in ([0, 1], [1, 2]):
        if np.array_equal(values, pair):
            return design.y - pair[0]
    message = (
        f"logistic regression needs a trait of 0 and 1 (or 1 and 2); {design.trait!r} has "
        f"{len(values)} values, {values[0]:g} to {values[-1]:g}. Use model='linear'"
    )
    raise LinAlgError(message)


def _newton(g: Floats, weights: Floats, known: _Known) -> tuple[Floats, Floats]:
    """Fit all variants of a block, those that have not converged yet in each step."""
    k, width = known.q.shape[1], g.shape[1]
    scale = np.sqrt(np.einsum("ij,ij->j", g, g) / len(g))
    g = g / scale  # of the covariates' size, so that one tolerance serves all
    beta, se = np.full(width, np.nan), np.full(width, np.nan)
    active = np.arange(width)
    at = np.column_stack([np.tile(known.start, (width, 1)), np.zeros(width)])
    for _ in range(_MOST_STEPS):
        score, hessian = _derivatives(g, weights, at, known)
        sound = np.linalg.cond(hessian) < 1e12
        hessian[~sound] = np.eye(k + 1)
        step = np.linalg.solve(hessian, score[:, :, None])[:, :, 0]
        at = at + step
        done = sound & (np.abs(step).max(axis=1) < _STEP)
        inverse = np.linalg.inv(hessian[done])[:, k, k]
        beta[active[done]] = at[done, k] / scale[active[done]]
        se[active[done]] = np.sqrt(inverse) / scale[active[done]]
        # what runs away is separated: it has no finite estimate and stays NaN
        stay = sound & ~done & (np.abs(at).max(axis=1) < _FARTHEST)
        active, at, g, weights = active[stay], at[stay], g[:, stay], weights[:, stay]
        if not active.size:
            break
    return beta, se


def _derivatives(g: Floats, weights: Floats, at: Floats, known: _Known) -> tuple[Floats, Floats]:
    """Score (b, k + 1) and information (b, k + 1, k + 1) at the current estimates."""
    k = known.q.shape[1]
    mu = expit(known.q @ at[:, :k].T + g * at[:, k])
    residual = (known.y[:, None] - mu) * weights
    score = np.column_stack([residual.T @ known.q, np.einsum("ij,ij->j", residual, g)])
    w = mu * (1 - mu) * weights
    hessian = np.empty((g.shape[1], k + 1, k + 1))
    hessian[:, :k, :k] = (w.T @ known.outer).reshape(-1, k, k)
    w *= g
    hessian[:, :k, k] = hessian[:, k, :k] = w.T @ known.q
    hessian[:, k, k] = np.einsum("ij,ij->j", w, g)
    return score, hessian
