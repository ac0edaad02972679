"""The same question has the same answer on any grid, in any memory, by any method."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import leptonhpc as lh
from leptonhpc.testing import largest_departure, matrix_with_spectrum, put, rounding
from leptonhpc.testing.strategies import grids, matrices

SHAPES = [(300, 72), (72, 300)]
METHODS = ["gram", "krylov", "sketch"]
pytestmark = pytest.mark.filterwarnings("ignore::leptonhpc.errors.NotConvergedWarning")


def matrix(shape: tuple[int, int], dtype: str = "float64") -> np.ndarray:
    return matrix_with_spectrum(shape, 0.6 ** np.arange(72.0), dtype=dtype, seed=11)


def differ(x: lh.SvdResult, y: lh.SvdResult, a: np.ndarray) -> float:
    """Give the largest difference of two results, over what rounding may make of it."""
    eps, s = np.finfo(a.dtype).eps, x.s.astype(float)
    # vectors turn by rounding / gap; neighbours differ by 0.4 s; c = 64 n for two whole runs
    gap = 0.4 * s
    worst = largest_departure(x.s, y.s) / (64 * 72 * eps * s[0])
    for p, q in ((x.u, y.u), (x.vh.conj().T, y.vh.conj().T)):
        turned = np.max(np.abs(np.asarray(p) - np.asarray(q)), axis=0)
        worst = max(worst, float(np.max(turned * gap / (64 * 72 * eps * s[0]))))
    return worst


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", SHAPES)
@settings(max_examples=5)
@given(data=st.data())
def test_no_chunk_shape_and_no_memory_budget_changes_the_answer(
    shape: tuple[int, int], method: str, data: st.DataObject
) -> None:
    a = matrix(shape)
    center = data.draw(st.booleans())
    options = {"rank": 3, "method": method, "center": center, "seed": 5}
    reference = lh.svd(a, memory="2 GB", **options)
    chunks = data.draw(grids(shape))
    storage = data.draw(st.sampled_from(["zarr3", "zarr2", "sharded"]))
    memory = data.draw(st.sampled_from(["165 MB", "170 MB", "200 MB", "1 GB"]))
    with tempfile.TemporaryDirectory() as folder:
        place = put(a, Path(folder) / "a.zarr", chunks=chunks, storage=storage)
        assert differ(reference, lh.svd(place, memory=memory, **options), a) <= 1


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_the_same_seed_gives_the_same_bits_again(method: str, dtype: str) -> None:
    a = matrix((300, 72), dtype)
    x, y = (lh.svd(a, rank=3, method=method, seed=9, memory="1 GB") for _ in range(2))
    for p, q in ((x.u, y.u), (x.s, y.s), (x.vh, y.vh)):
        assert np.array_equal(p, q)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
def test_methods_agree_within_their_accuracy(shape: tuple[int, int], dtype: str) -> None:
    a = matrix(shape, dtype)
    options = {"rank": 3, "accuracy": 1e-5, "memory": "1 GB"}
    gram, krylov = (lh.svd(a, method=m, **options) for m in ("gram", "krylov"))
    # residual / gap for vectors, twice; gaps are 0.4 s at least
    allowed = 2 * 1e-5 / 0.4 + 8 * 72 * np.finfo(dtype).eps / 0.4 / 0.36
    assert np.max(np.abs(gram.s - krylov.s) / gram.s) <= allowed
    assert largest_departure(gram.u, krylov.u) <= allowed
    assert largest_departure(gram.vh, krylov.vh) <= allowed


@pytest.mark.parametrize("shape", SHAPES)
def test_seeds_change_random_methods_by_no_more_than_their_accuracy(
    shape: tuple[int, int],
) -> None:
    a = matrix(shape)
    results = [
        lh.svd(a, rank=3, method="krylov", seed=s, accuracy=1e-6, memory="1 GB") for s in range(3)
    ]
    for other in results[1:]:
        assert largest_departure(results[0].vh, other.vh) <= 2 * 1e-6 / 0.4


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_the_largest_entry_of_each_short_vector_is_real_and_positive(
    method: str, shape: tuple[int, int], dtype: str
) -> None:
    r = lh.svd(matrix(shape, dtype), rank=3, method=method, memory="1 GB")
    short = r.vh.conj().T if shape[0] > shape[1] else r.u
    size = np.abs(short)
    # the first of the entries within a thousandth of the largest
    lead = short[np.argmax(size >= 0.999 * size.max(axis=0), axis=0), np.arange(3)]
    assert np.all(lead.real > 0)
    assert np.all(np.abs(lead.imag) <= 4 * np.finfo(float).eps)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_negated_matrix_keeps_its_short_vectors_and_turns_the_long_ones(
    shape: tuple[int, int],
) -> None:
    a = matrix(shape)
    x, y = lh.svd(a, rank=3, memory="1 GB"), lh.svd(-a, rank=3, memory="1 GB")
    wide = shape[0] < shape[1]
    assert largest_departure(x.u, y.u if wide else -y.u) <= 64 * 72 * np.finfo(float).eps
    assert largest_departure(x.vh, -y.vh if wide else y.vh) <= 64 * 72 * np.finfo(float).eps


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("shape", SHAPES)
def test_transposes_exchange_the_factors(shape: tuple[int, int], dtype: str) -> None:
    a = lh.open(matrix(shape, dtype))
    x = lh.svd(a, rank=3, memory="1 GB")
    for b, factors in (
        (a.H, lambda r: (r.vh.conj().T, r.u.conj().T)),
        (a.T, lambda r: (r.vh.T, r.u.T)),
        (a.T.T, lambda r: (r.u, r.vh)),
        (a.H.H, lambda r: (r.u, r.vh)),
        (a.H.T, lambda r: (r.u.conj(), r.vh.conj())),
    ):
        y = lh.svd(b, rank=3, memory="1 GB")
        u, vh = factors(y)
        product = (x.u * x.s) @ x.vh
        assert largest_departure((u * y.s) @ vh, product) <= 64 * 72 * np.finfo(float).eps


def test_one_scale_changes_values_only() -> None:
    a = matrix((300, 72))
    x, y = lh.svd(a, rank=3, memory="1 GB"), lh.svd(1024 * a, rank=3, memory="1 GB")
    assert np.array_equal(1024 * x.s, y.s)
    assert np.array_equal(x.vh, y.vh)


@settings(max_examples=20)
@given(a=matrices(40))
def test_any_matrix_is_given_back_by_all_its_modes(a: np.ndarray) -> None:
    r = lh.svd(a, memory="1 GB")
    error = np.linalg.norm(a - (r.u * r.s) @ r.vh)
    assert error <= np.sqrt(min(a.shape)) * rounding(a, a.dtype, terms=min(a.shape))
    assert len(r.s) == min(a.shape)
