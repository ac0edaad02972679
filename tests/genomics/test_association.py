"""Effects, errors and p values are those of ordinary least squares, Newton's method and plink2."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from leptonhpc import genomics
from leptonhpc.errors import LinAlgError, OptionError, ShapeError, StoreError

RTOL = 1e-8  # what is promised; the condition numbers here are below 1e3


@pytest.fixture(scope="module")
def people(complete: Any) -> dict[str, np.ndarray]:
    """Two traits (the second with gaps), cases and controls, two covariates."""
    rng = np.random.default_rng(2)
    n = len(complete.calls)
    age, weight = rng.normal(50, 8, n), rng.normal(size=n)
    height = 2 * complete.calls[:, 3] + 0.05 * age + rng.normal(size=n)
    speed = rng.normal(size=n)
    speed[[4, 40]] = np.nan
    ill = (rng.random(n) < 0.3 + 0.2 * complete.calls[:, 9]).astype(float)
    return {"age": age, "weight": weight, "height": height, "speed": speed, "ill": ill}


def ols(g: np.ndarray, y: np.ndarray, covariates: np.ndarray) -> tuple[float, float, float]:
    """Least squares by the normal equations' inverse: beta, standard error, p."""
    keep = np.isfinite(g) & np.isfinite(y) & np.isfinite(covariates).all(1)
    x = np.column_stack([g, np.ones(len(g)), covariates])[keep]
    beta, (residual,), _, _ = np.linalg.lstsq(x, y[keep], rcond=None)
    freedom = keep.sum() - x.shape[1]
    se = np.sqrt(residual / freedom * np.linalg.inv(x.T @ x)[0, 0])
    return beta[0], se, 2 * stats.t.sf(abs(beta[0] / se), freedom)


@pytest.mark.parametrize("missing", ["drop", "mean"])
@pytest.mark.parametrize("memory", ["281.5 MB", "1 GB"])
def test_linear_is_ordinary_least_squares(
    gappy: Any, people: Any, missing: Any, memory: str
) -> None:
    covariates = np.column_stack([people["age"], people["weight"]])
    covariates[7, 1] = np.nan
    traits = {name: people[name] for name in ("height", "speed")}
    cohort = genomics.read_bed(gappy.bed)
    found = genomics.gwas(cohort, traits, covariates=covariates, missing=missing, memory=memory)
    calls = np.where(gappy.calls < 0, np.nan, gappy.calls.astype(float))
    for t, y in enumerate(traits.values()):
        use = np.isfinite(y) & np.isfinite(covariates[:, 1])
        g = np.where(use[:, None], calls, np.nan)
        if missing == "mean":
            g = np.where(np.isnan(calls), np.nanmean(g, axis=0), calls)
        expected = np.array([ols(column, y, covariates) for column in g.T])
        for name, column in zip(("beta", "se", "p_value"), expected.T, strict=True):
            ours = np.asarray(found[f"variant_linreg_{name}"])[:, t]
            np.testing.assert_allclose(ours, column, rtol=RTOL)
        tested = use.sum() if missing == "mean" else np.isfinite(calls[use]).sum(0)
        np.testing.assert_array_equal(found.variant_n_tested[:, t], tested)


def test_dosages_are_regressed_on(people: Any, rng: np.random.Generator) -> None:
    dosages = rng.uniform(0, 2, (61, 12))
    dosages[rng.random(dosages.shape) < 0.1] = np.nan
    found = genomics.gwas(dosages, people["height"], covariates=people["age"])
    expected = [ols(g, people["height"], people["age"][:, None]) for g in dosages.T]
    ours = [found[f"variant_linreg_{name}"][:, 0] for name in ("beta", "se", "p_value")]
    np.testing.assert_allclose(np.stack(ours, axis=1), expected, rtol=RTOL)


def test_linear_and_logistic_are_those_of_statsmodels(gappy: Any, people: Any) -> None:
    sm = pytest.importorskip("statsmodels.api", reason="statsmodels is not installed")
    cohort = genomics.read_bed(gappy.bed).select(variants=np.arange(40))
    covariates = {"age": people["age"]}
    linear = genomics.gwas(cohort, people["height"], covariates=covariates)
    logistic = genomics.gwas(cohort, people["ill"], covariates=covariates, model="logistic")
    for j in range(40):
        keep = gappy.calls[:, j] >= 0
        columns = [gappy.calls[keep, j], np.ones(keep.sum()), people["age"][keep]]
        x = np.column_stack(columns).astype(float)
        a = sm.OLS(people["height"][keep], x).fit()
        b = sm.Logit(people["ill"][keep], x).fit(disp=0, tol=1e-14, maxiter=100)
        for result, stem, fit in ((linear, "linreg", a), (logistic, "logreg", b)):
            ours = [
                float(result[f"variant_{stem}_{name}"][j, 0])
                for name in ("beta", "se", "t_value", "p_value")
            ]
            theirs = [fit.params[0], fit.bse[0], fit.tvalues[0], fit.pvalues[0]]
            np.testing.assert_allclose(ours, theirs, rtol=RTOL)


@pytest.mark.parametrize("missing", ["drop", "mean"])
def test_logistic_is_where_the_score_vanishes(gappy: Any, people: Any, missing: Any) -> None:
    y, c = people["ill"], np.column_stack([np.ones(61), people["age"], people["weight"]])
    found = genomics.gwas(
        genomics.read_bed(gappy.bed), y, covariates=c[:, 1:], model="logistic", missing=missing
    )
    beta = np.asarray(found.variant_logreg_beta)[:, 0]
    se = np.asarray(found.variant_logreg_se)[:, 0]
    assert np.isfinite(beta).all()
    for j, g in enumerate(gappy.calls.T.astype(float)):
        keep = (g >= 0) | (missing == "mean")
        g = np.where(g < 0, g[g >= 0].mean(), g)
        x = np.column_stack([g, c])[keep]
        at = np.zeros(4)
        for _ in range(60):
            mu = 1 / (1 + np.exp(-x @ at))
            information = x.T @ (x * (mu * (1 - mu))[:, None])
            at += np.linalg.solve(information, x.T @ (y[keep] - mu))
        np.testing.assert_allclose(beta[j], at[0], rtol=RTOL)
        np.testing.assert_allclose(se[j], np.sqrt(np.linalg.inv(information)[0, 0]), rtol=RTOL)


@pytest.mark.parametrize(
    ("model", "table"), [("linear", "height"), ("linear", "speed"), ("logistic", "ill")]
)
def test_results_are_those_of_plink2(
    model: Any, table: str, people: Any, request: pytest.FixtureRequest, plink2: Any,
    tmp_path: Path,
) -> None:  # fmt: skip
    # where calls are missing, plink2 2.00a3.5 prints right odds ratios with standard errors that
    # are up to 5 % too small; there the oracle is statsmodels
    cohort = request.getfixturevalue("gappy" if model == "linear" else "complete")
    weight = people["weight"].copy()
    weight[7] = np.nan  # of the phenotypes the second has gaps
    pheno, covar = tmp_path / "pheno.txt", tmp_path / "covar.txt"
    shift = 1 if model == "logistic" else 0  # PLINK's controls are 1, its cases 2
    _write(pheno, {table: people[table] + shift})
    _write(covar, {"age": people["age"], "weight": weight})
    options = ["no-firth"] if model == "logistic" else []
    out = plink2(
        cohort, "--glm", "hide-covar", "cols=+a1freq,+orbeta", *options, "--pheno", str(pheno),
        "--covar", str(covar), "--covar-variance-standardize",
    )  # fmt: skip
    found = genomics.gwas(cohort.bed, pheno, covariates=covar, model=model)
    (written,) = genomics.write_gwas(found, tmp_path / "ours")
    assert written.name == f"ours.{table}.glm.{model}"
    ours = [line.split("\t") for line in written.read_text().splitlines()]
    ending = {"linear": "glm.linear", "logistic": "glm.logistic"}[model]
    theirs = [line.split() for line in Path(f"{out}.{table}.{ending}").read_text().splitlines()]
    assert [row[:3] for row in ours] == [row[:3] for row in theirs]
    compared = 0
    for name in ("OBS_CT", "BETA", "OR", "SE", "LOG(OR)_SE", "T_STAT", "Z_STAT", "P", "A1_FREQ"):
        if name not in theirs[0]:
            continue
        ours_name = {"LOG(OR)_SE": "SE", "OR": "BETA"}.get(name, name)
        a = np.array([row[ours[0].index(ours_name)] for row in ours[1:]], float)
        b = np.array([row[theirs[0].index(name)] for row in theirs[1:]], float)
        # plink2 counts the alternate allele unless it is the more common one
        flip = np.array([row[theirs[0].index("A1")] != row[4] for row in theirs[1:]])
        if name == "OR":
            a = np.exp(a)
        a = np.where(flip, {"A1_FREQ": 1 - a, "OR": 1 / a}.get(name, -a), a) if name in (
            "BETA", "OR", "T_STAT", "Z_STAT", "A1_FREQ"
        ) else a  # fmt: skip
        # six digits are printed; plink2's logistic fits are made in single precision, and their
        # standard errors are those before the last step
        rtol = 6e-6 if model == "linear" else 1e-4
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-6, err_msg=name)
        compared += 1
    assert compared == 6


def test_the_planted_variant_is_found(complete: Any, people: Any) -> None:
    found = genomics.gwas(complete.bed, people["height"], covariates=people["age"])
    p = np.asarray(found.variant_linreg_p_value)[:, 0]
    assert np.argmin(p) == 3
    assert p[3] < 0.05 / 240


def test_variants_that_say_nothing_have_no_statistics(complete: Any, people: Any) -> None:
    calls = complete.calls.copy()
    calls[:, 5] = 1
    calls[:, 8] = people["ill"].astype(np.int8)  # separates
    calls[:, 11] = -1
    for model, trait, silent in (
        ("linear", "height", [5, 11]), ("logistic", "ill", [5, 8, 11]), ("linear", "x", [5, 11]),
    ):  # fmt: skip
        y = people.get(trait, people["weight"])
        with pytest.warns(UserWarning, match=rf"{len(silent)} of 240 variants .* 'v6', number 5"):
            found = genomics.gwas(calls, {trait: y}, model=model, firth="never")
        stem = {"linear": "linreg", "logistic": "logreg"}[model]
        p = np.asarray(found[f"variant_{stem}_p_value"])[:, 0]
        assert np.flatnonzero(np.isnan(p)).tolist() == silent


def test_a_variant_that_is_a_covariate_has_no_statistics(complete: Any, people: Any) -> None:
    with pytest.warns(UserWarning, match="number 17"):
        found = genomics.gwas(complete.bed, people["height"], covariates=complete.calls[:, 17])
    assert np.isnan(found.variant_linreg_beta[17, 0])


@pytest.mark.parametrize("model", ["linear", "logistic", "mixed"])
def test_a_trait_that_is_among_its_covariates_is_refused(
    complete: Any, people: Any, model: Any
) -> None:
    y = people["ill"] if model == "logistic" else people["height"] + 1e6
    known = np.column_stack([people["weight"], 3 * y + 7 + people["weight"]])
    options = {"relationship": np.eye(61)} if model == "mixed" else {}
    with pytest.raises(LinAlgError, match="trait 'PHENO1' follows from its covariates"):
        genomics.gwas(complete.bed, y, covariates=known, model=model, **options)
    # what is far from zero and hardly varies is a trait still
    found = genomics.gwas(complete.bed, 1e9 + people["height"], covariates=people["age"])
    expected = genomics.gwas(complete.bed, people["height"], covariates=people["age"])
    ours, theirs = (np.asarray(f.variant_linreg_p_value) for f in (found, expected))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)  # of the trait 1e-7 is left


def test_cases_as_two_and_controls_as_one_are_those_of_one_and_zero(
    gappy: Any, people: Any
) -> None:
    found = [genomics.gwas(gappy.bed, people["ill"] + i, model="logistic") for i in (0, 1)]
    for name in ("beta", "se", "p_value"):
        a, b = (np.asarray(f[f"variant_logreg_{name}"]) for f in found)
        np.testing.assert_array_equal(a, b)


def test_samples_that_do_not_match_are_named(gappy: Any, people: Any, tmp_path: Path) -> None:
    path = tmp_path / "pheno.txt"
    _write(path, {"height": people["height"]})
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:-2], "f9 nobody 1.5"]))
    cohort = genomics.read_bed(gappy.bed)
    with pytest.raises(ShapeError, match=r"2 of 61 samples .*'f29 i59'.*1 of 60.*'f9 nobody'"):
        genomics.gwas(cohort, path)
    found = genomics.gwas(cohort, path, unmatched="drop")
    assert int(found.trait_n_samples[0]) == 59
    path.write_text("FID IID height\na b 1\n")
    with pytest.raises(ShapeError, match="none in common"):
        genomics.gwas(cohort, path, unmatched="drop")
    with pytest.raises(ShapeError, match="61 samples"):
        genomics.gwas(cohort, np.ones(60))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FID IID h\nf0 i0 1\nf0 i0 2\n", "'f0 i0' twice"),
        ("FID IID h\nf0 i0\n", "line 2 has 2"),
        ("FID IID h\nf0 i0 tall\n", "'tall', no number, in line 2"),
        ("", "is empty"),
        ("FID,IID,h\nf0,i0,1\n", "has ',' between its columns"),
        ("FID, IID, h\nf0, i0, 1\n", "has ',' between its columns"),
        ("FID;IID;h\nf0;i0;1\n", "has ';' between its columns"),
        ("FID IID\nf0 i0\n", "at least one column of numbers"),
        ("sample h\ni0 1\n", "begins with FID or IID"),
        ("IID h\ni0 inf\n", "'inf', which is infinite, in line 2"),
        ("IID h\ni0 1_000\n", "'1_000', no number, in line 2"),
    ],
)
def test_tables_that_cannot_be_read_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "table.txt"
    path.write_text(text)
    with pytest.raises(StoreError, match=message):
        genomics.read_table(path)
    path.write_bytes(b"FID IID gr\xf6sse\nf0 i0 1\n")
    with pytest.raises(StoreError, match="no text in UTF-8"):
        genomics.read_table(path)


def test_tables_are_read_with_and_without_a_header(tmp_path: Path) -> None:
    path = tmp_path / "table.txt"
    for text, columns in (
        ("#FID IID h w\na b 1 NA\nc d -9 2\n", ("h", "w")),
        ("a b 1 nan\nc d -9 2\n", ("PHENO1", "PHENO2")),
        ("#IID h w\nb 1 NA\nd -9 2\n", ("h", "w")),
    ):
        path.write_text(text)
        table = genomics.read_table(path)
        assert table.columns == columns
        path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").replace(" ", "\t").encode())
        assert genomics.read_table(path).columns == columns  # as a spreadsheet writes it
        np.testing.assert_array_equal(table.values, [[1, np.nan], [np.nan, 2]])


def test_questions_that_make_no_sense_are_refused(complete: Any, people: Any) -> None:
    cohort, y = genomics.read_bed(complete.bed), people["height"]
    for wrong in (
        {"model": "magic"}, {"missing": "ignore"}, {"loco": True}, {"relationship": np.eye(61)},
        {"unmatched": "ask"},
    ):  # fmt: skip
        with pytest.raises(OptionError):
            genomics.gwas(cohort, y, **wrong)
    with pytest.raises(LinAlgError, match="'COVAR2' follows"):
        genomics.gwas(cohort, y, covariates=np.column_stack([y, 2 * y + 1]))
    with pytest.raises(LinAlgError, match="is 1 in all 61 samples"):
        genomics.gwas(cohort, np.ones(61))
    with pytest.raises(LinAlgError, match="trait of 0 and 1"):
        genomics.gwas(cohort, y, model="logistic")
    with pytest.raises(LinAlgError, match="covariates separate"):
        genomics.gwas(cohort, people["ill"], covariates=people["ill"] + y / 100, model="logistic")
    with pytest.raises(OptionError, match="open 'k.zarr' first"):
        genomics.gwas(cohort, y, model="mixed", relationship="k.zarr")
    with pytest.raises(LinAlgError, match="0 is missing: write NA"):
        genomics.gwas(cohort, np.arange(61) % 3, model="logistic")
    few = np.where(np.arange(61) < 2, y, np.nan)
    with pytest.raises(ShapeError, match="needs 3 samples"):
        genomics.gwas(cohort, few)
    with pytest.raises(ShapeError, match="three samples"):
        genomics.gwas(cohort.select(samples=[0, 1]), y[:2])


def _write(path: Path, columns: dict[str, np.ndarray]) -> None:
    values = np.column_stack(list(columns.values()))
    rows = [
        f"f{i // 2} i{i} " + " ".join("NA" if np.isnan(v) else repr(float(v)) for v in row)
        for i, row in enumerate(values)
    ]
    path.write_text("\n".join([f"FID IID {' '.join(columns)}", *rows]) + "\n")
