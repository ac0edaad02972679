"""Every trait that has an estimate gets it; separated ones, and only they, are called so."""

from typing import Any

import numpy as np
import pytest
from scipy.optimize import linprog

from leptonhpc import genomics
from leptonhpc.errors import LinAlgError, NotConvergedWarning
from leptonhpc.genomics.designs import Design
from leptonhpc.genomics.logistic import LogisticBlock


def rare(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Few cases, most of them carriers: plain Newton goes too far from the null fit."""
    rng = np.random.default_rng(seed)
    x = rng.binomial(2, 0.08, (250, 1)).astype(np.int8)
    c = rng.normal(size=(250, 1))
    odds = -4 + 2.5 * x[:, 0] + c[:, 0]
    return x, c, (rng.random(250) < 1 / (1 + np.exp(-odds))).astype(float)


def separable(design: np.ndarray, y: np.ndarray) -> bool:
    """Whether some direction raises the odds of no control and lowers those of no case."""
    towards = np.where(y > 0, 1, -1)[:, None] * design
    found = linprog(
        -towards.sum(axis=0), A_ub=-towards, b_ub=np.zeros(len(y)),
        bounds=[(-1, 1)] * design.shape[1],
    )  # fmt: skip
    return bool(-found.fun > 1e-8)


def fitted(x: np.ndarray, c: np.ndarray, y: np.ndarray, *, impute: bool = True) -> Any:
    design = Design("ill", np.arange(len(y)), y, np.column_stack([np.ones(len(y)), c]))
    return LogisticBlock([design], impute=impute)(x, 0)[0]


def test_finite_estimates_are_found_and_only_separated_ones_are_not() -> None:
    estimated = 0
    for seed in range(60):
        x, c, y = rare(seed)
        design = np.column_stack([np.ones(250), c, x])
        if y.sum() < 4 or separable(design[:, :2], y):
            continue
        fit = fitted(x, c, y)
        assert fit.converged.all()
        if separable(design, y):
            assert np.isnan(fit.beta[0])
            continue
        estimated += 1
        # the score vanishes in the variant when the covariates are fitted beside it
        at = _covariates_given(design, y, fit.beta[0])
        mu = 1 / (1 + np.exp(-design @ at))
        information = design.T @ (design * (mu * (1 - mu))[:, None])
        error = np.linalg.solve(information, design.T @ (y - mu))[2]
        assert abs(error) < 1e-7 * fit.se[0]
        np.testing.assert_allclose(fit.se[0] ** 2, np.linalg.inv(information)[2, 2], rtol=1e-6)
    assert estimated > 40


def test_plain_newton_would_have_failed_there() -> None:
    x, c, y = rare(16)
    design = np.column_stack([np.ones(250), c, x])
    assert not separable(design, y)
    assert np.isfinite(fitted(x, c, y).beta[0])


def test_quasi_separation_has_no_estimate() -> None:
    x, c, y = rare(3)
    x[:, 0] = np.where(y > 0, x[:, 0], 0)  # carriers are cases, other cases are not carriers
    assert x.any()
    fit = fitted(x, c, y)
    assert np.isnan(fit.beta[0])
    assert fit.converged[0]


def test_what_was_given_up_is_not_called_separation(monkeypatch: pytest.MonkeyPatch) -> None:
    from leptonhpc.genomics import logistic

    x, c, y = rare(16)
    plain = logistic._newton
    monkeypatch.setattr(logistic, "_newton", lambda *given: _in_two_steps(plain, *given))
    with pytest.warns(NotConvergedWarning, match="1 of 1 variants .* did not converge for trait"):
        found = genomics.gwas(x, y, covariates=c, model="logistic", firth="never")
    assert np.isnan(found.variant_logreg_beta[0, 0])


def test_covariates_of_a_large_effect_do_not_count_as_separation() -> None:
    rng = np.random.default_rng(2)
    c = 30 * rng.normal(size=(200, 1))
    y = (rng.random(200) < 1 / (1 + np.exp(3 - 0.3 * c[:, 0]))).astype(float)
    x = rng.binomial(2, 0.3, (200, 2)).astype(np.int8)
    assert not separable(np.column_stack([np.ones(200), c / 100]), y)
    assert np.isfinite(fitted(x, c, y).beta).all()
    with pytest.raises(LinAlgError, match="covariates separate"):
        fitted(x, np.where(y > 0, 1.0 + c[:, 0] ** 2, -1.0)[:, None], y)


def _covariates_given(design: np.ndarray, y: np.ndarray, slope: float) -> np.ndarray:
    """Fit the covariates with the variant's slope held, by halved Newton steps."""
    at = np.array([0.0, 0.0, slope])

    def likelihood(at: np.ndarray) -> float:
        odds = design @ at
        return float(y @ odds - np.logaddexp(0, odds).sum())

    for _ in range(200):
        mu = 1 / (1 + np.exp(-design @ at))
        known = design[:, :2]
        information = known.T @ (known * (mu * (1 - mu))[:, None])
        step = np.append(np.linalg.solve(information, known.T @ (y - mu)), 0.0)
        while np.abs(step).max() > 1e-9 and likelihood(at + step) < likelihood(at):
            step /= 2
        at = at + step
    return at


def _in_two_steps(plain: Any, *given: Any) -> Any:
    from leptonhpc.genomics import logistic

    most, logistic._MOST_STEPS = logistic._MOST_STEPS, 2
    try:
        return plain(*given)
    finally:
        logistic._MOST_STEPS = most
