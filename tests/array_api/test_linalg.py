"""Arrays in Zarr, results that stay there, and mistakes; the namespace is complete."""

from __future__ import annotations

import doctest
from pathlib import Path

import numpy as np
import pytest

import leptonhpc as lh
import leptonhpc.array_api as xp
from leptonhpc.errors import (
    LeptonError,
    MemoryBudgetError,
    NotAnArrayError,
    OptionError,
    ShapeError,
)
from leptonhpc.testing import put

from .stacked import DTYPES, adjoint, allowed, hermitian, matrices, near, real


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("chunks", [(16, 16), (7, 40), (64, 9)])
def test_arrays_in_zarr_give_what_numpy_gives(
    dtype: str, chunks: tuple[int, int], tmp_path: Path
) -> None:
    a = matrices((), (40, 40), dtype, 3)
    x, bound = lh.open(put(a, tmp_path / "x", chunks=chunks)), allowed(40, dtype, 10)
    assert xp.asarray(x) is x
    near(xp.matmul(x, x), a @ a, bound, dtype)
    near(xp.matrix_transpose(x), a.T, 0, dtype)
    near(xp.linalg.inv(x), np.linalg.inv(a), 10 * bound, dtype)
    near(xp.linalg.solve(x, a[:, 0]), np.eye(40)[0], 10 * bound, dtype)
    q, r = xp.linalg.qr(x[:, :11])
    near(np.asarray(q) @ np.asarray(r), a[:, :11], bound, dtype)
    near(xp.linalg.matrix_norm(x), np.linalg.norm(a), 4 * bound, real(dtype))
    h = hermitian((), 40, dtype, 3)
    y = lh.open(put(h, tmp_path / "h", chunks=chunks))
    lower = np.asarray(xp.linalg.cholesky(y))
    near(lower @ adjoint(lower), h, bound, dtype)
    near(xp.linalg.eigvalsh(y), np.linalg.eigvalsh(h), bound, real(dtype))


def test_a_large_result_stays_blocked_and_lives_as_long_as_it_is_used(
    rng: np.random.Generator,
) -> None:
    a = rng.standard_normal((3000, 30))
    with xp.using_drivers(memory="240 MB"):
        product = xp.matmul(lh.open(a), lh.open(a.T))  # 72 MB
    assert isinstance(product, lh.BlockedArray)
    part = product[:100, :100]
    folder = Path(product.source.array.name).parent
    del product
    true = a[:100] @ a[:100].T
    assert np.max(np.abs(np.asarray(part) - true)) <= allowed(30, float) * np.max(np.abs(true))
    assert folder.exists()
    del part
    assert not folder.exists()


@pytest.mark.parametrize("kind", ["stack", "qr", "svd", "transpose", "cross", "norm", "asarray"])
def test_nothing_large_is_read_into_memory_unasked(kind: str) -> None:
    big = lh.open(np.broadcast_to(np.float64(1), (400_000, 3)))  # 9.6 MB; its square 1.3 TB
    stack = lh.open(np.broadcast_to(np.float64(1), (100, 1000, 1000)))
    calls = {
        "stack": lambda: xp.linalg.diagonal(stack),
        "qr": lambda: xp.linalg.qr(big, mode="complete"),
        "svd": lambda: xp.linalg.svd(big),
        "transpose": lambda: xp.matrix_transpose(stack),
        "cross": lambda: xp.linalg.cross(big, big),
        "norm": lambda: xp.linalg.vector_norm(big, axis=1),
        "asarray": lambda: xp.asarray(big, dtype=xp.float32),
    }
    memory = {"qr": "250 MB", "svd": "250 MB", "stack": "1 MB"}.get(kind, "15 MB")
    with xp.using_drivers(memory=memory), pytest.raises(MemoryBudgetError, match="in this process"):
        calls[kind]()


def test_small_or_unusual_numpy_arrays_go_to_numpy() -> None:
    with xp.using_drivers():
        asymmetric = np.asarray([[2.0, 9.0], [1.0, 2.0]])  # the drivers would refuse it
        assert np.array_equal(xp.linalg.eigh(asymmetric).eigenvalues, [1, 3])
    nan = np.asarray([[np.nan, 1.0], [1.0, 2.0]])
    with np.errstate(invalid="ignore"):
        assert np.isnan(xp.linalg.det(nan))  # NumPy's arrays behave alike at all sizes
    assert xp.linalg.inv(np.empty((0, 0))).shape == (0, 0)
    assert np.array_equal(xp.linalg.det(np.empty((3, 0, 0))), np.ones(3))
    with pytest.raises(LeptonError, match="has nan at index"):
        xp.linalg.det(lh.open(nan))


def test_empty_results_are_made_without_reading_what_is_not_empty() -> None:
    vast = lh.open(np.broadcast_to(np.float64(1), (10**6, 10**6)))  # 8 TB
    nothing = np.empty((10**6, 0), np.complex64)
    for found in (xp.matmul(vast, nothing), xp.linalg.solve(vast, nothing)):
        assert (found.shape, found.dtype) == ((10**6, 0), np.dtype(np.complex128))
    blocked = lh.open(np.empty((3, 0)))
    near(xp.matmul(blocked, np.empty((0, 2))), np.zeros((3, 2)), 0)
    with pytest.raises(MemoryBudgetError, match="of nothing"):
        xp.matmul(nothing, lh.open(np.empty((0, 10**6))))


def test_a_blocked_side_of_a_small_matrix_is_taken(rng: np.random.Generator) -> None:
    for shape in ((5, 5), (2, 5, 5)):
        a, b = rng.standard_normal(shape) + 9 * np.eye(5), rng.standard_normal(5)
        with xp.using_drivers(memory="1 GB"):
            found = xp.linalg.solve(a, lh.open(b))
        near(found, np.linalg.solve(a, b), allowed(5, float))


def test_mistakes_are_typed_errors() -> None:
    with pytest.raises(ShapeError, match=r"square .*\(2, 3\)"):
        xp.linalg.det(np.ones((2, 3)))
    with pytest.raises(ShapeError, match="matrix"):
        xp.linalg.svd(np.ones(3))
    with pytest.raises(ShapeError, match="length 2"):
        xp.linalg.solve(np.eye(2), np.ones(3))
    with pytest.raises(ShapeError, match="broadcast"):
        xp.matmul(np.ones((2, 2, 2)), np.ones((3, 2, 2)))
    with pytest.raises(ShapeError, match="length 3"):
        xp.linalg.cross(np.ones(2), np.ones(2))
    with pytest.raises(ShapeError, match="vectors"):
        xp.linalg.outer(np.ones((2, 2)), np.ones(2))
    with pytest.raises(LeptonError, match="mode"):
        xp.linalg.qr(np.eye(2), mode="r")
    with pytest.raises(LeptonError, match="whole power"):
        xp.linalg.matrix_power(np.eye(2), 0.5)
    with pytest.raises(NotAnArrayError, match=r"leptonhpc\.open"):
        xp.linalg.det("x.zarr")


def test_the_example_of_the_documentation_runs() -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "array-api.md"
    text = page.read_text().replace("```", "")
    example = doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0)
    assert len(example.examples) >= 8
    assert doctest.DocTestRunner().run(example).failed == 0


def test_the_namespace_is_complete() -> None:
    assert xp.linalg.__name__ == "leptonhpc.array_api.linalg"
    assert xp.__array_api_version__ == "2024.12"
    x = lh.open(np.eye(2))
    assert x.__array_namespace__(api_version="2023.12") is xp
    with pytest.raises(OptionError, match="2024.12"):
        x.__array_namespace__(api_version="2099.12")
    assert set(xp.__array_namespace_info__().capabilities()) >= {"boolean indexing"}
    functions = [n for n in xp.linalg.__all__ if not n.endswith("Result")]
    assert len(functions) == 23
    for name in ("matmul", "matrix_transpose", "tensordot", "vecdot"):
        assert getattr(xp, name) is getattr(xp.linalg, name)
    assert isinstance(xp.ones((2, 2)), np.ndarray)
    assert xp.asarray([1, 2], dtype=xp.float32).dtype == np.float32
