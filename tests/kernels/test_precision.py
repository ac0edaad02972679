"""What is computed with is what was asked for, and certificates hold for it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import leptonhpc as lh
from leptonhpc.blocks import BlockedArray, changed
from leptonhpc.errors import (
    JobMismatchError,
    NumericRangeError,
    OptionError,
    OutputExistsError,
    SingularMatrixError,
)
from leptonhpc.kernels import primitives_of, table, tables
from leptonhpc.placement import Device, Machine
from leptonhpc.planning.precision import TF32_ROUNDOFF, arithmetic_of, rounding
from leptonhpc.testing import matrix_with_spectrum, put
from leptonhpc.testing.cuda_double import double
from leptonhpc.testing.cuda_double.device import Device as Gpu

KIND = "leptonhpc.testing.cuda_double"
MEMORY = "300 MB"
PANELS = "152 MB"
"""Matrices of order 400 are factored in two panels or more: updates between are products."""
PRECISIONS = (None, "float64", "float32", "tf32")
UNITS = {"float64": 2.0**-53, "float32": 2.0**-24, "tf32": 2.0**-11}


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Any:
    """A GPU, in the precision that a test gives."""
    blas, device = double(1 << 28)
    blas = blas.computing(getattr(request, "param", None))
    monkeypatch.setitem(tables.DEVICES, KIND, blas)
    monkeypatch.setenv("LEPTONHPC_DEVICE", KIND)
    table.cache_clear()
    yield device
    table.cache_clear()


def _products(device: Gpu) -> dict[str, int]:
    return {k: v for k, v in device.calls.items() if k.endswith("gemm") or k == "tf32"}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_product_is_computed_with_what_was_asked_for(
    gpu: Gpu, precision: Any, rng: np.random.Generator
) -> None:
    a, b = rng.standard_normal((60, 40)), rng.standard_normal((40, 50))
    r = lh.matmul(a, b, precision=precision, memory=MEMORY)
    unit = UNITS[precision or "float64"]
    exact = a.astype(np.longdouble) @ b
    error = float(np.linalg.norm((np.asarray(r.product) - exact).astype(float)))
    scale = np.linalg.norm(a) * np.linalg.norm(b)
    single = precision in ("float32", "tf32")
    assert r.product.dtype == np.dtype("f4" if single else "f8")
    # both factors and the sum round; rounding errors are not all of one sign
    assert error <= 4 * unit * scale
    # that much is lost, or the test could not tell: sums of 40 terms average it
    assert error >= unit / 40 * scale
    assert set(_products(gpu)) == {
        "fgemm" if single else "dgemm",
        *["tf32"] * (precision == "tf32"),
    }
    assert (precision or "float64") in r.certificate.computed
    assert r.certificate.computed in str(r.certificate)
    plan = lh.plan("matmul", a, b, precision=precision, memory=MEMORY).explanation
    assert plan.precision == r.certificate.computed
    assert plan.precision in str(plan)


QUESTIONS = {
    "matmul": lambda a, p: lh.matmul(a, a.T[:, :9], precision=p, memory=MEMORY),
    "cholesky": lambda a, p: lh.cholesky(a, precision=p, memory=PANELS),
    "lu": lambda a, p: lh.lu(a, precision=p, memory=PANELS),
    "qr": lambda a, p: lh.qr(a, method="householder", precision=p, memory=MEMORY),
    "solve": lambda a, p: lh.solve(a, a[:, 0], precision=p, memory=PANELS),
}


def _defect(name: str, a: np.ndarray[Any, Any], r: Any) -> float:
    """Give the relative error of what was made, in double precision."""
    wide = {k: np.asarray(v, float) for k, v in r.arrays().items()}
    if name == "matmul":
        found, true = wide["product"], a @ a.T[:, :9]
    elif name == "cholesky":
        found, true = wide["l"] @ wide["l"].T, a
    elif name == "lu":
        found, true = wide["l"] @ wide["u"], a[wide["perm"].astype(int)]
    elif name == "qr":
        found, true = wide["q"] @ wide["r"], a
    else:
        found, true = a @ wide["x"], a[:, 0]
    scale = np.linalg.norm(a) * (np.linalg.norm(a[:9]) if name == "matmul" else 1)
    scale = np.linalg.norm(a) * np.linalg.norm(wide["x"]) if name == "solve" else scale
    return float(np.linalg.norm(found - true) / scale)


@pytest.mark.parametrize("name", QUESTIONS)
def test_certificates_of_tf32_bound_what_is_measured(
    gpu: Gpu, name: str, rng: np.random.Generator
) -> None:
    n = 400 if name in ("cholesky", "lu", "solve") else 90
    x = rng.standard_normal((n, n))
    a = x @ x.T / n + np.eye(n)
    found = {p: QUESTIONS[name](a, p) for p in ("float32", "tf32")}
    for precision, r in found.items():
        assert r.certificate.converged
        assert _defect(name, a, r) <= r.certificate.bound
        assert precision in r.certificate.computed
    more = found["tf32"].certificate.bound - found["float32"].certificate.bound
    # what rounded factors add does not grow with the length of the sums
    assert more == pytest.approx((4 if name == "matmul" else 8) * 2 * TF32_ROUNDOFF)
    assert gpu.calls["tf32"] > 0


def test_rounded_factors_are_more_than_single_precision_allows(
    gpu: Gpu, rng: np.random.Generator
) -> None:
    a = rng.standard_normal((90, 90))
    r = lh.qr(a, method="householder", precision="tf32", memory=MEMORY)
    # without the term of TF32 the certificate would call this result unstable
    assert r.certificate.backward_error > 8 * rounding(90 + 90**0.5, "f4", "float32")
    assert r.certificate.converged


@pytest.mark.parametrize("method", ["gram", "krylov"])
def test_singular_values_of_tf32_are_within_their_rounding(
    gpu: Gpu, method: Any, rng: np.random.Generator
) -> None:
    a = rng.standard_normal((700, 80)) * 0.9 ** np.arange(80)
    r = lh.svd(a, rank=4, method=method, precision="tf32", memory=MEMORY)
    exact = np.linalg.svd(a, compute_uv=False)[:4]
    residuals = np.array(r.certificate.residuals)
    assert np.all(np.abs(r.s - exact) <= residuals + r.certificate.rounding)
    assert r.certificate.rounding >= 16 * TF32_ROUNDOFF * exact[0]
    u, vh = np.asarray(r.u, float), np.asarray(r.vh, float)
    error = np.linalg.norm(a @ vh.T - u * r.s, axis=0)
    assert np.all(error <= residuals + r.certificate.rounding)
    assert "tf32" in r.certificate.computed
    assert "float64" in r.certificate.computed


def test_solutions_by_rounded_factors_are_refined(gpu: Gpu, rng: np.random.Generator) -> None:
    x, b = rng.standard_normal((400, 400)), rng.standard_normal(400)
    a = x + 25 * np.eye(400)
    full, rounded = (lh.solve(a, b, precision=p, memory=PANELS) for p in ("float32", "tf32"))
    assert rounded.certificate.precision == "tf32"
    assert rounded.certificate.backward_error > 10 * full.certificate.backward_error
    # refined, where it must be, with a residual in float32
    assert rounded.certificate.backward_error <= 4 * 400**0.5 * np.finfo("f4").eps
    with pytest.raises(SingularMatrixError, match="pass precision='float32'"):
        lh.solve(x, b, precision="tf32", memory=PANELS)


@pytest.mark.parametrize("driver", ["matmul", "svd", "cholesky", "lu", "qr", "solve"])
@pytest.mark.parametrize("kind", ["host", "leptonhpc.testing.strict_device"])
def test_tf32_where_there_is_none_is_refused_before_anything_runs(
    driver: Any, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEPTONHPC_DEVICE", kind)
    inputs = [np.eye(4), np.eye(4)][: 2 if driver in ("matmul", "solve") else 1]
    with pytest.raises(OptionError, match="LEPTONHPC_DEVICE=cuda; found none on 1 worker"):
        getattr(lh, driver)(*inputs, precision="tf32", out=tmp_path / "out")
    assert not list(tmp_path.iterdir())
    with pytest.raises(OptionError, match="precision is None.*found 'half'"):
        lh.plan(driver, *inputs, precision="half")


def test_a_kind_that_rounds_does_not_where_a_job_says_so(
    monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    monkeypatch.setenv("LEPTONHPC_DEVICE", KIND + ".tf32")
    a = rng.standard_normal((50, 50)).astype("f4")
    chosen, single = (lh.matmul(a, a, precision=p, memory=MEMORY) for p in (None, "float32"))
    exact = a.astype(float) @ a
    rounded, full = (np.linalg.norm(np.asarray(r.product) - exact) for r in (chosen, single))
    assert rounded > 100 * full
    assert "tf32" in chosen.certificate.computed
    assert "tf32" not in single.certificate.computed
    assert chosen.certificate.bound > 10 * single.certificate.bound


@pytest.mark.parametrize("gpu", ["tf32"], indirect=True)
@pytest.mark.parametrize("name", ["eigh", "pinv", "polar", "lstsq", "cond", "svd"])
def test_a_kind_that_rounds_does_not_where_no_certificate_would_hold(name: str, gpu: Gpu) -> None:
    a = matrix_with_spectrum((60, 60), np.linspace(1, 0.05, 60), dtype=np.float32)
    a = (a + a.T) / 2 + np.eye(60, dtype="f4")
    sides = (a[:, 0],) if name == "lstsq" else ()
    how = {"method": "divide"} if name == "svd" else {}
    r = getattr(lh, name)(a, *sides, memory=MEMORY, **how)
    assert r.certificate.converged
    assert "tf32" not in gpu.calls
    assert lh.matmul(a, a, memory=MEMORY).certificate.computed.startswith("products in tf32")
    assert gpu.calls["tf32"] > 0


WHOLE = {
    "eigh": lambda a, b, p: lh.eigh(a, precision=p, memory=MEMORY),
    "lstsq": lambda a, b, p: lh.lstsq(a, b, precision=p, memory=MEMORY),
    "inv": lambda a, b, p: lh.inv(a, precision=p, memory=MEMORY),
}


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize(("stored", "asked"), [("f8", "float32"), ("F", "float64")])
def test_all_that_is_found_of_a_matrix_is_in_the_precision_that_was_asked_for(
    name: str, stored: str, asked: Any, rng: np.random.Generator
) -> None:
    x = matrix_with_spectrum((50, 50), np.linspace(1, 0.2, 50), dtype=np.dtype(stored))
    a = (x + x.conj().T).astype(stored) + 3 * np.eye(50, dtype=stored)
    b = rng.standard_normal(50).astype(stored)
    r = WHOLE[name](a, b, asked)
    real = np.dtype("f8" if asked == "float64" else "f4")
    dtype = np.result_type(real, "F") if stored == "F" else real
    wide = a.astype(np.result_type(stored, float))
    found = {k: np.asarray(v, np.result_type(v, float)) for k, v in r.arrays().items()}
    assert next(iter(r.arrays().values())).dtype == (real if name == "eigh" else dtype)
    if name == "eigh":
        v = found["eigenvectors"]
        error = np.linalg.norm(wide @ v - v * found["eigenvalues"]) / np.linalg.norm(wide)
    elif name == "lstsq":
        error = np.linalg.norm(found["x"] - np.linalg.solve(wide, b)) / np.linalg.norm(found["x"])
    else:
        error = np.linalg.norm(wide @ found["x"] - np.eye(50)) / 50**0.5
    assert r.certificate.converged
    # the condition is below 5; numbers that were float32 are exact in float64
    eps = float(np.finfo(real).eps)
    assert error <= 8 * 50 * eps
    # float32 is not more than that; a hundredth of its rounding could not come by chance
    assert error >= eps / 100


@pytest.mark.parametrize("name", ["eigh", "lstsq"])
def test_tf32_that_would_leave_too_few_digits_is_refused(gpu: Gpu, name: str) -> None:
    a = np.eye(4)
    with pytest.raises(OptionError, match=f"{name} has no precision='tf32'.*'float32'"):
        WHOLE[name](a, a[0], "tf32")
    with pytest.raises(OptionError, match="found 'half'"):
        WHOLE[name](a, a[0], "half")
    inverse = lh.inv(a, precision="tf32", memory=MEMORY).certificate
    assert inverse.precision == "tf32"
    assert inverse.bound >= 8 * 2 * TF32_ROUNDOFF


def test_both_precisions_of_a_device_share_its_memory() -> None:
    blas = primitives_of(KIND)
    rounded = blas.computing("tf32")
    assert (blas.precision, rounded.precision) == ("full", "tf32")
    assert rounded.computing("float32") is blas.computing("float64") is blas
    assert rounded.computing(None) is rounded
    c, a = rounded.zeros((2, 2), "f4"), blas.put(np.eye(2, dtype="f4"))
    rounded.gemm(c, a, a)
    assert np.array_equal(blas.get(c), np.eye(2))
    host = primitives_of("host")
    assert host.computing("tf32") is host


def test_plans_say_which_workers_have_no_tf32(rng: np.random.Generator) -> None:
    gpu = Device("gpu", "cuda", memory_nbytes=10**10, tf32=True)
    a = rng.standard_normal((500, 500)).astype("f4")

    def planned(*devices: Device, precision: Any = "tf32") -> Any:
        machine = Machine(devices)
        return lh.plan("matmul", a, a, precision=precision, machine=machine).explanation

    assert "have no TF32" not in planned(gpu).precision
    both = planned(gpu, Device("cores")).precision
    assert both.endswith("1 of 2 workers have no TF32: theirs in float32")
    with pytest.raises(OptionError, match="found none on 2 workers"):
        planned(Device("cores"), Device("others"))
    assert planned(Device("cores"), precision="float32").precision == (
        "products in float32, sums in float32"
    )
    gram = lh.plan("svd", a, rank=2, method="gram", machine=Machine((gpu,)), precision="tf32")
    assert [s["products"] for s in gram.explanation.stages] == ["float64", "tf32"]


@pytest.mark.parametrize(
    ("kernel", "dtype", "expected"),
    [
        ("gemm", "f4", ("tf32", "float32")),
        ("gemm", "f8", ("float64", "float64")),
        ("normal", "F", ("tf32", "complex128")),
        ("gram", "f4", ("float64", "float64")),
        ("gram_narrow", "f8", ("tf32", "float64")),
    ],
)
def test_kernels_say_what_they_sum_in(kernel: str, dtype: str, expected: tuple[str, str]) -> None:
    assert arithmetic_of(kernel, dtype, "tf32") == expected


@pytest.mark.parametrize(
    ("stored", "asked"), [("i2", "float32"), ("f4", "float64"), ("F", "float64")]
)
def test_numbers_are_converted_as_they_are_read(
    stored: str, asked: Any, tmp_path: Path, rng: np.random.Generator
) -> None:
    a = (100 * rng.standard_normal((70, 50))).astype(stored)
    x = put(a, tmp_path / "a", chunks=(20, 15))
    dtype = np.result_type("f8" if asked == "float64" else "f4", "c8" if stored == "F" else "f4")
    q = lh.qr(x, precision=asked, memory=MEMORY)
    r = lh.qr(a.astype(dtype), memory=MEMORY)
    assert q.q.dtype == dtype
    assert np.max(np.abs(np.asarray(q.r) - np.asarray(r.r))) <= (
        50 * np.finfo(dtype).eps * np.linalg.norm(a)
    )
    # a product with its own adjoint is still seen as one: half the flops
    product = lh.plan("matmul", lh.open(x).H, x, precision=asked, memory=MEMORY)
    assert product.explanation.method.startswith("syrk")


def test_a_piece_of_any_grid_is_converted_alike(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changed, "_PIECE_SIZE", 100)
    a = rng.standard_normal((37, 23))
    sharded = put(a, tmp_path / "s", chunks=(5, 4), storage="sharded")
    for x in (lh.open(a), lh.open(put(a, tmp_path / "a", chunks=(5, 4))), lh.open(sharded)):
        source = changed.ConvertedSource(x.source, np.dtype("f4"))
        assert np.array_equal(source.read(((3, 31), (2, 22))), a[3:31, 2:22].astype("f4"))
        assert np.array_equal(np.asarray(BlockedArray(source)), a.astype("f4"))


def test_numbers_that_the_precision_cannot_hold_are_named(rng: np.random.Generator) -> None:
    a = rng.standard_normal((30, 8))
    a[17, 3] = 1e39
    with pytest.raises(NumericRangeError, match=r"1e\+39 at index \(17, 3\), which float32"):
        lh.svd(a, rank=2, precision="float32", memory=MEMORY)
    a[17, 3] = 1e-60  # too small to matter beside the others
    assert lh.svd(a, rank=2, precision="float32", memory=MEMORY).certificate.converged


def test_a_job_in_another_precision_is_another_job(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    a, out = rng.standard_normal((30, 20)), tmp_path / "out"
    first = lh.cholesky(a @ a.T + np.eye(30), precision="float64", out=out)
    again = lh.cholesky(a @ a.T + np.eye(30), precision="float64", out=out)
    assert again.report.to_dict() == first.report.to_dict()  # it was there
    assert again.certificate == first.certificate
    for other in (None, "float32"):
        with pytest.raises((OutputExistsError, JobMismatchError)):
            lh.cholesky(a @ a.T + np.eye(30), precision=other, out=out)
