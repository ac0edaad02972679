"""Parts of a cluster are killed at random moments: the same command gives a right answer after all.

python tests/soak/cluster_kills.py --kills 200 --seed 1

A victim is the client, the scheduler, a worker, both workers, or all of them at once. Where one
worker is left the job itself must end well; else the same command must, on what is started anew.
With --mixed one worker's device is the double of a GPU.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from departures import DEPARTURES
from kills import CASES, keep_inputs, marks_of, slow_inputs

from leptonhpc.cluster.clients import identities

LONGEST_SECONDS = 300.0
"""A run that takes longer hangs."""
PATIENCE_SECONDS = 12.0
"""A job waits for so long for a scheduler, or for workers, which nobody starts before it ended."""
VICTIMS = ("client", "scheduler", "worker", "workers", "all")
EARLY = 0.1
"""Share of the kills that come before a job has begun its journal."""
LATER_SECONDS = 0.03
"""A kill comes up to so long after the block, or stage, that is drawn."""
SAME_BITS = ("matmul", "cholesky", "lu", "inv", "solve")
"""Each block of their answers is computed by one task, on any of the workers, which are alike."""
DEVICE = "leptonhpc.testing.strict_device"


def run(name: str, paths: list[Path], out: Path, answer: Path, scheduler: Path) -> None:
    """Run a case on a cluster, and leave what came of it in a file."""
    from distributed import Client

    import leptonhpc as lh
    from leptonhpc.planning import layout
    from leptonhpc.runtime import checkpoints, workers

    case = CASES[name]
    checkpoints.EVERY_SECONDS = case.every_seconds
    layout.BAND_NBYTES = layout.TASK_NBYTES = 100_000
    workers._PATIENCE_SECONDS = PATIENCE_SECONDS
    with Client(scheduler_file=str(scheduler), timeout=f"{PATIENCE_SECONDS} s"):
        r = getattr(lh, case.driver)(
            *slow_inputs(paths), **case.options, out=out, progress=False
        )  # fmt: skip
        fields = {name: np.ascontiguousarray(np.asarray(getattr(r, name))) for name in case.fields}
        said = {k: np.asarray(getattr(r.certificate, k, 0.0)) for k in ("error", "residuals")}
        np.savez(answer.with_suffix(".npz"), **(said | fields))
        placed = [s for s in r.report.stages if s.placement is not None and not s.resumed]
        found = {
            "converged": r.certificate.converged,
            "resumed": {s.name: s.resumed_tasks for s in r.report.stages if not s.resumed},
            "stages": [s.name for s in r.report.stages if s.resumed],
            "digests": [hashlib.sha256(field).hexdigest() for field in fields.values()],
            "again": {
                s.name: sum(d.tasks for d in s.placement.devices) - s.tasks + s.resumed_tasks
                for s in placed
            },
        }
    answer.write_text(json.dumps(found))


class SmallCluster:
    """A scheduler and two workers, each a process that can be killed and started anew.

    Parameters
    ----------
    folder : Path
        For the address, logs and spilled data.
    mixed : bool
        The first worker has the double of a GPU.
    """

    def __init__(self, folder: Path, *, mixed: bool = False) -> None:
        self.folder, self.count, self.mixed = folder, 0, mixed
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.logs: dict[str, Path] = {}
        self.address = folder / "scheduler.json"

    def mend(self) -> None:
        """Start what does not run; workers of another scheduler are ended first."""
        if not self._runs("scheduler"):
            self.kill(("worker 0", "worker 1"))
            self.address.unlink(missing_ok=True)
            self._start("scheduler", "--port", "0", "--no-dashboard")
            deadline = time.monotonic() + LONGEST_SECONDS
            while not self.address.exists():
                assert time.monotonic() < deadline, f"the scheduler did not start: {self._said()}"
                time.sleep(0.05)
        self._start_workers()
        self._wait_for_workers()

    def kill(self, names: tuple[str, ...]) -> None:
        """Kill processes; returns when they are gone."""
        for name in names:
            if (process := self.processes.pop(name, None)) is not None:
                process.kill()
                process.wait()

    def _start_workers(self) -> None:
        for name in ("worker 0", "worker 1"):
            if not self._runs(name):
                self._start(
                    name, "--nthreads", "1", "--no-nanny", "--no-dashboard", "--memory-limit", "0",
                    "--local-directory", str(self.folder),
                )  # fmt: skip

    def _runs(self, name: str) -> bool:
        return name in self.processes and self.processes[name].poll() is None

    def _start(self, name: str, *options: str) -> None:
        kind, self.count = name.split()[0], self.count + 1
        command = [
            sys.executable, "-m", "dask", kind, "--host", "127.0.0.1",
            "--scheduler-file", str(self.address), *options,
        ]  # fmt: skip
        paths = [str(Path(__file__).parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
        if self.mixed and name == "worker 0":
            environment["LEPTONHPC_DEVICE"] = DEVICE
        with (self.folder / f"{kind}-{self.count}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                command, stdout=log, stderr=log, env=environment
            )  # fmt: skip

    def _wait_for_workers(self) -> None:
        from distributed import Client

        with Client(scheduler_file=str(self.address), timeout="60 s") as client:
            deadline = time.monotonic() + LONGEST_SECONDS
            while len(found := identities(client)) != 2:
                there = [(each["name"], each["status"]) for each in found.values()]
                problem = f"the workers did not come: {there} joined"
                assert time.monotonic() < deadline, f"{problem}; {self._said()}"
                self._start_workers()  # nobody else does, if one ends before it has joined
                time.sleep(0.05)

    def _said(self) -> str:
        """Say which processes run, and how the logs end."""
        ran = {name: process.poll() for name, process in self.processes.items()}
        logs = sorted(self.folder.glob("*.log"), key=lambda log: log.stat().st_mtime)[-3:]
        ends = [f"{log.name}:\n{log.read_text(errors='replace')[-2000:]}" for log in logs]
        return "\n".join([f"exit codes {ran}", *ends])


class ClusterSoak:
    """Kills parts of a cluster and looks at what comes of the job.

    Parameters
    ----------
    folder : Path
        For inputs and outputs.
    seed : int
        Of the victims and the moments.
    mixed : bool
        The first worker has the double of a GPU.
    """

    def __init__(self, folder: Path, seed: int, *, mixed: bool = False) -> None:
        self.folder, self.random = folder, random.Random(seed)
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["distributed", "leptonhpc.api", "cluster_kills"])
        self.cluster = SmallCluster(folder, mixed=mixed)
        self.kills = Counter[str]()
        self.seen = Counter[str]()
        """Of the kills: those that hit a running job, those after which finished work was there to
        go on with, how much of it, and answers that were the same bit for bit."""
        self.whole: dict[str, dict[str, Any]] = {}
        self.inputs: dict[str, list[Path]] = {}

    def prepare(self, name: str) -> None:
        """Run a case once without a kill."""
        if name in self.whole:
            return
        place = self.folder / name.replace(" ", "-")
        place.mkdir()
        self.inputs[name] = keep_inputs(CASES[name], place)
        self.cluster.mend()
        process, began, most = self._start(name, place / "whole"), time.monotonic(), 0
        early = 0.0
        while process.is_alive():
            if early == 0 and journal_of(place / "whole").exists():
                early = time.monotonic() - began
            most = max(most, finished(place / "whole"))
            process.join(0.002)
        assert self._end(process, name, "nobody"), f"{name} failed"
        self.whole[name] = self._check(name) | {"early": early, "most": most}

    def kill(self, name: str, victim: str, number: int) -> None:
        """Kill once, let the job or the same command end, and look at the numbers."""
        self.prepare(name)
        self.cluster.mend()
        out = self.folder / f"out-{number}"
        process = self._start(name, out)
        self._wait(process, out, self.whole[name])
        struck = process.is_alive()
        if struck:
            self.kills[victim] += 1
            self.seen["of running jobs"] += journal_of(out).exists()
            self._strike(victim, process)
        done = self._end(process, name, victim)
        stages, blocks = marks_of(out) if not done else (set(), Counter[str]())
        if not done:
            assert victim != "worker", f"{name}: a worker was left and the job failed"
            self.cluster.mend()
            assert self._end(self._start(name, out), name, victim), f"{name}: failed again"
        found = self._check(name)
        assert stages <= set(found["stages"]), f"{name}: done again: {stages}"
        for stage, count in blocks.items():
            got = found["resumed"].get(stage)
            # workers end what they run when their client is dead: more may be done by now
            assert got is None or got >= count, f"{name}: {stage}: {got} of {count}"
        self.seen["with finished work"] += bool(stages or blocks)
        self.seen["stages kept"] += len(stages)
        self.seen["blocks kept"] += blocks.total()
        alike = found["digests"] == self.whole[name]["digests"]
        assert alike or name not in SAME_BITS or self.cluster.mixed, f"{name}: other last bits"
        self.seen["same bits"] += struck and alike
        if struck and done and victim == "worker":
            self.seen["went on without a worker"] += 1
            self.seen["of these, tasks done again"] += sum(
                max(0, n) for n in found["again"].values()
            )
        assert out.exists()
        assert not Path(f"{out}.partial").exists()
        shutil.rmtree(out)

    def _start(self, name: str, out: Path) -> Any:
        """Run a case in a process of its own."""
        answer = self.folder / "answer"
        answer.unlink(missing_ok=True)
        arguments = (name, self.inputs[name], out, answer, self.cluster.address)
        process = self.context.Process(target=run, args=arguments)
        process.start()
        return process

    def _wait(self, process: Any, out: Path, whole: dict[str, Any]) -> None:
        """Return at a moment that is drawn: within the job, or before it began its journal."""
        if self.random.random() < EARLY:
            process.join(self.random.uniform(0, whole["early"]))
            return
        # a journal is there before anything is finished
        wanted = self.random.randint(0, whole["most"])
        while process.is_alive() and not (
            journal_of(out).exists() and finished(out) >= wanted
        ):  # fmt: skip
            process.join(0.002)
        process.join(self.random.uniform(0, LATER_SECONDS))

    def _end(self, process: Any, name: str, victim: str) -> bool:
        """Wait for the end of a run; say whether it was a good one."""
        process.join(LONGEST_SECONDS)
        if process.is_alive():
            process.kill()
            process.join()
            raise AssertionError(f"{name} hangs after the death of: {victim}")
        return bool(process.exitcode == 0)

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


def journal_of(out: Path) -> Path:
    """Give where the journal of an output is while its job runs."""
    return Path(f"{out}.partial") / ".leptonhpc"


def finished(out: Path) -> int:
    """Count the stages and blocks that a job's journal has."""
    with contextlib.suppress(FileNotFoundError):  # it is done, and its journal goes
        journal = journal_of(out)
        return len([*journal.glob("stages/*.npz"), *journal.glob("done/*/*-*")])
    return 0


def soak(folder: Path, *, kills: int, seed: int, mixed: bool = False) -> ClusterSoak:
    """Kill so often: each victim of each driver in turn, in an order that is drawn.

    Parameters
    ----------
    folder : Path
        Empty.
    kills : int
        At least so many.
    seed : int
        Of the order, the victims and the moments.
    mixed : bool
        One worker has the double of a GPU.

    Returns
    -------
    ClusterSoak
        With its kills of each victim, and what they hit.
    """
    it, number = ClusterSoak(folder, seed, mixed=mixed), 0
    pairs = list(product(CASES, VICTIMS))
    it.random.shuffle(pairs)
    try:
        while it.kills.total() < kills:
            name, victim = pairs[number % len(pairs)]
            it.kill(name, victim, number)
            number += 1
            print(f"{it.kills.total()} kills, the last: {name}, {victim}", flush=True)
    finally:
        it.cluster.kill(tuple(it.cluster.processes))
    return it


def main() -> None:
    """Soak, and say what was killed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mixed", action="store_true")
    arguments = parser.parse_args()
    folder, began = Path(tempfile.mkdtemp()), time.monotonic()
    print(f"in {folder}, which stays where something is wrong", flush=True)
    it = soak(folder, kills=arguments.kills, seed=arguments.seed, mixed=arguments.mixed)
    shutil.rmtree(folder)
    print(
        f"{it.kills.total()} kills in {time.monotonic() - began:.0f} s, nothing wrong: "
        f"{dict(it.kills)}; of them and after them: {dict(it.seen)}"
    )


if __name__ == "__main__":
    sys.modules["cluster_kills"] = sys.modules["__main__"]
    main()
