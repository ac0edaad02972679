"""What kernels cost: flops, and seconds from a machine's measured rates."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from leptonhpc.planning.precision import Precision

SKINNY = 32
"""Columns of the skinny products that are measured."""
CHOLESKY_ORDER, PANEL_COLUMNS = 1024, 128
"""Of the factorisations whose rates are `Rates.potrf_flops` and `Rates.geqrf_flops`."""

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
    potrf_flops: float = 25e9
    """float64 Cholesky factorisation of a block of order 1024, per core and second."""
    geqrf_flops: float = 12e9
    """float64 QR factorisation of a panel of 128 columns, per core and second."""
    single_speedup: float = 2.0
    """How much faster gemm is in float32."""
    half_size: float = 40.0
    """Order of the blocks at which gemm has half of its rate (Hockney's n_1/2)."""
    skinny_half: float = 20.0
    """Columns with which skinny products have half of the rate that many would have."""
    sweep_flops: float = 2e9
    """Sums of sizes and squares (counted as 4 for a number), per core and second."""
    tf32_speedup: float = 2.0
    """How much faster gemm is in TF32; where there is none, in float32."""
    fresh_bytes: float = 1e9
    """Memory that a process has not used before, which the system finds and clears, per core and
    second. Slower on virtual machines whose host has to give it first: 0.3 to 1 GB/s were seen."""
    measured: bool = False

    def of(self, name: str, dtype: Any, size: float | None = None) -> float:
        """Give the flops per core and second of a kind of work in a dtype (real flops).

        Parameters
        ----------
        name : str
            A field of this class.
        dtype : dtype
            Of computing.
        size : float, optional
            Order of the blocks; of skinny products and panels their columns. Default: as measured
            (1024 for Cholesky, 128 for QR, 32 for skinny products), else large.

        Returns
        -------
        float
            The measured rate r n / (n + n_1/2) [1]_: skinny products read as much for few columns
            as for many. Factorisations are products for the most part where they are large: what
            they take beside goes with 1 / n (Cholesky), or 1 / sqrt(n) (QR, seen from 128 to 3072).

        References
        ----------
        .. [1] R. W. Hockney, C. R. Jesshope, Parallel Computers 2, 1988, section 1.3.
        """
        rate: float = getattr(self, name)
        if name == "sweep_flops":  # in double precision, whatever the dtype
            return rate
        if size is not None and name == "skinny_flops":
            rate *= (1 + self.skinny_half / SKINNY) * size / (size + self.skinny_half)
        elif size is not None and name == "potrf_flops":
            rate = self._beside_products(rate, CHOLESKY_ORDER / size)
        elif size is not None and name == "geqrf_flops":
            rate = self._beside_products(rate, math.sqrt(PANEL_COLUMNS / size))
        elif size is not None:
            rate *= size / (size + self.half_size)
        return rate * (self.single_speedup if np.dtype(dtype).char in "fF" else 1.0)

    def _beside_products(self, rate: float, share: float) -> float:
        """Give the rate of what takes so much of what it takes, when measured, beside products."""
        beside = max(0.0, self.gemm_flops / rate - 1)
        return self.gemm_flops / (1 + beside * share)

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
    speeds: tuple[float, ...] = ()
    """Relative speeds of the workers, where they are known to be unlike."""
    precision: Precision | None = None
    """What is computed with; None: as the input's dtype."""
    tf32_workers: int = 0
    """Workers whose products can round their factors to TF32; the others have single precision."""

    @property
    def arrays_nbytes(self) -> int:
        """What is left for arrays."""
        return self.memory_nbytes - LIBRARIES_NBYTES

    @property
    def cores(self) -> int:
        """Cores in all."""
        return self.workers * self.threads

    @property
    def parts(self) -> int:
        """Pieces of work that it takes to share it fairly.

        A share is a whole number of pieces. With a fastest worker that does f of all work, P
        pieces make the job at most 1 / (f P) longer than it must be.
        """
        if self.workers == 1:
            return 1
        if not self.speeds:
            return _PIECES_EACH * self.workers
        return math.ceil(_PIECES_OF_FASTEST * sum(self.speeds) / max(self.speeds))


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
        "gram_narrow": rows * columns**2,
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


_PIECES_EACH = 8
_PIECES_OF_FASTEST = 16

_SYRK = ("gram", "gram_narrow", "syrk", "squared_syrk", "solved_gram")
_GEMM = (
    "gemm", "gemm_hermitian", "squared_gemm", "update_potrf", "update_getrf",
    "update_geqrf", "form_q", "forward", "backward", "adjoint", "compose",
)  # fmt: skip
_PANELS = {"potrf": "potrf_flops", "geqrf": "geqrf_flops", "getrf": "geqrf_flops"}
"""LU of a panel is as fast as QR, to a tenth: both go through it column by column."""


def rate_of(kernel: str) -> str:
    """Give the field of `Rates` that a kernel's flops are done at.

    Parameters
    ----------
    kernel : str
        Its name in the table.

    Returns
    -------
    str
        The field.
    """
    if kernel in _SYRK:
        return "syrk_flops"
    if kernel in ("norms", "moments"):
        return "sweep_flops"
    if kernel in _PANELS:
        return _PANELS[kernel]
    return "gemm_flops" if kernel in _GEMM else "skinny_flops"


_SWEEPS = {"gram": 1, "load": 5, "load_hermitian": 6}
"""Beside their products: numbers are widened; copied to fresh memory, looked at and summed up, and
compared with those of the other triangle."""


def sweep_flops(kernel: str, read_nbytes: float, dtype: Any) -> float:
    """Count what a kernel does to all numbers that it reads beside its flops, as sums of squares.

    Parameters
    ----------
    kernel : str
        Its name in the table.
    read_nbytes : float
        What it reads.
    dtype : dtype
        Of computing.

    Returns
    -------
    float
        Flops at the rate of sweeps.
    """
    numbers = read_nbytes / int(np.dtype(dtype).itemsize)
    return 4.0 * _SWEEPS.get(kernel, 0) * numbers


def is_skinny(kernel: str) -> bool:
    """Say whether a kernel's speed depends on how many columns its products have."""
    return rate_of(kernel) == "skinny_flops"


def seconds(
    kernel: str,
    dtype: Any,
    *,
    flops: float,
    read_nbytes: float,
    write_nbytes: float,
    resources: Resources,
    cores: int | None = None,
    width: float | None = None,
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
    width : float, optional
        Columns of skinny products.

    Returns
    -------
    float
        Seconds.
    """
    used = cores or resources.cores
    rates = resources.rates
    used_dtype = {"gram": "f8", "rotate": "f8", "gram_narrow": "f4"}.get(kernel, dtype)
    rate = rates.of(rate_of(kernel), used_dtype, width if is_skinny(kernel) else None)
    compute = flops / rate / used
    return compute + read_nbytes / rates.read_bytes / used + write_nbytes / rates.write_bytes / used


_JOB_SECONDS = 0.002
_STAGE_SECONDS = 0.004
_TASK_SECONDS = 0.0005
_ARRAY_SECONDS = 0.003
"""What a job, a stage, a task and an array that is made take in this process beside all work:
measured with arrays of a few kilobytes, 6 to 60 ms in all."""


_KEPT_SECONDS = 0.008
"""What a stage takes more where there is an output, whose journal is asked, told and given sums."""


def beside_seconds(resources: Resources, tasks: int = 0, lanes: int = 1) -> float:
    """Predict what a stage takes beside its work.

    Parameters
    ----------
    resources : Resources
        Of a cluster its machine model knows: nothing is added here.
    tasks : int
        Of the stage.
    lanes : int
        That run them.

    Returns
    -------
    float
        Seconds.
    """
    if resources.distributed:
        return 0.0
    return _STAGE_SECONDS + _TASK_SECONDS * tasks / max(1, lanes)


def around_seconds(resources: Resources, arrays: int) -> float:
    """Predict what a job takes beside its stages: to begin, and to make so many arrays."""
    return 0.0 if resources.distributed else _JOB_SECONDS + _ARRAY_SECONDS * arrays


def kept_seconds(stages: float) -> float:
    """Predict what so many stages take more where there is an output, with its journal."""
    return _KEPT_SECONDS * stages


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
