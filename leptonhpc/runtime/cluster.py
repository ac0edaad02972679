"""A cluster as a machine: its workers as devices, as fast as they were measured to be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from distributed import Client

from leptonhpc.errors import OptionError, WorkerError
from leptonhpc.placement import Device, Machine
from leptonhpc.planning import Rates
from leptonhpc.runtime.asking import ask
from leptonhpc.runtime.probe import here, measure


def machine_of(client: Client) -> Machine:
    """Give the workers of a cluster as devices, as fast as they were measured to be.

    Parameters
    ----------
    client : distributed.Client
        The client.

    Returns
    -------
    Machine
        A device for each worker.
    """
    found = identities(client)
    devices = ask(client, here, workers=list(found))
    raise_options(devices)
    if not any(isinstance(device, Device) for device in devices.values()):
        raise WorkerError(f"no worker of the cluster answers: {devices}")
    typical = _typical([d.rates for d in devices.values() if isinstance(d, Device)])
    return Machine(
        tuple(
            replace(
                device, rates=device.rates if device.rates.measured else typical,
                name=address, cores=found[address]["nthreads"],
                memory_nbytes=found[address]["memory_limit"] or 2**62,
            )
            for address, device in sorted(devices.items())
            if address in found and isinstance(device, Device)
        )
    )  # fmt: skip


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
        A device for each worker.
    """
    addresses = list(identities(client))
    futures = [
        client.submit(measure, save=save, workers=[a], allow_other_workers=False, pure=False)
        for a in addresses
    ]
    client.gather(futures)
    return machine_of(client)


def identities(client: Client) -> dict[str, Any]:
    """Give what the scheduler knows of each worker that is there."""
    workers: dict[str, Any] = client.scheduler_info(n_workers=-1)["workers"]
    return {a: w for a, w in sorted(workers.items()) if not w["status"].startswith("clos")}
