"""The largest eigenpairs of a Gram matrix, also where LAPACK loses some of equal values."""

import numpy as np
import pytest

import leptonhpc as lh
from leptonhpc.linalg import gram_lanczos, gram_matrix
from leptonhpc.linalg.conditioning import Conditioning
from leptonhpc.linalg.gram_matrix import eigh_descending, mirror_lower
from leptonhpc.linalg.svd_gram import GramSvd
from leptonhpc.linalg.svd_mixed import MixedSvd
from leptonhpc.linalg.svd_shared import SvdOptions
from leptonhpc.planning import Resources


@pytest.mark.parametrize("pairs", [None, 3, 40])
@pytest.mark.parametrize("kind", ["f", "c"])
def test_the_largest_pairs_of_a_gram_matrix(pairs: int | None, kind: str) -> None:
    rng = np.random.default_rng(0)
    a = rng.standard_normal((80, 300)) + (1j if kind == "c" else 0) * rng.random((80, 300))
    gram = a.conj().T @ a
    true = np.linalg.eigvalsh(gram)[::-1]
    half = np.tril(gram)
    mirror_lower(half)
    np.testing.assert_array_equal(half, half.conj().T)
    w, v = eigh_descending(half, pairs)
    assert w.shape == (pairs or 300,)
    bound = 300 * np.finfo(float).eps * true[0]
    np.testing.assert_allclose(w, np.maximum(true[:pairs], 0), atol=bound)
    np.testing.assert_allclose(gram @ v, v * w, atol=bound)


@pytest.mark.parametrize("kind", ["f", "c"])
def test_pairs_of_equal_values_are_all_found(kind: str) -> None:
    # bisection by index misses pairs of a tenth of such matrices
    for seed in range(50, 100):
        rng = np.random.default_rng(seed)
        a = rng.standard_normal((100, 30)) + (1j if kind == "c" else 0) * rng.random((100, 30))
        q, _ = np.linalg.qr(a)
        gram = q.conj().T @ q
        w, v = eigh_descending(gram.copy(), 3)
        assert w.shape == (3,)
        assert np.abs(gram @ v - v * w).max() < 1e-13
        assert np.abs(v.conj().T @ v - np.eye(3)).max() < 1e-13


def hermitian(values: np.ndarray, kind: str) -> np.ndarray:
    """Give a matrix of these eigenvalues: reflections of a diagonal one."""
    rng, n = np.random.default_rng(3), len(values)
    a = np.diag(values).astype(complex if kind == "c" else float)
    for _ in range(3):
        v = rng.standard_normal(n) + (1j * rng.standard_normal(n) if kind == "c" else 0)
        v /= np.linalg.norm(v)
        a -= 2 * np.outer(v, v.conj() @ a)
        a -= 2 * np.outer(a @ v, v.conj())
    return np.asarray((a + a.conj().T) / 2)


ORDER = 600
SPECTRA = {
    "decaying": 0.8 ** np.arange(ORDER),
    "equal values": np.repeat([1.0, 0.5], [5, ORDER - 5]),
    "more equal values than are wanted": np.repeat([1.0, 0.5], [7, ORDER - 7]),
    "one dimension": np.eye(ORDER)[0],
    "all equal": np.ones(ORDER),
    "outliers before a bulk": np.r_[40.0, 39.9, 4.0, 3.5, 3.0, np.linspace(1, 0.3, ORDER - 5)],
}


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("kind", ["f", "c"])
def test_a_few_pairs_of_a_large_matrix_by_lanczos(
    name: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gram_lanczos, "_LEAST_ORDER", ORDER)
    monkeypatch.setattr(gram_matrix, "_some", None)  # LAPACK is not called
    values = SPECTRA[name]
    gram = hermitian(values, kind)
    w, v = eigh_descending(gram.copy(), 8, wanted=5)
    single = float(np.finfo(np.float32).eps) * np.sqrt(ORDER)
    residuals = np.linalg.norm(gram @ v - v * w, axis=0)
    assert residuals[:5].max() <= single * values[0]
    assert np.abs(v.conj().T @ v - np.eye(8)).max() < 1e-13
    np.testing.assert_allclose(w[:5], values[:5], atol=single**2 / 0.01 * values[0])
    again = eigh_descending(gram.copy(), 8, wanted=5)
    np.testing.assert_array_equal(again[1], v)


def test_lapack_answers_where_lanczos_does_not_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gram_lanczos, "_LEAST_ORDER", ORDER)
    values = 1 - 1e-9 * np.arange(float(ORDER)) ** 2
    values[50:] = np.linspace(values[49], values[49] - 1e-3, ORDER - 50)
    gram = hermitian(values, "f")
    monkeypatch.setattr(gram_lanczos, "TOLERANCE", 1e-15)
    assert gram_lanczos.leading_pairs(gram, 8, wanted=5) is None
    w, v = eigh_descending(gram.copy(), 8, wanted=5)
    bound = ORDER * np.finfo(float).eps
    np.testing.assert_allclose(w, values[:8], atol=bound)
    assert np.abs(gram @ v - v * w).max() < bound


@pytest.mark.parametrize(("method", "numbers"), [(GramSvd, 1.0), (MixedSvd, 1.5)])
def test_workers_have_room_to_add_gram_matrices(
    method: type[GramSvd] | type[MixedSvd], numbers: float
) -> None:
    n = 3000
    source = lh.open(np.broadcast_to(1.0, (5 * n, n))).source
    resources = Resources(10**9, workers=2, distributed=True)
    layout = method.choose_layout(source, resources, SvdOptions(rank=4), Conditioning())
    # a lane's, another's and their sum: who adds them may have to do it again
    assert layout.need_nbytes >= 3 * numbers * 8 * n**2
