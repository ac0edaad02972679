"""A second kind of device: the same answers, nothing mixed, one small module."""

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import leptonhpc as lh
from leptonhpc.errors import NonFiniteError, OptionError
from leptonhpc.kernels import held, primitives_of, settled, table, taken
from leptonhpc.testing import put

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


def test_nan_on_a_device_is_named(rng: np.random.Generator) -> None:
    a = rng.standard_normal((900, 120))
    a[17, 3] = np.nan
    for method in ("gram", "krylov"):
        with pytest.raises(NonFiniteError, match=r"\(17, 3\)"):
            lh.svd(a, rank=2, method=method, memory="300 MB")  # type: ignore[arg-type]


@pytest.mark.parametrize("driver", ["cholesky", "lu", "qr"])
def test_what_a_device_has_no_kernel_for_is_done_by_the_host(
    driver: str, rng: np.random.Generator
) -> None:
    a = rng.standard_normal((120, 120)) / 20 + 3 * np.eye(120)
    result = getattr(lh, driver)((a + a.T) / 2, memory="300 MB")
    assert result.certificate.converged


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


SCRIPT = """
import os, sys
import leptonhpc as lh
from dask.distributed import Client, Nanny, Scheduler, SpecCluster

def kind():
    return os.environ.get("LEPTONHPC_DEVICE", "host")

if __name__ == "__main__":
    options = {"nthreads": 1, "memory_limit": 0, "dashboard_address": "127.0.0.1:0"}
    workers = {
        "cpu": {"cls": Nanny, "options": options},
        "other": {"cls": Nanny, "options": {**options, "env": {"LEPTONHPC_DEVICE": sys.argv[2]}}},
    }
    scheduler = {"cls": Scheduler, "options": {"dashboard": False, "host": "127.0.0.1"}}
    with SpecCluster(scheduler=scheduler, workers=workers) as cluster, Client(cluster) as client:
        client.wait_for_workers(2)
        kinds = client.run(kind)
        r = lh.svd(sys.argv[1], rank=3, method="gram", memory="250 MB")
        c = lh.matmul(lh.open(sys.argv[1]).H, lh.open(sys.argv[1]), memory="250 MB",
                      out=sys.argv[3])
        assert r.certificate.converged and c.certificate.converged
        used = {kinds[d.name] for s in r.report.stages if s.placement for d in s.placement.devices}
        print(sorted(used), r.report.off_owner)
        machine = lh.probe(save=False)
        print(sorted(d.kind for d in machine.devices))
"""


def test_two_kinds_of_device_work_on_one_job(tmp_path: Path, rng: np.random.Generator) -> None:
    put(rng.standard_normal((4000, 60)), tmp_path / "x", chunks=(100, 60))
    script = tmp_path / "run.py"
    script.write_text(SCRIPT)
    environment = {k: v for k, v in os.environ.items() if k != "LEPTONHPC_DEVICE"}
    done = subprocess.run(
        [sys.executable, script, tmp_path / "x", STRICT, tmp_path / "out"], env=environment,
        text=True, capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    used, kinds = done.stdout.splitlines()[-2:]
    assert used == f"['host', '{STRICT}'] 0"
    assert kinds == f"['host', '{STRICT}']"
