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
    OptionError,
    ShapeError,
)
from leptonhpc.kernels import table
from leptonhpc.linalg import qr as planner
from leptonhpc.linalg import qr_tall
from leptonhpc.testing.cases import put
from leptonhpc.testing.matrices import matrix_with_spectrum

DTYPES = ["float32", "float64", "complex64", "complex128"]
MEMORY = "600 MB"


def gaussian(shape: tuple[int, int], dtype: str = "float64", seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    a = rng.standard_normal(shape)
    return (a + 1j * rng.standard_normal(shape) if dtype.startswith("c") else a).astype(dtype)


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
    tall = shape[0] >= 2 * shape[1] and bool(np.all(np.any(a, axis=0)))
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
        "Householder panels, for with Cholesky factors its column 4 is zero"
    )
    assert "overflow" in method("huge")
    assert "underflow" in method("tiny")


def test_a_q_that_is_not_orthonormal_as_written_is_made_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from leptonhpc.kernels import tall

    step = tall.SolvedGram.step

    def other_machine(self: Any, acc: Any, blocks: Any, small: Any, at: Any) -> Any:
        if small["write"]:  # rounds otherwise than the one that measured
            blocks = [blocks[0] * (1 + 1e-9 * np.sin(np.arange(len(blocks[0])))[:, None])]
        return step(self, acc, blocks, small, at)

    monkeypatch.setattr(tall.SolvedGram, "step", other_machine)
    result = factored(HARD["1e8"], HARD["1e8"])
    assert "departs from orthogonality" in result.certificate.method


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
    assert result.report.peak_nbytes <= result.report.predicted_peak_nbytes <= 220e6
    assert result.certificate.converged
    assert lh.open(x).nbytes > 220e6


def test_panels_that_do_not_fit_name_the_smallest_budget(tmp_path: Path) -> None:
    x = tmp_path / "a"
    zarr.create_array(x, shape=(400_000, 100), chunks=(4000, 100), dtype="f8")  # zeros
    with pytest.raises(MemoryBudgetError, match=r"at least memory='\d+ MB'"):
        lh.qr(x, memory="300 MB", method="householder", progress=False)
    with pytest.raises(MemoryBudgetError, match=r"column 0 is zero.*at least memory='\d+ MB'"):
        lh.qr(x, memory="300 MB", progress=False)


def test_errors_say_what_to_do() -> None:
    with pytest.raises(ShapeError, match="needs a matrix"):
        lh.qr(np.ones(3))
    with pytest.raises(OptionError, match="'cholesky' or 'householder'"):
        lh.qr(np.ones((3, 3)), method="givens")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="at least as many rows"):
        lh.qr(np.ones((3, 4)), method="cholesky")
    with pytest.raises(LinAlgError, match="pass method='auto'"):
        lh.qr(np.zeros((9, 3)), method="cholesky", progress=False)
    bad = gaussian((200, 20))
    bad[170, 3] = np.nan
    for method in ("auto", "householder"):
        with pytest.raises(NonFiniteError, match=r"\(170, 3\)"):
            lh.qr(bad, method=method, progress=False)  # type: ignore[arg-type]


@pytest.mark.parametrize("device", ["host", "reference"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(40, 24), (24, 40), (30, 30)])
def test_kernels_of_every_device_factor(device: str, dtype: str, shape: tuple[int, int]) -> None:
    kernels, (m, n), k = table(device), shape, min(shape)
    a, edges = gaussian(shape, dtype), (*range(0, n, 9), n)
    small: dict[str, Any] = {
        "dtype": np.dtype(dtype), "seed": 1, "name": "a", "columns": n, "edges": edges,
        "place": None,
    }  # fmt: skip
    packed, done = np.zeros(shape, dtype), []
    for c0, c1 in zip(edges, edges[1:], strict=False):
        at = ((0, m), (c0, c1))
        acc = kernels["load"].begin(small, at)
        kernels["load"].step(acc, [a[:, c0:c1]], small, at)
        for (b0, b1), earlier in done:
            for s, e in ((b0, min(b0 + 5, b1, m)), (min(b0 + 5, b1, m), min(b1, m))):
                told = {**small, "needed": [earlier]}
                kernels["update_geqrf"].step(acc, [packed[s:, s:e].copy()], told, ((s, m), (s, e)))
        packed[:, c0:c1] = kernels["geqrf"].finish(acc, small, at)
        done.append(((c0, c1), acc))
    total = {key: sum(acc[key] for _, acc in done) for key in ("taus", "diagonal", "expected")}
    small |= {"taus": total["taus"], "signs": np.where(total["diagonal"].real < 0, -1, 1)}
    at = ((0, m), (0, k))
    acc = kernels["form_q"].begin(small, at)
    for s in reversed(range(0, k, 7)):
        e = min(s + 7, k)
        kernels["form_q"].step(acc, [packed[s:, s:e].copy()], small, ((s, m), (s, e)))
    q = kernels["form_q"].finish(acc, small, at)
    assert q is not None
    small |= {"left": acc["left"], "expected": total["expected"]}
    at = ((0, k), (0, n))
    acc = kernels["unpack_r"].begin(small, at)
    kernels["unpack_r"].step(acc, [packed[:k]], small, at)
    r = kernels["unpack_r"].finish(acc, small, at)
    assert r is not None
    allowed = 8 * (k + m**0.5) * np.finfo(dtype).eps
    assert np.linalg.norm(q @ r - a) <= allowed * np.linalg.norm(a)
    assert np.linalg.norm(q.conj().T @ q - np.eye(k)) <= k**0.5 * allowed
    assert acc["hypot_defect"] <= 2 * allowed * np.linalg.norm(a)


@pytest.mark.parametrize("device", ["host", "reference"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_solved_gram_is_that_of_a_times_the_inverse_triangles(device: str, dtype: str) -> None:
    a = gaussian((70, 8), dtype)
    wide = np.result_type(dtype, np.float64)
    triangles = [np.triu(gaussian((8, 8), wide.name, s)) + 4 * np.eye(8) for s in (1, 2)]
    kernel, bands = table(device)["solved_gram"], ((0, 33), (33, 70))
    small = {
        "dtype": np.dtype(dtype), "wide": wide, "seed": 0, "name": "a", "columns": 8, "tile": 16,
        "factors": triangles, "first": True, "write": True,
    }  # fmt: skip
    acc = kernel.begin(small, ())
    out = [kernel.step(acc, [a[p:q]], small, ((p, q), (0, 8))) for p, q in bands]
    x = np.concatenate([o for o in out if o is not None])
    expected = a.astype(wide) @ np.linalg.inv(triangles[0]) @ np.linalg.inv(triangles[1])
    eps = float(np.finfo(dtype).eps)
    assert np.linalg.norm(x - expected) <= 64 * eps * np.linalg.norm(expected)
    gram = x.astype(wide).conj().T @ x.astype(wide)  # of what is written
    assert np.linalg.norm(np.tril(acc["gram"] - gram)) <= 1e-14 * np.linalg.norm(gram)


def test_the_shift_is_no_larger_than_it_must_be() -> None:
    exact = np.ones((6, 6))  # of rank one: no factor without a shift
    r = qr_tall._cholesky(exact)
    assert 0 < np.linalg.norm(r.conj().T @ r - exact) <= 64 * 6 * np.finfo(float).eps * 6
    assert np.array_equal(qr_tall._cholesky(np.eye(3)), np.eye(3))
