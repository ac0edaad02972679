"""Joules that a machine used, where it tells: RAPL of its processors, NVML of a GPU.

Both count the whole package or board, whoever used it; a job on a shared machine is told what the
machine used while it ran.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

POWERCAP = Path("/sys/class/powercap")
_LOOK_SECONDS = 60.0
"""RAPL begins anew after some 262 kJ: at 300 W, a quarter of an hour."""


class Meter:
    """Adds up what the sensors of this machine count, from now on.

    Parameters
    ----------
    device : str
        What this process computes with; of ``cuda`` the GPU is measured too.
    powercap : Path
        Where the kernel shows RAPL.
    """

    def __init__(self, device: str, powercap: Path = POWERCAP) -> None:
        self._sensors = _of_processors(powercap)
        if device in _OF_GPUS:
            self._sensors |= _of_gpu()
        self._last: dict[str, float] = {}
        self._joules = dict.fromkeys(self._sensors, 0.0)
        self._lock, self._ended = threading.Lock(), threading.Event()
        self.joules()
        if self._sensors:
            threading.Thread(target=self._run, daemon=True, name="leptonhpc-energy").start()

    def joules(self) -> dict[str, float]:
        """Give what each sensor counted since the beginning.

        Returns
        -------
        dict of str to float
            Joules by ``<host> <sensor>``; empty where nothing can be measured. A sensor that
            fails is left out from then on.
        """
        with self._lock:
            for name, (read, turn) in list(self._sensors.items()):
                try:
                    now = read()
                except Exception:  # drivers fail in many ways, and a job does not need them
                    del self._sensors[name], self._joules[name]
                    continue
                last = self._last.get(name, now)
                if now < last:  # it began anew: at a known value, or with its driver
                    last = last - turn if turn else 0.0
                self._joules[name] += now - last
                self._last[name] = now
            host = socket.gethostname()
            return {f"{host} {name}": joules for name, joules in self._joules.items()}

    def end(self) -> dict[str, float]:
        """Stop looking, and give `joules`."""
        self._ended.set()
        return self.joules()

    def _run(self) -> None:
        while not self._ended.wait(_LOOK_SECONDS):
            self.joules()


_OF_GPUS = ("cuda", "cuda-tf32")
"""Kinds of device that NVML knows."""

Sensors = dict[str, tuple[Callable[[], float], float]]
"""What reads the joules of each, and where it begins anew (0: with its driver alone)."""

_meters: dict[str, Meter] = {}


def begin(job: str, device: str) -> bool:
    """Measure for a job in this process from now on.

    Parameters
    ----------
    job : str
        Its name.
    device : str
        What this process computes with.

    Returns
    -------
    bool
        Whether there is anything to measure.
    """
    if job not in _meters:  # workers are asked again when others join
        _meters[job] = Meter(device)
    return bool(_meters[job].joules())


def end(job: str) -> dict[str, float]:
    """Give what was measured for a job in this process.

    Parameters
    ----------
    job : str
        Its name.

    Returns
    -------
    dict of str to float
        Joules by host and sensor.
    """
    meter = _meters.pop(job, None)
    return {} if meter is None else meter.end()


def _of_processors(powercap: Path) -> Sensors:
    """Find packages, and memory beside them; parts of a package are in it."""
    found: Sensors = {}
    for folder in sorted(powercap.glob("intel-rapl:*")):
        with contextlib.suppress(OSError, ValueError):  # only root may read it, as a rule
            name = (folder / "name").read_text().strip()
            if not name.startswith("package") and name != "dram":
                continue
            turn = int((folder / "max_energy_range_uj").read_text()) * 1e-6
            counter = folder / "energy_uj"
            int(counter.read_text())
            package = folder.name.split(":")[1]
            name = f"{name}-{package}" if name == "dram" else name
            found[name] = (partial(_joules_in, counter), turn)
    return found


def _joules_in(counter: Path) -> float:
    return int(counter.read_text()) * 1e-6


def _of_gpu() -> Sensors:
    """Find the GPU that this process sees first; empty without NVML."""
    try:
        import pynvml
    except ImportError:
        return {}
    try:
        pynvml.nvmlInit()
        handle = _first_visible(pynvml)
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
        name = f"GPU {pynvml.nvmlDeviceGetUUID(handle)}"
    except pynvml.NVMLError:  # no driver, or a GPU that does not count
        return {}
    return {name: (lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) * 1e-3, 0.0)}


def _first_visible(pynvml: Any) -> Any:
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    if first.isdigit():
        return pynvml.nvmlDeviceGetHandleByIndex(int(first))
    return pynvml.nvmlDeviceGetHandleByUUID(first)
