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
module.LONG_SECONDS = 1.0
pulse = module.pulse()
before = pulse.pauses
print("ready", flush=True)
sys.stdin.readline()
print(pulse.pauses > before, flush=True)
time.sleep(1.5)
print(pulse.pauses > before, flush=True)
"""


def test_a_process_that_stood_still_for_long_knows_it_at_once() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        os.kill(child.pid, signal.SIGSTOP)
        time.sleep(2.0)
        child.stdin.write("\n")
        child.stdin.flush()
        os.kill(child.pid, signal.SIGCONT)
        # at once, by the clock, and a second later, by the thread
        assert child.stdout.read() == "True\nTrue\n"


@pytest.mark.parametrize(
    ("naps", "rest", "pauses"),
    [
        ((1.0, 1.0), 0.0, 0), ((1.0, 9.0), 9.0, 0), ((), 11.0, 1), ((1.0, 11.0, 1.0), 0.0, 1),
        ((11.0, 1.0), 11.0, 2), ((11.0, 11.0), 11.0, 3),
    ],
)  # fmt: skip
def test_long_pauses_are_counted_once_each(
    naps: tuple[float, ...], rest: float, pauses: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, left = [100.0], iter(naps)

    def sleep(_: float) -> None:
        now[0] += next(left)

    clock = SimpleNamespace(monotonic=lambda: now[0], sleep=sleep)
    monkeypatch.setattr(module, "time", clock)
    thread = SimpleNamespace(start=lambda: None)
    monkeypatch.setattr(module, "threading", SimpleNamespace(Thread=lambda **_: thread))
    beating = module.Pulse()
    with pytest.raises(StopIteration):
        beating._run()
    now[0] += rest
    assert beating.pauses == pauses


@pytest.mark.parametrize("pauses", [0, 1])
@pytest.mark.parametrize(("status", "wanted"), [("running", True), ("closed", False)])
def test_a_worker_that_was_given_up_does_not_write(
    status: str, wanted: bool, pauses: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_WAIT_SECONDS", 0.0)
    worker = SimpleNamespace(status=SimpleNamespace(name=status))
    assert is_wanted(worker, pulse().pauses - pauses) is wanted
