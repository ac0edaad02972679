"""Pseudoinverse, polar factors and least squares of matrices both of whose sides are beyond memory.

Chunks of products are made small here, so that matrices small enough for a test are too large for
a budget that is.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import leptonhpc as lh
from leptonhpc.errors import MemoryBudgetError, NonFiniteError
from leptonhpc.linalg import eigh_stages, multiply, pinv_tiled, polar_divide, spectra, svd_divide
from leptonhpc.linalg import lstsq as stacked
from leptonhpc.testing import matrix_with_spectrum, put

N = 80
SHAPES = [(N + 20, N), (N, N + 20), (N, N)]
DTYPES = [np.float32, np.complex128]
FULL = np.linspace(1, 0.05, N)
DEFICIENT = np.r_[np.linspace(1, 0.1, 15), np.zeros(15)]


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiply, "SQUARE", 40)
    for module in (eigh_stages, pinv_tiled, polar_divide):
        monkeypatch.setattr(module, "UNIT", 40)


def widened(a: Any) -> np.ndarray:
    return np.asarray(a, np.result_type(np.asarray(a).dtype, float))


def stored(a: np.ndarray, tmp_path: Path) -> Path:
    return put(a, tmp_path / "a", chunks=(30, 25))  # of which 40 is no multiple


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no budget suffice for what holds a triangle."""

    def refuse(*_: Any, **__: Any) -> None:
        raise MemoryBudgetError("none")

    monkeypatch.setattr(stacked, "_plan_stacked", refuse)
    monkeypatch.setattr(spectra, "_plan", refuse)


@pytest.mark.usefixtures("refused")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_pseudoinverses_by_panels_are_numpys(
    shape: tuple[int, int], dtype: type, tmp_path: Path
) -> None:
    a = matrix_with_spectrum(shape, FULL, dtype=dtype)
    place = stored(a, tmp_path)
    r = lh.pinv(place, memory="1 GB")
    c, x = r.certificate, widened(r)
    true = np.linalg.pinv(widened(a))
    # |Q R - A| is c n eps |A|, times the condition
    allowed = 8 * N * float(np.finfo(dtype).eps) * np.linalg.norm(a) / FULL[-1]
    assert np.linalg.norm(x - true) <= allowed * np.linalg.norm(true)
    assert c.converged
    assert c.rank == N
    # |A|_F |A^+|_F, of which random vectors show a tenth at least
    frobenius = np.linalg.norm(a) * np.linalg.norm(true)
    assert 0.1 * FULL[0] / FULL[-1] <= c.condition <= 4 * frobenius
    assert {"form q", "invert"} <= {stage.name for stage in r.report.stages}


@pytest.mark.usefixtures("refused")
@pytest.mark.parametrize("shape", [(50, 30), (30, 50)])
def test_pseudoinverses_of_deficient_matrices_come_from_all_triplets(
    shape: tuple[int, int], tmp_path: Path
) -> None:
    a = matrix_with_spectrum(shape, DEFICIENT, dtype=np.complex64)
    r = lh.pinv(stored(a, tmp_path), memory="1 GB")
    c = r.certificate
    true = np.linalg.pinv(widened(a), rcond=c.cutoff)
    assert c.converged
    assert c.rank == 15
    assert np.linalg.norm(widened(r) - true) <= c.bound * np.linalg.norm(true)
    assert c.condition == pytest.approx(10, rel=1e-3)
    assert any(stage.name.startswith("svd ") for stage in r.report.stages)


@pytest.mark.usefixtures("refused")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "side"), [*zip(SHAPES, ["right", "left", "left"], strict=True)])
def test_polar_factors_by_products_are_those_of_the_svd(
    shape: tuple[int, int], side: Any, dtype: type, tmp_path: Path
) -> None:
    a = matrix_with_spectrum(shape, FULL, dtype=dtype)
    x = stored(a, tmp_path)
    r = lh.polar(x, side=side, memory="1 GB")
    c, found, p = r.certificate, widened(r.u), np.asarray(r.p)
    left, s, right = np.linalg.svd(widened(a), full_matrices=False)
    true = (left if side == "left" else right.conj().T) * s
    true = true @ (left.conj().T if side == "left" else right)
    size, eps = np.linalg.norm(a), float(np.finfo(dtype).eps)
    # products of order n, as random walks; U is as well-conditioned as 2 / s_n (Higham 2008, 8.9)
    assert np.linalg.norm(found - left @ right) <= 64 * N**0.5 * eps * size / FULL[-1]
    assert np.linalg.norm(p - true) <= 64 * N**0.5 * eps * size
    assert np.array_equal(p, p.conj().T)
    assert c.converged
    product = p @ found if side == "left" else found @ p
    assert np.linalg.norm(product - a) <= (c.backward_error + 4 * eps) * size


@pytest.mark.usefixtures("refused")
@pytest.mark.parametrize("exponent", [-300, 0, 300])
def test_polar_factors_of_any_size_and_rank_are_certified(exponent: int) -> None:
    a = matrix_with_spectrum((50, 30), np.r_[np.linspace(1, 0.1, 10), np.zeros(20)])
    r = lh.polar(a * 10.0**exponent, memory="1 GB")
    u, p = np.asarray(r.u), np.asarray(r.p) * 10.0**-exponent
    assert r.certificate.converged
    assert np.linalg.norm(u @ p - a) <= r.certificate.bound * np.linalg.norm(a)
    assert np.linalg.norm(u.T @ u - np.eye(30)) <= r.certificate.bound * 30**0.5
    assert np.linalg.eigvalsh(p)[0] >= -r.certificate.bound


@pytest.mark.usefixtures("refused")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_least_squares_by_panels_are_numpys(
    shape: tuple[int, int], dtype: type, tmp_path: Path, rng: np.random.Generator
) -> None:
    a = matrix_with_spectrum(shape, FULL, dtype=dtype)
    b = rng.standard_normal((shape[0], 2)).astype(dtype)
    x = stored(a, tmp_path)
    r = lh.lstsq(x, b, memory="1 GB", out=tmp_path / "r")
    true, residuals, rank, _ = np.linalg.lstsq(widened(a), widened(b), rcond=None)
    condition, eps = np.linalg.norm(a) / FULL[-1], float(np.finfo(dtype).eps)
    # Higham 2002, Theorem 20.1: condition squared times the residual, one over the size of b
    left = np.linalg.norm(widened(b) - widened(a) @ true) / np.linalg.norm(true)
    allowed = 8 * N**0.5 * eps * condition * (1 + condition * left)
    assert np.linalg.norm(r.x - true) <= allowed * np.linalg.norm(true)
    assert r.rank == rank == N
    assert r.certificate.converged
    assert r.s.shape == (0,)
    assert r.residuals.shape == residuals.shape
    assert np.allclose(r.residuals, residuals, rtol=64 * N * eps)
    assert np.array_equal(lh.load(tmp_path / "r").x, r.x)


@pytest.mark.usefixtures("refused")
@pytest.mark.parametrize("shape", [(50, 30), (30, 50)])
def test_deficient_least_squares_have_the_smallest_norm(
    shape: tuple[int, int], tmp_path: Path, rng: np.random.Generator
) -> None:
    a = matrix_with_spectrum(shape, DEFICIENT)
    b = rng.standard_normal(shape[0])
    r = lh.lstsq(stored(a, tmp_path), b, memory="1 GB")
    true, _, rank, s = np.linalg.lstsq(a, b, rcond=r.certificate.rcond)
    assert r.rank == rank == 15
    assert r.certificate.converged
    assert np.linalg.norm(r.x - true) <= 1e-10 * np.linalg.norm(true)
    assert np.max(np.abs(r.s - s)) <= 8 * 30 * np.finfo(float).eps
    assert r.residuals.shape == (0,)


HARD = {
    "zeros": np.zeros((20, 8)),
    "ones": np.ones((20, 8)),
    "1e9": matrix_with_spectrum((40, 20), np.geomspace(1, 1e-9, 20), dtype=np.float32),
    "0.05": matrix_with_spectrum((40, 20), np.geomspace(1, 1e-2, 20)),
}


@pytest.mark.usefixtures("refused")
@pytest.mark.parametrize("name", HARD)
def test_doubtful_ranks_are_those_of_all_values(name: str, rng: np.random.Generator) -> None:
    a, rcond = HARD[name], 0.05 if name == "0.05" else None
    b = rng.standard_normal((len(a), 2)).astype(a.dtype)
    r = lh.lstsq(a, b, rcond=rcond, memory="1 GB")
    x = lh.pinv(a, rcond=rcond, memory="1 GB")
    assert r.certificate.converged
    assert x.certificate.converged
    cutoff = r.certificate.rcond
    true, _, rank, s = np.linalg.lstsq(widened(a), widened(b), rcond=cutoff)
    assert x.certificate.rank == r.rank == rank
    assert len(r.s) == len(s)
    size = np.linalg.norm(true) or 1.0
    eps = float(np.finfo(a.dtype).eps)
    # what was kept has a condition of 1 / cutoff at most
    allowed = 64 * len(a) * eps / max(cutoff, eps) ** 2 if name == "1e9" else 1e-10
    assert np.linalg.norm(r.x - true) <= min(allowed, 1e-1) * size
    if name != "1e9":
        assert np.linalg.norm(np.asarray(x) @ b - true) <= 1e-10 * size


@pytest.mark.usefixtures("refused")
@pytest.mark.parametrize("shape", [(40, 20), (20, 40), (30, 30)])
def test_zeros_take_no_longer_than_any_other_matrix(shape: tuple[int, int]) -> None:
    a, b = np.zeros(shape), np.ones((shape[0], 2))
    r = lh.lstsq(a, b, memory="1 GB")
    assert r.certificate.converged
    assert r.rank == 0
    assert not np.any(r.x)
    assert np.array_equal(r.s, np.zeros(min(shape)))
    assert not any(stage.name.startswith("svd ") for stage in r.report.stages)
    polar = lh.polar(a, side="left" if shape[0] < shape[1] else "right", memory="1 GB")
    assert polar.certificate.converged
    assert not np.any(np.asarray(polar.p))
    u, k = np.asarray(polar.u), min(shape)
    gram = u @ u.T if shape[0] < shape[1] else u.T @ u
    assert np.linalg.norm(gram - np.eye(k)) <= 8 * k * np.finfo(float).eps * k**0.5
    products = [s for s in polar.report.stages if s.name.startswith("multiply")]
    # from a singular value of about 1 / n, not from one of eps: cubics of two products each
    assert len(products) <= 60
    x = lh.pinv(a, memory="1 GB")
    assert x.certificate.rank == 0
    assert not np.any(np.asarray(x))


WITHIN = [("pinv", ()), ("polar", ()), ("lstsq", (np.ones(300),))]
"""Drivers and right-hand sides."""


def _no_room(*_: Any, **__: Any) -> None:
    raise MemoryBudgetError("svd of a triangle needs at least memory='1 PB'")


@pytest.mark.parametrize(("driver", "sides"), WITHIN, ids=[w[0] for w in WITHIN])
def test_matrices_whose_triangle_does_not_fit_are_done_within_the_budget(
    driver: str, sides: tuple[Any, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if driver == "lstsq":  # so small a triangle always fits
        monkeypatch.setattr("leptonhpc.linalg.lstsq._plan_stacked", _no_room)
    a = matrix_with_spectrum((300, 300), np.linspace(1, 0.05, 300))
    x = put(a, tmp_path / "a", chunks=(50, 50))
    r = getattr(lh, driver)(x, *sides, memory="158 MB", out=tmp_path / "r")
    assert r.certificate.converged
    assert r.report.predicted_peak_nbytes <= r.report.memory_nbytes
    assert {"factor", "perturbed"} & {stage.name for stage in r.report.stages}
    again = lh.load(tmp_path / "r")
    assert again.certificate == r.certificate
    left, s, right = np.linalg.svd(a)
    true = {
        "pinv": lambda: (right.T / s) @ left.T, "polar": lambda: left @ right,
        "lstsq": lambda: (right.T / s) @ (left.T @ sides[0]),
    }[driver]()  # fmt: skip
    found = np.asarray(next(iter(again.arrays().values())))
    allowed = 64 * 300**0.5 * np.finfo(float).eps * np.linalg.norm(a) / 0.05
    assert np.linalg.norm(found - true) <= allowed * np.linalg.norm(true)


def test_bad_numbers_and_budgets_without_hope_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = matrix_with_spectrum((300, 300), np.ones(300))
    a[70, 90] = np.nan
    x = put(a, tmp_path / "a", chunks=(50, 50))
    for driver, sides in WITHIN:
        with pytest.raises(MemoryBudgetError, match=r"at least memory='15\d MB'"):
            lh.plan(driver, x, *sides, memory="150 MB")  # type: ignore[arg-type]
    monkeypatch.setattr("leptonhpc.linalg.lstsq._plan_stacked", _no_room)
    for driver, sides in WITHIN:
        with pytest.raises(NonFiniteError, match=r"\(70, 90\)"):
            getattr(lh, driver)(x, *sides, memory="158 MB")
    with pytest.raises(NonFiniteError, match="index 3, in block"):
        lh.lstsq(x, np.where(np.arange(300) == 3, np.inf, 1.0), memory="158 MB")


@pytest.mark.usefixtures("refused")
def test_pseudoinverses_that_go_on_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = matrix_with_spectrum((36, 36), np.r_[np.ones(18), np.zeros(18)])
    x = stored(a, tmp_path)
    budget = "1 GB"
    whole = np.asarray(lh.pinv(x, memory=budget))
    made = svd_divide.DivideSvd.factored

    def stopped(*_: Any) -> None:
        made(*_)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(svd_divide.DivideSvd, "factored", stopped)
        with pytest.raises(KeyboardInterrupt):
            lh.pinv(x, memory=budget, out=tmp_path / "r")
    again = lh.pinv(x, memory=budget, out=tmp_path / "r")
    assert sum(stage.resumed for stage in again.report.stages) > 20
    assert np.array_equal(np.asarray(again), whole)
