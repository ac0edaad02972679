"""Groups of workers for what this machine has: cores, and GPUs beside them; kinds of device."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from importlib import import_module

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
        Their numbers, as ``nvidia-smi`` has them; default: all, or of them those that
        ``$CUDA_VISIBLE_DEVICES`` names.
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

    numbers = _visible_gpus() if gpus is None else list(gpus)
    if not numbers or len(set(numbers)) < len(numbers):
        message = f"mixed needs one GPU or more, each once; found {numbers}: `local` takes cores"
        raise OptionError(message)
    others = max(0, CPU_COUNT - len(numbers)) if workers is None else workers
    share = memory or _share(len(numbers) + others)
    order = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}  # CUDA counts the fastest first
    if gpus is None and "CUDA_VISIBLE_DEVICES" in os.environ:
        order = {}  # who set that knows how they are counted
    groups = [
        Group(
            re.sub(r"\W", "_", f"gpu{number}"), memory=share, device=device,
            environment={**order, "CUDA_VISIBLE_DEVICES": str(number)},
        )
        for number in numbers
    ]  # fmt: skip
    return groups + ([Group("cpu", others, share, device="host")] if others else [])


def require_device(group: Group, *, elsewhere: bool = False) -> None:
    """Refuse a kind of device that no worker of a group could have, as far as is known here.

    Parameters
    ----------
    group : Group
        The group.
    elsewhere : bool
        Its workers may find modules that this process does not.

    Raises
    ------
    OptionError
        If its device is no kind, and no module with ``primitives()`` either.
    """
    from leptonhpc.kernels import tables

    device, kinds = group.variables.get("LEPTONHPC_DEVICE"), (*tables.DEVICES, *tables._MODULES)
    if device is None or device in kinds:
        return
    problem = _problem_with(device)
    if problem and not (elsewhere or "PYTHONPATH" in group.environment):
        message = (
            f"group {group.name}: a device is one of {', '.join(kinds)}, or a module with "
            f"primitives(); found {device!r}: {problem}"
        )
        raise OptionError(message)


def _problem_with(module: object) -> str:
    if not isinstance(module, str) or not all(word.isidentifier() for word in module.split(".")):
        return "no module can have this name"
    try:
        found = import_module(module)
    except ModuleNotFoundError as error:
        # one that it needs itself may be where its workers are
        return str(error) if f"{module}.".startswith(f"{error.name}.") else ""
    except Exception:  # such as without the GPU that its workers have: they will say
        return ""
    return "" if callable(getattr(found, "primitives", None)) else "that module has none"


def _share(workers: int) -> int:
    from distributed.system import MEMORY_LIMIT

    return max(SMALLEST_NBYTES, int(MEMORY_LIMIT) // 2 // max(1, workers))


def _visible_gpus() -> list[int | str]:
    """Give those that this process may use: numbers, or names of them or of their parts."""
    numbers, visible = _all_gpus(), os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None or not numbers:
        return [*numbers]
    words = [word.strip() for word in visible.split(",")]
    # CUDA looks no further than the first that is none
    named = itertools.takewhile(lambda word: word and not word.startswith("-"), words)
    return [int(n) if n.isdigit() else n for n in named if not n.isdigit() or int(n) in numbers]


def _all_gpus() -> list[int]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    command = [program, "--query-gpu=index", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return [int(line) for line in done.stdout.split() if line.isdigit()]
