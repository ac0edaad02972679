"""A second kind of device: the same answers, nothing mixed, one small module."""

import os
import pickle
import subprocess
import sys
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import leptonhpc as lh
from leptonhpc.cluster import devices
from leptonhpc.errors import MemoryBudgetError, NonFiniteError, OptionError
from leptonhpc.kernels import (
    DEVICES,
    accelerators,
    held,
    primitives_of,
    settled,
    table,
    taken,
)
from leptonhpc.kernels.accelerated import products
from leptonhpc.linalg import lstsq as stacked
from leptonhpc.runtime.probe import measure
from leptonhpc.testing import matrix_with_spectrum, put

EPS = float(np.finfo(float).eps)
STRICT = "leptonhpc.testing.strict_device"


@pytest.fixture(autouse=True)
def _strict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEPTONHPC_DEVICE", STRICT)


@pytest.mark.parametrize("dtype", ["f4", "f8", "c8", "c16"])
@pytest.mark.parametrize("method", ["gram", "krylov"])
def test_decompositions_on_a_device_are_those_of_the_host(
    dtype: str, method: Any, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = rng.standard_normal((900, 120)).astype(dtype)
    if a.dtype.kind == "c":
        a = a + 1j * rng.standard_normal(a.shape).astype(a.real.dtype)
    options = {"rank": 4, "method": method, "center": True, "memory": "300 MB"}
    there = lh.svd(a, **options)
    monkeypatch.delenv("LEPTONHPC_DEVICE")
    here = lh.svd(a, **options)
    eps = np.finfo(dtype).eps
    assert there.certificate.converged
    # both are backward stable: values differ by c eps s_1, c from sums of 900 terms
    assert np.max(np.abs(there.s - here.s)) <= 900 * eps * here.s[0]


@pytest.mark.parametrize("dtype", ["f4", "f8", "c16"])
@pytest.mark.parametrize("kind", ["general", "gram"])
def test_products_on_a_device_are_those_of_numpy(
    dtype: str, kind: str, rng: np.random.Generator
) -> None:
    b = rng.standard_normal((300, 170)).astype(dtype)
    a = lh.open(b).H if kind == "gram" else rng.standard_normal((90, 300)).astype(dtype)
    result = lh.matmul(a, lh.open(b), memory="300 MB")
    expected = np.asarray(a) @ b
    assert result.certificate.converged
    error = np.linalg.norm(np.asarray(result.product) - expected)
    assert error <= 300 * np.finfo(dtype).eps * np.linalg.norm(np.asarray(a)) * np.linalg.norm(b)


DOUBLES = [STRICT, "leptonhpc.testing.cuda_double"]
SQUARE = matrix_with_spectrum((60, 60), np.linspace(1, 0.05, 60))


@pytest.mark.parametrize("kind", DOUBLES)
@pytest.mark.parametrize("driver", ["eigh", "svd"])
def test_division_on_a_device_gives_what_the_host_does(
    kind: str, driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEPTONHPC_DEVICE", kind)
    a = SQUARE + SQUARE.T if driver == "eigh" else SQUARE
    r = getattr(lh, driver)(a, method="divide", memory="1 GB")
    assert r.certificate.converged
    found = r.eigenvalues if driver == "eigh" else r.s
    true = np.linalg.eigvalsh(a) if driver == "eigh" else np.linspace(1, 0.05, 60)
    # products of order 60 round as random walks do
    assert np.max(np.abs(found - true)) <= 8 * 60**0.5 * EPS * np.linalg.norm(a)


@pytest.mark.parametrize("kind", DOUBLES)
@pytest.mark.parametrize("size", [1e-150, 1e150])
def test_products_on_a_device_are_right_where_squares_leave_the_range(
    kind: str, size: float, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    monkeypatch.setenv("LEPTONHPC_DEVICE", kind)
    a, b = rng.standard_normal((40, 60)), rng.standard_normal((60, 30))
    r = lh.matmul(a * size, b / size, memory="300 MB")
    assert r.certificate.converged
    error = np.linalg.norm(np.asarray(r.product) - a @ b)
    assert error <= 60 * EPS * np.linalg.norm(a) * np.linalg.norm(b)


@pytest.mark.parametrize("kind", DOUBLES)
def test_systems_with_an_adjoint_are_solved_on_a_device(
    kind: str, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise MemoryBudgetError("none")

    monkeypatch.setenv("LEPTONHPC_DEVICE", kind)
    monkeypatch.setattr(stacked, "_plan_stacked", refuse)  # R^H X = B, R in scratch
    a, b = SQUARE[:40], rng.standard_normal(40)
    r = lh.lstsq(a, b, memory="1 GB")
    true = np.linalg.lstsq(a, b, rcond=None)[0]
    s = np.linalg.svd(a, compute_uv=False)
    assert r.certificate.converged
    assert np.linalg.norm(r.x - true) <= 8 * 60 * EPS * s[0] / s[-1] * np.linalg.norm(true)


def test_nan_on_a_device_is_named(rng: np.random.Generator) -> None:
    a = rng.standard_normal((900, 120))
    a[17, 3] = np.nan
    for method in ("gram", "krylov"):
        with pytest.raises(NonFiniteError, match=r"\(17, 3\)"):
            lh.svd(a, rank=2, method=method, memory="300 MB")  # type: ignore[arg-type]


def test_accumulators_of_a_device_travel_as_arrays_of_the_host() -> None:
    blas = primitives_of(STRICT)
    acc = held({"z": blas.put(np.arange(6.0).reshape(2, 3)), "count": 2}, blas)
    travelled = pickle.loads(pickle.dumps(acc))
    assert np.array_equal(settled(travelled)["z"], np.arange(6.0).reshape(2, 3))
    assert isinstance(taken(acc, blas)["z"], blas.array or object)
    assert isinstance(taken(travelled, blas)["z"], blas.array or object)
    assert isinstance(settled(acc)["z"], np.ndarray)
    settled(acc)["z"] += 1  # it may be changed


def test_arrays_of_the_device_are_never_mixed_with_the_hosts() -> None:
    blas = primitives_of(STRICT)
    there = blas.put(np.eye(3))
    with pytest.raises((TypeError, ValueError, RuntimeError)):
        there += np.eye(3)
    with pytest.raises((TypeError, ValueError, RuntimeError)):
        np.asarray(there)


def test_an_unknown_device_is_refused_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    monkeypatch.setenv("LEPTONHPC_DEVICE", "no_such_accelerator")
    with pytest.raises(OptionError, match="'no_such_accelerator'"):
        lh.svd(rng.standard_normal((50, 5)), rank=2)
    with pytest.raises(OptionError, match="primitives"):
        table("json")


def test_a_gpu_that_is_not_there_is_an_error(
    monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    try:
        primitives_of("cuda")
    except OptionError:
        monkeypatch.setenv("LEPTONHPC_DEVICE", "cuda")
        with pytest.raises(OptionError, match="'cuda': (No module named 'cupy'|no CUDA device)"):
            lh.svd(rng.standard_normal((50, 5)), rank=2)
    else:
        pytest.skip("there is a GPU")


def test_a_gpu_of_pytorch_is_refused_or_planned_within_its_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch = pytest.importorskip("torch")
    name = "leptonhpc.testing.torch_device"
    monkeypatch.setitem(DEVICES, name, None)
    monkeypatch.delitem(DEVICES, name)
    monkeypatch.setenv("LEPTONHPC_TORCH", "cuda")
    if not torch.cuda.is_available():
        with pytest.raises(OptionError, match="float64 on cuda"):
            primitives_of(name)
        # its CPU, which is said to be a GPU with so much that is free
        monkeypatch.setattr(accelerators, "_require_copies_and_views", lambda *_: None)
        monkeypatch.setattr(torch, "device", lambda _: SimpleNamespace(type="cuda"))
        monkeypatch.setattr(torch, "zeros", lambda *_, **__: None)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (10**9, 2 * 10**9))
    found = primitives_of(name).capacity_nbytes
    assert found == 600_000_000 or (torch.cuda.is_available() and found)


SCRIPT = """
import os, sys
import numpy as np
import leptonhpc as lh
from dask.distributed import Client, Nanny, Scheduler, SpecCluster
from leptonhpc.errors import OptionError

def kind():
    return os.environ.get("LEPTONHPC_DEVICE", "host")

if __name__ == "__main__":
    folder, *others = sys.argv[1:]
    options = {"nthreads": 1, "memory_limit": 0, "dashboard_address": "127.0.0.1:0"}
    env = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    workers = {  # of two hosts: one has cores, the other a device beside its cores
        "far": {"cls": Nanny, "options": {**options, "host": "127.0.0.2"}},
        "cpu": {"cls": Nanny, "options": {**options, "host": "127.0.0.1"}},
    }
    for other in others:
        of_kind = {**options, "host": "127.0.0.1", "env": {**env, "LEPTONHPC_DEVICE": other}}
        workers[other.rpartition(".")[2]] = {"cls": Nanny, "options": of_kind}
    scheduler = {"cls": Scheduler, "options": {"dashboard": False, "host": "127.0.0.1"}}
    with SpecCluster(scheduler=scheduler, workers=workers) as cluster, Client(cluster) as client:
        client.wait_for_workers(len(workers))
        where = client.run(kind)
        host = lambda name: name.partition("://")[2].rpartition(":")[0]
        used = lambda r: sorted({(host(d.name), where[d.name]) for s in r.report.stages
                                 if s.placement for d in s.placement.devices if d.tasks})
        a, b = lh.open(folder + "/a"), lh.open(folder + "/b")
        for _ in range(30):  # work goes to who asks for it: once in a while one has done all
            r = lh.svd(
                a, rank=3, method="gram", memory="250 MB", out=folder + "/svd", overwrite=True
            )
            if len(used(r)) == len(workers):
                break
        print(used(r), r.report.off_owner, r.certificate.converged)
        done = lambda r: print(r.report.off_owner, r.certificate.converged)
        done(lh.matmul(a.H, a, memory="250 MB", out=folder + "/c"))
        done(lh.cholesky(b, memory="250 MB", out=folder + "/l"))
        t = lh.matmul(a.H, a, precision="tf32", memory="250 MB", out=folder + "/t")
        print(t.report.off_owner, t.certificate.converged, t.product.dtype, t.certificate.computed)
        few = a[:1200]
        x, y = np.asarray(few), np.asarray(b)
        ones, small = np.ones(len(x)), np.ones(len(y))
        near = lambda found, true: np.linalg.norm(found - true) <= 1e-8 * np.linalg.norm(true)
        s = np.linalg.svd(x, compute_uv=False)
        right = {  # what else has kernels of devices: as NumPy has it
            "svd": (lambda: lh.svd(few, rank=1, method="krylov", memory="250 MB"),
                    lambda r: near(r.s, s[:1])),
            "qr": (lambda: lh.qr(few, memory="250 MB"), lambda r: near(np.asarray(r.q) @ r.r, x)),
            "qr of panels": (lambda: lh.qr(b, memory="250 MB"),
                             lambda r: near(np.asarray(r.q) @ np.asarray(r.r), y)),
            "lstsq": (lambda: lh.lstsq(few, ones, memory="250 MB"),
                      lambda r: near(np.asarray(r.x), np.linalg.lstsq(x, ones)[0])),
            "lsmr": (lambda: lh.lsmr(b, small, memory="250 MB", tol=1e-10),
                     lambda r: near(np.asarray(r.x), np.linalg.solve(y, small))),
            "pinv": (lambda: lh.pinv(few, memory="250 MB"),
                     lambda r: near(np.asarray(r.pinv), np.linalg.pinv(x))),
            "solve": (lambda: lh.solve(b, small, memory="250 MB"),
                      lambda r: near(np.asarray(r.x), np.linalg.solve(y, small))),
            "inv": (lambda: lh.inv(b, memory="250 MB"),
                    lambda r: near(np.asarray(r.x), np.linalg.inv(y))),
            "eigh": (lambda: lh.eigh(b, memory="250 MB"),
                     lambda r: near(r.eigenvalues, np.linalg.eigvalsh(y))),
            "norm": (lambda: lh.norm(few, memory="250 MB"),
                     lambda r: near(float(r), np.linalg.norm(x))),
        }
        for name, (job, is_right) in right.items():
            r = job()
            print(name, r.report.off_owner, is_right(r))
"""


def test_unlike_devices_do_one_job_together(tmp_path: Path, rng: np.random.Generator) -> None:
    kinds = ["leptonhpc.testing.cuda_double"]
    kinds += ["leptonhpc.testing.torch_device"] if find_spec("torch") else []
    a = rng.standard_normal((8000, 80))
    b = a[:400, :60].T @ a[:400, :60] / 400 + np.eye(60)
    put(a, tmp_path / "a", chunks=(100, 80))
    put(b, tmp_path / "b", chunks=(10, 10))
    script = tmp_path / "run.py"
    script.write_text(SCRIPT)
    environment = {k: v for k, v in os.environ.items() if k != "LEPTONHPC_DEVICE"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", script, tmp_path, *kinds], env=environment, text=True,
        capture_output=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    svd, matmul, cholesky, rounded, *others = done.stdout.splitlines()
    here, far = "127.0.0.1", "127.0.0.2"
    everyone = [(here, "host"), *((here, kind) for kind in kinds), (far, "host")]
    assert svd == f"{everyone} 0 True"
    assert matmul == "0 True"
    assert cholesky == "0 True"
    assert rounded.startswith("0 True float32 products in tf32")
    plain = len(kinds) + 1
    assert rounded.endswith(f"{plain} of {plain + 1} workers have no TF32: theirs in float32")
    error = np.linalg.norm(np.asarray(lh.open(tmp_path / "t")) - a.T @ a)
    assert error <= 4 * 2.0**-11 * np.linalg.norm(a) ** 2
    assert len(others) == 10
    for line in others:
        assert line.endswith(" 0 True"), line
    # backward stable: c eps s_1, c from sums of 8000 terms; of n terms for the factor
    values = np.linalg.svd(a, compute_uv=False)[:3]
    assert np.max(np.abs(lh.load(tmp_path / "svd").s - values)) <= 8000 * EPS * values[0]
    assert (
        np.max(np.abs(np.asarray(lh.open(tmp_path / "c")) - a.T @ a)) <= 8000 * EPS * values[0] ** 2
    )
    lower = np.asarray(lh.load(tmp_path / "l").l)
    assert np.max(np.abs(lower @ lower.T - b)) <= 60 * EPS * np.max(np.abs(b))


def test_a_device_is_measured_with_its_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["leptonhpc.runtime.probe"], "_SECONDS", 0.01)
    monkeypatch.setattr(sys.modules["leptonhpc.runtime.probe"], "_here", {})
    device = measure(save=False)
    assert (device.kind, device.cores) == (STRICT, 1)
    assert 0 < device.link_bytes < np.inf
    assert device.rates.measured
    rates = [getattr(device.rates, field.name) for field in fields(device.rates)]
    assert all(np.isfinite(rates))
    assert min(rates) > 0
    assert not device.tf32


def test_what_a_device_does_in_tf32_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["leptonhpc.runtime.probe"], "_SECONDS", 0.01)
    monkeypatch.setattr(sys.modules["leptonhpc.runtime.probe"], "_here", {})
    monkeypatch.setenv("LEPTONHPC_DEVICE", "leptonhpc.testing.cuda_double")
    device = measure(save=False)
    assert device.tf32
    assert device.precision is None
    # another measurement than that of float32
    assert device.rates.tf32_speedup != device.rates.single_speedup


OF_DASK_CUDA = """
import os
from distributed import Client
from leptonhpc.runtime.device import device_here

def name_the_host():
    os.environ["LEPTONHPC_DEVICE"] = "host"

if __name__ == "__main__":
    with Client(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0") as client:
        from dask_cuda.plugins import CPUAffinity

        print(client.run(device_here).popitem()[1])
        client.register_plugin(CPUAffinity())
        print(client.run(device_here).popitem()[1], client.submit(device_here).result())
        client.run(name_the_host)
        print(client.run(device_here).popitem()[1])
"""


def test_a_worker_that_dask_cuda_started_is_a_gpus(tmp_path: Path) -> None:
    package = tmp_path / "dask_cuda"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "plugins.py").write_text(
        "from distributed import WorkerPlugin\nclass CPUAffinity(WorkerPlugin):\n    pass\n"
    )
    script = tmp_path / "run.py"
    script.write_text(OF_DASK_CUDA)
    environment = {k: v for k, v in os.environ.items() if k != "LEPTONHPC_DEVICE"}
    done = subprocess.run(
        [sys.executable, script], env={**environment, "PYTHONPATH": str(tmp_path)}, text=True,
        capture_output=True, timeout=600, check=False,
    )  # fmt: skip
    # before it has dask-cuda's plugin, with it, and where the environment says something else
    assert done.stdout.split() == ["host", "cuda", "cuda", "host"], done.stderr


@pytest.mark.parametrize(
    ("visible", "expected"),
    [(None, [0, 1, 2]), ("2,0", [2, 0]), ("7,1", [1]), ("1,-1,2", [1]), ("GPU-8f2a", ["GPU-8f2a"])],
)
def test_gpus_that_cuda_was_told_not_to_see_get_no_worker(
    visible: str | None, expected: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "_all_gpus", lambda: [0, 1, 2])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    groups = devices.groups_of_devices(None, "400 MB", workers=0, device="cuda")
    found = [group.environment for group in groups]
    assert [each["CUDA_VISIBLE_DEVICES"] for each in found] == [str(n) for n in expected]
    # numbers are those of nvidia-smi, unless who set the variable counted otherwise
    assert all(("CUDA_DEVICE_ORDER" in each) == (visible is None) for each in found)


def test_a_device_without_memory_is_an_error_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise MemoryError("64 bytes beyond 32")

    monkeypatch.setenv("LEPTONHPC_DEVICE", STRICT)
    monkeypatch.setattr(products.Gemm, "step", full)
    with pytest.raises(MemoryBudgetError, match="no memory left: 64 bytes beyond 32"):
        lh.matmul(np.eye(4), np.eye(4))
