"""Blocks of a product cover it exactly once and stay under their cap."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from leptonhpc.linalg.partition import elements, partition, partition_unlike

sizes = st.integers(1, 300)
units = st.tuples(st.integers(1, 40), st.integers(1, 40))


def coverage(m: int, n: int, regions: list[tuple[tuple[int, int], ...]]) -> np.ndarray:
    count = np.zeros((m, n), int)
    for (r0, r1), (c0, c1) in regions:
        assert 0 <= r0 < r1 <= m
        assert 0 <= c0 < c1 <= n
        count[r0:r1, c0:c1] += 1
    return count


@settings(max_examples=100)
@given(m=sizes, n=sizes, unit=units, cap=st.integers(1, 100_000), parts=st.integers(1, 9))
def test_every_element_is_covered_exactly_once(
    m: int, n: int, unit: tuple[int, int], cap: int, parts: int
) -> None:
    assert np.all(coverage(m, n, partition(m, n, unit, cap, parts)) == 1)


@settings(max_examples=100)
@given(m=sizes, n=sizes, unit=units, cap=st.integers(1, 100_000), parts=st.integers(1, 9))
def test_no_block_exceeds_the_cap_unless_it_is_one_unit(
    m: int, n: int, unit: tuple[int, int], cap: int, parts: int
) -> None:
    for (r0, r1), (c0, c1) in partition(m, n, unit, cap, parts):
        one_unit = r1 - r0 <= unit[0] and c1 - c0 <= unit[1]
        assert (r1 - r0) * (c1 - c0) <= cap or one_unit


@settings(max_examples=100)
@given(m=sizes, n=sizes, unit=units, cap=st.integers(1, 100_000))
def test_blocks_begin_at_whole_units(m: int, n: int, unit: tuple[int, int], cap: int) -> None:
    for (r0, _), (c0, _) in partition(m, n, unit, cap):
        assert r0 % unit[0] == 0
        assert c0 % unit[1] == 0


@settings(max_examples=100)
@given(m=sizes, n=sizes, cap=st.integers(1, 100_000))
def test_half_perimeters_stay_near_those_of_squares(m: int, n: int, cap: int) -> None:
    regions = partition(m, n, (1, 1), cap)
    total = sum(r[0][1] - r[0][0] + r[1][1] - r[1][0] for r in regions)
    # p blocks of area mn / p have at least 2 sqrt(mn / p); p is at least mn / cap; strips of
    # equal parts are within 2 of that (Beaumont et al. 2002: 1.75), plus the edges of the whole
    least = 2 * m * n / math.sqrt(min(cap, m * n))
    assert total <= 2 * least + m + n


@given(m=st.integers(20, 300), n=st.integers(20, 300), parts=st.integers(1, 9))
def test_there_are_as_many_blocks_as_workers(m: int, n: int, parts: int) -> None:
    assert len(partition(m, n, (1, 1), m * n, parts)) >= parts


speeds = st.lists(st.floats(0.1, 20.0), min_size=2, max_size=6)


@settings(max_examples=100)
@given(
    m=sizes, n=sizes, unit=units, cap=st.integers(1, 100_000), speeds=speeds,
    parts=st.integers(1, 40),
)  # fmt: skip
def test_blocks_for_unlike_workers_cover_all_under_their_cap_at_whole_units(
    m: int, n: int, unit: tuple[int, int], cap: int, speeds: list[float], parts: int
) -> None:
    regions = partition_unlike(m, n, unit, cap, speeds, parts)
    assert np.all(coverage(m, n, regions) == 1)
    for rows, columns in regions:
        assert rows[0] % unit[0] == columns[0] % unit[1] == 0
        one_unit = rows[1] - rows[0] <= unit[0] and columns[1] - columns[0] <= unit[1]
        assert elements((rows, columns)) <= cap or one_unit


@given(fast=st.floats(1.0, 8.0))
def test_strips_are_as_high_as_workers_are_fast(fast: float) -> None:
    regions = partition_unlike(8000, 1000, (10, 10), 10**9, [fast, 1.0], 30)
    first, second = (elements(r) for r in regions[:2])
    # three quarters of 800 units are shared; an edge is rounded to a unit
    assert abs(first - 6000 * 1000 * fast / (fast + 1)) <= 10 * 1000
    assert abs(second - 6000 * 1000 / (fast + 1)) <= 10 * 1000
    assert max(elements(r) for r in regions[2:]) <= 8000 * 1000 / 30
