"""The mixed model is generalised least squares with a dense V, at REML's maximum."""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from leptonhpc import genomics
from leptonhpc.errors import LinAlgError, NonFiniteError, OptionError, ShapeError
from leptonhpc.genomics.reml import Rotated, fit_null

RTOL = 1e-8


@pytest.fixture(scope="module")
def trait(gappy: Any) -> np.ndarray:
    """Half of the variance from many small effects."""
    rng = np.random.default_rng(4)
    g = np.where(gappy.calls < 0, 1, gappy.calls).astype(float)
    g = (g - g.mean(0)) / g.std(0)
    signal = g @ rng.normal(size=240)
    return signal / signal.std() + rng.normal(size=61)


def gls(y: np.ndarray, x: np.ndarray, v: np.ndarray) -> tuple[float, float, float]:
    """Generalised least squares by the inverse of V: first coefficient, error, p."""
    inverse = np.linalg.inv(v)
    covariance = np.linalg.inv(x.T @ inverse @ x)
    beta = covariance @ (x.T @ inverse @ y)
    left = y - x @ beta
    freedom = len(y) - x.shape[1]
    se = np.sqrt(covariance[0, 0] * (left @ inverse @ left) / freedom)
    return beta[0], se, 2 * stats.t.sf(abs(beta[0] / se), freedom)


def restricted_likelihood(y: np.ndarray, c: np.ndarray, v: np.ndarray) -> float:
    """Of the textbook, with log|V| + log|C^T V^-1 C| + y^T P y, dense."""
    inverse = np.linalg.inv(v)
    gram = c.T @ inverse @ c
    p = inverse - inverse @ c @ np.linalg.inv(gram) @ c.T @ inverse
    return -0.5 * (np.linalg.slogdet(v)[1] + np.linalg.slogdet(gram)[1] + y @ p @ y)


@pytest.mark.parametrize("loco", [False, True])
def test_effects_are_those_of_dense_algebra(gappy: Any, trait: np.ndarray, loco: bool) -> None:
    cohort = genomics.read_bed(gappy.bed)
    y = trait.copy()
    y[[2, 50]] = np.nan
    age = np.linspace(20, 70, 61)
    found = genomics.gwas(cohort, y, covariates=age, model="mixed", loco=loco, memory="500 MB")
    keep = np.isfinite(y)
    contig = np.asarray(cohort.variants.contig)
    calls = np.where(gappy.calls < 0, np.nan, gappy.calls.astype(float))[keep]
    calls = np.where(np.isnan(calls), np.nanmean(calls, axis=0), calls)
    names = list(np.asarray(found.null_contig))
    assert names == (["1", "2", "3"] if loco else ["all"])
    for number, name in enumerate(names):
        others = cohort.select(variants=contig != name)
        k = np.asarray(genomics.grm(others).stat_genomic_relationship)[np.ix_(keep, keep)]
        genetic, residual = (
            float(found[f"null_{part}_variance"][number, 0]) for part in ("genetic", "residual")
        )
        v = genetic * k + residual * np.eye(len(k))
        for j in np.flatnonzero((contig == name) | (name == "all"))[::7]:
            x = np.column_stack([calls[:, j], np.ones(keep.sum()), age[keep]])
            ours = [float(found[f"variant_lmm_{s}"][j, 0]) for s in ("beta", "se", "p_value")]
            np.testing.assert_allclose(ours, gls(y[keep], x, v), rtol=RTOL)


def test_variance_components_are_where_the_dense_likelihood_is_largest(
    gappy: Any, trait: np.ndarray
) -> None:
    pairs = genomics.grm(gappy.bed)
    k = np.asarray(pairs.stat_genomic_relationship)
    found = genomics.gwas(gappy.bed, trait, model="mixed", relationship=pairs)
    genetic = float(found.null_genetic_variance[0, 0])
    residual = float(found.null_residual_variance[0, 0])
    assert 0.05 < float(found.null_heritability[0, 0]) < 0.95
    c = np.ones((61, 1))

    def likelihood(a: float, b: float) -> float:
        return restricted_likelihood(trait, c, a * k + b * np.eye(61))

    best = likelihood(genetic, residual)
    step = 1e-3
    for a, b in ((step, 0), (-step, 0), (0, step), (0, -step)):
        assert likelihood(genetic * (1 + a), residual * (1 + b)) < best
    # both derivatives vanish: central differences, of error step^2
    h = 1e-5
    by_genetic = (
        likelihood(genetic * (1 + h), residual) - likelihood(genetic * (1 - h), residual)
    ) / (2 * h)
    by_residual = (
        likelihood(genetic, residual * (1 + h)) - likelihood(genetic, residual * (1 - h))
    ) / (2 * h)
    rounding = 61 * np.finfo(float).eps * abs(best) / h
    assert max(abs(by_genetic), abs(by_residual)) < 1e-6 + rounding


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_heritability_is_recovered(share: float, rng: np.random.Generator) -> None:
    n = 600
    values = rng.gamma(0.5, 2, n)
    d = share * values + 1 - share
    estimates = [
        fit_null(Rotated(values, np.sqrt(d) * rng.normal(size=n), np.ones((n, 1)))).heritability
        for _ in range(20)
    ]
    # an estimate has a standard error of about 0.1; the mean of twenty a quarter of that
    assert abs(np.mean(estimates) - share) < 0.1


def test_without_relationship_it_is_least_squares(complete: Any, trait: np.ndarray) -> None:
    mixed = genomics.gwas(complete.bed, trait, model="mixed", relationship=np.eye(61))
    linear = genomics.gwas(complete.bed, trait)
    for name in ("beta", "se", "p_value"):
        ours, theirs = mixed[f"variant_lmm_{name}"], linear[f"variant_linreg_{name}"]
        np.testing.assert_allclose(ours, theirs, rtol=RTOL)


def test_a_variant_that_does_not_vary_has_no_statistics(complete: Any, trait: np.ndarray) -> None:
    calls = complete.calls.copy()
    calls[:, 4] = 2
    pairs = genomics.grm(complete.bed).stat_genomic_relationship
    with pytest.warns(UserWarning, match="1 of 240 variants .* number 4"):
        found = genomics.gwas(calls, trait, model="mixed", relationship=np.asarray(pairs))
    assert np.flatnonzero(np.isnan(found.variant_lmm_beta[:, 0])).tolist() == [4]


def test_relationships_that_do_not_fit_are_refused(complete: Any, trait: np.ndarray) -> None:
    cohort = genomics.read_bed(complete.bed)
    with pytest.raises(ShapeError, match="61 rows"):
        genomics.gwas(cohort, trait, model="mixed", relationship=np.eye(60))
    unknown = np.eye(61)
    unknown[3, 4] = np.nan
    with pytest.raises(NonFiniteError, match="is nan for 'f1 i3' and 'f2 i4'"):
        genomics.gwas(cohort, trait, model="mixed", relationship=unknown)
    with pytest.raises(OptionError, match="loco=True"):
        genomics.gwas(cohort, trait, model="mixed", relationship=np.eye(61), loco=True)
    with pytest.raises(OptionError, match="two contigs"):
        genomics.gwas(complete.calls, trait, model="mixed", loco=True)
    pairs = genomics.grm(cohort).isel(samples=slice(None, None, -1))
    with pytest.raises(ShapeError, match="sample 'f30 i60' as number 0"):
        genomics.gwas(cohort, trait, model="mixed", relationship=pairs)
    with pytest.raises(OptionError, match="needs stat_genomic_relationship.*stat_king_kinship"):
        genomics.gwas(cohort, trait, model="mixed", relationship=genomics.kinship(cohort))
    nameless = genomics.grm(cohort).drop_vars("sample_id")
    with pytest.raises(OptionError, match="needs sample_id"):
        genomics.gwas(cohort, trait, model="mixed", relationship=nameless)


def test_relationships_are_matched_by_family_too(complete: Any, trait: np.ndarray) -> None:
    bed = genomics.read_bed(complete.bed)
    families = np.array([f"f{i}" for i in range(61)])
    people = genomics.Samples(families, np.full(61, "1"))  # the same name in every family
    cohort = genomics.Genotypes(bed.calls, people, bed.variants)
    pairs = genomics.grm(cohort).isel(
        dict.fromkeys(("samples", "samples_0", "samples_1"), slice(None, None, -1))
    )
    with pytest.raises(ShapeError, match="sample 'f60 1' as number 0; .* has 'f0 1'"):
        genomics.gwas(cohort, trait, model="mixed", relationship=pairs)


def test_pairs_need_common_calls_outside_the_contig_only(complete: Any, trait: np.ndarray) -> None:
    cohort = genomics.read_bed(complete.bed)
    first = np.asarray(cohort.variants.contig) == "1"
    calls = complete.calls.copy()
    calls[0, first] = -1
    apart = genomics.Genotypes(
        genomics.open_genotypes(calls).calls, cohort.samples, cohort.variants
    )
    found = genomics.gwas(apart, trait, model="mixed", loco=True)
    assert np.isfinite(found.variant_lmm_beta).all()
    calls[1, ~first] = -1
    apart = genomics.Genotypes(
        genomics.open_genotypes(calls).calls, cohort.samples, cohort.variants
    )
    with pytest.raises(LinAlgError, match="samples 'i0' and 'i1'"):
        genomics.gwas(apart, trait, model="mixed", loco=True)
