"""Processes that begin at once: forked from one that has imported the package, or PyTorch too.

Each is a process as `python -c` makes one: it ends as the interpreter does, with its traceback, its
exit code, and the signal that an interrupt sends on. What they share is what importing gives, and
the seed of hashes: tests of what must not depend on that start processes of their own.
"""

import json
import multiprocessing.forkserver
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from signal import SIGKILL

import pytest

PATIENCE_SECONDS = 600.0

SERVER = """
import json, os, sys
import numpy, zarr
import leptonhpc.api

asked, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
for line in asked:
    spec = json.loads(line)
    pid = os.fork()
    if not pid:
        break  # this is the new one: it goes on behind the loop, and ends as any does
    print(pid, file=answers, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), file=answers, flush=True)
else:
    os._exit(0)
asked.close()
answers.close()
for number, name in enumerate((os.devnull, *spec["outputs"])):
    os.dup2(os.open(name, os.O_WRONLY if number else os.O_RDONLY), number)
os.chdir(spec["folder"])
os.environ.clear()
os.environ.update(spec["environment"])
os.sched_setaffinity(0, spec["cores"])
sys.argv = ["-c", *spec["arguments"]]
exec(compile(spec["code"], "<string>", "exec"), {"__name__": "__main__"})
"""


class Forking:
    """Runs code as `subprocess.run([sys.executable, "-c", code, *arguments])` would."""

    def __init__(self, server: "subprocess.Popen[str]", folder: Path) -> None:
        self._server, self._folder = server, folder

    def __call__(self, code: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        outputs = [self._folder / name for name in ("stdout", "stderr")]
        for path in outputs:
            path.write_bytes(b"")
        spec = {
            "code": code, "arguments": arguments, "folder": os.getcwd(),
            "environment": dict(os.environ), "outputs": [str(path) for path in outputs],
            "cores": sorted(os.sched_getaffinity(0)),
        }  # fmt: skip
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(spec) + "\n")
        self._server.stdin.flush()
        pid = int(self._server.stdout.readline())
        late = threading.Timer(PATIENCE_SECONDS, os.kill, (pid, SIGKILL))
        late.start()
        try:
            returncode = int(self._server.stdout.readline())
        finally:
            late.cancel()
            late.join()
        return subprocess.CompletedProcess(
            ["-c", *arguments], returncode, *(path.read_text() for path in outputs)
        )


@contextmanager
def forking(folder: Path) -> Iterator[Forking]:
    """Give what runs Python code with arguments in processes that begin at once."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        yield Forking(server, folder)


@contextmanager
def forkserver_of(modules: Sequence[str]) -> Iterator[None]:
    """Let workers of Dask, and pools, be forked from a process that has imported these modules."""
    server = multiprocessing.forkserver.ForkServer()
    server.set_forkserver_preload(list(modules))
    server.ensure_running()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("ensure_running", "get_inherited_fds", "connect_to_new_process"):
            patch.setattr(multiprocessing.forkserver, name, getattr(server, name))
        yield
    os.kill(server._forkserver_pid, SIGKILL)  # else it would wait for all that it forked
    server._stop()
