"""A process that was stopped notices it, and writes only if it is still wanted."""

import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from leptonhpc.runtime import pulse as module
from leptonhpc.runtime.pulse import is_wanted, pulse

SCRIPT = """
import sys, time
from leptonhpc.runtime import pulse as module
module.LONG_SECONDS = 2.0
pulse = module.pulse()
before = pulse.pauses
print("ready", flush=True)
sys.stdin.readline()
print(before, pulse.pauses, flush=True)
time.sleep(1.5)
print(pulse.pauses, flush=True)
"""


@pytest.mark.parametrize(("stopped", "pauses"), [(4.0, 1), (0.3, 0)])
def test_a_process_that_stood_still_for_long_knows_it_at_once(stopped: float, pauses: int) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        os.kill(child.pid, signal.SIGSTOP)
        time.sleep(stopped)
        child.stdin.write("\n")
        child.stdin.flush()
        os.kill(child.pid, signal.SIGCONT)
        # at once, by the clock, or a second later, by the thread
        assert child.stdout.readline() == f"0 {pauses}\n"
        assert child.stdout.readline() == f"{pauses}\n"


@pytest.mark.parametrize("pauses", [0, 1])
@pytest.mark.parametrize(("status", "wanted"), [("running", True), ("closed", False)])
def test_a_worker_that_was_given_up_does_not_write(
    status: str, wanted: bool, pauses: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_WAIT_SECONDS", 0.0)
    worker = SimpleNamespace(status=SimpleNamespace(name=status))
    assert is_wanted(worker, pulse().pauses - pauses) is wanted
