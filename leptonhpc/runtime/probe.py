"""How fast this machine is: measured in about five seconds, and kept for `explain`."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import mmap
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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
        store (of arrays as stored by default: Zstandard), and of memory that the system gives anew.
        Of a device with memory of its own also bytes a second that are copied in and out, and the
        seconds that each copy takes beside.
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
        Of a process that is stopped now and then, all rates are as much smaller: what it computes
        with is measured while it runs, and the share of the time that it is let run in all of that.
    """
    import scipy.linalg.cython_blas  # noqa: F401  (its BLAS must be loaded to be limited)
    from threadpoolctl import threadpool_limits

    kind = device_here()
    blas = primitives_of(kind).computing("float32")
    rate, fresh = _Rate(on_host=blas.is_host), _fresh_rate()
    with threadpool_limits(limits=1, user_api="blas"):
        gemm, half = _gemm_rates(rate, blas, "f8")
        single = _gemm_rates(rate, blas, "f4")[0]
        rounded = single
        if blas.has_tf32:
            rounded = _gemm_rates(rate, blas.computing("tf32"), "f4")[0]
        (skinny, skinny_half), syrk = _skinny_rates(rate, blas), _syrk_rate(rate, blas)
        potrf, geqrf = _potrf_rate(rate, blas), _geqrf_rate(rate, blas)
        read, write = _store_rates()
        sweep = _sweep_rate(rate, kind)
    gemm, single, rounded, skinny, syrk, potrf, geqrf, sweep = (
        rate.share * each for each in (gemm, single, rounded, skinny, syrk, potrf, geqrf, sweep)
    )
    rates = Rates(
        gemm, syrk, skinny, _eigh_rate(), read, write, potrf, geqrf, single / gemm, half,
        skinny_half, sweep, rounded / gemm, rate.share * fresh, measured=True,
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


@dataclass
class _Rate:
    """Amounts per second while this thread runs, and the share of the time that it is let run.

    What stops a process for tenths of a second would make a rate that was measured meanwhile small
    beside the others; the share of all measurements together is that of the process.
    """

    on_host: bool
    ran: float = 0.0
    took: float = 0.0

    def __call__(
        self, work: Callable[[], object], amount: float, *, seconds: float | None = None
    ) -> float:
        """Repeat work for a while; give the amount per second."""
        seconds = _SECONDS if seconds is None else seconds
        work()
        count, began, began_ran = 0, time.perf_counter(), time.thread_time()
        while (took := time.perf_counter() - began) < seconds or (seconds and not count):
            work()
            count += 1
        # a device works while the thread waits for it
        ran = time.thread_time() - began_ran if self.on_host else took
        self.ran, self.took = self.ran + ran, self.took + took
        return amount * count / max(ran, 1e-9)

    @property
    def share(self) -> float:
        """Of the time, that the thread was let run."""
        return min(1.0, self.ran / self.took)


_LARGEST = 768
_SHORT_SECONDS = 0.01
"""An accelerator that takes less for a product is asked for a larger one."""


def _gemm_rates(rate: _Rate, blas: Blas, dtype: str) -> tuple[float, float]:
    """Fit r n / (n + n_1/2) to three sizes; give both."""
    largest = _LARGEST
    while not blas.is_host and largest < 8 * _LARGEST:
        began = time.perf_counter()
        _gemm_rate(rate, blas, largest, dtype, seconds=0)
        if time.perf_counter() - began > _SHORT_SECONDS:
            break
        largest *= 2
    sizes = (largest // 8, largest // 3, largest)
    return _fitted(sizes, [_gemm_rate(rate, blas, n, dtype) for n in sizes])


def _fitted(sizes: Sequence[float], rates: Sequence[float]) -> tuple[float, float]:
    """Give r and n_1/2: seconds of a flop are (1 + n_1/2 / n) / r, a line in 1 / n."""
    slope, offset = np.polyfit(1.0 / np.array(sizes), 1.0 / np.array(rates), 1)
    if offset <= 0:  # noise: the largest size is what is known
        return rates[-1], 1.0
    return float(1.0 / offset), float(max(1.0, slope / offset))


def _gemm_rate(
    rate: _Rate, blas: Blas, n: int, dtype: str, *, seconds: float | None = None
) -> float:
    a, c = blas.put(np.ones((n, n), dtype)), blas.zeros((n, n), dtype)

    def work() -> None:
        blas.gemm(c, a, a)
        _done(blas, c)

    return rate(work, 2.0 * n**3, seconds=seconds)


def _syrk_rate(rate: _Rate, blas: Blas, n: int = 1024) -> float:
    a, c = blas.put(np.ones((n, n))), blas.zeros((n, n), "f8")

    def work() -> None:
        blas.syrk(c, a)
        _done(blas, c)

    return rate(work, 1.0 * n**3)


def _potrf_rate(rate: _Rate, blas: Blas, n: int = 1024) -> float:
    a = blas.put(np.eye(n) + 1.0 / n)
    return rate(lambda: blas.potrf(a + 0), n**3 / 3.0)


def _geqrf_rate(rate: _Rate, blas: Blas, m: int = 2048, n: int = 128) -> float:
    a = blas.put(np.random.default_rng(0).standard_normal((m, n)))
    return rate(lambda: blas.geqrf(a + 0), 2.0 * m * n**2 - 2.0 * n**3 / 3.0)


def _skinny_rates(rate: _Rate, blas: Blas) -> tuple[float, float]:
    """Give the rate with SKINNY columns, and the columns at which it is half of that with many."""
    widths = (SKINNY // 4, SKINNY)
    many, half = _fitted(widths, [_skinny_rate(rate, blas, width) for width in widths])
    return many * SKINNY / (SKINNY + half), half


def _skinny_rate(
    rate: _Rate, blas: Blas, width: int, rows: int = 2048, columns: int = 2048
) -> float:
    a, q = blas.put(np.ones((rows, columns))), blas.put(np.ones((columns, width)))
    z = blas.zeros((columns, width), "f8")

    def work() -> None:
        blas.gemm(z, a, a @ q, adjoint=True)
        _done(blas, z)

    return rate(work, 4.0 * rows * columns * width)


def _sweep_rate(rate: _Rate, kind: str, rows: int = 1024, columns: int = 512) -> float:
    """Fold a band of a norm again and again."""
    fold, at = table(kind)["norms"], ((0, rows), (0, columns))
    small = {"columns": columns, "power": 1.0}
    acc, block = fold.begin(small, at), primitives_of(kind).put(np.ones((rows, columns)))
    return rate(lambda: fold.step(acc, [block], small, at), flops("norms", "f8", rows=rows,
                 columns=columns))  # fmt: skip


_FRESH_NBYTES, _PIECE_NBYTES, _FRESH_SECONDS = 1 << 28, 1 << 22, 0.1
"""Of memory that is asked for, at most; of what is timed at once; and of processor time."""
_SLOWEST = 0.9
"""Of pieces: what is slower tells what much memory costs."""


def _fresh_rate() -> float:
    """Touch memory that the system gives anew; give the rate of the slowest tenth of its pieces.

    What anybody used a moment ago is given first. The rest a virtual machine may have to get from
    its host, which is ten times slower and more; and a job keeps more than is touched here.
    """
    room = np.empty(min(_FRESH_NBYTES, memory.free_nbytes() // 8), np.uint8)
    took: list[float] = []
    for low in range(0, room.size - _PIECE_NBYTES + 1, _PIECE_NBYTES):
        began = time.thread_time()
        room[low : low + _PIECE_NBYTES : mmap.PAGESIZE] = 1
        took.append(time.thread_time() - began)
        if sum(took) > _FRESH_SECONDS:
            break
    if not took:
        return Rates().fresh_bytes
    return _PIECE_NBYTES / max(float(np.quantile(took, _SLOWEST)), 1e-9)


def _link(blas: Blas, nbytes: int = 1 << 25) -> tuple[float, float]:
    """Give bytes a second, and seconds of a copy of nothing: large and small ones, in and out."""
    host = np.ones((nbytes >> 15, 1 << 12))
    row = host[:1]
    rate = _Rate(on_host=False)
    large = 1.0 / rate(lambda: blas.get(blas.put(host)), 2.0)
    small = 1.0 / rate(lambda: blas.get(blas.put(row)), 2.0)
    link_seconds = max(0.0, (len(host) * small - large) / (len(host) - 1))
    return nbytes / max(large - link_seconds, large / 2), link_seconds


def _eigh_rate(n: int = 512) -> float:
    """Measure it by the clock: all threads of BLAS do it."""
    a = np.random.default_rng(0).standard_normal((n, n))
    a = a + a.T

    def work() -> Any:
        return np.linalg.eigh(a)

    return _Rate(on_host=False)(work, 9.0 * n**3)


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

        # decoding is other threads' work, and waiting for files is nobody's
        rate, amount = _Rate(on_host=False), 4.0 * block.nbytes
        writing = lane.submit(rate, write, amount).result()
        return lane.submit(rate, read, amount).result(), writing
