"""Rows of results: what was measured, on what machine, with which versions."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
from threadpoolctl import threadpool_info

Row = dict[str, Any]

_PACKAGES = (
    "leptonhpc", "numpy", "scipy", "zarr", "numcodecs", "dask", "distributed", "scikit-learn",
    "dask-ml", "cubed",
)  # fmt: skip


def cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def describe_run() -> Row:
    """Give what all rows of one run have in common: date, machine, versions."""
    now = datetime.datetime.now(datetime.UTC)
    return {
        "date": now.isoformat(timespec="seconds"),
        "machine": _machine(),
        "versions": {"python": platform.python_version(), **_versions()},
        "commit": _commit(),
    }


def append_rows(path: Path, rows: Iterable[Row]) -> None:
    """Add rows to a JSON-lines file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def read_rows(path: Path) -> list[Row]:
    """Read a JSON-lines file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def _machine() -> Row:
    blas: Row = next((lib for lib in threadpool_info() if lib["user_api"] == "blas"), {})
    return {
        "cpu": _cpu_model(),
        "cores": cores(),
        "memory_nbytes": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "blas": f"{blas.get('internal_api')} {blas.get('version')} {blas.get('architecture')}",
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:  # an optional peer
            continue
    return found


def _commit() -> str | None:
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    folder = Path(__file__).parent
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):  # not a checkout
        return None
    return done.stdout.strip()
