"""LSMR: ridge and least squares of tall and wide matrices, residuals, passes, what is refused."""

import json
import os
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
    NumericRangeError,
    OptionError,
    ShapeError,
)
from leptonhpc.store import Journal
from leptonhpc.testing import matrix_with_spectrum

MEMORY = "1 GB"
DTYPES = ["float32", "float64", "complex64", "complex128"]
SHAPES = [(240, 60), (60, 240), (90, 90)]


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


def ridge(a: np.ndarray, b: np.ndarray, damp: float) -> np.ndarray:
    """Give the closed form, from the singular values."""
    u, s, vh = np.linalg.svd(a, full_matrices=False)
    factors = s / (s**2 + damp**2)
    return vh.conj().T @ ((factors * (u.conj().T @ b).T).T)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize(("rank", "damp"), [(0, 1e-1), (12, 3e-3), (None, 3e-3)])
def test_ridge_is_the_closed_form_to_1e_8(
    shape: tuple[int, int], dtype: str, rank: int | None, damp: float
) -> None:
    a = matrix_with_spectrum(shape, np.geomspace(1, 1e-3, min(shape)), dtype=dtype)
    b = draw((shape[0], 2), dtype)
    # |x - x*| <= |A^H r - damp^2 x| / damp^2 <= tol |A| |(r, damp x)| / damp^2 is 3e-9 or less,
    # and some ten times what rounding leaves of the gradient
    r = lh.lsmr(a, b, damp=damp, rank=rank, tol=1e-11, memory=MEMORY)
    x = ridge(a, b, damp)
    assert r.certificate.converged
    assert r.x.dtype == dtype
    relative = np.linalg.norm(r.x - x, axis=0) / np.linalg.norm(x, axis=0)
    assert np.max(relative) <= 1e-8
    # the bound is rigorous where damp is the least singular value; an estimate of it else
    assert np.max(relative) <= 1.01 * r.certificate.error + 1e-12


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_single_precision_is_right_to_its_tolerance(shape: tuple[int, int], dtype: str) -> None:
    a = matrix_with_spectrum(shape, np.linspace(0.2, 1, min(shape)), dtype=dtype)
    b, damp = draw(shape[0], dtype), 0.3
    wide = np.result_type(dtype, np.float64)
    x = ridge(a.astype(wide), b.astype(wide), damp)
    for rank in (0, None):
        r = lh.lsmr(a, b, damp=damp, rank=rank, memory=MEMORY)
        c = r.certificate
        assert r.x.dtype == dtype
        assert c.converged
        assert np.linalg.norm(r.x - x) <= 1.01 * c.error * np.linalg.norm(r.x)
        # c.tol |A| |r| / damp^2
        size = c.norm * np.hypot(np.linalg.norm(b - a @ x), damp * np.linalg.norm(x))
        assert np.linalg.norm(r.x - x) <= 1.1 * c.tol * size / damp**2


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("rank", "chunks"), [(0, (37, 240)), (12, (240, 23)), (None, (37, 23))])
def test_least_squares_are_those_of_numpy(
    shape: tuple[int, int], rank: int | None, chunks: tuple[int, int], tmp_path: Path
) -> None:
    a = matrix_with_spectrum(shape, np.geomspace(1, 1e-2, min(shape)))
    b = draw((shape[0], 2))
    chunks = (min(chunks[0], shape[0]), min(chunks[1], shape[1]))
    r = lh.lsmr(stored(tmp_path / "a", a, chunks), b, rank=rank, tol=1e-13, memory=MEMORY)
    x = np.linalg.lstsq(a, b, rcond=None)[0]
    assert r.certificate.converged
    # 1e-13 |A|_F |r| times the square of the condition number, 1e4, and |r| up to 10 |x|
    assert np.linalg.norm(r.x - x) <= 1e-7 * np.linalg.norm(x)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rank", [0, 12, 30])
def test_deficient_matrix_gives_the_smallest_solution(shape: tuple[int, int], rank: int) -> None:
    values = np.where(np.arange(min(shape)) < 20, 0.7 ** np.arange(min(shape)), 0)
    a, b = matrix_with_spectrum(shape, values), draw(shape[0])
    x = np.linalg.pinv(a, rcond=1e-10) @ b
    r = lh.lsmr(a, b, rank=rank, tol=1e-10, memory=MEMORY)
    assert r.certificate.converged
    # 1e-10 |A| |r| by the square of the least singular value; what rounding turns out of the range
    # of A^H is eps / 1e-6
    size = np.linalg.norm(a) * np.linalg.norm(b - a @ x) / values[19] ** 2
    assert np.linalg.norm(r.x - x) <= 1e-10 * size + 1e-8 * np.linalg.norm(x)


@pytest.mark.filterwarnings("ignore::leptonhpc.errors.NotConvergedWarning")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rank", [0, 12, 30])
def test_asking_for_more_than_rounding_allows_does_no_harm(
    shape: tuple[int, int], rank: int
) -> None:
    values = np.where(np.arange(min(shape)) < 20, 0.7 ** np.arange(min(shape)), 0)
    a, b = matrix_with_spectrum(shape, values), draw((shape[0], 2))
    x = np.linalg.pinv(a, rcond=1e-10) @ b
    r = lh.lsmr(a, b, rank=rank, tol=3e-16, memory=MEMORY)
    assert np.linalg.norm(r.x - x) <= 1e-7 * np.linalg.norm(x)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_certificate_is_what_numpy_computes(dtype: str, shape: tuple[int, int]) -> None:
    a = matrix_with_spectrum(shape, np.linspace(0.1, 1, min(shape)), dtype=dtype)
    b, damp = draw(shape[0], dtype), 0.1
    r = lh.lsmr(a, b, damp=damp, rank=5, memory=MEMORY)
    wide = np.result_type(dtype, np.float64)
    a, b, x = a.astype(wide), b.astype(wide), r.x.astype(wide)
    left, norm = b - a @ x, np.linalg.norm(a)
    gradient = np.linalg.norm(a.conj().T @ left - damp**2 * x)
    size = np.hypot(np.linalg.norm(left), damp * np.linalg.norm(x))
    eps = np.finfo(float).eps
    c = r.certificate
    assert abs(c.residual - np.linalg.norm(left) / np.linalg.norm(b)) <= 4 * sum(shape) * eps
    assert abs(c.optimality - gradient / ((norm + damp) * size)) <= 4 * sum(shape) * eps
    assert abs(c.norm - norm) <= 4 * sum(shape) * eps * norm


@pytest.mark.parametrize("shape", [(240, 60), (60, 240)])
def test_passes_are_no_more_than_iterations_of_scipy(shape: tuple[int, int]) -> None:
    a, b = matrix_with_spectrum(shape, np.geomspace(1, 1e-3, 60)), draw(shape[0])
    damp = 0.01
    x, _, count, *_ = scipy.sparse.linalg.lsmr(a, b, damp=damp, atol=1e-12, btol=0, maxiter=5000)
    r = lh.lsmr(a, b, damp=damp, rank=0, tol=1e-12, memory=MEMORY)
    c = r.certificate
    assert c.passes <= c.iterations + 4 <= count + 4
    size = np.hypot(np.linalg.norm(b - a @ x), damp * np.linalg.norm(x)) / damp**2
    assert np.linalg.norm(r.x - x) <= 4e-12 * np.linalg.norm(a) * size


@pytest.mark.parametrize("shape", [(400, 200), (200, 400)])
def test_preconditioner_saves_passes_where_the_spectrum_falls(shape: tuple[int, int]) -> None:
    values = np.concatenate([np.geomspace(1, 1e-3, 40), np.geomspace(1e-3, 1e-4, 160)])
    a, b = matrix_with_spectrum(shape, values), draw(shape[0])
    passes, conditions = [], []
    for rank in (0, 50):
        c = lh.lsmr(a, b, damp=1e-3, rank=rank, tol=1e-12, memory=MEMORY).certificate
        assert c.converged
        passes.append(c.passes)
        conditions.append(c.condition)
    assert 2 * passes[1] < passes[0]
    assert conditions[1] < 3 < 900 < conditions[0] <= 1000


@pytest.mark.parametrize("shape", SHAPES)
def test_sides_stop_by_themselves_and_zero_gives_zero(shape: tuple[int, int]) -> None:
    a = matrix_with_spectrum(shape, np.linspace(0.5, 1, min(shape)))
    b = draw((shape[0], 3))
    b[:, 1] = 0
    for rank in (0, 5):
        r = lh.lsmr(a, b, rank=rank, memory=MEMORY)
        assert not r.x[:, 1].any()
        for i in (0, 2):
            single = lh.lsmr(a, b[:, i], rank=rank, memory=MEMORY)
            assert np.allclose(r.x[:, i], single.x, rtol=0, atol=1e-6)
        zero = lh.lsmr(a, np.zeros(shape[0]), rank=rank, memory=MEMORY)
        assert not zero.x.any()
        assert zero.certificate.converged
        assert zero.certificate.residual == 0
    nothing = lh.lsmr(np.zeros(shape), b, memory=MEMORY)
    assert not nothing.x.any()
    assert nothing.certificate.converged


def test_consistent_system_stops_at_a_small_residual() -> None:
    for shape in SHAPES:
        a = matrix_with_spectrum(shape, np.linspace(0.5, 1, min(shape)))
        x = draw(shape[1])
        r = lh.lsmr(a, a @ x, memory=MEMORY)
        assert r.certificate.converged
        assert np.linalg.norm(a @ (r.x - x)) <= 1e-7 * np.linalg.norm(a @ x)


def test_real_matrix_takes_complex_sides_and_the_reverse() -> None:
    for shape in SHAPES:
        values = np.linspace(0.5, 1, min(shape))
        for dtype, kind in ((float, complex), (complex, float)):
            a, b = matrix_with_spectrum(shape, values, dtype=dtype), draw((shape[0], 2), kind)
            for rank in (0, 5):
                r = lh.lsmr(a, b, damp=0.5, rank=rank, tol=1e-12, memory=MEMORY)
                x = ridge(a, b, 0.5)
                assert np.linalg.norm(r.x - x) <= 1e-10 * np.linalg.norm(x)


@pytest.mark.parametrize("shape", SHAPES)
def test_integers_are_widened(shape: tuple[int, int]) -> None:
    a = np.random.default_rng(0).integers(-3, 4, shape).astype(np.int8)
    b = draw(shape[0])
    r = lh.lsmr(a, b, damp=2.0, tol=1e-12, memory=MEMORY)
    assert np.linalg.norm(r.x - ridge(a.astype(float), b, 2.0)) <= 1e-8 * np.linalg.norm(r.x)


def test_bad_numbers_and_questions_are_refused() -> None:
    for shape in SHAPES:
        a, b = draw(shape), draw(shape[0])
        a[7, 31] = np.nan
        with pytest.raises(NonFiniteError, match=r"nan at index \(7, 31\)"):
            lh.lsmr(a, b, memory=MEMORY)
        b[3] = np.inf
        with pytest.raises(NonFiniteError, match="inf at index 3"):
            lh.lsmr(np.ones(shape), b, memory=MEMORY)
        with pytest.raises(NumericRangeError, match="Scale the array"):
            lh.lsmr(draw(shape) * 1e200, draw(shape[0]), memory=MEMORY)
    with pytest.raises(ShapeError, match="length 5"):
        lh.lsmr(np.ones((5, 3)), np.ones(4), memory=MEMORY)
    for wrong in ({"damp": -1.0}, {"rank": 4}, {"tol": 1e-20}, {"most_passes": 2}):
        with pytest.raises(OptionError, match="lsmr"):
            lh.lsmr(np.ones((5, 3)), np.ones(5), memory=MEMORY, **wrong)


@pytest.mark.parametrize("shape", [(240, 60), (60, 240)])
def test_what_did_not_converge_says_so(shape: tuple[int, int]) -> None:
    a, b = matrix_with_spectrum(shape, np.geomspace(1, 1e-5, 60)), draw(shape[0])
    with pytest.warns(NotConvergedWarning, match="NOT CONVERGED"):
        r = lh.lsmr(a, b, rank=0, tol=1e-14, most_passes=12, memory=MEMORY)
    assert r.certificate.passes <= 12
    assert r.certificate.backward_error > r.certificate.tol


@pytest.mark.parametrize("shape", [(1200, 60), (60, 1200)])
def test_what_fits_in_memory_is_read_once(shape: tuple[int, int], tmp_path: Path) -> None:
    a, b = draw(shape), draw(shape[0])
    path = stored(tmp_path / "a", a, (60, 60))
    r = lh.lsmr(path, b, memory=MEMORY)
    assert r.report.read_nbytes == a.nbytes + b.nbytes
    assert r.report.passes == 1 < r.certificate.passes


PROGRAM = """
import os, signal, sys
import leptonhpc as lh
from leptonhpc.store import Journal
save, count = Journal.save_stage, 0
def saving(self, name, arrays):
    global count
    save(self, name, arrays)
    count += 1
    if count == 4:
        os.kill(os.getpid(), signal.SIGKILL)
Journal.save_stage = saving
lh.lsmr(sys.argv[1], sys.argv[2], out=sys.argv[3], memory="1 GB", rank=5, damp=0.1)
"""


@pytest.mark.parametrize("shape", [(240, 60), (60, 240)])
def test_killed_job_goes_on_after_its_last_pass(
    shape: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = matrix_with_spectrum(shape, np.linspace(0.1, 1, 60)), draw(shape[0])
    files = [stored(tmp_path / "a", a, (50, 50)), stored(tmp_path / "b", b, (60,))]
    options: dict[str, Any] = {"memory": MEMORY, "rank": 5, "damp": 0.1}
    whole = lh.lsmr(*files, out=tmp_path / "whole", **options)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, files), str(tmp_path / "r")],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == -9, done.stderr
    saved = []
    save = Journal.save_stage
    monkeypatch.setattr(
        Journal, "save_stage", lambda s, name, acc: (saved.append(name), save(s, name, acc))
    )
    r = lh.lsmr(*files, out=tmp_path / "r", **options)
    assert [s.name for s in r.report.stages if s.resumed] == [
        "gather b", "pass-1", "pass-2", "pass-3"
    ]  # fmt: skip
    assert saved[0] == "pass-4"
    assert r.certificate.passes == whole.certificate.passes
    assert np.allclose(r.x, whole.x, rtol=0, atol=1e-12 * np.linalg.norm(whole.x))
    assert lh.load(tmp_path / "r").certificate == r.certificate


LARGE = """
import json, sys
import numpy as np
import leptonhpc as lh
spec = json.loads(sys.argv[1])
a = lh.open(spec["a"])
a = a.T if spec["wide"] else a
b = np.random.default_rng(0).standard_normal(a.shape[0])
r = lh.lsmr(a, b, memory=spec["memory"], tol=spec["tol"], rank=2)
c = r.certificate
print(json.dumps([r.report.peak_nbytes, r.report.predicted_peak_nbytes, c.passes, c.converged,
                  r.report.reads_per_chunk]))
"""


@pytest.mark.parametrize("wide", [False, True])
def test_peak_memory_stays_under_a_quarter_of_the_array(wide: bool, tmp_path: Path) -> None:
    budget, rows, columns = 230_000_000, 2048, 512
    count = -(-4 * budget // (8 * rows * columns))
    rng = np.random.default_rng(0)
    zarr.create_array(
        tmp_path / "a", shape=(count * rows, columns), dtype="f8", chunks=(rows, columns),
        compressors=None,
    )  # fmt: skip
    for number in range(count):  # chunks are links to a few: reading knows no difference
        file = tmp_path / "a" / "c" / str(number) / "0"
        file.parent.mkdir(parents=True)
        if number < 4:
            file.write_bytes(rng.standard_normal((rows, columns)).tobytes())
        else:
            os.link(tmp_path / "a" / "c" / str(number % 4) / "0", file)
    tol = 1e-2 if wide else 1e-3
    spec = {"a": str(tmp_path / "a"), "wide": wide, "memory": budget, "tol": tol}
    done = subprocess.run(
        [sys.executable, "-c", LARGE, json.dumps(spec)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    peak, predicted, passes, converged, reads = json.loads(done.stdout.splitlines()[-1])
    assert converged
    assert 3 <= passes <= 7
    assert reads == 1
    assert peak <= predicted <= budget, (peak, predicted)
