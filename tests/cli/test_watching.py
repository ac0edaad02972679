"""`status --watch`: a job of another process is followed until it ends."""

import contextlib
import json
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WATCH = (sys.executable, "-m", "leptonhpc", "status", "o.zarr", "--watch")

JOB = """
import asyncio, os, zarr
from zarr.storage import LocalStore, WrapperStore
import leptonhpc as lh
from leptonhpc.planning import layout
from leptonhpc.store import standing
layout.TASK_NBYTES = layout.BAND_NBYTES = 1
standing.EVERY_SECONDS = 0.1

class Slow(WrapperStore):
    async def get(self, key, *args, **options):
        for _ in range(6000):  # five minutes: a test that fails is to end
            if key != "c/2/0" or os.path.exists("go"):  # it is the last chunk of three
                break
            await asyncio.sleep(0.05)
        return await self._store.get(key, *args, **options)

a = lh.open(zarr.open_array(Slow(LocalStore("a.zarr", read_only=True)), mode="r"))
lh.svd(a, rank=2, method="gram", memory="1 GB", out="o.zarr")
"""


@contextmanager
def job() -> Iterator[subprocess.Popen[bytes]]:
    """Run a job that waits before its last chunk until there is "go", in a process of its own."""
    with subprocess.Popen([sys.executable, "-c", JOB]) as process:
        try:
            deadline = time.monotonic() + 300
            while not Path("o.zarr.partial/.leptonhpc/now.json").exists():
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.02)
            yield process
        finally:
            process.kill()


def test_a_program_that_watches_gets_a_document_for_each_change_up_to_the_end(
    folder: Path,
) -> None:
    with (
        job() as process,
        subprocess.Popen([*WATCH, "--json"], stdout=subprocess.PIPE, text=True) as watching,
    ):
        assert watching.stdout is not None
        seen = []
        for line in watching.stdout:
            seen.append(json.loads(line))
            if any(device["read_nbytes"] for device in seen[-1]["devices"]):
                Path("go").touch()
        assert watching.wait(300) == 0
        assert process.wait(300) == 0
    assert seen[0]["state"] == "running"
    assert seen[-1]["state"] == "finished"
    working = [each for each in seen if each["devices"]]
    assert working, seen
    for each in working:
        (device,) = each["devices"]
        assert device["name"] == "this process"
        assert device["memory_nbytes"] > 50e6
        assert each["left_seconds"] >= 0
    assert any(device["read_nbytes"] > 0 for each in working for device in each["devices"])


def test_watching_ends_when_the_job_is_killed(folder: Path) -> None:
    with job() as process:
        ours, theirs = pty.openpty()
        settings = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "110", "LINES": "40"}
        with subprocess.Popen(WATCH, stdin=theirs, stdout=theirs, stderr=theirs, env=settings) as w:
            os.close(theirs)
            shown = ""
            while "writes" not in shown:
                shown += os.read(ours, 65536).decode(errors="replace")
            process.kill()
            shown += _rest(ours)
            assert w.wait(300) == 0
        os.close(ours)
    words = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
    assert re.search(r"o\.zarr: svd, running: process \d+", words)
    assert re.search(r"device +does +lanes +tasks +share +memory +reads +writes", words)
    assert "stopped: the same command goes on from here" in words


def _rest(terminal: int) -> str:
    parts = []
    with contextlib.suppress(OSError):  # the other side is closed
        while part := os.read(terminal, 65536):
            parts.append(part)
    return b"".join(parts).decode(errors="replace")


def test_watching_what_is_finished_says_so_at_once(folder: Path) -> None:
    from leptonhpc import svd

    svd("a.zarr", rank=2, memory="1 GB", out="o.zarr")
    done = subprocess.run(WATCH, capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout == "o.zarr: svd, finished\n"
