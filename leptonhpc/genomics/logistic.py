"""Logistic regression on one variant after another: Newton with halved steps, a block at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfc, expit

from leptonhpc.errors import LinAlgError
from leptonhpc.genomics.designs import Design
from leptonhpc.genomics.firth import firth_fit
from leptonhpc.genomics.linear import Fits, centred

Floats = NDArray[np.float64]
Firth = Literal["never", "fallback", "always"]

CELL_NBYTES = 82
"""Bytes for each call: int8, masks, and ten float64 matrices at most."""
_MOST_STEPS = 100
_STEP = 1e-9
"""Largest change of log odds: Newton's method squares it, so there is only rounding left after."""
_ENOUGH = 1e-4
"""Share of the gain that a step promises which it must bring: L. Armijo (1966)."""
_SINGULAR = 1e13
_ROUNDING = 1e-9
"""Share of the largest change of log odds that may point the other way in a separating one."""


class LogisticBlock:
    """Regress traits of 0 and 1 on the variants of a block, each with the covariates.

    Parameters
    ----------
    designs : list of Design
        The traits, 0 and 1 (or 1 and 2, as PLINK has them).
    impute : bool
        Missing calls are the variant's mean; otherwise their samples are left out.
    firth : {"never", "fallback", "always"}
        Whether the likelihood is penalised: where there is no estimate without, or of all variants.

    Raises
    ------
    LinAlgError
        If a trait has other values, covariates alone separate cases from controls, or their fit
        does not converge.
    """

    def __init__(self, designs: list[Design], *, impute: bool, firth: Firth = "never") -> None:
        self.impute, self.firth = impute, firth
        self.rows = [design.rows for design in designs]
        self.known = [_Known.of(design) for design in designs]

    def __call__(self, block: NDArray[Any], start: int) -> list[Fits]:
        """Give the statistics of each trait."""
        return [
            self._fit(block if len(rows) == len(block) else block[rows], known)
            for rows, known in zip(self.rows, self.known, strict=True)
        ]

    def _fit(self, calls: NDArray[Any], known: _Known) -> Fits:
        g, missing, mean = centred(calls)
        weights = np.ones(g.shape) if self.impute else (~missing).astype(np.float64)
        tested = weights.sum(axis=0).astype(np.int64)
        varies = np.flatnonzero(np.ptp(g, axis=0) > 0)
        beta, se = np.full(g.shape[1], np.nan), np.full(g.shape[1], np.nan)
        converged = np.ones(g.shape[1], bool)
        if varies.size and self.firth != "always":
            found = _newton(g[:, varies], weights[:, varies], known)
            beta[varies], se[varies], converged[varies] = found
        penalised = np.zeros(g.shape[1], bool)
        if self.firth != "never":
            for variant in varies[np.isnan(beta[varies])]:
                there = weights[:, variant] > 0
                pair = _firth(g[there, variant], there, known)
                if pair is not None:
                    beta[variant], se[variant] = pair
                    penalised[variant] = converged[variant] = True
        z = beta / se
        p = erfc(np.abs(z) / np.sqrt(2))
        return Fits(beta, se, z, p, tested, mean / 2, converged, penalised)


def _firth(g: Floats, there: NDArray[np.bool_], known: _Known) -> tuple[float, float] | None:
    """Fit one variant with the penalty; None if there is no estimate."""
    scale = float(np.sqrt(g @ g / len(g)))
    x = np.column_stack([known.q[there], g / scale])
    found = firth_fit(x, known.y[there], np.append(known.start, 0.0))
    return None if found is None else (found[0][-1] / scale, found[1][-1] / scale)


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
        return cls(q, outer, y, _without_variant(q, outer, y, design.trait))


def _without_variant(q: Floats, outer: Floats, y: Floats, trait: str) -> Floats:
    """Fit the covariates alone."""
    at = np.zeros(q.shape[1])
    everybody = np.ones((len(y), 1))
    for _ in range(_MOST_STEPS):
        mu = expit(q @ at)
        hessian = ((mu * (1 - mu)) @ outer).reshape(q.shape[1], -1)
        if np.linalg.cond(hessian) > _SINGULAR:
            break
        step = np.linalg.solve(hessian, q.T @ (y - mu))
        change = (q @ step)[:, None]
        gain = np.array([step @ (q.T @ (y - mu))])
        length, farthest = _length((q @ at)[:, None], change, gain, everybody, y)
        if _separating(change, everybody, y)[0] and farthest[0] > _STEP:
            message = f"covariates separate the cases of {trait!r} from its controls; use fewer"
            raise LinAlgError(message)
        at += length * step
        if farthest[0] < _STEP:
            return at
    message = f"the logistic fit of {trait!r} on the covariates alone did not converge; use fewer"
    raise LinAlgError(message)


def _zero_one(design: Design) -> Floats:
    values = np.unique(design.y)
    for pair in ([0, 1], [1, 2]):
        if np.array_equal(values, pair):
            return design.y - pair[0]
    message = (
        f"logistic regression needs a trait of 0 and 1 (or 1 and 2); {design.trait!r} has "
        f"{len(values)} values, {values[0]:g} to {values[-1]:g}. "
    ) + (
        f"Beside 1 and 2 PLINK's {values[0]:g} is missing: write NA, or NaN"
        if len(values) == 3 and values[0] in (-9, 0) and np.array_equal(values[1:], [1, 2])
        else "Use model='linear'"
    )
    raise LinAlgError(message)


def _newton(g: Floats, weights: Floats, known: _Known) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Fit all variants of a block, those that have not converged yet in each step.

    Gives the estimates and errors, NaN where there are none, and False where there is an estimate
    that was not reached.
    """
    k, width = known.q.shape[1], g.shape[1]
    scale = np.sqrt(np.einsum("ij,ij->j", g, g) / len(g))
    g = g / scale  # of the covariates' size, so that one tolerance serves all
    beta, se = np.full(width, np.nan), np.full(width, np.nan)
    converged = np.ones(width, bool)
    active = np.arange(width)
    at = np.column_stack([np.tile(known.start, (width, 1)), np.zeros(width)])
    for number in range(_MOST_STEPS):
        score, hessian = _derivatives(g, weights, at, known)
        sound = np.linalg.cond(hessian) < _SINGULAR
        if number:  # at the start, a singular matrix says that the variant follows from covariates
            converged[active[~sound]] = False
        hessian[~sound] = np.eye(k + 1)
        step = np.linalg.solve(hessian, score[:, :, None])[:, :, 0]
        change = (known.q @ step[:, :k].T + g * step[:, k]) * weights
        odds = known.q @ at[:, :k].T + g * at[:, k]
        gain = np.einsum("ij,ij->i", score, step)
        length, farthest = _length(odds, change, gain, weights, known.y)
        at = at + length[:, None] * step
        done = sound & (farthest < _STEP)
        inverse = np.linalg.inv(hessian[done])[:, k, k]
        beta[active[done]] = at[done, k] / scale[active[done]]
        se[active[done]] = np.sqrt(inverse) / scale[active[done]]
        # what is separated has no finite estimate and stays NaN
        stay = sound & ~done & ~_separating(change, weights, known.y)
        active, at, g, weights = active[stay], at[stay], g[:, stay], weights[:, stay]
        if not active.size:
            break
    converged[active] = False
    return beta, se, converged


def _length(
    odds: Floats, change: Floats, gain: Floats, weights: Floats, y: Floats
) -> tuple[Floats, Floats]:
    """Halve Newton's step until the likelihood rises; give its length, and how far the whole goes.

    Where no log odds moves by more than 1, all of the step raises the likelihood always: F. Bach
    (2010), Self-concordant analysis for logistic regression, Electron. J. Statist. 4, 384-414,
    proposition 1. So the halving ends.
    """
    farthest = np.abs(change).max(axis=0)
    length = np.ones(len(farthest))
    left = np.flatnonzero(farthest > 1)
    before = np.zeros(len(farthest))
    before[left] = _log_likelihood(odds[:, left], weights[:, left], y)
    while left.size:
        tried = odds[:, left] + length[left] * change[:, left]
        risen = _log_likelihood(tried, weights[:, left], y) - before[left]
        left = left[~(risen >= _ENOUGH * length[left] * gain[left])]
        length[left] /= 2
        left = left[length[left] * farthest[left] > 1]
    return length, farthest


def _log_likelihood(odds: Floats, weights: Floats, y: Floats) -> Floats:
    each = y[:, None] * odds - np.logaddexp(0, odds)
    found: Floats = np.einsum("ij,ij->j", each, weights)
    return found


def _separating(change: Floats, weights: Floats, y: Floats) -> NDArray[np.bool_]:
    """Say where a change raises the odds of no control and lowers those of no case.

    Along it the likelihood rises without end: that is what separation means.
    """
    towards = np.where(y[:, None] > 0, change, -change) * weights
    found: NDArray[np.bool_] = towards.min(axis=0) >= -_ROUNDING * towards.max(axis=0)
    return found


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
