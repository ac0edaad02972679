"""`aggregate_results`: values of parts put together."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from leptonhpc.errors import DTypeError, NumericRangeError, OptionError, ShapeError
from leptonhpc.parallel.folding import Combine, Tree
from leptonhpc.parallel.process import Results


def aggregate_results(
    results: Iterable[Any],
    how: str | Callable[[Any, Any], Any] = "sum",
    *,
    by_key: bool = False,
    weights: Sequence[float] | None = None,
) -> Any:
    """Put results together, as they come, in one fixed order.

    Parameters
    ----------
    results : Results or iterable
        Of `parallel_process`, which then is not waited for in order; or any values.
    how : {"sum", "mean", "concat"} or callable
        Sum or mean of numbers or arrays of one shape; arrays, lists, texts or DataFrames one after
        the other; or an associative function of two values, the earlier first.
    by_key : bool
        Values are mappings, and those of the same key are put together (as in MapReduce).
    weights : sequence of float, optional
        Of each result in a mean: the `sizes` of parts whose means these are, for instance.

    Returns
    -------
    object
        What the values are together; a dictionary with `by_key`, its keys in the order of the parts
        in which they first occur; NaN is one key. Whole numbers are summed as int64 or uint64,
        half precision as float32.

    Raises
    ------
    OptionError
        If there are no results, or keywords do not fit together.
    ShapeError
        If arrays that are summed have unlike shapes, or there is not one weight for each result.
    DTypeError
        If values are not of a kind that can be put together so.
    NumericRangeError
        If a sum of whole numbers is beyond 64 bits.

    Notes
    -----
    Values are combined in a binary tree whose shape depends on their number only: the same bits,
    whatever the cluster and the order in which they came. Few values are in memory at once: those
    that wait for an earlier one (but all of them with "concat").

    Examples
    --------
    >>> import leptonhpc as lh
    >>> def count(words):
    ...     return {word: words.count(word) for word in words}
    >>> counts = lh.parallel.parallel_process(count, [["to", "be"], ["or", "not", "to", "be"]])
    >>> lh.parallel.aggregate_results(counts, "sum", by_key=True)
    {'to': 2, 'be': 2, 'or': 1, 'not': 1}
    """
    if weights is not None and (how != "mean" or by_key):
        raise OptionError("weights= is for how='mean', without by_key")
    if weights is not None and not hasattr(weights, "__len__"):
        raise OptionError(f"weights are a sequence; found {weights!r}")
    fold = _fold(how)
    fold = _by_key(fold) if by_key else fold
    tree, count = Tree(fold.combine), 0
    for number, value in _numbered(results):
        weight = 1.0 if weights is None else _weight(weights, number)
        tree.add(number, fold.leaf(value, weight))
        count += 1
    if weights is not None and len(weights) != count:
        raise ShapeError(f"there are {len(weights)} weights for {count} results")
    if not tree:
        raise OptionError("there are no results to aggregate: no part gave one")
    return fold.finish(tree.result())


@dataclass(frozen=True)
class _Fold:
    leaf: Callable[[Any, float], Any]
    combine: Combine
    finish: Callable[[Any], Any]


def _fold(how: str | Callable[[Any, Any], Any]) -> _Fold:
    if callable(how):
        return _Fold(lambda value, _: value, how, lambda value: value)
    if how == "sum":
        return _Fold(lambda value, _: _summable(value), _plus, lambda value: value)
    if how == "mean":
        return _Fold(_weighted, _plus_weighted, _divided)
    if how == "concat":
        return _Fold(lambda value, _: [value], _joined, _concatenated)
    message = f"how is 'sum', 'mean', 'concat' or a function of two values; found {how!r}"
    raise OptionError(message)


def _by_key(fold: _Fold) -> _Fold:
    def leaf(value: Any, weight: float) -> dict[Any, Any]:
        if not isinstance(value, Mapping):
            raise DTypeError(f"by_key needs mappings; a result is a {type(value).__name__}")
        given: dict[Any, Any] = {}
        for key, each in value.items():
            combine(given, {_one_key(key): fold.leaf(each, weight)})
        return given

    def combine(left: dict[Any, Any], right: dict[Any, Any]) -> dict[Any, Any]:
        for key, value in right.items():
            left[key] = fold.combine(left[key], value) if key in left else value
        return left

    def finish(values: dict[Any, Any]) -> dict[Any, Any]:
        return {key: fold.finish(value) for key, value in values.items()}

    return _Fold(leaf, combine, finish)


def _one_key(key: Any) -> Any:
    """Give one NaN for all: each is another key to Python, but for the same object."""
    if isinstance(key, tuple) and type(key) is tuple:
        return tuple(map(_one_key, key))
    return math.nan if isinstance(key, float | np.floating) and key != key else key


def _numbered(results: Iterable[Any]) -> Iterator[tuple[int, Any]]:
    return results.as_completed() if isinstance(results, Results) else enumerate(results)


def _weight(weights: Sequence[float], number: int) -> float:
    if number >= len(weights):
        raise ShapeError(f"there are {len(weights)} weights and more results")
    weight = float(weights[number])
    if not 0 <= weight < np.inf:
        raise OptionError(f"weights are not negative; that of result {number} is {weight}")
    return weight


def _summable(value: Any) -> Any:
    """Give a number, or an array wide enough for a sum: int8 would overflow."""
    if isinstance(value, bool | int | float | complex):
        return value
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    labelled = hasattr(value, "iloc") or hasattr(value, "coords")  # would be summed by labels
    if not kind or kind not in "biufc" or labelled:
        message = (
            f"numbers and arrays of numbers are summed; a result is a {type(value).__name__}. Use "
            "how='concat', by_key=True for mappings, or a function of two values"
        )
        raise DTypeError(message)
    if value.dtype == np.float16:
        return value.astype("f4")
    return value.astype("u8" if kind == "u" else "i8") if kind in "biu" else value


def _plus(left: Any, right: Any) -> Any:
    if np.shape(left) != np.shape(right):
        message = f"results of shapes {np.shape(left)} and {np.shape(right)} cannot be summed"
        raise ShapeError(message)
    if not (_is_whole(left) and _is_whole(right)):
        return left + right
    if isinstance(left, int) or isinstance(right, int):
        return int(left) + int(right)
    if left.dtype != right.dtype:
        left, right = (_signed(each) for each in (left, right))
    with np.errstate(over="ignore"):  # said below, for arrays too
        total = left + right
    # signed: both have the other sign than their sum; unsigned: that is below one of them
    wrong = ((left ^ total) & (right ^ total)) < 0 if total.dtype.kind == "i" else total < left
    if np.any(wrong):
        raise NumericRangeError(_beyond(total.dtype))
    return total


def _is_whole(value: Any) -> bool:
    if isinstance(value, int):
        return True
    return isinstance(value, np.ndarray | np.integer) and value.dtype.kind in "iu"


def _signed(value: Any) -> Any:
    """Give int64 of uint64: NumPy would add the two as floats."""
    if value.dtype.kind == "u" and np.any(value >= 2**63):
        raise NumericRangeError(_beyond(np.dtype("i8")))
    return value.astype("i8")


def _beyond(dtype: np.dtype[Any]) -> str:
    return (
        f"a sum of whole numbers is beyond {dtype}. Give floats, or numbers of Python, which are "
        "summed exactly"
    )


def _weighted(value: Any, weight: float) -> tuple[Any, float]:
    return _summable(value) * weight, weight


def _plus_weighted(left: tuple[Any, float], right: tuple[Any, float]) -> tuple[Any, float]:
    return _plus(left[0], right[0]), left[1] + right[1]


def _divided(pair: tuple[Any, float]) -> Any:
    if not pair[1] > 0:
        raise OptionError("a mean needs a weight that is not zero")
    return pair[0] / pair[1]


def _joined(left: list[Any], right: list[Any]) -> list[Any]:
    left += right
    return left


def _concatenated(values: list[Any]) -> Any:
    first = values[0]
    if all(isinstance(value, np.ndarray) and value.ndim for value in values):
        masked = any(isinstance(value, np.ma.MaskedArray) for value in values)
        try:
            return (np.ma if masked else np).concatenate(values)
        except ValueError as error:
            raise ShapeError(f"results cannot be concatenated: {error}") from error
    unlike = next((value for value in values if not isinstance(value, type(first))), first)
    if unlike is not first:
        kinds = f"{type(first).__name__} and {type(unlike).__name__}"
        raise DTypeError(f"results of one kind are concatenated; found {kinds}")
    if hasattr(first, "iloc"):
        import pandas as pd

        return pd.concat(values)
    if isinstance(first, str | bytes):
        return first[:0].join(values)
    if isinstance(first, list | tuple):
        return type(first)(itertools.chain.from_iterable(values))
    message = (
        f"arrays, lists, tuples, texts and DataFrames are concatenated; a result is a "
        f"{type(first).__name__}. list(results) gives the results as they are"
    )
    raise DTypeError(message)
