"""A real SLURM of several nodes on this machine, of this test session only, on loopback only."""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

NODES, CPUS, MEMORY_MB, GPUS = 3, 4, 4096, 2
UP_SECONDS = 300.0
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue")
SYSTEM = "/usr/sbin:/sbin"

CONFIGURATION = """
ClusterName=leptontest
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
SlurmdParameters=config_overrides
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,sched_min_interval=0,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=256
KillWait=3
CompleteWait=0
MessageTimeout=100
TCPTimeout=100
BatchStartTimeout=600
UnkillableStepTimeout=600
ReturnToService=2
JobRequeue=0
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
JobAcctGatherType=jobacct_gather/none
MailProg=/bin/true
GresTypes=gpu
"""


def require() -> None:
    """Skip where there is no SLURM to start."""
    path = os.pathsep.join([os.environ["PATH"], SYSTEM])
    missing = [program for program in PROGRAMS if shutil.which(program, path=path) is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)}: apt-get install slurmctld slurmd slurm-client munge")
    if os.getuid() != 0:
        pytest.skip("a private SLURM needs root: slurmd starts the processes of jobs")
    if socket.gethostbyname(socket.gethostname()) != "127.0.0.1":
        pytest.skip("a private SLURM needs a machine whose name leads to 127.0.0.1")


@contextlib.contextmanager
def running(folder: Path) -> Iterator[None]:
    """Keep a SLURM while something runs inside; $SLURM_CONF and $PATH lead to it."""
    old = {name: os.environ.get(name) for name in ("SLURM_CONF", "PATH")}
    os.environ["PATH"] += os.pathsep + SYSTEM
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    taken = contextlib.ExitStack()
    try:
        _write(folder, taken)
        _start(folder)
        yield
    finally:
        _stop(folder)
        taken.close()
        for name, value in old.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def jobs() -> list[str]:
    """Give a line for each job that waits, runs or ends: id, name, state, what it asked for."""
    return command("squeue", "--noheader", "--format=%A %j %T %b").splitlines()


def command(*words: str) -> str:
    """Run one of SLURM's commands."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=3000, check=False)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


def _write(folder: Path, taken: contextlib.ExitStack) -> None:
    for name in ("munge", "state", "dev"):
        (folder / name).mkdir()
    (folder / "munge").chmod(0o755)
    folder.chmod(0o755)
    key = folder / "munge" / "key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    host, port = socket.gethostname().partition(".")[0], _free_ports(NODES + 1, taken)
    lines = [CONFIGURATION.format(host=host, port=port, folder=folder, user="root")]
    gres = ["AutoDetect=off"]
    for gpu in range(GPUS):  # SLURM takes a character device for a GPU: twins of /dev/null
        os.mknod(folder / "dev" / f"nvidia{gpu}", 0o20666, os.makedev(1, 3))
    for n in range(1, NODES + 1):
        with_gpus = n == NODES
        lines.append(
            f"NodeName=node{n} NodeHostname={host} NodeAddr=127.0.0.1 Port={port + n} CPUs={CPUS} "
            f"RealMemory={MEMORY_MB} State=UNKNOWN" + f" Gres=gpu:{GPUS}" * with_gpus
        )
        if with_gpus:
            files = [folder / "dev" / f"nvidia{gpu}" for gpu in range(GPUS)]
            gres += [f"NodeName=node{n} Name=gpu File={f} Flags=nvidia_gpu_env" for f in files]
    lines.append("PartitionName=main Nodes=ALL Default=YES MaxTime=02:00:00 State=UP")
    (folder / "slurm.conf").write_text("\n".join(lines) + "\n")
    (folder / "gres.conf").write_text("\n".join(gres) + "\n")


def _free_ports(count: int, taken: contextlib.ExitStack) -> int:
    """Find ports that nobody has, nor another test session that starts at the same moment."""
    for first in range(17000, 30000, count):
        mark = taken.enter_context(socket.socket(socket.AF_UNIX))
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            mark.bind(f"\0leptonhpc-test-slurm-{first}")  # as long as it is open
            for port in range(first, first + count):
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
            return first
    pytest.fail("no free ports for a private SLURM")


def _start(folder: Path) -> None:
    munge = folder / "munge"
    _daemon(
        *("munged", "--force", f"--key-file={munge}/key", f"--socket={munge}/socket"),
        *(f"--pid-file={folder}/munged.pid", f"--log-file={munge}/log"),
        *(f"--seed-file={munge}/seed", "--num-threads=2"),
    )
    _daemon("slurmctld", "-c", "-f", str(folder / "slurm.conf"))
    for n in range(1, NODES + 1):
        (folder / f"spool-node{n}").mkdir()
        _daemon("slurmd", "-f", str(folder / "slurm.conf"), "-N", f"node{n}")
    deadline = time.monotonic() + UP_SECONDS
    while _idle_nodes() < NODES:
        if time.monotonic() > deadline:
            pytest.fail(f"SLURM did not start: {(folder / 'slurmctld.log').read_text()[-1000:]}")
        time.sleep(0.1)


def _daemon(*words: str) -> None:
    done = subprocess.run(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        timeout=3000, check=False,
    )  # fmt: skip
    assert done.returncode == 0, words


def _idle_nodes() -> int:
    done = subprocess.run(
        ["sinfo", "--noheader", "--Node", "--format=%T"],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    return done.stdout.split().count("idle")


def _stop(folder: Path) -> None:
    """End what was started here, by process id: jobs' managers first."""
    ours = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            conf = process.environ().get("SLURM_CONF")
            if process.name() in ("slurmstepd", "slurmd", "slurmctld", "munged") and (
                conf == str(folder / "slurm.conf") or str(folder) in " ".join(process.cmdline())
            ):
                ours.append(process)
    for process in ours:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    _, left = psutil.wait_procs(ours, timeout=15)
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(left, timeout=5)
