"""Values put together: the same bits in every order of arrival, and no silent nonsense."""

import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from leptonhpc.errors import DTypeError, NumericRangeError, OptionError, ShapeError
from leptonhpc.parallel import aggregate_results as aggregate
from leptonhpc.parallel.folding import Tree


@given(st.permutations(list(range(13))))
def test_a_tree_gives_the_values_in_order_whatever_order_they_come_in(order: list[int]) -> None:
    tree = Tree(lambda left, right: left + right)
    for number in order:
        tree.add(number, [number])
    assert tree.result() == list(range(13))


@given(
    st.lists(st.floats(-1e9, 1e9, allow_subnormal=False), min_size=1, max_size=70), st.randoms()
)  # fmt: skip
def test_sums_have_the_same_bits_in_every_order_and_a_small_error(
    values: list[float], random: Any
) -> None:
    order = list(range(len(values)))
    random.shuffle(order)
    tree = Tree(lambda left, right: left + right)
    for number in order:
        tree.add(number, values[number])
    found = aggregate(values)
    assert tree.result() == found
    exact = sum(map(Fraction, values))
    depth = math.ceil(math.log2(len(values))) if len(values) > 1 else 0
    # Higham (4.6): depth additions of relative error eps / 2 each, to first order
    bound = Fraction(2.0**-52) * depth * sum(abs(Fraction(v)) for v in values)
    assert abs(Fraction(found) - exact) <= bound


def test_few_values_wait() -> None:
    tree = Tree(lambda left, right: left + right)
    for number in range(1, 1000):
        tree.add(number, 1)
    assert len(tree._nodes) <= 2 * math.log2(1024)
    tree.add(0, 1)
    assert tree.result() == 1000


def test_small_integers_do_not_overflow() -> None:
    found = aggregate([np.array([100, -100], np.int8)] * 3)
    assert found.tolist() == [300, -300]
    assert aggregate([np.uint8(200)] * 2) == 400
    assert aggregate([np.array([True, False])] * 3).tolist() == [3, 0]
    assert aggregate([np.full(2, 6e4, np.float16)] * 4).tolist() == [2.4e5, 2.4e5]
    assert aggregate([np.float16(6e4)] * 4, "mean") == np.float16(6e4)


def test_whole_numbers_of_unlike_kinds_are_summed_exactly() -> None:
    assert aggregate([np.int64(2**63 - 1), 1]) == aggregate([1, np.int64(2**63 - 1)]) == 2**63
    assert aggregate([True, np.uint8(3), 2**70]) == 2**70 + 4
    mixed = aggregate([np.array([2**53 + 1]), np.array([2], np.uint64)])
    assert mixed.dtype == np.int64
    assert mixed.tolist() == [2**53 + 3]


def test_results_of_the_user_are_not_changed() -> None:
    arrays = [np.ones(3), np.ones(3), np.ones(3)]
    mappings = [{"a": 1}, {"a": 2}]
    lists = [[1], [2]]
    aggregate(arrays)
    assert aggregate(mappings, by_key=True) == {"a": 3}
    assert aggregate(lists, "concat") == [1, 2]
    assert [a.tolist() for a in arrays] == [[1, 1, 1]] * 3
    assert mappings == [{"a": 1}, {"a": 2}]
    assert lists == [[1], [2]]


def test_a_mean_of_means_has_the_weights_of_its_parts(rng: np.random.Generator) -> None:
    x = rng.standard_normal((10, 3))
    parts = [x[:3], x[3:4], x[4:]]
    found = aggregate([p.mean(0) for p in parts], "mean", weights=[3, 1, 6])
    # each of ten additions and three products and divisions rounds once
    assert np.all(np.abs(found - x.mean(0)) <= 15 * np.finfo(float).eps * np.abs(x).max())
    assert aggregate([1, 2, 6], "mean") == 3.0


CONCATENATED: list[tuple[list[Any], Any]] = [
    ([[1, 2], [], [3]], [1, 2, 3]),
    ([(1,), (2, 3)], (1, 2, 3)),
    (["a", "bc"], "abc"),
    ([b"a", b"b"], b"ab"),
]


@pytest.mark.parametrize(("values", "expected"), CONCATENATED)
def test_sequences_are_joined(values: list[Any], expected: Any) -> None:
    assert aggregate(values, "concat") == expected


def test_arrays_and_tables_are_joined_in_order() -> None:
    parts = [np.arange(6).reshape(3, 2), np.arange(2).reshape(1, 2)]
    assert np.array_equal(aggregate(parts, "concat"), np.concatenate(parts))
    frames = [pd.DataFrame({"a": [1, 2]}), pd.DataFrame({"a": [3]})]
    assert aggregate(frames, "concat").a.tolist() == [1, 2, 3]
    masked = [np.ma.masked_equal([1, n], n) for n in (2, 3)]
    assert aggregate(masked, "concat").tolist() == [1, None, 1, None]
    assert aggregate([np.arange(1), masked[0]], "concat").tolist() == [0, 1, None]


def test_keys_are_put_together_by_any_function() -> None:
    values = [{"a": 3, "b": 1}, {"c": 2}, {"a": 5}]
    assert aggregate(values, max, by_key=True) == {"a": 5, "b": 1, "c": 2}
    assert aggregate(values, "mean", by_key=True) == {"a": 4.0, "b": 1.0, "c": 2.0}
    lists = [{"a": [1]}, {"a": [2], "b": [3]}]
    assert aggregate(lists, "concat", by_key=True) == {"a": [1, 2], "b": [3]}


def test_every_nan_is_one_key() -> None:
    """As Python has it, it depends on whether the values came from another process."""
    nans = [math.nan, float("nan"), np.float32("nan")]
    for values in ([{nan: 1} for nan in nans], [dict.fromkeys(nans, 1)]):
        assert list(aggregate(values, by_key=True).values()) == [3]
    pairs = [{("a", nan): 1} for nan in nans]
    assert list(aggregate(pairs, by_key=True).values()) == [3]


def test_matrix_products_keep_their_order(rng: np.random.Generator) -> None:
    matrices = [rng.integers(-2, 3, (3, 3)) for _ in range(7)]
    expected = list(itertools.accumulate(matrices, np.matmul))[-1]
    assert np.array_equal(aggregate(matrices, np.matmul), expected)


BAD: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
    ([], {}, OptionError, "no results"),
    ([1], {"how": "median"}, OptionError, "function of two values"),
    ([np.ones(2), np.ones(3)], {}, ShapeError, r"\(2,\) and \(3,\)"),
    ([np.ones((1, 2)), np.ones(2)], {"how": "mean"}, ShapeError, r"\(1, 2\) and \(2,\)"),
    ([[1], [2]], {}, DTypeError, "how='concat'"),
    ([{"a": 1}], {}, DTypeError, "by_key=True for mappings"),
    (["a"], {}, DTypeError, "numbers"),
    ([xr.DataArray([1.0], coords={"t": [t]}) for t in (1, 2)], {}, DTypeError, "numbers"),
    ([pd.Series([1])], {}, DTypeError, "numbers"),
    ([3], {"by_key": True}, DTypeError, "mappings"),
    ([3], {"how": "concat"}, DTypeError, "concatenated"),
    ([[1], np.ones(1)], {"how": "concat"}, DTypeError, "list and ndarray"),
    ([np.ones((1, 2)), np.ones((1, 3))], {"how": "concat"}, ShapeError, "concatenated"),
    ([1, 2], {"how": "mean", "weights": [1]}, ShapeError, "1 weights"),
    ([1], {"how": "mean", "weights": [1, 2]}, ShapeError, "2 weights for 1"),
    ([1], {"how": "mean", "weights": [-1]}, OptionError, "not negative"),
    ([1], {"how": "mean", "weights": [0]}, OptionError, "not zero"),
    ([1], {"weights": [1]}, OptionError, "for how='mean'"),
    ([np.int64(2**62)] * 4, {}, NumericRangeError, "beyond int64"),
    ([np.full(2, 2**63, "u8")] * 2, {}, NumericRangeError, "beyond uint64"),
    ([np.array([1]), np.array([2**63], "u8")], {}, NumericRangeError, "beyond int64"),
    ([1], {"how": "mean", "weights": iter([1])}, OptionError, "a sequence"),
]


@pytest.mark.parametrize(("values", "options", "error", "message"), BAD)
def test_what_cannot_be_put_together_is_refused(
    values: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        aggregate(values, **options)
