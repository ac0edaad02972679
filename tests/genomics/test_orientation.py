"""Calls read by variant and by sample are the same numbers, whatever lies underneath."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leptonhpc import genomics
from leptonhpc.genomics.orientation import Turned, by_variant
from leptonhpc.genomics.statistics import counted_by_words, true_in_columns


@pytest.mark.parametrize("kind", ["bed", "selected bed", "byte", "two-bit", "array"])
def test_reading_by_variant_gives_the_transpose(gappy: Any, tmp_path: Path, kind: str) -> None:
    cohort, calls = genomics.read_bed(gappy.bed), gappy.calls
    if kind == "selected bed":
        rows, columns = np.arange(1, 61, 3), np.arange(0, 240, 7)
        cohort, calls = cohort.select(samples=rows, variants=columns), calls[np.ix_(rows, columns)]
    elif kind in ("byte", "two-bit"):
        cohort = genomics.store_genotypes(
            cohort,
            tmp_path / "g",
            chunks=(20, 30),
            encoding=kind,  # type: ignore[arg-type]
        )
    elif kind == "array":
        cohort = genomics.open_genotypes(calls)
    source = cohort.calls.source
    rows_source = by_variant(source)
    samples, variants = calls.shape
    assert rows_source.shape == (variants, samples)
    for region in (((0, variants), (0, samples)), ((3, 20), (5, 18))):
        (top, bottom), (left, right) = region
        expected = calls[left:right, top:bottom]
        found = rows_source.read(region)
        np.testing.assert_array_equal(found, expected.T)
        assert found.flags.c_contiguous
        np.testing.assert_array_equal(source.read(region[::-1]), expected)
        into = np.empty(expected.shape, np.int8)
        np.testing.assert_array_equal(source.read(region[::-1], into), expected)


def test_a_bed_file_is_read_as_it_lies() -> None:
    base = genomics.open_genotypes(np.zeros((3, 4), np.int8)).calls.source
    assert by_variant(Turned(base)) is base


@pytest.mark.parametrize("order", ["C", "F"])
def test_true_values_are_counted_beyond_a_byte(order: Any) -> None:
    mask = np.random.default_rng(0).random((1000, 7)) < np.linspace(0, 1, 7)
    counted = true_in_columns(np.asarray(mask, order=order))
    np.testing.assert_array_equal(counted, mask.sum(axis=0))
    assert counted[-1] == 1000


@pytest.mark.parametrize("samples", [1, 7, 8, 9, 5000])
def test_calls_are_counted_eight_at_once(samples: int) -> None:
    calls = np.array([0, 1, 2, -1, -2, -128], np.int8)
    rows = np.random.default_rng(0).choice(calls, (30, samples))
    expected = [np.sum(which, axis=1) for which in (rows < 0, rows == 1, rows == 2)]
    np.testing.assert_array_equal(counted_by_words(rows), expected)
