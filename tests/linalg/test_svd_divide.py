"""All singular triplets by the polar factor: LAPACK's to rounding, in memory that holds no side."""

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
)
from leptonhpc.kernels import table
from leptonhpc.linalg import svd_divide
from leptonhpc.runtime import run as runner
from leptonhpc.testing import matrix_with_spectrum, put

DTYPES = ["float32", "float64", "complex64", "complex128"]
MEMORY = "1 GB"
RNG = np.random.default_rng(0)
BLOCK = RNG.standard_normal((50, 30))

HARD = {
    "zero": np.zeros((30, 20)),
    "equal columns": np.ones((20, 30)),
    "zero column": BLOCK * (np.arange(30) != 4),
    "one entry": np.where(np.arange(900).reshape(30, 30) == 77, 3.0, 0.0),
    "orthogonal": np.linalg.qr(RNG.standard_normal((40, 40)))[0],
    "deficient": BLOCK[:, :5] @ BLOCK[:5],
    "graded": matrix_with_spectrum((60, 60), np.geomspace(1, 1e-20, 60)),
    "clustered": matrix_with_spectrum((60, 40), np.repeat([1.0, 1e-3, 1e-3, 1e-9], 10)),
    "row": RNG.standard_normal((1, 30)),
    "one": np.array([[-2.0]]),
}


def require_factors(a: np.ndarray, r: lh.SvdResult) -> None:
    """Require the values of LAPACK, a small residual, orthonormal vectors, and that it is said."""
    u, s, vh = (np.asarray(x, np.result_type(x, float)) for x in (r.u, r.s, r.vh))
    wide, k = a.astype(np.result_type(a, float)), min(a.shape)
    expected = np.linalg.svd(wide, compute_uv=False)
    size, eps = float(np.linalg.norm(wide)), float(np.finfo(r.s.dtype).eps)
    # products of order max(m, n) in the iteration, as random walks; E is eps |A|_F
    allowed = 8 * max(a.shape) ** 0.5 * eps
    assert np.max(np.abs(s - expected)) <= allowed * size
    assert np.linalg.norm((u * s) @ vh - wide) <= allowed * k**0.5 * size
    for q in (u.conj().T, vh):
        assert np.max(np.abs(q @ q.conj().T - np.eye(k))) <= allowed * 4
    assert np.all(np.diff(s) <= 0)
    c = r.certificate
    assert c.converged
    assert c.norm == pytest.approx(size, rel=1e-6)
    found = np.linalg.norm(wide @ vh.conj().T - u * s, axis=0)
    assert np.all(found <= np.array(c.residuals) + allowed * size)
    assert c.captured == pytest.approx(1.0, abs=allowed)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(60, 40), (40, 60), (45, 45)])
def test_triplets_of_every_dtype_and_shape_are_right(dtype: str, shape: tuple[int, int]) -> None:
    a = RNG.standard_normal(shape) + 1j * RNG.standard_normal(shape) * dtype.startswith("c")
    a = (a if dtype.startswith("c") else a.real).astype(dtype)
    r = lh.svd(a, method="divide", memory=MEMORY)
    assert r.s.dtype == a.real.dtype
    require_factors(a, r)


@pytest.mark.parametrize("name", HARD)
def test_vectors_are_orthonormal_whatever_the_values(name: str) -> None:
    require_factors(HARD[name], lh.svd(HARD[name], method="divide", memory=MEMORY))


def test_what_no_worker_holds_is_divided_within_the_budget(tmp_path: Path) -> None:
    a = matrix_with_spectrum((620, 600), np.linspace(1, 0.01, 600))
    x = put(a, tmp_path / "a", chunks=(200, 200))
    with pytest.raises(MemoryBudgetError, match="Gram matrix"):
        lh.svd(x, memory="182 MB", method="gram")
    r = lh.svd(x, memory="182 MB", out=tmp_path / "r", progress=False)
    assert r.certificate.method == "polar factor, divide and conquer"
    assert r.report.predicted_peak_nbytes <= 182e6
    assert r.report.reads_per_chunk <= 1
    require_factors(a, lh.load(tmp_path / "r"))


def test_numbers_of_what_no_worker_holds_are_planned(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "a", shape=(9000, 8000), chunks=(500, 500), dtype="f8")
    for driver in ("svd", "cond", "matrix_rank"):
        plan = lh.plan(driver, tmp_path / "a", memory="1 GB")  # type: ignore[arg-type]
        assert "polar factor" in plan.explanation.method
        assert plan.explanation.peak_nbytes <= 1e9
    with pytest.raises(MemoryBudgetError, match="Gram matrix"):
        lh.plan("svd", tmp_path / "a", memory="1 GB", center=True)
    with pytest.raises(MemoryBudgetError, match="memory='\\d+ MB'"):
        lh.plan("svd", tmp_path / "a", memory="151 MB")


def test_values_alone_write_no_vectors() -> None:
    r = lh.svd(BLOCK, method="divide", compute_uv=False, memory=MEMORY)
    assert r.u is None
    assert r.vh is None
    assert np.allclose(r.s, np.linalg.svd(BLOCK, compute_uv=False), rtol=1e-13)


def test_a_stopped_job_goes_on_from_its_last_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = put(BLOCK, tmp_path / "a", chunks=(10, 30))
    whole = lh.svd(x, method="divide", memory=MEMORY)
    execute = runner._Run.execute

    def failing(self: Any, stage: Any, small: Any) -> Any:
        if stage.name.startswith("matmul") or stage.name == "pair residuals":
            raise KeyboardInterrupt
        return execute(self, stage, small)

    with monkeypatch.context() as patch:
        patch.setattr(runner._Run, "execute", failing)
        with pytest.raises(KeyboardInterrupt):
            lh.svd(x, method="divide", memory=MEMORY, out=tmp_path / "r")
    again = lh.svd(x, method="divide", memory=MEMORY, out=tmp_path / "r")
    assert any(stage.resumed for stage in again.report.stages)
    assert np.array_equal(again.s, whole.s)
    assert np.array_equal(np.asarray(again.u), np.asarray(whole.u))


def test_an_iteration_that_does_not_end_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(svd_divide, "_MOST_CUBICS", 3)
    with pytest.raises(LinAlgError, match="was not found in 3 iterations"):
        lh.svd(BLOCK, method="divide", memory=MEMORY)


def test_questions_that_it_has_no_answer_to_are_refused() -> None:
    for options in ({"rank": 3}, {"center": True}, {"scale": "std"}, {"tol": 0.1}):
        with pytest.raises(OptionError, match="as it is"):
            lh.svd(BLOCK, method="divide", memory=MEMORY, **options)
    bad = BLOCK.copy()
    bad[7, 9] = np.nan
    with pytest.raises(NonFiniteError, match=r"\(7, 9\)"):
        lh.svd(bad, method="divide", memory=MEMORY)
    with pytest.raises(NumericRangeError, match="Scale"):
        lh.svd(BLOCK * 1e307, method="divide", memory=MEMORY)


@pytest.mark.parametrize("device", ["host", "reference"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_perturbation_does_not_depend_on_rows_of_blocks(device: str, dtype: str) -> None:
    kernel, a = table(device)["perturbed"], np.arange(24.0).reshape(6, 4).astype(dtype)
    small = {"dtype": np.dtype(dtype), "seed": 3, "alpha": 2.0, "beta": 1e-3}

    def made(rows: tuple[int, int]) -> np.ndarray:
        acc, at = kernel.begin(small, ()), (rows, (0, 4))
        kernel.step(acc, [a[slice(*rows)]], small, at)
        block = kernel.finish(acc, small, at)
        assert block is not None
        return block

    whole = made((0, 6))
    assert whole.dtype == np.dtype(dtype)
    assert np.array_equal(whole, np.concatenate([made((0, 2)), made((2, 6))]))
    assert 0 < np.max(np.abs(whole - a / 2)) <= 1e-2


def test_blocks_of_products_are_whole_units_of_where_they_are_written(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "a", shape=(1800, 1620), chunks=(400, 400), dtype="f8")
    job: Any = lh.plan("polar", tmp_path / "a", memory="241 MB").job
    stages, matrix = job.svd.stages, job.svd.matrix
    x = stages.perturbed(matrix, "x0")[1]
    stage, made = stages.product(x.H, matrix, job._target("p", (1620, 1620)), kind="hermitian")
    assert len(stage.tasks) > 1
    assert made.unit == stage.target.unit
    for task in stage.tasks:
        for (low, high), unit in zip(task.at, stage.target.unit, strict=True):
            assert low % unit == 0
            assert high % unit == 0 or high == 1620
