"""What the machine allows: NumPy's gemm in memory, and just reading the bytes.

Measured in the same run as the contestants, each in a fresh process, on all cores.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from measure import Timer
from peers import Contestant

Unit = tuple[tuple[int, int], ...]


def gemm(options: dict[str, Any], timer: Timer) -> dict[str, Any]:
    """Multiply square matrices in memory with NumPy; the best of three."""
    n, dtype = options["gemm_size"], np.dtype(options["dtype"])
    generator = np.random.default_rng(0)
    a, b = (generator.standard_normal((n, n)).astype(dtype) for _ in range(2))
    c = a @ b
    best = np.inf
    for _ in range(3):
        began = time.perf_counter()
        with timer:
            np.matmul(a, b, out=c)
        best = min(best, time.perf_counter() - began)
    return {"seconds": best, "gflops": 2e-9 * n**3 / best, "sizes": {"n": n}}


def read_leptonhpc(options: dict[str, Any], timer: Timer) -> dict[str, Any]:
    """Read each storage unit once with leptonhpc.store, as many threads as cores."""
    from leptonhpc import store

    array = store.open_array(options["x"])
    buffers = threading.local()

    def read(region: Unit) -> None:
        if not hasattr(buffers, "flat"):
            buffers.flat = np.empty(int(np.prod(array.unit)), array.dtype)
        shape = tuple(stop - start for start, stop in region)
        array.read(region, buffers.flat[: int(np.prod(shape))].reshape(shape))

    return _read_all(array.shape, array.unit, read, options["cores"], timer, array.nbytes)


def read_zarr(options: dict[str, Any], timer: Timer) -> dict[str, Any]:
    """Read each storage unit once with zarr-python, as many threads as cores."""
    import zarr

    array = zarr.open_array(options["x"], mode="r")

    def read(region: Unit) -> None:
        array[tuple(slice(*pair) for pair in region)]

    unit = array.shards or array.chunks
    return _read_all(array.shape, unit, read, options["cores"], timer, array.nbytes)


def _read_all(
    shape: tuple[int, ...],
    unit: tuple[int, ...],
    read: Callable[[Unit], None],
    cores: int,
    timer: Timer,
    nbytes: int,
) -> dict[str, Any]:
    with ThreadPoolExecutor(cores) as pool, timer:
        for _ in pool.map(read, _units(shape, unit)):
            pass
    return {"gbytes_per_second": 1e-9 * nbytes / timer.seconds}


def _units(shape: tuple[int, ...], unit: tuple[int, ...]) -> Iterator[Unit]:
    ranges = [
        [(begin, min(begin + step, size)) for begin in range(0, size, step)]
        for size, step in zip(shape, unit, strict=True)
    ]
    return itertools.product(*ranges)


GEMM = ("limit: gemm float32", "limit: gemm float64")
READ = ("limit: read, leptonhpc.store", "limit: read, zarr-python")

CONTESTANTS = {
    ("limit", GEMM[0]): Contestant(gemm),
    ("limit", GEMM[1]): Contestant(gemm),
    ("limit", READ[0]): Contestant(read_leptonhpc),
    ("limit", READ[1]): Contestant(read_zarr),
}
