"""How fast this machine is: measured in about five seconds, and kept for `explain`."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from leptonhpc import store
from leptonhpc.kernels import primitives_of, table
from leptonhpc.kernels.fold import Blas
from leptonhpc.placement import Device, Machine
from leptonhpc.planning import Precision, Rates, flops
from leptonhpc.planning.costs import SKINNY
from leptonhpc.runtime import memory
from leptonhpc.runtime.cores import usable_cores
from leptonhpc.runtime.device import device_here

_LIBRARIES = ("numpy", "scipy", "zarr", "numcodecs", "zarrs")
_SECONDS = 0.25
"""Of each measurement."""


def probe(*, save: bool = True) -> Machine:
    """Measure each worker of the connected cluster, or this machine, in about five seconds.

    Parameters
    ----------
    save : bool
        Keep the rates in the user's cache on each machine, where plans find them: those of the same
        kind of device with the same versions of the libraries that compute, read and decode.

    Returns
    -------
    Machine
        A device for each worker (or one), with its rates: gemm at three sizes, syrk, skinny gemm at
        two widths, Cholesky, QR, eigh and sums of squares in float64 flops a second, how much
        faster float32 and TF32 are, and bytes a second that are read from and written to a Zarr
        store (of arrays as stored by default: Zstandard). Of a device with memory of its own also
        bytes a second that are copied in and out, and the seconds that each copy takes beside.
    """
    from leptonhpc.runtime.backends import connected_client

    client = connected_client()
    if client is None:
        return Machine((measure(save=save),))
    from leptonhpc.runtime.cluster import measured_workers

    return measured_workers(client, save=save)


def measure(*, save: bool) -> Device:
    """Measure the device of this process.

    Parameters
    ----------
    save : bool
        Keep the rates in the user's cache.

    Returns
    -------
    Device
        Its rates are averages over some tenths of a second each: a process that is slowed shows it.
    """
    from threadpoolctl import threadpool_limits

    kind = device_here()
    blas = primitives_of(kind).computing("float32")
    with threadpool_limits(limits=1, user_api="blas"):
        gemm, half = _gemm_rates(blas, "f8")
        single = _gemm_rates(blas, "f4")[0]
        rounded = single
        if blas.has_tf32:
            rounded = _gemm_rates(blas.computing("tf32"), "f4")[0]
        (skinny, skinny_half), syrk = _skinny_rates(blas), _syrk_rate(blas)
        potrf, geqrf = _potrf_rate(blas), _geqrf_rate(blas)
        read, write = _store_rates()
        sweep = _sweep_rate(kind)
    rates = Rates(
        gemm, syrk, skinny, _eigh_rate(), read, write, potrf, geqrf, single / gemm, half,
        skinny_half, sweep, rounded / gemm, measured=True,
    )  # fmt: skip
    device = _device(kind, rates, (math.inf, 0.0) if blas.array is None else _link(blas))
    _here[kind] = device
    if save:
        path = _cache_file(kind)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}")
        known: dict[str, Any] = {"rates": rates.to_dict()}
        if device.overlaps:
            known["link"] = (device.link_bytes, device.link_seconds)
        partial.write_text(json.dumps(known))
        partial.replace(path)
    return device


_here: dict[str, Device] = {}
"""Measured in this process, by kind."""


def here() -> Device:
    """Give the device of this process: as it was measured, here or by another, or cautiously.

    Returns
    -------
    Device
        Named "this machine".

    Raises
    ------
    OptionError
        If $LEPTONHPC_DEVICE names what is not there.
    """
    kind = device_here()
    primitives_of(kind)
    if kind in _here:
        return _here[kind]
    try:
        known = json.loads(_cache_file(kind).read_text())
        link_bytes, link_seconds = known.get("link", (math.inf, 0.0))
        return _device(kind, Rates(**known["rates"]), (link_bytes, link_seconds))
    except (OSError, ValueError, TypeError, KeyError):
        return _device(kind, Rates(), (math.inf, 0.0))


def _device(kind: str, rates: Rates, link: tuple[float, float]) -> Device:
    blas, free = primitives_of(kind), memory.free_nbytes()
    if blas.is_host:
        return Device("this machine", kind, usable_cores(), free, rates, *link)
    chosen: Precision | None = "tf32" if blas.precision == "tf32" else None
    # one lane, whose blocks are in the memory of both
    least = free if blas.capacity_nbytes is None else min(free, blas.capacity_nbytes)
    return Device(
        "this machine", kind, 1, least, rates, *link, tf32=blas.has_tf32, precision=chosen
    )


def cache_folder() -> Path:
    """Give the user's cache folder: $LEPTONHPC_CACHE, or that of the platform."""
    if "LEPTONHPC_CACHE" in os.environ:
        return Path(os.environ["LEPTONHPC_CACHE"])
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "leptonhpc"


def _cache_file(kind: str) -> Path:
    """Name the file of a device, and of what its rates depend on: they are those of no other."""
    import platform

    name = f"{kind}-{platform.node()}-{os.cpu_count()}-{'-'.join(_versions(kind))}"
    return cache_folder() / f"rates-{name}.json"


@functools.cache
def _versions(kind: str) -> tuple[str, ...]:
    """Give the versions of the libraries that compute, read and decode."""
    found = []
    for library in _LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found.append(f"{library}{metadata.version(library)}")
    array = primitives_of(kind).array
    if array is not None:
        library = array.__module__.partition(".")[0]
        found.append(f"{library}{getattr(sys.modules[library], '__version__', '')}")
    return tuple(found)


def _done(blas: Blas, array: Any) -> None:
    """Wait for what was asked of a device."""
    if not blas.is_host:
        blas.get(array[:1, :1])


def _rate(work: Callable[[], object], amount: float, *, seconds: float | None = None) -> float:
    """Repeat work for a while; give the amount per second."""
    seconds = _SECONDS if seconds is None else seconds
    work()
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        work()
        count += 1
    return amount * count / (time.perf_counter() - began)


_LARGEST = 768
_SHORT_SECONDS = 0.01
"""An accelerator that takes less for a product is asked for a larger one."""


def _gemm_rates(blas: Blas, dtype: str) -> tuple[float, float]:
    """Fit r n / (n + n_1/2) to three sizes; give both."""
    largest = _LARGEST
    while not blas.is_host and largest < 8 * _LARGEST:
        began = time.perf_counter()
        _gemm_rate(blas, largest, dtype, seconds=0)
        if time.perf_counter() - began > _SHORT_SECONDS:
            break
        largest *= 2
    sizes = (largest // 8, largest // 3, largest)
    return _fitted(sizes, [_gemm_rate(blas, n, dtype) for n in sizes])


def _fitted(sizes: Sequence[float], rates: Sequence[float]) -> tuple[float, float]:
    """Give r and n_1/2: seconds of a flop are (1 + n_1/2 / n) / r, a line in 1 / n."""
    slope, offset = np.polyfit(1.0 / np.array(sizes), 1.0 / np.array(rates), 1)
    if offset <= 0:  # noise: the largest size is what is known
        return rates[-1], 1.0
    return float(1.0 / offset), float(max(1.0, slope / offset))


def _gemm_rate(blas: Blas, n: int, dtype: str, *, seconds: float | None = None) -> float:
    a, c = blas.put(np.ones((n, n), dtype)), blas.zeros((n, n), dtype)

    def work() -> None:
        blas.gemm(c, a, a)
        _done(blas, c)

    return _rate(work, 2.0 * n**3, seconds=seconds)


def _syrk_rate(blas: Blas, n: int = 1024) -> float:
    a, c = blas.put(np.ones((n, n))), blas.zeros((n, n), "f8")

    def work() -> None:
        blas.syrk(c, a)
        _done(blas, c)

    return _rate(work, 1.0 * n**3)


def _potrf_rate(blas: Blas, n: int = 1024) -> float:
    a = blas.put(np.eye(n) + 1.0 / n)
    return _rate(lambda: blas.potrf(a + 0), n**3 / 3.0)


def _geqrf_rate(blas: Blas, m: int = 2048, n: int = 128) -> float:
    a = blas.put(np.random.default_rng(0).standard_normal((m, n)))
    return _rate(lambda: blas.geqrf(a + 0), 2.0 * m * n**2 - 2.0 * n**3 / 3.0)


def _skinny_rates(blas: Blas) -> tuple[float, float]:
    """Give the rate with SKINNY columns, and the columns at which it is half of that with many."""
    widths = (SKINNY // 4, SKINNY)
    rate, half = _fitted(widths, [_skinny_rate(blas, width) for width in widths])
    return rate * SKINNY / (SKINNY + half), half


def _skinny_rate(blas: Blas, width: int, rows: int = 2048, columns: int = 2048) -> float:
    a, q = blas.put(np.ones((rows, columns))), blas.put(np.ones((columns, width)))
    z = blas.zeros((columns, width), "f8")

    def work() -> None:
        blas.gemm(z, a, a @ q, adjoint=True)
        _done(blas, z)

    return _rate(work, 4.0 * rows * columns * width)


def _sweep_rate(kind: str, rows: int = 1024, columns: int = 512) -> float:
    """Fold a band of a norm again and again."""
    fold, at = table(kind)["norms"], ((0, rows), (0, columns))
    small = {"columns": columns, "power": 1.0}
    acc, block = fold.begin(small, at), primitives_of(kind).put(np.ones((rows, columns)))
    return _rate(lambda: fold.step(acc, [block], small, at), flops("norms", "f8", rows=rows,
                 columns=columns))  # fmt: skip


def _link(blas: Blas, nbytes: int = 1 << 25) -> tuple[float, float]:
    """Give bytes a second, and seconds of a copy of nothing: large and small ones, in and out."""
    host = np.ones((nbytes >> 15, 1 << 12))
    row = host[:1]
    large = 1.0 / _rate(lambda: blas.get(blas.put(host)), 2.0)
    small = 1.0 / _rate(lambda: blas.get(blas.put(row)), 2.0)
    link_seconds = max(0.0, (len(host) * small - large) / (len(host) - 1))
    return nbytes / max(large - link_seconds, large / 2), link_seconds


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
