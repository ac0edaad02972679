"""Conjugate gradients: solutions, residuals, passes, and what is refused."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse.linalg
import zarr

import leptonhpc as lh
from leptonhpc.errors import (
    NonFiniteError,
    NotConvergedWarning,
    NotHermitianError,
    NotPositiveDefiniteError,
    OptionError,
    ShapeError,
)
from leptonhpc.store import Journal

MEMORY = "1 GB"
DTYPES = ["float32", "float64", "complex64", "complex128"]


def definite(values: np.ndarray, dtype: Any = np.float64, seed: int = 0) -> np.ndarray:
    """Make a Hermitian matrix with these eigenvalues."""
    rng, n = np.random.default_rng(seed), len(values)
    block = rng.standard_normal((n, n))
    if np.dtype(dtype).kind == "c":
        block = block + 1j * rng.standard_normal((n, n))
    q = np.linalg.qr(block)[0]
    a = ((q * values) @ q.conj().T).astype(dtype)
    return (a + a.conj().T) / 2


def draw(shape: Any, dtype: Any = np.float64, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    b = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        b = b + 1j * rng.standard_normal(shape)
    return b.astype(dtype)


def stored(path: Path, a: np.ndarray, chunks: tuple[int, ...]) -> Path:
    array = zarr.create_array(path, shape=a.shape, dtype=a.dtype, chunks=chunks)
    array[...] = a
    return path


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rank", "chunks"), [(0, (33, 140)), (7, (40, 40)), (None, (130, 29))])
def test_solution_is_that_of_a_dense_solver(
    dtype: str, rank: int | None, chunks: tuple[int, int], tmp_path: Path
) -> None:
    n, shift = 140, 0.5
    a, b = definite(np.linspace(0.5, 40, n), dtype), draw((n, 3), dtype)
    r = lh.cg(stored(tmp_path / "a", a, chunks), b, shift=shift, rank=rank, memory=MEMORY)
    wide = np.result_type(dtype, np.float64)
    m = a.astype(wide) + shift * np.eye(n)
    x = np.linalg.solve(m, b.astype(wide))
    assert r.x.dtype == dtype
    assert r.x.shape == (n, 3)
    # |x - x*| <= |r| / (least eigenvalue), |r| <= tol |b|; x is rounded before r is measured
    c = r.certificate
    assert c.converged
    assert np.all(np.linalg.norm(r.x - x, axis=0) <= c.tol * np.linalg.norm(b, axis=0) / 0.99)
    assert np.max(np.linalg.norm(r.x - x, axis=0) / np.linalg.norm(x, axis=0)) <= 1.1 * c.error


@pytest.mark.parametrize("dtype", DTYPES)
def test_residual_and_backward_error_are_those_of_numpy(dtype: str) -> None:
    n, shift = 120, 0.25
    a, b = definite(np.geomspace(1e-2, 1, n), dtype), draw((n, 2), dtype)
    r = lh.cg(a, b, shift=shift, rank=0, memory=MEMORY)
    wide = np.result_type(dtype, np.float64)
    m, x, b = a.astype(wide) + shift * np.eye(n), r.x.astype(wide), b.astype(wide)
    left = np.linalg.norm(b - m @ x, axis=0)
    norm = np.linalg.norm(a.astype(wide))
    # the two computed residuals differ by sums of n roundings of products as large as |A| |x|
    sizes = (norm + shift) * np.linalg.norm(x, axis=0)
    allowed = 4 * np.sqrt(n) * np.finfo(float).eps * sizes
    lengths = np.linalg.norm(b, axis=0)
    assert abs(r.certificate.residual - np.max(left / lengths)) <= np.max(allowed / lengths)
    backward = np.max(left / (sizes + lengths))
    assert abs(r.certificate.backward_error - backward) <= 4 * np.sqrt(n) * np.finfo(float).eps
    assert abs(r.certificate.norm - norm) <= 4 * np.sqrt(n) * np.finfo(float).eps * norm


def test_passes_are_no_more_than_iterations_of_scipy() -> None:
    n = 300
    a, b = definite(np.geomspace(1e-3, 1, n)), draw(n)
    count = 0

    def counted(_: Any) -> None:
        nonlocal count
        count += 1

    x, failed = scipy.sparse.linalg.cg(a, b, rtol=1e-8, maxiter=1000, callback=counted)
    assert not failed
    r = lh.cg(a, b, rank=0, tol=1e-8, memory=MEMORY)
    assert r.certificate.passes == r.certificate.iterations + 1 <= count + 1
    # both residuals are at most 1e-8 |b|, and the least eigenvalue is 1e-3
    assert np.linalg.norm(r.x - x) <= 2e-8 * np.linalg.norm(b) / 1e-3


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_preconditioner_saves_passes_where_the_condition_is_1e8(dtype: str) -> None:
    n = 300
    values = np.maximum(np.geomspace(1, 1e-16, n), 1e-8)
    values[150:] *= np.linspace(1, 30, n - 150)
    a, b = definite(values, dtype), draw(n, dtype)
    plain = lh.cg(a, b, rank=0, tol=1e-6, memory=MEMORY)
    better = lh.cg(a, b, rank=160, tol=1e-6, memory=MEMORY)
    assert better.certificate.converged
    assert 2 * better.certificate.passes < plain.certificate.passes
    assert better.certificate.condition < 1e-2 * plain.certificate.condition
    assert plain.certificate.condition <= 1.01 * values.max() / values.min()
    left = np.linalg.norm(b - a @ better.x)
    assert left <= 1e-6 * np.linalg.norm(b) * (1 + 1e-3)


def test_smooth_kernel_with_a_nugget_takes_a_few_passes() -> None:
    points = np.linspace(0, 1, 400)
    a = np.exp(-(((points[:, None] - points) / 0.3) ** 2))
    b, shift = draw(400), 1e-5
    plain = lh.cg(a, b, shift=shift, rank=0, memory=MEMORY)
    r = lh.cg(a, b, shift=shift, memory=MEMORY)
    assert r.certificate.passes <= 8 < plain.certificate.passes
    x = np.linalg.solve(a + shift * np.eye(400), b)
    # tol |b| over the least eigenvalue
    assert np.linalg.norm(r.x - x) <= 1.1 * r.certificate.tol * np.linalg.norm(b) / shift


def test_sides_are_iterated_together_and_each_stops_by_itself() -> None:
    n = 150
    a, b = definite(np.geomspace(1e-3, 1, n)), draw((n, 4))
    b[:, 1] = 0
    b[:, 2] = a @ (a @ b[:, 3])
    r = lh.cg(a, b, rank=0, memory=MEMORY)
    single = [lh.cg(a, b[:, i], rank=0, memory=MEMORY) for i in (0, 2, 3)]
    assert not r.x[:, 1].any()
    assert r.certificate.passes <= max(s.certificate.passes for s in single)
    for i, s in zip((0, 2, 3), single, strict=True):
        assert s.x.shape == (n,)
        size = r.certificate.tol * np.linalg.norm(b[:, i])
        assert np.linalg.norm(r.x[:, i] - s.x) <= 2 * size / 1e-3


@pytest.mark.parametrize("rank", [0, 10])
def test_zero_right_hand_side_gives_zero(rank: int) -> None:
    a = definite(np.linspace(1, 2, 60))
    r = lh.cg(a, np.zeros(60), x0=np.ones(60), rank=rank, memory=MEMORY)
    assert not r.x.any()
    assert r.certificate.converged
    assert r.certificate.residual == r.certificate.backward_error == 0
    assert r.certificate.passes == 1


@pytest.mark.parametrize("rank", [0, 10])
def test_exact_start_needs_no_iteration(rank: int) -> None:
    a, x = definite(np.linspace(1, 2, 60)), draw((60, 2))
    r = lh.cg(a, a @ x, x0=x, rank=rank, memory=MEMORY)
    assert np.array_equal(r.x, x)
    assert r.certificate.converged
    assert (r.certificate.iterations, r.certificate.passes) == (0, 1)
    near = lh.cg(a, a @ x, x0=x + 1e-6, rank=rank, memory=MEMORY)
    far = lh.cg(a, a @ x, rank=rank, memory=MEMORY)
    assert 0 < near.certificate.iterations < far.certificate.iterations


def test_real_matrix_takes_complex_sides_and_the_reverse() -> None:
    a, b = definite(np.linspace(1, 9, 70)), draw((70, 2), complex)
    for rank in (0, 10):
        r = lh.cg(a, b, rank=rank, x0=0.1 * b, memory=MEMORY)
        assert np.linalg.norm(b - a @ r.x) <= 2e-8 * np.linalg.norm(b)
        hermitian = definite(np.linspace(1, 9, 70), complex)
        r = lh.cg(hermitian, b.real.copy(), rank=rank, memory=MEMORY)
        assert np.linalg.norm(b.real - hermitian @ r.x) <= 2e-8 * np.linalg.norm(b)


@pytest.mark.parametrize("scale", [1e-90, 1e90])
def test_scale_changes_nothing(scale: float) -> None:
    a, b = definite(np.linspace(1, 9, 70)), draw(70)
    for s, t in ((scale, 1.0), (1.0, scale**3), (scale, scale**-2)):
        r = lh.cg(s * a, t * b, rank=5, memory=MEMORY)
        plain = lh.cg(a, b, rank=5, memory=MEMORY)
        assert r.certificate.passes == plain.certificate.passes
        assert np.allclose(r.x / t * s, plain.x, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("rank", [0, 30])
def test_indefinite_matrix_is_refused_with_the_iteration(rank: int) -> None:
    values = np.linspace(1, 5, 100)
    values[::3] *= -1
    a = definite(values)
    with pytest.raises(NotPositiveDefiniteError, match=r"in iteration \d+"):
        lh.cg(a, draw(100), rank=rank, memory=MEMORY)
    r = lh.cg(a, draw(100), shift=6.0, rank=rank, memory=MEMORY)
    assert r.certificate.converged
    with pytest.raises(NotPositiveDefiniteError, match="iteration"):
        lh.cg(np.zeros((5, 5)), np.ones(5), rank=min(rank, 5), memory=MEMORY)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rank", [0, 20])
def test_matrix_that_is_not_hermitian_is_refused(dtype: str, rank: int) -> None:
    a, b = definite(np.linspace(1, 5, 100), dtype), draw(100, dtype)
    a[3, 70] += 0.5
    with pytest.raises(NotHermitianError, match="rounding explains"):
        lh.cg(a, b, rank=rank, memory=MEMORY)
    a[70, 3] += 0.5
    # rounding of the entries is no reason
    a[5] *= 1 + np.finfo(dtype).eps
    assert lh.cg(a, b, rank=rank, memory=MEMORY).certificate.converged


def test_numbers_that_are_not_finite_are_named() -> None:
    a, b = definite(np.linspace(1, 5, 50)), draw((50, 2))
    a[7, 31] = np.nan
    with pytest.raises(NonFiniteError, match=r"nan at index \(7, 31\)"):
        lh.cg(a, b, memory=MEMORY)
    b[4, 1] = np.inf
    with pytest.raises(NonFiniteError, match=r"inf at index \(4, 1\)"):
        lh.cg(np.eye(50), b, memory=MEMORY)
    with pytest.raises(NonFiniteError, match="inf at index 4"):
        lh.cg(np.eye(50), b[:, 1], memory=MEMORY)


def test_questions_without_sense_are_refused() -> None:
    with pytest.raises(ShapeError, match="square"):
        lh.cg(np.ones((3, 4)), np.ones(3), memory=MEMORY)
    with pytest.raises(ShapeError, match="length 3"):
        lh.cg(np.eye(3), np.ones(4), memory=MEMORY)
    for wrong in (
        {"rank": 4}, {"rank": -1}, {"tol": 0.0}, {"tol": 2.0}, {"most_passes": 1}, {"seed": -1},
        {"shift": np.nan},
    ):  # fmt: skip
        with pytest.raises(OptionError, match="cg"):
            lh.cg(np.eye(3), np.ones(3), memory=MEMORY, **wrong)


def test_what_did_not_converge_says_so_and_how_far_it_is() -> None:
    a, b = definite(np.geomspace(1e-6, 1, 200)), draw(200)
    with pytest.warns(NotConvergedWarning, match="NOT CONVERGED"):
        r = lh.cg(a, b, rank=0, most_passes=10, memory=MEMORY)
    c = r.certificate
    assert (c.passes, c.iterations, c.converged) == (10, 9, False)
    assert c.residual > c.tol
    assert abs(c.residual - np.linalg.norm(b - a @ r.x) / np.linalg.norm(b)) <= 1e-12


def test_what_fits_in_memory_is_read_once(tmp_path: Path) -> None:
    a, b = definite(np.geomspace(1e-2, 1, 600)), draw(600)
    path = stored(tmp_path / "a", a, (60, 600))
    r = lh.cg(path, b, memory=MEMORY)
    assert r.report.read_nbytes == a.nbytes + b.nbytes
    assert r.report.passes == 1 < r.certificate.passes
    small = lh.cg(path, b, memory="155 MB", rank=4)
    assert 1 < small.report.passes <= small.certificate.passes
    assert small.report.reads_per_chunk == 1
    plan = lh.plan("cg", path, b, memory="155 MB", rank=4)
    assert plan.explanation.most_passes == 300


PROGRAM = """
import os, signal, sys
import leptonhpc as lh
from leptonhpc.store import Journal
save, count = Journal.save_stage, 0
def saving(self, name, arrays):
    global count
    save(self, name, arrays)
    count += 1
    if count == 5:
        os.kill(os.getpid(), signal.SIGKILL)
Journal.save_stage = saving
lh.cg(sys.argv[1], sys.argv[2], out=sys.argv[3], memory="1 GB", rank=5)
"""


def test_killed_job_goes_on_after_its_last_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = definite(np.geomspace(1e-2, 1, 120)), draw((120, 2))
    files = [stored(tmp_path / "a", a, (50, 50)), stored(tmp_path / "b", b, (60, 1))]
    whole = lh.cg(*files, out=tmp_path / "whole", memory=MEMORY, rank=5)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, files), str(tmp_path / "r")],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == -9, done.stderr
    assert not (tmp_path / "r").exists()
    saved = []
    save = Journal.save_stage
    monkeypatch.setattr(
        Journal, "save_stage", lambda s, name, acc: (saved.append(name), save(s, name, acc))
    )
    r = lh.cg(*files, out=tmp_path / "r", memory=MEMORY, rank=5)
    assert [s.name for s in r.report.stages if s.resumed] == [
        "gather b", "pass-1", "pass-2", "pass-3", "pass-4"
    ]  # fmt: skip
    assert saved[0] == "pass-5"
    assert all(s.read_nbytes == 0 for s in r.report.stages if s.resumed)
    assert r.certificate.passes == whole.certificate.passes
    # the same steps, with other roundings of sums at most
    assert np.allclose(r.x, whole.x, rtol=0, atol=1e-12 * np.linalg.norm(whole.x))
    again = lh.load(tmp_path / "r")
    assert np.array_equal(again.x, r.x)
    assert again.certificate == r.certificate


LARGE = """
import json, sys, warnings
import numpy as np
import leptonhpc as lh
spec = json.loads(sys.argv[1])
a = lh.open(spec["a"])
b = np.random.default_rng(0).standard_normal(a.shape[0])
r = lh.cg(a, b, memory=spec["memory"], **spec["options"])
c = r.certificate
print(json.dumps([r.report.peak_nbytes, r.report.predicted_peak_nbytes, c.passes, c.converged,
                  r.report.reads_per_chunk]))
"""


def test_peak_memory_stays_under_a_quarter_of_the_array(tmp_path: Path) -> None:
    budget, n, block = 230_000_000, 10800, 300
    array = zarr.create_array(
        tmp_path / "a", shape=(n, n), dtype="f8", chunks=(block, block), fill_value=0
    )
    part = np.eye(block) + np.ones((block, block)) / block
    for low in range(0, n, block):  # the rest is zero, and not stored
        array[low : low + block, low : low + block] = part
    assert 8 * n * n >= 4 * budget
    spec = {
        "a": str(tmp_path / "a"), "memory": budget,
        "options": {"rank": 8, "tol": 1e-2},
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", LARGE, json.dumps(spec)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    peak, predicted, passes, converged, reads = json.loads(done.stdout.splitlines()[-1])
    assert converged
    assert passes <= 6
    assert reads == 1
    assert peak <= predicted <= budget, (peak, predicted)
