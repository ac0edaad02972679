"""`leptonhpc cluster up|run|status|down` as a user types them."""

import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from leptonhpc.cli.app import app
from leptonhpc.cluster import connect, detached, invite, status
from leptonhpc.cluster.ownership import MARKER
from leptonhpc.cluster.runs import Run
from leptonhpc.errors import WorkerError

from .conftest import alive, listening, processes_of, wait_until

PROFILE = """
kind = "local"
audit = "{audit}"
[groups.a]
memory = "300 MB"
"""


PROGRAM = """
import distributed
from leptonhpc import cluster
with distributed.Client() as client:
    print(client.submit(pow, 2, 6).result(), end=" ")
with cluster.connect() as client:
    print(client.submit(pow, 3, 4).result())
"""

LOOK = """
import os
file = os.environ["LEPTONHPC_SCHEDULER"]
print(file, *os.listdir(os.path.dirname(file)), flush=True)
"""
WAITING = """
import os, signal, sys, time
def told(number, frame):
    print("told", number, flush=True)
    sys.exit(5)
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    signal.signal(number, told)
print(os.getpid(), flush=True)
time.sleep(600)
"""


@pytest.fixture
def profile(tmp_path: Path, runs: Path) -> Path:
    path = tmp_path / "one.toml"
    path.write_text(PROFILE.format(audit=tmp_path / "audit.jsonl"))
    return path


def _invoke(*words: str, code: int = 0) -> str:
    """Run a command in this process."""
    done = CliRunner().invoke(app, ["cluster", *words])
    assert done.exit_code == code, done.output
    return done.output


def _run(*words: str, code: int = 0) -> str:
    """Run a command in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "leptonhpc", "cluster", *words],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_up_status_run_and_down(
    profile: Path, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for patience in ("_ASK_SECONDS", "END_SECONDS"):  # of a machine that has much else to do
        monkeypatch.setattr(detached, patience, 300.0)
    before = set(os.listdir(runs))
    name = str(profile)
    folder = Path(json.loads(_run("up", "--profile", name, "--json"))["folder"])
    processes = processes_of(Run(folder))
    assert len(alive(processes)) >= 2  # though the command that started them has ended
    try:
        with connect(folder, workers=1, timeout=300) as client:
            assert client.submit(pow, 2, 5).result() == 32
        guest = invite(folder, "ada@lab", tmp_path / "ada")
        with connect(guest) as client:
            assert client.submit(pow, 2, 7).result() == 128
        assert f"{folder.name}  (local" in _invoke("status")
        (found,) = [s for s in status(name) if s.run == folder.name]
        assert (found.workers, found.wanted, found.dashboard) == (1, 1, None)
        assert "is up already" in _invoke("up", "--profile", name, code=2)
        # a program finds the cluster by its environment alone, and it is the one that is up
        assert _run("run", "--profile", name, "--", sys.executable, "-c", PROGRAM) == "64 81\n"
        assert set(os.listdir(runs)) == before | {folder.name}
        _move_to_another_machine(Run(folder))
    finally:
        assert _invoke("down", "--profile", name) == "ended: 1\n"
    wait_until(lambda: not alive(processes), "all processes to end")
    assert listening(processes) == set()
    assert set(os.listdir(runs)) == before
    assert "no cluster of profile" in _invoke("down", "--profile", name, code=2)
    with pytest.raises(WorkerError, match="cannot connect"), connect(guest, timeout=2):
        pytest.fail("the invitation outlived the run")
    # the log was asked for, so it outlives the run; nobody else can read it
    log = tmp_path / "audit.jsonl"
    events = [json.loads(line)["event"] for line in log.read_text().splitlines()]
    assert events.count("client joined") == 6  # here twice, both looks, the program twice
    assert events[-1] == "ended"
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def _move_to_another_machine(run: Run) -> None:
    """Make a run look as one that another machine's `up` started: no process here is its."""
    marker = run.folder / MARKER
    marker.write_text(json.dumps({**json.loads(marker.read_text()), "host": "other", "boot": "-"}))
    (run.folder / "host.json").unlink()


def test_run_keeps_a_cluster_for_as_long_as_a_program_runs_and_tells_it_to_end(
    profile: Path, runs: Path
) -> None:
    before = set(os.listdir(runs))
    words = ("run", "--profile", str(profile), "--", sys.executable, "-c", LOOK + WAITING)
    with subprocess.Popen(
        [sys.executable, "-m", "leptonhpc", "cluster", *words], stdout=subprocess.PIPE, text=True
    ) as command:
        assert command.stdout is not None
        file, *names = command.stdout.readline().split()
        assert Path(file).is_relative_to(runs)
        assert {"scheduler.json", "ca.pem", "client.pem", "client-key.pem"} <= set(names)
        program = psutil.Process(int(command.stdout.readline()))
        command.terminate()
        assert command.wait(600) == 5  # of the program, which had time to end in its own way
        assert not alive_or_none(program)
        assert command.stdout.read() == "told 15\n"
    assert set(os.listdir(runs)) == before


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_signals_reach_a_program(number: int) -> None:
    with _running_program() as (command, program):
        command.send_signal(number)
        assert command.communicate(timeout=300)[0] == f"told {number:d}\n"
        assert command.returncode == 5
        assert not alive_or_none(program)


def test_a_program_ends_when_the_command_that_runs_it_is_killed() -> None:
    with _running_program() as (command, program):
        command.kill()
        assert command.communicate(timeout=300)[0] == "told 15\n"
        wait_until(lambda: not alive_or_none(program), "the program to end")


@contextlib.contextmanager
def _running_program() -> Iterator[tuple[subprocess.Popen[str], psutil.Process]]:
    code = f"""
import signal, sys
from leptonhpc.cluster.programs import run_program
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup of the tests is not nohup of the program
signal.signal(signal.SIGINT, signal.default_int_handler)  # nor is what a shell's "&" ignores
sys.exit(run_program([sys.executable, "-c", {WAITING!r}], {{}}))
"""
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, start_new_session=True,
    ) as command:  # fmt: skip
        assert command.stdout is not None
        yield command, psutil.Process(int(command.stdout.readline()))


def alive_or_none(process: psutil.Process) -> list[psutil.Process]:
    """Give the process if it still runs."""
    try:
        return alive([process])
    except psutil.NoSuchProcess:
        return []


def test_wrong_use_is_exit_code_2(profile: Path) -> None:
    assert "no profile" in _invoke("up", "--profile", "nowhere", code=2)
    words = ("run", "--profile", str(profile), "--", "no-such-program")
    assert "no program 'no-such-program'" in _invoke(*words, code=2)
