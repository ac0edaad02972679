"""A cluster as a machine: its workers as devices, as fast as they were measured to be."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from distributed import Client

from leptonhpc.cluster.clients import identities
from leptonhpc.cluster.demand import coming, present
from leptonhpc.errors import OptionError, WorkerError
from leptonhpc.placement import Device, Machine
from leptonhpc.planning import Rates
from leptonhpc.runtime.asking import SILENT_SECONDS, ask, give_up_silent, wait_for_any
from leptonhpc.runtime.probe import here, measure

TASK_SECONDS = 0.003
"""What a task takes a lane beside its work."""
_LOOK_SECONDS = 0.5
START_SECONDS = 0.05
"""What a stage takes beside its tasks, before one was seen."""


def machine_of(client: Client, *, anew: bool = False) -> Machine:
    """Give the workers of a cluster as devices, as fast as they were measured to be.

    Parameters
    ----------
    client : distributed.Client
        The client.
    anew : bool
        They were just measured.

    Returns
    -------
    Machine
        A device for each worker.
    """
    found = present(client)
    devices = devices_of(client, found, anew=anew)
    if not any(isinstance(device, Device) for device in devices.values()):
        raise WorkerError(f"no worker of the cluster answers: {devices}")
    typical = _typical([d.rates for d in devices.values() if isinstance(d, Device)])
    return Machine(
        tuple(
            replace(
                device, rates=device.rates if device.rates.measured else typical,
                name=address, cores=1 if device.overlaps else found[address]["nthreads"],
                memory_nbytes=min(
                    found[address]["memory_limit"] or 2**62,
                    device.memory_nbytes if device.overlaps else 2**62,
                ),
            )
            for address, device in sorted(devices.items())
            if address in found and isinstance(device, Device)
        ),
        start_seconds=START_SECONDS, lane_seconds=TASK_SECONDS,
    )  # fmt: skip


def devices_of(
    client: Client,
    workers: Mapping[str, Mapping[str, Any]],
    *,
    beside: Mapping[str, Device] | None = None,
    anew: bool = False,
) -> dict[str, Any]:
    """Ask workers for their devices; of those that are much slower than others, not every time.

    Parameters
    ----------
    client : distributed.Client
        The client.
    workers : mapping
        Whom to ask, as `identities` gives them.
    beside : mapping of str to Device, optional
        Of other workers.
    anew : bool
        All of them: they were just measured.

    Returns
    -------
    dict
        Devices by address; an exception of those that raised it.

    Raises
    ------
    OptionError
        If a worker was asked for a device that it does not have.
    """
    now = time.monotonic()
    for process in [p for p, (at, _) in list(_said.items()) if anew or now - at > _SAID_SECONDS]:
        _said.pop(process, None)
    said = {
        address: _said[process][1]
        for address, worker in workers.items()
        if (process := process_of(address, worker)) in _said
    }
    slow = slow_ones({**(beside or {}), **said})
    known = {a: device for a, device in said.items() if a in slow}
    devices = ask(client, here, workers=[a for a in workers if a not in known])
    raise_options(devices)
    for address, device in devices.items():
        # what an accelerator has in memory changes
        if isinstance(device, Device) and not device.overlaps:
            _said[process_of(address, workers[address])] = now, device
    return {**devices, **known}


def slow_ones(devices: Mapping[str, Any]) -> set[str]:
    """Give those that are so much slower than others that a job need not wait for them.

    Parameters
    ----------
    devices : mapping of str to Device
        By address.

    Returns
    -------
    set of str
        Their addresses.
    """
    named = [replace(d, name=a) for a, d in devices.items() if isinstance(d, Device)]
    if not named:
        return set()
    worth = Machine(tuple(named)).worthwhile()
    return {device.name for device in named} - {device.name for device in worth.devices}


Process = tuple[str, str]
"""A worker's address, and the folder that its process made for itself."""


def process_of(address: str, worker: Mapping[str, Any]) -> Process:
    """Name a worker's process: another may come to have its address.

    Parameters
    ----------
    address : str
        Of the worker.
    worker : mapping
        What the scheduler knows of it, as `identities` gives it.

    Returns
    -------
    tuple of (str, str)
        Its name.
    """
    return address, str(worker["local_directory"])


_said: dict[Process, tuple[float, Device]] = {}
"""What workers last said of themselves, and when."""
_SAID_SECONDS = 60.0
"""So long that holds: somebody else may measure them."""


def absent_workers(
    client: Client, workers: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Give those that a launcher starts when there is work: a plan must suit them, too.

    Parameters
    ----------
    client : distributed.Client
        The client.
    workers : mapping
        Those that are there, as `identities` gives them.

    Returns
    -------
    list of dict
        ``nthreads`` and ``memory_limit`` of each.
    """
    there = [str(worker["name"]).rpartition("-")[0] for worker in workers.values()]
    return [
        {"nthreads": group["threads"], "memory_limit": group["memory_nbytes"]}
        for name, group in coming(client).items()
        if group["adaptive"]
        for _ in range(group["workers"] - there.count(name))
    ]


def _typical(rates: list[Rates]) -> Rates:
    """Give the median of those that were measured: the others count as that fast."""
    measured = sorted((r for r in rates if r.measured), key=lambda r: r.gemm_flops)
    return measured[len(measured) // 2] if measured else rates[0]


def raise_options(devices: Mapping[str, Any]) -> None:
    """Refuse a device that a worker was asked for and does not have."""
    for address, device in sorted(devices.items()):
        if isinstance(device, OptionError):
            raise OptionError(f"worker {address}: {device}") from device


def measured_workers(client: Client, *, save: bool) -> Machine:
    """Measure all workers at once.

    Parameters
    ----------
    client : distributed.Client
        The client.
    save : bool
        Keep the rates in the caches of their machines.

    Returns
    -------
    Machine
        A device for each worker that is there at the end.

    Raises
    ------
    WorkerError
        If no worker is left.
    """
    measuring = {
        process_of(address, worker): client.submit(
            measure, save=save, workers=[address], allow_other_workers=False, pure=False
        )
        for address, worker in present(client).items()
    }
    while measuring:
        wait_for_any(list(measuring.values()), _LOOK_SECONDS)
        found = identities(client)
        give_up_silent(client, found, SILENT_SECONDS)
        there = {process_of(address, worker) for address, worker in found.items()}
        for process, future in list(measuring.items()):
            if process not in there:  # it died: nobody else can say how fast it was
                del measuring[process]
            elif future.done():
                future.result()
                del measuring[process]
    return machine_of(client, anew=True)
