"""Principal components: exact and truncated agree with NumPy and plink2, whatever the chunks."""

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import xarray as xr

from leptonhpc import genomics
from leptonhpc.datasets.simulated_genotypes import draw_genotypes
from leptonhpc.errors import LinAlgError, OptionError, OutputExistsError, ShapeError

EPS = np.finfo(float).eps


def standardised(calls: np.ndarray) -> np.ndarray:
    p = np.where(calls < 0, 0, calls).sum(0) / (2 * (calls >= 0).sum(0))
    return np.where(calls < 0, 0, (calls - 2 * p) / np.sqrt(2 * p * (1 - p)))


@pytest.mark.parametrize(
    ("method", "precision"),
    [("exact", "double"), ("exact", "single"), ("truncated", "double")],
)
@pytest.mark.parametrize(("chunks", "encoding"), [((300, 900), "byte"), ((70, 130), "two-bit")])
def test_components_are_those_of_numpy(
    large: np.ndarray, tmp_path: Path, method: Any, precision: Any, chunks: Any, encoding: Any
) -> None:
    stored = genomics.store_genotypes(
        genomics.open_genotypes(large), tmp_path / "g", chunks=chunks, encoding=encoding
    )
    accuracy = 1e-9
    found = genomics.pca(
        stored, components=2, method=method, precision=precision, accuracy=accuracy,
        most_passes=100, memory="500 MB",
    )  # fmt: skip
    x = standardised(large)
    u, s, vh = np.linalg.svd(x, full_matrices=False)
    # a vector turns by its residual over the gap to the next singular value
    eps = EPS if precision == "double" else np.finfo(np.float32).eps
    residual = s[0] * (accuracy if method == "truncated" else 30 * eps)  # sqrt(900) terms
    tolerance = 2 * residual / np.min(-np.diff(s[:3]))
    accuracy = max(accuracy, 30 * eps)
    scores = np.asarray(found.sample_pca_projection)
    signs = np.sign(np.sum(scores * u[:, :2], axis=0))
    np.testing.assert_allclose(scores, u[:, :2] * s[:2] * signs, atol=tolerance * s[0])
    axes = np.asarray(found.sample_pca_component) * signs
    np.testing.assert_allclose(axes, vh[:2].T, atol=tolerance)
    ratio = np.asarray(found.sample_pca_explained_variance_ratio)
    np.testing.assert_allclose(ratio, s[:2] ** 2 / np.sum(s**2), rtol=2 * accuracy)
    variance = np.asarray(found.sample_pca_explained_variance)
    np.testing.assert_allclose(variance, scores.var(axis=0, ddof=1), rtol=2 * accuracy)


def test_populations_separate(large: np.ndarray) -> None:
    found = genomics.pca(large, components=2)
    scores = np.asarray(found.sample_pca_projection)
    np.testing.assert_array_equal(nearest_centre(scores, scores, np.arange(300) % 3), WHO)


@pytest.fixture(scope="module")
def large() -> np.ndarray:
    """Three populations, enough variants to tell them apart, 2 % of calls missing."""
    calls = draw_genotypes(((0, 300), (0, 1000)), populations=3, seed=8)
    calls[np.random.default_rng(1).random(calls.shape) < 0.02] = -1
    p = np.where(calls < 0, 0, calls).sum(0) / (2 * (calls >= 0).sum(0))
    return np.ascontiguousarray(calls[:, np.minimum(p, 1 - p) > 0.02][:, :900])


WHO = np.arange(300) % 3


def nearest_centre(points: np.ndarray, known: np.ndarray, group: np.ndarray) -> np.ndarray:
    centres = np.stack([known[group == g].mean(0) for g in range(3)])
    return np.argmin(np.linalg.norm(points[:, None] - centres, axis=2), axis=1)


def test_components_and_text_are_those_of_plink2(
    complete: Any, plink2: Any, tmp_path: Path
) -> None:
    out = plink2(complete, "--pca", "5")
    found = genomics.pca(genomics.read_bed(complete.bed), components=5, method="exact")
    written = genomics.write_pca(found, tmp_path / "ours")
    assert [p.name for p in written] == ["ours.eigenvec", "ours.eigenval"]
    ours, theirs = (
        [line.split() for line in Path(f"{p}.eigenvec").read_text().splitlines()]
        for p in (tmp_path / "ours", out)
    )
    assert ours[0] == theirs[0]
    assert [row[:2] for row in ours] == [row[:2] for row in theirs]
    a, b = (np.array([r[2:] for r in rows[1:]], float) for rows in (ours, theirs))
    signs = np.sign(np.sum(a * b, axis=0))
    np.testing.assert_allclose(a * signs, b, atol=2e-6)  # six digits of numbers below one
    values = (np.loadtxt(f"{p}.eigenval") for p in (tmp_path / "ours", out))
    np.testing.assert_allclose(*values, rtol=1e-5)
    with pytest.raises(OutputExistsError, match="ours.eigenvec"):
        genomics.write_pca(found, tmp_path / "ours")


def test_projection_of_the_same_samples_gives_their_scores(complete: Any, tmp_path: Path) -> None:
    cohort = genomics.read_bed(complete.bed)
    model = genomics.pca(cohort, components=3, method="exact", precision="double")
    again = genomics.project(model, cohort)
    scores = np.asarray(model.sample_pca_projection)
    tolerance = 240 * EPS * np.abs(scores).max() * 10
    np.testing.assert_allclose(again.sample_pca_projection, scores, atol=tolerance)
    model.to_netcdf(tmp_path / "model.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "model.nc", engine="h5netcdf") as loaded:
        later = genomics.project(loaded, cohort)
    np.testing.assert_array_equal(later.sample_pca_projection, again.sample_pca_projection)


def test_new_samples_fall_among_their_population(large: np.ndarray) -> None:
    cohort = genomics.open_genotypes(large)
    known = np.arange(300) < 240
    chosen = genomics.filter_variants(cohort.select(samples=known))
    model = genomics.pca(chosen, components=2, method="exact")
    names = np.asarray(model.variant_id).astype(str)
    kept = np.isin(cohort.variants.variant_id, names)
    new = cohort.select(samples=~known, variants=kept)
    placed = np.asarray(genomics.project(model, new).sample_pca_projection)
    scores = np.asarray(model.sample_pca_projection)
    np.testing.assert_array_equal(nearest_centre(placed, scores, WHO[known]), WHO[~known])
    p = np.asarray(model.variant_allele_frequency)[:, 1]
    calls = large[~known][:, kept]
    x = np.where(calls < 0, 0, (calls - 2 * p) / np.sqrt(2 * p * (1 - p)))
    expected = x @ np.asarray(model.sample_pca_component)
    np.testing.assert_allclose(placed, expected, atol=900 * EPS * np.abs(x).max())


def test_variants_without_a_name_are_told_apart_by_their_place(complete: Any) -> None:
    cohort = genomics.read_bed(complete.bed)
    nameless = replace(cohort.variants, variant_id=np.full(240, "."))
    cohort = replace(cohort, variants=nameless)
    model = genomics.pca(cohort, components=2)
    genomics.project(model, cohort)
    moved = replace(cohort, variants=replace(nameless, position=nameless.position + 1))
    with pytest.raises(ShapeError, match=r"is 1:1001 G/A; the model has 1:1000 G/A there"):
        genomics.project(model, moved)
    flipped = replace(nameless, reference=nameless.alternate, alternate=nameless.reference)
    with pytest.raises(ShapeError, match=r"is 1:1000 A/G; the model has 1:1000 G/A there"):
        genomics.project(model, replace(cohort, variants=flipped))


def test_single_precision_is_as_near_as_it_can_be(complete: Any) -> None:
    cohort = genomics.read_bed(complete.bed)
    double, single = (
        genomics.pca(cohort, components=2, method="exact", precision=p)
        for p in ("double", "single")
    )
    assert double.attrs["converged"]
    assert single.attrs["converged"]
    tolerance = 240 * np.finfo(np.float32).eps
    np.testing.assert_allclose(
        single.sample_pca_eigenvalue, double.sample_pca_eigenvalue, rtol=tolerance
    )


def test_what_cannot_be_standardised_is_named(complete: Any) -> None:
    calls = complete.calls.copy()
    calls[:, 17] = 2
    calls[:, 30] = -1
    cohort = genomics.open_genotypes(calls)
    with pytest.raises(LinAlgError, match=r"2 of 240 variants .* 'v18' \(number 17\).* not vary"):
        genomics.pca(cohort, components=2)
    found = genomics.pca(genomics.filter_variants(cohort), components=2)
    assert found.sizes["variants"] == 238


def test_questions_that_make_no_sense_are_refused(complete: Any) -> None:
    cohort = genomics.read_bed(complete.bed)
    with pytest.raises(ShapeError, match="two samples"):
        genomics.pca(cohort.select(samples=[0]), components=1)
    with pytest.raises(OptionError, match="from 1 to 60 components"):
        genomics.pca(cohort, components=61)
    for wrong in ({"method": "magic"}, {"precision": "half"}):
        with pytest.raises(OptionError):
            genomics.pca(cohort, components=2, **wrong)
    model = genomics.pca(cohort, components=2)
    with pytest.raises(ShapeError, match="240 variants"):
        genomics.project(model, cohort.select(variants=np.arange(239)))
    with pytest.raises(ShapeError, match="number 0 of .* is v1 A/B; the model has rs0 G/A"):
        genomics.project(model, complete.calls)


def test_without_xarray_nothing_is_begun(complete: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xarray", None)
    for function in (genomics.pca, genomics.grm, genomics.kinship, genomics.hwe, genomics.ld):
        with pytest.raises(OptionError, match=r"pip install 'leptonhpc\[genomics\]'"):
            function(complete.bed)
    assert genomics.genotype_statistics(genomics.read_bed(complete.bed)).maf.all()


def test_auto_counts_the_passes_that_components_of_the_bulk_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # four passes, as are expected of data of which nothing is known, would be faster than exact
    made: list[str] = []
    exact_seconds = iter([8.0, 12.0])
    plain = genomics.components.svd

    def noted(x: Any, *, method: Any, **options: Any) -> Any:
        made.append(method)
        return plain(x, method=method, **options)

    def planned(driver: str, x: Any, *, method: str, **options: Any) -> Any:
        again = SimpleNamespace(seconds=0.4, most_repeats=29)
        taken = next(exact_seconds) if method == "mixed" else 2.2
        return SimpleNamespace(
            explanation=SimpleNamespace(seconds=taken, passes=4.0, planned=[again])
        )

    monkeypatch.setattr(genomics.components, "svd", noted)
    monkeypatch.setattr(genomics.components, "plan", planned)
    calls = draw_genotypes(((0, 90), (0, 300)), populations=2, seed=3)
    cohort = genomics.filter_variants(genomics.open_genotypes(calls), min_maf=0.1)
    for _ in range(2):
        genomics.pca(cohort, components=2, accuracy=0.5)
    assert made == ["mixed", "krylov"]
