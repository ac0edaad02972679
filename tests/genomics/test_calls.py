"""Calls that would come out as other calls are refused, or read for what they are."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from leptonhpc import genomics
from leptonhpc.errors import (
    LinAlgError,
    MemoryBudgetError,
    OptionError,
    OutputExistsError,
    ShapeError,
)

DIMS = ("variants", "samples", "ploidy")


@pytest.fixture
def alleles(gappy: Any) -> np.ndarray:
    """(variants, samples, 2): the gappy cohort's calls as allele numbers."""
    calls = gappy.calls.T
    made = np.stack([(calls > 1).astype(np.int8), (calls > 0).astype(np.int8)], axis=2)
    made[calls < 0] = -1
    return made


def of(alleles: np.ndarray, dims: tuple[str, ...] = DIMS) -> xr.Dataset:
    return xr.Dataset({"call_genotype": (dims, alleles)})


@pytest.mark.parametrize("encoding", ["byte", "two-bit"])
@pytest.mark.parametrize("wrong", [3, 9, 256, 300])
def test_impossible_calls_are_not_stored(tmp_path: Path, encoding: Any, wrong: int) -> None:
    calls = np.ones((9, 14), np.int64)
    calls[5, 12] = wrong
    with pytest.raises(ShapeError, match=f"has {wrong} for sample number 5 at variant number 12"):
        genomics.store_genotypes(
            genomics.open_genotypes(calls), tmp_path / "g", encoding=encoding, chunks=(4, 5)
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("encoding", ["byte", "two-bit"])
def test_any_negative_number_is_stored_as_missing(tmp_path: Path, encoding: Any) -> None:
    calls = np.ones((9, 14), np.int64)
    calls[5, 12], calls[6, 1] = -256, -9  # -256 is 0 in a byte
    stored = genomics.store_genotypes(
        genomics.open_genotypes(calls), tmp_path / "g", encoding=encoding
    )
    np.testing.assert_array_equal(np.asarray(stored.calls), np.where(calls < 0, -1, calls))


def test_a_folder_of_the_user_is_not_removed(tmp_path: Path) -> None:
    mine = tmp_path / "g.partial" / "notes.txt"
    mine.parent.mkdir()
    mine.write_text("mine")
    cohort = genomics.open_genotypes(np.ones((3, 4), np.int8))
    with pytest.raises(OutputExistsError, match=r"g\.partial', .* is something else"):
        genomics.store_genotypes(cohort, tmp_path / "g")
    assert mine.read_text() == "mine"


def test_missing_alleles_that_xarray_made_nan_are_missing(
    gappy: Any, alleles: np.ndarray, tmp_path: Path
) -> None:
    encoding = {"call_genotype": {"_FillValue": -1}}
    of(alleles).to_zarr(tmp_path / "v.zarr", consolidated=False, encoding=encoding)
    dataset = xr.open_zarr(tmp_path / "v.zarr", consolidated=False)
    assert dataset.call_genotype.dtype.kind == "f"
    for source in (dataset, tmp_path / "v.zarr"):
        found = genomics.open_genotypes(source)
        np.testing.assert_array_equal(np.asarray(found.calls), gappy.calls)


@pytest.mark.parametrize("wrong", [0.5, -3.0, np.inf])
def test_alleles_that_are_no_numbers_of_alleles_are_refused(wrong: float) -> None:
    alleles = np.zeros((4, 5, 2))
    alleles[2, 3, 1] = wrong
    with pytest.raises(ShapeError, match="sample number 3 at variant number 2"):
        np.asarray(genomics.open_genotypes(of(alleles)).calls)


def test_dimensions_are_taken_by_name(gappy: Any, alleles: np.ndarray) -> None:
    turned = of(alleles).transpose("samples", "ploidy", "variants")
    np.testing.assert_array_equal(np.asarray(genomics.open_genotypes(turned).calls), gappy.calls)
    dosage = xr.Dataset({"call_dosage": (("samples", "variants"), gappy.calls)})
    np.testing.assert_array_equal(np.asarray(genomics.open_genotypes(dosage).calls), gappy.calls)


def test_other_dimensions_are_refused(alleles: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match=r"found \(snp, samples, ploidy\)"):
        genomics.open_genotypes(of(alleles, ("snp", "samples", "ploidy")))
    turned = of(alleles).transpose("samples", "variants", "ploidy")
    turned.to_zarr(tmp_path / "v.zarr", consolidated=False)
    with pytest.raises(ShapeError, match="in this order"):
        genomics.open_genotypes(tmp_path / "v.zarr")
    dosage = xr.Dataset({"call_dosage": (DIMS[:2], np.array([[0.5, 1.5]]))})
    packed = {"call_dosage": {"dtype": "i2", "scale_factor": 0.1, "_FillValue": -1}}
    dosage.to_zarr(tmp_path / "d.zarr", consolidated=False, encoding=packed)
    with pytest.raises(ShapeError, match="scale_factor"):
        genomics.open_genotypes(tmp_path / "d.zarr")


@pytest.mark.parametrize("ploidy", [1, 3, 4])
def test_ploidy_other_than_two_is_refused(ploidy: int) -> None:
    with pytest.raises(ShapeError, match=f"has ploidy {ploidy}"):
        genomics.open_genotypes(of(np.zeros((4, 5, ploidy), np.int8)))


def test_a_haploid_call_counts_twice(rng: np.random.Generator) -> None:
    hap = (rng.random((200, 50)) < 0.3).astype(np.int8)
    padded = np.stack([hap, np.full_like(hap, -2)], axis=2)
    padded[3, 4] = [-1, -2]
    padded[5, 6] = -2
    calls = np.asarray(genomics.open_genotypes(of(padded)).calls)
    expected = 2 * hap.T
    expected[4, 3] = expected[6, 5] = -1
    np.testing.assert_array_equal(calls, expected)


def test_all_alternate_alleles_are_named() -> None:
    names = np.array([["A", "C", "G"], ["T", "G", ""], ["A", "", ""]], object)
    dataset = of(np.zeros((3, 4, 2), np.int8)).assign(
        variant_allele=(("variants", "alleles"), names)
    )
    variants = genomics.open_genotypes(dataset).variants
    assert list(variants.alternate) == ["C,G", "G", "."]
    assert list(variants.reference) == ["A", "T", "A"]


QUESTIONS = (
    "grm", "gwas", "hwe", "kinship", "ld", "ld_prune", "mixed", "pc_relate", "pca", "project",
)  # fmt: skip


@pytest.mark.parametrize("question", QUESTIONS)
def test_impossible_calls_are_named_whatever_is_asked_and_nothing_is_left(
    complete: Any, tmp_path: Path, question: str
) -> None:
    model = genomics.pca(complete.calls, components=2)
    calls = complete.calls.copy()
    calls[5, 17] = 3
    trait, given = np.arange(61) % 7, {"out": tmp_path / "r.zarr"}
    asked = {
        "grm": lambda: genomics.grm(calls, **given),
        "gwas": lambda: genomics.gwas(calls, trait, **given),
        "hwe": lambda: genomics.hwe(calls, **given),
        "kinship": lambda: genomics.kinship(calls, **given),
        "ld": lambda: genomics.ld(calls, **given),
        "ld_prune": lambda: genomics.ld_prune(calls),
        "mixed": lambda: genomics.gwas(calls, trait, model="mixed", **given),
        "pc_relate": lambda: genomics.pc_relate(calls, model.sample_pca_projection, **given),
        "pca": lambda: genomics.pca(calls, components=2, **given),
        "project": lambda: genomics.project(model, calls, **given),
    }
    with pytest.raises(ShapeError, match="has 3 for sample number 5 at variant number 17"):
        asked[question]()
    assert not list(tmp_path.iterdir())


def test_questions_that_are_refused_leave_nothing(complete: Any, tmp_path: Path) -> None:
    calls, trait = complete.calls, np.arange(61) % 7
    apart = calls.copy()
    apart[0, :120] = apart[1, 120:] = -1
    given = {"out": tmp_path / "r.zarr"}
    little = {**given, "memory": "1 MB"}
    asked: list[tuple[type[Exception], Callable[[], Any]]] = [
        (LinAlgError, lambda: genomics.grm(apart, **given)),
        (LinAlgError, lambda: genomics.gwas(apart, trait, model="mixed", **given)),
        (LinAlgError, lambda: genomics.gwas(calls, trait, model="logistic", **given)),
        (OptionError, lambda: genomics.gwas(calls, trait, model="mixed", loco=True, **given)),
        (OptionError, lambda: genomics.ld(calls, window=0, **given)),
        (MemoryBudgetError, lambda: genomics.gwas(calls, trait, **little)),
        (MemoryBudgetError, lambda: genomics.gwas(calls, trait, model="mixed", **little)),
        (MemoryBudgetError, lambda: genomics.hwe(calls, **little)),
        (MemoryBudgetError, lambda: genomics.kinship(calls, **little)),
        (MemoryBudgetError, lambda: genomics.store_genotypes(
            genomics.open_genotypes(calls), tmp_path / "r.zarr", memory="1 MB"
        )),
    ]  # fmt: skip
    for number, (error, call) in enumerate(asked):
        with pytest.raises(error):
            call()
        assert not list(tmp_path.iterdir()), number
