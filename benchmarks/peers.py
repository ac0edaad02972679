"""The contestants: leptonhpc and its peers, each with the settings that its own pages advise.

Every function opens its input, does the work inside ``with timer:`` and gives what the parent
needs to judge the answer. Packages are imported before the clock starts. ``memory`` is the limit of
a worker where the peer has one: ``dask`` (threads), scikit-learn and NumPy have none.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from measure import Timer

ONE_BLAS_THREAD = {
    name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
}
"""Dask and Cubed ask for this where their own threads are as many as the cores."""


@dataclass(frozen=True)
class Contestant:
    """One way of doing one work."""

    run: Callable[[dict[str, Any], Timer], dict[str, Any]]
    needs: tuple[str, ...] = ()
    """Modules without which it is skipped."""
    environment: Mapping[str, str] = field(default_factory=dict)


# Rank-k SVD of a tall Zarr array -----------------------------------------------------------------


def svd_leptonhpc(options: dict[str, Any], timer: Timer) -> dict[str, Any]:
    """Stream it in this process."""
    import leptonhpc.api as lh

    with timer:
        r = lh.svd(options["x"], rank=options["rank"], memory=options["memory"], progress=False)
    return {"s": r.s.tolist(), **_told_by(r)}


def svd_leptonhpc_distributed(options: dict[str, Any], timer: Timer) -> dict[str, Any]:
    """Stream it on a worker with the same memory limit."""
    with cluster(options, "leptonhpc.api"):
        return svd_leptonhpc(options, timer)


def svd_dask(options: dict[str, Any], timer: Timer) -> dict[str, Any]:
    """Compress by random projections with QR between two power iterations, on threads."""
    import dask
    import dask.array as da
    from dask.base import compute

    with timer, dask.config.set(scheduler="threads", num_workers=options["cores"]):
        x = da.from_zarr(options["x"])
        factors = da.linalg.svd_compressed(
            x, options["rank"], n_power_iter=2, iterator="QR", seed=0
        )
        _, s, _ = compute(*factors)
    return {"s": s.tolist()}


def svd_dask_distributed(options: dict[str, Any], timer: Timer) -> dict[str, Any]:
    """Compress on a worker with a memory limit."""
    import dask.array as da
    from dask.base import compute

    with cluster(options, "dask.array"), timer:
        x = da.from_zarr(options["x"])
        factors = da.linalg.svd_compressed(
            x, options["rank"], n_power_iter=2, iterator="QR", seed=0
        )
        _, s, _ = compute(*factors)
    return {"s": s.tolist()}


def svd_sklearn(options: dict[str, Any], timer: Timer) -> dict[str, Any]:
    """Load it whole, then randomize with QR between two power iterations."""
    import zarr
    from sklearn.utils.extmath import randomized_svd

    with timer:
        x = zarr.open_array(options["x"], mode="r")[:]
        _, s, _ = randomized_svd(
            x, options["rank"], n_iter=2, power_iteration_normalizer="QR", random_state=0
        )
    return {"s": s.tolist()}


def svd_dask_ml(options: dict[str, Any], timer: Timer) -> dict[str, Any]:
    """Fit TruncatedSVD with two power iterations, on threads; it gives no left vectors."""
    import dask
    import dask.array as da
    from dask_ml.decomposition import TruncatedSVD

    with timer, dask.config.set(scheduler="threads", num_workers=options["cores"]):
        model = TruncatedSVD(options["rank"], algorithm="randomized", n_iter=2, random_state=0)
        model.fit(da.from_zarr(options["x"]))
    return {"s": np.asarray(model.singular_values_).tolist()}


# Matrix product, Zarr to Zarr --------------------------------------------------------------------


def matmul_leptonhpc(options: dict[str, Any], timer: Timer) -> dict[str, Any]:
    """Stream panels past a stationary block, in this process."""
    import leptonhpc.api as lh

    with timer:
        r = lh.matmul(
            options["a"], options["b"], out=options["c"], memory=options["memory"], progress=False
        )
    return _told_by(r)


def matmul_leptonhpc_distributed(options: dict[str, Any], timer: Timer) -> dict[str, Any]:
    """Do the same on a worker with the same memory limit."""
    with cluster(options, "leptonhpc.api"):
        return matmul_leptonhpc(options, timer)


def matmul_dask(options: dict[str, Any], timer: Timer) -> dict[str, Any]:
    """Multiply block by block, on threads."""
    import dask
    import dask.array as da

    with timer, dask.config.set(scheduler="threads", num_workers=options["cores"]):
        product = da.from_zarr(options["a"]) @ da.from_zarr(options["b"])
        da.to_zarr(product, options["c"])
    return {}


def matmul_dask_distributed(options: dict[str, Any], timer: Timer) -> dict[str, Any]:
    """Multiply block by block, on a worker with a memory limit."""
    import dask.array as da

    with cluster(options, "dask.array"), timer:
        product = da.from_zarr(options["a"]) @ da.from_zarr(options["b"])
        da.to_zarr(product, options["c"])
    return {}


def matmul_cubed(options: dict[str, Any], timer: Timer) -> dict[str, Any]:
    """Multiply in bounded tasks; the limit is shared by as many tasks as cores."""
    import cubed
    import cubed.array_api as xp

    spec = cubed.Spec(
        work_dir=options["scratch"],
        allowed_mem=options["memory"] // options["cores"],
        executor_name="threads",
        executor_options={"max_workers": options["cores"]},
    )
    with timer:
        a, b = (cubed.from_zarr(options[name], spec=spec) for name in "ab")
        cubed.to_zarr(xp.matmul(a, b), options["c"])
    return {}


def matmul_numpy(options: dict[str, Any], timer: Timer) -> dict[str, Any]:
    """Load both whole, multiply, write."""
    import zarr

    with timer:
        a, b = (zarr.open_array(options[name], mode="r") for name in "ab")
        product = np.asarray(a[:]) @ np.asarray(b[:])
        c = zarr.create_array(
            options["c"], shape=product.shape, chunks=a.chunks, dtype=product.dtype
        )
        c[:] = product
    return {}


# All singular values of a tall Zarr array --------------------------------------------------------


def values_leptonhpc(options: dict[str, Any], timer: Timer) -> dict[str, Any]:
    """Sum the Gram matrix in double precision, in this process."""
    import leptonhpc.api as lh

    with timer:
        r = lh.svd(options["x"], compute_uv=False, memory=options["memory"], progress=False)
    return {"s": r.s.tolist(), **_told_by(r)}


def values_leptonhpc_distributed(options: dict[str, Any], timer: Timer) -> dict[str, Any]:
    """Do the same on a worker with the same memory limit."""
    with cluster(options, "leptonhpc.api"):
        return values_leptonhpc(options, timer)


def values_dask(options: dict[str, Any], timer: Timer) -> dict[str, Any]:
    """Reduce by QR factorisations of the blocks, on threads."""
    import dask
    import dask.array as da

    with timer, dask.config.set(scheduler="threads", num_workers=options["cores"]):
        _, s, _ = da.linalg.svd(da.from_zarr(options["x"]))
        values = s.compute()
    return {"s": values.tolist()}


def values_dask_distributed(options: dict[str, Any], timer: Timer) -> dict[str, Any]:
    """Reduce by QR factorisations, on a worker with a memory limit."""
    import dask.array as da

    with cluster(options, "dask.array"), timer:
        _, s, _ = da.linalg.svd(da.from_zarr(options["x"]))
        values = s.compute()
    return {"s": values.tolist()}


def values_numpy(options: dict[str, Any], timer: Timer) -> dict[str, Any]:
    """Load it whole, then LAPACK's bidiagonalisation."""
    import zarr

    with timer:
        x = np.asarray(zarr.open_array(options["x"], mode="r")[:])
        values = np.linalg.svd(x, compute_uv=False)
    return {"s": values.tolist()}


# What several of them share ----------------------------------------------------------------------


@contextlib.contextmanager
def cluster(options: dict[str, Any], module: str) -> Iterator[None]:
    """Start a worker process with as many threads as cores, in which a module is imported."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=1, threads_per_worker=options["cores"], memory_limit=options["memory"],
            host="127.0.0.1", dashboard_address="127.0.0.1:0", local_directory=options["scratch"],
            silence_logs=50,
        ) as cluster,
        Client(cluster) as client,
    ):  # fmt: skip
        client.wait_for_workers(1)
        client.run(importlib.import_module, module)
        yield


def _told_by(result: Any) -> dict[str, Any]:
    """Give what leptonhpc says of its own run, beside what is measured from outside."""
    report, certificate = result.report, result.certificate
    return {
        "passes": report.passes,
        "gflops": 1e-9 * report.flops / report.seconds,
        "detail": {
            "report": report.to_dict(),
            "converged": certificate.converged,
            "method": getattr(certificate, "method", ""),
        },
    }


CONTESTANTS: dict[tuple[str, str], Contestant] = {
    ("svd", "leptonhpc"): Contestant(svd_leptonhpc),
    ("svd", "leptonhpc-distributed"): Contestant(svd_leptonhpc_distributed),
    ("svd", "dask"): Contestant(svd_dask, ("dask.array",), ONE_BLAS_THREAD),
    ("svd", "dask-distributed"): Contestant(svd_dask_distributed, ("dask.array",)),
    ("svd", "sklearn"): Contestant(svd_sklearn, ("sklearn",)),
    ("svd", "dask-ml"): Contestant(svd_dask_ml, ("dask_ml",), ONE_BLAS_THREAD),
    ("matmul", "leptonhpc"): Contestant(matmul_leptonhpc),
    ("matmul", "leptonhpc-distributed"): Contestant(matmul_leptonhpc_distributed),
    ("matmul", "dask"): Contestant(matmul_dask, ("dask.array",), ONE_BLAS_THREAD),
    ("matmul", "dask-distributed"): Contestant(matmul_dask_distributed, ("dask.array",)),
    ("matmul", "cubed"): Contestant(matmul_cubed, ("cubed",), ONE_BLAS_THREAD),
    ("matmul", "numpy"): Contestant(matmul_numpy),
    ("values", "leptonhpc"): Contestant(values_leptonhpc),
    ("values", "leptonhpc-distributed"): Contestant(values_leptonhpc_distributed),
    ("values", "dask"): Contestant(values_dask, ("dask.array",), ONE_BLAS_THREAD),
    ("values", "dask-distributed"): Contestant(values_dask_distributed, ("dask.array",)),
    ("values", "numpy"): Contestant(values_numpy),
}
