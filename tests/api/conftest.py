"""Jobs in a process of their own, slow enough to be stopped where a test wants."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from leptonhpc.testing import matrix_with_spectrum, spectrum

PROGRAM = """
import asyncio, hashlib, json, sys, warnings
warnings.simplefilter("error")
import numpy as np, zarr
from zarr.storage import LocalStore, WrapperStore
import leptonhpc as lh
spec = json.loads(sys.argv[1])

class Slow(WrapperStore):
    async def get(self, key, *args, **options):
        if key.startswith("c/"):
            await asyncio.sleep(spec["delay"])
        return await self._store.get(key, *args, **options)

def slow(path):
    return lh.open(zarr.open_array(Slow(LocalStore(path, read_only=True)), mode="r"))

if spec["every_seconds"] is not None:
    from leptonhpc.runtime import checkpoints
    from leptonhpc.planning import layout
    checkpoints.EVERY_SECONDS = spec["every_seconds"]
    layout.BAND_NBYTES = layout.TASK_NBYTES = 100_000
arrays = [slow(path) for path in spec["arrays"]]
print("ready", flush=True)
r = getattr(lh, spec["driver"])(*arrays, **spec["options"])
def digest(a):
    return hashlib.sha256(np.ascontiguousarray(np.asarray(a))).hexdigest()
fields = list(r.arrays().values())
print(json.dumps({
    "digests": [digest(a) for a in fields],
    "stages": [
        [s.name, s.resumed, s.resumed_tasks, s.tasks, s.read_nbytes] for s in r.report.stages
    ],
    "seconds": r.report.seconds,
    "certificate": r.certificate.to_dict(),
}))
"""


@dataclass
class Job:
    """One call in a process of its own."""

    driver: str
    arrays: list[str]
    out: Path
    options: dict[str, Any]
    delay: float = 0.04
    every_seconds: float | None = None
    """Between checkpoints inside a stage, as predicted."""

    @property
    def journal(self) -> Path:
        return Path(f"{self.out}.partial") / ".leptonhpc"

    def command(self, **options: Any) -> list[str]:
        spec = {
            "driver": self.driver, "arrays": self.arrays, "delay": self.delay,
            "every_seconds": self.every_seconds,
            "options": {**self.options, "out": str(self.out), **options},
        }  # fmt: skip
        return [sys.executable, "-c", PROGRAM, json.dumps(spec)]

    def run(self, **options: Any) -> dict[str, Any]:
        done = subprocess.run(
            self.command(**options), capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr[-1500:]
        return json.loads(done.stdout.splitlines()[-1])

    def refused(self, **options: Any) -> str:
        done = subprocess.run(
            self.command(**options), capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 1, done.stdout
        return done.stderr.splitlines()[-1]

    def stop(
        self, number: signal.Signals, ready: Callable[["Job"], bool], **options: Any
    ) -> tuple[float, str]:
        """Run until `ready`, send a signal, and give how long it took to end, and its words."""
        with subprocess.Popen(
            self.command(**options), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            deadline = time.monotonic() + 40
            while not ready(self):
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < deadline
                time.sleep(0.01)
            process.send_signal(number)
            began = time.monotonic()
            try:
                _, words = process.communicate(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        assert process.returncode != 0
        return time.monotonic() - began, words


@pytest.fixture
def svd_job(tmp_path: Path) -> Job:
    array = zarr.create_array(tmp_path / "x", shape=(1500, 120), dtype="f8", chunks=(50, 120))
    array[...] = matrix_with_spectrum((1500, 120), spectrum("slow", 120), seed=1)
    options = {"rank": 4, "method": "krylov", "accuracy": 1e-2, "memory": "200 MB"}
    return Job("svd", [str(tmp_path / "x")], tmp_path / "r", options)


@pytest.fixture
def matmul_job(tmp_path: Path, rng: np.random.Generator) -> Job:
    for name, shape, chunks in (("a", (3000, 300), (250, 300)), ("b", (300, 2400), (300, 200))):
        array = zarr.create_array(tmp_path / name, shape=shape, dtype="f8", chunks=chunks)
        array[...] = rng.standard_normal(shape)
    arrays = [str(tmp_path / "a"), str(tmp_path / "b")]
    return Job("matmul", arrays, tmp_path / "r", {"memory": "240 MB"}, delay=0.1)
