"""On a real SLURM: only what should listens, strangers are noted, and nothing is left."""

import contextlib
import json
import os
import signal
import socket
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from leptonhpc import cluster as launchers
from leptonhpc.cluster.clients import identities
from leptonhpc.cluster.runs import Run, live_runs, remove_dead_runs
from leptonhpc.errors import OptionError

from . import private_slurm
from .conftest import alive, is_host, killable, listening, noted, processes_of, wait_until

pytestmark = pytest.mark.usefixtures("slurm")

ONE_JOB = """
kind = "slurm"
interface = "lo"
[groups.cpu]
memory = "300 MB"
"""


SCRIPT = """
import sys, time
from pathlib import Path
from leptonhpc.cluster import slurm
with slurm(sys.argv[1]) as client:
    print(Path(client.security.tls_ca_file).parent.name, flush=True)
    time.sleep(600)
"""


def test_jobs_listen_on_their_interface_alone_and_strangers_at_them_are_in_the_one_log(
    tmp_path: Path,
) -> None:
    with_page = ONE_JOB.replace("[groups", "dashboard = true\n[groups", 1)
    (tmp_path / "one-job.toml").write_text(with_page)
    before = live_runs()
    with launchers.slurm(tmp_path / "one-job.toml") as client:
        (run,) = [r for r in live_runs() if r not in before]
        (worker,) = identities(client).items()
        own = {worker[0], worker[1]["nanny"]}
        known = json.loads(run.scheduler_file.read_text())
        addresses = (*own, known["address"], known["dashboard"])
        intended = {each.partition("://")[2].partition("/")[0] for each in addresses}
        assert len(intended) == 4
        assert {place.partition(":")[0] for place in intended} == {"127.0.0.1"}
        assert listening(processes_of(run)) == intended
        for address in own:
            host, port = address.removeprefix("tls://").split(":")
            with socket.create_connection((host, int(port)), timeout=120) as stranger:
                stranger.sendall(bytes(1000))
                with contextlib.suppress(ConnectionError):
                    assert stranger.recv(1) == b""
        wait_until(lambda: {e.get("at") for e in noted(run, "refused")} == own, "both to be told")
        (joined,) = noted(run, "worker joined")
        assert (joined["name"], joined["certificate"]) == ("cpu-0", "worker")
        assert private_slurm.jobs()
    wait_until(lambda: private_slurm.jobs() == [], "the job to end")


def test_jobs_end_after_sigkill_of_the_client_or_of_client_and_host(
    tmp_path: Path, runs: Path
) -> None:
    before = set(os.listdir(runs))
    (tmp_path / "one-job.toml").write_text(ONE_JOB)
    with ExitStack() as stack:
        killed = {
            victims: stack.enter_context(killable(SCRIPT, str(tmp_path / "one-job.toml")))
            for victims in ("client", "client and host")
        }
        for victims, victim in killed.items():
            victim.wait_until_up()
            assert len(victim.processes) >= 3  # host, nanny, worker
            victim.kill(victims)
        # without a host nobody cancels the job: its worker ends as its scheduler is gone
        for victims, victim in killed.items():
            wait_until(lambda v=victim: not alive(v.processes), f"the end, without {victims}")
    wait_until(lambda: private_slurm.jobs() == [], "the jobs to end")
    wait_until(lambda: not killed["client"].run.folder.exists(), "the host to remove its folder")
    remove_dead_runs()
    assert set(os.listdir(runs)) == before


ALLOCATED = """
import os, sys, time
from pathlib import Path
from leptonhpc.cluster import in_allocation
with in_allocation(1, "300 MB") as client:
    told = Path(sys.argv[1])
    told.with_suffix(".new").write_text(
        f"{os.getpid()} {Path(client.security.tls_ca_file).parent.name}"
    )
    told.with_suffix(".new").rename(told)
    time.sleep(600)
"""


def test_nothing_is_left_in_an_allocation_after_sigkill_of_client_or_of_client_and_host(
    tmp_path: Path, runs: Path
) -> None:
    before = set(os.listdir(runs))
    (tmp_path / "client.py").write_text(ALLOCATED)
    kept = {}
    try:
        for victims in ("client", "client-and-host"):
            # the allocation goes on: what ends is ended by what was started, not by SLURM
            script = f"{sys.executable} {tmp_path}/client.py {tmp_path}/{victims}; sleep 3600"
            kept[victims] = private_slurm.command(
                "sbatch",
                "--parsable",
                "--mem=700",
                f"--output={tmp_path}/%j.out",
                f"--wrap={script}",
            ).strip()
        killed = {}
        for victims in kept:
            wait_until((tmp_path / victims).exists, f"a cluster to be up, without {victims}")
            pid, name = (tmp_path / victims).read_text().split()
            killed[victims] = Run(runs / name), processes_of(Run(runs / name))
            started = killed[victims][1]
            assert len(started) >= 4  # host, srun, nanny, worker
            # srun listens for its step, in SLURM's own way
            ports = listening([p for p in started if p.name() != "srun"])
            assert [port.partition(":")[0] for port in ports] == 3 * ["127.0.0.1"]
            if victims == "client-and-host":  # first: it ends when its client does
                next(process for process in started if is_host(process)).kill()
            os.kill(int(pid), signal.SIGKILL)
        for victims, (_, processes) in killed.items():
            wait_until(lambda p=processes: not alive(p), f"all to end, without {victims}")
            assert listening(processes) == set()
        wait_until(lambda: _steps() <= {"batch", "extern"}, "the steps to end")
        assert {line.split()[0] for line in private_slurm.jobs()} == set(kept.values())
        wait_until(lambda: not killed["client"][0].folder.exists(), "the folder to be removed")
        remove_dead_runs()
        assert set(os.listdir(runs)) == before
    finally:
        private_slurm.command("scancel", *kept.values())


def _steps() -> set[str]:
    shown = private_slurm.command("squeue", "--steps", "--noheader", "--format=%i").split()
    return {step.partition(".")[2] for step in shown}


def test_in_allocation_outside_of_one_is_refused() -> None:
    with pytest.raises(OptionError, match="SLURM_JOB_ID"), launchers.in_allocation(1, "200 MB"):
        pytest.fail("it started")
