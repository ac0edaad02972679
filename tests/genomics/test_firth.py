"""Firth's estimates: exact for a table of four cells, at the maximum elsewhere, those of plink2."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize

from leptonhpc import genomics
from leptonhpc.genomics.firth import firth_fit

from .conftest import write_plink

EPS = np.finfo(float).eps


@pytest.mark.parametrize("cells", [(10, 0, 5, 7), (0, 9, 8, 0), (3, 4, 5, 6), (1, 30, 0, 4)])
def test_of_a_table_half_is_added_to_each_cell(cells: tuple[int, int, int, int]) -> None:
    """Jeffreys' prior of a saturated model: D. Firth (1993), section 3.3."""
    x = np.repeat([0.0, 0, 1, 1], cells)
    y = np.repeat([0.0, 1, 0, 1], cells)
    found = firth_fit(np.column_stack([np.ones(len(x)), x]), y, np.zeros(2))
    assert found is not None
    a, b, c, d = np.array(cells) + 0.5
    expected = np.log(b / a), np.log(d / c) - np.log(b / a)
    np.testing.assert_allclose(found[0], expected, atol=1e-8)  # the last step is below 1e-9
    weights = [(n + m) * p * (1 - p) for n, m, p in
               ((cells[0], cells[1], b / (a + b)), (cells[2], cells[3], d / (c + d)))]  # fmt: skip
    np.testing.assert_allclose(found[1][1], np.sqrt(np.sum(1 / np.array(weights))), rtol=1e-7)


def test_estimates_are_at_the_maximum_of_the_penalised_likelihood() -> None:
    rng = np.random.default_rng(4)
    x = np.column_stack([np.ones(60), rng.normal(size=(60, 2)), rng.random(60) < 0.1])
    y = ((x[:, 3] > 0) | (rng.random(60) < 0.3)).astype(float)  # carriers are cases

    def negative(at: np.ndarray) -> float:
        odds = x @ at
        mu = 1 / (1 + np.exp(-odds))
        information = x.T @ ((mu * (1 - mu))[:, None] * x)
        likelihood = y @ odds - np.logaddexp(0, odds).sum()
        return -float(likelihood + np.linalg.slogdet(information)[1] / 2)

    found = firth_fit(x, y, np.zeros(4))
    assert found is not None
    best = minimize(negative, np.zeros(4), method="BFGS", options={"gtol": 1e-9})
    np.testing.assert_allclose(found[0], best.x, atol=1e-5)  # differences are half of 1e-16's root
    assert negative(found[0]) <= best.fun + 100 * EPS * abs(best.fun)


def test_columns_that_depend_have_no_estimate() -> None:
    x = np.ones((20, 2))
    assert firth_fit(x, np.arange(20) % 2 * 1.0, np.zeros(2)) is None


def separated(calls: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Make calls and a trait such that the carriers of variants 3 and 7 are cases."""
    calls = calls.copy()
    ill = (np.random.default_rng(0).random(61) < 0.4).astype(float)
    carriers = np.flatnonzero(ill)[:4]
    for variant in (3, 7):
        calls[:, variant] = 0
        calls[carriers[: 3 + variant % 2], variant] = 1
    return calls, ill


def test_fallback_and_always_and_never(gappy: Any) -> None:
    calls, ill = separated(gappy.calls)
    fits = {
        how: genomics.gwas(calls, ill, model="logistic", firth=how)
        for how in ("fallback", "always")
    }
    with pytest.warns(UserWarning, match="2 of 240 variants"):
        fits["never"] = genomics.gwas(calls, ill, model="logistic", firth="never")
    beta = {how: np.asarray(fit.variant_logreg_beta)[:, 0] for how, fit in fits.items()}
    needed = np.isnan(beta["never"])
    np.testing.assert_array_equal(np.flatnonzero(needed), [3, 7])
    np.testing.assert_array_equal(fits["fallback"].variant_logreg_firth[:, 0], needed)
    assert fits["always"].variant_logreg_firth.all()
    np.testing.assert_array_equal(beta["fallback"][~needed], beta["never"][~needed])
    np.testing.assert_array_equal(beta["fallback"][needed], beta["always"][needed])
    # the penalty takes out a bias that is away from zero
    assert np.mean(np.abs(beta["always"][~needed]) < np.abs(beta["never"][~needed])) > 0.9


@pytest.mark.parametrize("how", ["fallback", "always"])
def test_is_that_of_plink2(complete: Any, plink2: Any, tmp_path: Path, how: Any) -> None:
    calls, ill = separated(complete.calls)
    cohort = dataclasses.replace(complete, prefix=tmp_path / "c", calls=calls)
    write_plink(cohort.prefix, calls)
    rows = (f"f{i // 2} i{i} {int(v) + 1}" for i, v in enumerate(ill))
    (tmp_path / "ill.txt").write_text("\n".join(["FID IID ill", *rows]) + "\n")
    modifier, ending = {
        "fallback": ("firth-fallback", "logistic.hybrid"), "always": ("firth", "firth"),
    }[how]  # fmt: skip
    out = plink2(cohort, "--pheno", str(tmp_path / "ill.txt"), "--glm", modifier, "allow-no-covars")
    lines = [line.split() for line in Path(f"{out}.ill.glm.{ending}").read_text().splitlines()]
    theirs = [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]
    found = genomics.gwas(
        genomics.read_bed(cohort.bed), tmp_path / "ill.txt", model="logistic", firth=how
    )
    (written,) = genomics.write_gwas(found, tmp_path / "ours")
    ours = [line.split() for line in written.read_text().splitlines()]
    assert len(ours) == len(lines)
    penalised = 0
    for row, values in zip(theirs, ours[1:], strict=True):
        mine = dict(zip(ours[0], values, strict=True))
        assert row["ID"] == mine["ID"]
        assert row.get("FIRTH?", "Y") == mine["FIRTH?"]
        sign = 1 if row["A1"] == mine["A1"] else -1
        # plink2 ends when a step is below 1e-4; the penalised steps converge linearly
        beta, se = sign * np.log(float(row["OR"])), float(row["LOG(OR)_SE"])
        np.testing.assert_allclose(float(mine["BETA"]), beta, atol=1e-3 * se)
        np.testing.assert_allclose(float(mine["SE"]), se, rtol=3e-4)
        penalised += mine["FIRTH?"] == "Y"
    assert penalised == {"fallback": 2, "always": 240}[how]
