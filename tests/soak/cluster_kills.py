"""Parts of a cluster are killed at random moments: the same command gives a right answer after all.

python tests/soak/cluster_kills.py --kills 200 --seed 1

A victim is the client, the scheduler, a worker, both workers, or all of them at once. Where one
worker is left the job itself must end well; else the same command must, on what is started anew.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from kills import CASES, keep_inputs, marks_of
from numpy.typing import NDArray

from leptonhpc.cluster.clients import identities

LONGEST_SECONDS = 300.0
"""A run that takes longer hangs."""
PATIENCE_SECONDS = 12.0
"""A job waits for so long for a scheduler, or for workers, which nobody starts before it ended."""
VICTIMS = ("client", "scheduler", "worker", "workers", "all")
DRIVERS = [name for name in CASES if name != "svd by passes"]

Matrix = NDArray[np.float64]


def run(name: str, paths: list[Path], out: Path, answer: Path, scheduler: Path) -> None:
    """Run a case on a cluster, and leave what came of it in a file."""
    from distributed import Client

    import leptonhpc as lh
    from leptonhpc.planning import layout
    from leptonhpc.runtime import workers

    case = CASES[name]
    layout.BAND_NBYTES = layout.TASK_NBYTES = 100_000
    workers._PATIENCE_SECONDS = PATIENCE_SECONDS
    with Client(scheduler_file=str(scheduler), timeout=f"{PATIENCE_SECONDS} s"):
        r = getattr(lh, case.driver)(*paths, **case.options, out=out, progress=False)
        fields = {name: np.asarray(getattr(r, name)) for name in case.fields}
        error = getattr(r.certificate, "error", 0.0)
        np.savez(answer.with_suffix(".npz"), error=error, **fields)
        found = {
            "converged": r.certificate.converged,
            "resumed": {s.name: s.resumed_tasks for s in r.report.stages if not s.resumed},
            "stages": [s.name for s in r.report.stages if s.resumed],
        }
    answer.write_text(json.dumps(found))


class SmallCluster:
    """A scheduler and two workers, each a process that can be killed and started anew.

    Parameters
    ----------
    folder : Path
        For the address, logs and spilled data.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.address = folder / "scheduler.json"

    def mend(self) -> None:
        """Start what does not run; workers of another scheduler are ended first."""
        if not self._runs("scheduler"):
            self.kill(("worker 0", "worker 1"))
            self.address.unlink(missing_ok=True)
            self._start("scheduler", "--port", "0", "--no-dashboard")
            deadline = time.monotonic() + LONGEST_SECONDS
            while not self.address.exists():
                assert time.monotonic() < deadline, "the scheduler did not start"
                time.sleep(0.05)
        for name in ("worker 0", "worker 1"):
            if not self._runs(name):
                self._start(
                    name, "--nthreads", "1", "--no-nanny", "--no-dashboard", "--memory-limit", "0",
                    "--local-directory", str(self.folder),
                )  # fmt: skip
        self._wait_for_workers()

    def kill(self, names: tuple[str, ...]) -> None:
        """Kill processes; returns when they are gone."""
        for name in names:
            if (process := self.processes.pop(name, None)) is not None:
                process.kill()
                process.wait()

    def _runs(self, name: str) -> bool:
        return name in self.processes and self.processes[name].poll() is None

    def _start(self, name: str, *options: str) -> None:
        kind, self.count = name.split()[0], self.count + 1
        command = [
            sys.executable, "-m", "dask", kind, "--host", "127.0.0.1",
            "--scheduler-file", str(self.address), *options,
        ]  # fmt: skip
        with (self.folder / f"{kind}-{self.count}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(command, stdout=log, stderr=log)

    def _wait_for_workers(self) -> None:
        from distributed import Client

        with Client(scheduler_file=str(self.address), timeout="60 s") as client:
            deadline = time.monotonic() + LONGEST_SECONDS
            while len(identities(client)) != 2:
                assert time.monotonic() < deadline, "the workers did not come"
                time.sleep(0.05)


class ClusterSoak:
    """Kills parts of a cluster and looks at what comes of the job.

    Parameters
    ----------
    folder : Path
        For inputs and outputs.
    seed : int
        Of the victims and the moments.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.random = folder, random.Random(seed)
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["distributed", "leptonhpc.api", "cluster_kills"])
        self.cluster = SmallCluster(folder)
        self.kills = Counter[str]()
        self.seconds: dict[str, float] = {}
        self.inputs: dict[str, list[Path]] = {}

    def prepare(self, name: str) -> None:
        """Run a case once without a kill."""
        if name in self.seconds:
            return
        place = self.folder / name.replace(" ", "-")
        place.mkdir()
        self.inputs[name] = keep_inputs(CASES[name], place)
        self.cluster.mend()
        began = time.monotonic()
        assert self._run(name, place / "whole", None)
        self.seconds[name] = time.monotonic() - began
        self._check(name)

    def kill(self, name: str, victim: str, number: int) -> None:
        """Kill once, let the job or the same command end, and look at the numbers."""
        self.prepare(name)
        self.cluster.mend()
        out = self.folder / f"out-{number}"
        done = self._run(name, out, victim)
        stages, blocks = marks_of(out) if not done else (set(), Counter[str]())
        if not done:
            assert victim != "worker", f"{name}: a worker was left and the job failed"
            self.cluster.mend()
            assert self._run(name, out, None), f"{name}: failed again after the {victim}'s death"
        found = self._check(name)
        assert stages <= set(found["stages"]), f"{name}: done again: {stages}"
        for stage, count in blocks.items():
            got = found["resumed"].get(stage)
            # workers end what they run when their client is dead: more may be done by now
            assert got is None or got >= count, f"{name}: {stage}: {got} of {count}"
        assert out.exists()
        assert not Path(f"{out}.partial").exists()

    def _run(self, name: str, out: Path, victim: str | None) -> bool:
        """Run a case in a process of its own; tell whether it ended well."""
        answer = self.folder / "answer"
        answer.unlink(missing_ok=True)
        arguments = (name, self.inputs[name], out, answer, self.cluster.address)
        process = self.context.Process(target=run, args=arguments)
        process.start()
        if victim is not None:
            process.join(self.random.uniform(0.3, 1.0) * self.seconds[name])
            if process.is_alive():
                self._strike(victim, process)
                self.kills[victim] += 1
        process.join(LONGEST_SECONDS)
        if process.is_alive():
            process.kill()
            process.join()
            raise AssertionError(f"{name} hangs after the death of: {victim}")
        assert victim is not None or process.exitcode == 0, f"{name} failed"
        return process.exitcode == 0

    def _strike(self, victim: str, client: Any) -> None:
        workers = ("worker 0", "worker 1")
        if victim in ("client", "all"):
            os.kill(client.pid, signal.SIGKILL)
        self.cluster.kill({
            "client": (), "scheduler": ("scheduler",), "worker": (self.random.choice(workers),),
            "workers": workers, "all": ("scheduler", *workers),
        }[victim])  # fmt: skip

    def _check(self, name: str) -> dict[str, Any]:
        import zarr

        answer = self.folder / "answer"
        arrays = [np.asarray(zarr.open_array(path, mode="r")) for path in self.inputs[name]]
        with np.load(answer.with_suffix(".npz")) as kept:
            departure = DEPARTURES[CASES[name].driver](arrays, dict(kept))
        # n eps |A| by each of a few steps; the inverse's is taken over the condition number
        allowed = 64 * max(arrays[0].shape) * np.finfo(float).eps
        assert departure <= allowed, f"{name} is off by {departure}, {allowed} is rounding"
        found = dict(json.loads(answer.read_text()))
        assert found["converged"]
        return found


def _relative(error: Matrix, scale: Matrix) -> float:
    return float(np.linalg.norm(error) / np.linalg.norm(scale))


def _matmul(a: list[Matrix], r: dict[str, Matrix]) -> float:
    return float(
        np.linalg.norm(r["product"] - a[0] @ a[1])
        / (np.linalg.norm(a[0]) * np.linalg.norm(a[1]))
    )  # fmt: skip


def _svd(a: list[Matrix], r: dict[str, Matrix]) -> float:
    true = np.linalg.svd(a[0], compute_uv=False)[: len(r["s"])]
    residual = a[0] @ r["vh"].T - r["u"] * r["s"]
    return max(_relative(r["s"] - true, a[0]), _relative(residual, a[0]))


def _inv(a: list[Matrix], r: dict[str, Matrix]) -> float:
    residual = a[0] @ r["x"] - np.eye(len(a[0]))
    return float(np.linalg.norm(residual) / (np.linalg.norm(a[0]) * np.linalg.norm(r["x"])))


def _solve(a: list[Matrix], r: dict[str, Matrix]) -> float:
    residual = a[0] @ r["x"] - a[1]
    return float(np.linalg.norm(residual) / (np.linalg.norm(a[0]) * np.linalg.norm(r["x"])))


def _lstsq(a: list[Matrix], r: dict[str, Matrix]) -> float:
    residual = a[0] @ r["x"] - a[1]
    scale = np.linalg.norm(a[0]) * np.linalg.norm(residual)
    return float(np.linalg.norm(a[0].T @ residual) / scale)


def _nmf(a: list[Matrix], r: dict[str, Matrix]) -> float:
    """Which of many stationary points it is, rounding decides: what it says of it must be true."""
    error = np.linalg.norm(a[0] - r["w"] @ r["h"])
    return max(-r["w"].min(), -r["h"].min(), abs(error - r["error"]) / np.linalg.norm(a[0]))


DEPARTURES: dict[str, Callable[[list[Matrix], dict[str, Matrix]], float]] = {
    "matmul": _matmul,
    "svd": _svd,
    "cholesky": lambda a, r: _relative(r["l"] @ r["l"].T - a[0], a[0]),
    "lu": lambda a, r: _relative(r["l"] @ r["u"] - a[0][r["perm"].astype(int)], a[0]),
    "qr": lambda a, r: max(
        _relative(r["q"] @ r["r"] - a[0], a[0]),
        float(np.linalg.norm(r["q"].T @ r["q"] - np.eye(r["q"].shape[1]), 2)),
    ),
    "inv": _inv,
    "eigh": lambda a, r: _relative(
        a[0] @ r["eigenvectors"] - r["eigenvectors"] * r["eigenvalues"], a[0]
    ),
    "solve": _solve,
    "cg": _solve,
    "lstsq": _lstsq,
    "lsmr": _lstsq,
    "pinv": lambda a, r: _inv(a, {"x": r["pinv"]}),
    "polar": lambda a, r: max(
        _relative(r["u"] @ r["p"] - a[0], a[0]),
        float(np.linalg.norm(r["u"].T @ r["u"] - np.eye(r["u"].shape[1]), 2)),
    ),
    "nmf": _nmf,
}
"""How far each answer is from the truth, in NumPy's arithmetic."""


def soak(folder: Path, *, kills: int, seed: int) -> Counter[str]:
    """Kill so often: all victims in turn, all drivers in turn.

    Parameters
    ----------
    folder : Path
        Empty.
    kills : int
        At least so many.
    seed : int
        Of the victims and the moments.

    Returns
    -------
    Counter
        Kills of each victim.
    """
    it, number = ClusterSoak(folder, seed), 0
    try:
        while it.kills.total() < kills:
            name, victim = DRIVERS[number % len(DRIVERS)], VICTIMS[number % len(VICTIMS)]
            it.kill(name, victim, number)
            number += 1
            print(f"{it.kills.total()} kills, the last: {name}, {victim}", flush=True)
    finally:
        it.cluster.kill(tuple(it.cluster.processes))
    return it.kills


def main() -> None:
    """Soak, and say what was killed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        killed = soak(Path(folder), kills=arguments.kills, seed=arguments.seed)
    print(
        f"{killed.total()} kills in {time.monotonic() - began:.0f} s, nothing wrong: {dict(killed)}"
    )


if __name__ == "__main__":
    sys.modules["cluster_kills"] = sys.modules["__main__"]
    main()
