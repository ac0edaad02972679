"""Small machines and stages whose times are known by heart."""

from __future__ import annotations

from dataclasses import replace

from leptonhpc.placement import Device, Machine
from leptonhpc.planning import Rates, Stage, Task
from leptonhpc.planning.tasks import StepList


def machine_of(*speeds: float, **shared: float) -> Machine:
    """Give devices of one core that do so many GFLOP/s of gemm, and read and write 1 GB/s.

    Parameters
    ----------
    *speeds : float
        One for each device, "d0" and so on.
    **shared : float
        Fields of `Machine`; a task takes the scheduler no time unless it says so.

    Returns
    -------
    Machine
        The machine.
    """
    rates = Rates(gemm_flops=1e9, half_size=1e-9, read_bytes=1e9, write_bytes=1e9)
    devices = (
        Device(f"d{i}", memory_nbytes=10**9, rates=replace(rates, gemm_flops=1e9 * speed))
        for i, speed in enumerate(speeds)
    )
    return Machine(tuple(devices), **{"task_seconds": 0.0, **shared})


def stage_of(*gigaflops: float, read_nbytes: int = 0, write_nbytes: int = 0) -> Stage:
    """Give a stage of tasks that know nothing of each other.

    Parameters
    ----------
    *gigaflops : float
        Work of each task, "t0" and so on.
    read_nbytes, write_nbytes : int
        What each reads and writes.

    Returns
    -------
    Stage
        The stage.
    """
    tasks = tuple(
        Task(
            f"t{i}", "gemm", StepList(), 0, flops=1e9 * amount, read_nbytes=read_nbytes,
            write_nbytes=write_nbytes,
        )
        for i, amount in enumerate(gigaflops)
    )  # fmt: skip
    return Stage("s", tasks, 1, 1, 1, chained=False)
