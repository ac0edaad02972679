"""The launchers on a real SLURM of three nodes, two groups of jobs, one allocation."""

import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import zarr
from zarr.abc.store import Store
from zarr.storage import LocalStore, WrapperStore

import leptonhpc as lh
from leptonhpc import cluster as launchers
from leptonhpc.cluster import Group, Profile
from leptonhpc.cluster.clients import identities
from leptonhpc.cluster.demand import coming
from leptonhpc.cluster.launching import end_host, start_host
from leptonhpc.cluster.runs import live_runs, new_run, remove_dead_runs
from leptonhpc.cluster.starting import launch_of
from leptonhpc.planning import layout
from leptonhpc.runtime.memory import OF_LIMIT

from . import private_slurm
from .conftest import slow_square, wait_until

pytestmark = pytest.mark.usefixtures("slurm")

WORKFLOW = Path(__file__).parents[2] / "workflows" / "slurm"

PROFILE = """
kind = "slurm"
interface = "lo"
prologue = ["export LEPTONHPC_TEST_PROLOGUE=1"]
[groups.cpu]
workers = 2
memory = "300 MB"
walltime = "00:10:00"
[groups.gpu]
memory = "300 MB"
partition = "main"
options = ["--gres=gpu:1"]
device = "leptonhpc.testing.strict_device"
"""


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    path = tmp_path / "two-groups.toml"
    path.write_text(PROFILE)
    return path


@pytest.fixture
def stored(tmp_path: Path, rng: np.random.Generator) -> tuple[Path, np.ndarray]:
    x = rng.standard_normal((400, 30))
    array = zarr.create_array(tmp_path / "x.zarr", shape=x.shape, dtype="f8", chunks=(50, 30))
    array[...] = x
    return tmp_path / "x.zarr", x


class Held(WrapperStore[Store]):
    """A store whose chunks come when they may: who asked for one is beside it."""

    async def get(self, key: str, *args: Any, **options: Any) -> Any:
        if key.startswith("c/"):
            held = Path(cast("LocalStore", self._store).root).parent / "held"
            if not (held / "go").exists():
                (held / str(os.getpid())).touch()
                wait_until((held / "go").exists, "leave to read")
        return await self._store.get(key, *args, **options)


def test_two_groups_of_jobs_make_one_cluster_that_mends_itself_and_leaves_nothing(
    profile: Path, stored: tuple[Path, np.ndarray], tmp_path: Path, runs: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    before = set(os.listdir(runs))
    monkeypatch.setattr(layout, "BAND_NBYTES", 12_000)  # a chunk
    monkeypatch.setattr(layout, "TASK_NBYTES", 12_000)
    with launchers.slurm(profile, workers=3) as client:
        (run,) = [r for r in live_runs() if r.name not in before]
        assert sorted(line.split()[3] for line in private_slurm.jobs()) == [
            "N/A", "N/A", "gres:gpu:1"
        ]  # fmt: skip
        seen = client.run(_look)
        assert sorted(seen.values()) == [
            ("cpu-0", None, os.environ.get("LEPTONHPC_DEVICE"), "1"),
            ("cpu-1", None, os.environ.get("LEPTONHPC_DEVICE"), "1"),
            ("gpu-0", "0", "leptonhpc.testing.strict_device", "1"),
        ]
        assert {address.rsplit(":", 1)[0] for address in seen} == {"tls://127.0.0.1"}

        # a job that is cancelled in the middle is submitted again; the driver waits for nobody
        lost = next(line for line in private_slurm.jobs() if line.endswith("N/A")).split()[0]
        held = tmp_path / "held"
        held.mkdir()

        def cancel() -> None:
            wait_until(lambda: len(list(held.iterdir())) >= 3, "all workers to read")
            there = _workers(client)
            private_slurm.command("scancel", lost)
            wait_until(lambda: there - _workers(client), "the worker to be lost")
            (held / "go").touch()

        x = zarr.open_array(Held(LocalStore(stored[0], read_only=True)), mode="r")
        with ThreadPoolExecutor(1) as pool:
            cancelled = pool.submit(cancel)
            r = lh.svd(lh.open(x), rank=5, method="gram", out=tmp_path / "svd.zarr")
            cancelled.result()
        _assert_singular_values(r.s, stored[1])
        wait_until(lambda: lost not in _ids() and len(_ids()) == 3, "the job to be replaced")
        client.wait_for_workers(3, timeout=300)

        # the job of a node that is set down works on elsewhere
        node, there = _nodes()[0], _workers(client)
        private_slurm.command("scontrol", "update", f"node={node}", "state=down", "reason=test")
        try:
            wait_until(lambda: there - _workers(client), "the node's workers to be lost")
            wait_until(lambda: node not in _nodes() and len(_nodes()) == 3, "jobs elsewhere")
            client.wait_for_workers(3, timeout=300)
        finally:
            if "down" in private_slurm.command("sinfo", "--noheader", f"--nodes={node}", "-o%T"):
                private_slurm.command("scontrol", "update", f"node={node}", "state=resume")
        assert {name for name, *_ in client.run(_look).values()} == {"cpu-0", "cpu-1", "gpu-0"}
        jobs_processes = _members_of(run.folder)
        assert len(jobs_processes) >= 3
    wait_until(lambda: private_slurm.jobs() == [], "the jobs to end")
    assert set(os.listdir(runs)) == before
    wait_until(lambda: not _members_of(run.folder), "the jobs' processes to end")


ADAPTIVE = """
kind = "slurm"
interface = "lo"
idle_seconds = 0.5
[groups.cpu]
memory = "300 MB"
least = 0
environment = {{ LEPTONHPC_TEST_ASKED = "{asked}" }}
[groups.gpu]
memory = "320 MB"
least = 0
options = ["--gres=gpu:1"]
environment = {{ LEPTONHPC_TEST_ASKED = "{asked}" }}
"""


class ReadByTwo(WrapperStore[Store]):
    """A store whose chunks come when two processes have asked for one."""

    async def get(self, key: str, *args: Any, **options: Any) -> Any:
        if key.startswith("c/"):
            asked = Path(os.environ["LEPTONHPC_TEST_ASKED"])
            (asked / str(os.getpid())).touch()
            wait_until(lambda: len(list(asked.iterdir())) == 2, "another worker to read")
        return await self._store.get(key, *args, **options)


def test_jobs_come_with_work_in_every_group_and_go_without(
    stored: tuple[Path, np.ndarray], tmp_path: Path, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = set(os.listdir(runs))
    monkeypatch.setattr(layout, "BAND_NBYTES", 12_000)  # a chunk
    monkeypatch.setattr(layout, "TASK_NBYTES", 12_000)
    path = tmp_path / "adaptive.toml"
    asked = tmp_path / "asked"
    asked.mkdir()
    path.write_text(ADAPTIVE.format(asked=asked))
    with launchers.slurm(path) as client:
        assert private_slurm.jobs() == []
        assert identities(client) == {}
        assert [group["workers"] for group in coming(client).values()] == [1, 1]
        # a task of Dask's has one job submitted; what it gave is wanted, so the worker stays
        future = client.submit(slow_square, 3)
        assert future.result() == 9
        time.sleep(1.0)
        assert [line.split()[3] for line in private_slurm.jobs()] == ["N/A"]
        # a job has the other submitted, and takes it in while it runs
        x = zarr.open_array(ReadByTwo(LocalStore(stored[0], read_only=True)), mode="r")
        r = lh.svd(lh.open(x), rank=5, method="gram", out=tmp_path / "svd.zarr")
        _assert_singular_values(r.s, stored[1])
        assert (r.report.workers, r.report.memory_nbytes) == (2, int(OF_LIMIT * 300_000_000))
        placed = r.report.stages[0].placement
        assert placed is not None
        assert len(placed.devices) == 2
        del future
        wait_until(lambda: private_slurm.jobs() == [], "the jobs to be given back")
    assert set(os.listdir(runs)) == before


def test_a_job_that_is_being_submitted_as_the_run_ends_is_cancelled(
    tmp_path: Path, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, real = set(os.listdir(runs)), shutil.which("sbatch")
    slow = tmp_path / "sbatch"  # it has read the script, and SLURM is busy
    slow.write_text(
        f'#!/bin/sh\nscript=$(cat "$1")\ntouch {tmp_path}/read\nsleep 1\n'
        f'echo "$script" | {real}\ntouch {tmp_path}/submitted\n'
    )
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    held = Group("cpu", memory="300 MB", options=["--hold"])  # does not end by itself
    run, process = start_host(launch_of(Profile("slurm", (held,), interface="lo")))
    try:
        wait_until((tmp_path / "read").exists, "a job to be submitted")
        end_host(run, process)
        wait_until((tmp_path / "submitted").exists, "the job to be there")
        wait_until(lambda: private_slurm.jobs() == [], "the job to end")
    finally:
        process.kill()
        private_slurm.command("scancel", "--me", f"--name={run.name}")
    assert set(os.listdir(runs)) == before


def test_a_job_whose_id_nobody_noted_is_cancelled_with_its_dead_run(
    tmp_path: Path, runs: Path
) -> None:
    run, lock = new_run("slurm")
    other = private_slurm.command("sbatch", "--parsable", "--hold", "--wrap=true").strip()
    private_slurm.command("sbatch", "--hold", f"--job-name={run.name}", "--wrap=true")
    os.close(lock)
    try:
        assert remove_dead_runs() == [run]
        wait_until(lambda: _ids() == {other}, "the job of the dead run to end")
    finally:
        private_slurm.command("scancel", "--me")


HELD = """#!{python}
import runpy, sys, time
from pathlib import Path
import leptonhpc as lh

def held(*arguments, svd=lh.svd, **options):
    Path("begun").touch()
    while not Path("go-on").exists():
        time.sleep(0.02)
    return svd(*arguments, **options)

lh.svd, sys.argv = held, sys.argv[1:]
sys.path.insert(0, str(Path(sys.argv[0]).parent))
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""What computes begins when it may: not before SLURM has said that the walltime is near."""


def test_the_template_runs_in_one_allocation_and_goes_on_after_its_walltime(
    stored: tuple[Path, np.ndarray], tmp_path: Path, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = set(os.listdir(runs))
    out, folder = tmp_path / "svd.zarr", tmp_path / "submitted"
    folder.mkdir()
    for name in ("job.sbatch", "run.py"):
        (folder / name).write_text((WORKFLOW / name).read_text())
    python = tmp_path / "python"
    python.write_text(HELD.format(python=sys.executable))
    python.chmod(0o755)
    monkeypatch.setenv("PYTHON", str(python))
    submit = ["sbatch", "job.sbatch", str(stored[0]), str(out), "--rank=5", "--interface=lo"]
    done = subprocess.run(submit, cwd=folder, capture_output=True, text=True, check=True)
    first = done.stdout.split()[-1]
    wait_until((folder / "begun").exists, "the cluster of the first job to be up")
    # what SLURM sends before the walltime ends
    private_slurm.command("scancel", "--batch", "--signal=USR1", first)
    log = folder / f"leptonhpc-{first}.out"
    submitted = re.compile(r"Submitted batch job (\d+)\n")
    wait_until(lambda: submitted.search(log.read_text()), "it to be submitted again")
    (second,) = submitted.findall(log.read_text())
    (folder / "go-on").touch()
    wait_until(lambda: _ids() == set(), "the second job to end")
    assert "2 workers" in (folder / f"leptonhpc-{second}.out").read_text()
    wait_until(lambda: not _members_of(runs), "the processes of the run to end")
    _assert_singular_values(lh.load(out).s, stored[1])
    remove_dead_runs()  # SLURM kills what does not end within seconds
    assert set(os.listdir(runs)) == before


HERE = {
    r'"ib0"': '"lo"', r"workers = \d+": "workers = 1", r"threads = \d+": "threads = 1",
    r'"\d+ GB"': '"300 MB"', r'"gpu"': '"main"', r'"cuda"': '"leptonhpc.testing.strict_device"',
}  # fmt: skip
"""Numbers and names that whoever copies the template's profile changes."""


def test_the_template_runs_on_jobs_of_both_groups_and_ends_them(
    stored: tuple[Path, np.ndarray], tmp_path: Path, runs: Path
) -> None:
    before, folder = set(os.listdir(runs)), tmp_path / "copied"
    shutil.copytree(WORKFLOW, folder)
    text = (folder / "profile.toml").read_text()
    for theirs, ours in HERE.items():
        text, changed = re.subn(theirs, ours, text)
        assert changed
    (folder / "profile.toml").write_text(text)
    places = (str(stored[0]), str(tmp_path / "svd.zarr"))
    done = subprocess.run(
        [sys.executable, str(folder / "submit.py"), *places, "--rank=5", "--workers=2"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "2 workers" in done.stdout
    _assert_singular_values(lh.load(tmp_path / "svd.zarr").s, stored[1])
    wait_until(lambda: private_slurm.jobs() == [], "the jobs to end")
    assert set(os.listdir(runs)) == before


def _look(dask_worker: Any) -> tuple[str, str | None, str | None, str | None]:
    environment = os.environ
    return (
        dask_worker.name,
        environment.get("CUDA_VISIBLE_DEVICES"),
        environment.get("LEPTONHPC_DEVICE"),
        environment.get("LEPTONHPC_TEST_PROLOGUE"),
    )


def _workers(client: Any) -> set[str]:
    return set(identities(client))


def _nodes() -> list[str]:
    return private_slurm.command("squeue", "--noheader", "--states=R", "--format=%N").split()


def _ids() -> set[str]:
    return {line.split()[0] for line in private_slurm.jobs()}


def _members_of(folder: Path) -> list[int]:
    import psutil

    found = []
    for process in psutil.process_iter():
        try:
            ours = any(str(folder) in word for word in process.cmdline())
            if ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def _assert_singular_values(found: np.ndarray, x: np.ndarray) -> None:
    s = np.linalg.svd(x, compute_uv=False)[: len(found)]
    # of a Gram matrix: sqrt(n) eps |A|^2 / s_k, with 10 for the order of the sums
    bound = 10 * np.sqrt(x.shape[1]) * np.finfo(float).eps * s[0] ** 2 / s[-1]
    assert np.abs(found - s).max() <= bound
