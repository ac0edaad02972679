"""QR: right, orthonormal whatever the conditioning, on any grid, in the memory that was given."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import leptonhpc as lh
from leptonhpc.errors import (
    LinAlgError,
    MemoryBudgetError,
    NonFiniteError,
    NumericRangeError,
    OptionError,
    ShapeError,
)
from leptonhpc.linalg import qr as planner
from leptonhpc.linalg import qr_tall
from leptonhpc.testing.cases import put
from leptonhpc.testing.matrices import matrix_with_spectrum
from leptonhpc.testing.memory import STRAY_NBYTES

from .systems import draw as gaussian

DTYPES = ["float32", "float64", "complex64", "complex128"]
MEMORY = "600 MB"


def factored(x: Any, a: np.ndarray, **options: Any) -> lh.QrResult:
    """Factor, and require that errors are rounding and that the certificate says so."""
    options = {"memory": MEMORY, "progress": False, **options}
    result = lh.qr(x, **options)
    q, r = (np.asarray(f) for f in (result.q, result.r))
    m, n, k = *a.shape, min(a.shape)
    wide = np.result_type(a.dtype, np.float64)
    assert q.shape == (m, k)
    assert r.shape == (k, n)
    # sums of length m, k times, as random walks of roundings (Higham 2002, Theorem 19.4)
    allowed = 8 * (max(k, 2) + m**0.5) * float(np.finfo(q.dtype).eps)
    size = float(np.max(np.abs(a))) or 1.0
    error = np.linalg.norm(q.astype(wide) @ (r.astype(wide) / size) - a.astype(wide) / size)
    error /= float(np.linalg.norm(a.astype(wide) / size)) or 1.0
    departure = np.linalg.norm(q.astype(wide).conj().T @ q.astype(wide) - np.eye(k))
    assert error <= allowed
    assert departure <= k**0.5 * allowed
    assert np.all(np.tril(r, -1) == 0)
    assert np.all(np.diagonal(r).imag == 0)
    assert np.all(np.diagonal(r).real >= 0)
    certificate = result.certificate
    assert certificate.converged
    # estimates with 2 and 4 random vectors: below a quarter with a chance under 0.1 % where errors
    # have many directions; what measuring itself rounds comes on top
    eps = float(np.finfo(q.dtype).eps)
    assert error / 4 <= certificate.backward_error + eps
    assert departure / 4 <= certificate.orthogonality + m**0.5 * eps
    return result


@pytest.mark.parametrize("dtype", [*DTYPES, "int16", "bool"])
@pytest.mark.parametrize("shape", [(150, 40), (90, 90), (50, 130), (1, 1), (7, 1), (1, 7)])
def test_q_is_orthonormal_and_q_r_is_the_matrix(dtype: str, shape: tuple[int, int]) -> None:
    a = gaussian(shape, dtype) if dtype in DTYPES else (gaussian(shape) > 0).astype(dtype)
    result = factored(a, a)
    tall = shape[0] >= 2 * shape[1]
    assert result.certificate.method.startswith("Cholesky" if tall else "Householder")


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_matrix_of_full_rank_has_one_r(dtype: str) -> None:
    a = gaussian((120, 30), dtype)
    expected = np.linalg.qr(a.astype(np.result_type(a, np.float64)), mode="r")
    expected *= (np.diagonal(expected).conj() / np.abs(np.diagonal(expected)))[:, None]
    for method in ("cholesky", "householder"):
        r = np.asarray(factored(a, a, method=method).r)
        # R moves by c eps cond(A) |A| (Higham 2002, section 19.9); cond is about 3 here
        assert np.linalg.norm(r - expected) <= 64 * np.finfo(dtype).eps * 30 * np.linalg.norm(a)


@pytest.mark.parametrize(
    ("shape", "chunks", "storage"),
    [
        ((130, 30), (16, 16), "zarr3"), ((130, 30), (130, 7), "zarr3"),
        ((130, 30), (3, 30), "zarr2"), ((70, 65), (9, 11), "sharded"),
        ((30, 130), (16, 130), "zarr3"), ((4500, 5), (4500, 2), "zarr3"),
        ((65, 70), (64, 64), "fortran"), ((130, 30), (16, 16), "big-endian"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["auto", "householder"])
def test_any_grid_gives_the_same_factors(
    tmp_path: Path, shape: tuple[int, int], chunks: tuple[int, int], storage: Any, method: str
) -> None:
    a = gaussian(shape)
    plain = factored(a, a, method=method)
    stored = factored(put(a, tmp_path / "a", chunks=chunks, storage=storage), a, method=method)
    bound = 64 * max(shape) * np.finfo(float).eps
    assert np.linalg.norm(np.asarray(stored.r) - np.asarray(plain.r)) <= bound * np.linalg.norm(a)


def narrow(monkeypatch: pytest.MonkeyPatch, width: int, sweep: int) -> None:
    """Cut matrices into panels of so many columns."""
    from leptonhpc.linalg.panels import Panels

    def choose(source: Any, *_: Any, **__: Any) -> Panels:
        m, n = source.shape
        return Panels((m, n), (*range(0, n, width), n), width, sweep, (40, 24), False, 1 << 28)

    monkeypatch.setattr(planner, "choose_panels", choose)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(150, 130), (100, 170), (129, 16), (33, 33)])
def test_panels_give_the_factors_of_the_whole(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, dtype: str, shape: tuple[int, int]
) -> None:
    narrow(monkeypatch, 32, 12)
    a = gaussian(shape, dtype)
    a[:, shape[1] // 3] = a[:, 0]  # a dependent column in the first or second panel
    x = put(a, tmp_path / "a", chunks=(32, 32))
    result = factored(x, a, method="householder", out=tmp_path / "out")
    assert result.certificate.method == "Householder panels"
    loaded = lh.load(tmp_path / "out")
    assert np.array_equal(np.asarray(loaded.q), np.asarray(result.q))
    assert np.array_equal(np.asarray(loaded.r), np.asarray(result.r))
    assert loaded.certificate == result.certificate


def test_a_stopped_factorisation_goes_on_from_its_panels(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from leptonhpc.kernels import orthogonal

    narrow(monkeypatch, 32, 16)
    a = gaussian((140, 128))
    x = put(a, tmp_path / "a", chunks=(32, 32))
    finish, calls = orthogonal.FormQ.finish, []

    def stop(*args: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return finish(*args)

    monkeypatch.setattr(orthogonal.FormQ, "finish", stop)
    with pytest.raises(KeyboardInterrupt):
        lh.qr(x, out=tmp_path / "out", memory=MEMORY, progress=False)
    monkeypatch.setattr(orthogonal.FormQ, "finish", finish)
    result = factored(x, a, out=tmp_path / "out")
    ran = {s.name: (s.resumed, s.resumed_tasks) for s in result.report.stages}
    assert ran["factor"][0]
    assert ran["form q"][1] == 2


def laeuchli(n: int, m: int, delta: float) -> np.ndarray:
    a = np.zeros((m, n))
    a[0], a[1 : n + 1] = 1, delta * np.eye(n)
    return a


HARD = {
    "laeuchli": laeuchli(20, 200, 1e-9),
    "laeuchli lost": laeuchli(20, 200, 1e-17),
    "vandermonde": np.vander(np.linspace(0, 1, 300), 25),
    "hilbert": 1 / (np.arange(200.0)[:, None] + np.arange(30.0) + 1),
    "deficient": gaussian((200, 5)) @ gaussian((5, 30), seed=1),
    "zero column": np.where(np.arange(30) == 4, 0, gaussian((200, 30))),
    "zero": np.zeros((60, 10)),
    "equal columns": np.ones((100, 12)),
    "single 1e9": matrix_with_spectrum((300, 40), np.geomspace(1, 1e-9, 40), dtype="float32"),
    "1e8": matrix_with_spectrum((300, 40), np.geomspace(1, 1e-8, 40)),
    "1e12": matrix_with_spectrum((300, 40), np.geomspace(1, 1e-12, 40), dtype="complex128"),
    "1e16": matrix_with_spectrum((300, 40), np.geomspace(1, 1e-16, 40)),
    "graded columns": gaussian((200, 30)) * np.geomspace(1, 1e-100, 30),
    "graded rows": gaussian((200, 30)) * np.geomspace(1, 1e-18, 200)[:, None],
    "huge": gaussian((200, 30)) * 1e200,
    "tiny": gaussian((200, 30)) * 1e-200,
    "one row": np.where(np.arange(200)[:, None] == 77, gaussian((1, 30)), 0),
    "one column": np.zeros((9, 1)),
    "single deficient": (gaussian((200, 5)) @ gaussian((5, 30), seed=1)).astype("float32"),
    "complex deficient": gaussian((200, 9), "complex128") @ gaussian((9, 30), "complex128", 1),
    "single 1e30": matrix_with_spectrum((300, 40), np.geomspace(1, 1e-30, 40), dtype="complex64"),
    "huge deficient": gaussian((200, 5)) @ gaussian((5, 30), seed=1) * 1e250,
    "unlike columns": np.repeat(gaussian((200, 15)), 2, axis=1) * np.geomspace(1e-150, 1e150, 30),
}


@pytest.mark.parametrize("method", ["auto", "householder"])
@pytest.mark.parametrize("name", HARD)
def test_q_is_orthonormal_whatever_the_conditioning(name: str, method: str) -> None:
    factored(HARD[name], HARD[name], method=method)


def test_how_the_factors_were_made_is_said() -> None:
    def method(name: str) -> str:
        return factored(HARD[name], HARD[name]).certificate.method

    assert method("1e8") == "Cholesky factors of Gram matrices, 2 of them"
    assert method("1e12") == "Cholesky factors of Gram matrices, 3 of them"
    assert method("zero column") == (
        "Cholesky factors of a basis that TSQR found, 29 columns of it from those of A, for its "
        "column 4 is zero"
    )
    assert "5 columns of it from those of A" in method("huge deficient")
    assert "overflow" in method("huge")
    assert "underflow" in method("tiny")


@pytest.mark.parametrize("name", ["1e8", "hilbert"])
def test_a_q_that_is_not_orthonormal_as_written_is_mended(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from leptonhpc.kernels import tall

    step = tall.SolvedGram.step

    def other_machine(self: Any, acc: Any, blocks: Any, small: Any, at: Any) -> Any:
        if small["write"]:  # rounds otherwise than the one that measured, by one unit
            unit = np.finfo(float).eps * (np.arange(len(blocks[0])) % 2)[:, None]
            blocks = [blocks[0] * (1 + unit)]
        return step(self, acc, blocks, small, at)

    monkeypatch.setattr(tall.SolvedGram, "step", other_machine)
    result = factored(HARD[name], HARD[name])
    assert result.certificate.method.startswith("Cholesky factors of")
    assert [s.name for s in result.report.stages if "write" in s.name] == ["write", "write-2"]


def test_a_q_that_nothing_mends_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from leptonhpc.kernels import tall

    step = tall.SolvedGram.step

    def faulty(self: Any, acc: Any, blocks: Any, small: Any, at: Any) -> Any:
        if small["write"]:
            blocks = [blocks[0] * (1 + 1e-9 * np.sin(np.arange(len(blocks[0])))[:, None])]
        return step(self, acc, blocks, small, at)

    monkeypatch.setattr(tall.SolvedGram, "step", faulty)
    with pytest.warns(lh.errors.NotConvergedWarning, match="NOT BACKWARD STABLE"):
        lh.qr(HARD["1e8"], memory=MEMORY, progress=False)


def test_a_faulty_factor_is_found_by_the_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    from leptonhpc.kernels import orthogonal

    step = orthogonal.UnpackR.step

    def faulty(self: Any, acc: Any, blocks: Any, small: Any, at: Any) -> None:
        step(self, acc, [blocks[0] * (1 + 1e-9)], small, at)

    monkeypatch.setattr(orthogonal.UnpackR, "step", faulty)
    with pytest.warns(lh.errors.NotConvergedWarning, match="NOT BACKWARD STABLE"):
        lh.qr(gaussian((60, 60)), memory=MEMORY, progress=False)


def test_what_fits_in_memory_is_read_once_and_else_once_a_pass(tmp_path: Path) -> None:
    a = gaussian((3000, 64))
    x = put(a, tmp_path / "a", chunks=(100, 64))
    once = lh.qr(x, memory=MEMORY, progress=False)
    assert once.report.passes == 1
    assert once.report.reads_per_chunk == 1
    plan = lh.plan("qr", x, memory=MEMORY)
    assert plan.explanation.passes == 3
    assert "CholeskyQR2" in plan.explanation.method


def test_peak_memory_stays_under_a_budget_smaller_than_the_matrix(tmp_path: Path) -> None:
    x = tmp_path / "a"
    array = zarr.create_array(x, shape=(300_000, 96), chunks=(4000, 96), dtype="f8",
                              compressors=None)  # fmt: skip
    block = gaussian((4000, 96))
    for low in range(0, 300_000, 4000):
        array[low : low + 4000] = block
    result = lh.qr(x, memory="220 MB", out=tmp_path / "out", progress=False)
    report = result.report
    assert report.peak_nbytes - STRAY_NBYTES <= report.predicted_peak_nbytes <= 220e6
    assert result.certificate.converged
    assert lh.open(x).nbytes > 220e6


def test_dependent_columns_are_factored_in_the_memory_that_independent_ones_take(
    tmp_path: Path,
) -> None:
    x = tmp_path / "a"
    array = zarr.create_array(x, shape=(300_000, 96), chunks=(4000, 96), dtype="f8",
                              compressors=None)  # fmt: skip
    block = gaussian((4000, 96))
    block[:, 50], block[:, 51] = block[:, 3], 0
    for low in range(0, 300_000, 4000):
        array[low : low + 4000] = block
    with pytest.raises(MemoryBudgetError, match=r"at least memory='\d+ MB'"):
        lh.qr(x, memory="220 MB", method="householder", progress=False)
    result = lh.qr(x, memory="220 MB", out=tmp_path / "out", progress=False)
    report = result.report
    assert report.peak_nbytes - STRAY_NBYTES <= report.predicted_peak_nbytes <= 220e6
    assert result.certificate.converged
    assert "94 columns of it from those of A" in result.certificate.method
    r = np.asarray(result.r)
    # the two columns are the same, in the same coordinates
    assert np.linalg.norm(r[:, 50] - r[:, 3]) <= 1e-13 * np.linalg.norm(r[:, 3])


def test_each_column_is_right_to_its_own_length() -> None:
    a = HARD["unlike columns"]
    q, r = lh.qr(a, memory=MEMORY, progress=False)
    sizes = np.abs(a).max(axis=0)  # powers would hide nothing: each column is divided by its own
    left = np.linalg.norm(np.asarray(q) @ (np.asarray(r) / sizes) - a / sizes, axis=0)
    # 8 n eps of the length, as for the whole: TSQR and products round column by column
    assert np.all(left <= 8 * 30 * np.finfo(float).eps * np.linalg.norm(a / sizes, axis=0))


def test_more_counts_as_rounding_where_a_basis_is_not_well_conditioned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    factors, tried = qr_tall._Passes._factors, list[int]()

    def failing(self: Any, acc: Any, basis: Any) -> Any:
        if basis is not None:
            tried.append(basis.rank)
        return None if len(tried) in (1, 3, 4, 5) else factors(self, acc, basis)

    monkeypatch.setattr(qr_tall._Passes, "_factors", failing)
    a = gaussian((200, 1)) @ gaussian((1, 12), seed=1) + 1e-14 * gaussian((200, 12), seed=2)
    a[:, 5] = 0
    factored(a, a)
    assert 1 <= tried[1] < tried[0]
    with pytest.raises(LinAlgError, match="no basis of its columns"):
        lh.qr(a, memory=MEMORY, progress=False)


def test_columns_whose_length_overflows_are_refused() -> None:
    with pytest.raises(NumericRangeError, match="length of column 2 of"):
        lh.qr(np.full((100, 4), 1e308) * [1e-9, 1e-9, 1, 1], memory=MEMORY, progress=False)


def test_errors_say_what_to_do() -> None:
    with pytest.raises(ShapeError, match="needs a matrix"):
        lh.qr(np.ones(3))
    with pytest.raises(OptionError, match="'cholesky' or 'householder'"):
        lh.qr(np.ones((3, 3)), method="givens")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="at least as many rows"):
        lh.qr(np.ones((3, 4)), method="cholesky")
    with pytest.raises(LinAlgError, match="Pass method='auto'"):
        lh.qr(np.zeros((9, 3)), method="cholesky", progress=False)
    bad = gaussian((200, 20))
    bad[170, 3] = np.nan
    for method in ("auto", "householder"):
        with pytest.raises(NonFiniteError, match=r"\(170, 3\)"):
            lh.qr(bad, method=method, progress=False)  # type: ignore[arg-type]
