"""Devices and machines: what can compute, how fast, and what all of it shares."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from importlib.machinery import PathFinder
from numbers import Integral
from pathlib import Path
from typing import Any

from leptonhpc.errors import MemoryBudgetError, OptionError
from leptonhpc.planning import Precision, Rates, Resources
from leptonhpc.planning.amounts import parse_nbytes

_MOST_DEVICES = 1_000_000
_UNLIKE = 1.25
"""Speeds that differ by less are those of noise."""


@dataclass(frozen=True)
class Device:
    """The cores of a worker, or an accelerator with memory of its own."""

    name: str
    kind: str = "host"
    """Names the table of kernels."""
    cores: int = 1
    """Lanes share them; 1 for an accelerator."""
    memory_nbytes: int = 4 * 10**9
    rates: Rates = Rates()
    """Of one core, and of reading and decoding by one core."""
    link_bytes: float = math.inf
    """Copies in and out, bytes a second; infinite where kernels work in the host's memory."""
    link_seconds: float = 0.0
    """What each copy costs beside."""
    tf32: bool = False
    """Whether its products of float32 can round their factors to TF32."""
    precision: Precision | None = None
    """"tf32" where they do so unless a job says otherwise."""

    @property
    def overlaps(self) -> bool:
        """Whether reading and computing do not take each other's time."""
        return self.kind != "host"

    def class_of(self) -> tuple[Any, ...]:
        """Give what all devices of its class have in common."""
        return (
            self.kind, self.cores, self.memory_nbytes, self.rates, self.link_bytes,
            self.link_seconds,
        )  # fmt: skip


@dataclass(frozen=True)
class Machine:
    """Devices, and the store and scheduler that they share."""

    devices: tuple[Device, ...]
    store_read_bytes: float = math.inf
    """Most bytes a second that all devices read together."""
    store_write_bytes: float = math.inf
    task_seconds: float = 0.001
    """What the scheduler needs for one task; it does one after another."""
    start_seconds: float = 0.0
    """Of a stage beside its tasks: until the first begins, and from the last one to the sum. Slower
    cores begin as much later."""
    lane_seconds: float = 0.0
    """What a lane needs for each task beside its work; of a slower device more."""

    def __post_init__(self) -> None:
        if not self.devices:
            raise OptionError("a machine has at least one device")
        names = [device.name for device in self.devices]
        if len(set(names)) != len(names):
            twice = next(n for n in names if names.count(n) > 1)
            raise OptionError(f"devices of a machine have distinct names; {twice!r} is there twice")
        for device in self.devices:
            _check_device(device)
        for name in ("store_read_bytes", "store_write_bytes"):
            if not getattr(self, name) > 0:
                raise OptionError(f"{name} is positive; found {getattr(self, name)}")
        for name in ("task_seconds", "start_seconds", "lane_seconds"):
            if not 0 <= getattr(self, name) < math.inf:
                raise OptionError(f"{name} is a duration; found {getattr(self, name)}")

    def resources(self, memory_nbytes: int | None = None) -> Resources:
        """Say what a job may use, as if this machine were a cluster.

        Parameters
        ----------
        memory_nbytes : int, optional
            Budget of each worker; default: the least that a device has.

        Returns
        -------
        Resources
            One worker for each device.

        Raises
        ------
        MemoryBudgetError
            If no device has that much.
        """
        worth = self.worthwhile()
        most = max(device.memory_nbytes for device in self.devices)
        if memory_nbytes is not None and memory_nbytes > most:
            message = f"memory={memory_nbytes} is more than any device has: at most {most} bytes"
            raise MemoryBudgetError(message)
        memory = memory_nbytes or min(device.memory_nbytes for device in worth.devices)
        rates, speeds = worth.speeds()
        return Resources(
            memory, len(worth.devices), min(d.cores for d in worth.devices), rates,
            distributed=len(self.devices) > 1, speeds=speeds, **precisions_of(worth.devices),
        )  # fmt: skip

    def with_tf32(self) -> Machine:
        """Give the machine as fast as it is where products of float32 are done in TF32."""
        return replace(
            self,
            devices=tuple(
                replace(d, rates=replace(d.rates, single_speedup=d.rates.tf32_speedup))
                if d.tf32
                else d
                for d in self.devices
            ),
        )

    def worthwhile(self) -> Machine:
        """Leave out the slowest devices that add little: blocks are not cut for them.

        Returns
        -------
        Machine
            Devices that do 95 % of what all could do.
        """
        speeds = sorted((speed_of(device), device.name) for device in self.devices)
        left, gone = _LITTLE * sum(speed for speed, _ in speeds), set()
        for speed, name in speeds:
            left -= speed
            if left < 0 or speed > _SLOW * speeds[-1][0]:
                break
            gone.add(name)
        return replace(self, devices=tuple(d for d in self.devices if d.name not in gone))

    def speeds(self) -> tuple[Rates, tuple[float, ...]]:
        """Give the rates of an average core, and of each device how fast it is.

        Returns
        -------
        tuple of (Rates, tuple of float)
            Speeds are those of gemm; none where all devices are about as fast.
        """
        cores = sum(device.cores for device in self.devices)
        average = Rates(
            **{
                name: sum(d.cores * getattr(d.rates, name) for d in self.devices) / cores
                for name in _RATES
            },
            measured=all(device.rates.measured for device in self.devices),
        )
        speeds = tuple(speed_of(device) for device in self.devices)
        return average, speeds if max(speeds) > _UNLIKE * min(speeds) else ()

    def to_dict(self) -> dict[str, Any]:
        """Give all of it as JSON can hold it: what is infinite is left out."""
        shared = {k: v for k, v in asdict(replace(self, devices=self.devices[:1])).items()}
        del shared["devices"]
        devices = [_finite(asdict(device)) for device in self.devices]
        return {**_finite(shared), "devices": devices}


def precisions_of(devices: Sequence[Device]) -> dict[str, Any]:
    """Give what `Resources` tell of the arithmetic of devices.

    Parameters
    ----------
    devices : sequence of Device
        Those that may work.

    Returns
    -------
    dict
        ``tf32_workers``, and ``precision`` where a device's kind chooses it.
    """
    chosen: Precision | None = next((d.precision for d in devices if d.precision), None)
    return {"tf32_workers": sum(d.tf32 for d in devices), "precision": chosen}


def read_machine(path: str | Path) -> Machine:
    """Read a machine that was written by hand, for simulation.

    Parameters
    ----------
    path : str or path
        A TOML file: tables ``[[device]]`` with ``name``, and as they are known ``count``, ``kind``
        ("host"; all else has memory of its own, and one lane), ``cores``, ``memory``,
        ``link_bytes``, ``link_seconds``, ``tf32`` (whether it has it) and the rates of `Rates` (a
        second, each core; flops that are not given go with ``gemm_flops``); and on top
        ``store_read_bytes``, ``store_write_bytes``, ``task_seconds``, ``start_seconds``,
        ``lane_seconds``. Bytes may be written "80 GB".

    Returns
    -------
    Machine
        The machine.

    Raises
    ------
    OptionError
        If the file is not there, is not TOML, or holds what a machine cannot have.
    """
    try:
        text = Path(path).read_text()
        data = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise OptionError(f"a machine is a TOML file; {str(path)!r}: {error}") from error
    try:
        return _machine(data)
    except OptionError as error:
        raise OptionError(f"{str(path)!r}: {error}") from error


_LITTLE = 0.05
"""What may be lost by leaving out slow devices."""
_SLOW = 0.2
"""But none that is faster than this part of the fastest."""
_SHARED = (
    "store_read_bytes", "store_write_bytes", "task_seconds", "start_seconds", "lane_seconds",
)  # fmt: skip
_RATES = tuple(field.name for field in fields(Rates) if field.name != "measured")
_MOST = 10**300
_HOSTS = ("host", "reference")
_KINDS = (*_HOSTS, "cuda", "cuda-tf32")
_MODULE = re.compile(r"[a-zA-Z_]\w*(\.[a-zA-Z_]\w*)+")
"""What a kind may be called that another package brings."""
_IN_UNITS = tuple(name for name in _RATES if name.endswith(("_flops", "_bytes")))
_LEAST = 1e4
"""No device does less in a second: who wrote it meant thousands of millions."""
_OWN = ("name", "count", "kind", "cores", "memory", "link_bytes", "link_seconds", "tf32")


def _machine(data: Mapping[str, Any]) -> Machine:
    _require_known(data, (*_SHARED, "device"), "a machine")
    tables = data.get("device", [])
    if not isinstance(tables, list) or not all(isinstance(t, dict) for t in tables):
        raise OptionError("devices are tables [[device]]")
    devices: list[Device] = []
    for table in tables:
        devices += _devices(table)
        if len(devices) > _MOST_DEVICES:
            raise OptionError(f"a machine has at most {_MOST_DEVICES} devices")
    return Machine(tuple(devices), **{k: _amount(k, data[k]) for k in _SHARED if k in data})


def _devices(table: Mapping[str, Any]) -> list[Device]:
    _require_known(table, (*_OWN, *_RATES), "a device")
    name = table.get("name")
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise OptionError(f"a device has a name that can be printed; found {name!r}")
    count = _whole(name, "count", table.get("count", 1))
    more: dict[str, Any] = {
        k: _amount(k, table[k]) for k in ("link_bytes", "link_seconds") if k in table
    }
    more["kind"] = kind = _kind(name, table.get("kind", "host"))
    if kind in _HOSTS and (more.keys() & {"link_bytes", "link_seconds"} or table.get("tf32")):
        message = f"{name!r} of kind {kind!r} works in the host's memory: it has no link, no TF32"
        raise OptionError(message)
    if kind not in _HOSTS and table.get("cores", 1) != 1:
        raise OptionError(f"{name!r} of kind {kind!r} has one lane: its rates are of all its cores")
    if "tf32" in table:
        if not isinstance(table["tf32"], bool):
            raise OptionError(f"tf32 of {name!r} is true or false; found {table['tf32']!r}")
        more["tf32"] = table["tf32"]
    if "memory" in table:
        more["memory_nbytes"] = parse_nbytes(table["memory"], name=f"memory of {name!r}")
    cores = _whole(name, "cores", table.get("cores", 1))
    device = Device(name, cores=cores, rates=_rates(table), **more)
    if count == 1:
        return [device]
    return [replace(device, name=f"{name}-{i}") for i in range(count)]


def _kind(name: str, kind: Any) -> str:
    """Give a kind of device; one that nobody knows may be a word mistyped."""
    known = isinstance(kind, str) and (
        kind in _KINDS
        or _MODULE.fullmatch(kind)
        or (kind.isidentifier() and PathFinder.find_spec(kind) is not None)
    )
    if not known:
        kinds = ", ".join(map(repr, _KINDS))
        raise OptionError(f"kind of {name!r} is one of {kinds}, or a module's; found {kind!r}")
    return str(kind)


def _rates(table: Mapping[str, Any]) -> Rates:
    """Give the rates of a device: flops that are not given are in proportion to those of gemm."""
    given = {k: _amount(k, table[k]) for k in _RATES if k in table}
    default = Rates()
    faster = given.get("gemm_flops", default.gemm_flops) / default.gemm_flops
    others = {k: getattr(default, k) * faster for k in _RATES if k.endswith("_flops")}
    return Rates(**{**others, **given}, measured=True)


def _whole(name: str, what: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= _MOST_DEVICES:
        raise OptionError(f"{what} of {name!r} is a whole number from 1; found {value!r}")
    return value


def _amount(name: str, value: Any) -> float:
    if isinstance(value, str) and name.endswith("_bytes"):
        return float(parse_nbytes(value, name=name) or 0)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise OptionError(f"{name} is a number; found {value!r}")
    if abs(value) > _MOST:  # math.inf is a float's
        return math.inf if value > 0 else -math.inf
    return float(value)


def _require_known(table: Mapping[str, Any], known: tuple[str, ...], what: str) -> None:
    unknown = sorted(set(table) - set(known))
    if unknown:
        message = f"{what} has no {', '.join(map(repr, unknown))}; it may have {', '.join(known)}"
        raise OptionError(message)


def _check_device(device: Device) -> None:
    for name in _RATES:
        found = getattr(device.rates, name)
        if not 0 < found < math.inf:
            raise OptionError(f"{name} of {device.name!r} is positive; found {found}")
        if name in _IN_UNITS and found < _LEAST:
            message = f"{name} of {device.name!r} is in flops or bytes a second; found {found}"
            raise OptionError(message)
    if not device.link_bytes > 0 or not 0 <= device.link_seconds < math.inf:
        found_link = f"{device.link_bytes}, {device.link_seconds}"
        raise OptionError(f"the link of {device.name!r} has a positive rate; found {found_link}")
    for name in ("memory_nbytes", "cores"):
        value = getattr(device, name)
        if not isinstance(value, Integral) or value <= 0:
            raise OptionError(f"{name} of {device.name!r} is a whole number from 1; found {value}")


def speed_of(device: Device) -> float:
    """Give one number for how fast a device is: its flops a second in large products."""
    return device.cores * device.rates.gemm_flops


def _finite(table: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in table.items() if v != math.inf}
