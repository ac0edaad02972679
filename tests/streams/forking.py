"""Processes that begin at once: forked from one that has imported what they need."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SERVER = """
import os, sys, traceback
import numpy, zarr
import leptonhpc as lh
import leptonhpc.streams, leptonhpc.api

def run(path, arguments):
    sys.argv, sys.stdout = [path, *arguments], sys.stderr  # the other is for answers
    try:
        exec(compile(open(path).read(), path, "exec"), {"__name__": "__main__"})
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)

for line in sys.stdin:
    verb, *words = line.rstrip("\\n").split("\\t")
    if verb == "start":
        pid = os.fork()
        if not pid:
            run(words[0], words[1:])
        print(pid, flush=True)
    else:
        pid, status = os.waitpid(int(words[0]), os.WNOHANG)
        print(os.waitstatus_to_exitcode(status) if pid else "runs", flush=True)
"""


class Forked:
    """One of them, as `subprocess.Popen` has it."""

    def __init__(self, server: "subprocess.Popen[str]", command: list[str]) -> None:
        self._server = server
        self.pid = int(self._ask("start", *command))
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            answer = self._ask("poll", str(self.pid))
            self.returncode = None if answer == "runs" else int(answer)
        return self.returncode

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> None:
        while self.poll() is None:
            time.sleep(0.001)

    def _ask(self, *words: str) -> str:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write("\t".join(words) + "\n")
        self._server.stdin.flush()
        return self._server.stdout.readline().strip()


class Forks:
    """Starts them, and ends those that are left."""

    def __init__(self, server: "subprocess.Popen[str]", folder: Path) -> None:
        self._server, self._folder = server, folder
        self._begun: list[Forked] = []

    def __call__(self, code: str, *arguments: object) -> Forked:
        script = self._folder / f"script-{abs(hash(code))}.py"
        script.write_text(code)
        self._begun.append(Forked(self._server, [str(script), *map(str, arguments)]))
        return self._begun[-1]

    def end(self) -> None:
        for each in self._begun:
            if each.poll() is None:
                each.kill()
                each.wait()


@contextmanager
def forks(folder: Path) -> Iterator[Forks]:
    """Give what starts processes of Python code with arguments."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        begun = Forks(server, folder)
        try:
            yield begun
        finally:
            begun.end()
