"""Groups of workers for what this machine has: cores, and GPUs beside them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence

from leptonhpc.cluster.groups import SMALLEST_NBYTES, Group
from leptonhpc.errors import OptionError


def group_of_cores(workers: int | None, memory: str | int | None, threads: int) -> Group:
    """Make a group of this machine's cores.

    Parameters
    ----------
    workers : int, optional
        Default: as many as there are cores for.
    memory : str or int, optional
        Default: half of the free memory, shared out.
    threads : int
        Of each worker.

    Returns
    -------
    Group
        Named "worker".
    """
    from dask.system import CPU_COUNT

    count = max(1, CPU_COUNT // max(1, threads)) if workers is None else workers
    return Group("worker", count, memory or _share(count), threads)


def groups_of_devices(
    gpus: Sequence[int] | None, memory: str | int | None, *, workers: int | None, device: str
) -> list[Group]:
    """Make a group for each GPU, which its worker alone sees, and one of the cores that are left.

    Parameters
    ----------
    gpus : sequence of int, optional
        Their numbers; default: all.
    memory : str or int, optional
        Of each worker; default: half of the free memory, shared out.
    workers : int, optional
        On cores; default: one for each that no GPU's worker has.
    device : str
        Kind of device of the GPUs.

    Returns
    -------
    list of Group
        Named "gpu" with their numbers, then "cpu".

    Raises
    ------
    OptionError
        If no GPU is found, or one is named twice.
    """
    from dask.system import CPU_COUNT

    numbers = _all_gpus() if gpus is None else list(gpus)
    if not numbers or len(set(numbers)) < len(numbers):
        message = f"mixed needs one GPU or more, each once; found {numbers}: `local` takes cores"
        raise OptionError(message)
    others = max(0, CPU_COUNT - len(numbers)) if workers is None else workers
    share = memory or _share(len(numbers) + others)
    groups = [
        Group(
            f"gpu{number}", memory=share, device=device,
            environment={"CUDA_VISIBLE_DEVICES": str(number)},
        )
        for number in numbers
    ]  # fmt: skip
    return groups + ([Group("cpu", others, share, device="host")] if others else [])


def _share(workers: int) -> int:
    from distributed.system import MEMORY_LIMIT

    return max(SMALLEST_NBYTES, int(MEMORY_LIMIT) // 2 // max(1, workers))


def _all_gpus() -> list[int]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    command = [program, "--query-gpu=index", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return [int(line) for line in done.stdout.split() if line.isdigit()]
