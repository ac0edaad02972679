"""The contestants of the dense factorisations; the error of each is measured on its own factors.

Random vectors x: |A x - F x| / |A x|, F the product of the factors, after the clock has stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from measure import Timer
from numpy.typing import NDArray
from peers import ONE_BLAS_THREAD, Contestant, cluster

Apply = Callable[[NDArray[Any]], NDArray[Any]]

_ROWS = 2048


def leptonhpc(work: str, options: dict[str, Any], timer: Timer, **keywords: Any) -> dict[str, Any]:
    """Factor in this process or on the connected cluster."""
    import leptonhpc.api as lh

    driver = getattr(lh, work)
    with timer:
        r = driver(options["x"], **{"memory": options["memory"], "progress": False, **keywords})
    told = {"report": r.report.to_dict(), "certificate": r.certificate.to_dict()}
    if work == "cholesky":
        error = _error(options, lambda x: _times(r.l, _adjoint_times(r.l, x)))
    elif work == "lu":
        error = _error(options, lambda x: _times(r.l, _times(r.u, x))[np.argsort(r.perm)])
    else:
        error = _error(options, lambda x: _times(r.q, _times(r.r, x)))
    return {"error": error, "passes": r.report.passes, "detail": told}


def leptonhpc_zarr(work: str, options: dict[str, Any], timer: Timer) -> dict[str, Any]:
    """Factor from and to Zarr within a small budget."""
    out = Path(options["scratch"]) / "factors.zarr"
    return leptonhpc(work, options, timer, out=out, memory=options["zarr_memory"])


def leptonhpc_distributed(work: str, options: dict[str, Any], timer: Timer) -> dict[str, Any]:
    """Factor on a worker of a local cluster, to Zarr."""
    out = Path(options["scratch"]) / "factors.zarr"
    with cluster(options, "leptonhpc.api"):
        return leptonhpc(work, options, timer, out=out)


def dask_threads(work: str, options: dict[str, Any], timer: Timer) -> dict[str, Any]:
    """Factor with dask.array on threads; the factors come into memory."""
    import dask

    with dask.config.set(scheduler="threads", num_workers=options["cores"]):
        return _dask(work, options, timer)


def dask_distributed(work: str, options: dict[str, Any], timer: Timer) -> dict[str, Any]:
    """Factor with dask.array on a worker of a local cluster."""
    with cluster(options, "dask.array"):
        return _dask(work, options, timer)


def scipy(work: str, options: dict[str, Any], timer: Timer) -> dict[str, Any]:
    """Load it whole, then LAPACK as SciPy calls it."""
    import scipy.linalg
    import zarr

    with timer:
        a = np.asarray(zarr.open_array(options["x"], mode="r")[:])
        if work == "cholesky":
            factors: Any = (scipy.linalg.cholesky(a, lower=True, overwrite_a=True),)
        elif work == "lu":
            factors = scipy.linalg.lu_factor(a, overwrite_a=True)
        else:
            factors = scipy.linalg.qr(a, mode="economic", overwrite_a=True)
    if work == "lu":
        lu, pivots = factors
        order = np.arange(len(lu))
        for row, other in enumerate(pivots):
            order[[row, other]] = order[[other, row]]
        lower, upper = np.tril(lu, -1) + np.eye(len(lu)), np.triu(lu)
        return {"error": _error(options, lambda x: (lower @ (upper @ x))[np.argsort(order)])}
    return {"error": _error(options, _of_factors(work, factors))}


def _dask(work: str, options: dict[str, Any], timer: Timer) -> dict[str, Any]:
    import dask.array as da
    from dask.base import compute

    with timer:
        a = da.from_zarr(options["x"])
        if work == "qr":
            a = a.rechunk({1: -1})
        lazy = {
            "cholesky": lambda: (da.linalg.cholesky(a, lower=True),),
            "lu": lambda: da.linalg.lu(a),
            "qr": lambda: da.linalg.qr(a),
        }[work]()
        factors = compute(*lazy)
    return {"error": _error(options, _of_factors(work, factors))}


def _of_factors(work: str, factors: Any) -> Apply:
    if work == "cholesky":
        (lower,) = factors
        return lambda x: lower @ (lower.T @ x)
    if work == "lu":
        perm, lower, upper = factors
        return lambda x: perm @ (lower @ (upper @ x))
    q, r = factors
    return lambda x: q @ (r @ x)


def _error(options: dict[str, Any], product: Apply) -> float:
    import zarr

    a = zarr.open_array(options["x"], mode="r")
    x = np.random.default_rng(1).standard_normal((a.shape[1], 2))
    expected = _times(a, x)
    return float(np.linalg.norm(product(x) - expected) / np.linalg.norm(expected))


def _times(a: Any, x: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([np.asarray(band) @ x for band in _bands(a)])


def _adjoint_times(a: Any, x: NDArray[Any]) -> NDArray[Any]:
    total, low = np.zeros((a.shape[1], x.shape[1])), 0
    for band in _bands(a):
        total += np.asarray(band).T @ x[low : low + len(band)]
        low += len(band)
    return total


def _bands(a: Any) -> Iterator[NDArray[Any]]:
    for low in range(0, a.shape[0], _ROWS):
        yield np.asarray(a[low : low + _ROWS])


def _contestant(work: str, name: str) -> Contestant:
    function, needs, environment = _WAYS[name]

    def run(options: dict[str, Any], timer: Timer) -> dict[str, Any]:
        found: dict[str, Any] = function(work, options, timer)
        return found

    return Contestant(run, needs, environment)


_WAYS: dict[str, tuple[Any, tuple[str, ...], dict[str, str]]] = {
    "leptonhpc": (leptonhpc, (), {}),
    "leptonhpc-zarr": (leptonhpc_zarr, (), {}),
    "leptonhpc-distributed": (leptonhpc_distributed, (), {}),
    "dask": (dask_threads, ("dask.array",), ONE_BLAS_THREAD),
    "dask-distributed": (dask_distributed, ("dask.array",), {}),
    "scipy": (scipy, ("scipy",), {}),
}

CONTESTANTS: dict[tuple[str, str], Contestant] = {
    (work, name): _contestant(work, name) for work in ("cholesky", "lu", "qr") for name in _WAYS
}
