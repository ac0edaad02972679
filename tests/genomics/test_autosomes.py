"""Contigs of which not everybody has two copies are named where autosomes are meant."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from leptonhpc import genomics
from leptonhpc.genomics.autosomes import other_contigs


def on(cohort: Any, contigs: list[str]) -> Any:
    names = np.resize(np.array(contigs), cohort.shape[1])
    return replace(cohort, variants=replace(cohort.variants, contig=names))


def test_other_contigs_are_told_from_autosomes(complete: Any) -> None:
    cohort = genomics.read_bed(complete.bed)
    assert other_contigs(on(cohort, ["1", "chr22", "chrUn"])) == []
    human = ["1", "X", "chrY", "chrM", "MT", "XY", "23", "26"]
    assert other_contigs(on(cohort, human)) == sorted(human[1:])
    assert other_contigs(on(cohort, ["1", "23", "26", "38", "X"])) == ["X"]  # a dog's


@pytest.mark.parametrize("name", ["grm", "hwe", "kinship", "pca"])
def test_methods_for_autosomes_warn_of_others(complete: Any, name: str) -> None:
    cohort = on(genomics.read_bed(complete.bed).select(variants=np.arange(20)), ["1", "X"])
    with pytest.warns(UserWarning, match=r"10 of 20 variants .* on contigs X,.*leaves them out"):
        getattr(genomics, name)(cohort)
    autosomes = cohort.select(variants=~np.isin(cohort.variants.contig, ["X"]))
    getattr(genomics, name)(autosomes)  # warnings are errors here


@pytest.mark.parametrize("model", ["linear", "logistic", "mixed"])
def test_association_warns_too(complete: Any, rng: np.random.Generator, model: Any) -> None:
    cohort = on(genomics.read_bed(complete.bed).select(variants=np.arange(20)), ["1", "X"])
    y = rng.normal(size=61)
    with pytest.warns(UserWarning, match="10 of 20 variants .* on contigs X") as seen:
        genomics.gwas(cohort, y > 0 if model == "logistic" else y, model=model)
    assert len(seen) == 1
