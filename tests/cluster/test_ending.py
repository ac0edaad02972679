"""`down` ends the run that it was told to end, and no other process, on no other machine."""

import json
import os
import subprocess
import sys
from collections.abc import Coroutine, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from leptonhpc.cluster import Group, detached, host
from leptonhpc.cluster.launching import Launch
from leptonhpc.cluster.machines import Machine, ProcessIdentity, identify, this_machine
from leptonhpc.cluster.ownership import MARKER
from leptonhpc.cluster.runs import Run, new_run, remove_dead_runs
from leptonhpc.errors import WorkerError

from .conftest import wait_until

HOLDER = "import sys; print(flush=True); sys.stdin.read()"


@pytest.fixture
def victim() -> Iterator[subprocess.Popen[bytes]]:
    """Give a process that nobody may end."""
    with subprocess.Popen(["sleep", "3600"]) as process:
        yield process
        process.kill()


@pytest.fixture
def held(runs: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Run, int]]:
    """Give a run that is alive and deaf, as its lock is held: `down` does not wait long for it."""
    monkeypatch.setattr(detached, "END_SECONDS", 0.3)
    monkeypatch.setattr(detached, "_KILL_SECONDS", 300.0)
    run, lock = new_run("local")
    launch = asdict(Launch("local", (), profile="p"))
    run.write(run.launch_file, {**launch, "groups": [Group("a").to_dict()]})
    run.write(run.folder / "ca-key.pem", {})
    yield run, lock
    os.close(lock)
    run.remove()


def _write_identity(run: Run, process: ProcessIdentity) -> None:
    run.write(run.folder / "host.json", asdict(process))


def test_down_on_another_machine_ends_no_process_here_and_names_that_machine(
    held: tuple[Run, int], victim: subprocess.Popen[bytes]
) -> None:
    run, _ = held
    _write_identity(run, replace(identify(victim.pid), host="login1", boot="-"))
    (run.folder / MARKER).write_text(json.dumps({"run": run.name, "host": "login1", "boot": "-"}))
    with pytest.raises(WorkerError, match=f"on login1: run .*down --profile {run.name}"):
        detached.down(run.name)
    assert victim.poll() is None
    assert (run.folder / "ca-key.pem").exists()


@pytest.mark.parametrize("content", [{}, {"pid": 1}, "later", "restarted", "renamed"])
def test_down_does_not_kill_a_process_that_only_has_the_number(
    held: tuple[Run, int], victim: subprocess.Popen[bytes], content: object
) -> None:
    run, _ = held
    now = identify(victim.pid)
    assert now.started is not None
    others = {
        "later": replace(now, started=now.started - 1),
        "restarted": replace(now, boot="-"),
        "renamed": replace(now, host="login1"),
    }
    if isinstance(content, str):
        _write_identity(run, others[content])
    else:
        run.write(run.folder / "host.json", {**content, "pid": victim.pid})
    with pytest.raises(WorkerError, match="was asked to end"):
        detached.down("p")
    assert victim.poll() is None
    assert (run.folder / "ca-key.pem").exists()


def test_down_kills_a_host_on_this_machine_that_does_not_listen(held: tuple[Run, int]) -> None:
    run, lock = held
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER],
        pass_fds=[lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as host:  # fmt: skip
        _write_identity(run, identify(host.pid))
        os.dup2(os.open(os.devnull, os.O_RDONLY), lock)  # the host alone has the lock now
        assert detached.down("p") == 1
        assert host.wait(300) == -9
    assert not run.folder.exists()
    assert remove_dead_runs() == []


def test_a_process_is_known_by_its_start_and_killed_once(
    victim: subprocess.Popen[bytes],
) -> None:
    known = identify(victim.pid)
    assert known.is_running_here
    assert known.kill()
    wait_until(lambda: victim.poll() is not None, "the process to end")
    assert not known.is_running_here
    assert not known.kill()


def test_a_machine_is_known_by_its_boot_or_by_a_name_that_is_its_own() -> None:
    here = this_machine()
    assert here.is_here
    assert replace(here, host="container").is_here  # one kernel: its locks are seen
    assert replace(here, boot="before").is_here
    assert not Machine("other", "-").is_here
    assert not Machine("", "").is_here
    assert not Machine("localhost", "-").is_here


@pytest.mark.parametrize("started", [False, True])
def test_why_a_cluster_that_lives_on_did_not_start_is_left_for_who_waits_for_that(
    started: bool, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(serving: Coroutine[Any, Any, None]) -> None:
        serving.close()
        raise OSError("no such network")

    monkeypatch.setattr(sys, "path", list(sys.path))
    run, lock = new_run("local")
    run.write(run.launch_file, {**asdict(Launch("local", (), detached=True)), "groups": []})
    if started:  # then nobody waits any more
        run.write(run.scheduler_file, {})
    assert host.main([str(run.folder), str(os.getppid()), str(lock)], run_async=fail) == 1
    os.close(lock)
    assert run.folder.exists() is not started
    if not started:
        reason = json.loads((run.folder / "failed.json").read_text())["reason"]
        assert reason == "OSError: no such network"
        run.remove()
