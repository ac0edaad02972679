"""PC-Relate is its formula, and what it is for: relatives, not ancestry."""

from typing import Any

import numpy as np
import pytest

from leptonhpc import genomics
from leptonhpc.errors import LinAlgError, NonFiniteError, OptionError, ShapeError

EPS = np.finfo(float).eps


def by_formula(calls: np.ndarray, scores: np.ndarray, least: float) -> np.ndarray:
    """Sum over variants for each pair, one by one."""
    g = calls.astype(float)
    for column, missing in zip(g.T, (calls < 0).T, strict=True):
        column[missing] = column[~missing].mean()
    design = np.column_stack([np.ones(len(g)), scores])
    m = design @ np.linalg.lstsq(design, g, rcond=None)[0] / 2
    counts = (m >= least) & (m <= 1 - least) & (calls >= 0)
    phi = np.full((len(g), len(g)), np.nan)
    for i in range(len(g)):
        for j in range(len(g)):
            both = counts[i] & counts[j]
            a, b = m[i, both], m[j, both]
            top = np.sum((g[i, both] - 2 * a) * (g[j, both] - 2 * b))
            phi[i, j] = top / (4 * np.sum(np.sqrt(a * (1 - a) * b * (1 - b))))
    return phi


@pytest.mark.parametrize("given", ["dataset", "array"])
def test_kinship_is_that_of_the_formula(gappy: Any, given: str) -> None:
    cohort = genomics.read_bed(gappy.bed)
    model = genomics.pca(cohort, components=2, precision="double", method="exact")
    scores = np.asarray(model.sample_pca_projection)
    found = genomics.pc_relate(cohort, model if given == "dataset" else scores, min_frequency=0.05)
    expected = by_formula(gappy.calls, scores, 0.05)
    # means of 240 products, each right to a few units
    np.testing.assert_allclose(found.pc_relate_phi, expected, atol=240 * 16 * EPS)


def test_ancestry_is_no_kinship_and_a_child_is(rng: np.random.Generator) -> None:
    variants, each = 6000, 30
    ancestral = rng.uniform(0.15, 0.85, variants)
    drifted = [np.clip(ancestral + 0.12 * rng.standard_normal(variants), 0.02, 0.98)
               for _ in range(2)]  # fmt: skip
    share = np.repeat([[0.0], [0.5], [1.0]], each, axis=0)  # of the first population
    p = share * drifted[0] + (1 - share) * drifted[1]
    alleles = rng.random((2, 3 * each, variants)) < p
    mother, father = 3, 75  # of unlike ancestry
    child = np.stack([
        np.where(rng.random(variants) < 0.5, *alleles[:, parent]) for parent in (mother, father)
    ])  # fmt: skip
    calls = np.concatenate([alleles.sum(0), child.sum(0)[None], child.sum(0)[None]])
    calls = calls.astype(np.int8)
    cohort = genomics.filter_variants(genomics.open_genotypes(calls), min_maf=0.05)
    unrelated = np.arange(len(calls)) < 3 * each
    model = genomics.pca(genomics.filter_variants(cohort.select(samples=unrelated)), components=1)
    kept = np.isin(cohort.variants.variant_id, np.asarray(model.variant_id).astype(str))
    cohort = cohort.select(variants=kept)
    scores = genomics.project(model, cohort).sample_pca_projection.values
    phi = np.asarray(genomics.pc_relate(cohort, scores).pc_relate_phi)
    # five standard errors of 1 / (2 sqrt(variants)), and what the regression takes off: half of a
    # pair's leverage, which is twice its mean of 2 / people at most
    error = 5 / (2 * np.sqrt(cohort.shape[1])) + 0.5 * 2 * 2 / len(calls)
    strangers = phi[: 3 * each, : 3 * each][np.triu_indices(3 * each, 1)]
    assert np.abs(strangers).max() < error
    np.testing.assert_allclose(phi[[mother, father], 3 * each], 0.25, atol=error)
    np.testing.assert_allclose(phi[-1, -2], 0.5, atol=error)
    robust = np.asarray(genomics.kinship(cohort).stat_king_kinship)
    assert robust[0, 80] < -error  # KING's is biased between populations


def test_what_makes_no_sense_is_refused(complete: Any) -> None:
    cohort = genomics.read_bed(complete.bed)
    model = genomics.pca(cohort, components=2)
    with pytest.raises(OptionError, match="min_frequency"):
        genomics.pc_relate(cohort, model, min_frequency=0.5)
    with pytest.raises(ShapeError, match=r"\(61, k\)"):
        genomics.pc_relate(cohort, np.ones((60, 2)))
    with pytest.raises(ShapeError, match="other samples .* number 0 is 'f0 i0'"):
        genomics.pc_relate(complete.calls, model)
    with pytest.raises(LinAlgError, match="depend on one another"):
        genomics.pc_relate(cohort, np.ones((61, 1)))
    unknown = np.asarray(model.sample_pca_projection).copy()
    unknown[5, 1] = np.nan
    with pytest.raises(NonFiniteError, match="'f2 i5' are not"):
        genomics.pc_relate(cohort, unknown)


def test_missing_calls_do_not_make_twins_siblings() -> None:
    rng = np.random.default_rng(0)
    frequency = rng.uniform(0.2, 0.8, 3000)
    calls = rng.binomial(2, frequency[:, None], (3000, 30)).astype("i1").T.copy()
    calls[1] = calls[0]
    gappy = np.where(rng.random(calls.shape) < 0.3, -1, calls).astype("i1")
    scores = rng.standard_normal((30, 1))
    whole, parts = (genomics.pc_relate(c, scores).pc_relate_phi.values for c in (calls, gappy))
    # half of the variants are left to the pair: two standard errors of a mean of 1500 products
    assert abs(parts[0, 1] - whole[0, 1]) <= 2 * np.sqrt(2 / 1500)
    assert parts[0, 1] > 0.36
