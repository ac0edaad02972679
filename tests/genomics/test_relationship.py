"""Relationship and kinship are those of their formulas, and of plink2 to its printed digits."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import leptonhpc as lh
from leptonhpc import genomics, store
from leptonhpc.errors import LinAlgError, OutputExistsError, ShapeError


def test_relationship_is_the_mean_over_pairs_of_calls(gappy: Any) -> None:
    found = genomics.grm(genomics.read_bed(gappy.bed), memory="300 MB")
    calls = gappy.calls.astype(float)
    present = calls >= 0
    p = np.where(present, calls, 0).sum(0) / (2 * present.sum(0))
    z = np.where(present, (calls - 2 * p) / np.sqrt(2 * p * (1 - p)), 0)
    expected = np.array([[np.sum(a * b) for b in z] for a in z])
    expected /= np.array([[np.sum(a & b) for b in present] for a in present])
    tolerance = 240 * np.finfo(float).eps * np.abs(expected).max()
    np.testing.assert_allclose(found.stat_genomic_relationship, expected, atol=tolerance)


@pytest.mark.parametrize("name", ["complete", "gappy"])
def test_relationship_is_that_of_plink2(
    name: str, request: pytest.FixtureRequest, plink2: Any, tmp_path: Path
) -> None:
    cohort = request.getfixturevalue(name)
    out = plink2(cohort, "--make-rel", "square")
    theirs = np.loadtxt(f"{out}.rel")
    found = genomics.grm(genomics.read_bed(cohort.bed))
    ours = np.asarray(found.stat_genomic_relationship)
    np.testing.assert_allclose(ours, theirs, rtol=6e-6, atol=1e-8)
    genomics.write_pairs(found, tmp_path / "ours")
    rows = [line.split() for line in (tmp_path / "ours.rel").read_text().splitlines()]
    assert [len(r) for r in rows] == list(range(1, 62))
    np.testing.assert_allclose(np.array(rows[-1], float), ours[-1], rtol=1e-9)
    ids = (Path(f"{p}.rel.id").read_text() for p in (tmp_path / "ours", out))
    assert next(ids) == next(ids)


def test_eigenvalues_of_relationship_are_the_components_of_plink2(gappy: Any, plink2: Any) -> None:
    out = plink2(gappy, "--pca", "4")
    pairs = np.asarray(genomics.grm(gappy.bed).stat_genomic_relationship)
    values = lh.eigh(pairs, k=4).eigenvalues[::-1]
    np.testing.assert_allclose(values, np.loadtxt(f"{out}.eigenval"), rtol=1e-5)


@pytest.mark.parametrize("name", ["complete", "gappy"])
def test_kinship_is_that_of_plink2(name: str, request: pytest.FixtureRequest, plink2: Any) -> None:
    cohort = request.getfixturevalue(name)
    out = plink2(cohort, "--make-king", "square")
    theirs = np.loadtxt(f"{out}.king")
    ours = np.asarray(genomics.kinship(genomics.read_bed(cohort.bed)).stat_king_kinship)
    below = np.tril_indices(61, -1)
    np.testing.assert_allclose(ours[below], theirs[below], rtol=6e-6, atol=1e-6)


def test_kinship_finds_twins_and_children(rng: np.random.Generator) -> None:
    p = rng.uniform(0.2, 0.8, 4000)
    mother, father, stranger = ((rng.random((2, 4000)) < p).astype(np.int8) for _ in range(3))
    child = np.stack([np.where(rng.random(4000) < 0.5, *parent) for parent in (mother, father)])
    calls = np.stack([x.sum(0) for x in (mother, father, stranger, child, child)]).astype(np.int8)
    phi = np.asarray(genomics.kinship(calls).stat_king_kinship)
    # standard error of about 1 / sqrt(4000 * 0.4) = 0.025
    assert phi[3, 4] == 0.5
    np.testing.assert_allclose(phi[:2, 3], 0.25, atol=0.06)
    np.testing.assert_allclose(phi[2, [0, 1, 3]], 0, atol=0.1)


def test_relationship_is_stored(complete: Any, tmp_path: Path) -> None:
    cohort = genomics.read_bed(complete.bed)
    found = genomics.grm(cohort, out=tmp_path / "g.zarr")
    np.testing.assert_array_equal(lh.open(tmp_path / "g.zarr"), found.stat_genomic_relationship)
    with pytest.raises(OutputExistsError):
        genomics.grm(cohort, out=tmp_path / "g.zarr")


def test_what_has_no_relationship_is_refused() -> None:
    with pytest.raises(ShapeError, match="two samples"):
        genomics.grm(np.ones((1, 3), np.int8))
    with pytest.raises(ShapeError, match="two samples"):
        genomics.kinship(np.ones((1, 3), np.int8))
    with pytest.raises(ShapeError, match="dosages"):
        genomics.kinship(np.ones((2, 3)))
    apart = np.array([[0, -1], [-1, 1], [1, 0]], np.int8)
    with pytest.raises(LinAlgError, match="samples '1' and '2'"):
        genomics.grm(apart)


def test_array_of_the_user_beside_a_relationship_matrix_stays(tmp_path: Path) -> None:
    calls = np.array([[0, 1, 2, 1], [1, 2, 0, 1], [2, 0, 1, 0]], np.int8)
    store.create_array(tmp_path / "g.zarr.partial", shape=(7,), dtype="int8", chunks=(7,))
    with pytest.raises(OutputExistsError, match=r"g\.zarr\.partial', .* is something else"):
        genomics.grm(genomics.open_genotypes(calls), out=tmp_path / "g.zarr")
    assert store.open_array(tmp_path / "g.zarr.partial").shape == (7,)


@pytest.mark.parametrize("function", ["grm", "kinship", "pca", "gwas"])
def test_too_few_samples_are_refused_by_name(complete: Any, function: str) -> None:
    cohort = genomics.read_bed(complete.bed).select(samples=np.array([3]))
    given: list[Any] = [np.zeros(1)] if function == "gwas" else []
    least = "three" if function == "gwas" else "two"
    with pytest.raises(ShapeError, match=rf"needs? {least} samples or more; .* has 1"):
        getattr(genomics, function)(cohort, *given)
