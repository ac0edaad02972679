"""Copies and kernels in the order of two streams, on a double that is as late as it may be."""

import contextlib
import gc
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import leptonhpc as lh
from leptonhpc.errors import MemoryBudgetError, OptionError
from leptonhpc.kernels import primitives_of, staging
from leptonhpc.kernels.cuda import made_of
from leptonhpc.kernels.cuda.memory import CupyEngine, capacity_of
from leptonhpc.kernels.staging import Staging
from leptonhpc.testing.cuda_double import DoubleError, double
from leptonhpc.testing.cuda_double.arrays import Cupy
from leptonhpc.testing.cuda_double.device import Device
from leptonhpc.testing.cuda_double.libraries import Cublas, Cusolver

KIND = "leptonhpc.testing.cuda_double"
KINDS = [KIND]
with contextlib.suppress(OptionError):  # where there is a GPU, it is one of them
    primitives_of("cuda")
    KINDS.append("cuda")


@pytest.fixture(autouse=True)
def _small_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "_SLOT_NBYTES", 1 << 10)  # so that a few numbers fill the ring


@given(
    sizes=st.lists(st.tuples(st.integers(0, 70), st.integers(1, 9)), min_size=1, max_size=12),
    dtype=st.sampled_from(["i1", "f4", "f8", "c16", ">f8"]),
)
def test_what_was_put_comes_back_whatever_is_put_between(
    sizes: list[tuple[int, int]], dtype: str
) -> None:
    blas, device = double(1 << 24)
    arrays = [np.arange(m * n).reshape(m, n).astype(dtype) for m, n in sizes]
    there = []
    for a in arrays:
        host = a.copy()
        there.append(blas.put(host))
        host[...] = 99  # it may be changed at once
    for a, b in zip(arrays, there, strict=True):
        assert np.array_equal(blas.get(b), a)
    assert device.copied_in_nbytes == sum(a.nbytes for a in arrays)


def test_bands_reuse_memory_only_after_the_kernels_that_read_them() -> None:
    blas, device = double(1 << 24)
    total = blas.zeros((4, 4), "f8")
    for number in range(20):

        def read(out: Any, number: int = number) -> Any:
            out[...] = number
            return out

        band = blas.stage((64, 4), np.dtype("i1"), read)
        wide = blas.cast(band, "f8")
        blas.gemm(total, wide, wide, adjoint=True)
        del band, wide
    assert np.array_equal(blas.get(total), np.full((4, 4), 64.0 * sum(n * n for n in range(20))))
    assert device.copied_in_nbytes == 20 * 64 * 4  # narrow: a byte for each number


@pytest.mark.parametrize("kind", KINDS)
def test_copies_and_kernels_keep_their_order_on_a_gpu(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    blas = primitives_of(kind)
    real = kind == "cuda"
    if real:  # as large as what the GPU computes with while the next comes
        monkeypatch.setattr(staging, "_SLOT_NBYTES", 32 << 20)
    rows, columns = (1 << 15, 512) if real else (64, 8)
    total = blas.zeros((columns, columns), "f8")

    def read(number: int) -> Any:
        def fill(out: Any) -> Any:
            out[...] = number % 5
            return out

        return blas.stage((rows, columns), np.dtype("f4"), fill)

    ahead = read(0)
    for number in range(30):
        band, ahead = ahead, read(number + 1)
        wide = blas.cast(band, "f8")
        blas.gemm(total, wide, wide, adjoint=True)
        del band, wide
    assert (blas.get(total) == 6 * rows * (0 + 1 + 4 + 9 + 16)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_gpu_that_is_full_says_so_and_goes_on(kind: str) -> None:
    blas = primitives_of(kind)
    with pytest.raises(MemoryError):
        blas.zeros((2 * blas.capacity_nbytes // 8, 8), "f8")
    assert blas.get(blas.zeros((3, 2), "f8")).sum() == 0


def test_memory_that_waits_for_blocks_is_there_for_kernels() -> None:
    blas, device = double(1 << 24)
    used = [blas.put(np.zeros(1 << 17)) for _ in range(6)]  # 6 MB
    del used
    blas.zeros((1500, 1024), "f8")  # 12 MB of 13.4
    assert device.peak_nbytes <= device.limit_nbytes


def test_a_band_of_a_wide_matrix_is_turned_by_the_device() -> None:
    blas, _ = double(1 << 24)
    values = np.arange(60.0).reshape(5, 12)

    def read(out: Any) -> Any:
        turned = out.reshape(-1).reshape(5, 12)
        turned[...] = values
        return turned.T

    assert np.array_equal(blas.get(blas.stage((12, 5), np.dtype("f8"), read)), values.T)


class _Forgetful(CupyEngine):
    """An engine that leaves out one of the things that keep copies and kernels in order."""

    forgets = ""

    def follow(self, stream: Any, event: Any) -> None:
        if stream != self.forgets:
            super().follow(stream, event)

    def wait(self, event: Any) -> None:
        if self.forgets != "wait":
            super().wait(event)


@pytest.mark.parametrize("forgets", ["copies", "kernels", "wait"])
def test_the_double_notices_what_is_not_waited_for(forgets: str) -> None:
    device = Device(1 << 24)
    cupy = Cupy(device)
    cupy.cuda.device.get_cublas_handle()
    engine = _Forgetful(cupy, 1 << 24)
    engine.forgets = forgets
    with pytest.raises(DoubleError):
        _use_much(Staging(engine), cupy)


def _use_much(staged: Staging, cupy: Cupy) -> None:
    for number in range(20):
        there = staged.put(np.arange(1600.0).reshape(400, 4) + number)
        again = there + 1
        assert float(again[0, 0]) == number + 1
        del there, again
    staged.get(cupy.zeros((100, 4), "f8"), np.dtype("f8"))


def test_arrays_of_host_and_device_are_not_mixed() -> None:
    blas, _ = double(1 << 24)
    there = blas.put(np.eye(3))
    for mix in (lambda: there + np.eye(3), lambda: np.eye(3) + there, lambda: np.asarray(there)):
        with pytest.raises(TypeError):
            mix()


def test_memory_is_capped_after_the_libraries_have_theirs() -> None:
    blas, device = double(1 << 20)
    assert device.limit_nbytes == int(0.8 * (1 << 20))
    assert blas.capacity_nbytes == int(0.75 * device.limit_nbytes)  # the rest is for what is ahead
    with pytest.raises(MemoryBudgetError, match="LEPTONHPC_DEVICE_MEMORY"):
        blas.put(np.zeros(1 << 18))
    gc.collect()
    for _ in range(50):  # what is dropped is there for the next
        blas.put(np.zeros(1 << 14))
    assert device.peak_nbytes <= device.limit_nbytes


@pytest.mark.parametrize(
    ("wanted", "expected"), [(None, 800), ("0.5", 500), ("1", 1000), ("300", 300), ("5000", 1000)]
)
def test_a_part_or_bytes_of_what_is_free_may_be_used(wanted: str | None, expected: int) -> None:
    assert capacity_of(Cupy(Device(1000)), wanted) == expected


@pytest.mark.parametrize(("serves", "free"), [("rmm.allocators.cupy", 9000), ("cupy.cuda", 1000)])
def test_what_rmm_took_ahead_is_free_where_it_serves_cupy(
    serves: str, free: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = SimpleNamespace(pool_size=lambda: 8000)
    tracking = SimpleNamespace(upstream_mr=pool)
    module = SimpleNamespace(get_current_device_resource=lambda: tracking)
    monkeypatch.setitem(sys.modules, "rmm", SimpleNamespace(mr=module))
    monkeypatch.setitem(sys.modules, "rmm.mr", module)
    cupy = Cupy(Device(1000))
    served = cupy.cuda.get_allocator()
    served.__module__ = serves
    assert capacity_of(cupy, "0.5") == free // 2
    assert capacity_of(cupy, "5000") == min(free, 5000)


def test_nonsense_for_the_devices_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEPTONHPC_DEVICE_MEMORY", "much")
    from leptonhpc.kernels import tables

    monkeypatch.delitem(tables.DEVICES, KIND, raising=False)
    with pytest.raises(OptionError, match="'much'"):
        primitives_of(KIND)


@pytest.mark.parametrize("tf32", [False, True])
def test_factors_are_rounded_to_eleven_bits_only_where_that_was_asked_for(tf32: bool) -> None:
    blas, device = double(1 << 24, tf32=tf32)
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((40, 40)).astype("f4") for _ in range(2))
    c = blas.zeros((40, 40), "f4")
    blas.gemm(c, blas.put(a), blas.put(b))
    exact = a.astype(float) @ b
    error = np.linalg.norm(blas.get(c) - exact) / np.linalg.norm(a) / np.linalg.norm(b)
    assert (error > 1e-5) == tf32 == (device.calls.get("tf32", 0) > 0)
    assert error < 2**-11  # each factor is rounded by half a unit of 2^-10
    wide = blas.zeros((40, 40), "f8")
    blas.gemm(wide, blas.put(a.astype("f8")), blas.put(b.astype("f8")))
    assert np.linalg.norm(blas.get(wide) - exact) <= 1e-14 * np.linalg.norm(exact) * 40


def test_a_product_that_fails_leaves_no_rounding_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: int) -> None:
        raise RuntimeError("CUBLAS_STATUS_ALLOC_FAILED")

    device = Device(1 << 20)
    cublas = Cublas(device)
    monkeypatch.setattr(cublas, "sgemm", fail)
    blas = made_of(Cupy(device), cublas, Cusolver(device), tf32=True)
    a = blas.put(np.eye(3, dtype="f4"))
    with pytest.raises(RuntimeError, match="ALLOC"):
        blas.gemm(blas.zeros((3, 3), "f4"), a, a)
    assert not cublas.rounds


def test_resident_bands_come_to_the_device_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from leptonhpc.kernels import table, tables

    blas, device = double(1 << 30)
    monkeypatch.setitem(tables.DEVICES, KIND, blas)
    table.cache_clear()
    monkeypatch.setattr(staging, "_SLOT_NBYTES", 1 << 20)
    monkeypatch.setenv("LEPTONHPC_DEVICE", KIND)
    a = np.random.default_rng(0).standard_normal((20000, 120)).astype("f4")
    result = lh.svd(a, rank=3, method="krylov", memory="400 MB")
    table.cache_clear()
    passes = sum(stage.name.startswith("pass") for stage in result.report.stages)
    assert passes > 2
    # the matrix once; Y, of 16 columns a pass, twice: to be orthonormalised, to be written
    vectors = 2 * passes * 16 * len(a) * a.itemsize
    assert a.nbytes <= device.copied_in_nbytes < a.nbytes + vectors + 1_000_000
    assert device.peak_nbytes < device.limit_nbytes


def test_certificates_measure_what_tf32_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    a = rng.standard_normal((150, 200)).astype("f4")
    found = {}
    for kind in (KIND, KIND + ".tf32"):
        monkeypatch.setenv("LEPTONHPC_DEVICE", kind)
        for dtype in ("f4", "f8"):
            x = a.astype(dtype)
            result = lh.matmul(x, lh.open(x).H, memory="300 MB")
            exact = a.astype(float) @ a.T
            error = np.linalg.norm(np.asarray(result.product) - exact) / np.linalg.norm(a) ** 2
            found[kind, dtype] = result.certificate.largest_error, error
    for full, rounded in zip(found[KIND, "f4"], found[KIND + ".tf32", "f4"], strict=True):
        assert 100 * full < rounded < 2**-10
    # double precision is what it is
    assert max(found[KIND + ".tf32", "f8"]) <= 200 * np.finfo(float).eps
