"""Products and diagonals of every shape and dtype are NumPy's."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import leptonhpc as lh
import leptonhpc.array_api as xp
from leptonhpc import store

from .stacked import DTYPES, allowed, near

SHAPES = [
    ((4,), (4,)), ((4,), (4, 3)), ((5, 4), (4,)), ((5, 4), (4, 3)), ((2, 5, 4), (4, 3)),
    ((4,), (2, 4, 3)), ((3, 1, 5, 4), (2, 4, 3)), ((2, 5, 4), (4,)), ((0, 4), (4, 3)),
    ((5, 0), (0, 3)), ((0, 2, 3), (3, 1)),
]  # fmt: skip


@pytest.mark.parametrize("dtypes", [("float32", "complex64"), ("float64", "float64")])
@pytest.mark.parametrize("shapes", SHAPES)
def test_products_broadcast_as_numpy_does(
    shapes: Any, dtypes: Any, rng: np.random.Generator
) -> None:
    a, b = (rng.uniform(-1, 1, s).astype(d) for s, d in zip(shapes, dtypes, strict=True))
    for x, y in itertools.product((a, lh.open(a)), (b, lh.open(b))):
        near(xp.matmul(x, y), np.matmul(a, b), allowed(4, a.dtype))


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int32", "int64", "uint64"])
def test_products_of_integers_are_exact_in_their_own_dtype(
    dtype: str, rng: np.random.Generator
) -> None:
    a = rng.integers(0, 100, (5, 5)).astype(dtype) + np.asarray(
        2**57 if "64" in dtype else 0, dtype
    )
    b = rng.integers(0, 5, (5, 3)).astype(dtype)
    for x, y in ((lh.open(a), b), (a, lh.open(b)), (lh.open(a), lh.open(b)), (a, b)):
        found = np.asarray(xp.matmul(x, y))
        assert found.dtype == np.dtype(dtype)
        assert np.array_equal(found, a @ b)
    found = np.asarray(xp.vecdot(lh.open(a[0]), b[:, 0]))
    assert found.dtype == np.dtype(dtype)
    assert found == np.vecdot(a[0], b[:, 0])


@pytest.mark.parametrize("dtype", [*DTYPES, "int64"])
def test_products_of_vectors_and_tensors_are_those_of_numpy(
    dtype: str, rng: np.random.Generator
) -> None:
    a, b = (rng.integers(-9, 9, s).astype(dtype) for s in ((5, 4), (4, 5)))
    if dtype.startswith("c"):
        a, b = a + np.asarray(2j, dtype), b - np.asarray(1j, dtype)
    blocked = lh.open(a), lh.open(b)
    pairs = [(a, b), blocked, (blocked[0], b)]
    for axes in (0, 1, ((0,), (1,)), ((1,), (0,)), ((-1,), (-2,)), ((0, 1), (1, 0))):
        for x, y in pairs:
            near(xp.tensordot(x, y, axes=axes), np.tensordot(a, b, axes=axes), 0, dtype)
    u, v = a[:, 0], b[0]
    for x, y in ((u, v), (lh.open(u), lh.open(v)), (u, lh.open(v))):
        near(xp.linalg.outer(x, y), np.outer(u, v), 0, dtype)
        near(xp.vecdot(x, y), np.vecdot(u, v), 0, dtype)
    near(xp.vecdot(lh.open(a), b.T), np.vecdot(a, b.T), 0, dtype)
    three = a[:, :3]
    near(xp.linalg.cross(lh.open(three), b.T[:, :3]), np.cross(three, b.T[:, :3]), 0, dtype)


@pytest.mark.parametrize("offset", [-9, -4, -1, 0, 2, 5, 7])
@pytest.mark.parametrize("shape", [(5, 7), (7, 5), (2, 3, 4), (0, 3), (2, 0, 3)])
def test_diagonals_are_those_of_numpy(shape: tuple[int, ...], offset: int) -> None:
    for dtype in ("int16", "float32", "bool"):
        a = (np.arange(np.prod(shape)).reshape(shape) % 7).astype(dtype)
        true = np.linalg.diagonal(a, offset=offset)
        for x in (a, lh.open(a)):
            near(xp.linalg.diagonal(x, offset=offset).astype(float), true.astype(float), 0)
            assert xp.linalg.diagonal(x, offset=offset).dtype == dtype
            near(xp.linalg.trace(x, offset=offset), np.linalg.trace(a, offset=offset), 0)
    assert xp.linalg.trace(np.ones((2, 2)), dtype=xp.float32).dtype == np.float32


def test_diagonal_of_a_large_array_reads_what_is_beside_it(tmp_path: Path) -> None:
    array = store.create_array(tmp_path / "x", shape=(3000, 2500), dtype="f8", chunks=(500, 500))
    a = np.arange(500.0)[:, None] * 3000 + np.arange(500.0)
    array.write_units((0, 0), a)  # the others are not stored: zeros
    found = xp.linalg.diagonal(lh.open(tmp_path / "x"), offset=-3)
    assert np.array_equal(found[:497], np.diagonal(a, -3)[:497])
    assert not found[497:].any()
    assert found.shape == (2500,)
