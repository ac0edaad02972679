"""Jobs reach their walltime on a real SLURM, and what they were at goes on.

python -m tests.soak.walltimes

From the root of the repository, as root, for some four minutes: SLURM's shortest walltime is a
minute, and it looks every half minute at whose is over. Two ways at once: an allocation with the
job script of `workflows/slurm`, which SLURM signals before its walltime ends and which submits
itself again; and workers that are jobs, which SLURM ends at their walltime. What both compute comes
to a half and waits there until another job than the one that came so far goes on.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr

ROOT = Path(__file__).parents[2]
LONGEST_SECONDS = 900.0
MEMORY = "240 MB"
ROWS, COLUMNS = 3000, 2400
"""Of the product."""

HALVED = """
import asyncio, os
from pathlib import Path
from zarr.storage import LocalStore, WrapperStore

class Halved(WrapperStore):
    # the second half of the rows is not for the job that asks for it first

    async def get(self, key, *args, **options):
        if key.startswith("c/") and int(key.split("/")[1]) >= 6:
            first = Path(f"{self._store.root}.first")
            job = os.environ["SLURM_JOB_ID"]
            try:
                with first.open("x") as file:
                    file.write(job)
            except FileExistsError:
                pass
            while not (known := first.read_text()) or job in known.split():
                await asyncio.sleep(0.1)
        return await self._store.get(key, *args, **options)

def halved(path):
    import zarr
    import leptonhpc as lh
    return lh.open(zarr.open_array(Halved(LocalStore(path, read_only=True)), mode="r"))
"""

RUN = """
import sys
import leptonhpc as lh
from halved import halved
from leptonhpc import cluster

x, y, out, memory = sys.argv[1:]
with cluster.in_allocation(interface="lo"):
    r = lh.matmul(halved(x), y, out=out, memory=memory, progress=False)
print(sum(stage.resumed_tasks for stage in r.report.stages), "blocks of the journal")
"""

PROFILE = """
kind = "slurm"
interface = "lo"
[groups.cpu]
workers = 2
memory = "600 MB"
walltime = "00:01:00"
"""


def in_an_allocation(folder: Path) -> list[str]:
    """Run the template until it is done; say what was seen."""
    x, y, exact = keep_inputs(folder)
    text = (ROOT / "workflows" / "slurm" / "job.sbatch").read_text()
    # SLURM signals up to a minute earlier than it is told to: it has time to begin, and to work
    for theirs, ours in (("time=01:00:00", "time=00:03:00"), ("USR1@120", "USR1@10")):
        text, count = text.replace(theirs, ours), text.count(theirs)
        assert count == 1, theirs
    (folder / "job.sbatch").write_text(text)
    (folder / "run.py").write_text(RUN)
    out, began, told = folder / "product.zarr", time.monotonic(), list[str]()
    words = command("sbatch", "job.sbatch", str(x), str(y), str(out), MEMORY, cwd=folder)
    job, marks = words.split()[-1], 0
    while True:
        wait_until(partial(has_ended, job), f"job {job} to end")
        log = (folder / f"leptonhpc-{job}.out").read_text()
        seconds = time.monotonic() - began
        again = re.findall(r"Submitted batch job (\d+)", log)
        if not again:
            break
        marks = marks_in(out)
        told.append(
            f"allocation: job {job} was signalled and ended {state(job)} {seconds:.0f} s after it "
            f"was submitted, with {marks} blocks done; it submitted job {again[0]}"
        )
        job = again[0]
    assert state(job) == "COMPLETED", log
    resumed = int(re.findall(r"^(\d+) blocks of the journal$", log, re.MULTILINE)[0])
    require_product(out, exact)
    assert resumed >= marks > 0, (resumed, marks)
    last = f"allocation: job {job} took {resumed} blocks of the journal, {seconds:.0f} s in all"
    return [*told, last]


def on_workers_that_are_jobs(folder: Path) -> list[str]:
    """Run a driver whose workers end at their walltimes; say what was seen."""
    from leptonhpc import cluster

    x, y, exact = keep_inputs(folder)
    (folder / "profile.toml").write_text(PROFILE)
    out, first = folder / "product.zarr", Path(f"{x}.first")
    import leptonhpc as lh

    sys.path.insert(0, str(folder))  # of this process and so of its workers
    from halved import halved

    with cluster.slurm(folder / "profile.toml", workers=2) as client:
        before = set(jobs())
        first.write_text(" ".join(before))
        began = time.monotonic()
        with ThreadPoolExecutor(1) as pool:
            ended = pool.submit(_ends_of, before)
            r = lh.matmul(halved(x), y, out=out, memory=MEMORY, progress=False)
            states = ended.result()
        took = time.monotonic() - began
        after = set(jobs())
        workers = len(client.scheduler_info(n_workers=-1)["workers"])
    assert not jobs_of(before | after), "jobs are left"
    assert after.isdisjoint(before)
    require_product(out, exact)
    (stage,) = [s for s in r.report.stages if s.name == "multiply"]
    assert stage.placement is not None
    done = sum(device.tasks for device in stage.placement.devices)
    assert stage.tasks <= done <= stage.tasks + 2, (done, stage.tasks)  # what was in flight
    return [
        f"workers: jobs {sorted(before)} ended {sorted(states)}, {sorted(after)} were submitted; "
        f"{workers} workers at the end, {took:.0f} s, {done} tasks done for {stage.tasks} blocks"
    ]


def _ends_of(ids: set[str]) -> set[str]:
    """Wait until SLURM has ended jobs; give how."""
    wait_until(lambda: all(map(has_ended, ids)), "walltimes")
    states = {state(job) for job in ids}
    assert states == {"TIMEOUT"}, states
    return states


def keep_inputs(folder: Path) -> tuple[Path, Path, np.ndarray[Any, Any]]:
    """Store two factors and the module that reads the first; give their places and product."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    factors = rng.standard_normal((ROWS, 300)), rng.standard_normal((300, COLUMNS))
    for name, values, chunks in zip("xy", factors, ((250, 300), (300, 200)), strict=True):
        zarr.create_array(folder / name, shape=values.shape, dtype="f8", chunks=chunks)[...] = (
            values
        )
    (folder / "halved.py").write_text(HALVED)
    return folder / "x", folder / "y", factors[0] @ factors[1]


def require_product(out: Path, exact: np.ndarray[Any, Any]) -> None:
    """Compare with NumPy's: 300 products of numbers of about one, summed in any order, twice."""
    found = np.asarray(zarr.open_array(out, mode="r"))
    assert np.abs(found - exact).max() <= 2 * 300 * np.finfo(float).eps * 300
    assert not Path(f"{out}.partial").exists()


def marks_in(out: Path) -> int:
    """Count the blocks that a journal has."""
    done = Path(f"{out}.partial") / ".leptonhpc" / "done"
    return len([path for path in done.rglob("*-*") if path.is_file()])


def has_ended(job: str) -> bool:
    """Say whether SLURM has done with a job."""
    return state(job) not in ("PENDING", "RUNNING", "COMPLETING")


def state(job: str) -> str:
    """Give what SLURM says of a job; it forgets after five minutes."""
    found = re.search(r"JobState=(\w+)", command("scontrol", "show", "job", job))
    assert found is not None
    return found[1]


def jobs() -> list[str]:
    """Give the ids of jobs that are called as runs are."""
    lines = command("squeue", "--noheader", "--format=%A %j").splitlines()
    return [line.split()[0] for line in lines if line.split()[1].startswith("slurm-")]


def jobs_of(known: set[str]) -> set[str]:
    """Give those that SLURM still has in its queue."""
    return known & set(jobs())


def command(*words: str, cwd: Path | None = None) -> str:
    """Run one of SLURM's commands."""
    done = subprocess.run(words, capture_output=True, text=True, cwd=cwd, check=False)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


def wait_until(condition: Callable[[], Any], what: str) -> None:
    """Wait for what SLURM does."""
    deadline = time.monotonic() + LONGEST_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.5)


@contextlib.contextmanager
def environment(folder: Path) -> Iterator[None]:
    """Keep runs in a folder, and have jobs use this Python."""
    from leptonhpc.cluster.runs import RUNS

    (folder / "runs").mkdir(mode=0o700)
    os.environ |= {RUNS: str(folder / "runs"), "PYTHON": sys.executable}
    yield
    assert not list((folder / "runs").iterdir()), "a run left its folder"


def main() -> None:
    """Try both ways at once, and say what was seen."""
    from tests.cluster import private_slurm

    private_slurm.require()
    folder = Path(tempfile.mkdtemp())
    (folder / "slurm").mkdir()
    ways = {"allocation": in_an_allocation, "workers": on_workers_that_are_jobs}
    began = time.monotonic()
    try:
        with (
            private_slurm.running(folder / "slurm"), environment(folder),
            ThreadPoolExecutor(len(ways)) as pool,
        ):  # fmt: skip
            seen = [pool.submit(way, folder / name) for name, way in ways.items()]
            for done in as_completed(seen):
                print(*done.result(), sep="\n", flush=True)
    finally:
        shutil.rmtree(folder)
    print(f"both went on, in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
