"""How fast this machine is: measured in about five seconds, and kept for `explain`."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from leptonhpc import store
from leptonhpc.kernels import DEVICES
from leptonhpc.planning import Rates

_SECONDS = 0.4


def probe(*, save: bool = True) -> Rates:
    """Measure this machine: gemm, syrk, skinny gemm, eigh, and a Zarr store's reads and writes.

    Parameters
    ----------
    save : bool
        Keep the rates in the user's cache, where `leptonhpc.plan` finds them.

    Returns
    -------
    Rates
        float64 flops per core and second, bytes per core and second (of arrays as stored by
        default: Zstandard).
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1, user_api="blas"):
        rates = Rates(
            gemm_flops=_gemm_rate(), syrk_flops=_syrk_rate(), skinny_flops=_skinny_rate(),
            read_bytes=0.0, write_bytes=0.0,
        )  # fmt: skip
        read, write = _store_rates()
    eigh = _eigh_rate()
    result = Rates(
        rates.gemm_flops, rates.syrk_flops, rates.skinny_flops, eigh, read, write, measured=True
    )
    if save:
        path = _cache_file()
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps(result.to_dict()))
        partial.replace(path)
    return result


def known_rates() -> Rates | None:
    """Give the rates that an earlier probe kept, or None."""
    try:
        return Rates(**json.loads(_cache_file().read_text()))
    except (OSError, ValueError, TypeError):
        return None


def cache_folder() -> Path:
    """Give the user's cache folder: $LEPTONHPC_CACHE, or that of the platform."""
    if "LEPTONHPC_CACHE" in os.environ:
        return Path(os.environ["LEPTONHPC_CACHE"])
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "leptonhpc"


def _cache_file() -> Path:
    import platform

    versions = f"{platform.node()}-{os.cpu_count()}-numpy{np.__version__}"
    return cache_folder() / f"rates-{versions}.json"


def _rate(work: Callable[[], None], amount: float) -> float:
    """Repeat work for a while; give the best amount per second."""
    work()
    best, end = 0.0, time.perf_counter() + _SECONDS
    while time.perf_counter() < end:
        began = time.perf_counter()
        work()
        best = max(best, amount / (time.perf_counter() - began))
    return best


def _gemm_rate(n: int = 768) -> float:
    a, c = np.ones((n, n)), np.zeros((n, n))
    return _rate(lambda: DEVICES["host"].gemm(c, a, a), 2.0 * n**3)


def _syrk_rate(n: int = 1024) -> float:
    a, c = np.ones((n, n)), np.zeros((n, n))
    return _rate(lambda: DEVICES["host"].syrk(c, a), 1.0 * n**3)


def _skinny_rate(rows: int = 2048, columns: int = 2048, width: int = 32) -> float:
    a, q, z = np.ones((rows, columns)), np.ones((columns, width)), np.zeros((columns, width))

    def work() -> None:
        DEVICES["host"].gemm(z, a, a @ q, adjoint=True)

    return _rate(work, 4.0 * rows * columns * width)


def _eigh_rate(n: int = 512) -> float:
    a = np.random.default_rng(0).standard_normal((n, n))
    a = a + a.T

    def work() -> Any:
        return np.linalg.eigh(a)

    return _rate(work, 9.0 * n**3)


def _store_rates() -> tuple[float, float]:
    """Read and write a small array through the page cache, one thread."""
    block = np.random.default_rng(0).standard_normal((512, 2048))
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(1) as lane:
        array = store.create_array(
            Path(folder) / "probe.zarr", shape=(2048, 2048), dtype="f8", chunks=block.shape
        )
        out = np.empty_like(block)

        def write() -> None:
            for i in range(4):
                array.write_units((i, 0), block)

        def read() -> None:
            for i in range(4):
                array.read(((512 * i, 512 * (i + 1)), (0, 2048)), out)

        amount = 4.0 * block.nbytes
        writing = lane.submit(_rate, write, amount).result()
        return lane.submit(_rate, read, amount).result(), writing
