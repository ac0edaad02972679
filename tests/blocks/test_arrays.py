"""Blocked arrays: the same values as NumPy, whatever the expression and the blocks."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr

import leptonhpc as lh
from leptonhpc.blocks import BlockedArray
from leptonhpc.errors import DTypeError, LeptonError, NotAnArrayError, ShapeError

Pair = tuple[BlockedArray, np.ndarray]


@pytest.fixture(params=["float64", "complex64", "int16"])
def pair(request: pytest.FixtureRequest, tmp_path: Path, rng: np.random.Generator) -> Pair:
    values = rng.integers(-50, 50, (23, 17)).astype(request.param)
    if values.dtype.kind == "c":
        values = values + values.dtype.type(1j) * values[::-1]
    array = zarr.create_array(tmp_path / "x", shape=(23, 17), dtype=values.dtype, chunks=(5, 4))
    array[...] = values
    return lh.open(tmp_path / "x"), values


EXPRESSIONS: dict[str, Callable[[Any], Any]] = {
    "itself": lambda x: x,
    "transposed": lambda x: x.T,
    "transposed twice": lambda x: x.T.T,
    "sum": lambda x: x + x,
    "difference": lambda x: x - 2 * x,
    "product": lambda x: x * x,
    "numbers": lambda x: 3 - (1 + x * 2.5),
    "complex number": lambda x: x * 2j,
    "part": lambda x: x[3:19, 2:-1],
    "part of a part": lambda x: x[3:19, 2:-1][1:6, 4:],
    "rows": lambda x: x[7:],
    "nothing": lambda x: x[5:5],
    "part of transposed": lambda x: x.T[2:9, 1:22],
    "transposed part": lambda x: x[2:9, 1:].T,
    "matrix product": lambda x: x @ x.T,
    "part of product": lambda x: (x.T @ x)[2:9, 3:5],
    "product of sums": lambda x: (x + 1) @ (x - 1).T,
}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_expressions_give_what_numpy_gives(name: str, pair: Pair) -> None:
    x, values = pair
    lazy, expected = EXPRESSIONS[name](x), EXPRESSIONS[name](values)
    assert isinstance(lazy, BlockedArray)
    assert (lazy.shape, lazy.dtype) == (expected.shape, expected.dtype)
    # all numbers are small integers (or halves), so that products and sums are exact
    assert np.array_equal(np.asarray(lazy), expected)
    assert np.array_equal(lazy.compute(), expected)


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_expressions_are_tokenized_by_what_they_are(name: str, pair: Pair) -> None:
    from dask.base import tokenize

    x, _ = pair
    lazy = EXPRESSIONS[name](x)
    others = {tokenize(f(x)) for key, f in EXPRESSIONS.items() if key not in (name, "itself")}
    assert tokenize(lazy) == tokenize(EXPRESSIONS[name](x))
    if name not in ("transposed twice", "itself"):
        assert tokenize(lazy) not in others


def test_the_adjoint_is_the_conjugate_transpose(pair: Pair) -> None:
    x, values = pair
    assert np.array_equal(np.asarray(x.H), values.conj().T)
    assert np.array_equal(np.asarray(x.H.H), values)
    assert np.array_equal(np.asarray(x.H.T), values.conj())


def test_arrays_and_their_expressions_travel(pair: Pair) -> None:
    x, values = pair
    again = pickle.loads(pickle.dumps((x + 1).T[1:5]))
    assert np.array_equal(np.asarray(again), (values + 1).T[1:5])


def test_blocks_by_index_are_the_blocks(pair: Pair) -> None:
    x, values = pair
    assert np.array_equal(np.asarray(x.blocks[4, 1]), values[20:, 4:8])
    for index in ((9, 0), (0,), (0, 9)):
        with pytest.raises((LeptonError, IndexError)):
            x.blocks[index]


def test_the_last_block_is_reached_as_in_python_or_refused(pair: Pair) -> None:
    x, values = pair
    try:
        found = np.asarray(x.blocks[-1, -1])
    except (LeptonError, IndexError):
        return
    assert np.array_equal(found, values[20:, 16:])


@pytest.mark.parametrize("key", [3, (0, 1), (slice(None, None, 2),), ([1, 2],), (slice(None),) * 3])
def test_selections_that_are_not_slices_are_refused(key: Any, pair: Pair) -> None:
    with pytest.raises(ShapeError, match="slices"):
        pair[0][key]


def test_shapes_that_do_not_agree_are_refused(pair: Pair) -> None:
    x, _ = pair
    for wrong in (lambda: x + x.T, lambda: x @ x, lambda: x * x[:5]):
        with pytest.raises(ShapeError):
            wrong()


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("operation", ["+", "*", "@"])
def test_numpy_arrays_combine_rightly_or_are_refused(operation: str, side: str, pair: Pair) -> None:
    x, values = pair
    other = values.T.copy() if operation == "@" else values.copy()
    apply: Callable[[Any, Any], Any] = {
        "+": lambda a, b: a + b, "*": lambda a, b: a * b, "@": lambda a, b: a @ b,
    }[operation]  # fmt: skip
    left, right = (x, other) if side == "right" else (other, x)
    a, b = (values, other) if side == "right" else (other, values)
    try:
        found = np.asarray(apply(left, right))
    except (LeptonError, TypeError):
        return
    assert np.array_equal(found, apply(a, b))


@pytest.mark.parametrize("row", [(1, 17), (17,)])
def test_rows_are_not_broadcast_block_by_block(row: tuple[int, ...], pair: Pair) -> None:
    x, values = pair
    try:
        found = np.asarray((x + np.arange(17).reshape(row)).compute())
    except (LeptonError, TypeError):
        return
    assert np.array_equal(found, values + np.arange(17).reshape(row))


def test_numbers_of_numpy_stay_lazy_on_both_sides(pair: Pair) -> None:
    x, values = pair
    for lazy in (x * np.float64(2), np.float64(2) * x, np.float32(1) + x):
        assert isinstance(lazy, BlockedArray)
    assert np.array_equal(np.asarray(np.float64(2) * x), 2.0 * values)


def test_three_dimensions_are_one_matrix(tmp_path: Path, rng: np.random.Generator) -> None:
    values = rng.standard_normal((11, 4, 6))
    array = zarr.create_array(
        tmp_path / "x", shape=values.shape, dtype="f8", chunks=(3, 2, 6),
        dimension_names=("time", "lat", "lon"),
    )  # fmt: skip
    array[...] = values
    x = lh.open(tmp_path / "x")
    assert x.dims == ("time", "lat", "lon")
    m = x.as_matrix()
    assert np.array_equal(np.asarray(m), values.reshape(11, 24))
    assert np.array_equal(np.asarray(m[2:9, 5:20]), values.reshape(11, 24)[2:9, 5:20])
    assert np.array_equal(x.compute(), values)
    with pytest.raises(ShapeError, match="as_matrix"):
        lh.svd(x, rank=2)


@pytest.mark.parametrize("values", [np.arange(5.0), np.array(3.0), np.zeros((0, 4)), np.zeros(0)])
def test_every_number_of_dimensions_computes(values: np.ndarray) -> None:
    x = lh.open(values)
    assert np.array_equal(np.asarray(x), values)
    assert np.array_equal(x.compute(), values)
    assert x.compute().shape == values.shape


def test_chunks_of_the_user_are_kept(pair: Pair, tmp_path: Path) -> None:
    x = lh.open(tmp_path / "x", chunks=(10, 17))
    assert x.chunks == ((10, 10, 3), (17,))
    assert np.array_equal(x.compute(), pair[1])


def test_drawings_show_shape_blocks_and_place(pair: Pair, tmp_path: Path) -> None:
    x, _ = pair
    text = repr(x)
    assert "(23, 17)" in text
    assert "25 blocks of up to (5, 4)" in text
    assert str(tmp_path / "x") in text
    assert text.count("--+") == 6 * 5
    html = x._repr_html_()
    assert "<svg" in html
    assert html.count("<line") == 12


@pytest.mark.parametrize("shape", [(0, 4), (5,), (3, 4, 5), (1, 1)])
def test_drawings_of_any_shape_are_drawn(shape: tuple[int, ...]) -> None:
    x = lh.open(np.zeros(shape))
    assert str(shape) in repr(x)
    assert str(shape) in x._repr_html_()


def test_names_are_escaped_in_html(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "<b>&", shape=(2, 2), dtype="f8")
    assert "<b>&" not in lh.open(tmp_path / "<b>&")._repr_html_()


@pytest.mark.parametrize(
    "source", [{"a": 1}, None, 3j, object(), {1, 2}, "s3", b"x"], ids=lambda s: type(s).__name__
)
def test_what_is_no_array_is_refused(source: Any) -> None:
    with pytest.raises(LeptonError):
        lh.open(source)


def test_dtypes_that_are_no_numbers_are_refused() -> None:
    for values in (np.array(["a"]), np.array([object()]), np.zeros(2, "M8[s]"), np.zeros(2, "g")):
        with pytest.raises((DTypeError, NotAnArrayError)):
            lh.open(values)


def test_a_mask_is_not_lost() -> None:
    masked = np.ma.masked_less(np.arange(6.0).reshape(2, 3), 2)
    with pytest.raises(DTypeError, match="2 values are masked"):
        lh.open(masked)
    with pytest.raises(DTypeError, match="2 values are masked"):
        lh.norm(da.from_array(masked, chunks=(2, 3)))
    assert lh.norm(np.ma.array([[3.0, 4.0]])).value == 5
