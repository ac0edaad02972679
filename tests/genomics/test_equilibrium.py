"""Hardy-Weinberg p values are exact, linkage is NumPy's correlation, and pruning leaves none."""

from fractions import Fraction
from math import factorial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leptonhpc import genomics
from leptonhpc.errors import OptionError, ShapeError
from leptonhpc.genomics.hwe import exact_p_values


def by_enumeration(het: int, first: int, second: int) -> float:
    """Of the definition, in whole numbers."""
    n, a = het + first + second, 2 * first + het
    ways = {}
    for h in range(a % 2, min(a, 2 * n - a) + 1, 2):
        x, y = (a - h) // 2, n - h - (a - h) // 2
        ways[h] = Fraction(2**h, factorial(h) * factorial(x) * factorial(y))
    likely = [w for w in ways.values() if w <= ways[het]]
    return float(sum(likely) / sum(ways.values()))


def test_p_values_are_exact() -> None:
    n = 13
    counts = [(h, a, n - h - a) for h in range(n + 1) for a in range(n + 1 - h)]
    expected = [by_enumeration(*c) for c in counts]
    found = exact_p_values(*np.array(counts).T)
    np.testing.assert_allclose(found, expected, rtol=n * 1e-14)


def test_p_values_of_large_cohorts_neither_overflow_nor_vanish() -> None:
    found = exact_p_values(*np.array([[50_000, 25_000, 25_000], [0, 300, 300]]).T)
    assert found[0] == pytest.approx(1)
    np.testing.assert_allclose(found[1], by_enumeration(0, 300, 300), rtol=1e-11)
    assert 0 < found[1] < 1e-150


def test_p_values_are_those_of_plink2(gappy: Any, plink2: Any) -> None:
    out = plink2(gappy, "--hardy")
    rows = [line.split() for line in Path(f"{out}.hardy").read_text().splitlines()]
    theirs = [float(row[rows[0].index("P")]) for row in rows[1:]]
    found = genomics.hwe(gappy.bed)
    np.testing.assert_allclose(found.variant_hwe_p_value, theirs, rtol=6e-6)


def test_variants_that_do_not_vary_are_in_equilibrium() -> None:
    calls = np.array([[0, 2, -1], [0, 2, -1]], np.int8)
    np.testing.assert_array_equal(genomics.hwe(calls).variant_hwe_p_value, [1, 1, np.nan])
    with pytest.raises(ShapeError, match="dosages"):
        genomics.hwe(np.ones((2, 2)))


@pytest.mark.parametrize("memory", ["280.3 MB", "1 GB"])
@pytest.mark.parametrize("window", [2, 7, 300])
def test_linkage_is_the_correlation_of_common_samples(gappy: Any, window: int, memory: str) -> None:
    if window == 300 and memory != "1 GB":
        memory = "282 MB"
    cohort = genomics.read_bed(gappy.bed).select(variants=np.arange(60, 140))
    calls = gappy.calls[:, 60:140]
    found = genomics.ld(cohort, window=window, threshold=0.05, memory=memory)
    pairs = list(zip(np.asarray(found.ld_i), np.asarray(found.ld_j), strict=True))
    contig = np.asarray(found.variant_contig)
    expected = {}
    for i in range(80):
        for j in range(i + 1, min(i + window, 80)):
            both = (calls[:, i] >= 0) & (calls[:, j] >= 0)
            r2 = np.corrcoef(calls[both, i], calls[both, j])[0, 1] ** 2
            if r2 >= 0.05 and contig[i] == contig[j]:
                expected[i, j] = r2
    assert set(pairs) == set(expected)
    np.testing.assert_allclose(found.ld_r2, [expected[p] for p in pairs], rtol=1e-11)


def test_pruning_leaves_no_correlated_pair_and_no_room_for_more(gappy: Any) -> None:
    window, threshold = 20, 0.05
    cohort = genomics.read_bed(gappy.bed)
    kept = genomics.ld_prune(cohort, window=window, threshold=threshold)
    chosen = np.isin(cohort.variants.variant_id, kept.variants.variant_id)
    assert 0 < chosen.sum() < 240
    pairs = genomics.ld(cohort, window=window, threshold=threshold)
    i, j = np.asarray(pairs.ld_i), np.asarray(pairs.ld_j)
    maf = genomics.genotype_statistics(cohort).maf
    assert not np.any(chosen[i] & chosen[j])
    for gone in np.flatnonzero(~chosen):  # a kept variant, not rarer, is the reason
        partners = np.concatenate([j[i == gone], i[j == gone]])
        assert np.any(chosen[partners] & (maf[partners] >= maf[gone]))


def test_copies_of_a_variant_are_pruned_to_one(rng: np.random.Generator) -> None:
    calls = np.repeat(rng.integers(0, 3, (200, 10)).astype(np.int8), 5, axis=1)
    kept = genomics.ld_prune(calls, window=8, threshold=0.5)
    assert kept.variants.variant_id.tolist() == [f"v{5 * i + 1}" for i in range(10)]


def test_a_dosage_that_does_not_vary_is_in_no_pair(rng: np.random.Generator) -> None:
    dosages = rng.uniform(0, 2, (60, 8))
    dosages[:, [2, 5, 6]] = 0.1, 0.7, 1 / 3  # their squares do not cancel to the last digit
    dosages[:20, 6] = np.nan
    dosages[20:, 7] = 1.9  # varies, but not where the one before is called
    found = genomics.ld(dosages, threshold=0.0)
    pairs = set(zip(found.ld_i.values.tolist(), found.ld_j.values.tolist(), strict=True))
    varying = [0, 1, 3, 4, 7]
    assert pairs == {(i, j) for i in varying for j in varying if i < j}
    expected = [np.corrcoef(dosages[:, i], dosages[:, j])[0, 1] ** 2 for i, j in sorted(pairs)]
    np.testing.assert_allclose(found.ld_r2[np.lexsort((found.ld_j, found.ld_i))], expected)


def test_windows_that_make_no_sense_are_refused(gappy: Any) -> None:
    for wrong in ({"window": 1}, {"threshold": 1.5}, {"threshold": -0.1}):
        with pytest.raises(OptionError):
            genomics.ld(gappy.bed, **wrong)
