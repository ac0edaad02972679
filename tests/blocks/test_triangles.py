"""Triangles of packed factors, seen instead of copied."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import leptonhpc as lh
from leptonhpc.blocks import MemorySource
from leptonhpc.blocks.triangles import TriangleSource
from leptonhpc.kernels.dense import getrf, permute
from leptonhpc.linalg.lu import permutation
from leptonhpc.runtime import targets


def packed(a: np.ndarray, edges: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Factor by left-looking panels: rows of L stay where their panel left them."""
    work, m = a.copy(), len(a)
    pivots = np.zeros(0, np.int64)
    for c0, c1 in pairwise(edges):
        panel = work[:, c0:c1]
        for low, high in pairwise(e for e in edges if e <= c0):
            low, high = min(low, m), min(high, m)
            permute(panel, pivots[low:high] - low, first=low)
            lower = np.tril(work[low:high, low:high], -1) + np.eye(high - low)
            panel[low:high] = np.linalg.solve(lower, panel[low:high])
            panel[high:] -= work[high:, low:high] @ panel[low:high]
        if c0 < m:
            below = np.ascontiguousarray(panel[c0:])
            pivots = np.concatenate([pivots, getrf(below) + c0])
            panel[c0:] = below
    return work, pivots


@given(
    shape=st.sampled_from([(7, 7), (9, 5), (5, 9), (12, 12), (1, 3)]), width=st.integers(1, 12),
    seed=st.integers(0, 100), data=st.data(),
)  # fmt: skip
def test_their_product_is_the_matrix_with_its_rows_exchanged(
    shape: tuple[int, int], width: int, seed: int, data: st.DataObject
) -> None:
    m, n = shape
    a = np.random.default_rng(seed).standard_normal(shape)
    edges = (*range(0, n, width), n)
    work, pivots = packed(a, edges)
    lower, upper = (
        TriangleSource(MemorySource(work), part, edges, pivots) for part in ("lower", "upper")
    )
    low, up = (s.read(tuple((0, k) for k in s.shape)) for s in (lower, upper))
    bound = 8 * max(m, n) * np.finfo(float).eps * np.linalg.norm(low) * np.linalg.norm(up)
    assert np.linalg.norm(low @ up - a[permutation(pivots, m)]) <= bound
    assert (np.triu(low, 1) == 0).all()
    assert (np.tril(up, -1) == 0).all()
    assert (low.diagonal() == 1).all()
    for source, whole in ((lower, low), (upper, up)):
        region = tuple(
            tuple(sorted(data.draw(st.tuples(st.integers(0, k), st.integers(0, k)))))
            for k in source.shape
        )
        part = whole[tuple(slice(*pair) for pair in region)]
        assert np.array_equal(source.read(region), part)


def test_lu_in_memory_gives_the_same_triangles_seen_or_copied(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    a = np.random.default_rng(1).standard_normal((300, 300))
    copied = lh.lu(a)
    monkeypatch.setattr(targets, "_COPIED_NBYTES", 0)
    seen = lh.lu(a)
    assert isinstance(copied.l, np.ndarray)
    assert isinstance(seen.l, lh.BlockedArray)
    for name in ("perm", "l", "u"):
        assert np.array_equal(np.asarray(getattr(seen, name)), getattr(copied, name))
    x = np.arange(300.0)
    assert np.array_equal(seen.solve(a @ x).x, copied.solve(a @ x).x)
