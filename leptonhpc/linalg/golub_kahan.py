"""The recurrences of LSMR for one right-hand side, given the Golub-Kahan coefficients.

K V_k = U_{k+1} B_k with B_k lower bidiagonal (alpha_1 .. alpha_k, below them beta_2 .. beta_{k+1}).
LSMR gives the x in the span of V_k that makes |K^H (b - K x)| smallest, by two Givens rotations a
step, and updates estimates of |b - K x| and of |K^H (b - K x)| from scalars [1]_.

References
----------
.. [1] D. C.-L. Fong, M. A. Saunders, LSMR: an iterative algorithm for sparse least-squares
   problems, SIAM J. Sci. Comput. 33, 2011: Algorithm LSMR in section 2.8, section 3.1 for |r|.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.linalg.krylov_vectors import norm_of

_SETTLED = 1e-10
"""Relative gradient from which on x cannot change much, unless A is singular."""


@dataclass
class Recurrence:
    """LSMR after some steps."""

    beta: float
    """|b|."""
    alpha: float
    """|K^H u_1|."""
    v: NDArray[Any]
    """The last vector of the short recurrence, of norm one (or zero at the end)."""
    x: NDArray[Any] = field(init=False)
    residual: float = field(init=False)
    """|b - K x|, as the recurrence has it."""
    gradient: float = field(init=False)
    """|K^H (b - K x)|, the same."""
    norm: float = field(init=False)
    """A lower bound of |K|."""
    alphas: list[float] = field(init=False)
    betas: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begin at x = 0."""
        self.x, self._bar, self._h = np.zeros_like(self.v), np.zeros_like(self.v), self.v
        self.residual, self.gradient, self.norm = self.beta, self.alpha * self.beta, self.alpha
        self.alphas = [self.alpha]
        self._span = (math.inf, 0.0)
        self._noisy = False
        self._alpha_bar, self._zeta_bar = self.alpha, self.alpha * self.beta
        self._rho = self._rho_bar = self._c_bar = 1.0
        self._s_bar = self._zeta = 0.0
        # for |r|
        self._beta_dd, self._beta_d, self._rho_d = self.beta, 0.0, 1.0
        self._tau, self._theta_tilde = 0.0, 0.0

    @property
    def ended(self) -> bool:
        """Whether the Krylov space is invariant: x is the solution."""
        spent = self.alphas[-1] == 0 or (bool(self.betas) and self.betas[-1] == 0)
        return spent or self._noisy

    @property
    def spread(self) -> float:
        """Estimate the condition number of B_k from the last triangle, [1]_ section 3.4."""
        low, high = self._span
        return high / low if 0 < low <= high else 1.0

    def step(self, beta: float, alpha: float, v: NDArray[Any]) -> None:
        """Take beta_{k+1}, alpha_{k+1} and v_{k+1}; x becomes the next iterate.

        Where the gradient was next to nothing and x doubles all the same, the space was used up and
        the step is rounding: x stays, and the recurrences have ended.
        """
        before = self.x, self.residual, self.gradient
        settled = self.gradient <= _SETTLED * self.norm * self.residual
        c, s, rho = _rotation(self._alpha_bar, beta)
        rho_old, self._rho = self._rho, rho
        theta, self._alpha_bar = s * alpha, c * alpha
        rho_bar_old, zeta_old = self._rho_bar, self._zeta
        theta_bar = self._s_bar * rho
        self._c_bar, self._s_bar, self._rho_bar = _rotation(self._c_bar * rho, theta)
        self._span = (min(self._span[0], self._rho_bar), max(self._span[1], self._rho_bar))
        self._zeta = self._c_bar * self._zeta_bar
        self._zeta_bar = -self._s_bar * self._zeta_bar
        self._bar = self._h - (theta_bar * rho / (rho_old * rho_bar_old)) * self._bar
        self.x = self.x + (self._zeta / (rho * self._rho_bar)) * self._bar
        self._h = v - (theta / rho) * self._h
        self._note(c, s, theta_bar, zeta_old)
        self.norm = max(self.norm, math.hypot(self.alphas[-1], beta))
        self.gradient = abs(self._zeta_bar)
        self.v = v
        if settled and before[0].any() and norm_of(self.x) > 2 * norm_of(before[0]):
            self.x, self.residual, self.gradient = before
            self._noisy = True
            return
        self.betas.append(beta)
        self.alphas.append(alpha)

    def _note(self, c: float, s: float, theta_bar: float, zeta_old: float) -> None:
        """Update |r|: a third rotation makes R_bar^T upper bidiagonal."""
        beta_hat, self._beta_dd = c * self._beta_dd, -s * self._beta_dd
        theta_old = self._theta_tilde
        c_tilde, s_tilde, rho_tilde = _rotation(self._rho_d, theta_bar)
        self._theta_tilde = s_tilde * self._rho_bar
        self._rho_d = c_tilde * self._rho_bar
        self._beta_d = -s_tilde * self._beta_d + c_tilde * beta_hat
        self._tau = (zeta_old - theta_old * self._tau) / rho_tilde
        tau_d = (self._zeta - self._theta_tilde * self._tau) / self._rho_d
        self.residual = math.hypot(self._beta_d - tau_d, self._beta_dd)

    def extremes(self) -> tuple[float, float]:
        """Give the least and the largest singular value of B_k, which those of K enclose."""
        k = len(self.betas)
        if not k:
            return math.nan, math.nan
        b = np.zeros((k + 1, k))
        b[np.arange(k), np.arange(k)] = self.alphas[:k]
        b[np.arange(1, k + 1), np.arange(k)] = self.betas
        values = np.linalg.svd(b, compute_uv=False)
        return float(values[-1]), float(values[0])


def _rotation(a: float, b: float) -> tuple[float, float, float]:
    """Give c, s, r with [c s; -s c] [a; b] = [r; 0]."""
    r = math.hypot(a, b)
    return (a / r, b / r, r) if r else (1.0, 0.0, 0.0)
