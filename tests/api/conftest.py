"""Jobs in a process of their own, which ends itself where a test wants."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from leptonhpc.testing import matrix_with_spectrum, spectrum

from ..forking import Forking, forking

PATIENCE_SECONDS = 300
PROGRAM = """
import asyncio, hashlib, json, os, pathlib, signal, sys, threading, warnings
warnings.simplefilter("error")
import numpy as np, zarr
from zarr.storage import LocalStore, WrapperStore
import leptonhpc as lh
spec = json.loads(sys.argv[1])

class Slow(WrapperStore):
    async def get(self, key, *args, **options):
        if key.startswith("c/"):
            await asyncio.sleep(spec["delay"])
            while sent.is_set() and not taken.is_set():  # nothing is read on from here
                await asyncio.sleep(1)
        return await self._store.get(key, *args, **options)

sent, taken = threading.Event(), threading.Event()

def stopping(keep):
    # this process stops itself as soon as its journal has so many objects
    def keeping(self, *args):
        keep(self, *args)
        number, folder, pattern, count = spec["stop"]
        if not sent.is_set() and len(kept_in(pathlib.Path(folder), pattern)) >= count:
            sent.set()
            os.kill(os.getpid(), number)
    return keeping

def kept_in(folder, pattern):
    return [p for p in folder.glob(pattern) if p.suffix != ".partial"]

def interrupt(*args):
    taken.set()
    signal.default_int_handler(*args)

if spec["stop"] is not None:
    from leptonhpc.store import Journal
    signal.signal(signal.SIGINT, interrupt)
    for name in ("mark", "save_stage", "save_part"):
        setattr(Journal, name, stopping(getattr(Journal, name)))

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
    fork: Forking
    """What runs it in a process that begins at once."""
    delay: float = 0.04
    every_seconds: float | None = None
    """Between checkpoints inside a stage, as predicted."""

    @property
    def journal(self) -> Path:
        return Path(f"{self.out}.partial") / ".leptonhpc"

    def kept(self, pattern: str) -> int:
        """Count what the journal has; what a kill cut short is nothing."""
        return len([p for p in self.journal.glob(pattern) if p.suffix != ".partial"])

    def command(self, *, stop: list[Any] | None = None, **options: Any) -> list[str]:
        spec = {
            "driver": self.driver, "arrays": self.arrays, "delay": self.delay,
            "every_seconds": self.every_seconds, "stop": stop,
            "options": {**self.options, "out": str(self.out), **options},
        }  # fmt: skip
        return [sys.executable, "-c", PROGRAM, json.dumps(spec)]

    def run(self, *, anew: bool = False, **options: Any) -> dict[str, Any]:
        """Run to the end; anew, in a process with another seed of hashes, and all else its own."""
        command = self.command(**options)
        done = _ended(command) if anew else self._forked(command)
        assert done.returncode == 0, done.stderr[-1500:]
        return json.loads(done.stdout.splitlines()[-1])

    def refused(self, **options: Any) -> str:
        done = self._forked(self.command(**options))
        assert done.returncode == 1, done.stdout
        # zarr may add what it left undone
        return next(line for line in done.stderr.splitlines()[::-1] if "Error" in line)

    def stop(self, number: signal.Signals, kept: tuple[str, int], **options: Any) -> str:
        """Run until the journal has so many objects of a pattern; give the job's words.

        The process sends itself the signal, before it goes on: nobody has to look in time.
        """
        stop = [int(number), str(self.journal), *kept]
        done = self._forked(self.command(stop=stop, **options))
        assert done.returncode == -number, done.stderr[-1500:]
        return done.stderr

    def _forked(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return self.fork(*command[2:])


def _ended(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )


@pytest.fixture(scope="session")
def fork(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forking]:
    """Run Python code with arguments in a process that begins at once."""
    with forking(tmp_path_factory.mktemp("forked")) as run:
        yield run


@pytest.fixture
def svd_job(tmp_path: Path, fork: Forking) -> Job:
    array = zarr.create_array(tmp_path / "x", shape=(1500, 120), dtype="f8", chunks=(50, 120))
    array[...] = matrix_with_spectrum((1500, 120), spectrum("slow", 120), seed=1)
    options = {"rank": 4, "method": "krylov", "accuracy": 1e-2, "memory": "200 MB"}
    return Job("svd", [str(tmp_path / "x")], tmp_path / "r", options, fork)


@pytest.fixture
def matmul_job(tmp_path: Path, rng: np.random.Generator, fork: Forking) -> Job:
    for name, shape, chunks in (("a", (3000, 300), (250, 300)), ("b", (300, 2400), (300, 200))):
        array = zarr.create_array(tmp_path / name, shape=shape, dtype="f8", chunks=chunks)
        array[...] = rng.standard_normal(shape)
    arrays = [str(tmp_path / "a"), str(tmp_path / "b")]
    return Job("matmul", arrays, tmp_path / "r", {"memory": "240 MB"}, fork, delay=0.1)
