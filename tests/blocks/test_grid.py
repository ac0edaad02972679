"""Grids: every element in exactly one block."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptonhpc.blocks import BlockGrid
from leptonhpc.errors import ShapeError

lengths = st.lists(st.integers(1, 6), min_size=1, max_size=5).map(tuple)
grids = st.lists(st.one_of(lengths, st.just((0,))), min_size=0, max_size=3).map(
    lambda chunks: BlockGrid(tuple(chunks))
)


@given(grids)
def test_every_element_is_in_exactly_one_block(grid: BlockGrid) -> None:
    count = np.zeros(grid.shape, int)
    for index in grid.indices():
        count[tuple(slice(*pair) for pair in grid.region(index))] += 1
    assert np.all(count == 1)


@given(grids)
def test_the_block_of_an_element_holds_it(grid: BlockGrid) -> None:
    for position in itertools.islice(np.ndindex(grid.shape), 200):
        region = grid.region(grid.block_of(position))
        assert all(low <= at < high for at, (low, high) in zip(position, region, strict=True))


@given(grids)
def test_indices_are_as_many_as_blocks_the_last_dimension_fastest(grid: BlockGrid) -> None:
    indices = list(grid.indices())
    assert len(indices) == grid.size == math.prod(grid.numblocks)
    assert indices == sorted(indices)


@given(grids)
def test_transposing_twice_changes_nothing(grid: BlockGrid) -> None:
    assert grid.transposed().transposed() == grid
    assert grid.transposed().shape == grid.shape[::-1]


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 50)), min_size=1, max_size=3))
def test_regular_grids_differ_from_the_block_only_at_the_edge(pairs: list[tuple[int, int]]) -> None:
    shape, block = zip(*pairs, strict=True)
    grid = BlockGrid.regular(shape, block)
    assert grid.shape == shape
    for lengths_, (size, step) in zip(grid.chunks, pairs, strict=True):
        assert all(length == step for length in lengths_[:-1])
        assert lengths_[-1] == (size % step or step if size else 0)


@pytest.mark.parametrize("chunks", [((),), ((2, -1),), ((2, 0),), ((0, 0, 3),)])
def test_lengths_that_cut_nothing_are_refused(chunks: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(ShapeError, match="positive lengths"):
        BlockGrid(chunks)


@pytest.mark.parametrize(("shape", "block"), [((4, 4), (2,)), ((4,), (0,)), ((4,), (-1,))])
def test_a_block_that_does_not_fit_is_refused(
    shape: tuple[int, ...], block: tuple[int, ...]
) -> None:
    with pytest.raises(ShapeError, match="does not fit"):
        BlockGrid.regular(shape, block)
