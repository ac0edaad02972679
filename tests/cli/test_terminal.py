"""The real command in a real process: start-up, signals, pipes, terminals."""

import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import zarr

LEPTONHPC = (sys.executable, "-m", "leptonhpc")


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from leptonhpc.cli import main\n"
        "try:\n    main()\n"
        "finally:\n    print(*sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True
    )
    loaded = {name.partition(".")[0] for name in done.stderr.split()}
    assert not loaded & {"dask", "distributed", "numpy", "scipy", "zarr"}
    assert "explain" in done.stdout


def test_command_and_module_are_the_same(folder: Path) -> None:
    script = Path(sys.executable).with_name("leptonhpc")
    outputs = [_run((str(script),), "info", "a.zarr"), _run(LEPTONHPC, "info", "a.zarr")]
    assert outputs[0].returncode == outputs[1].returncode == 0
    assert outputs[0].stdout == outputs[1].stdout


def test_exit_codes_reach_the_shell(folder: Path) -> None:
    assert _run(LEPTONHPC, "svd", "none.zarr").returncode == 1
    assert _run(LEPTONHPC, "svd", "a.zarr", "--rank", "999").returncode == 2
    done = _run(LEPTONHPC, "svd", "none.zarr", LEPTONHPC_DEBUG="1")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_ctrl_c_stops_soon_and_the_same_command_goes_on(folder: Path) -> None:
    # Never written, so no bytes on disk: an hour of arithmetic on zeros.
    zarr.create_array("zeros.zarr", shape=(8_000_000, 3_000), chunks=(2_000, 3_000), dtype="f8")
    command = [*LEPTONHPC, "svd", "zeros.zarr", "--rank", "1", "--method", "gram"]
    command += ["--memory", "900MB", "--out", "o.zarr"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            _wait_for(folder / "o.zarr.partial" / ".leptonhpc" / "now.json", process)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=300)
        finally:
            process.kill()
    assert process.returncode == 130
    assert out == ""
    assert err == "leptonhpc: interrupted: the same command goes on from here\n"
    assert (folder / "o.zarr.partial").exists()
    assert not (folder / "o.zarr").exists()


def test_a_reader_that_goes_away_is_no_traceback(folder: Path) -> None:
    command = " ".join(LEPTONHPC) + " info a.zarr | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_lines_are_not_wrapped_for_other_programs(folder: Path) -> None:
    done = _run(LEPTONHPC, "explain", "svd", "a.zarr", "--rank", "2", COLUMNS="40")
    assert "\x1b" not in done.stdout
    assert max(len(line) for line in done.stdout.splitlines()) > 60


def test_a_terminal_gets_colours_and_texts_wrapped_beside_their_labels(folder: Path) -> None:
    shown = _run_in_terminal("explain", "svd", "a.zarr", "--rank", "2", COLUMNS="60")
    assert "\x1b[" in shown
    lines = re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines()
    assert max(map(len, lines)) <= 60
    why = next(i for i, line in enumerate(lines) if line.startswith("  why"))
    column = len("  why        ")
    assert lines[why + 1][:column].strip() == ""
    assert lines[why + 1][column:].strip()


def test_no_color_is_respected(folder: Path) -> None:
    shown = _run_in_terminal("info", "a.zarr", NO_COLOR="1")
    assert "\x1b[36m" not in shown


def _run(program: tuple[str, ...], *arguments: str, **environment: str) -> Any:
    return subprocess.run(
        [*program, *arguments], capture_output=True, text=True, check=False, timeout=300,
        env={**os.environ, **environment},
    )  # fmt: skip


def _run_in_terminal(*arguments: str, **environment: str) -> str:
    """Give what the command writes to a pseudo-terminal."""
    ours, theirs = pty.openpty()
    settings = {"TERM": "xterm-256color", **environment}
    inherited = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS")}
    with subprocess.Popen(
        [*LEPTONHPC, *arguments], stdin=theirs, stdout=theirs, stderr=theirs,
        env={**inherited, **settings},
    ) as process:  # fmt: skip
        os.close(theirs)
        parts = []
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # the other side is closed
                break
            if not part:
                break
            parts.append(part)
    os.close(ours)
    assert process.returncode == 0
    return b"".join(parts).decode().replace("\r\n", "\n")


def _wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 300
    while not path.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"{path.name} did not appear")
        time.sleep(0.02)
