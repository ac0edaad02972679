"""Rows are cut by the number of ratings; a block gives back what it was made of."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from leptonhpc.errors import DTypeError, NonFiniteError, ShapeError
from leptonhpc.recommend import open_ratings
from leptonhpc.recommend.blocks import split_rows
from leptonhpc.recommend.memory_sides import MemorySide, packed


@given(st.lists(st.integers(0, 30), min_size=1, max_size=60), st.integers(1, 40))
def test_blocks_have_no_more_ratings_than_asked_unless_one_row_does(
    counts: list[int], most: int
) -> None:
    pointers = np.concatenate([[0], np.cumsum(counts)])
    edges = split_rows(pointers, most)
    assert edges[0] == 0
    assert edges[-1] == len(counts)
    assert np.all(np.diff(edges) > 0)
    sizes, rows = np.diff(pointers[edges]), np.diff(edges)
    assert np.all((sizes <= most) | (rows == 1))
    assert np.all(rows <= most)
    # a block could not take its neighbour's first row too
    nexts = np.array([counts[edge] for edge in edges[1:-1]])
    assert np.all((sizes[:-1] + nexts > most) | (rows[:-1] == most))


def test_packed_block_names_its_columns_and_keeps_its_ratings(ratings: csr_array) -> None:
    side = MemorySide(ratings, 40)
    assert len(side.edges) > 5
    for number in range(len(side.edges) - 1):
        block = packed(side.read(number))
        assert block.columns is not None
        assert np.all(np.diff(block.columns) > 0)
        assert len(block.columns) <= side.columns[number]
        assert set(block.indices.tolist()) == set(range(len(block.columns)))
        for row in range(block.first, block.first + block.rows):
            columns, values = block.row(row)
            expected = np.zeros(ratings.shape[1])
            expected[columns] = values
            assert np.array_equal(ratings[[row]].toarray()[0], expected)


def test_both_sides_of_a_matrix_are_the_same_ratings(ratings: csr_array) -> None:
    found = open_ratings(ratings)
    assert found.shape == ratings.shape
    assert found.count == ratings.nnz
    assert abs(found.to_scipy() - ratings).max() == 0
    columns = [found.by_item.read(n) for n in range(len(found.by_item.edges) - 1)]
    total = sum(float(block.values.sum()) for block in columns)
    assert total == float(ratings.sum())
    assert found.mean == pytest.approx(float(ratings.data.mean(dtype="f8")), rel=1e-12)
    assert found.least is not None
    assert found.least.value == 1
    assert ratings[found.least.user, found.least.item] == 1


def test_opening_a_matrix_does_not_change_it() -> None:
    unsorted = csr_array((np.array([1.0, 2.0]), np.array([3, 1]), np.array([0, 2])), shape=(1, 4))
    open_ratings(unsorted)
    assert unsorted.indices.tolist() == [3, 1]


@pytest.mark.parametrize(
    ("matrix", "error", "message"),
    [
        (np.array([[1, np.nan], [2, 0]]), NonFiniteError, "nan of user 0 and item 1"),
        (np.array([[1, 0], [np.inf, 2]]), NonFiniteError, "inf of user 1 and item 0"),
        (np.zeros(3), ShapeError, "matrix of users by items"),
        (np.zeros((2, 2), complex), DTypeError, "real numbers"),
    ],
)
def test_matrix_that_is_no_ratings_is_refused(
    matrix: np.ndarray, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        open_ratings(matrix)
