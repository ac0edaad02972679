"""What kernels cost: flops, and seconds from a machine's measured rates."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

LIBRARIES_NBYTES = 150_000_000
"""Interpreter, NumPy, SciPy, Zarr, Dask and what BLAS packs into, before any array (100 to 140 MB
measured)."""

MOST_DECODERS = 4
"""Threads of a lane that decode chunks: each holds a chunk, compressed and not."""


def decoding_nbytes(chunk_nbytes: int, threads: int) -> int:
    """Give the bytes that a lane's decoders hold.

    Parameters
    ----------
    chunk_nbytes : int
        Of a chunk, decoded.
    threads : int
        Cores of the lane.

    Returns
    -------
    int
        Bytes.
    """
    return 2 * min(threads, MOST_DECODERS) * chunk_nbytes


@dataclass(frozen=True)
class Rates:
    """How fast one machine is; measured by ``leptonhpc probe``, else cautious defaults."""

    gemm_flops: float = 40e9
    """float64 gemm of large blocks, per core and second."""
    syrk_flops: float = 40e9
    """float64 syrk, per core and second."""
    skinny_flops: float = 25e9
    """float64 gemm with 32 columns, per core and second."""
    eigh_flops: float = 8e9
    """float64 symmetric eigenproblem (counted as 9 n^3), in all."""
    read_bytes: float = 1.0e9
    """Reading and decoding, per core and second."""
    write_bytes: float = 0.4e9
    """Encoding and writing, per core and second."""
    measured: bool = False

    def of(self, name: str, dtype: Any) -> float:
        """Give the flops per core and second of a kind of work in a dtype (real flops)."""
        rate: float = getattr(self, name)
        return rate * (2 if np.dtype(dtype).char in "fF" else 1)

    def to_dict(self) -> dict[str, Any]:
        """Give the rates as JSON can hold them."""
        return asdict(self)


@dataclass(frozen=True)
class Resources:
    """What a job may use."""

    memory_nbytes: int
    """Per worker process, everything included."""
    workers: int = 1
    threads: int = 1
    """Cores of each worker."""
    rates: Rates = Rates()
    distributed: bool = False

    @property
    def arrays_nbytes(self) -> int:
        """What is left for arrays."""
        return self.memory_nbytes - LIBRARIES_NBYTES

    @property
    def cores(self) -> int:
        """Cores in all."""
        return self.workers * self.threads


def flops(kernel: str, dtype: Any, **sizes: int) -> float:
    """Count the real floating-point operations of a kernel.

    Parameters
    ----------
    kernel : str
        Its name in the table.
    dtype : dtype
        Complex counts four times.
    **sizes : int
        ``rows``, ``columns``, ``width`` as the kernel has them.

    Returns
    -------
    float
        The flops.

    Examples
    --------
    >>> flops("gemm", "f8", rows=10, columns=10, width=10)
    2000.0
    """
    rows, columns, width = (sizes.get(k, 0) for k in ("rows", "columns", "width"))
    factor = 4.0 if np.dtype(dtype).kind == "c" else 1.0
    count = {
        "gram": rows * columns**2,
        "syrk": rows * columns**2,
        "normal": 4 * rows * columns * width,
        "sketch": 2 * rows * columns * width,
        "rotate": 2 * rows * columns * width + rows * width**2,
        "gemm": 2 * rows * columns * width,
        "moments": 4 * rows * columns,
        "norms": 4 * rows * columns,
        "copy": 0,
    }[kernel]
    return factor * count


_RATE = {"gram": "syrk_flops", "syrk": "syrk_flops", "gemm": "gemm_flops"}


def seconds(
    kernel: str,
    dtype: Any,
    *,
    flops: float,
    read_nbytes: float,
    write_nbytes: float,
    resources: Resources,
    cores: int | None = None,
) -> float:
    """Predict the seconds of a stage whose cores read, compute and write in turn.

    Parameters
    ----------
    kernel, dtype : str, dtype
        What is computed.
    flops, read_nbytes, write_nbytes : float
        Of the whole stage.
    resources : Resources
        Rates and cores.
    cores : int, optional
        Cores that work; default all.

    Returns
    -------
    float
        Seconds.
    """
    used = cores or resources.cores
    rates = resources.rates
    wide = "f8" if kernel in ("gram", "rotate") else dtype
    rate = rates.of(_RATE.get(kernel, "skinny_flops"), wide)
    compute = flops / rate / used
    return compute + read_nbytes / rates.read_bytes / used + write_nbytes / rates.write_bytes / used


def eigh_seconds(n: int, rates: Rates) -> float:
    """Predict the seconds of a symmetric eigenproblem of order n."""
    return 9.0 * float(n) ** 3 / rates.eigh_flops


def format_seconds(value: float) -> str:
    """Write a duration with two digits."""
    if value < 0.095:
        return f"{value * 1000:.2g} ms"
    if value < 99.5:
        return f"{value:.2g} s" if value < 9.95 else f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    return (
        f"{minutes} min {rest} s"
        if minutes < 60
        else f"{math.floor(minutes / 60)} h {minutes % 60} min"
    )
