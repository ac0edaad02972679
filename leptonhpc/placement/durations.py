"""What a task takes on a device: its flops at the rate of its blocks, its bytes, what is beside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from leptonhpc.blocks import Region
from leptonhpc.placement.machine import Device
from leptonhpc.planning import Rates, Stage, Task
from leptonhpc.planning.costs import MOST_DECODERS, is_skinny, rate_of, sweep_flops

PANELS = ("potrf", "getrf", "geqrf")
"""Kernels that factor a panel: the rows that they work on are those from its diagonal on."""
_REFLECTIONS = ("update_geqrf", "form_q")
_REFLECTED = 256
"""Reflectors that are applied at once: V^H V of so many columns is formed for each."""


@dataclass(frozen=True, slots=True)
class Seconds:
    """What a task takes on a lane that has all to itself."""

    read: float
    compute: float
    write: float
    link: float
    fresh: float = 0.0
    """Of reading beside: to get memory for what is kept. It says nothing of later reads."""

    def total(self, *, overlaps: bool) -> float:
        """Give the seconds in all."""
        read = self.read + self.fresh
        if overlaps:
            return max(read, self.compute, self.link) + self.write
        return read + self.compute + self.write


@dataclass(frozen=True, slots=True)
class Slowdown:
    """How many times longer than predicted a device takes."""

    read: float = 1.0
    compute: float = 1.0
    write: float = 1.0


NORMAL = Slowdown()


def task_seconds(
    task: Task, stage: Stage, device: Device, slow: Slowdown = NORMAL, beside: float = 0.0
) -> Seconds:
    """Predict what a task takes on a lane of a device.

    Parameters
    ----------
    task : Task
        The task.
    stage : Stage
        To which it belongs.
    device : Device
        Who does it.
    slow : Slowdown
        How many times longer than by its rates the device takes.
    beside : float
        Seconds of a lane for each task beside its work.

    Returns
    -------
    Seconds
        By the measured rates.
    """
    cores, rates = _cores(device, stage), device.rates
    compute = beside + flop_seconds(task, stage, rates) / cores
    swept = sweep_flops(task.kernel, task.read_nbytes, stage.dtype)
    compute += swept / (rates.sweep_flops * cores)
    read = read_seconds(device, stage, task.read_nbytes)
    moved = task.read_nbytes + task.write_nbytes
    link = moved / device.link_bytes
    if device.link_seconds:
        link += device.link_seconds * len(task.steps)
    kept = 0.0 if device.overlaps else task.read_nbytes * stage.kept_share  # in its own memory
    return Seconds(
        slow.read * read,
        slow.compute * compute,
        slow.write * task.write_nbytes / (rates.write_bytes * min(cores, stage.blas_threads)),
        slow.compute * link if device.overlaps else 0.0,
        kept / rates.fresh_bytes / decoders(device, stage),
    )


def read_seconds(device: Device, stage: Stage, nbytes: float) -> float:
    """Predict what reading takes a lane.

    Parameters
    ----------
    device : Device
        Whose lane.
    stage : Stage
        What it does.
    nbytes : float
        How much is read.

    Returns
    -------
    float
        Seconds, to buffers: memory that was used before.
    """
    return nbytes / device.rates.read_bytes / decoders(device, stage)


def flop_seconds(task: Task, stage: Stage, rates: Rates) -> float:
    """Predict the seconds of one core for a task's flops.

    Parameters
    ----------
    task : Task
        The task.
    stage : Stage
        To which it belongs: its precision, and the columns of skinny products.
    rates : Rates
        Of the core.

    Returns
    -------
    float
        Seconds.

    Notes
    -----
    What a product of m x k and k x n takes more than a large one goes with each of its sides: it
    is as fast as one of order 3 / (1/m + 1/n + 1/k). A panel is a block on the diagonal, factored,
    and what is below it, solved with: Cholesky by products that are a third as wide; LU and QR go
    through all rows column by column, at the rate of QR of so many columns.
    """
    if not task.flops:
        return 0.0
    name, dtype = rate_of(task.kernel), stage.dtype
    if task.kernel in PANELS and len(task.at) == 2:  # noqa: PLR2004  (a block has two sides)
        inner, below, width = _panel_flops(task.kernel, task.at, dtype)
        seconds = inner / rates.of(name, dtype, width) if inner else 0.0
        seconds += below / rates.of("gemm_flops", dtype, width / 3) if below else 0.0
        rest = max(0.0, task.flops - inner - below)  # counted with it, but its updates'
        return seconds + rest / rates.of("gemm_flops", dtype, width)
    if is_skinny(task.kernel):
        return task.flops / rates.of(name, dtype, stage.width)
    sides = _sides(task)
    flops = task.flops
    if task.kernel in _REFLECTIONS and sides:
        flops *= 1 + min(_REFLECTED, sides[1]) / (4 * sides[2])  # m k^2 beside 4 m n k
        sides = (sides[0], min(_REFLECTED, sides[1]), sides[2])
    order = len(sides) / sum(1 / side for side in sides) if sides else None
    return flops / rates.of(name, dtype, order)


def decoders(device: Device, stage: Stage) -> int:
    """Give how many cores of a lane read and decode.

    Parameters
    ----------
    device : Device
        Whose lane.
    stage : Stage
        What it does.

    Returns
    -------
    int
        From 1.
    """
    return min(_cores(device, stage), stage.blas_threads, MOST_DECODERS)


def _cores(device: Device, stage: Stage) -> int:
    """Cores of a lane."""
    return max(1, device.cores // stage.lanes_per_worker)


def _panel_flops(kernel: str, at: Region, dtype: str) -> tuple[float, float, float]:
    """Give the flops of factoring a panel that was updated: of its block, below it; its columns."""
    (r0, r1), (c0, c1) = at
    rows, width = float(max(0, r1 - max(r0, c0))), float(c1 - c0)
    factor = 4.0 if np.dtype(dtype).kind == "c" else 1.0
    if kernel == "potrf":
        return factor * width**3 / 3, factor * width**2 * max(0.0, rows - width), width
    short = min(rows, width)
    flops = factor * short**2 * (max(rows, width) - short / 3)
    return (2 * flops if kernel == "geqrf" else flops), 0.0, width


def _sides(task: Task) -> Sequence[int]:
    """Give rows, inner columns and columns of a task's products, where they are known."""
    if len(task.at) != 2:  # noqa: PLR2004  (a block has two sides)
        return ()
    height, width = (high - low for low, high in task.at)
    first = next(iter(task.steps), None)
    lengths = [high - low for read in first.reads for low, high in read.region] if first else []
    if task.kernel == "gemm" and len(lengths) == 4:  # noqa: PLR2004  (two blocks)
        return lengths[0], lengths[1], lengths[3]
    if (task.kernel.startswith("update_") or task.kernel == "form_q") and lengths:
        return lengths[0], lengths[1], width
    return (min(height, width),)
