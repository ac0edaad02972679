"""Rows mixed by a butterfly: an orthogonal change that is read block by block."""

import numpy as np
import pytest

from leptonhpc.blocks import MemorySource
from leptonhpc.blocks.mixed import Butterfly, MixedRowsSource


@pytest.mark.parametrize("n", [1, 2, 7, 40])
def test_a_butterfly_is_orthogonal(n: int) -> None:
    w = Butterfly(n, 3).mix(np.eye(n))
    np.testing.assert_allclose(w.T @ w, np.eye(n), atol=8 * np.finfo(float).eps)
    np.testing.assert_allclose(Butterfly(n, 3).unmix(w), np.eye(n), atol=8 * np.finfo(float).eps)
    assert np.linalg.det(w) == pytest.approx(1)


def test_a_butterfly_depends_on_its_seed_alone() -> None:
    a = np.arange(12.0).reshape(6, 2)
    np.testing.assert_array_equal(Butterfly(6, 1).mix(a), Butterfly(6, 1).mix(a))
    assert not np.array_equal(Butterfly(6, 1).mix(a), Butterfly(6, 2).mix(a))


@pytest.mark.parametrize("dtype", ["i2", "f4", "f8", "c16"])
@pytest.mark.parametrize("n", [9, 10])
def test_any_region_is_that_of_the_whole(dtype: str, n: int, rng: np.random.Generator) -> None:
    a = (100 * rng.standard_normal((n, 4))).astype(dtype)
    compute = np.result_type(dtype, "f4")
    whole = Butterfly(n, 5).mix(a.astype(compute))
    source = MixedRowsSource(MemorySource(a), compute, 5)
    allowed = 4 * np.finfo(compute).eps * np.abs(a).max()
    for start in range(n):
        for stop in range(start + 1, n + 1):
            block = source.read(((start, stop), (1, 4)))
            assert block.dtype == compute
            into = np.empty((stop - start, 3), compute)
            assert source.read(((start, stop), (1, 4)), into) is into
            assert np.array_equal(into, block)
            np.testing.assert_allclose(block, whole[start:stop, 1:4], rtol=0, atol=allowed)
    vector = MixedRowsSource(MemorySource(a[:, 0].copy()), compute, 5)
    np.testing.assert_allclose(vector.read(((0, n),)), whole[:, 0], rtol=0, atol=allowed)
