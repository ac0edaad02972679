"""Numbers of people are matched by names where they have them, and never by chance."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from leptonhpc import genomics
from leptonhpc.errors import (
    DTypeError,
    LinAlgError,
    NonFiniteError,
    OptionError,
    ShapeError,
    StoreError,
)


@pytest.fixture
def cohort(complete: Any) -> Any:
    return genomics.read_bed(complete.bed).select(variants=np.arange(30))


@pytest.fixture
def height(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=61)


def betas(cohort: Any, traits: Any, **options: Any) -> np.ndarray:
    return np.asarray(genomics.gwas(cohort, traits, **options).variant_linreg_beta)[:, 0]


def frame(cohort: Any, height: np.ndarray, *, families: bool) -> pd.DataFrame:
    index = pd.Index(cohort.samples.sample_id)
    if families:
        index = pd.MultiIndex.from_arrays([cohort.samples.family_id, cohort.samples.sample_id])
    return pd.DataFrame({"height": height}, index=index)


@pytest.mark.parametrize("families", [False, True])
def test_rows_of_pandas_are_matched_by_their_index(
    cohort: Any, height: np.ndarray, families: bool
) -> None:
    expected = betas(cohort, height)
    table = frame(cohort, height, families=families).sample(frac=1, random_state=1)
    assert not np.array_equal(table.height, height)
    for given in (table, table["height"], {"height": table["height"]}):
        np.testing.assert_array_equal(betas(cohort, given), expected)
    age = height**2
    known = frame(cohort, age, families=families)
    np.testing.assert_array_equal(
        betas(cohort, table, covariates=known.iloc[::-1]), betas(cohort, height, covariates=age)
    )


def test_an_index_that_counts_rows_says_nothing(cohort: Any, height: np.ndarray) -> None:
    counted = pd.DataFrame({"height": height})
    np.testing.assert_array_equal(betas(cohort, counted), betas(cohort, height))
    with pytest.raises(ShapeError, match="none in common"):
        genomics.gwas(cohort, counted.iloc[::-1])


def test_numbers_of_an_index_are_no_names_where_samples_have_none(
    cohort: Any, height: np.ndarray
) -> None:
    bare = np.asarray(cohort.calls)  # its samples are called 1 to 61
    left = pd.DataFrame({"height": height}).drop(index=[5])
    for rows in (left, left.iloc[1:], left["height"]):
        with pytest.raises(ShapeError, match=r"may be names, or rows from 0.*as text"):
            genomics.gwas(bare, rows, unmatched="drop")
    named = left.set_axis((left.index + 1).astype(str))
    expected = betas(cohort, np.where(np.arange(61) == 5, np.nan, height))
    np.testing.assert_array_equal(betas(bare, named, unmatched="drop"), expected)
    everybody = pd.DataFrame({"height": height[::-1]}, index=np.arange(61, 0, -1))
    np.testing.assert_array_equal(betas(bare, everybody), betas(cohort, height))


def test_what_is_no_number_or_infinite_is_refused(cohort: Any, height: np.ndarray) -> None:
    words = np.where(height > 0, "case", "control")
    for wrong in (words, {"ill": words}, frame(cohort, words, families=False)):
        with pytest.raises(DTypeError, match="phenotypes are columns of numbers"):
            genomics.gwas(cohort, wrong)
    with pytest.raises(ShapeError, match=r"'b' needs a number for each of the 61.*\(60,\)"):
        genomics.gwas(cohort, {"a": height, "b": height[1:]})
    height[7] = -np.inf
    with pytest.raises(NonFiniteError, match="'PHENO1' of sample 'f3 i7' is -inf"):
        genomics.gwas(cohort, height)


def test_people_of_pandas_that_do_not_match_are_named(cohort: Any, height: np.ndarray) -> None:
    table = frame(cohort, height, families=False)
    with pytest.raises(ShapeError, match=r"1 of 61 samples .*'i60'"):
        genomics.gwas(cohort, table.iloc[:60])
    found = genomics.gwas(cohort, table.iloc[:60], unmatched="drop")
    assert int(found.trait_n_samples[0]) == 60
    with pytest.raises(StoreError, match="'i0' twice"):
        genomics.gwas(cohort, pd.concat([table, table.iloc[:1]]))


@pytest.mark.parametrize("others", [lambda y: y, lambda y: 170 + y, lambda y: (y > 0) + 1.0])
def test_minus_nine_is_a_number_in_arrays_and_is_warned_of(
    cohort: Any, height: np.ndarray, others: Any
) -> None:
    trait = others(height)
    trait[3] = -9
    with pytest.warns(UserWarning, match="'height' is -9 for 1 samples"):
        found = genomics.gwas(cohort, {"height": trait})
    assert np.all(np.asarray(found.variant_n_tested) == 61)
    genomics.gwas(cohort, {"score": np.arange(61) % 19 - 9.0})  # one of many
    if np.ptp(np.delete(trait, 3)) == 1:
        with (
            pytest.warns(UserWarning, match="is -9"),
            pytest.raises(LinAlgError, match="Beside 1 and 2 PLINK's -9 is missing"),
        ):
            genomics.gwas(cohort, {"height": trait}, model="logistic")


def test_traits_of_the_same_name_are_refused(cohort: Any, tmp_path: Any) -> None:
    path = tmp_path / "t.txt"
    rows = [f"i{i} {i} {i % 3}" for i in range(61)]
    path.write_text("\n".join(["IID bmi bmi", *rows]))
    with pytest.raises(OptionError, match="'bmi' is there twice"):
        genomics.gwas(cohort, path)


@pytest.mark.parametrize("model", ["linear", "logistic", "mixed"])
@pytest.mark.parametrize("missing", ["drop", "mean"])
def test_a_constant_dosage_with_gaps_has_no_statistics(
    rng: np.random.Generator, model: Any, missing: Any
) -> None:
    dosages = rng.uniform(0, 2, (150, 4))
    dosages[:, 0], dosages[:, 1] = 0.1, 0.7  # their means are not exact
    dosages[:20, :2] = np.nan
    y = rng.normal(size=150)
    y[:20] += 2
    if model == "logistic":
        y = (y > 0.5).astype(float)
    options = {"relationship": np.eye(150) + 0.01} if model == "mixed" else {}
    with pytest.warns(UserWarning, match="2 of 4 variants"):
        found = genomics.gwas(dosages, y, model=model, missing=missing, **options)
    stem = {"linear": "linreg", "logistic": "logreg", "mixed": "lmm"}[model]
    gaps = np.isnan(found[f"variant_{stem}_p_value"][:, 0])
    assert list(gaps) == [True, True, False, False]
