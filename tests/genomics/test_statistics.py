"""Counts, frequencies and call rates are those of NumPy, in one pass; filters follow them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leptonhpc import genomics
from leptonhpc.blocks import BlockedArray
from leptonhpc.errors import MemoryBudgetError, OptionError, ShapeError


def test_counts_are_those_of_numpy(gappy: Any) -> None:
    found = genomics.genotype_statistics(genomics.read_bed(gappy.bed))
    calls, present = gappy.calls, gappy.calls >= 0
    np.testing.assert_array_equal(found.called, present.sum(0))
    np.testing.assert_array_equal(found.het, (calls == 1).sum(0))
    np.testing.assert_array_equal(found.sample_called, present.sum(1))
    p = np.where(present, calls, 0).sum(0) / (2 * present.sum(0))
    np.testing.assert_array_equal(found.frequency, p)
    np.testing.assert_array_equal(found.sample_call_rate, present.mean(1))
    dataset = found.to_xarray()
    np.testing.assert_array_equal(dataset.variant_allele_frequency.sum("alleles"), np.ones(240))
    assert not found.complete


def test_each_chunk_is_read_once(gappy: Any, tmp_path: Path) -> None:
    stored = genomics.store_genotypes(genomics.read_bed(gappy.bed), tmp_path / "g", chunks=(61, 50))
    counting = _Counting(stored.calls.source)
    cohort = genomics.Genotypes(BlockedArray(counting), stored.samples, stored.variants)
    genomics.genotype_statistics(cohort)
    assert counting.units == stored.calls.source.units_in(((0, 61), (0, 240))) == 5


@pytest.mark.parametrize("memory", ["280.1 MB", "281 MB", "1 GB"])
def test_counts_do_not_depend_on_memory(gappy: Any, memory: str) -> None:
    cohort = genomics.read_bed(gappy.bed)
    small, large = (genomics.genotype_statistics(cohort, memory=m) for m in (memory, "2 GB"))
    for name, values in vars(large).items():
        np.testing.assert_array_equal(getattr(small, name), values)


def test_too_little_memory_names_what_would_do(gappy: Any) -> None:
    cohort = genomics.read_bed(gappy.bed)
    with pytest.raises(MemoryBudgetError, match=r"memory='281 MB' or more") as caught:
        genomics.genotype_statistics(cohort, memory=280_000_300)
    assert gappy.prefix.name in str(caught.value)
    genomics.genotype_statistics(cohort, memory="281 MB")


def test_frequencies_are_those_of_plink2(gappy: Any, plink2: Any) -> None:
    out = plink2(gappy, "--freq")
    rows = [line.split() for line in Path(f"{out}.afreq").read_text().splitlines()[1:]]
    found = genomics.genotype_statistics(genomics.read_bed(gappy.bed))
    np.testing.assert_allclose(found.frequency, [float(r[4]) for r in rows], rtol=6e-6)
    assert (2 * found.called).tolist() == [int(r[5]) for r in rows]


def test_filters_keep_what_passes(gappy: Any) -> None:
    cohort = genomics.read_bed(gappy.bed)
    found = genomics.genotype_statistics(cohort)
    kept = genomics.filter_variants(cohort, min_maf=0.2, min_call_rate=0.95)
    keep = (found.maf >= 0.2) & (found.call_rate >= 0.95)
    assert 0 < keep.sum() < 240
    np.testing.assert_array_equal(np.asarray(kept.calls), gappy.calls[:, keep])
    monomorphic = genomics.open_genotypes(np.array([[0, 1, 2, -1], [0, 0, 2, -1]], np.int8))
    assert genomics.filter_variants(monomorphic).variants.variant_id.tolist() == ["v2"]
    for wrong in ({"min_maf": 0.6}, {"min_call_rate": -0.1}):
        with pytest.raises(OptionError, match="is from 0"):
            genomics.filter_variants(cohort, **wrong)
    with pytest.raises(OptionError, match="no variants are left of 3"):
        genomics.filter_variants(genomics.open_genotypes(np.ones((4, 3), np.int8) * 2))


def test_impossible_calls_are_refused_with_their_place() -> None:
    calls = np.ones((5, 7), np.int8)
    calls[3, 4] = 3
    with pytest.raises(ShapeError, match="has 3 for sample number 3 at variant number 4"):
        genomics.genotype_statistics(genomics.open_genotypes(calls))


def test_dosages_have_frequencies() -> None:
    dosages = np.array([[0.5, 2.0], [1.5, np.nan], [0.1, 1.0]])
    found = genomics.genotype_statistics(genomics.open_genotypes(dosages))
    np.testing.assert_allclose(found.frequency, [2.1 / 6, 3 / 4], rtol=1e-15)


class _Counting:
    """A source that counts the storage units that it is asked for."""

    def __init__(self, base: Any) -> None:
        self.base, self.units = base, 0
        self.shape, self.dtype, self.unit, self.name = base.shape, base.dtype, base.unit, base.name
        self.shareable, self.units_in, self.identity = True, base.units_in, base.identity

    def read(self, region: Any, out: Any = None) -> Any:
        self.units += self.base.units_in(region)
        return self.base.read(region, out)


def test_statistics_of_others_are_refused(gappy: Any) -> None:
    cohort = genomics.read_bed(gappy.bed)
    counted = genomics.genotype_statistics(cohort)
    kept = cohort.select(variants=np.arange(1, 240))
    moved = genomics.genotype_statistics(cohort.select(variants=np.arange(239)))
    fewer = genomics.genotype_statistics(cohort.select(samples=np.arange(60)))
    for function in (genomics.grm, genomics.pca, genomics.hwe, genomics.filter_variants):
        with pytest.raises(ShapeError, match=r"of 240 variants; .* has 239"):
            function(kept, statistics=counted)
        with pytest.raises(ShapeError, match=r"number 0 is 'rs0 G/A'; .* has 'rs1 G/A'"):
            function(kept, statistics=moved)
        with pytest.raises(ShapeError, match=r"of 60 samples; .* has 61"):
            function(cohort, statistics=fewer)


def test_statistics_follow_a_selection_of_variants(gappy: Any) -> None:
    cohort = genomics.read_bed(gappy.bed)
    counted, index = genomics.genotype_statistics(cohort), np.array([3, 9, 200])
    chosen = counted.of_variants(index)
    chosen.require_of(cohort.select(variants=index))
    np.testing.assert_array_equal(chosen.frequency, counted.frequency[index])
    # the samples' counts are of all variants, and so are their rates
    np.testing.assert_array_equal(chosen.sample_call_rate, (gappy.calls >= 0).mean(axis=1))
