"""Non-negative factorisations: what is certified is so, and known answers are found."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls
from sklearn.datasets import load_digits
from sklearn.decomposition import NMF, non_negative_factorization
from sklearn.decomposition._nmf import _initialize_nmf

import leptonhpc as lh
from leptonhpc.testing import put

SHAPES = [(300, 40), (40, 300)]
EPS = float(np.finfo(float).eps)
pytestmark = pytest.mark.filterwarnings("ignore::leptonhpc.errors.NotConvergedWarning")


def planted(
    shape: tuple[int, int], rank: int, noise: float = 0.1, dtype: str = "float64"
) -> np.ndarray:
    """Give a product of gamma variates with noise, clipped at zero."""
    rng = np.random.default_rng(7)
    w, h = rng.gamma(0.5, size=(shape[0], rank)), rng.gamma(0.5, size=(rank, shape[1]))
    return np.maximum(w @ h + noise * rng.standard_normal(shape), 0).astype(dtype)


def factors(r: lh.NmfResult) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(r.w, float), np.asarray(r.h, float)


def divergence(x: np.ndarray, y: np.ndarray) -> float:
    x = x.astype(float)
    return float(np.sum(np.where(x > 0, x * np.log(np.where(x > 0, x, 1) / y), 0) - x + y))


def residual(x: np.ndarray, w: np.ndarray, h: np.ndarray) -> float:
    """Give |[min(W, dW) min(H, dH)]|_F / |X|_F with unit rows of H, or columns of W."""
    parts = []
    for a, b, y in ((w, h, x), (h.T, w.T, x.T)):
        norms = np.linalg.norm(b, axis=1)
        unit = b / np.where(norms > 0, norms, 1)[:, None]
        parts.append(np.minimum(a * norms, (a @ b - y) @ unit.T))
    return float(np.sqrt(sum(np.sum(part**2) for part in parts)) / np.linalg.norm(x))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("method", ["sweeps", "compressed"])
def test_certificate_is_what_the_factors_show(
    method: Any, shape: tuple[int, int], dtype: str
) -> None:
    x = planted(shape, 5, dtype=dtype)
    r = lh.nmf(x, rank=5, method=method, memory="1 GB")
    (w, h), c = factors(r), r.certificate
    assert r.w.dtype == r.h.dtype == dtype
    error = np.linalg.norm(x - w @ h)
    spread = c.error_bound - c.error
    assert c.error - spread <= error <= c.error_bound
    assert c.norm == pytest.approx(np.linalg.norm(x.astype(float)), rel=1e-6)
    assert c.relative_error == pytest.approx(c.error / c.norm)
    # gradients are sums of 300 products at most
    assert abs(residual(x, w, h) - c.kkt) <= 300 * np.finfo(dtype).eps
    assert 0 <= c.least == min(w.min(), h.min())
    assert c.converged
    assert method == "compressed" or c.history[-1] == c.relative_error


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("shape", SHAPES)
def test_certified_divergence_is_that_of_the_factors(shape: tuple[int, int], dtype: str) -> None:
    x = planted(shape, 4, dtype=dtype)
    r = lh.nmf(x, rank=4, loss="kullback-leibler", most_sweeps=60, memory="1 GB")
    (w, h), c = factors(r), r.certificate
    spread = c.error_bound - c.error
    assert c.error - spread <= divergence(x, w @ h) <= c.error_bound
    assert c.norm == pytest.approx(float(x.sum(dtype=float)), rel=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_divergence_keeps_the_sums_of_the_long_side(shape: tuple[int, int]) -> None:
    # each update of W gives WH the row sums of X: Lee and Seung's update, summed over k
    x = planted(shape, 4) + 0.01
    w, h = factors(lh.nmf(x, rank=4, loss="kullback-leibler", most_sweeps=3, memory="1 GB"))
    axis = int(np.argmin(shape))
    kept, wanted = (w @ h).sum(axis=axis), x.sum(axis=axis)
    assert np.max(np.abs(kept - wanted) / wanted) <= 8 * min(shape) * EPS


@pytest.mark.parametrize("loss", ["frobenius", "kullback-leibler"])
@pytest.mark.parametrize("shape", SHAPES)
def test_components_that_occur_alone_are_recovered(shape: tuple[int, int], loss: Any) -> None:
    # separable: some rows of X are the components themselves, and no component has another's
    # support, so that the exact factorisation is unique (Donoho and Stodden 2003)
    rng = np.random.default_rng(3)
    components = np.kron(np.eye(4), 1 + rng.random((1, shape[1] // 4)))
    weights = rng.gamma(0.5, size=(shape[0], 4))
    weights[:4] = np.eye(4)
    x = weights @ components
    r = lh.nmf(x, rank=4, loss=loss, tol=1e-9, memory="1 GB")
    _, h = factors(r)
    unit = h / np.linalg.norm(h, axis=1)[:, None]
    cosines = unit @ (components / np.linalg.norm(components, axis=1)[:, None]).T
    assert np.max(np.abs(np.sort(cosines.max(axis=0)) - 1)) <= 1e-6
    assert r.certificate.relative_error <= (1e-6 if loss == "frobenius" else 1e-5)


DIGITS = load_digits().data
PROBLEMS = [
    ("digits", DIGITS, 10), ("digits float32", DIGITS.astype("f4"), 16),
    ("planted", planted((300, 80), 8), 8), ("wide", planted((60, 300), 6), 6),
    ("exact", planted((200, 60), 5, 0.0), 5),
]  # fmt: skip


@pytest.mark.parametrize(("x", "rank"), [p[1:] for p in PROBLEMS], ids=[p[0] for p in PROBLEMS])
def test_error_is_that_of_scikit_learn_or_less_from_the_same_start(
    x: np.ndarray, rank: int
) -> None:
    w0, h0 = _initialize_nmf(x, rank, init="nndsvd", random_state=0)
    peer = NMF(rank, init="custom", max_iter=200, tol=1e-4)
    with _quiet():
        w = peer.fit_transform(x, W=w0.copy(), H=h0.copy())
    theirs = np.linalg.norm(x - w @ peer.components_)
    ours = lh.nmf(x, w0=w0, h0=h0, memory="1 GB").certificate.error
    assert ours <= 1.01 * theirs


def test_divergence_is_that_of_scikit_learn_or_less_from_the_same_start() -> None:
    x = DIGITS[:400]
    rng = np.random.default_rng(0)
    w0, h0 = rng.random((400, 8)) + 0.1, rng.random((8, 64)) + 0.1
    with _quiet():
        w, h, _ = non_negative_factorization(
            x, w0.copy(), h0.copy(), n_components=8, init="custom", solver="mu",
            beta_loss="kullback-leibler", max_iter=200, tol=0,
        )  # fmt: skip
    theirs = divergence(x, np.maximum(w @ h, 1e-30))
    r = lh.nmf(x, w0=w0, h0=h0, loss="kullback-leibler", memory="1 GB")
    assert r.certificate.error <= 1.01 * theirs


def test_nndsvd_begins_as_scikit_learn_does() -> None:
    x = planted((200, 50), 6)
    w0, h0 = _initialize_nmf(x, 6, init="nndsvd", random_state=0)
    ours = lh.nmf(x, rank=6, init="nndsvd", most_sweeps=1, memory="1 GB")
    theirs = lh.nmf(x, w0=w0, h0=h0, most_sweeps=1, memory="1 GB")
    # the singular vectors of ours are exact here, those of theirs are from a random sketch
    assert ours.certificate.error == pytest.approx(theirs.certificate.error, rel=1e-3)
    assert np.linalg.norm(ours.h - theirs.h) <= 0.02 * np.linalg.norm(theirs.h)


@pytest.mark.parametrize("shape", SHAPES)
def test_weights_for_given_components_are_those_of_nnls(shape: tuple[int, int]) -> None:
    x, h = planted(shape, 4), np.random.default_rng(1).random((4, shape[1]))
    r = lh.nmf(x, h0=h, update_h=False, tol=1e-12, memory="1 GB")
    expected = np.stack([nnls(h.T, row)[0] for row in x])
    # a residual of tol |X| in the gradient, and H is well-conditioned
    least = np.linalg.eigvalsh(h @ h.T)[0]
    assert np.max(np.abs(r.w - expected)) <= 1e-11 * np.linalg.norm(x) * np.sqrt(4 / least)
    assert np.array_equal(r.h, h)
    assert r.certificate.passes == 1


def test_divergence_of_weights_for_given_components_cannot_be_lowered() -> None:
    x, h = planted((60, 30), 3) + 0.01, np.random.default_rng(1).random((3, 30))
    r = lh.nmf(x, h0=h, update_h=False, loss="kullback-leibler", tol=1e-6, memory="1 GB")
    w, _ = factors(r)
    best = divergence(x, w @ h)
    assert r.certificate.converged
    rng = np.random.default_rng(2)
    for _ in range(20):
        other = w * np.exp(0.01 * rng.standard_normal(w.shape))
        assert divergence(x, other @ h) >= best - 1e-6 * x.sum()


@pytest.mark.parametrize("method", ["sweeps", "compressed"])
@pytest.mark.parametrize("shape", SHAPES)
@settings(max_examples=3)
@given(data=st.data())
def test_no_chunk_shape_and_no_memory_budget_changes_the_answer(
    shape: tuple[int, int], method: Any, data: st.DataObject
) -> None:
    x = planted(shape, 3)
    options: dict[str, Any] = {"rank": 3, "method": method, "most_sweeps": 6, "seed": 5}
    if method == "sweeps":
        options |= {"init": data.draw(st.sampled_from(["random", "nndsvda"]))}
    w, h = factors(lh.nmf(x, memory="2 GB", **options))
    chunks = data.draw(st.tuples(st.integers(8, shape[0]), st.integers(8, shape[1])))
    memory = data.draw(st.sampled_from(["175 MB", "200 MB", "1 GB"]))
    with tempfile.TemporaryDirectory() as folder:
        place = put(x, Path(folder) / "x", chunks=chunks)
        other_w, other_h = factors(lh.nmf(place, memory=memory, **options))
    # rounding of sums, once more amplified by each of six sweeps
    allowed = 6 * 64 * 300 * EPS * np.linalg.norm(x)
    assert np.linalg.norm(w @ h - other_w @ other_h) <= allowed


def test_each_sweep_reads_each_chunk_once(tmp_path: Path) -> None:
    x = planted((400, 60), 3)
    place = put(x, tmp_path / "x", chunks=(64, 60))
    for options, passes in (({"init": "random"}, 0), ({"init": "nndsvd"}, None)):
        r = lh.nmf(place, rank=3, most_sweeps=4, tol=0, memory="165 MB", **options)
        before = r.certificate.passes - r.certificate.sweeps
        assert r.certificate.sweeps == 4
        assert passes is None or before == passes
        assert 0 <= before <= 6
        assert r.report.reads_per_chunk == 1  # in the first pass, and none where it is resident
    assert r.report.passes <= r.certificate.passes


def test_planning_says_the_passes_that_are_made() -> None:
    x = planted((300, 40), 3)
    explanation = lh.plan("nmf", x, rank=3, most_sweeps=9, init="random", memory="1 GB").explanation
    assert explanation.passes == explanation.most_passes == 9
    assert lh.plan("nmf", x, rank=3, method="compressed", memory="1 GB").explanation.passes <= 7


@pytest.mark.parametrize("kind", ["bool", "uint8", "int64", "float16"])
def test_other_dtypes_are_widened(kind: str) -> None:
    x = (DIGITS[:100] > 6) if kind == "bool" else DIGITS[:100].astype(kind)
    r = lh.nmf(x, rank=4, memory="1 GB")
    assert r.w.dtype == ("float32" if kind == "float16" else "float64")
    expected = lh.nmf(x.astype(r.w.dtype), rank=4, memory="1 GB")
    assert r.certificate.error == pytest.approx(expected.certificate.error, rel=1e-4)


@pytest.mark.parametrize("loss", ["frobenius", "kullback-leibler"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (30, 8)])
def test_zeros_and_single_rows_are_factored_exactly(shape: tuple[int, int], loss: Any) -> None:
    for x in (np.zeros(shape), np.ones(shape), np.eye(*shape)):
        r = lh.nmf(x, rank=min(shape), loss=loss, tol=1e-6, most_sweeps=400, memory="1 GB")
        w, h = factors(r)
        assert np.isfinite(w).all()
        assert np.isfinite(h).all()
        # the conditions hold to tol, and the only stationary points that are found are exact
        assert np.linalg.norm(x - w @ h) <= 1e-3 * max(1.0, np.linalg.norm(x))
        assert r.certificate.converged


def test_more_components_than_columns_begin_at_random() -> None:
    r = lh.nmf(planted((50, 6), 3), rank=9, memory="1 GB", tol=1e-6)
    assert r.h.shape == (9, 6)
    assert r.certificate.relative_error <= 1e-2


def test_scaling_the_array_scales_the_factors() -> None:
    x = planted((100, 30), 3)
    one = lh.nmf(x, rank=3, memory="1 GB", most_sweeps=5)
    big = lh.nmf(2.0**40 * x, rank=3, memory="1 GB", most_sweeps=5)
    # powers of two round nothing
    assert np.array_equal(2.0**40 * (one.w @ one.h), big.w @ big.h)
    assert big.certificate.kkt == pytest.approx(one.certificate.kkt)


def test_the_same_seed_gives_the_same_bits_again() -> None:
    x = planted((300, 40), 3)
    a, b = (lh.nmf(x, rank=3, init="random", seed=4, memory="1 GB") for _ in range(2))
    other = lh.nmf(x, rank=3, init="random", seed=5, most_sweeps=2, memory="1 GB")
    assert np.array_equal(a.w, b.w)
    assert not np.array_equal(a.w, other.w)


def test_stored_result_is_the_same(tmp_path: Path) -> None:
    x = planted((40, 300), 3)
    r = lh.nmf(x, rank=3, memory="1 GB", out=tmp_path / "r")
    again = lh.load(tmp_path / "r")
    assert np.array_equal(again.w, r.w)
    assert np.array_equal(again.h, np.asarray(r.h))
    assert again.certificate == r.certificate
    w, h = again
    assert (w.shape, h.shape) == ((40, 3), (3, 300))


def _quiet() -> Any:
    import warnings

    return warnings.catch_warnings(action="ignore")
